"""Traces of LLaDA2.2's decoding with insertions and deletions: SGLang's JointThresholdInDel.step() under a small driver.

    python block_levenshtein.py --make LLADA2_MOE_FOLDER MODEL_FOLDER      writes the model with delete and split tokens
    python block_levenshtein.py MODEL_FOLDER OUTPUT.json
"""
import json
import os
import sys
import types

import torch
from safetensors.torch import load_file, save_file

import common

BLOCK, DELETE, SPLIT, SCALE = 32, 500, 501, 1.5


def make_model(source, folder):
    """The same weights with the delete and split rows of the head scaled up, so that both are chosen now and then."""
    os.makedirs(folder, exist_ok=True)
    weights = load_file(f"{source}/model.safetensors")
    head = weights["lm_head.weight"].float()
    head[[DELETE, SPLIT]] *= SCALE
    weights["lm_head.weight"] = head.to(torch.bfloat16)
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    config = json.load(open(f"{source}/config.json"))
    json.dump(dict(config, delete_token_id=DELETE, split_token_id=SPLIT), open(f"{folder}/config.json", "w"), indent=1)
    ids = load_file(f"{source}/golden.safetensors")["input_ids"]
    save_file({"input_ids": ids, "logits_block32": common.Model(folder).logits(ids.long(), BLOCK)}, f"{folder}/golden.safetensors")


def margin(algorithm, batch, logits, state):
    """How near this step's decisions are to a tie."""
    p, ids = logits.softmax(-1), batch.input_ids
    x, prompt = p.max(-1), state["prompt_index"]
    top = logits[~prompt].topk(2, -1)[0]
    masked = ~prompt & (ids == algorithm.mask_id)
    written = ~prompt & ~masked & (x.indices != ids)
    gaps = [(top[:, 0] - top[:, 1]).min().item() / 10, 1.0]
    gaps += (x.values[masked] - algorithm.threshold).abs().tolist() + (x.values[written] - algorithm.edit_threshold).abs().tolist()
    original = (state["is_orig_mask"] & masked).sum().item()
    need = 1 + masked.sum().item() - original
    c = x.values[masked].sort(descending=True)[0]
    if original and (c > algorithm.threshold).sum() < need < len(c):
        gaps.append((c[need - 1] - c[need]).item())
    if tuple(ids.tolist()) in state["seen_input_keys"]:
        gaps += x.values[masked | written].sort()[0][:2].diff().tolist()
    return min(gaps)


def decode(algorithm, model, prompt_ids, blocks):
    """Decodes whole blocks in order; the forward of each denoising step is the current block on the exact cache of what precedes."""
    P, done_blocks = len(prompt_ids), len(prompt_ids) // BLOCK
    canvas = prompt_ids + [model.mask_id] * ((done_blocks + blocks) * BLOCK - P)
    forwards, events, nearest = [], dict(deletes=0, splits=0, guards=0, cleanups=0), 1.0

    def count(tokens, *more):
        events["deletes"] += tokens[more[2]:].count(DELETE)
        events["splits"] += tokens[more[2]:].count(SPLIT)
        return type(algorithm)._apply_edit_operations(algorithm, tokens, *more)

    algorithm._apply_edit_operations = count
    for first in range(done_blocks * BLOCK, len(canvas), BLOCK):
        ids = torch.tensor(canvas[first:first + BLOCK])
        batch = types.SimpleNamespace(batch_size=1, input_ids=ids, dllm_prompt_mask=(torch.arange(first, first + BLOCK) < P)[None])
        state, = states = algorithm.init_step_state(batch)
        for _ in range(algorithm.max_steps(BLOCK)):
            before = batch.input_ids.tolist()
            logits = model.logits(canvas[:first] + before, BLOCK)[first:]
            if state["finished"]:
                break  # this forward only stores the cleaned block
            nearest = min(nearest, margin(algorithm, batch, logits, state))
            events["guards"] += tuple(before) in state["seen_input_keys"]
            done = algorithm.step(batch, logits, states)[0]
            after = batch.input_ids.tolist()
            events["cleanups"] += state["finished"] and before != after
            forwards.append(dict(first=first, inputs=before,
                                 changes=[[first + i, b] for i, (a, b) in enumerate(zip(before, after)) if a != b]))
            if done:
                break
        canvas[first:first + BLOCK] = batch.input_ids.tolist()
    assert not {model.mask_id, DELETE, SPLIT} & set(canvas[P:]), "a special token is left"
    return canvas[P:], forwards, events, nearest


class Algorithm:
    """What SGLang's base class gives."""

    def __init__(self, config):
        self.block_size, self.mask_id = config.block_size, config.mask_id


def main(folder, output):
    common.stub("sglang.srt.dllm.algorithm.base", DllmAlgorithm=Algorithm)
    common.stub("sglang.srt.dllm.config", DllmConfig=object)
    common.stub("sglang.srt.model_executor.forward_batch_info", ForwardBatch=object)
    code = common.authors("sglang/joint_threshold_indel.py")
    model = common.Model(folder)
    model.check()
    cases = []
    for n, blocks, threshold, edit, post, wanted in (
            (21, 3, .5, 0., 16, "deletes splits cleanups"), (64, 2, .5, 0., 16, "deletes splits"), (43, 3, .7, .5, 4, "guards"),
            (32, 3, .7, .5, 4, "splits"), (21, 3, .5, 0., 0, "deletes splits"), (64, 2, .9, .9, 0, "guards"), (50, 2, .9, .3, 8, "")):
        def make(seed):
            settings = dict(threshold=threshold, edit_threshold=edit, max_post_edit_steps=post)
            algorithm = code.JointThresholdInDel(types.SimpleNamespace(
                block_size=BLOCK, mask_id=model.mask_id, delete_token_id=DELETE, split_token_id=SPLIT, algorithm_config=settings))
            p = common.prompt(n, model.vocab, seed)[0].tolist()
            out, forwards, events, nearest = decode(algorithm, model, p, blocks)
            assert all(events[e] for e in wanted.split()), f"lacks one of {wanted}: {events}"
            print(n, threshold, edit, post, events, nearest)
            return None if nearest < 1e-5 else dict(
                model="llada2_2", reference="JointThresholdInDel.step() of SGLang under a block by block driver",
                repository="sgl-project/sglang", commit="0fbe7e4", path="python/sglang/srt/dllm/algorithm/joint_threshold_indel.py",
                options=dict(policy="levenshtein", max_tokens=len(out), block=BLOCK, threshold=threshold, edit_threshold=edit,
                             post_steps=post, temperature=0, cache="exact"),
                prompt_ids=p, forwards=forwards, output_ids=out, events=events,
                note="guards: steps whose input had been seen before; cleanups: blocks that end with a step that forbids mask, delete "
                     "and split. A forward without changes is one that finds nothing to do and ends its block.")
        cases.append(common.first_clear(make))
    common.write(output, cases)


if __name__ == "__main__":
    make_model(*sys.argv[2:]) if sys.argv[1] == "--make" else main(*sys.argv[1:])
