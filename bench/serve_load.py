"""Acceptance under load: many streams for minutes on the bundled model, a third of which leave at random moments.

    python3 bench/serve_load.py build/unmask . [--clients 200] [--seconds 600] [--seed 1] [--requests 240]

Each client asks for one request after another out of a fixed set: prompts of 1 to 3,000 tokens, all routes, greedy and
drawn, edits, rules, schemas, several choices, streams with and without steps. It fails unless: every request that was
not abandoned is answered with 200 and to its end; all answers to a request are equal, and equal to what another
server, with one thread and without a cache of prefixes, gives to it alone; pages, file descriptors, threads and
resident bytes are afterwards what they were before; memory is flat meanwhile. Leaves with 1 where it fails.
"""
import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(HERE, "support"), os.path.join(HERE, "..", "tests", "server")]
from service import Service, check
from streams import ask

WORDS = "the a dog cat ball garden sun and then she he was happy ran to play with little big red".split()
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "mood": {"enum": ["good", "bad"]}},
          "required": ["name", "mood"], "additionalProperties": False}
WARM_SECONDS, TIMEOUT_SECONDS, SLACK_KIB = 60, 20, 4096
LEAVING = 0.43 # some of these get their answer first; a third leaves


def make_requests(s, n, seed):
    """(path, body) of n requests. A third of the prompts begin alike, so that beginnings are shared."""
    draw, found = random.Random(seed), []

    def ids_of(length, words):
        return s.get("/tokenize", {"prompt": " ".join(words.choice(WORDS) for _ in range(length + 8))})["tokens"][:length]
    common = ids_of(3000, random.Random(0))
    for i in range(n):
        length = (1, 3000)[i] if i < 2 else round(3000 ** draw.random())
        ids = common[:length] if i % 3 == 0 else ids_of(length, draw)
        body = {"model": "demo", "prompt": ids, "max_tokens": draw.choice([1, 8, 32, 64, 128]), "seed": draw.randrange(1000)}
        path, kind = "/v1/completions", i % 8
        if kind in (1, 2):
            body["temperature"] = 1.0
        if kind == 2:
            body.update(top_p=0.9, top_k=50, ignore_eos=True)
        if kind == 3:
            body.update(policy="edit", threshold=0.5, edit_threshold=0.5)
        if kind == 4:
            body.update(stop=draw.choice(WORDS), n=3, temperature=0.7)
        if kind == 5:
            body.update(frequency_penalty=0.5, logit_bias={str(ids[0]): 2}, min_tokens=8, max_tokens=64)
        if kind >= 6: # conversations
            del body["prompt"]
            text = " ".join(draw.choice(WORDS) for _ in range(min(length, 2000)))
            body["messages"] = [{"role": "user", "content": text}]
            path = "/v1/messages" if i % 8 == 7 and i % 16 >= 8 else "/v1/chat/completions"
        if kind == 6:
            body.update(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                        max_tokens=64, threshold=0.5, temperature=1.0)
        body["stream"] = draw.random() < 0.8
        if body["stream"] and path != "/v1/messages":
            body["stream_options"] = {"include_usage": True}
            if draw.random() < 0.3:
                body["unmask"] = {"events": "steps"}
        found.append((path, body))
    return found


def essence(path, body, reply):
    """What must be equal: texts, ends, every step with its probabilities, numbers of tokens and forwards."""
    check(reply.status == 200 and reply.is_whole, "status %d, %s: %s" % (
        reply.status, "whole" if reply.is_whole else "cut off", reply.body()[:300]))
    if not body["stream"]:
        document = json.loads(reply.body())
        if path == "/v1/messages":
            return document["content"], document["stop_reason"], document["usage"]["output_tokens"]
        choices = [(c.get("text"), c.get("message"), c["finish_reason"], c.get("stop_reason")) for c in document["choices"]]
        usage = document["usage"]
        return choices, usage["completion_tokens"], usage["forwards"]
    documents = [document for _, document in reply.events()]
    check(not any("error" in d for d in documents if d != "[DONE]"), documents[-1])
    if path == "/v1/messages":
        check(documents[-1]["type"] == "message_stop", documents[-1])
        text = "".join(d["delta"].get("text", "") for d in documents if d["type"] == "content_block_delta")
        end = [d for d in documents if d["type"] == "message_delta"][0]
        return text, end["delta"]["stop_reason"], end["usage"]["output_tokens"]
    check(documents.pop() == "[DONE]", "a stream without its end")
    choices, steps = {}, []
    for d in documents:
        for c in d["choices"]:
            text, end = choices.get(c["index"], ("", None))
            more = c["text"] if "text" in c else c["delta"].get("content") or ""
            choices[c["index"]] = (text + more, c["finish_reason"] or end)
        if "step" in d.get("unmask", {}):
            steps.append((d["choices"][0]["index"] if d["choices"] else 0, d["unmask"]["step"]))
    usage = documents[-1]["usage"]
    return choices, sorted(steps, key=lambda s: (s[0], s[1]["forward"])), usage["completion_tokens"], usage["forwards"]


class Load:
    def __init__(self, s, requests, seed):
        self.s, self.requests, self.seed = s, requests, seed
        self.kept, self.faults, self.memory = {}, [], []
        self.n_answers = self.n_left = 0
        self.began = time.monotonic()
        self.latency = 1.0 # about how long an answer takes: what a random moment is chosen from

    async def one(self, draw):
        i = draw.randrange(len(self.requests))
        path, body = self.requests[i]
        began = time.monotonic()
        if draw.random() < LEAVING:
            cut = draw.randrange(len(json.dumps(body))) if draw.random() < 0.1 else None
            reply = await ask(self.s.port, path, body, draw.random() * 1.3 * self.latency, cut, draw.random() < 0.5)
            self.n_left += not reply.is_whole
            if not reply.is_whole:
                return
        else:
            reply = await ask(self.s.port, path, body)
        self.latency += (time.monotonic() - began - self.latency) / 50
        found = essence(path, body, reply)
        check(self.kept.setdefault(i, found) == found, "request %d is answered in two ways: %r, %r" % (i, self.kept[i], found))
        self.n_answers += 1

    async def client(self, number, end):
        draw = random.Random("%d %d" % (self.seed, number))
        while time.monotonic() < end and not self.faults:
            try:
                await self.one(draw)
            except Exception as fault: # of any kind: it is what this program looks for
                self.faults.append("%r after %.1f s" % (fault, time.monotonic() - self.began))

    async def watch(self, end):
        began, said = time.monotonic(), 0
        while time.monotonic() < end and not self.faults:
            self.memory.append(self.s.memory_kib())
            if time.monotonic() - began >= said:
                print("%4d s: %6d answers, %6d left, %.1f s an answer, %d KiB" % (
                    time.monotonic() - began, self.n_answers, self.n_left, self.latency, self.memory[-1]), flush=True)
                said += 30
            await asyncio.sleep(1)

    def run(self, n_clients, seconds):
        async def all_of_them():
            end = time.monotonic() + seconds
            await asyncio.gather(self.watch(end), *(self.client(i, end) for i in range(n_clients)))
        asyncio.run(all_of_them())
        check(not self.faults, "%d faults: %s" % (len(self.faults), self.faults[:3]))
        self.s.wait_idle(120)


def state_of(s):
    """What must come back: pages that are not in use, descriptors, threads."""
    folder = "/proc/%d" % s.process.pid
    pages = s.metric("unmask_pages", state="free") + s.metric("unmask_pages", state="cached")
    return int(pages), len(os.listdir(folder + "/fd")), len(os.listdir(folder + "/task"))


def settle(s):
    """The state, once the last connection is gone: half a request whose client has left stays until the server's --timeout."""
    time.sleep(TIMEOUT_SECONDS + 2)
    return state_of(s)


def compare_alone(requests, kept):
    with Service("--log", os.devnull, "--prefix-cache", "off", "--threads", "1") as s:
        for i in sorted(kept):
            found = essence(*requests[i], asyncio.run(ask(s.port, *requests[i])))
            check(found == kept[i], "request %d alone: %r; under load: %r" % (i, found, kept[i]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("project")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    given, options = parser.parse_known_args() # what is not known goes to the server
    # A request that was left counts as running until the step that notices: the queue holds some of them besides.
    with Service("--log", os.devnull, "--timeout", str(TIMEOUT_SECONDS), "--max-queue",
                 str(2 * given.clients + 56), *options) as s:
        requests = make_requests(s, given.requests, given.seed)
        print("warming up", flush=True)
        warm = Load(s, requests, given.seed + 1)
        warm.run(given.clients, min(WARM_SECONDS, given.seconds / 3))
        before, memory_before = settle(s), s.memory_kib()
        load = Load(s, requests, given.seed)
        load.run(given.clients, given.seconds)
        after, memory_after = settle(s), s.memory_kib()
        statuses = {h: int(s.metric("unmask_http_replies_total", status=h)) for h in ("200", "499")}
        n_steps, n_back = s.metric("unmask_steps_total"), s.metric("unmask_preemptions_total")
        hits = s.metric("sglang:cache_hit_rate")
    third = len(load.memory) // 3
    middle, last = statistics.median(load.memory[third:2 * third]), statistics.median(load.memory[2 * third:])
    print("%d answers, %d left; replies %s; %d steps, %d put back, %d %% of prompts' tokens from the cache" % (
        load.n_answers, load.n_left, statuses, n_steps, n_back, 100 * hits))
    print("idle: %d KiB before, %d after; under load: median %d KiB in the middle third, %d in the last, %d at most" % (
        memory_before, memory_after, middle, last, max(load.memory)))
    print("pages, descriptors, threads: %s before, %s after" % (before, after))
    check(before == after, "something is left over")
    check(memory_after <= memory_before * 1.05 + SLACK_KIB, "memory did not come back")
    check(last <= middle * 1.02 + SLACK_KIB, "memory grows")
    check(load.n_left > load.n_answers / 5, "too few have left")
    for i, found in warm.kept.items():
        check(load.kept.setdefault(i, found) == found, "request %d is answered in two ways" % i)
    compare_alone(requests, load.kept)
    print("ok: %d different requests, each with the one answer that it gets alone" % len(load.kept))


if __name__ == "__main__":
    try:
        main()
    except AssertionError as fault:
        sys.exit("failed: %s" % fault)
