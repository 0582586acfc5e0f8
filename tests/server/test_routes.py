"""The server over a real socket, with nothing but Python's own library."""
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from service import CHAT, DEMO, PROGRAM, TOOLS, Service, check, make_tool_model

STORY = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 64, "temperature": 0}


def text_of(documents):
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for d in documents for c in d["choices"])


def program_text(*arguments):
    return subprocess.run([PROGRAM, "run", "-m", DEMO] + list(arguments), capture_output=True, check=True,
                          timeout=300).stdout.decode()[:-1]


def test_answers(s):
    """The server says what the program says."""
    reply = s.get("/v1/chat/completions", CHAT)
    check(reply["choices"][0]["message"] == {"role": "assistant", "content": program_text("-p", "What is 12 + 30?")},
          reply)
    check(reply["choices"][0]["finish_reason"] == "stop" and reply["object"] == "chat.completion", reply)
    usage = reply["usage"]
    check(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], usage)
    check(usage["tokens_per_forward"] == usage["completion_tokens"] / usage["forwards"], usage)
    story = program_text("--raw", "-p", STORY["prompt"], "--max-tokens", "64")
    reply = s.get("/v1/completions", STORY)
    check(reply["choices"][0]["text"] == story, (reply, story))
    ids = s.get("/tokenize", {"prompt": STORY["prompt"]})["tokens"]
    for prompt in (ids, [ids], [STORY["prompt"]]):
        check(s.get("/v1/completions", dict(STORY, prompt=prompt))["choices"][0]["text"] == story, prompt)
    check(s.get("/detokenize", {"tokens": ids})["prompt"] == STORY["prompt"])
    both = s.get("/v1/completions", dict(STORY, prompt=["The dog", STORY["prompt"]], n=2, echo=True))
    check([c["index"] for c in both["choices"]] == [0, 1, 2, 3], both)
    check(both["choices"][2]["text"] == STORY["prompt"] + story, both)
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "12 + 30?"}]
    check(s.get("/v1/chat/completions", dict(CHAT, messages=[{"role": "user", "content": parts}]))
          ["choices"][0]["message"]["content"] == program_text("-p", "What is 12 + 30?"))


def test_streams(s):
    whole = s.get("/v1/completions", STORY)
    documents, last = s.events("/v1/completions", dict(STORY, stream_options={"include_usage": True}))
    check(last == "[DONE]" and text_of(documents) == whole["choices"][0]["text"], documents)
    check(documents[-1]["usage"] == whole["usage"] and documents[-1]["choices"] == [], documents[-1])
    check(all(d["usage"] is None for d in documents[:-1]))
    check(documents[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"])
    # A chunk for each committed prefix, not only for each block of 32.
    check(len(documents) > 64 / 32 + 3, "%d chunks" % len(documents))
    documents, _ = s.events("/v1/chat/completions", dict(CHAT, n=3, temperature=1.0, seed=7))
    single = s.get("/v1/chat/completions", dict(CHAT, n=3, temperature=1.0, seed=7))
    for i in range(3):
        mine = [{"choices": [c]} for d in documents for c in d["choices"] if c["index"] == i]
        check(text_of(mine) == single["choices"][i]["message"]["content"], mine)


def test_steps(s):
    """The changes of all steps, applied in order, are the answer."""
    documents, _ = s.events("/v1/completions", dict(STORY, unmask={"events": "steps"}, threshold=0.6,
                                                    stream_options={"include_usage": True}))
    steps = [d["unmask"]["step"] for d in documents if "step" in d.get("unmask", {})]
    cells = {c["position"]: c["token"] for step in steps for c in step["changes"]}
    usage = documents[-1]["usage"]
    check(len(steps) == usage["forwards"] and [t["forward"] for t in steps] == list(range(len(steps))), usage)
    check(any(t["changes"][i]["position"] > t["changes"][0]["position"] + i for t in steps
              for i in range(len(t["changes"]))), "everything came in order")
    ids = [cells[i] for i in range(usage["completion_tokens"])]
    check(s.get("/detokenize", {"tokens": ids})["prompt"] == text_of(documents), ids)
    check(all(0 <= c["probability"] <= 1 for step in steps for c in step["changes"]))


def test_stops(s):
    text = s.get("/v1/completions", STORY)["choices"][0]["text"]
    # Strings that lie across tokens, at the very start, and one that never comes.
    for first, length in ((5, 1), (7, 9), (0, 4), (20, 17), (40, 3)):
        stop = text[first:first + length]
        where = text.find(stop)
        for given in (stop, ["never here", stop], [stop, text[where:where + length + 5]]):
            reply = s.get("/v1/completions", dict(STORY, stop=given))
            choice = reply["choices"][0]
            check(choice["text"] == text[:where] and choice["finish_reason"] == "stop", (stop, choice))
            check(choice["stop_reason"] == stop, choice)
            check(reply["usage"]["completion_tokens"] < 64, reply["usage"])
            documents, _ = s.events("/v1/completions", dict(STORY, stop=given))
            check(text_of(documents) == text[:where], (stop, documents))
    check(s.get("/v1/completions", dict(STORY, stop="never here"))["choices"][0]["text"] == text)
    ids = s.get("/tokenize", {"prompt": text})["tokens"]
    reply = s.get("/v1/completions", dict(STORY, stop_token_ids=[ids[10]]))
    first = ids.index(ids[10])
    check(reply["usage"]["completion_tokens"] == first and text.startswith(reply["choices"][0]["text"]), reply)
    s.wait_idle()


def test_editing(s):
    """A policy that corrects what it committed: what a stream has said stays true."""
    for named in ({"policy": "edit"}, {}): # without a name, the parameters choose it
        editing(s, dict(STORY, threshold=0.3, edit_threshold=0.3, **named))


def editing(s, body):
    whole = s.get("/v1/completions", body)["choices"][0]["text"]
    documents, _ = s.events("/v1/completions", dict(body, unmask={"events": "steps"}))
    check(text_of(documents) == whole)
    check(any(c["edit"] for d in documents for c in d.get("unmask", {}).get("step", {}).get("changes", [])),
          "nothing was edited: the test shows nothing")


def test_formats(s):
    """An answer under a constraint parses, and satisfies its schema."""
    reply = s.get("/v1/chat/completions", dict(CHAT, response_format={"type": "json_object"}, max_tokens=96))
    check(isinstance(json.loads(reply["choices"][0]["message"]["content"]), dict), reply)
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
              "mood": {"enum": ["good", "bad"]}}, "required": ["name", "mood"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    for seed in range(4):
        reply = s.get("/v1/chat/completions", dict(CHAT, response_format=form, max_tokens=64, threshold=0.5,
                                                   temperature=1.0, seed=seed))
        value = json.loads(reply["choices"][0]["message"]["content"])
        check(set(value) == {"name", "mood"} and value["mood"] in ("good", "bad") and len(value["name"]) <= 12, value)
    for wrong in ({"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}},
                  {"type": "json_object", "x": 1}, {"type": "json_schema", "json_schema": {"schema": {}, "y": 1}}):
        error = s.get("/v1/chat/completions", dict(CHAT, response_format=wrong), code=400)["error"]
        check(error["param"] == "response_format", error)


def test_constraint_cache(s):
    """A schema is compiled once."""
    def form(length):
        items = {"type": "string", "maxLength": length}
        return {"type": "json_schema", "json_schema": {"name": "x", "schema": {
            "type": "object", "properties": {"a": {"type": "array", "maxItems": 24, "items": items}},
            "required": ["a"], "additionalProperties": False}}}
    compiled, reused = (lambda: s.metric("unmask_constraints_made_total")), (lambda: s.metric("unmask_constraints_reused_total"))
    body = dict(CHAT, max_tokens=32, temperature=0)
    before = compiled()
    for length in (24, 25, 26):
        json.loads(s.get("/v1/chat/completions", dict(body, response_format=form(length)))["choices"][0]["message"]["content"])
    check(compiled() == before + 3, compiled())
    again = reused()
    first, second = (s.get("/v1/chat/completions", dict(body, n=2, response_format=form(24)))["choices"] for _ in range(2))
    check(first == second and compiled() == before + 3 and reused() == again + 2, (compiled(), reused()))
    # A stream gets its refusal as any other request.
    status, _, text = s.call("/v1/chat/completions", dict(CHAT, stream=True, response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}))
    check(status == 400 and json.loads(text)["error"]["param"] == "response_format", text)
    # Who leaves while its schema is compiled leaves nothing behind.
    data = json.dumps(dict(body, response_format=form(27))).encode()
    connection = socket.create_connection((s.host, s.port))
    connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
    connection.close()


def check_call(call):
    value = json.loads(call["function"]["arguments"])
    name = call["function"]["name"]
    if name == "weather":
        check(set(value) == {"city", "days"} and value["days"] in (1, 2, 3) and len(value["city"]) <= 12, value)
    elif name == "list":
        check(set(value) == {"items"} and 1 <= len(value["items"]) <= 2 and set(value["items"]) == {"day"}, value)
    else:
        check(name == "stop \"all\"" and value == {}, call)
    return name


def test_tools():
    """A call that is forced is one, whatever the model thinks of it."""
    with tempfile.TemporaryDirectory() as folder:
        make_tool_model(folder)
        with Service("--served-model-name", "demo", model=folder) as s:
            forced_calls(s, dict(CHAT, tools=TOOLS, max_tokens=64, temperature=1.0))
    print("ok test_tools", flush=True)


def forced_calls(s, body):
    chat, names = "/v1/chat/completions", set()
    for i, tool in enumerate(TOOLS):
        name = tool["function"]["name"]
        for seed in range(3):
            named = dict(body, seed=seed, tool_choice={"type": "function", "function": {"name": name}})
            whole = s.get(chat, named)["choices"][0]
            message = whole["message"]
            check(message["content"] is None and whole["finish_reason"] == "tool_calls", whole)
            check([check_call(c) for c in message["tool_calls"]] == [name], whole)
            documents, _ = s.events(chat, dict(named, logprobs=True))
            deltas = [d["choices"][0]["delta"] for d in documents]
            calls = sum((d.get("tool_calls", []) for d in deltas), [])
            check([c["function"] for c in calls] == [c["function"] for c in message["tool_calls"]], (calls, message))
            check(not any(d.get("content") for d in deltas), deltas)
            check(documents[-1]["choices"][0]["finish_reason"] == "tool_calls", documents[-1])
    for seed in range(12):
        reply = s.get(chat, dict(body, seed=seed, threshold=0.3, temperature=3.0, tool_choice="required"))
        names.update(check_call(c) for c in reply["choices"][0]["message"]["tool_calls"])
    check(len(names) > 1, "the model had no choice: %r" % names)
    one = s.get(chat, dict(body, tools=TOOLS[2:], tool_choice="required", n=2, seed=1))
    check([check_call(c["message"]["tool_calls"][0]) for c in one["choices"]] == ["list"] * 2, one)
    anthropic = {"model": "demo", "max_tokens": 64, "messages": CHAT["messages"], "temperature": 1.0, "tools": [
        {"name": t["function"]["name"], "input_schema": t["function"].get("parameters", {"type": "object", "properties": {},
         "additionalProperties": False})} for t in TOOLS]}
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}, {"type": "any", "disable_parallel_tool_use": True}):
        reply = s.get("/v1/messages", dict(anthropic, tool_choice=choice))
        check(reply["stop_reason"] == "tool_use" and len(reply["content"]) == 1, reply)
        block = reply["content"][0]
        check_call({"function": {"name": block["name"], "arguments": json.dumps(block["input"])}})
    wrong = [({"tool_choice": "always"}, "tool_choice"), ({"tool_choice": {"type": "function"}}, "tool_choice"),
             ({"tool_choice": {"type": "function", "function": {"name": "rain"}}}, "tool_choice"),
             ({"tool_choice": "required", "tools": []}, "tool_choice"), ({"tool_choice": "required", "stop": "x"}, "stop"),
             ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
             ({"tool_choice": "required", "ignore_eos": True}, "tools"), ({"tool_choice": "required", "max_tokens": 2}, "max_tokens"),
             ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
             ({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "robot"}}}]}, "tools")]
    for change, parameter in wrong:
        error = s.get(chat, dict(body, **change), code=400)["error"]
        check(error["param"] == parameter, (change, error))
    for choice in ({"type": "all"}, {"type": "tool"}, {"type": "auto", "x": 1}, "auto"):
        check("tool_choice" in s.get("/v1/messages", dict(anthropic, tool_choice=choice), code=400)["error"]["message"], choice)
    s.get(chat, dict(body, tool_choice="none", parallel_tool_calls=False))
    s.get("/v1/messages", dict(anthropic, tool_choice={"type": "auto", "disable_parallel_tool_use": True}))


def test_best_of(s):
    """The choices with the highest mean log-probability, best first."""
    body = dict(STORY, temperature=1.0, seed=3, max_tokens=24, logprobs=0)
    every = s.get("/v1/completions", dict(body, n=6))

    def mean(choice):
        numbers = choice["logprobs"]["token_logprobs"]
        return sum(numbers) / len(numbers)
    ranked = sorted(every["choices"], key=mean, reverse=True)
    check(mean(ranked[0]) > mean(ranked[1]) + 1e-6, "all alike")
    best = s.get("/v1/completions", dict(body, n=2, best_of=6))
    check([c["index"] for c in best["choices"]] == [0, 1], best)
    check([c["text"] for c in best["choices"]] == [c["text"] for c in ranked[:2]], (best, ranked))
    check(best["usage"] == every["usage"], "what was made counts")
    del body["logprobs"]
    alone = s.get("/v1/completions", dict(body, best_of=6, prompt=[STORY["prompt"], "A dog"]))["choices"]
    check(len(alone) == 2 and alone[0]["text"] == ranked[0]["text"] and alone[0]["logprobs"] is None, alone)
    s.events("/v1/completions", dict(body, n=2, best_of=2))


WRONG = [
    # (path, changes, parameter)
    ("chat", {"foo": 1}, "foo"), ("chat", {"temperature": "warm"}, "temperature"), ("chat", {"temperature": -1}, "temperature"),
    ("chat", {"top_p": 1.5}, "top_p"), ("chat", {"n": 0}, "n"), ("chat", {"n": 1000}, "n"), ("chat", {"seed": 1.5}, "seed"),
    ("chat", {"stop": 5}, "stop"), ("chat", {"stop": ""}, "stop"), ("chat", {"stop": ["a"] * 17}, "stop"),
    ("chat", {"max_tokens": 0}, "max_tokens"), ("chat", {"max_tokens": 10, "max_completion_tokens": 11}, "max_completion_tokens"),
    ("chat", {"max_tokens": 100000}, "max_tokens"), ("chat", {"stream": 1}, "stream"),
    ("chat", {"stream_options": {"include_usage": True}}, "stream_options"),
    ("chat", {"stream": True, "stream_options": {"x": True}}, "stream_options"),
    ("chat", {"unmask": {"events": "steps"}}, "unmask"), ("chat", {"stream": True, "unmask": {"events": "all"}}, "unmask"),
    ("chat", {"policy": "greedy"}, "policy"), ("chat", {"policy": "/tmp/evil.so"}, "policy"), ("chat", {"threshold": 2}, "threshold"),
    ("chat", {"policy": "sequential", "threshold": 0.5}, "threshold"), ("chat", {"policy": "threshold", "edit_threshold": 0.5}, "edit_threshold"),
    ("chat", {"block": 0}, "block"), ("chat", {"steps": 0}, "steps"), ("chat", {"steps": 1.5}, "steps"),
    ("chat", {"temperature": 0, "top_k": 5}, "top_k"), ("chat", {"top_k": -2}, "top_k"), ("chat", {"cfg": -1}, "cfg"),
    ("chat", {"cache": "all"}, "cache"), ("chat", {"remask": "none"}, "remask"), ("chat", {"ignore_eos": 1}, "ignore_eos"),
    ("chat", {"logprobs": "yes"}, "logprobs"),
    ("chat", {"logprobs": 2}, "logprobs"), ("chat", {"top_logprobs": 2}, "top_logprobs"), ("chat", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ("text", {"logprobs": True}, "logprobs"), ("text", {"logprobs": 21}, "logprobs"), ("text", {"stop_token_ids": [100000]}, "stop_token_ids"),
    ("text", {"stop_token_ids": ["x"]}, "stop_token_ids"), ("chat", {"frequency_penalty": "x"}, "frequency_penalty"),
    ("chat", {"messages": []}, "messages"), ("chat", {"messages": "hello"}, "messages"), ("chat", {"messages": [5]}, "messages"),
    ("chat", {"messages": [{"role": "robot", "content": "x"}]}, "messages"),
    ("chat", {"messages": [{"role": "user", "content": 5}]}, "messages"),
    ("chat", {"messages": [{"role": "user", "content": "x", "mood": "good"}]}, "messages"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
    ("chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"), ("chat", {"tools": 5}, "tools"),
    ("chat", {"tool_choice": "required"}, "tool_choice"), ("chat", {"response_format": {"type": "xml"}}, "response_format"),
    ("chat", {"chat_template_kwargs": 5}, "chat_template_kwargs"), ("chat", {"prompt": "x"}, "prompt"),
    ("text", {"prompt": []}, "prompt"), ("text", {"prompt": ""}, "prompt"), ("text", {"prompt": [[1], "x", 5]}, "prompt"),
    ("text", {"prompt": [1, 5000]}, "prompt"), ("text", {"prompt": [-1]}, "prompt"), ("text", {"prompt": [1, "x"]}, "prompt"),
    ("text", {"messages": []}, "messages"), ("text", {"best_of": 3, "n": 4}, "best_of"),
    ("text", {"best_of": 3, "stream": True}, "best_of"), ("text", {"best_of": 0}, "best_of"), ("text", {"prompt": ["a"] * 50, "best_of": 3}, "best_of"), ("text", {"prompt": ["a"] * 129}, "prompt"),
    ("text", {"prompt": ["a"] * 100, "n": 2}, "n"),
]


def test_refusals(s):
    for path, change, parameter in WRONG:
        body, where = (CHAT, "/v1/chat/completions") if path == "chat" else (STORY, "/v1/completions")
        status, _, text = s.call(where, dict(body, **change))
        check(status == 400, (change, text))
        error = json.loads(text)["error"]
        check(error["param"] == parameter and parameter in error["message"] or parameter == "max_tokens", (change, error))
        check(error["type"] == "invalid_request_error", error)
    error = s.get("/v1/chat/completions", dict(CHAT, model="gpt-4"), code=404)["error"]
    check(error["code"] == "model_not_found" and error["param"] == "model", error)
    for body in (b"", b"{", b"[]", b"5", b"{\"model\":\"demo\",\"model\":\"demo\"}", b"\xff\xfe", b"{\"model\":\"de\\u0000mo\"}"):
        status, _, text = s.call("/v1/chat/completions", body, method="POST")
        check(status == 400 and "error" in json.loads(text), (body, text))
    check(s.call("/v1/nothing")[0] == 404 and s.call("/v1/completions")[0] == 405)
    check(s.call("/v1/completions")[1]["Allow"] == "POST")
    error = json.loads(s.call("/v1/messages", {"model": "demo", "messages": CHAT["messages"]})[2])
    check(error["type"] == "error" and "max_tokens" in error["error"]["message"], error)
    # What asks for nothing is no reason to refuse.
    neutral = {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "logit_bias": {}, "logprobs": False,
               "top_logprobs": None, "min_tokens": 0, "tool_choice": "auto", "tools": [], "user": "me", "stop": None,
               "response_format": {"type": "text"}, "top_k": -1, "top_p": 1, "n": 1}
    s.get("/v1/chat/completions", dict(CHAT, **neutral))


def test_logit_rules(s):
    """Bias, penalties and min_tokens reach the engine."""
    def answer(**change):
        return s.get("/v1/completions", dict(STORY, temperature=0, **change))
    plain = answer()
    ids = s.get("/tokenize", {"prompt": plain["choices"][0]["text"]})["tokens"]
    forced = answer(logit_bias={str(ids[0]): 100}, ignore_eos=True, max_tokens=16)
    check(s.get("/tokenize", {"prompt": forced["choices"][0]["text"]})["tokens"].count(ids[0]) > 8, forced)
    barred = answer(logit_bias={str(i): -100 for i in set(ids)})
    check(set(s.get("/tokenize", {"prompt": barred["choices"][0]["text"]})["tokens"]).isdisjoint(ids), barred)
    check(answer(repetition_penalty=50)["choices"][0]["text"] != plain["choices"][0]["text"], "no repetition penalty")
    check(answer(presence_penalty=2, frequency_penalty=2)["choices"][0]["text"] != plain["choices"][0]["text"],
          "no penalties")
    short = s.get("/v1/chat/completions", CHAT)
    long = s.get("/v1/chat/completions", dict(CHAT, min_tokens=20, max_tokens=64))
    check(short["usage"]["completion_tokens"] < 20 <= long["usage"]["completion_tokens"], long)


def test_logprobs(s):
    """The numbers are those of the step that committed each token; a stream says what the whole reply says."""
    body = dict(STORY, logprobs=3, seed=5, temperature=0.8)
    whole = s.get("/v1/completions", body)
    said = whole["choices"][0]["logprobs"]
    check("".join(said["tokens"]) == whole["choices"][0]["text"], said)
    check(len(said["tokens"]) == whole["usage"]["completion_tokens"] == len(said["token_logprobs"]), said)
    check(all(p <= 0 for p in said["token_logprobs"]) and min(said["token_logprobs"]) < -0.01, said)
    for token, p, top in zip(said["tokens"], said["token_logprobs"], said["top_logprobs"]):
        check(top[token] == p and 3 <= len(top) <= 4 and sum(math.exp(x) for x in top.values()) < 1.001, top)
    documents, _ = s.events("/v1/completions", dict(body, unmask={"events": "steps"}))
    parts = [d["choices"][0]["logprobs"] for d in documents if d["choices"] and d["choices"][0]["logprobs"]]
    check(len(parts) > 3, parts)
    for name in said:
        check(sum((p[name] for p in parts), []) == said[name], name)
    # At temperature 0 a commit's probability is exp of its log-probability.
    documents, _ = s.events("/v1/completions", dict(STORY, logprobs=0, unmask={"events": "steps"}))
    seen = {c["position"]: c["probability"] for d in documents for c in d.get("unmask", {}).get("step", {}).get("changes", [])}
    numbers = sum((d["choices"][0]["logprobs"]["token_logprobs"] for d in documents if d["choices"][0]["logprobs"]), [])
    check(all(abs(math.exp(p) - seen[i]) < 1e-4 for i, p in enumerate(numbers)) and len(numbers) == 64, numbers)
    chat = s.get("/v1/chat/completions", dict(CHAT, logprobs=True))["choices"][0]
    check("".join(t["token"] for t in chat["logprobs"]["content"]) == chat["message"]["content"], chat)
    check(all(t["top_logprobs"] == [] for t in chat["logprobs"]["content"]), chat)
    check(s.get("/v1/chat/completions", CHAT)["choices"][0]["logprobs"] is None)
    error = s.get("/v1/completions", dict(STORY, logprobs=1, n=128, block=1024, max_tokens=2000), code=400)["error"]
    check(error["param"] == "logprobs" and "2048 MiB" in error["message"], error)
    cut = s.get("/v1/completions", dict(body, stop=whole["choices"][0]["text"][9:12]))["choices"][0]
    tokens = "".join(cut["logprobs"]["tokens"])
    check(tokens.startswith(cut["text"]) and len(tokens) < len(cut["text"]) + 12, cut)


def test_suffix(s):
    """What is written between two texts: the program says the same."""
    fill = dict(STORY, prompt="Once upon a", suffix=" was happy.", max_tokens=12)
    words = ["--raw", "-p", fill["prompt"], "--max-tokens", "12"]
    reply = s.get("/v1/completions", fill)
    check(reply["choices"][0]["text"] == program_text(*words, "--suffix", fill["suffix"]), reply)
    check(reply["choices"][0]["text"] != program_text(*words), "the suffix changes nothing")
    ids = [s.get("/tokenize", {"prompt": fill[name]})["tokens"] for name in ("prompt", "suffix")]
    check(reply["usage"]["prompt_tokens"] == len(ids[0]) + len(ids[1]), reply["usage"])
    check(s.get("/v1/completions", dict(fill, suffix=ids[1]))["choices"] == reply["choices"])
    documents, _ = s.events("/v1/completions", fill)
    check(text_of(documents) == reply["choices"][0]["text"], documents)
    # Without max_tokens it writes what the block of 32 still holds.
    reply = s.get("/v1/completions", dict(fill, max_tokens=None, ignore_eos=True))
    check(reply["usage"]["completion_tokens"] == 32 - len(ids[0]) - len(ids[1]), reply["usage"])
    check(s.get("/v1/completions", dict(STORY, suffix=""))["choices"] == s.get("/v1/completions", STORY)["choices"])
    s.get("/v1/completions", dict(fill, max_tokens=90, block=128))
    error = s.get("/v1/completions", dict(fill, max_tokens=90), code=400)["error"]
    check(error["param"] == "suffix" and "block of 32" in error["message"], error)
    for wrong in (5, [], ["x"], [-1], [5000]):
        check(s.get("/v1/completions", dict(fill, suffix=wrong), code=400)["error"]["param"] == "suffix", wrong)


def test_prefix_cache(s):
    """A beginning that was there before is not computed again, and changes nothing."""
    body = dict(STORY, prompt=" ".join("story %d" % i for i in range(200)), max_tokens=16)
    first, second = (s.get("/v1/completions", body) for _ in range(2))
    check(first["choices"][0]["text"] == second["choices"][0]["text"], "another answer")
    cached = [u["usage"]["prompt_tokens_details"]["cached_tokens"] for u in (first, second)]
    check(cached[0] == 0 < cached[1] <= second["usage"]["prompt_tokens"], cached)
    check(s.metric("unmask_pages", state="cached") > 0, "no page is cached")


def test_disconnects(s):
    """A client that leaves frees its pages within one step, whether it streams or waits."""
    long = dict(STORY, max_tokens=2000, ignore_eos=True)
    for stream in (True, False):
        before = s.metric("unmask_steps_total")
        body = json.dumps(dict(long, stream=stream)).encode()
        connection = socket.create_connection((s.host, s.port))
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        while s.metric("unmask_pages", state="used") == 0 or s.metric("unmask_steps_total") < before + 3:
            time.sleep(0.005)
        connection.close()
        closed = s.metric("unmask_steps_total")
        s.wait_idle()
        check(s.metric("unmask_steps_total") <= closed + 3, "steps went on")
    check(s.metric("unmask_http_replies_total", status="499") >= 2)


def test_broken_http(s):
    for data in (b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100000 + b"\r\n\r\n", b"\0" * 1000):
        reply = s.raw(data, half_close=True)
        check(reply == b"" or reply.startswith(b"HTTP/1."), reply[:100])
    reply = s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n")
    check(b" 413 " in reply.split(b"\r\n")[0], reply)
    s.get("/health")


def test_page(s):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, headers, text = s.call(path)
        check(status == 200 and headers["Content-Type"].startswith(kind) and text, path)
        check("default-src 'none'" in headers["Content-Security-Policy"], headers)
        check("http://" not in text.replace("http://www.w3.org/", "") and "https://" not in text, "an outside address")


def test_same_under_load(s):
    """Answers do not depend on what else runs."""
    bodies = [dict(STORY, prompt=p, seed=i, temperature=t, max_tokens=40) for i, (p, t) in enumerate(
        (p, t) for p in ("The cat", "A dog and", "Once", "In the garden there") for t in (0, 1.0))]
    alone = [s.get("/v1/completions", b)["choices"][0]["text"] for b in bodies]
    together = [None] * len(bodies)

    def ask(i):
        together[i] = s.get("/v1/completions", bodies[i])["choices"][0]["text"]
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(alone == together, (alone, together))


def tests_of_one_server():
    with Service("--timeout", "10") as s: # what is half open is cut off after that
        for test in (test_answers, test_streams, test_steps, test_stops, test_editing, test_formats, test_constraint_cache, test_logit_rules,
                     test_logprobs, test_suffix, test_best_of, test_prefix_cache, test_refusals, test_disconnects, test_broken_http, test_page, test_same_under_load):
            test(s)
            s.wait_idle()
            print("ok", test.__name__, flush=True)
    lines = [json.loads(line) for line in s.log.splitlines()]
    check(all({"time", "path", "status", "ms"} <= set(line) or line.get("level") for line in lines), "the log")


def test_options():
    with tempfile.TemporaryDirectory() as folder:
        config, log = os.path.join(folder, "unmask.conf"), os.path.join(folder, "log")
        with open(config, "w") as file:
            file.write("# a comment\nserved-model-name = from-file\nmax-body-bytes = 1024\nlog=%s\n" % log)
        with Service("--config", config, environment={"UNMASK_API_KEY": "secret",
                                                      "UNMASK_SERVED_MODEL_NAME": "from-environment"}) as s:
            key = {"Authorization": "Bearer secret"}
            check(json.loads(s.call("/v1/models", headers=key)[2])["data"][0]["id"] == "from-environment")
            check(s.call("/v1/models", headers={"x-api-key": "secret"})[0] == 200)
            for wrong in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "Bearer secrets"}, {"x-api-key": ""}):
                check(s.call("/v1/models", headers=wrong)[0] == 401, wrong)
            check(s.call("/metrics")[0] == 401 and s.call("/health")[0] == 200 and s.call("/")[0] == 200)
            check(s.call("/tokenize", b"{\"prompt\": \"%s\"}" % (b"x" * 2000), headers=key)[0] == 413)
            os.rename(log, log + ".1")
            s.process.send_signal(signal.SIGHUP)
            end = time.time() + 10
            while not os.path.exists(log) and time.time() < end:
                time.sleep(0.02)
            s.call("/health")
            time.sleep(0.1)
            with open(log) as file:
                check("/health" in file.read(), "the new log")
    for arguments, environment, says in ((["--port", "x"], {}, "--port"), ([], {"UNMASK_PORT": "70000"}, "UNMASK_PORT"),
                                         (["--tls-cert", "x"], {}, "tls-key"), (["--host", "no.such.host.invalid"], {}, "--host"),
                                         (["--config", "/nonexistent"], {}, "/nonexistent")):
        done = subprocess.run([PROGRAM, "serve", "-m", DEMO] + arguments, capture_output=True, timeout=60,
                              env=dict(os.environ, **environment))
        check(done.returncode in (1, 2) and says in done.stderr.decode(), (arguments, done))
    print("ok test_options", flush=True)


def test_queue_and_drain():
    """Too many are told to come back; SIGTERM loses no accepted request."""
    s = Service("--max-queue", "3")
    body = dict(STORY, max_tokens=400, ignore_eos=True)
    replies = []

    def ask():
        replies.append(s.call("/v1/completions", body)[::2])
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    while json.loads(s.call("/health")[2])["requests"] < 3:
        time.sleep(0.005)
    status, headers, text = s.call("/v1/completions", body)
    check(status == 429 and "Retry-After" in headers and json.loads(text)["error"]["type"] == "rate_limit_error", text)
    idle = s.connect()
    idle.request("GET", "/health")
    idle.getresponse().read()
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    idle.request("POST", "/v1/completions", json.dumps(body))
    check(idle.getresponse().status == 503, "a request after SIGTERM")
    idle.close()
    for t in threads:
        t.join()
    check(s.wait() == 0, "the exit code")
    check([status for status, _ in replies] == [200] * 3, replies)
    check(all(json.loads(text)["usage"]["completion_tokens"] == 400 for _, text in replies), "cut short")
    # A second signal does not wait.
    s = Service()
    thread = threading.Thread(target=lambda: s.call("/v1/completions", dict(body, max_tokens=4000)))
    thread.start()
    while json.loads(s.call("/health")[2])["requests"] < 1:
        time.sleep(0.005)
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    check(s.stop() == 0, "the second signal")
    thread.join()
    print("ok test_queue_and_drain", flush=True)


def test_slow_clients():
    with Service("--timeout", "1") as s:
        began = time.time()
        check(s.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n") is not None and time.time() - began < 20, "half a header")
        # A stream whose reader takes nothing: cut off, and its pages are back.
        body = json.dumps(dict(STORY, max_tokens=3500, ignore_eos=True, threshold=0.1, stream=True, unmask={"events": "steps"})).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((s.host, s.port))
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        s.wait_idle(120)
        connection.close()
    print("ok test_slow_clients", flush=True)


if __name__ == "__main__":
    tests_of_one_server()
    test_tools()
    test_options()
    test_queue_and_drain()
    test_slow_clients()
