"""Traces of Fast-dLLM v2: its batch_sample() at batch size 1, without and with the block cache.

    python block_fast_dllm_v2.py MODEL_FOLDER OUTPUT.json

The sampler is the authors'; the forward under it is ours, with the interface of their modelling file (past_key_values,
update_past_key_values, use_block_cache, block_past_key_values, replace_position) and its semantics in exact float32.
"""
import sys
import types

import torch

import common


class Wrapped(common.Model):
    """The forward that batch_sample() calls, recorded."""

    def start(self, prompt_ids, threshold, small):
        self.trace, self.threshold, self.small = common.Trace(prompt_ids, self.mask_id), threshold, small

    def forward(self, input_ids, past_key_values=None, use_cache=True, update_past_key_values=False, block_size=32,
                use_block_cache=False, block_past_key_values=None, replace_position=None):
        ids, past = input_ids[0], past_key_values or common.Cache()
        first = past.length() + (replace_position or 0)
        positions = torch.arange(first, first + len(ids))
        block = block_past_key_values or common.Cache()

        def exchange(layer, k, v):
            if use_block_cache and block_past_key_values:
                for old, new in zip(block.pairs[layer], (k, v)):
                    old[:, replace_position:replace_position + len(ids)] = new
                k, v = block.pairs[layer]
            elif use_block_cache:
                block.pairs[layer] = (k, v)
            return past.exchange(update_past_key_values)(layer, k, v)

        see = None if past.length() or len(ids) <= block_size else common.block_mask(len(ids), block_size)
        logits = self.run(ids, positions, see, exchange)
        self.record(first, ids, logits, update_past_key_values, block_size)
        return types.SimpleNamespace(logits=logits[None], past_key_values=past, block_past_key_values=block)

    def record(self, first, ids, logits, stores, block_size):
        tokens = ids.tolist()
        if stores:
            if first == 0 and len(tokens) < self.trace.prompt:
                return  # the prompt's whole blocks, from which no token is taken
            last = first + len(tokens)
            self.trace.step(last - block_size, tokens[-block_size:], logits[-1:].expand(block_size + 1, -1), [[last]], kind="seed")
            return
        masked = [first + i for i, t in enumerate(tokens) if t == self.mask_id]
        scope = [p for p in masked if p // self.small == masked[0] // self.small]
        self.trace.step(first, tokens, torch.cat([logits[:1], logits[:-1]]), [scope], self.threshold)

    def sample_with_top_p(self, logits, top_p, temperature):
        """At temperature 0 the authors' function of this name takes the most probable token and ignores top_p."""
        assert temperature == 0
        p = logits.softmax(-1)
        return p.argmax(-1), p


def main(folder, output):
    code = common.authors("fast_dllm_v2/generation_functions.py", [("@auto_docstring\n", "")])
    model = Wrapped(folder)
    model.check()
    cases = []
    for n, tokens, threshold, block_cache, *small in ((37, 96, .5, False), (37, 96, .5, True), (64, 64, .9, False), (64, 64, .9, True),
                                              (21, 96, .9, False), (21, 64, .2, True), (96, 64, .5, True), (75, 64, .7, True),
                                              (37, 64, .9, False, 1), (64, 32, .9, True, 1)):
        small = small[0] if small else 8

        def make(seed):
            p = common.prompt(n, model.vocab, seed)
            model.start(p[0].tolist(), threshold, small)
            out = code.Fast_dLLM_QwenForCausalLM.batch_sample(
                model, p, types.SimpleNamespace(pad_token_id=0), 32, tokens, small, n, torch.tensor([n]), mask_id=model.mask_id,
                threshold=threshold, stop_token=-1, use_block_cache=block_cache)
            return model.trace.case(
                out[0].tolist(), model="fast_dllm_v2", reference="batch_sample() of Fast-dLLM v2, one sequence",
                repository="NVlabs/Fast-dLLM", commit="d259b48", path="v2/generation_functions.py",
                options=dict(policy="threshold", max_tokens=len(out[0]) - 1 - n, block=32, sub_block=small, threshold=threshold, temperature=0,
                             cache="dual" if block_cache else "exact"),
                note="The forward under the sampler is a float32 rewrite with the interface of the authors' modelling file; its plain "
                     "logits agree with the golden ones. max_tokens is what fills the last block; output_ids holds "
                     "one token more: the one that the seed forward of the last block gives.")
        cases.append(common.first_clear(make))
    common.write(output, cases)


if __name__ == "__main__":
    main(*sys.argv[1:])
