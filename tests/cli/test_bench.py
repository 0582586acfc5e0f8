"""bench: JSON, CSV, picture and table say what was measured; wrong usage is refused."""
import csv
import io
import json
import os
import sys
import xml.dom.minidom

sys.dont_write_bytecode = True
from driver import DEMO, check, main, refused, run

QUICK = ["--repeat", "1", "--prefill", "32", "--context", "16", "--rows", "1,8", "--threads", "2"]
LIMITS = ["read", "f32", "bf16", "int8"]


def check_results(report, shape):
    check(set(report["machine"]) == {"read_gbps", "f32_gflops", "bf16_gflops", "int8_gops"}, report["machine"])
    check(report["machine"]["read_gbps"] > 0.1 and report["machine"]["f32_gflops"] > 0.1, report["machine"])
    check(report["threads"] == 2 and report["layers"] == shape[0], report)
    found = [(r["phase"], r["rows"], r["context"]) for r in report["results"]]
    check(found == [("prefill", 32, 0), ("step", 1, 16), ("step", 8, 16)], found)
    for r in report["results"]:
        check(r["ms"] > 0 and r["limit_ms"] > 0 and r["limit"] in LIMITS, r)
        check(abs(r["percent_of_limit"] - 100 * r["limit_ms"] / r["ms"]) < 1e-4 * r["percent_of_limit"], r)
        check(0 <= r["experts_touched"] <= shape[1], r)


def test_model(folder):
    picture = os.path.join(folder, "roofline.svg")
    out, err = run("bench", "-m", DEMO, "--json", "--plot", picture, *QUICK)
    check(err == "", err)
    report = json.loads(out)
    check_results(report, (8, 16))
    check(not report["scaled"], report)
    one, eight = report["results"][1:]
    check(4 <= one["experts_touched"] <= eight["experts_touched"], report)
    check(one["bytes"] < eight["bytes"], "eight rows touch no more than one")
    out, _ = run("bench", "-m", DEMO, "--json", "--repeat", "1", "--prefill", "0", "--rows", "1")
    check([r["phase"] for r in json.loads(out)["results"]] == ["step"], out)
    check(xml.dom.minidom.parse(picture).getElementsByTagName("circle").length == 3, "three dots")


def test_synthetic(_folder):
    arguments = ["bench", "--synthetic", "llada-169m", "-t", "q4_0", "--layers", "2", *QUICK]
    report = json.loads(run(*arguments, "--json")[0])
    check_results(report, (12, 0))
    check(report["scaled"] and report["layers_measured"] == 2 and report["type"] == "q4_0", report)
    # 4 bits a number, scales, and the head
    body, head = 12 * (4 * 768 * 768 + 3 * 768 * 2304), 768 * 50304
    step = report["results"][1]["bytes"]
    check(0.55 * (body + head) < step < 0.62 * (body + head), step)
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--csv")[0])))
    check(len(rows) == 3 and rows[2]["rows"] == "8" and rows[2]["limit"] in LIMITS, rows)
    table, _ = run(*arguments)
    check("scaled to 12" in table and "tokens a second" in table, table)


def test_refused(folder):
    for arguments, says in [([], "-m"), (["-m", DEMO, "--synthetic", "llada-8b"], "--synthetic"),
                            (["-m", DEMO, "-t", "q4_0"], "--type"), (["-m", DEMO, "--layers", "1"], "--layers"),
                            (["--synthetic", "llada-8b", "-t", "q3"], "q3"),
                            (["-m", DEMO, "--rows", "0"], "--rows"), (["-m", DEMO, "--json", "--csv"], "--csv")]:
        refused("bench", *arguments, code=2, says=says)
    refused("bench", "--synthetic", "gpt-5", code=2, says="gpt-5")
    refused("bench", "--synthetic", "llada-169m", "--layers", "13", code=2, says="13")
    for too_far in ("--context", "1000000"), ("--prefill", "100000"):
        refused("bench", "-m", DEMO, *too_far, code=1, says="context of")
    refused("bench", "-m", DEMO, "--plot", folder + "/no/where.svg", *QUICK, code=1, says="cannot write")


main([test_model, test_synthetic, test_refused])
