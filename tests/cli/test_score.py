"""`unmask score`: texts to ids, one answer, choices, files of items, what is printed, what is refused."""
import json
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from driver import DATA, DEMO, PROGRAM, check, main, refused, run

LLADA = os.path.join(DATA, "models", "llada")
LLADA2 = os.path.join(DATA, "models", "llada2_moe")


def ids_of(text):
    return json.loads(run("tokenize", "-m", DEMO, "-p", text)[0])


def score(*arguments, model=DEMO):
    return json.loads(run("score", "-m", model, "--samples", "3", "--json", *arguments)[0])


def near(a, b):
    return abs(a - b) <= 1e-9 * max(1, abs(a))


def test_answer(_folder):
    result = score("-p", "Once upon a", "--answer", " time there was", "--seed", "7", "--masks")
    check(result["prompt_ids"] + result["answer_ids"] == ids_of("Once upon a time there was"), result)
    check(result["prompt_ids"] == ids_of("Once upon a") and result["seed"] == 7, result)
    check(result["n_tokens"] == len(result["answer_ids"]) and result["n_samples"] == 3, result)
    check(near(result["per_token"], result["log_likelihood"] / result["n_tokens"]), result)
    check(near(result["bits_per_token"], -result["per_token"] * 1.4426950408889634), result)
    values = [s["log_likelihood"] for s in result["samples"]]
    check(near(sum(values) / 3, result["log_likelihood"]) and result["standard_error"] > 0, result)
    for sample in result["samples"]:
        check(all(0 <= i < result["n_tokens"] for block in sample["masked"] for i in block), sample)
    again = score("-p", "Once upon a", "--answer", " time there was", "--seed", "7", "--threads", "1")
    check(again["log_likelihood"] == result["log_likelihood"] and "samples" not in again, again)
    other = score("-p", "Once upon a", "--answer", " time there was", "--seed", "8")
    check(other["log_likelihood"] != result["log_likelihood"], other)
    out, err = run("score", "-m", DEMO, "-p", "Once upon a", "--answer", " time", "--samples", "1")
    check("log-likelihood" in out and "+/-" not in out and err == "", out)
    single = json.loads(run("score", "-m", DEMO, "-p", "a", "--answer", " b", "--samples", "1", "--json")[0])
    check(single["standard_error"] is None, single)
    out, err = run("score", "-m", DEMO, "-p", "a", "--answer", " time", "--samples", "2", "--verbose")
    check("+/-" in out and "scoring: 2 samples" in err, err)


def test_space_moves(_folder):
    """White space at the prompt's end belongs to the answer, as Python's rstrip sees it."""
    for space in [" ", "  \n", "\t", "\u00a0", "\u3000", " \u2003\x1f", "\u0085"]:
        moved = score("-p", "Once upon a" + space, "--answer", "time", "--masks")
        plain = score("-p", "Once upon a", "--answer", space + "time", "--masks")
        check(moved == plain and moved["prompt_ids"] == ids_of("Once upon a"), "%r: %r" % (space, moved))
    kept = score("-p", "Once upon a\u200b\u00e9", "--answer", "time", "--masks")
    check(kept["prompt_ids"] == ids_of("Once upon a\u200b\u00e9"), kept)
    rendered = score("-p", "Hello ", "--answer", "time ", "--masks", "--template")
    text = "<role>HUMAN</role>Hello <|role_end|><role>ASSISTANT</role>"
    check(rendered["prompt_ids"] == ids_of(text) and rendered["answer_ids"] == ids_of("time "), rendered)


def test_ids(_folder):
    for model in LLADA, LLADA2:
        result = score("--ids", "5 6 7", "--answer-ids", "[8, 9]", "--masks", model=model)
        check(result["prompt_ids"] == [5, 6, 7] and result["answer_ids"] == [8, 9], result)
        check(result["block"] == (0 if model == LLADA else 32), result)
    result = score("--ids", "5 6 7", "--answer-ids", "8,9,10,11,12", "--block", "4", "--masks", model=LLADA2)
    check(result["block"] == 4 and all(len(s["masked"]) == 2 for s in result["samples"]), result)
    check(all(s["masked"][0] == [0] and s["masked"][1] for s in result["samples"]), result)
    guided = score("--ids", "5 6 7", "--answer-ids", "8 9", "--cfg", "1.5", model=LLADA)
    check(guided != score("--ids", "5 6 7", "--answer-ids", "8 9", model=LLADA), guided)
    mixed = score("--ids", json.dumps(ids_of("Once upon a")), "--answer", " time", "--masks")
    check(mixed["answer_ids"] == ids_of(" time"), mixed)


def test_choices(_folder):
    result = score("-p", "What is 12 + 30?", "--template", "--choices", '["43", "42", "The moon", "42"]')
    check(result["best"] == 1 and result["best_per_token"] == 1 and len(result["choices"]) == 4, result)
    check(result["choices"][1] == result["choices"][3], result)
    alone = score("-p", "What is 12 + 30?", "--template", "--answer", "42")
    check(result["choices"][1] == alone, alone)
    out, _ = run("score", "-m", LLADA, "--ids", "5", "--choices", "[[7], [8, 9]]", "--samples", "2")
    lines = out.splitlines()
    check(len(lines) == 4 and lines[0].split()[0] == "choice" and lines[3].startswith("best: "), out)
    check(len({len(line) for line in lines[:3]}) == 1, "columns: " + out)


def test_lines(folder):
    path = os.path.join(folder, "items")
    items = [{"prompt": "Once upon a", "answer": " time", "id": "x"},
             {"prompt": "What is 12 + 30?", "choices": ["43", "42"], "label": 0},
             {"prompt": "Once upon a", "answer": " time there was a king"},
             {"prompt": ids_of("The"), "choices": [ids_of(" dog"), " cat"]}]
    with open(path, "w") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    out, err = run("score", "-m", DEMO, "--jsonl", path, "--samples", "3", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    check(len(lines) == 5 and [line.get("item") for line in lines] == [0, 1, 2, 3, None], out)
    check(err == "", err)
    alone = score("-p", "Once upon a", "--answer", " time")
    check({k: v for k, v in lines[0].items() if k != "item"} == alone, "item 0 is the command line's")
    check(lines[1]["label"] == 0 and "label" not in lines[3], out)
    right, per_token = lines[1]["best"] == 0, lines[1]["best_per_token"] == 0
    mean = (lines[0]["log_likelihood"] + lines[2]["log_likelihood"]) / 2
    check(near(lines[4]["mean_log_likelihood"], mean) and lines[4]["items"] == 4, out)
    check(lines[4]["accuracy"] == right and lines[4]["accuracy_per_token"] == per_token, out)
    out, _ = run("score", "-m", DEMO, "--jsonl", path, "--samples", "3")
    lines = out.splitlines()
    check(len(lines) == 7 and lines[0].split()[0] == "item", out)
    check("label 0" in lines[2] and "mean" in lines[5] and "of 1" in lines[6], out)
    with open(path, "w") as file:
        file.write(json.dumps(items[3]))
    last = json.loads(run("score", "-m", DEMO, "--jsonl", path, "--samples", "1", "--json")[0].splitlines()[-1])
    check(last == {"items": 1, "mean_log_likelihood": None, "accuracy": None, "accuracy_per_token": None}, last)


def test_bad_lines(folder):
    path = os.path.join(folder, "items")
    good = json.dumps({"prompt": "a", "answer": " b"}) + "\n"
    wrong = {
        "{": "not json", "[]": "object", "\n": "not json", "{}": "found none", '{"prompt": "a"}': "found none",
        '{"prompt": "a", "answer": " b", "choices": ["c"]}': "both", '{"answer": " b"}': "prompt",
        '{"prompt": 1, "answer": " b"}': "prompt", '{"prompt": "a", "answer": 1}': "answer",
        '{"prompt": "", "answer": " b"}': "prompt", '{"prompt": "a", "answer": ""}': "answer",
        '{"prompt": "a", "choices": []}': "choices", '{"prompt": "a", "choices": "b"}': "choices",
        '{"prompt": "a", "choices": [" b", null]}': "choices", '{"prompt": "a", "answer": []}': "no token",
        '{"prompt": "a", "choices": [" b"], "label": 1}': "label", '{"prompt": "a", "answer": " b", "label": 0}': "label",
        '{"prompt": [1, "x"], "answer": " b"}': "entry 1", '{"prompt": [1.5], "answer": " b"}': "entry 0",
        '{"prompt": "a", "prompt": "a", "answer": " b"}': "json", '{"prompt": "a", "answer": " b\\u0000"}': "json",
        '{"prompt": "\\ud800", "answer": " b"}': "json",
    }
    for line, says in wrong.items():
        with open(path, "w") as file:
            file.write(good + line)
        refused("score", "-m", DEMO, "--jsonl", path, code=1, says=["line 2", says])
    for data in [b"", b"\xff\n"]:
        with open(path, "wb") as file:
            file.write(data)
        refused("score", "-m", DEMO, "--jsonl", path, code=1, says=path)
    refused("score", "-m", DEMO, "--jsonl", path + "x", code=1, says=path + "x")
    with open(path, "w") as file:
        file.write('{"prompt": [5], "answer": [4096]}')
    refused("score", "-m", DEMO, "--jsonl", path, code=1, says=["item 0", "4096"])
    refused("score", "-m", LLADA, "--jsonl", path, "--block", "4", code=2, says="--block")


def test_refused(_folder):
    both = ["-p", "a", "--answer", " b"]
    wrong = [
        (["-p", "a"], 2, "found 0"), (["--answer", " b"], 2, "found 0"), (["-p", "a", "--ids", "1", "--answer", " b"], 2, "found 2"),
        (both + ["--choices", "[]"], 2, "found 2"), (both + ["--jsonl", "x"], 2, "found 2"),
        (["-p", "", "--answer", " b"], 2, "-p"), (["-p", "a", "--answer", ""], 2, "--answer"),
        (["-p", "  ", "--answer", " b"], 2, "prompt"), (["-p", "a", "--answer-ids", ""], 2, "token ids"),
        (["-p", "a", "--choices", "b"], 2, "--choices"), (["-p", "a", "--choices", '"b"'], 2, "--choices"),
        (["-p", "a", "--choices", "[]"], 2, "choices"), (["-p", "a", "--choices", '[""]'], 2, "empty"),
        (["-p", "a", "--choices", '[" b", {}]'], 2, "choices"),
        (both + ["--samples", "0"], 2, "--samples"), (both + ["--samples", "1000001"], 2, "--samples"),
        (both + ["--masks"], 2, "--json"), (both + ["--block", "0"], 2, "--block"), (both + ["--block", "99999"], 2, "--block"),
        (both + ["--precision", "double"], 2, "double"), (["--ids", "1", "--answer", " b", "--template"], 2, "--template"),
        (["-p", "a", "--answer", "b"], 2, "no token"),  # "ab" is one token, the prompt's
        (["-p", b"a\xff", "--answer", " b"], 2, "utf-8"), (["-p", "a", "--answer", b"a\xff"], 2, "utf-8"),
        (["-p", "a", "--answer-ids", "1"], 2, "mask token"), (["-p", "a", "--answer-ids", "4096"], 2, "4096"),
        (["--ids", "4096", "--answer", " b"], 2, "4096"), (["-p", "a", "--answer", " b" * 9000], 1, "context"),
    ]
    for arguments, code, says in wrong:
        refused("score", "-m", DEMO, *arguments, code=code, says=["unmask score: ", says])
    refused("score", *both, code=2, says="-m")
    refused("score", "-m", LLADA, "-p", "a", "--answer", " b", code=1, says="tokenizer.json")
    refused("score", "-m", LLADA + "/no", "--ids", "1", "--answer-ids", "2", code=1, says="/no")
    refused("score", "-m", LLADA, "--ids", "1", "--answer-ids", "2", "--block", "4", code=2, says="full attention")


def test_interrupt(_folder):
    """Ctrl-C ends it with exit code 1; what was printed before stays."""
    process = subprocess.Popen([PROGRAM, "score", "-m", DEMO, "-p", "a", "--answer", " b" * 200,
                                "--samples", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    check(process.returncode == 1 and out == "", "%d %r" % (process.returncode, out))
    check(err in ("", "unmask score: interrupted\n"), err)  # "" where it was still loading


main([test_interrupt, test_answer, test_space_moves, test_ids, test_choices, test_lines, test_bad_lines, test_refused])
