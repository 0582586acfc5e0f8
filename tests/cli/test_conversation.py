"""Conversations: through a pipe, and at a terminal with line editing and history."""
import sys
import json
import os
import time

sys.dont_write_bytecode = True
from driver import DEMO, PROGRAM, check, main, refused, run
from screen import Session

SHORT = ["-m", DEMO, "--max-tokens", "32"]


def test_pipe(_folder):
    out, err = run("run", *SHORT, stdin=b"What is 123 + 456?\n\n/clear\nWhat is 100 + 200?\n/quit\nnever\n")
    check(out == "123 + 456 = 579\n100 + 200 = 300\n" and err == "", "%r %r" % (out, err))
    out, _ = run("run", *SHORT, "--json", stdin=b"1 + 3 =\n1 + 3 =")
    check(len([json.loads(line) for line in out.splitlines()]) == 2, out)
    check(run("run", *SHORT, stdin=b"")[0] == "", "no turn")
    out, err = run("run", *SHORT, stdin=b"/help\n/system Be kind.\n")
    check(out == "" and "/clear" in err, err)
    run("run", *SHORT, "--system", "Be kind.", "--raw", code=2)


def test_pipe_errors(_folder):
    refused("run", *SHORT, stdin=b"/walk\n", code=1, says="/help")
    refused("run", *SHORT, stdin=b"a\xff\n", code=1, says="UTF-8")
    refused("run", *SHORT, stdin=b"a\0b\n", code=1, says="zero byte")
    refused("run", *SHORT, "--top-p", "0.5", stdin=b"", code=2, says="--top-p")
    long = b"12 " * 3000 + b"\n"
    refused("run", *SHORT, stdin=long, code=1, says="context")


def test_terminal(folder):
    state = {"XDG_STATE_HOME": folder, "HOME": folder}
    session = Session([PROGRAM, "run"] + SHORT, environment=state)
    check(session.read(120, r"> "), "no prompt: %r" % session.raw)
    session.send("What is 123 + 456?\n")
    check(session.read(120, r"tokens a second"), session.raw)
    check("123 + 456 = 579" in session.screen.text(), session.screen.text())
    session.send("abc")
    time.sleep(0.2)
    session.send("\x03")  # Ctrl-C at the prompt gives a new line
    time.sleep(0.3)
    session.send("/walk\n")
    check(session.read(120, "unknown command"), session.raw)
    session.send("Gr\u00fc\u00dfe\n")
    check(session.read(120, r"(?s)tokens a second.*tokens a second"), session.raw)
    session.send("\x04")
    check(session.wait() == 0, "exit code")
    path = os.path.join(folder, "unmask", "history")
    with open(path) as file:
        check("123" in file.read(), "history")
    check(os.stat(path).st_mode & 0o077 == 0, "others can read the history")
    session = Session([PROGRAM, "run"] + SHORT, environment=state)
    session.read(120, r"> ")
    session.send("\x1b[A\x1b[A\x1b[A")  # up, to the first line of the last session
    check(session.read(120, r"123"), "no history: %r" % session.raw)
    session.send("\x15/quit\n")
    check(session.wait() == 0, "exit code")


def test_interrupted_answer(folder):
    session = Session([PROGRAM, "run", "-m", DEMO, "--max-tokens", "3000", "--ignore-eos", "--block", "16"],
                      environment={"XDG_STATE_HOME": folder})
    session.read(120, r"> ")
    session.send("Tell me a story.\n")
    check(session.read(120, r"story\.\r\n(?s:.*)[a-z]{3}"), session.raw)
    time.sleep(0.3)
    session.send("\x03")
    check(session.read(120, r"(?s)story\..*\n> "), "no prompt after Ctrl-C: %r" % session.raw[-300:])
    session.send("\x04")
    check(session.wait() == 0, "exit code")


main([test_pipe, test_pipe_errors, test_terminal, test_interrupted_answer])
