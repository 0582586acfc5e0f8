"""Policies from shared objects through the program: the example, and wrong ones."""
import json
import os
import sys

sys.dont_write_bytecode = True
from driver import DEMO, PROGRAM, PROJECT, check, main, read_bytes, refused, run

FOLDER = os.path.join(os.path.dirname(PROGRAM), "tests")
EXAMPLE = os.path.join(FOLDER, "policy_example.so")
BAD = os.path.join(FOLDER, "bad_policy.so")
STORY = ["run", "-m", DEMO, "-p", "Tell me a story.", "--max-tokens", "64"]


def test_example(folder):
    with open(PROJECT + "/examples/policy_example.c") as file:
        check(len(file.readlines()) < 80, "the example is too long")
    for options in [["--threshold", "0.6"], [], ["--threshold", "0.4", "--temperature", "0.8", "--seed", "5"]]:
        traces, answers = [], []
        for policy in "threshold", EXAMPLE:
            trace = os.path.join(folder, "trace")
            answer = json.loads(run(*STORY, *options, "--policy", policy, "--json", "--trace", trace)[0])
            answers.append((answer["ids"], answer["forwards"], answer["finish_reason"]))
            traces.append(read_bytes(trace))
        check(answers[0] == answers[1], "%r: %r" % (options, answers))
        check(traces[0] == traces[1], "%r: the traces differ" % options)


def test_wrong_ones(_folder):
    for arguments, words in [("overflow", "wrote past the 32 changes"), ("toggle", "is not finished after"),
                             ("prompt", "changes the prompt"), ("idle", "changes nothing")]:
        out, err = run(*STORY, "--policy", BAD, "--policy-args", arguments, code=1)
        check(out == "" and "unmask run: policy bad: " in err and words in err, "%r: %r" % (arguments, err))
    for name, code, words in [("abi", 1, "interface version 2; expected 1"), ("step", 2, "no step function")]:
        _, err = run(*STORY, "--policy", BAD, code=code, environment={"BAD_POLICY": name})
        check(words in err, err)
    refused(*STORY, "--policy", BAD, "--threshold", "0.5", code=2, says="--threshold: the policy bad does not")
    refused(*STORY, "--policy", BAD, "--policy-args", "refused", code=2, says="--policy: bad: it says no")
    refused(*STORY, "--policy", EXAMPLE, "--policy-args", "x", code=2, says="--policy-args: the policy example")
    refused(*STORY, "--policy", os.path.join(FOLDER, "bad_policy_without_entry.so"), code=2,
            says="no function um_policy_entry")
    refused(*STORY, "--policy", FOLDER + "/none.so", code=1, says=["none.so", "No such file"])
    refused(*STORY, "--policy", PROJECT + "/README.md", code=1, says=["--policy: ", "README.md"])
    refused(*STORY, "--policy", FOLDER + "/", code=1, says="--policy: ")


main([test_example, test_wrong_ones])
