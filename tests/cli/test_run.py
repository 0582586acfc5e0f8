"""`unmask run` and `unmask logits` on the demonstration model and on a model without tokenizer."""
import sys
import json
import os
import re
import signal
import struct
import subprocess
import time

sys.dont_write_bytecode = True
from driver import DATA, DEMO, PROGRAM, check, main, read_bytes, read_header, refused, run

BARE = os.path.join(DATA, "models", "llada2_moe")
SUM = ["-m", DEMO, "-p", "What is 123 + 456?", "--max-tokens", "32"]
KEYS = ["text", "ids", "finish_reason", "forwards", "prefill_forwards", "tokens", "tokens_per_forward",
        "prefill_ms", "decode_ms"]


def load(*arguments):
    return json.loads(run("run", *arguments, "--json")[0])


def replay(path, n_prompt, mask):
    """The answer's ids from a trace, whose lines are checked on the way."""
    canvas = {}
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    for i, line in enumerate(lines):
        check(list(line) == ["forward", "block", "first", "inputs", "commits"], "keys %r" % list(line))
        check(line["forward"] == i, "forwards are not in order")
        for j, token in enumerate(line["inputs"]):
            position = line["first"] + j
            if position in canvas:
                check(canvas[position] == token, "inputs disagree with earlier commits")
        for position, token, probability in line["commits"]:
            check(n_prompt <= position, "a prompt position changed")
            check(line["first"] <= position < line["first"] + len(line["inputs"]), "outside the block")
            check(0 <= probability <= 1, "probability %r" % probability)
            canvas[position] = token
    return lines, canvas


def test_outputs(_folder):
    out, err = run("run", *SUM)
    check(out == "123 + 456 = 579\n" and err == "", "%r %r" % (out, err))
    answer = load(*SUM)
    check(list(answer) == KEYS, "keys %r" % list(answer))
    check(answer["text"] == "123 + 456 = 579" and answer["finish_reason"] == "stop", answer)
    check(answer["tokens"] == len(answer["ids"]), answer)
    check(abs(answer["tokens_per_forward"] * answer["forwards"] - answer["tokens"]) < 1e-6, answer)
    out, _ = run("run", *SUM, "--print-ids")
    check([int(word) for word in out.split(" ")] == answer["ids"], out)
    out, err = run("run", *SUM, "--verbose")
    check(out == "123 + 456 = 579\n" and "tokens per forward" in err and "loading" in err, err)
    out, err = run("run", *SUM, "--watch")
    check(out == "123 + 456 = 579\n" and "tokens a second" in err, out + err)
    out, _ = run("run", *SUM, "--watch", "--columns", "5")
    check(out.replace("\n", "") == "123 + 456 = 579" and out.count("\n") > 1, out)


def test_sudoku(_folder):
    puzzle = "601980020905020001020601005249010006000000049050200310060098070000072560100500098"
    answer = load("-m", DEMO, "-p", "Solve this sudoku: " + puzzle, "--block", "96", "--threshold",
                  "0.99", "--max-tokens", "96")
    check(answer["text"] ==
          "631985724985724631724631985249317856317856249856249317563498172498172563172563498", answer)


def test_options(folder):
    trace = os.path.join(folder, "trace")
    for options in [["--policy", "schedule", "--steps", "4"], ["--policy", "schedule", "--remask", "random",
                    "--seed", "3"], ["--policy", "edit", "--edit-threshold", "0.5", "--post-steps", "2"],
                    ["--temperature", "0.8", "--top-k", "50", "--top-p", "0.9", "--min-p", "0.01", "--seed=7"],
                    ["--cache", "none"], ["--cache=exact", "--prefill-chunk", "64"], ["--threads", "1"],
                    ["--block", "16"], ["--cfg", "0.5"], ["--system", "Be kind."], ["--raw"],
                    ["--ignore-eos"], ["--precision", "reference"], ["--expert-cap", "8"],
                    ["--policy", "edit", "--fold", "off"], ["--mask-token", "1"]]:
        answer = load("-m", DEMO, "-p", "1 + 3 =", "--max-tokens", "32", *options, "--trace", trace)
        lines, _ = replay(trace, 1, 1)
        check(len(lines) == answer["forwards"], "%r: %d lines, %r" % (options, len(lines), answer))
    answer = load("-m", DEMO, "-p", "1 + 3 =", "--max-tokens", "40", "--ignore-eos")
    check(answer["tokens"] == 40 and answer["finish_reason"] == "length", answer)
    refused("run", "-m", DEMO, "-p", "x", "--expert-cap", "3", code=2, says="--expert-cap: expected 4 to 16")
    edit = ["-m", DEMO, "-p", "x", "--max-tokens", "70", "--ignore-eos", "--policy", "edit", "--threshold", "0.1"]
    folded, plain = load(*edit, "--fold", "auto"), load(*edit, "--fold", "off")
    check(folded["ids"] == plain["ids"] and folded["forwards"] < plain["forwards"], "%r %r" % (folded, plain))
    for threads in "1", "2":
        check(load("-m", DEMO, "-p", "x", "--max-tokens", "32", "--threads", threads)["ids"] ==
              load("-m", DEMO, "-p", "x", "--max-tokens", "32", "--cache", "none")["ids"], "threads")


def test_suffix(folder):
    """The answer between a prompt and a suffix; the model without block mask sees one of any length."""
    fill = ["-m", DEMO, "--raw", "-p", "Once upon a", "--max-tokens", "12", "--ignore-eos"]
    plain, happy, cat = load(*fill), load(*fill, "--suffix", " was happy."), load(*fill, "--suffix", " the cat!")
    check(len({tuple(a["ids"]) for a in (plain, happy, cat)}) == 3, "%r %r %r" % (plain, happy, cat))
    check(happy["tokens"] == 12 and happy["finish_reason"] == "length", happy)
    check(happy == dict(load(*fill, "--suffix", " was happy.", "--cache", "none"), prefill_ms=happy["prefill_ms"],
                        decode_ms=happy["decode_ms"], prefill_forwards=happy["prefill_forwards"]), happy)
    trace = os.path.join(folder, "trace")
    run("run", *fill, "--suffix", " was happy.", "--trace", trace)
    lines, _ = replay(trace, 3, 1)
    check(len(lines) == happy["forwards"], lines)
    refused("run", *fill[:-2], "20", "--suffix", " and so on" * 9, code=2, says="--suffix: a position sees its own block of 32")
    load(*fill, "--block", "128", "--suffix", " and so on" * 9)
    refused("run", "-m", DEMO, "--suffix", "x", code=2, says="--suffix is of one answer")
    refused("run", "-m", DEMO, "-p", "x", "--suffix", "", code=2, says="--suffix: expected a text")
    refused("run", "-m", BARE, "--ids", "1", "--print-ids", "--suffix", "x", code=1, says="has no tokenizer")


def test_policies(folder):
    trace = os.path.join(folder, "trace")
    prompt = list(range(20, 61))
    names = [policy["name"] for policy in json.loads(run("inspect", "--policies", "--json")[0])]
    cases = [[name] for name in names if name != "levenshtein"]  # which needs edit tokens
    cases += [["multi-block", "--window", "3", "--block", "8", "--block-add", "0.05", "--threshold", "0.5"],
              ["multi-block", "--metric", "entropy", "--threshold", "0.3", "--edit-threshold", "0.6", "--block",
               "8", "--post-steps", "3", "--block-ready", "0.5"],
              ["threshold", "--sub-block", "8"], ["static", "--sub-block", "4", "--steps", "2"],
              ["entropy", "--steps", "48", "--eps", "0.01"], ["margin", "--alg-temp", "0.2", "--steps", "8"],
              ["factor", "--factor", "1.5", "--temperature", "0.7"], ["hierarchy", "--low-threshold", "0.2"],
              ["entropy-bound", "--entropy-bound", "0.1"], ["edit", "--edit-threshold", "0.3", "--threshold", "0.2"],
              ["credit", "--credit-alpha", "1", "--credit-beta", "0.5", "--credit-gamma", "0.3"],
              ["origin", "--steps", "6"], ["first-hitting", "--temperature", "1"],
              ["threshold", "--logits-eos-inf", "--confidence-eos-eot-inf"]]
    n_idle = n_wide = 0
    for options in cases:
        answer = load("-m", BARE, "--ids", json.dumps(prompt), "--max-tokens", "40", "--ignore-eos", "--policy",
                      *options, "--trace", trace)
        lines, canvas = replay(trace, len(prompt), 511)
        check([canvas[len(prompt) + i] for i in range(40)] == answer["ids"], "%r: trace and ids" % options)
        check(len(lines) == answer["forwards"], "%r: forwards" % options)
        block = 8 if "--block" in options else 32
        for line in lines:
            check(line["first"] == line["block"] * block, "%r: %r" % (options, line))
            check(len(line["inputs"]) % block == 0, "%r: not whole blocks" % options)
            n_idle += not line["commits"]
            n_wide += len(line["inputs"]) > block
        again = load("-m", BARE, "--ids", json.dumps(prompt), "--max-tokens", "40", "--ignore-eos", "--policy",
                     *options, "--cache", "none", "--threads", "1")
        check(again["ids"] == answer["ids"], "%r: again without cache" % options)
    check(n_idle > 0 and n_wide > 0, "no step was idle, or none had several blocks")


def test_families(folder):
    """Every small model with its own policy; ids in, ids out."""
    trace = os.path.join(folder, "trace")
    prompt = list(range(20, 61))
    for name in sorted(os.listdir(os.path.join(DATA, "models"))):
        model = os.path.join(DATA, "models", name)
        facts = json.loads(run("inspect", "-m", model, "--json")[0])
        is_full, block = facts["attention"] == "full", facts["defaults"]["block"] or 40
        check(("whole answer" in run("inspect", "-m", model)[0]) == (facts["defaults"]["block"] == 0), name)
        for n_prompt in 41, 32:  # where blocks end and where they do not
            answer = load("-m", model, "--ids", json.dumps(prompt[:n_prompt]), "--max-tokens", "40",
                          "--ignore-eos", "--trace", trace)
            lines, canvas = replay(trace, n_prompt, facts["mask_token"])
            check([canvas[n_prompt + i] for i in range(40)] == answer["ids"], name + ": trace and ids")
            check(len(lines) == answer["forwards"], name + ": forwards")
            for line in lines:
                check(line["first"] == line["block"] * block + (n_prompt if is_full else 0), "%s %r" % (name, line))


def test_trace(folder):
    trace = os.path.join(folder, "trace")
    prompt = json.loads(run("tokenize", "-m", DEMO, "--jsonl", "/dev/stdin",
                            stdin=b'"<role>HUMAN</role>Tell me a story.<|role_end|><role>ASSISTANT</role>"\n')[0])
    text = load("-m", DEMO, "-p", "Tell me a story.", "--max-tokens", "50", "--threshold", "0.6",
                "--trace", trace)
    lines, canvas = replay(trace, len(prompt), 1)
    check([canvas[len(prompt) + i] for i in range(text["tokens"])] == text["ids"], "trace and ids")
    check(len(lines) == text["forwards"], "forwards")
    ids = load("-m", DEMO, "--ids", json.dumps(prompt), "--max-tokens", "50", "--threshold", "0.6")
    check(ids["ids"] == text["ids"] and ids["text"] == text["text"], "the same prompt as ids")
    out, _ = run("run", "-m", DEMO, "-p", "Tell me a story.", "--max-tokens", "50", "--threshold", "0.6")
    check(out == text["text"] + "\n", "streamed text differs")
    refused("run", "-m", DEMO, "-p", "x", "--max-tokens", "16", "--json", "--trace", "/dev/full", code=1,
            says=["/dev/full", "No space left"])
    refused("run", "-m", DEMO, "-p", "x", "--trace", folder + "/no/where", code=1, says="No such file")


def test_bare_model(_folder):
    out, _ = run("run", "-m", BARE, "--ids", "5 6 7", "--max-tokens", "8", "--print-ids", "--ignore-eos")
    check(len(out.split()) == 8, out)
    answer = load("-m", BARE, "--ids", "5,6,7", "--max-tokens", "8", "--ignore-eos")
    check(answer["text"] is None and answer["ids"] == [int(word) for word in out.split()], answer)
    refused("run", "-m", BARE, "-p", "x", code=1, says=["tokenizer", "--ids"])
    refused("run", "-m", BARE, "--ids", "1", code=1, says=["tokenizer", "--print-ids"])
    refused("run", "-m", BARE, "--ids", "1", "--watch", code=1, says="tokenizer")
    check("none" in run("inspect", "-m", BARE)[0], "inspect")


def test_limits(_folder):
    refused("run", "-m", DEMO, "--ids", " ".join(["21"] * 5000), "--print-ids", code=1, says=["5000", "4096"])
    refused("logits", "-m", DEMO, "--ids", " ".join(["21"] * 5000), "-o", "/dev/null", code=1, says="4096")
    # A mask token in the prompt stays a prompt token.
    answer = load("-m", DEMO, "--ids", "21 1 1 225", "--max-tokens", "8", "--ignore-eos")
    check(answer["tokens"] == 8, answer)


def test_logits(folder):
    path = os.path.join(folder, "out.safetensors")
    out, err = run("logits", "-m", DEMO, "--ids", "3 992 4 21", "-o", path)
    check(out == "" and err == "", "%r %r" % (out, err))
    data = read_bytes(path)
    header, start = read_header(data)
    tensor = header["logits"]
    check(tensor["dtype"] == "F32" and tensor["shape"] == [4, 4096], header)
    check(start % 8 == 0 and len(data) - start == 4 * 4096 * 4, "sizes")
    values = struct.unpack("<%df" % (4 * 4096), data[start:])
    check(all(value == value for value in values) and max(values) > 1, "values")
    check(os.listdir(folder) == ["out.safetensors"], "something is left behind")
    run("logits", "-m", DEMO, "--ids", "3", "--block", "1", "--threads", "1", "-o", path)
    refused("logits", "-m", DEMO, "--ids", "3", "-o", folder + "/no/where", code=1, says="cannot write")
    refused("logits", "-m", DEMO, "--ids", "3", "-o", "/dev/full", code=1, says="No space left")
    refused("logits", "-m", DEMO, "--ids", "3", "--precision", "double", "-o", path, code=2, says="precision")
    check(os.listdir(folder) == ["out.safetensors"], "something is left behind")


def test_interrupt(_folder):
    process = subprocess.Popen([PROGRAM, "run", "-m", DEMO, "-p", "Tell me a story.", "--max-tokens", "4000",
                                "--ignore-eos", "--block", "16"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    first = os.read(process.stdout.fileno(), 1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    check(process.returncode == 1, "exit code %d" % process.returncode)
    check(first and out.endswith(b"\n") and err.decode() == "unmask run: interrupted\n", "%r %r" % (out, err))


def test_inspect(_folder):
    out, err = run("inspect", "-m", DEMO, "--context", "100")
    for word in ["LLaDA2MoeModelLM", "block-causal", "15991", "4096", "threshold", "100"]:
        check(word in out, "%s is missing in %s" % (word, out))
    check(err == "", err)
    check(re.search(r"block +32\n", out) and re.search(r"end of text +0\n", out), out)
    out, _ = run("inspect", "-m", os.path.join(DATA, "models", "llada"))
    check(re.search(r"remask +low-confidence\n", out) and "threshold" not in out, out)
    model = json.loads(run("inspect", "-m", DEMO, "--json")[0])
    check(model["eos_token"] == 0 and model["eot_token"] == 2 and model["delete_token"] is None, model)
    check(model["shifted"] is False and model["defaults"]["sub_block"] == 0, model)
    check(model["mask_token"] == 1 and model["shapes"]["layers"] == 8 and model["tokenizer"], model)
    check(run("inspect", "-m", DEMO, "--mask-token", "9", "--json")[0].count('"mask_token": 9') == 1, "mask")


main([test_outputs, test_sudoku, test_options, test_suffix, test_policies, test_families, test_trace, test_bare_model, test_limits, test_logits,
      test_interrupt, test_inspect])
