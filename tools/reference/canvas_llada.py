"""Traces of LLaDA's own generate() on the small models `llada` and `llada_moe`: the end-of-text options,
random remasking, a temperature and guidance, with our random numbers in place of torch's.

    REFERENCE_CODE=<authors' files> python canvas_llada.py
generate() has the ids of <|endoftext|> and <|eot_id|> in its text; here they are set for each case to two
tokens that the small model really prefers somewhere, so that the options change the answer.
The mask token never wins a draw (its uniform number is 0); confidences are left as they are."""
from collections import Counter

import torch

import canvas_common as cc

generate = cc.import_code("llada", ["generate"], cc.LLADA_REPLACE + [("126081", "EOS"), ("126348", "EOT")])[0]
MASKS = {"llada": 500, "llada_moe": 508}

# (model, prompt length, answer length, block, steps a block, options of generate())
CASES = [
    ("llada", 21, 64, 32, 16, dict(logits_eos_inf=True)),
    ("llada", 14, 64, 16, 16, dict(confidence_eos_eot_inf=True)),
    ("llada", 27, 48, 48, 24, dict(logits_eos_inf=True, confidence_eos_eot_inf=True)),
    ("llada", 21, 64, 32, 32, dict(temperature=0.6)),
    ("llada", 9, 48, 16, 8, dict(temperature=0.6, logits_eos_inf=True)),
    ("llada", 9, 48, 16, 16, dict(temperature=0.6, confidence_eos_eot_inf=True)),
    ("llada", 21, 64, 32, 16, dict(remasking="random")),
    ("llada", 33, 32, 32, 32, dict(remasking="random", temperature=0.6)),
    ("llada", 12, 32, 16, 16, dict(temperature=1.0, cfg_scale=0.5)),
    ("llada_moe", 21, 64, 32, 16, dict(cfg_scale=1.0)),
    ("llada_moe", 15, 48, 16, 8, dict(cfg_scale=0.5, temperature=0.6)),
    ("llada_moe", 21, 64, 32, 16, dict(logits_eos_inf=True, confidence_eos_eot_inf=True, cfg_scale=1.5)),
    ("llada_moe", 30, 48, 24, 12, dict(remasking="random", temperature=0.6)),
]
models = {name: cc.row_function(cc.model_folder(name), 0) for name in MASKS}


class Model:
    """What generate() needs of a model."""
    device = "cpu"

    def __init__(self, recorder):
        self.recorder = recorder

    def __call__(self, x, attention_mask=None):
        return type("Output", (), dict(logits=self.recorder(x)))


def decode(name, prompt, n_answer, block, steps, options, eos, eot, seed, shake, noise_seed):
    """The forwards' tokens and the final canvas."""
    mask = MASKS[name]
    recorder = cc.Recorder(models[name], mask, shake, noise_seed)
    n = len(prompt) + n_answer

    def rand_like(logits, dtype):
        u = cc.token_uniforms(seed, range(n), recorder.step(), logits.shape[-1])
        u[:, mask] = 0
        return u[None]

    def rand(shape, device=None):
        return cc.remask_uniforms(seed, range(n), recorder.step())[None]

    generate.EOS, generate.EOT = eos, eot
    saved = torch.rand_like, torch.rand
    torch.rand_like, torch.rand = rand_like, rand
    try:
        x = torch.tensor([prompt])
        out = generate.generate(Model(recorder), x, attention_mask=torch.ones_like(x), gen_length=n_answer, mask_id=mask,
                                block_length=block, steps=steps * (n_answer // block), **options)
    finally:
        torch.rand_like, torch.rand = saved
    return recorder.tokens, out[0].tolist()


def trace(name, n_prompt, n_answer, block, steps, options, seed, shake, noise_seed):
    folder = cc.folder_config(cc.model_folder(name))
    prompt = cc.random_prompt(n_prompt, folder["vocab_size"], seed)
    uses_eos = any("eos" in key for key in options)
    plain = {k: v for k, v in options.items() if "eos" not in k}
    eos = eot = folder["eos_token_id"]
    if uses_eos:
        answer = decode(name, prompt, n_answer, block, steps, plain, eos, eot, seed, 0.0, 0)[1]
        ranked = [t for t, _ in Counter(answer[n_prompt:]).most_common(2)]
        if len(ranked) < 2:
            return None
        eos, eot = ranked
    tokens, out = decode(name, prompt, n_answer, block, steps, options, eos, eot, seed, shake, noise_seed)
    if MASKS[name] in out or (uses_eos and out == answer):
        return None
    spans = [(n_prompt + i // steps * block, n_prompt + (i // steps + 1) * block) for i in range(len(tokens))]
    t = dict(prompt_ids=prompt, forwards=cc.forwards_of(tokens, out, spans), output_ids=out[n_prompt:])
    return dict(t, eos=eos, eot=eot) if uses_eos else t


def main():
    fixtures = {}
    for i, (name, n_prompt, n_answer, block, steps, options) in enumerate(CASES):
        seed, t = cc.clear_case(lambda *a: trace(name, n_prompt, n_answer, block, steps, options, *a), range(3000 + 100 * i, 3100 + 100 * i))
        ours = dict(policy="schedule", max_tokens=n_answer, block=block, steps=steps, temperature=options.get("temperature", 0.0))
        ours.update({k: v for k, v in options.items() if k not in ("remasking", "temperature")})
        if "remasking" in options:
            ours["remask"] = options["remasking"]
        if "remasking" in options or ours["temperature"] > 0:
            ours["seed"] = seed
        if "eos" in t:
            ours["eos_token"], ours["eot_token"] = t.pop("eos"), t.pop("eot")
        fixtures.setdefault(name, []).append(dict(
            model=name, reference="LLaDA generate()", repository="ML-GSAI/LLaDA", commit="b7e6c35", path="generate.py", options=ours, **t,
            note="the answer is not cut at eos_token; every block is decoded"))
    for name, cases in fixtures.items():
        cc.write_fixture("schedule_" + name, cases)


main()
