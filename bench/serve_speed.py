"""How requests share a server: what many get together, and what a long prompt costs those that run.

    python3 bench/serve_speed.py build/unmask . together --synthetic llada2-mini [-t q4_0] [--layers N] [--clients 1,8,32]
    python3 bench/serve_speed.py build/unmask . prompt [--synthetic SHAPE ...] [--max-step-ms 0,20,50]

together: tokens a second of one stream and of more, and how long one that comes while all others run waits for its first
chunk. Fails where the most streams get less than --at-least times what one gets (6), or where a newcomer waits for more
than three steps and what it waits alone. prompt: streams run while a prompt of --prompt tokens comes in; the time between
their steps before and meanwhile. Fails where 19 of 20 steps are not within --max-step-ms more than before. Without
--synthetic: the bundled model. Times are this program's own: each step is an event of its stream. Leaves with 1 where it
fails. Other options go to the server (--device cuda:0).
"""
import argparse
import asyncio
import os
import random
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(HERE, "support"), os.path.join(HERE, "..", "tests", "server")]
from service import DEMO, Service, check
from streams import ask


def start(given, *more):
    arguments = ["--log", os.devnull, "--prefix-cache", "off", *more, *given.options]
    if not given.synthetic:
        return Service(*arguments), "demo", 4096
    arguments += ["--synthetic", given.synthetic, "-t", given.type]
    if given.layers:
        arguments += ["--layers", str(given.layers)]
    return Service(*arguments, model=None), given.synthetic, 30000


def body_of(given, model, vocab, seed, n_prompt, max_tokens):
    draw = random.Random(seed)
    body = {"model": model, "prompt": [draw.randrange(10, vocab) for _ in range(n_prompt)], "max_tokens": max_tokens,
            "seed": seed, "ignore_eos": True, "stream": True, "unmask": {"events": "steps"},
            "stream_options": {"include_usage": True}}
    if given.steps:
        body.update(policy="schedule", steps=given.steps)
    return body


def step_times(reply):
    check(reply.status == 200 and reply.is_whole, (reply.status, reply.body()[:500]))
    return [t for t, d in reply.events() if d != "[DONE]" and "step" in d.get("unmask", {})]


def usage_of(reply):
    return [d for _, d in reply.events() if d != "[DONE]" and d.get("usage")][-1]["usage"]


def gaps(times):
    return [b - a for a, b in zip(times, times[1:])]


async def many(s, bodies):
    began = time.monotonic()
    replies = await asyncio.gather(*(ask(s.port, "/v1/completions", b) for b in bodies))
    return replies, time.monotonic() - began


async def join(s, running, newcomer):
    """The newcomer's wait for its first step while the others run, and the time of a step meanwhile."""
    tasks = [asyncio.create_task(ask(s.port, "/v1/completions", b)) for b in running]
    while s.metric("unmask_steps_total") < join.n_steps + 3:
        await asyncio.sleep(0.05)
    reply = await ask(s.port, "/v1/completions", newcomer)
    first = step_times(reply)[0]
    others = [step_times(r) for r in await asyncio.gather(*tasks)]
    meanwhile = [b - a for times in others for a, b in zip(times, times[1:]) if b > reply.sent_at and a < step_times(reply)[-1]]
    check(meanwhile, "the others had ended before the newcomer came")
    join.n_steps = s.metric("unmask_steps_total")
    return first - reply.sent_at, statistics.median(meanwhile)


def together(given):
    counts = [int(n) for n in given.clients.split(",")]
    tokens = given.prompt + given.tokens + 64
    s, model, vocab = start(given, "--cache-tokens", str((max(counts) + 1) * (tokens + 64)))
    speeds, faults = {}, []
    with s:
        def bodies(n, more=0):
            return [body_of(given, model, vocab, i, given.prompt, given.tokens + more) for i in range(n)]
        if given.pause:
            input("the model is loaded; a line starts the measurement: ")
        asyncio.run(many(s, bodies(1))) # memory is touched
        alone = None
        for n in counts:
            before = s.metric("unmask_steps_total")
            replies, seconds = asyncio.run(many(s, bodies(n)))
            n_tokens = sum(usage_of(r)["completion_tokens"] for r in replies)
            steps = s.metric("unmask_steps_total") - before
            speeds[n] = n_tokens / seconds
            times = [step_times(r) for r in replies]
            if alone is None:
                alone = times[0][0] - replies[0].sent_at
            print("%3d streams: %7.1f tokens a second, %5.2f times one; %4d steps of %7.1f ms (median), first chunk after %.2f s at most" % (
                n, speeds[n], speeds[n] / speeds[counts[0]], steps, 1e3 * statistics.median(g for t in times for g in gaps(t)),
                max(t[0] - r.sent_at for t, r in zip(times, replies))), flush=True)
        for n in counts[1:] if given.newcomer else ():
            join.n_steps = s.metric("unmask_steps_total")
            wait, step = asyncio.run(join(s, bodies(n - 1, 32), body_of(given, model, vocab, 99, given.prompt, 32)))
            print("one more beside %d: first chunk after %.0f ms; a step takes %.0f ms, alone it waits %.0f ms: %.1f steps" % (
                n - 1, 1e3 * wait, 1e3 * step, 1e3 * alone, (wait - alone) / step), flush=True)
            if wait > 3 * step + alone:
                faults.append("a newcomer waits too long beside %d" % (n - 1))
    if speeds[counts[-1]] < given.at_least * speeds[counts[0]]:
        faults.append("%d streams get %.2f times what one gets, expected %g" % (
            counts[-1], speeds[counts[-1]] / speeds[counts[0]], given.at_least))
    return faults


async def enter(s, running, newcomer):
    """Gaps between steps of those that run, before the newcomer and until its first step; how long that took."""
    tasks = [asyncio.create_task(ask(s.port, "/v1/completions", b)) for b in running]
    await asyncio.sleep(enter.lead_seconds)
    reply = await ask(s.port, "/v1/completions", newcomer)
    first = step_times(reply)[0]
    others = [step_times(r) for r in await asyncio.gather(*tasks)]
    check(min(t[-1] for t in others) > first, "streams ended before the prompt was in; more --tokens")
    pairs = [(a, b) for times in others[:1] for a, b in zip(times, times[1:])] # steps are common: one stream shows them
    before = [b - a for a, b in pairs if b < reply.sent_at][3:]
    return before, [b - a for a, b in pairs if b > reply.sent_at and b <= first], first - reply.sent_at


def prompt(given):
    faults, n = [], int(given.clients.split(",")[-1])
    for bound in (float(x) for x in given.max_step_ms.split(",")):
        room = (n + 1) * (given.tokens + 128) + given.prompt
        s, model, vocab = start(given, "--cache-tokens", str(room), *(["--max-step-ms", str(bound)] if bound else []))
        with s:
            running = [body_of(given, model, vocab, i, 16, given.tokens) for i in range(n)]
            enter.lead_seconds = given.lead
            for turn in range(2): # the first one teaches the engine what rows cost
                newcomer = body_of(given, model, vocab, 1000 + turn, given.prompt, 1)
                before, meanwhile, seconds = asyncio.run(enter(s, running, newcomer))
                usual, late = statistics.median(before), sorted(meanwhile)[int(0.95 * (len(meanwhile) - 1))]
                print("%s, %s: steps %6.1f ms before; %3d until the prompt is in, median %6.1f, 19 of 20 within %6.1f, longest %6.1f; in after %5.2f s" % (
                    "at most %3g ms" % bound if bound else "no bound", ("first time", "again")[turn], 1e3 * usual, len(meanwhile),
                    1e3 * statistics.median(meanwhile), 1e3 * late, 1e3 * max(meanwhile), seconds), flush=True)
                if bound and late > usual + bound / 1e3:
                    faults.append("--max-step-ms %g: steps of %.1f ms where they take %.1f" % (bound, 1e3 * late, 1e3 * usual))
    return faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("project")
    parser.add_argument("what", choices=["together", "prompt"])
    parser.add_argument("--synthetic")
    parser.add_argument("-t", "--type", default="q4_0")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--clients", help="numbers of streams (together: 1,8,32; prompt: 8)")
    parser.add_argument("--prompt", type=int, help="tokens of a prompt (together: 32; prompt: 3000)")
    parser.add_argument("--tokens", type=int, help="tokens of an answer (together: 64; prompt: 512)")
    parser.add_argument("--steps", type=int, default=8, help="forwards for a block; 0: as the model decides")
    parser.add_argument("--at-least", type=float, default=6)
    parser.add_argument("--newcomer", type=int, default=1)
    parser.add_argument("--pause", action="store_true", help="together: wait for a line before the measurement")
    parser.add_argument("--lead", type=float, default=1, help="seconds until the prompt comes")
    parser.add_argument("--max-step-ms", default="0,20,50,100")
    given, given.options = parser.parse_known_args() # what is not known goes to the server: --device, --threads
    is_prompt = given.what == "prompt"
    given.clients = given.clients or ("8" if is_prompt else "1,8,32")
    given.prompt = given.prompt or (3000 if is_prompt else 32)
    given.tokens = given.tokens or (512 if is_prompt else 64)
    faults = (prompt if is_prompt else together)(given)
    if faults:
        sys.exit("failed: " + "; ".join(faults))
    print("ok")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as fault:
        sys.exit("failed: %s" % fault)
