"""Traces of Fast-dLLM v1: the factor rule on the small model `llada` (no cache, prefix cache, dual cache) and
its block decoding of Dream (threshold; prefix cache, dual cache) on the small model `dream`.

    REFERENCE_CODE=<authors' files> python canvas_fastdllm.py"""
import torch

import canvas_common as cc

LLADA, DREAM = cc.model_folder("llada"), cc.model_folder("dream")
MASKS = {"llada": 500, "dream": 508}

# (model, cache, prompt length, answer length, block, options)
CASES = [
    ("llada", "none", 21, 64, 32, dict(factor=0.5)),
    ("llada", "none", 13, 64, 16, dict(factor=1.0)),
    ("llada", "none", 30, 48, 24, dict(factor=2.0)),
    ("llada", "none", 8, 24, 8, dict(factor=1.0)),
    ("llada", "prefix", 21, 64, 32, dict(factor=1.0)),
    ("llada", "dual", 21, 64, 32, dict(factor=1.0)),
    ("dream", "prefix", 21, 64, 32, dict(threshold=0.9)),
    ("dream", "prefix", 30, 48, 16, dict(threshold=0.5)),
    ("dream", "dual", 21, 64, 32, dict(threshold=0.6)),
    ("dream", "dual", 17, 48, 16, dict(threshold=0.8)),
]


def load_llada():
    cm, mm, generate = cc.import_code("fastdllm_llada", ["configuration_llada", "modeling_llada", "generate"], cc.LLADA_REPLACE)
    config = cm.LLaDAConfig(**cc.folder_config(LLADA))
    config.use_cache = False
    m = mm.LLaDAModelLM(config).eval()
    m.load_state_dict(cc.weights_of(LLADA))
    return m, generate


def load_dream():
    cm, mm, generate = cc.import_code("fastdllm_dream", ["configuration_dream", "modeling_dream", "generation_utils_block"])
    c = cc.folder_config(DREAM)
    config = cm.DreamConfig(**c)
    config._attn_implementation, config.rope_theta, config.rope_scaling = "sdpa", c["rope_theta"], None
    m = mm.DreamModel(config).eval()
    m.load_state_dict(cc.weights_of(DREAM))
    return m, generate


models = {"llada": load_llada(), "dream": load_dream()}


def decode(name, cache, x, n_answer, block, options):
    m, generate = models[name]
    if name == "llada":
        f = {"none": generate.generate, "prefix": generate.generate_with_prefix_cache, "dual": generate.generate_with_dual_cache}[cache]
        return f(m, x, steps=n_answer, gen_length=n_answer, block_length=block, mask_id=MASKS[name], **options)[0]
    mixin = generate.DreamGenerationMixin
    config = generate.DreamGenerationConfig(max_length=x.shape[1] + n_answer, steps=n_answer, temperature=0.0, alg="confidence_threshold",
                                            mask_token_id=MASKS[name], pad_token_id=506)
    config.return_dict_in_generate = False
    return mixin._sample(m, x, attention_mask=None, generation_config=config, threshold=options["threshold"], block_length=block, dual_cache=cache == "dual")


def trace(name, cache, n_prompt, n_answer, block, options, seed, shake, noise_seed):
    m, mask = models[name][0], MASKS[name]
    prompt = cc.random_prompt(n_prompt, 512, seed)
    n = n_prompt + n_answer
    true_forward = m.forward
    canvas, tokens, spans, unclear = [], [], [], []
    recorder = cc.Recorder(None, mask, shake, noise_seed)

    def forward(x, *a, **k):
        position = k.get("replace_position")
        first = 0 if k.get("past_key_values") is None else n - x.shape[1] if position is None else int(position[0].int().argmax())
        canvas[first:first + x.shape[1]] = x[0].tolist()
        tokens.append(list(canvas))
        s = next(i for i, t in enumerate(canvas) if t == mask)
        s = n_prompt + (s - n_prompt) // block * block
        spans.append((s, s + block))
        out = {}

        def rows(x):
            out["output"] = true_forward(x, *a, **k)
            return out["output"].logits
        recorder.rows = rows
        logits = recorder(x, shift=name == "dream")
        wants = recorder.wants_mask
        if name == "dream" and first:
            wants[0] = False  # committed, and its shifted row is not its own
        unclear.append(bool(wants[s - first:s + block - first].any()))
        out["output"].logits = logits
        return out["output"]

    m.forward = forward
    try:
        out = decode(name, cache, torch.tensor([prompt]), n_answer, block, options)[0].tolist()
    finally:
        m.forward = true_forward
    if any(unclear) or mask in out or len(tokens) < 6:
        return None
    return dict(prompt_ids=prompt, forwards=cc.forwards_of(tokens, out, spans), output_ids=out[n_prompt:])


def main():
    fixtures = {}
    for i, (name, cache, n_prompt, n_answer, block, options) in enumerate(CASES):
        seed, t = cc.clear_case(lambda *a: trace(name, cache, n_prompt, n_answer, block, options, *a), range(7000 + 100 * i, 7100 + 100 * i))
        policy = "factor" if "factor" in options else "threshold"
        case = dict(model=name, repository="NVlabs/Fast-dLLM")
        if name == "llada":
            suffix = {"none": "", "prefix": "_with_prefix_cache", "dual": "_with_dual_cache"}[cache]
            case.update(reference=f"Fast-dLLM v1 generate{suffix}(factor=...)", commit="96dc39e", path="v1/llada/generate.py")
        else:
            case.update(reference=f"Fast-dLLM v1 Dream DreamGenerationMixin._sample(alg='confidence_threshold', dual_cache={cache == 'dual'})",
                        commit="24cc59e", path="dream/model/generation_utils_block.py",
                        note="the first forward of a block is over the whole canvas and commits the block's first token alone")
        case.update(options=dict(policy=policy, max_tokens=n_answer, block=block, temperature=0.0, cache=cache, **options), **t)
        fixtures.setdefault((policy, name), []).append(case)
    for (policy, name), cases in fixtures.items():
        cc.write_fixture(f"{policy}_{name}" + ("_cached" if policy == "threshold" else ""), cases)


main()
