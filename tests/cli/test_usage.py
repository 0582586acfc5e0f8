"""Wrong usage, help, completion, the man page: all of them agree on the options."""
import json
import os
import re
import sys
import subprocess

sys.dont_write_bytecode = True
from driver import DEMO, PROGRAM, PROJECT, check, main, refused, run

COMMANDS = ["run", "logits", "tokenize", "inspect", "score", "bench", "quantize", "serve"]


def options_of(command):
    return set(re.findall(r"(?m)^ .{4,5}--([a-z-]+)", run(command, "--help")[0])) - {"help"}


def test_help(_folder):
    for arguments in [["--help"], ["help"], ["-h"]] + [[c, "--help"] for c in COMMANDS]:
        out, err = run(*arguments)
        check(out.startswith("usage: unmask"), "no usage line: %r" % out)
        check(err == "", err)
        check(max(map(len, out.splitlines())) <= 80, "%r is wider than 80" % arguments)
    check(run("help", "run") == run("run", "--help"), "help run differs from run --help")
    check(run("--version")[0].startswith("unmask 0."), "version")
    out, err = run(code=2)
    check(out == "" and "usage" in err, "without a command")
    refused("help", "walk", code=2, says="unknown command")
    refused("help", "run", "now", code=2, says="found \"now\"")


def test_same_options_everywhere(_folder):
    with open(PROJECT + "/docs/unmask.1") as file:
        page = file.read().replace("\\-", "-")
    script = "source '%s/tools/completion.bash'; COMP_WORDS=(unmask %s --); COMP_CWORD=2; " \
             "_unmask; printf '%%s\\n' \"${COMPREPLY[@]}\""
    for command in COMMANDS:
        options = options_of(command)
        check(len(options) >= 4, "the help of %s lists %r" % (command, options))
        done = subprocess.run(["bash", "-eu", "-c", script % (PROJECT, command)],
                              capture_output=True, text=True)
        check(done.returncode == 0 and done.stderr == "", done.stderr)
        completed = {word[2:] for word in done.stdout.split()} - {"help"}
        check(completed == options, "completion of %s: %r" % (command, completed ^ options))
        for option in options:
            check("--" + option in page, "the man page lacks --%s" % option)


def complete(*words):
    script = "source '%s/tools/completion.bash'; COMP_WORDS=(%s); COMP_CWORD=%d; _unmask; " \
             "echo \"${COMPREPLY[@]}\"" % (PROJECT, " ".join("'%s'" % w for w in words), len(words) - 1)
    return subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True).stdout.split()


def test_completion_of_values(folder):
    check(complete("unmask", "run", "--policy", "sc") == ["schedule"], "values of --policy")
    check(complete("unmask", "run", "--metric", "") == ["confidence", "entropy"], "values of --metric")
    open(folder + "/mine.so", "w").close()
    check(complete("unmask", "run", "--policy", folder + "/m") == [folder + "/mine.so"], "a path")


def test_policies(_folder):
    policies = json.loads(run("inspect", "--policies", "--json")[0])
    names = [policy["name"] for policy in policies]
    check(len(names) == len(set(names)) >= 17, names)
    check(complete("unmask", "run", "--policy", "") == names, "completion and policies")
    text, _ = run("run", "--help")
    check(", ".join(names) in re.sub(r"\s+", " ", text), "the help lacks a policy")
    with open(PROJECT + "/docs/unmask.1") as file:
        page = file.read().replace("\\-", "-")
    with open(PROJECT + "/docs/decoding.md") as file:
        guide = file.read()
    table, _ = run("inspect", "--policies")
    for policy in policies:
        check(re.search(r"(?m)^\.(B|BR) (\S+ \", \" )*%s\b" % policy["name"], page), "man page: " + policy["name"])
        check("**`%s`**" % policy["name"] in guide, "docs/decoding.md lacks " + policy["name"])
        check(policy["name"] + "\n" in table and policy["source"] in table, "the table lacks a policy")
        for option in policy["reads"]:
            check("--%s " % option in text, "no option --" + option)
    refused("inspect", "--policies", "-m", DEMO, code=2, says="--policies")


def test_wrong_words(_folder):
    refused("rum", code=2, says=["rum", "did you mean run"])
    refused("run", "-m", DEMO, "--tresh", "1", code=2, says=["--tresh", "did you mean --threshold"])
    refused("run", "-m", DEMO, "--zzz", code=2, says="unknown option")
    for typed, meant in [("treshold", "threshold"), ("entropy_bound", "entropy-bound"), ("sched", "schedule"),
                         ("multiblock", "multi-block"), ("levenstein", "levenshtein")]:
        refused("run", "-m", DEMO, "-p", "x", "--policy", typed, code=2,
                says=["--policy", '"%s"' % typed, "did you mean %s?" % meant])
    refused("run", "-m", DEMO, "-p", "x", "--policy", "zebra", code=2,
            says=["--policy", "threshold, schedule, ", "levenshtein", "'/'", '"zebra"'])
    refused("run", "-m", DEMO, "-x", code=2, says="unknown option")
    refused("inspect", "-m", DEMO, "--top-k", "1", code=2, says="another command")
    refused("run", "-m", DEMO, "hello", code=2, says="unexpected argument")
    refused("run", "-m", DEMO, "-p", code=2, says=["--prompt", "end of the line"])
    refused("run", "-p", "x", code=2, says="-m")
    refused("run", "-m", DEMO, "-p", "x", "--json=1", code=2, says="takes no argument")
    refused("run", "-m", DEMO, "-p", "x", "-p", "y", code=2, says="twice")
    refused("logits", "-m", DEMO, "--ids", "1", code=2, says="-o")
    refused("logits", "-m", DEMO, "-o", "x", code=2, says="ids")
    refused("tokenize", "-m", DEMO, code=2, says="found 0")
    refused("tokenize", "-m", DEMO, "-p", "x", "--decode", "1", code=2, says="found 2")
    refused("tokenize", "-m", DEMO, "-p", "x", "--render", code=2, says="--chat")


def test_numbers(_folder):
    wrong = {
        "--threshold": ["1.5", "-0.1", "nan", "inf", "0x1", "", "0.5x", " 0.5", "1e-999999"],
        "--edit-threshold": ["2"], "--temperature": ["-1", "nan", "1e9"], "--cfg": ["-1"],
        "--top-p": ["0", "1.1"], "--min-p": ["-0.5"], "--block": ["0", "-1", "1.5", "", "+4"],
        "--steps": ["0"], "--post-steps": ["-1"], "--top-k": ["-1"], "--max-tokens": ["0"],
        "--seed": ["-1", "99999999999999999999"], "--threads": ["0", "x"],
        "--prefill-chunk": ["0"], "--mask-token": ["-1", "2147483648"], "--delay": ["-1"],
        "--policy": ["greedy", "", "thresh"], "--remask": ["high"], "--cache": ["all"],
        "--precision": ["double"], "--sub-block": ["0"], "--low-threshold": ["1.1"], "--factor": ["0", "-1"],
        "--entropy-bound": ["0"], "--eps": ["-1", "1"], "--attention": ["full"], "--alg-temp": ["-1"], "--credit-alpha": ["101"],
        "--credit-beta": ["1.1"], "--credit-gamma": ["-1"], "--window": ["0", "1025"], "--block-add": ["2"],
        "--block-ready": ["-0.5"], "--metric": ["margin"],
    }
    for option, values in wrong.items():
        for value in values:
            refused("run", "-m", DEMO, "-p", "x", option, value, code=2,
                    says=[option, "expected", '"%s"' % value])
            refused("run", "-m", DEMO, "-p", "x", option + "=" + value, code=2, says=option)


def test_combinations(_folder):
    wrong = [
        ["-p", "x", "--ids", "1"], ["--ids", "1", "--system", "x"], ["-p", "x", "--raw", "--system", "y"],
        ["-p", "x", "--watch", "--json"], ["-p", "x", "--watch", "--print-ids"],
        ["-p", "x", "--delay", "5"], ["-p", "x", "--columns", "9"],
        ["-p", "x", "--policy", "threshold", "--edit-threshold", "0.5"],
        ["-p", "x", "--policy", "schedule", "--post-steps", "1"],
        ["-p", "x", "--policy", "edit", "--remask", "random"],
        ["-p", "x", "--policy", "schedule", "--remask", "random", "--threshold", "0.5"],
        ["-p", "x", "--remask", "random", "--threshold", "0.5"],
        ["-p", "x", "--remask", "random", "--post-steps", "1"],
        ["-p", "x", "--temperature", "0", "--top-k", "5"], ["-p", "x", "--top-p", "0.5"],
        ["-p", "x", "--cache", "dual"],
        ["-p", ""], ["--trace", "x"], ["-p", "x", "--block", "5000"],
        ["-p", "x", "--mask-token", "4096"],
    ]
    for arguments in wrong:
        refused("run", "-m", DEMO, *arguments, code=2, says="unmask run: ")


def test_parameters_of_policies(_folder):
    """A parameter that the policy does not read is refused by the option's name, before loading."""
    nowhere = ["-m", "/no/such/model", "-p", "x"]
    readers = {"threshold": "schedule", "edit-threshold": "edit", "post-steps": "edit", "steps": "static",
               "low-threshold": "hierarchy", "factor": "factor", "entropy-bound": "entropy-bound", "eps": "origin",
               "alg-temp": "margin", "credit-alpha": "credit", "credit-beta": "credit", "credit-gamma": "credit",
               "window": "multi-block", "block-add": "multi-block", "block-ready": "multi-block"}
    for option, reader in readers.items():
        value = "2" if option in ("steps", "post-steps", "window") else "0.5"
        refused("run", *nowhere, "--policy", "first-hitting", "--" + option, value, code=2,
                says=["--%s: the policy first-hitting does not read it" % option, reader])
        refused("run", *nowhere, "--policy", reader, "--" + option, value, code=1, says="/no/such/model")
    refused("run", *nowhere, "--policy", "edit", "--metric", "entropy", code=2, says=["--metric: ", "multi-block"])
    refused("run", *nowhere, "--policy", "edit", "--policy-args", "x", code=2, says="--policy-args: ")
    refused("run", *nowhere, "--policy", "./no.so", code=1, says=["./no.so", "No such file"])
    model = ["-m", DEMO, "-p", "x"]
    refused("run", *model, "--policy-args", "x", code=2, says="--policy: no policy reads")
    refused("run", *model, "--factor", "1", "--window", "2", code=2, says="--policy: no policy reads")
    refused("run", *model, "--policy", "levenshtein", code=2, says=["--policy: levenshtein", "edit tokens"])
    refused("run", *model, "--policy", "credit", "--temperature", "1", code=2, says="--temperature: ")
    refused("run", *model, "--policy", "hierarchy", "--threshold", "0.2", code=2, says="low_threshold is above")
    refused("run", *model, "--sub-block", "5", code=2, says=["--sub-block: ", "divisor", "32"])
    refused("run", *model, "--sub-block", "8", "--policy", "multi-block", code=2, says="--sub-block: ")
    refused("run", *model, "--attention", "blocks", code=2, says=["--attention: ", "block-causal by itself"])
    refused("run", *model, "--block", "5000", code=2, says="--block: ")
    refused("run", *model, "--max-tokens", "5000", code=1, says=["5000", "--max-tokens"])


def test_ids(_folder):
    for ids in ["", " ", "1,,2", "1 2 x", "-1", "2147483648", "99999999999999999999", "1.5", "[1", "1,"]:
        refused("run", "-m", DEMO, "--ids", ids, "--print-ids", code=2, says="token ids")
    refused("run", "-m", DEMO, "--ids", "1 4096", "--print-ids", code=2, says="4096")
    refused("tokenize", "-m", DEMO, "--decode", "4096", code=2, says="4096")
    refused("run", "-m", DEMO, "-p", b"a\xff", code=2, says=["utf-8", "byte 1"])
    refused("tokenize", "-m", DEMO, "-p", b"\xed\xa0\x80", code=2, says="utf-8")


def test_output_that_fails(_folder):
    for arguments in [["--help"], ["inspect", "-m", DEMO], ["tokenize", "-m", DEMO, "-p", "x"],
                      ["run", "-m", DEMO, "-p", "1 + 1 =", "--max-tokens", "16"]]:
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM] + arguments, stdout=full, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 1 and "No space left" in done.stderr, "%r %r" % (arguments, done))
        # Nobody reads this pipe from the start: a reader that leaves later races with the program.
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([PROGRAM] + arguments, stdout=write_end, stderr=subprocess.PIPE, text=True)
        os.close(write_end)
        check(done.returncode == 1 and done.stderr == "", "closed pipe: %r" % done)


main([test_help, test_same_options_everywhere, test_completion_of_values, test_policies, test_wrong_words,
      test_numbers, test_combinations, test_parameters_of_policies, test_ids, test_output_that_fails])
