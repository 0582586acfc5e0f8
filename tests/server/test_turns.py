"""A conversation of several turns: each prefills what is new alone, and says bit for bit what a server without a
cache of prefixes says."""
import sys

sys.dont_write_bytecode = True
from service import Service, check

STORY = " ".join("The %s dog saw ball %d." % (w, i) for i in range(12) for w in ("big", "red", "little"))
QUESTIONS = [STORY + " What is 12 + 30?", "Tell me more about the dog.", "And what is 7 + 8?", "Good. Tell me a story."]
BLOCK = 32 # of the bundled model, and the length of a page


def answer_of(s, body):
    """Text, steps with their probabilities, usage."""
    documents, last = s.events("/v1/chat/completions", dict(body, stream_options={"include_usage": True},
                                                            unmask={"events": "steps"}))
    check(last == "[DONE]", last)
    text = "".join(c["delta"].get("content") or "" for d in documents for c in d["choices"])
    return text, [d["unmask"]["step"] for d in documents if "step" in d.get("unmask", {})], documents[-1]["usage"]


def test_conversation(plain, cached, **more):
    messages, before = [], 0
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        body = dict({"model": "demo", "messages": messages, "max_tokens": 96}, **more)
        text, steps, usage = answer_of(plain, body)
        check(usage["prompt_tokens_details"]["cached_tokens"] == 0, usage)
        rows = cached.metric("unmask_rows_total", kind="prefill")
        text_2, steps_2, usage_2 = answer_of(cached, body)
        rows = cached.metric("unmask_rows_total", kind="prefill") - rows
        check(text == text_2 and steps == steps_2, (text, text_2, more))
        known = usage_2["prompt_tokens_details"]["cached_tokens"]
        # All whole blocks of what was there before, and nothing that was not; the rest is prefilled, up to the open block.
        check(before // BLOCK * BLOCK - BLOCK <= known <= usage_2["prompt_tokens"], (before, usage_2))
        check(rows == usage_2["prompt_tokens"] // BLOCK * BLOCK - known, (rows, usage_2))
        before = usage_2["prompt_tokens"] + usage_2["completion_tokens"]
        messages.append({"role": "assistant", "content": text})
    check(known > 2 * BLOCK, "nothing was known: the test shows nothing")


if __name__ == "__main__":
    with Service("--prefix-cache", "off") as plain, Service() as cached:
        test_conversation(plain, cached)
        test_conversation(plain, cached, temperature=1.0, seed=11)
        test_conversation(plain, cached, policy="edit", threshold=0.5, edit_threshold=0.5)
        check(plain.metric("unmask_cached_tokens_total") == 0 and plain.metric("unmask_pages", state="cached") == 0)
    print("ok test_conversation")
