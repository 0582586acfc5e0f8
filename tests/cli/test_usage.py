"""Wrong usage, help, completion, the man page: all of them agree on the options."""
import os
import re
import sys
import subprocess

sys.dont_write_bytecode = True
from driver import DEMO, PROGRAM, PROJECT, check, main, refused, run

COMMANDS = ["run", "logits", "tokenize", "inspect", "score"]


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


def test_completion_of_values(_folder):
    script = "source '%s/tools/completion.bash'; COMP_WORDS=(unmask run --policy s); COMP_CWORD=3; " \
             "_unmask; echo \"${COMPREPLY[@]}\"" % PROJECT
    out = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True).stdout
    check(out == "schedule\n", out)


def test_wrong_words(_folder):
    refused("rum", code=2, says=["rum", "did you mean run"])
    refused("run", "-m", DEMO, "--tresh", "1", code=2, says=["--tresh", "did you mean --threshold"])
    refused("run", "-m", DEMO, "--zzz", code=2, says="unknown option")
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
        "--precision": ["double"],
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
        ["-p", "x", "--precision", "fast"], ["-p", ""], ["--trace", "x"], ["-p", "x", "--block", "5000"],
        ["-p", "x", "--mask-token", "4096"],
    ]
    for arguments in wrong:
        refused("run", "-m", DEMO, *arguments, code=2, says="unmask run: ")


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


main([test_help, test_same_options_everywhere, test_completion_of_values, test_wrong_words,
      test_numbers, test_combinations, test_ids, test_output_that_fails])
