"""Malformed requests, made from valid ones: each is a function of a random.Random alone, so that any can be made again.

batch(draw) gives (kind, [bytes], is_framed): framed requests keep HTTP's frame, and go down one connection one after
another; of others each needs a connection of its own.
"""
import json

# A low threshold decides a block in few forwards: what is valid after all costs little.
SHORT = {"model": "demo", "prompt": "The cat", "max_tokens": 2, "temperature": 0, "threshold": 0.01}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "threshold": 0.01}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {
    "type": "object", "properties": {"a": {"enum": ["b", "c"]}, "n": {"type": "integer", "minimum": 0}},
    "required": ["a"], "additionalProperties": False}}}
SEEDS = [
    ("/v1/completions", SHORT),
    ("/v1/completions", dict(SHORT, prompt=[5, 6, 7], stream=True, stream_options={"include_usage": True},
                             unmask={"events": "steps"}, seed=1, top_k=-1, top_p=1, stop=["a", "b"], stop_token_ids=[3])),
    ("/v1/completions", dict(SHORT, prompt=["a", "b"], n=2, echo=True, logit_bias={"5": 1}, frequency_penalty=0.1,
                             presence_penalty=0.1, repetition_penalty=1.1, min_tokens=1, user="u")),
    ("/v1/completions", dict(SHORT, policy="edit", threshold=0.5, edit_threshold=0.5, block=32, ignore_eos=True)),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", dict(CHAT, stream=True, response_format=SCHEMA, max_tokens=24, temperature=1.0, seed=2)),
    ("/v1/chat/completions", dict(CHAT, messages=[{"role": "system", "content": "x"}, {"role": "user", "content": [
        {"type": "text", "text": "y"}]}, {"role": "assistant", "content": "z"}, {"role": "user", "content": "w"}])),
    ("/v1/chat/completions", dict(CHAT, tools=[TOOL], tool_choice="auto", chat_template_kwargs={"a": 1})),
    ("/v1/messages", dict(CHAT, system="s", stop_sequences=["x"], metadata={"user_id": "u"}, stream=True)),
    ("/tokenize", {"model": "demo", "prompt": "a text"}),
    ("/detokenize", {"model": "demo", "tokens": [1, 2, 3, 4]}),
]
NAMES = """model messages system tools tool_choice chat_template_kwargs prompt suffix max_tokens max_completion_tokens n
seed stop stop_sequences stop_token_ids stream stream_options unmask echo user metadata response_format temperature top_p
min_p top_k policy threshold edit_threshold low_threshold factor entropy_bound eps alg_temp credit_alpha credit_beta
credit_gamma block_add block_ready cfg steps post_steps block sub_block window remask metric cache ignore_eos logprobs
top_logprobs logit_bias frequency_penalty presence_penalty repetition_penalty min_tokens best_of store tokens text
parallel_tool_calls unknown""".split()
WORDS = """threshold schedule edit origin maskgit margin entropy sequential static dynamic entropy-bound factor hierarchy
credit first-hitting multi-block levenshtein exact none prefix dual random auto required json_object text user assistant
<|mask|> ___ demo steps tool_call""".split()
TEXTS = ["", "x", "\0", "\ud800", "\U0001f4a5" * 50, "a" * 5000, "\u202e\ufeff", "../../etc/passwd", "%n%s%x", "{{", "{%",
         "\x7f\x1b[31m", "5", "true", "null", "/tmp/x.so"]
NUMBERS = [0, -1, 1, 2, 3, 129, 4096, 2**31 - 1, 2**31, -2**31, 2**32, 2**53, 2**63 - 1, -2**63, 1e308,
           -1e308, 5e-324, -0.0, 0.5, 1.0000001, 1e18]
# What json.dumps can not write; they take the place of a string that can not occur.
LITERALS = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"01", b"+1", b".5", b"5.", b"0x10", b"1" * 400, b"tru", b"'a'",
            b"\"\\u12\"", b"\"\\x\"", b"\"\n\"", b"[1,]", b"{,}", b"{\"a\" 1}", b"{\"a\":1,\"a\":2}", b"18446744073709551616",
            b"\"\xff\"", b"\"\xed\xa0\x80\"", b"\"\xc0\x80\"", b"[" * 3000, b"[" * 200 + b"]" * 200, b"", b"/**/1", b"\"\0\""]
MARK = "\x01mark\x01"


def frame(path, body, method=b"POST", more=b""):
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (method, path.encode(), more, len(body), body)


def write(value):
    return json.dumps(value, ensure_ascii=True).encode()


def odd_value(draw, depth=0):
    kind = draw.randrange(12)
    if kind < 3:
        return draw.choice(NUMBERS)
    if kind < 5:
        return draw.choice(TEXTS)
    if kind == 5:
        return draw.choice(WORDS)
    if kind == 6:
        return draw.choice([None, True, False])
    if kind == 7:
        return MARK
    if kind == 8:
        return [odd_value(draw, depth + 1) for _ in range(draw.choice([0, 1, 2, 20]))] if depth < 3 else []
    if kind == 9:
        return {draw.choice(NAMES + TEXTS): odd_value(draw, depth + 1) for _ in range(draw.choice([0, 1, 3]))} if depth < 3 else {}
    if kind == 10:
        return draw.uniform(-2, 2)
    return draw.choice([[0] * 300, [[]] * 50, ["a"] * 200, {str(i): i for i in range(100)}, [None], [[5, 6], "x"]])


def places(value, path=()):
    """Every place in a document, as the keys that lead there."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield path + (key,)
        yield from places(value[key], path + (key,))


def with_odd_values(draw, document):
    document = json.loads(json.dumps(document))
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        found = list(places(document))
        if not found or draw.random() < 0.5:
            document[draw.choice(NAMES)] = odd_value(draw)
            continue
        *path, last = draw.choice(found)
        place = document
        for key in path:
            place = place[key]
        if draw.random() < 0.15:
            del place[last]
        else:
            place[last] = odd_value(draw)
    data = write(document)
    while write(MARK) in data:
        data = data.replace(write(MARK), draw.choice(LITERALS), 1)
    return data


def break_bytes(draw, data, n_times=None):
    data = bytearray(data)
    for _ in range(n_times or draw.choice([1, 1, 2, 4, 16])):
        at, kind, length = draw.randrange(len(data) + 1), draw.randrange(7), draw.choice([1, 2, 8, 64])
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at:at + length]
        elif kind == 2:
            data[at:at] = data[at:at + length] * draw.choice([1, 1, 30])
        elif kind == 3:
            data[at:at] = bytes(draw.randrange(256) for _ in range(length))
        elif kind == 4:
            data[at:at] = draw.choice([b"\0", b"\r\n", b"\n", b"\r", b" ", b":", b"\"", b"{", b"}", b"[", b",", b"\\", b"\xff"])
        elif kind == 5:
            del data[at:]
        elif data:
            other = draw.randrange(len(data))
            data[at:at + length] = data[other:other + length]
    return bytes(data)


HEADERS = [b"Content-Length: -1", b"Content-Length: abc", b"Content-Length: 18446744073709551616", b"Content-Length: 5\r\nContent-Length: 6",
           b"Content-Length: 99999999", b"Content-Length: 1e3", b"Content-Length:", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked",
           b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"Expect: 100-continue", b"Expect: nothing", b"Connection: upgrade\r\nUpgrade: websocket",
           b"no colon here", b": no name", b"A : b", b" folded", b"X: " + b"a" * 70000, b"Authorization: " + b"\xff" * 100, b"X: \0",
           b"Host: y", b"Range: bytes=0-", b"Cookie: " + b";" * 1000, b"\r\n".join(b"X%d: y" % i for i in range(500)), b"Content-Type: x/y"]
METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"get", b"", b"P\0ST", b"\xff", b"A" * 3000]
PATHS = [b"/", b"*", b"", b"//", b"/v1/models/demo", b"/v1/models/%00", b"/v1/models/" + b"x" * 9000, b"/v1/completions?x=%zz&&=&y", b"/../../etc/passwd",
         b"/%2e%2e/%ff", b"http://x/health", b"/health#x", b"/v1/completions/", b"/page.js", b"/metrics", b"/health", b"/v1/\0"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP", b"", b"HTTP/1.1 HTTP/1.1", b"http/1.1"]
CHUNKS = [b"zz\r\n", b"-1\r\nx\r\n", b"5\r\nabc", b"ffffffffffffffffff\r\n", b"5;ext=\"\r\nabcde\r\n0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"3\r\n{}", b"\r\n"]


def broken_http(draw):
    """A request whose frame is wrong, in a field or anywhere."""
    path, document = draw.choice(SEEDS)
    body = write(document)
    if draw.random() < 0.4:
        return break_bytes(draw, frame(path, body))
    method = draw.choice(METHODS) if draw.random() < 0.5 else b"POST"
    target = draw.choice(PATHS) if draw.random() < 0.5 else path.encode()
    version = draw.choice(VERSIONS) if draw.random() < 0.3 else b"HTTP/1.1"
    headers = [b"Host: x"] * (draw.random() < 0.9) + draw.sample(HEADERS, draw.choice([0, 1, 1, 2]))
    if draw.random() < 0.5:
        headers.append(b"Content-Length: %d" % (len(body) + draw.choice([0, 0, -1, 1, -10, 1000])))
    if any(b"chunked" in h for h in headers):
        body = draw.choice([b"", b"%x\r\n%s\r\n" % (len(body), body)]) + draw.choice(CHUNKS)
    end = draw.choice([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])
    return b" ".join([method, target, version]) + end + b"".join(h + end for h in headers) + end + body


def framed(draw):
    path, document = draw.choice(SEEDS)
    kind = draw.randrange(20)
    if kind < 9:
        return frame(path, with_odd_values(draw, document))
    if kind < 17:
        return frame(path, break_bytes(draw, write(document)))
    if kind == 17: # a good body at the wrong place
        return frame(draw.choice(SEEDS)[0], write(document))
    if kind == 18:
        return frame(path + draw.choice(["/", "x", "%41"]), write(document))
    return frame(path, break_bytes(draw, b"", 8), draw.choice([b"PUT", b"DELETE", b"POST", b"PATCH"]))


def batch(draw):
    kind = draw.randrange(10)
    if kind < 7:
        return "framed", [framed(draw) for _ in range(64)], True
    if kind < 9:
        return "http", [broken_http(draw) for _ in range(64)], False
    return "bytes", [break_bytes(draw, b"\x16\x03\x01" * (draw.random() < 0.3), draw.choice([1, 8, 64])) or b"\0" for _ in range(64)], False
