"""--watch in a terminal: what the screen shows during and after, at sizes that hurt."""
import os
import sys
import re

sys.dont_write_bytecode = True
from driver import DEMO, PROGRAM, check, copy_model, main, run
from screen import Session

MASK = "\u2591"
STORY = ["run", "-m", DEMO, "-p", "Tell me a story.", "--max-tokens", "64", "--threshold", "0.6"]
SUDOKU = ["run", "-m", DEMO, "--block", "96", "--threshold", "0.99", "--max-tokens", "96", "--columns", "9",
          "-p", "Solve this sudoku: 60198002090502000102060100524901000600000004905020031006009807000007256010"
          "0500098"]


def watch(arguments, columns=80, rows=24, environment=None, code=0):
    session = Session([PROGRAM] + arguments + ["--watch", "--delay", "1"], columns, rows, environment)
    check(session.wait() == code, "exit code; %s" % session.screen.text())
    check(session.screen.unknown == [], "sequences %r" % session.screen.unknown)
    check(not session.screen.is_cursor_hidden, "the cursor stays hidden")
    return session


def body(session):
    """The words on the screen without legend and summary."""
    text = session.screen.text()
    check(MASK not in text.replace(MASK + " masked", ""), "masks are left: " + text)
    text = re.sub(r".*confidence from.*", "", text)
    return re.split(r"\d+tokens,\d+forwards", re.sub(r"\s", "", text))[0]


def test_sudoku(_folder):
    session = watch(SUDOKU)
    check("631985724\n985724631\n724631985\n" in session.screen.text(), session.screen.text())
    check("38" in session.screen.styles and "82" in session.screen.styles, "no colours")
    check(session.raw.count(MASK) > 81, "no masks were seen")
    check(re.search(r"81 tokens, \d+ forwards, [\d.]+ tokens per forward, [\d.]+ tokens a second",
                    session.screen.text()), session.screen.text())


def test_sizes(_folder):
    expected = re.sub(r"\s", "", run(*STORY)[0])
    for columns, rows in [(80, 24), (40, 6), (13, 24), (200, 3)]:
        found = body(watch(STORY, columns, rows))
        check(found == expected, "%dx%d:\n%r\n%r" % (columns, rows, found, expected))


def test_edit(_folder):
    session = watch(STORY[:-2] + ["--policy", "edit", "--edit-threshold", "0.5", "--threshold", "0.3"])
    check("7" in session.screen.styles, "no edit was shown inverted")


def test_policies(_folder):
    """Several open blocks, steps that change nothing, positions that open again, parts of a block."""
    for options in [["--policy", "multi-block", "--window", "3", "--block", "16", "--block-add", "0.02",
                     "--edit-threshold", "0.6", "--post-steps", "2"],
                    ["--policy", "entropy", "--steps", "40"], ["--policy", "origin", "--steps", "6"],
                    ["--sub-block", "8"], ["--policy", "edit", "--edit-threshold", "0.05", "--threshold", "0.05"],
                    ["--policy", "edit", "--edit-threshold", "0.3", "--threshold", "0.3", "--fold", "off"]]:
        arguments = STORY[:-2] + options
        expected = re.sub(r"\s", "", run(*arguments)[0])
        for columns, rows in [(80, 24), (30, 6)]:
            session = watch(arguments, columns, rows)
            found = body(session)
            check(found == expected, "%r:\n%r\n%r" % (options, found, expected))
        is_wide = "multi-block" in options or ("edit" in options and "off" not in options)
        check(("blocks " in session.raw) == is_wide, "%r: the open blocks" % options)


def test_families(folder):
    """Whole-answer blocks, seeds, inserts: small models of random weights, with the demo's tokenizer."""
    for name, options in [("dream", []), ("fast_dllm_v2", []), ("llada2_2", ["--post-steps", "4"]), ("sdar", []),
                          ("llada2_2", ["--policy", "multi-block", "--edit-threshold", "0.001"]),
                          ("llada", ["--attention", "blocks", "--block", "16"])]:
        os.makedirs(folder + "/" + name, exist_ok=True)
        model = folder + "/" + name + "/model"
        if not os.path.exists(model):
            copy_model(folder + "/" + name, name)
            os.symlink(DEMO + "/tokenizer.json", model + "/tokenizer.json")
        arguments = ["run", "-m", model, "--ids", "20 21 22 23 24 25 26 27 28", "--max-tokens", "70",
                     "--ignore-eos"] + options
        expected = re.sub(r"[^!-~]", "", run(*arguments)[0])
        found = re.sub(r"[^!-~]", "", body(watch(arguments, 60, 12)))
        check(len(found) > 20 and found == expected, "%r:\n%r\n%r" % ([name] + options, found, expected))


def test_plain_terminals(_folder):
    session = watch(STORY, environment={"NO_COLOR": "1"})
    check("\x1b[0m" in session.raw and session.screen.styles <= {"0"}, "styles %r" % session.screen.styles)
    check(session.raw.count(MASK) > 20, "no masks were seen")
    session = watch(STORY, environment={"TERM": "dumb"})
    check("\x1b" not in session.raw and MASK not in session.raw, "sequences on a dumb terminal")
    session = Session([PROGRAM] + STORY)  # without --watch: no colours, a summary
    check(session.wait() == 0 and "tokens a second" in session.raw, session.raw)


def test_interrupt(_folder):
    session = Session([PROGRAM] + STORY + ["--watch", "--delay", "200", "--ignore-eos"])
    check(session.read(120, r"forward 3"), session.raw)
    session.interrupt()
    check(session.wait() == 1, "exit code")
    check(not session.screen.is_cursor_hidden, "the cursor stays hidden")
    check("unmask run: interrupted" in session.screen.text(), session.screen.text())


main([test_sudoku, test_sizes, test_edit, test_policies, test_families, test_plain_terminals, test_interrupt])
