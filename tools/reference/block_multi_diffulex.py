"""Traces of Diffulex's bounded set of running blocks: its request, block, sampler and scheduler classes under a small loop.

    python block_multi_diffulex.py MODEL_FOLDER OUTPUT.json

Its engine wants a GPU; only the forward (exact block-causal attention, which its cache gives too) and the loop around it are ours. Its limit of
new tokens counts slots that nothing has been decoded into, so that the end of the answer is set here as it sets it after an end token.
"""
import os
import sys
import types

import torch

import common

BLOCK = 32


def references():
    sys.path.insert(0, os.path.join(os.environ["REFERENCE_CODE"], "diffulex"))
    common.stub("easydict", EasyDict=dict)
    import diffulex.engine.status
    from diffulex.config_types import DecodingThresholds
    common.stub("diffulex.config", Config=object, DecodingThresholds=DecodingThresholds)
    common.stub("diffulex.engine.kv_cache_manager", AutoKVCacheManager=None)
    import diffulex.engine.request as request
    import diffulex.engine.scheduler as scheduler
    import diffulex.sampler.llada2 as llada2
    from diffulex.sampling_params import SamplingParams
    return types.SimpleNamespace(DllmReq=request.DllmReq, Scheduler=scheduler.SchedulerBase, Sampler=llada2.LLaDA2Sampler,
                                 SamplingParams=SamplingParams, DecodingThresholds=DecodingThresholds)


def decode(code, model, prompt_ids, blocks, window, add, decoded, threshold):
    """The trace and the canvas of `blocks` blocks from the one in which the prompt ends."""
    config = types.SimpleNamespace(block_size=BLOCK, buffer_size=window, mask_token_id=model.mask_id, eos=-1, max_model_len=10 ** 6,
                                   decoding_thresholds=code.DecodingThresholds(add, decoded, threshold))
    req = code.DllmReq(list(prompt_ids), code.SamplingParams(temperature=0.0, max_tokens=10 ** 6, max_nfe=10 ** 6))
    req.init_multi_block(config)
    req.make_pending()
    sampler = code.Sampler()
    scheduler = types.SimpleNamespace(apply_block_writes_map=lambda *ignored: None)
    last = len(prompt_ids) // BLOCK + blocks - 1
    trace = common.Trace(prompt_ids, model.mask_id)
    while not (req.last_block_finished and all(b.is_complete for b in req.dllm_block_buffer.valid_blocks)):
        req.step()
        buffer = req.dllm_block_buffer
        if buffer.valid_blocks and buffer.last_valid_block.block_id == last and req.terminal_context_block is None:
            req.set_terminal_context_block(buffer.last_valid_block)
        start, tokens = (req.contiguous_in_cache_prefix_len if req.is_prefilling else buffer.first_running_block.start), list(req.token_ids)
        end = start + len(req.running_sequence)
        logits = model.logits(tokens[:end], BLOCK)
        active = [b for b in buffer.active_blocks if b.mask_token_global_ids]
        if active:
            first, stop = buffer.first_running_block.start, buffer.last_valid_block.end
            seen = logits[first:stop].clone()
            seen[:, model.mask_id] = float("-inf")
            trace.step(first, tokens[first:stop], seen, [b.mask_token_global_ids for b in active], threshold)
        metadata = types.SimpleNamespace(is_prefill=[req.is_prefilling], cu_seqlens_q=None)
        sampler.fetch_attn_metadata = lambda: metadata
        code.Scheduler.postprocess(scheduler, [req], sampler([req], logits[start:], torch.zeros(1)))
        if active:
            trace.settle(first, req.token_ids[first:stop])
    return trace, req.token_ids[:(last + 1) * BLOCK]


def main(folder, output):
    code = references()
    model = common.Model(folder)
    model.check()
    cases = []
    for n, blocks, window, add, decoded, threshold in ((64, 3, 4, .1, .9, .5), (21, 4, 2, .1, .9, .6), (43, 4, 3, .5, .9, .8), (32, 4, 4, .1, .5, .3),
                                                       (64, 3, 1, .1, .9, .5), (37, 3, 2, 1., 1., .5)):
        def make(seed):
            p = common.prompt(n, model.vocab, seed)[0].tolist()
            trace, out = decode(code, model, p, blocks, window, add, decoded, threshold)
            return trace.case(
                out, model=os.path.basename(os.path.normpath(folder)), reference="MultiBD of Diffulex: DllmReq, LLaDA2Sampler, SchedulerBase.postprocess()",
                repository="SJTU-DENG-Lab/Diffulex", commit="184ba97", path="diffulex/engine/request.py",
                options=dict(policy="multi-block", metric="confidence", max_tokens=len(out) - n, block=BLOCK, window=window, block_add=add,
                             decoded=decoded, threshold=threshold, temperature=0, cache="exact"),
                note="inputs are the running blocks, a finished one that this forward caches among them. The forward is exact block-causal attention, "
                     "and the loop and the end of the canvas are ours; decisions, block states and writes are the reference's.")
        cases.append(common.first_clear(make))
    common.write(output, cases)


if __name__ == "__main__":
    main(*sys.argv[1:])
