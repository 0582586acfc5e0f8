"""Many clients at once, a third of which leave at random. UNMASK_LOAD_SECONDS (10) and
UNMASK_LOAD_CLIENTS (12) make it longer; afterwards pages and memory are where they started."""
import json
import os
import random
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True
from service import Service, check

SECONDS = float(os.environ.get("UNMASK_LOAD_SECONDS", "10"))
CLIENTS = int(os.environ.get("UNMASK_LOAD_CLIENTS", "12"))
WORDS = "the a dog cat ball garden sun and then she he was happy ran to play with little big red".split()


def body_of(draw):
    kind = draw.randrange(4)
    n_words = draw.choice([1, 5, 30, 200] * 4 + [1500])
    body = {"model": "demo", "prompt": " ".join(draw.choice(WORDS) for _ in range(n_words)),
            "max_tokens": draw.choice([1, 8, 40, 70]), "seed": draw.randrange(1000), "stream": draw.random() < 0.7}
    if kind == 1:
        body["temperature"] = 1.0
    if kind == 2:
        body.update(policy="edit", threshold=0.5, edit_threshold=0.5)
    if kind == 3:
        body.update(stop=draw.choice(WORDS), n=draw.choice([1, 3]))
    return body


def texts(raw, is_stream):
    """The texts of a reply's choices, or None where it is not whole."""
    found = {}
    if not is_stream:
        for choice in json.loads(raw)["choices"]:
            found[choice["index"]] = choice["text"]
        return found
    if "data: [DONE]" not in raw:
        return None
    for line in raw.split("\n"):
        if line.startswith("data: {"):
            document = json.loads(line[6:])
            check("error" not in document, document)
            for choice in document["choices"]:
                found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return found


def leave(s, body, draw):
    """Sends a request, reads a little or nothing, and goes."""
    data = json.dumps(body).encode()
    with socket.create_connection((s.host, s.port), timeout=120) as c:
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data))
        c.sendall(data[:draw.randrange(len(data))] if draw.random() < 0.2 else data)
        c.settimeout(draw.choice([0.001, 0.05, 0.3]))
        try:
            for _ in range(draw.randrange(4)):
                c.recv(draw.choice([1, 100, 10000]))
        except (TimeoutError, ConnectionError):
            pass


def client(s, seed, end, kept, faults):
    draw = random.Random(seed)
    try:
        while time.time() < end:
            body = body_of(draw)
            if draw.random() < 1 / 3:
                leave(s, body, draw)
                continue
            status, _, raw = s.call("/v1/completions", body)
            check(status == 200, (status, raw))
            found = texts(raw, body["stream"])
            check(found is not None, "a stream without an end")
            kept.append((body, found))
    except Exception as fault:  # a thread's failure is the test's
        faults.append(repr(fault))


def load(s, seconds, seed):
    kept, faults, end = [], [], time.time() + seconds
    threads = [threading.Thread(target=client, args=(s, seed * 1000 + i, end, kept, faults)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not faults, faults[:3])
    s.wait_idle(60)
    return kept


if __name__ == "__main__":
    # One context of pages: the cache of prefixes has touched all of them before memory is looked at,
    # and requests are put back.
    with Service("--log", os.devnull, "--cache-tokens", "4096") as s:
        load(s, SECONDS / 2, 1)
        before = s.memory_kib()
        kept = load(s, SECONDS, 2)
        after = s.memory_kib()
        check(len(kept) >= 5, "only %d answers" % len(kept))
        check(after < before * 1.2 + 8192, "memory grew from %d to %d KiB" % (before, after))
        for body, found in kept[::max(1, len(kept) // 20)]:
            alone = texts(s.call("/v1/completions", body)[2], body["stream"])
            check(alone == found, (body, alone, found))
        print("ok: %d answers under load, memory %d to %d KiB" % (len(kept), before, after))
