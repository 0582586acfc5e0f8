"""Traces of decoding several blocks at once: D2F's demonstration and d3LLM's generate_multi_block(), both on the llada model.

    python block_multi.py MODEL_FOLDER OUTPUT.json
"""
import sys
import types

import torch

import common


class Spied(common.Model):
    """The forwards that both references call, recorded."""

    def start(self, prompt_ids, block, threshold, entropy):
        self.trace, self.block, self.threshold, self.entropy = common.Trace(prompt_ids, self.mask_id), block, threshold, entropy

    def record(self, first, ids, logits, end):
        """The masked positions before `end` are the candidates, those of each block a group."""
        tokens, groups = ids.tolist(), {}
        for i, t in enumerate(tokens):
            if t == self.mask_id and first + i < end:
                groups.setdefault((first + i - self.trace.prompt) // self.block, []).append(first + i)
        groups = list(groups.values())
        if self.entropy:  # d3LLM always takes the position of the lowest entropy of all
            p = logits.softmax(-1)
            entropy = -(p * (p + 1e-12).log()).sum(-1)
            lowest = sorted((entropy[q - first].item(), q) for g in groups for q in g)[:2]
            if lowest[0][0] > self.threshold:
                groups.append([q for _, q in lowest])
        self.trace.step(first, tokens, logits, groups, self.threshold, self.entropy)

    def __call__(self, x, attention_bias=None, past_key_values=None, use_cache=False, update_kvcache=0):
        ids = x[0]
        if attention_bias is None:  # d3LLM: the whole canvas without a mask; its caller's table tells how many blocks are open
            logits = self.run(ids, torch.arange(len(ids)), None)
            self.record(0, ids, logits, self.trace.prompt + len(sys._getframe(1).f_locals["block_states"]) * self.block - self.block)
            return types.SimpleNamespace(logits=logits[None])
        past = past_key_values or common.Cache()
        first, now = past.length(), common.Cache()
        now.pairs = dict(past.pairs)
        logits = self.run(ids, torch.arange(first, first + len(ids)), attention_bias[0, 0] == 0, now.exchange(True))
        now.pairs = {i: (k[:, :update_kvcache], v[:, :update_kvcache]) for i, (k, v) in now.pairs.items()}
        self.record(first, ids, logits, first + len(ids))
        return types.SimpleNamespace(logits=logits[None], past_key_values=now)


def references():
    common.stub("peft", PeftModel=None, PeftConfig=None)
    common.stub("gradio")
    for name in ("model_cache.llada.modeling_llada", "utils.utils_LLaDA.model.modeling_llada"):
        common.stub(name, LLaDAModelLM=None)
    common.stub("model_cache.llada.configuration_llada", LLaDAConfig=None)
    return common.authors("d2f/generate_llada_demo_block.py"), common.authors("d3llm/d3llm_llada_generate_util.py")


def d2f(code, model, p, tokens, block, add, decoded, threshold):
    """The tokens that D2F's demonstration decodes, its page left out."""
    engine = object.__new__(code.DreamLoRAInference)
    frame = {}

    def tokenizer(text, return_tensors):
        return types.SimpleNamespace(input_ids=p)

    tokenizer.eos_token_id, tokenizer.decode = -1, lambda ids, skip_special_tokens: frame.update(ids=ids) or ""
    engine.__dict__.update(
        device=torch.device("cpu"), target_dtype=torch.float32, model=model, tokenizer=tokenizer, max_length=p.shape[1] + tokens,
        mask_token_id=model.mask_id, temperature=0.0, top_p=None, top_k=None, _apply_chat_template=lambda text: text,
        _render_visualization_html=lambda *ignored: "", _render_status_html=lambda *ignored: "")
    for _ in engine.stream_and_capture_for_gradio("", tokens, block, add, decoded, threshold):
        pass
    return p[0].tolist() + frame["ids"].tolist()


D2F = ((32, 96, 32, .1, .95, .5), (64, 96, 32, .7, .95, .8), (21, 96, 32, .1, .5, .6), (40, 64, 16, .1, .5, .9), (37, 64, 16, .5, 1., .7))
D3LLM = ((32, 96, 32, .5, .5, .4), (21, 96, 32, .1, .95, .2), (40, 64, 16, .3, .5, .5), (64, 64, 32, 1., 1., .3), (37, 64, 16, .1, .5, 1.))


def main(folder, output):
    demonstration, util = references()
    model = Spied(folder)
    model.check()
    cases = []
    for name, settings in [("D2F", s) for s in D2F] + [("d3LLM", s) for s in D3LLM]:
        n, tokens, block, add, decoded, threshold = settings

        def make(seed):
            p = common.prompt(n, model.vocab, seed)
            model.start(p[0].tolist(), block, threshold, name == "d3LLM")
            if name == "D2F":
                out = d2f(demonstration, model, p, tokens, block, add, decoded, threshold)
                head = dict(reference="stream_and_capture_for_gradio() of D2F", repository="zhijie-group/Discrete-Diffusion-Forcing",
                            commit="771f745", path="D2F-eval/generate_llada_demo_block.py")
                note = ("The prompt is one bidirectional block; blocks of the answer are counted from its end, see all that precedes them, and "
                        "are cached once they and all before them are done. max_tokens / block blocks may run at once.")
            else:
                out = util.generate_multi_block(model, p, max_new_tokens=tokens, block_size=block, mask_id=model.mask_id, threshold=threshold,
                                                block_add_threshold=add, decoded_token_threshold=decoded)[0][0].tolist()
                head = dict(reference="generate_multi_block() of d3LLM", repository="hao-ai-lab/d3LLM", commit="e5bfcac",
                            path="d3llm/d3llm_LLaDA/d3llm_llada_generate_util.py")
                note = ("Full attention over the whole canvas, whose masks behind the last block added are seen too; blocks are counted from "
                        "the prompt's end. max_tokens / block blocks may run at once.")
            options = dict(policy="multi-block", metric="entropy" if name == "d3LLM" else "confidence", max_tokens=tokens, block=block,
                           window=tokens // block, block_add=add, decoded=decoded, threshold=threshold, temperature=0,
                           cache="none" if name == "d3LLM" else "exact", **({} if name == "d3LLM" else dict(attention="blocks")))
            return model.trace.case(out, model="llada", **head, options=options, note=note)
        cases.append(common.first_clear(make))
    common.write(output, cases)


if __name__ == "__main__":
    main(*sys.argv[1:])
