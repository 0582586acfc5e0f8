"""Writes tests/data/scores/<model>.json: likelihood bounds of random answers under random masks.

    REFERENCE_CODE=<authors' files> python score_cases.py
Sample s of N masks ((floor(u0 n) + floor(s n / N)) mod n) + 1 of a block's n positions, a random subset of
that size; see score_reference.py for what is computed. The full-attention cases of `llada` are checked against
LLaDA's own get_log_likelihood(), whose random numbers are set to give the same masks."""
import json
import os
import random

import torch

import canvas_common as cc
from score_reference import Scorer

SCORES = os.path.join(cc.HERE, "..", "..", "tests", "data", "scores")

# model -> block, (prompt length, answer length, samples)
CASES = {
    "llada": (0, [(21, 30, 8), (5, 1, 2), (40, 17, 4)]),
    "dream": (0, [(21, 30, 8), (9, 12, 4), (1, 5, 3)]),
    "llada2_moe": (32, [(21, 60, 8), (32, 32, 4), (64, 5, 3), (40, 90, 4)]),
    "fast_dllm_v2": (32, [(21, 60, 8), (32, 40, 4), (64, 1, 2), (31, 34, 4)]),
}


def masks(generator, u0, n, s, n_samples, first):
    if not n:
        return []
    k = (int(u0 * n) + s * n // n_samples) % n + 1
    return sorted(first + i for i in generator.sample(range(n), k))


def check_with_llada(scorer, case):
    """LLaDA's get_log_likelihood() on the sample's mask: batch of one, one sample."""
    module = cc.import_code("llada", ["get_log_likelihood"], cc.LLADA_REPLACE)[0]
    n = len(case["answer_ids"])
    model = type("Model", (), dict(device="cpu", __call__=lambda self, x: type("Output", (), dict(logits=scorer.rows(x)))))()
    for sample in case["samples"]:
        masked = sample["masked"][0]
        order = torch.zeros(n, dtype=torch.long)  # position of the answer -> index; indexes below k are masked
        order[masked] = torch.arange(len(masked))
        order[[i for i in range(n) if i not in masked]] = torch.arange(len(masked), n)
        saved = torch.randint, torch.randperm
        torch.randint, torch.randperm = lambda *a, **k: torch.tensor(len(masked)), lambda *a, **k: order
        try:
            value = module.get_log_likelihood(model, torch.tensor(case["prompt_ids"]), torch.tensor(case["answer_ids"]), mc_num=1, batch_size=1, mask_id=scorer.mask)
        finally:
            torch.randint, torch.randperm = saved
        assert abs(value - sample["log_likelihood"]) < 1e-3 + 1e-6 * abs(value), (value, sample)


def main():
    os.makedirs(SCORES, exist_ok=True)
    for name, (block, sizes) in CASES.items():
        scorer, cases = Scorer(cc.model_folder(name), block), []
        for i, (n_prompt, n_answer, n_samples) in enumerate(sizes):
            generator = random.Random(100 * i + len(name))
            ids = cc.random_prompt(n_prompt + n_answer, 512, 600 + 10 * i)
            spans, u0, samples = scorer.spans(n_prompt, n_prompt + n_answer), generator.random(), []
            for s in range(n_samples):
                masked = [masks(generator, u0, len(p), s, n_samples, p[0] - n_prompt if p else 0) for _, _, p in spans]
                samples.append(dict(masked=masked))
            case = dict(model=name, block=block, prompt_ids=ids[:n_prompt], answer_ids=ids[n_prompt:], samples=samples)
            cases.append(scorer.score(case))
            if name == "llada":
                check_with_llada(scorer, cases[-1])
        with open(os.path.join(SCORES, name + ".json"), "w") as f:
            json.dump(cases, f, separators=(",", ":"))
            f.write("\n")
        print(name, [round(c["mean"], 3) for c in cases])


main()
