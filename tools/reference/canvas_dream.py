"""Traces of Dream's own diffusion_generate() on the small model `dream`: origin, maskgit_plus,
topk_margin and entropy, with our random numbers in place of torch's.

    REFERENCE_CODE=<authors' files> python canvas_dream.py
The answer is one block. With a temperature, the mask token's logit is set to -inf before the
reference samples (its generation_logits_hook_func): a draw never is the mask token."""
import torch
import torch.distributions as dists

import canvas_common as cc

FOLDER = cc.model_folder("dream")
CONFIG = cc.folder_config(FOLDER)
MASK, VOCABULARY = CONFIG["mask_token_id"], CONFIG["vocab_size"]
POLICY = {"origin": "origin", "maskgit_plus": "maskgit", "topk_margin": "margin", "entropy": "entropy"}
model = cc.load_model(FOLDER)
rows = cc.row_function(FOLDER, 0)
generation = cc.import_code("dream", ["generation_utils"])[0]

# (alg, prompt length, answer length, steps, other options)
CASES = [
    ("origin", 21, 64, 16, dict(eps=1e-3)),
    ("origin", 9, 40, 32, dict(eps=0.1)),
    ("origin", 21, 64, 32, dict(eps=1e-3, temperature=0.8, top_p=0.9)),
    ("origin", 30, 48, 64, dict(eps=1e-3, temperature=0.8, top_p=0.9, top_k=20)),
    ("maskgit_plus", 21, 64, 32, dict(eps=1e-3)),
    ("maskgit_plus", 13, 48, 64, dict(eps=0.1)),
    ("maskgit_plus", 21, 64, 16, dict(eps=1e-3, temperature=1.2, top_k=8)),
    ("maskgit_plus", 17, 48, 24, dict(eps=1e-3, alg_temp=0.3)),
    ("topk_margin", 21, 64, 16, dict(eps=0.1)),
    ("topk_margin", 33, 48, 64, dict(eps=1e-3, temperature=1.5, top_p=0.95)),
    ("topk_margin", 21, 64, 32, dict(eps=1e-3, temperature=1.2, top_k=50, top_p=0.9, alg_temp=0.2)),
    ("entropy", 21, 64, 16, dict(eps=1e-3)),
    ("entropy", 21, 64, 32, dict(eps=1e-3, temperature=1.3, top_p=0.95)),
    ("entropy", 21, 48, 16, dict(eps=1e-3, temperature=1.0, top_p=0.98, top_k=100)),
    ("entropy", 21, 64, 32, dict(eps=1e-3, alg_temp=0.5)),
    ("entropy", 12, 40, 64, dict(eps=0.1, temperature=0.7, top_p=0.95, alg_temp=0.5)),
]


class Uniforms:
    """What torch.rand gives under `origin`: remembers which positions pass the comparison."""

    def __init__(self, draw):
        self.draw = draw

    def __lt__(self, p):
        u = cc.remask_uniforms(self.draw.seed, self.draw.positions, self.draw.step)
        taken = u < p
        self.draw.positions = [q for q, t in zip(self.draw.positions, taken.tolist()) if t]
        return taken


class Draw:
    """The random numbers of the forward that is being used."""

    def __init__(self, recorder, seed):
        self.recorder, self.seed = recorder, seed

    def begin(self):
        self.step, self.positions = self.recorder.step(), self.recorder.masked()

    def rand(self, *shape, **_):
        assert shape == (len(self.positions),)
        return Uniforms(self)

    def categorical(self, distribution):
        probabilities = distribution.probs.double()
        assert probabilities.shape == (len(self.positions), VOCABULARY)
        u = cc.token_uniforms(self.seed, self.positions, self.step, VOCABULARY)
        return (probabilities.log() + cc.gumbel(u)).argmax(-1)

    def multinomial(self, probabilities, num_samples):
        u = torch.full((probabilities.shape[1],), 0.5, dtype=torch.float64)
        u[self.positions] = cc.remask_uniforms(self.seed, self.positions, self.step)
        return (probabilities.double().log() + cc.gumbel(u)).topk(num_samples, -1)[1]


def trace(alg, n_prompt, n_answer, steps, options, seed, shake, noise_seed):
    prompt = cc.random_prompt(n_prompt, VOCABULARY, seed)
    recorder = cc.Recorder(rows, MASK, shake, noise_seed)
    draw = Draw(recorder, seed)
    temperature, mask_wanted = options.get("temperature", 0.0), []

    def forward(x, *a, **k):
        logits = recorder(x, shift=True)
        mask_wanted.append(bool(recorder.wants_mask.any()))
        draw.begin()
        return type("Output", (), dict(logits=logits))

    def without_mask(step, x, logits):
        if temperature > 0:
            logits[..., MASK] = -torch.inf
        return logits

    saved = model.forward, torch.rand, torch.multinomial, dists.Categorical.sample
    model.forward, torch.rand, torch.multinomial = forward, draw.rand, draw.multinomial
    dists.Categorical.sample = lambda distribution: draw.categorical(distribution)
    try:
        out = model.diffusion_generate(
            torch.tensor([prompt]), generation_config=generation.DreamGenerationConfig(), max_length=n_prompt + n_answer,
            steps=steps, alg=alg, temperature=temperature, top_p=options.get("top_p"), top_k=options.get("top_k"),
            alg_temp=options.get("alg_temp"), eps=options["eps"], mask_token_id=MASK, pad_token_id=CONFIG["pad_token_id"],
            generation_logits_hook_func=without_mask)
    finally:
        model.forward, torch.rand, torch.multinomial, dists.Categorical.sample = saved
    out = (out if torch.is_tensor(out) else out.sequences)[0].tolist()
    if MASK in out or (temperature == 0 and any(mask_wanted)):
        return None
    spans = [(n_prompt, n_prompt + n_answer)] * len(recorder.tokens)
    return dict(prompt_ids=prompt, forwards=cc.forwards_of(recorder.tokens, out, spans), output_ids=out[n_prompt:])


def main():
    fixtures = {}
    for i, (alg, n_prompt, n_answer, steps, options) in enumerate(CASES):
        seed, t = cc.clear_case(lambda *a: trace(alg, n_prompt, n_answer, steps, options, *a), range(1000 + 100 * i, 1100 + 100 * i))
        options = dict(dict(policy=POLICY[alg], max_tokens=n_answer, block=n_answer, steps=steps, temperature=0.0), **options)
        if alg == "origin" or options["temperature"] > 0 or "alg_temp" in options:
            options["seed"] = seed
        case = dict(model="dream", reference=f"Dream diffusion_generate(alg='{alg}')", repository="ZHZisZZ/dllm", commit="ca176752",
                    path="dllm/pipelines/dream/models/generation_utils.py", options=options, **t)
        if options["temperature"] > 0:
            case["note"] = "the mask token's logit is -inf before sampling"
        fixtures.setdefault(POLICY[alg], []).append(case)
    for policy, cases in fixtures.items():
        cc.write_fixture(policy + "_dream", cases)


main()
