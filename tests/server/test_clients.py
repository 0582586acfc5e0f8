"""The official Python clients of OpenAI and Anthropic. Skipped (77) where they are not installed: a
virtual environment with both of them, or UNMASK_CLIENTS_PYTHON naming its python, runs it."""
import json
import os
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
try:
    import anthropic
    import openai
except ImportError:
    python = os.environ.get("UNMASK_CLIENTS_PYTHON")
    if python and not os.environ.get("UNMASK_CLIENTS_TRIED"):
        sys.exit(subprocess.run([python] + sys.argv, env=dict(os.environ, UNMASK_CLIENTS_TRIED="1")).returncode)
    print("skipped: the packages openai and anthropic are not installed")
    sys.exit(77)


from service import TOOLS, Service, check, make_tool_model

QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


def test_chat(client, _s):
    reply = client.chat.completions.create(model="demo", messages=QUESTION)
    check(reply.choices[0].message.content == "12 + 30 = 42" and reply.choices[0].finish_reason == "stop", reply)
    check(reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens, reply.usage)
    check(reply.usage.prompt_tokens_details.cached_tokens >= 0)
    check(reply.usage.model_extra["tokens_per_forward"] > 1, reply.usage)


def test_stream(client, _s):
    stream = client.chat.completions.create(model="demo", messages=QUESTION, stream=True,
                                            stream_options={"include_usage": True},
                                            extra_body={"unmask": {"events": "steps"}})
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check(text == "12 + 30 = 42" and chunks[-1].usage.completion_tokens == 10, chunks)
    check(any("step" in (c.model_extra.get("unmask") or {}) for c in chunks), "no steps")


def test_completions(client, _s):
    whole = client.completions.create(model="demo", prompt=["Once upon", "The dog"], max_tokens=24, n=2, temperature=0)
    check(len(whole.choices) == 4 and whole.choices[0].text == whole.choices[1].text, whole)
    fill = client.completions.create(model="demo", prompt="Once upon a", suffix=" was happy.", max_tokens=12, temperature=0)
    check(fill.choices[0].text and fill.usage.completion_tokens <= 12, fill)
    cut = client.completions.create(model="demo", prompt="Once upon", max_tokens=24, temperature=0,
                                    stop=whole.choices[0].text[6:12])
    check(cut.choices[0].text == whole.choices[0].text[:whole.choices[0].text.index(whole.choices[0].text[6:12])], cut)


def test_logprobs(client, _s):
    reply = client.chat.completions.create(model="demo", messages=QUESTION, logprobs=True, top_logprobs=2)
    content = reply.choices[0].logprobs.content
    check("".join(t.token for t in content) == bytes(b for t in content for b in t.bytes).decode() == "12 + 30 = 42", reply)
    check(all(len(t.top_logprobs) == 2 and t.top_logprobs[0].logprob == t.logprob <= 0 for t in content), reply)
    chunks = list(client.chat.completions.create(model="demo", messages=QUESTION, logprobs=True, top_logprobs=2,
                                                 stream=True))
    check([t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content] == content, chunks)
    whole = client.completions.create(model="demo", prompt="Once upon", max_tokens=16, temperature=0, logprobs=2, echo=True)
    said = whole.choices[0].logprobs
    check("".join(said.tokens) == whole.choices[0].text and said.token_logprobs[0] is None, whole)
    check(all(whole.choices[0].text[at:].startswith(token) for at, token in zip(said.text_offset, said.tokens)), whole)
    check(said.token_logprobs[-1] == said.top_logprobs[-1][said.tokens[-1]], whole)


def test_json_schema(client, _s):
    schema = {"type": "object", "properties": {"animal": {"enum": ["cat", "dog"]}}, "required": ["animal"],
              "additionalProperties": False}
    reply = client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=32, response_format={
        "type": "json_schema", "json_schema": {"name": "pet", "schema": schema, "strict": True}})
    check(json.loads(reply.choices[0].message.content)["animal"] in ("cat", "dog"), reply)


def test_tools():
    """Calls that are forced, with both clients; the bundled model under a template that reads tools."""
    with tempfile.TemporaryDirectory() as folder:
        make_tool_model(folder)
        with Service("--served-model-name", "demo", model=folder) as s:
            client = openai.OpenAI(base_url="http://%s:%d/v1" % (s.host, s.port), api_key="x", max_retries=0)
            for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
                ask = dict(model="demo", messages=QUESTION, tools=TOOLS, tool_choice=choice, max_tokens=64, seed=1, temperature=1)
                call = client.chat.completions.create(**ask).choices[0].message.tool_calls[0]
                check(call.function.name in [t["function"]["name"] for t in TOOLS] and json.loads(call.function.arguments) is not None)
                chunks = list(client.chat.completions.create(stream=True, **ask))
                parts = [t for c in chunks for t in c.choices[0].delta.tool_calls or []]
                check("".join(t.function.arguments for t in parts) == call.function.arguments, parts)
            client = anthropic.Anthropic(base_url="http://%s:%d" % (s.host, s.port), api_key="x", max_retries=0)
            tools = [{"name": "weather", "description": "Tells the weather.", "input_schema": TOOLS[0]["function"]["parameters"]}]
            reply = client.messages.create(model="demo", max_tokens=64, messages=QUESTION, tools=tools, tool_choice={"type": "any"})
            check(reply.stop_reason == "tool_use" and reply.content[0].type == "tool_use", reply)
            check(reply.content[0].name == "weather" and reply.content[0].input["days"] in (1, 2, 3), reply)


def test_errors(client, _s):
    for change, kind, name in (({"model": "gpt-4"}, openai.NotFoundError, "model"),
                               ({"temperature": -1}, openai.BadRequestError, "temperature"),
                               ({"extra_body": {"foo": 1}}, openai.BadRequestError, "foo")):
        try:
            client.chat.completions.create(**dict({"model": "demo", "messages": QUESTION}, **change))
        except kind as error:
            check(error.body["param"] == name, error.body)
        else:
            raise AssertionError("%r was accepted" % change)


def test_cancel(client, s):
    stream = client.completions.create(model="demo", prompt="Once", max_tokens=2000, stream=True,
                                       extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    s.wait_idle()


def test_parallel(client, _s):
    found = []
    threads = [threading.Thread(target=lambda: found.append(client.chat.completions.create(
        model="demo", messages=QUESTION).choices[0].message.content)) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(found == ["12 + 30 = 42"] * 12, found)


def test_models(client, _s):
    check([m.id for m in client.models.list()] == ["demo"] and client.models.retrieve("demo").id == "demo")


def test_messages(s):
    client = anthropic.Anthropic(base_url="http://%s:%d" % (s.host, s.port), api_key="x", max_retries=0)
    reply = client.messages.create(model="demo", max_tokens=64, messages=QUESTION)
    check(reply.content[0].text == "12 + 30 = 42" and reply.stop_reason == "end_turn", reply)
    check(reply.usage.output_tokens == 10, reply.usage)
    with client.messages.stream(model="demo", max_tokens=64, messages=QUESTION) as stream:
        check("".join(stream.text_stream) == "12 + 30 = 42")
        check(stream.get_final_message().usage.output_tokens == 10)
    stopped = client.messages.create(model="demo", max_tokens=64, messages=QUESTION, stop_sequences=["= "])
    check(stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "= ", stopped)
    try:
        client.messages.create(model="claude", max_tokens=64, messages=QUESTION)
    except anthropic.NotFoundError as error:
        check(error.body["error"]["type"] == "not_found_error", error.body)
    else:
        raise AssertionError("an unknown model was accepted")


if __name__ == "__main__":
    with Service() as s:
        openai_client = openai.OpenAI(base_url="http://%s:%d/v1" % (s.host, s.port), api_key="x", max_retries=0)
        for test in (test_chat, test_stream, test_completions, test_logprobs, test_json_schema, test_errors, test_cancel, test_parallel,
                     test_models):
            test(openai_client, s)
            print("ok", test.__name__, flush=True)
        test_tools()
        print("ok test_tools", flush=True)
        test_messages(s)
        print("ok test_messages", flush=True)
