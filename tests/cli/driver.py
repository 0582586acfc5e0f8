"""Runs the program for the tests of this folder: argv[1] is the program, argv[2] the project."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

PROGRAM, PROJECT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
DEMO = os.path.join(PROJECT, "models", "demo")
DATA = os.path.join(PROJECT, "tests", "data")


def run(*arguments, code=0, stdin=None, binary=False, environment=None, timeout=300):
    """Runs `unmask ARGUMENTS`, checks the exit code, returns (stdout, stderr)."""
    words = [PROGRAM] + [a if isinstance(a, bytes) else str(a) for a in arguments]
    done = subprocess.run(words, input=b"" if stdin is None else stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout,
                          env=dict(os.environ, **(environment or {})))
    err = done.stderr.decode("utf-8", "replace")
    if done.returncode != code:
        raise AssertionError("%r: exit code %d, expected %d\n%s" %
                             (words[1:], done.returncode, code, err))
    return (done.stdout if binary else done.stdout.decode("utf-8")), err


def refused(*arguments, code, says, stdin=None):
    """Runs something wrong: nothing on standard output, a sentence with the given words."""
    out, err = run(*arguments, code=code, stdin=stdin)
    check(out == "", "standard output holds %r" % out)
    for word in [says] if isinstance(says, str) else says:
        check(word.lower() in err.lower(), "%r: expected %r in %r" % (arguments, word, err))
    return err


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def main(tests):
    for test in tests:
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
        print("ok", test.__name__)


def copy_model(folder, name="llada2_moe", source=None):
    """A copy of a small model that a test may damage; its weights are links."""
    source = source or os.path.join(DATA, "models", name)
    target = os.path.join(folder, "model")
    os.makedirs(target)
    for entry in os.listdir(source):
        if entry.endswith(".safetensors") or entry == "tokenizer.json":
            os.symlink(os.path.join(source, entry), os.path.join(target, entry))
        elif entry.endswith(".json"):
            shutil.copyfile(os.path.join(source, entry), os.path.join(target, entry))
            os.chmod(os.path.join(target, entry), 0o644)
    return target


def edit_json(path, **changes):
    with open(path) as file:
        value = json.load(file)
    for key, new in changes.items():
        if new is None:
            value.pop(key, None)
        else:
            value[key] = new
    with open(path, "w") as file:
        json.dump(value, file)


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def replace_bytes(path, data):
    """Replaces a link or a file by a file of these bytes."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(data)


def read_header(data):
    (n,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + n]), 8 + n
