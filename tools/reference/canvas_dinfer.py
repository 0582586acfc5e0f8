"""Traces of dInfer's decoders (threshold, hierarchy, credit) on the small models `llada` (full attention,
blocks from the prompt's end) and `llada2_moe` (block-causal, blocks of 32 from position 0).

    REFERENCE_CODE=<authors' files> python canvas_dinfer.py
A plain loop without a cache calls decode() on the rows of the block until no mask is left in it."""
import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch

import canvas_common as cc

strategy = cc.import_code("dinfer", ["parallel_strategy"])[0]
MASKS = {"llada": 500, "llada2_moe": 511}
CAUSAL_BLOCK = 32
models = {"llada": cc.row_function(cc.model_folder("llada"), 0),
          "llada2_moe": cc.row_function(cc.model_folder("llada2_moe"), CAUSAL_BLOCK)}

# (model, policy, prompt length, answer length, block, options)
CASES = [
    ("llada", "hierarchy", 21, 64, 32, dict(threshold=0.9, low_threshold=0.4)),
    ("llada", "hierarchy", 10, 64, 16, dict(threshold=0.7, low_threshold=0.2)),
    ("llada", "hierarchy", 33, 48, 48, dict(threshold=0.95, low_threshold=0.62)),
    ("llada2_moe", "hierarchy", 21, 75, 32, dict(threshold=0.9, low_threshold=0.4)),
    ("llada2_moe", "hierarchy", 64, 64, 32, dict(threshold=0.8, low_threshold=0.3)),
    ("llada", "credit", 21, 64, 32, dict(threshold=0.9, credit_alpha=0.7, credit_beta=0.8, credit_gamma=0.2)),
    ("llada", "credit", 12, 64, 16, dict(threshold=0.6, credit_alpha=0.7, credit_beta=0.8, credit_gamma=0.2)),
    ("llada", "credit", 30, 48, 48, dict(threshold=0.98, credit_alpha=1.0, credit_beta=0.9, credit_gamma=0.5)),
    ("llada2_moe", "credit", 21, 75, 32, dict(threshold=0.9, credit_alpha=0.7, credit_beta=0.8, credit_gamma=0.2)),
    ("llada2_moe", "credit", 40, 56, 32, dict(threshold=0.95, credit_alpha=1.2, credit_beta=0.6, credit_gamma=0.2)),
    ("llada", "threshold", 21, 64, 32, dict(threshold=0.9)),
    ("llada", "threshold", 17, 48, 16, dict(threshold=0.5)),
    ("llada2_moe", "threshold", 21, 75, 32, dict(threshold=0.8)),
]
DECODERS = {"hierarchy": "HierarchyDecoder", "credit": "CreditThresholdParallelDecoder", "threshold": "ThresholdParallelDecoder"}


def decoder(policy, mask, o):
    if policy == "hierarchy":
        return strategy.HierarchyDecoder(0.0, mask_id=mask, threshold=o["threshold"], low_threshold=o["low_threshold"])
    if policy == "credit":
        return strategy.CreditThresholdParallelDecoder(temperature=0.0, mask_id=mask, threshold=o["threshold"],
                                                       credit_alpha=o["credit_alpha"], decay_beta=o["credit_beta"], boost_gamma=o["credit_gamma"])
    return strategy.ThresholdParallelDecoder(0.0, o["threshold"], mask_id=mask)


def trace(name, policy, n_prompt, n_answer, block, options, seed, shake, noise_seed):
    mask = MASKS[name]
    prompt = cc.random_prompt(n_prompt, 512, seed)
    recorder = cc.Recorder(models[name], mask, shake, noise_seed)
    d = decoder(policy, mask, options)
    end = n_prompt + n_answer
    x = torch.tensor([prompt + [mask] * n_answer])
    is_causal = name == "llada2_moe"
    first = n_prompt // block * block if is_causal else n_prompt
    spans, full = [], []
    for i, s in enumerate(range(first, end, block)):
        e = s + block
        d.block_init(x[:, s:e], i)
        while (x[:, s:e] == mask).any():
            logits = recorder(x[:, :e] if is_causal else x)
            if recorder.wants_mask[s:e].any():
                return None
            full.append(x[0].tolist())
            spans.append((s, e))
            d.decode(logits[:, s:e], s, e, x)
    if len(full) < 6:
        return None
    out = x[0].tolist()
    return dict(prompt_ids=prompt, forwards=cc.forwards_of(full, out, spans), output_ids=out[n_prompt:])


def main():
    fixtures = {}
    for i, (name, policy, n_prompt, n_answer, block, options) in enumerate(CASES):
        seed, t = cc.clear_case(lambda *a: trace(name, policy, n_prompt, n_answer, block, options, *a), range(5000 + 100 * i, 5100 + 100 * i))
        ours = dict(policy=policy, max_tokens=n_answer, block=block, temperature=0.0, **options)
        fixtures.setdefault((policy, name), []).append(dict(
            model=name, reference=f"dInfer {DECODERS[policy]}.decode() in a plain loop without a cache", repository="inclusionAI/dInfer",
            commit="fce4e32", path="python/dinfer/decoding/parallel_strategy.py", options=ours, **t))
    for (policy, name), cases in fixtures.items():
        cc.write_fixture(f"{policy}_{name}", cases)


main()
