"""Traces of SDAR: its block_diffusion_generate(), and JetEngine's entropy-bounded selection.

    python block_sdar.py MODEL_FOLDER OUTPUT.json

generate.py always draws from the distribution; a greedy draw makes it deterministic and leaves the probability as it is. Its own
entropy_bounded branch cannot run (it uses an unset variable, and the entropy of the drawn token's probability alone); the scheduler of the
authors' engine, which does what that branch means to do, is run instead, with a loop over blocks around it.
"""
import sys
import types

import torch

import common

POLICIES = {"sequential": "sequential", "low_confidence_static": "static", "low_confidence_dynamic": "dynamic",
            "entropy_bounded": "entropy-bound"}


class Wrapped(common.Model):
    """The forward that block_diffusion_generate() calls, recorded."""

    def start(self, prompt_ids, strategy, threshold):
        self.trace, self.cache = common.Trace(prompt_ids, self.mask_id), common.Cache()
        self.in_order, self.threshold = strategy == "sequential", threshold if "dynamic" in strategy else None

    def eval(self):
        return self

    def __call__(self, x, attention_mask, position_ids, past_key_values, use_cache, store_kv):
        first, tokens = self.cache.length(), x[0].tolist()
        logits = self.run(x[0], position_ids[0], attention_mask[0].bool(), self.cache.exchange(store_kv))
        masked = [first + i for i, t in enumerate(tokens) if t == self.mask_id]
        if masked:
            self.trace.step(first, tokens, logits, [[p] for p in masked] if self.in_order else [masked], self.threshold)
        else:
            self.trace.settle(first, tokens)
        return types.SimpleNamespace(logits=logits[None])


def entropy_bounded(engine, model, prompt_ids, block, blocks, bound):
    """Blocks in order, each with JetEngine's scheduler step after every forward until it calls the block done."""
    first = len(prompt_ids) // block * block
    canvas = prompt_ids + [model.mask_id] * (first + blocks * block - len(prompt_ids))
    scheduler = types.SimpleNamespace(
        mask_token_id=model.mask_id, sample_pipe=lambda logits, temperature: logits.softmax(-1), diversity_enforce=False, epsilon_greedy=False,
        consistent_sampling_params=True, apply_repetition_penalty=lambda *ignored: None, running=[], prefill_ready=[])
    status, kind, zero = engine.SequenceStatus, engine.RunType, torch.zeros(block)
    for first in range(first, len(canvas), block):
        sequence = types.SimpleNamespace(
            status=status.DENOISING, remasking_strategy="entropy_bounded", eb_threshold=bound, dynamic_threshold=0.0, temperature=1.0, top_k=0,
            top_p=1.0, block_length=block, intermediate_block_tokens=torch.tensor(canvas[first:first + block]), block_logprobs=zero,
            block_entropies=zero, block_trajectory=zero.long(), global_denoising_step=0, current_denoising_step=0, denoising_steps=block,
            num_transfer_tokens_per_step=[1] * block, is_finished=False)
        while sequence.status == status.DENOISING:
            tokens = sequence.intermediate_block_tokens.tolist()
            logits = model.logits(canvas[:first] + tokens, block)[first:]
            masked = [first + i for i, t in enumerate(tokens) if t == model.mask_id]
            model.trace.step(first, tokens, logits, [masked], None, True)
            engine.Scheduler.postprocess(scheduler, [sequence], logits, kind.DENOISE)
        canvas[first:first + block] = sequence.intermediate_block_tokens.tolist()
        model.trace.settle(first, canvas[first:first + block])
    return canvas


def references():
    generate = common.authors("sdar/generate.py", [("torch.multinomial(probs, num_samples=1)", "probs.argmax(-1, keepdim=True)")])
    states = types.SimpleNamespace(DENOISING=1, SAVING=2, FINISHED=3)
    common.stub("jetengine.config", Config=object)
    common.stub("jetengine.engine.sequence", Sequence=object, SequenceStatus=states, RunType=types.SimpleNamespace(PREFILL=1, DENOISE=2))
    common.stub("jetengine.engine.block_manager", BlockManager=object)
    common.stub("jetengine.layers.sampler", sample_with_temperature_topk_topp=None)
    common.stub("flashinfer.logits_processor", **dict.fromkeys(("LogitsPipe", "Temperature", "Softmax", "TopP", "TopK", "Sample")))
    common.stub("flashinfer.sampling", top_p_sampling_from_probs=None,
                top_k_top_p_sampling_from_probs=lambda probs, top_k, top_p: probs.argmax(-1))
    return generate, common.authors("jetengine/scheduler.py")


SDAR = (("sequential", 4, 4, None, 21, 40), ("sequential", 8, 4, None, 32, 32), ("sequential", 16, 5, None, 21, 43),
        ("low_confidence_static", 4, 4, None, 21, 40), ("low_confidence_static", 8, 4, None, 20, 44), ("low_confidence_static", 16, 6, None, 32, 48),
        ("low_confidence_dynamic", 4, 4, .4, 32, 40), ("low_confidence_dynamic", 8, 8, .5, 21, 43), ("low_confidence_dynamic", 16, 16, .45, 33, 47),
        ("low_confidence_dynamic", 4, 2, .9, 24, 40), ("low_confidence_dynamic", 16, 4, .4, 32, 48), ("low_confidence_dynamic", 8, 8, .85, 24, 40),
        ("entropy_bounded", 4, 4, .35, 21, 39), ("entropy_bounded", 8, 8, 4., 32, 40), ("entropy_bounded", 16, 16, 8., 37, 43))
MOE = (("sequential", 8, 8, None, 21, 35), ("low_confidence_static", 8, 8, None, 24, 40), ("low_confidence_static", 8, 4, None, 28, 36),
       ("low_confidence_dynamic", 8, 8, .3, 21, 43), ("low_confidence_dynamic", 8, 4, .25, 32, 40), ("entropy_bounded", 8, 8, 5., 21, 43))


def main(folder, output):
    generate, engine = references()
    model = Wrapped(folder)
    model.check()
    cases = []
    for strategy, block, steps, threshold, n, tokens in SDAR if model.family == "sdar" else MOE:
        entropy = strategy == "entropy_bounded"

        def make(seed):
            p = common.prompt(n, model.vocab, seed)
            model.start(p[0].tolist(), strategy, threshold)
            if entropy:
                out = entropy_bounded(engine, model, p[0].tolist(), block, (n + tokens) // block - n // block, threshold)
            else:
                out = generate.block_diffusion_generate(
                    model, {"input_ids": p}, model.mask_id, tokens, block, steps, remasking_strategy=strategy,
                    confidence_threshold=threshold)[0].tolist()
            options = dict(policy=POLICIES[strategy], max_tokens=len(out) - n, block=block, temperature=0, cache="exact")
            if entropy:
                options["entropy_bound"] = threshold
            else:
                options["steps"] = steps
                if threshold is not None:
                    options["threshold"] = threshold
            case = model.trace.case(
                out, model=model.family, reference="Scheduler.postprocess() of JetEngine" if entropy else "block_diffusion_generate() of SDAR",
                repository="Labman42/JetEngine" if entropy else "JetAstra/SDAR", commit="11563d1" if entropy else "c2041a8",
                path="jetengine/engine/scheduler.py" if entropy else "generate.py", options=options,
                note="Greedy in place of the reference's multinomial draw, with the probability at temperature 1." + (
                    " The loop over blocks around the selection is ours." if entropy else ""))
            if case:
                for f in case["forwards"]:
                    assert all(f["inputs"][q - f["first"]] == model.mask_id for q, _ in f["changes"]), "overwrites a token"
            return case
        cases.append(common.first_clear(make))
    common.write(output, cases)


if __name__ == "__main__":
    main(*sys.argv[1:])
