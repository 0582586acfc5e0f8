"""`unmask tokenize`: every source, round trips, templates."""
import sys
import json
import os

sys.dont_write_bytecode = True
from driver import DEMO, check, main, refused, run

TEXTS = ["Once upon a time", "", " two  spaces\n\ttab", "Grüße, 世界 🦊", "<|mask|> a <|endoftext|>", "12345"]


def ids_of(text):
    return json.loads(run("tokenize", "-m", DEMO, "-p", text)[0])


def test_round_trip(folder):
    for text in TEXTS:
        ids = ids_of(text)
        if not ids:
            continue
        for spelling in json.dumps(ids), " ".join(map(str, ids)):
            check(run("tokenize", "-m", DEMO, "--decode", spelling)[0] == text, "%r: %r" % (text, ids))
    check(ids_of("<|mask|>") == [1], "special tokens are recognised")
    path = os.path.join(folder, "text")
    for text in TEXTS:
        with open(path, "w") as file:
            file.write(text)
        check(json.loads(run("tokenize", "-m", DEMO, "--file", path)[0]) == ids_of(text), "--file %r" % text)
    with open(path, "w") as file:
        for i, text in enumerate(TEXTS):
            file.write(json.dumps(text, ensure_ascii=i % 2 == 0) + "\n")
    lines = run("tokenize", "-m", DEMO, "--jsonl", path)[0].splitlines()
    check([json.loads(line) for line in lines] == [ids_of(text) for text in TEXTS], "--jsonl")


def test_chat(folder):
    path = os.path.join(folder, "chat.json")
    with open(path, "w") as file:
        json.dump([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "1 + 3 ="}], file)
    text = run("tokenize", "-m", DEMO, "--chat", path, "--render")[0]
    check(text == "<role>SYSTEM</role>Be kind.<|role_end|><role>HUMAN</role>1 + 3 =<|role_end|>"
          "<role>ASSISTANT</role>", text)
    check(json.loads(run("tokenize", "-m", DEMO, "--chat", path)[0]) == ids_of(text), "--chat")
    alone = os.path.join(folder, "template")
    os.makedirs(alone)
    with open(alone + "/tokenizer_config.json", "w") as file:
        # transformers writes "no limit" as a number that no 64-bit integer holds.
        json.dump({"chat_template": "{% for m in messages %}[{{ m.role }}]{% endfor %}",
                   "model_max_length": 1000000000000000019884624838656}, file)
    check(run("tokenize", "-m", alone, "--chat", path, "--render")[0] == "[system][user]", "template alone")
    refused("tokenize", "-m", alone, "--chat", path, code=1, says="tokenizer.json")


def test_bad_input(folder):
    path = os.path.join(folder, "file")
    refused("tokenize", "-m", DEMO, "--file", path, code=1, says=path)
    refused("tokenize", "-m", DEMO, "--file", folder, code=1, says=folder)
    refused("tokenize", "-m", folder, "-p", "x", code=1, says="tokenizer.json")
    refused("tokenize", "-m", folder + "/no", "-p", "x", code=1, says="/no")
    for data, says in [(b"a\xffb", "UTF-8")]:
        with open(path, "wb") as file:
            file.write(data)
        refused("tokenize", "-m", DEMO, "--file", path, code=1, says=says)
    for data, says in [(b"[1]", "string"), (b"\"a", "line 1"), (b"\"a\" x", "line 1"), (b"\n", "line 1")]:
        with open(path, "wb") as file:
            file.write(data)
        refused("tokenize", "-m", DEMO, "--jsonl", path, code=1, says=says)
    for data in [b"", b"{", b"{}", b"[1]", b"\xff", b"[{\"role\":\"user\"}] x", b"[]\0"]:
        with open(path, "wb") as file:
            file.write(data)
        refused("tokenize", "-m", DEMO, "--chat", path, code=1, says="unmask tokenize: ")
    with open(path, "w") as file:
        file.write("[]")
    for template in ["{% for i in range(10**9) %}{% endfor %}", "{{ nothing() }}", "{% if %}",
                     "{{ raise_exception('no') }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"]:
        with open(folder + "/tokenizer_config.json", "w") as file:
            json.dump({"chat_template": template}, file)
        refused("tokenize", "-m", folder, "--chat", path, "--render", code=1, says="unmask tokenize: ")


main([test_round_trip, test_chat, test_bad_input])
