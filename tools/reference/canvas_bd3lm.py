"""Traces of BD3-LM's own semi-autoregressive sampler with first hitting, on the rows of the small models
`llada2_moe` (block-causal) and `llada` (full attention over the whole canvas, prompt of whole blocks).

    REFERENCE_CODE=<authors' files> python canvas_bd3lm.py
The sampler is the authors' (_semi_ar_sampler, _ddpm_caching_update, _nucleus_sample, _subs_parameterization);
its prior gives the prompt where the prompt is, and its backbone is our model. The token is drawn with our
Gumbel noise, the position that is hit is the masked one of the largest uniform number."""
import sys
import types

import torch

import canvas_common as cc

for name in ("hydra", "hydra.utils", "lightning", "dataloader", "metrics", "models", "noise_schedule", "utils"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["lightning"].LightningModule = object
try:
    import tqdm  # noqa: F401
except ModuleNotFoundError:
    sys.modules["tqdm"] = types.ModuleType("tqdm")
sys.modules["tqdm"].tqdm = lambda iterable, **_: iterable
diffusion = cc.import_code("bd3lm", ["diffusion"])[0]
MASKS = {"llada": 500, "llada2_moe": 511}

# (model, prompt length, answer length, block). nucleus_p stays 1: below it the authors drop the token that crosses p, which
# the engine's top_p keeps.
CASES = [
    ("llada2_moe", 21, 43, 16),
    ("llada2_moe", 32, 32, 16),
    ("llada2_moe", 7, 25, 32),
    ("llada", 16, 48, 16),
    ("llada", 32, 32, 32),
]
_rows = {("llada", b): cc.row_function(cc.model_folder("llada"), 0) for b in (16, 32)}
_rows.update({("llada2_moe", b): cc.row_function(cc.model_folder("llada2_moe"), b) for b in (16, 32)})


class Sampler(diffusion.Diffusion):
    """The authors' samplers over our rows."""

    def __init__(self, name, prompt, n, block, recorder, seed):
        sampling = types.SimpleNamespace(kv_cache=False, first_hitting=True, nucleus_p=1.0, var_length=False)
        self.config = types.SimpleNamespace(sampling=sampling, algo=types.SimpleNamespace(name="bd3lm"), model=types.SimpleNamespace(length=n))
        self.tokenizer = types.SimpleNamespace(bos_token_id=prompt[0])
        self.block_size, self.mask_index, self.neg_infinity = block, MASKS[name], -1000000.0
        self.device, self.dtype = "cpu", torch.float32
        self.name, self.prompt, self.n, self.recorder, self.seed = name, prompt, n, recorder, seed
        self.n_priors, self.spans = 0, []

    def noise(self, t):
        return None, t

    def _sigma_from_p(self, p):
        return p

    def _sample_prior(self, n_samples, n):
        first = self.n_priors * self.block_size
        self.n_priors += 1
        known = self.prompt[first:first + n]
        return torch.tensor([known + [self.mask_index] * (n - len(known))])

    def forward(self, x, sigma, sample_mode=False):
        canvas = x if self.name == "llada2_moe" else torch.nn.functional.pad(x, (0, self.n - x.shape[1]), value=self.mask_index)
        logits = self.recorder(canvas)[:, :x.shape[1]]
        self.first = x.shape[1] - self.block_size
        self.spans.append((self.first, x.shape[1]))
        return self._subs_parameterization(logits=logits, xt=x)

    def rand_like(self, probabilities):
        positions = range(self.first, self.first + self.block_size)
        return cc.token_uniforms(self.seed, positions, self.recorder.step(), probabilities.shape[-1])[None]

    def randint(self, low, high, size):
        masked = [p for p in self.recorder.masked() if self.first <= p < self.first + self.block_size]
        assert int(high) == len(masked)
        return cc.remask_uniforms(self.seed, masked, self.recorder.step()).argmax()[None]


def trace(name, n_prompt, n_answer, block, seed, shake, noise_seed):
    prompt = cc.random_prompt(n_prompt, 512, seed)
    n = n_prompt + n_answer
    recorder = cc.Recorder(_rows[name, block], MASKS[name], shake, noise_seed)
    sampler = Sampler(name, prompt, n, block, recorder, seed)
    saved = torch.rand_like, torch.randint
    torch.rand_like, torch.randint = sampler.rand_like, sampler.randint
    try:
        out = sampler._semi_ar_sampler(1, 1000, n // block, n)[0][0].tolist()
    finally:
        torch.rand_like, torch.randint = saved
    whole = [x + [MASKS[name]] * (n - len(x)) for x in recorder.tokens]
    return dict(prompt_ids=prompt, forwards=cc.forwards_of(whole, out, sampler.spans), output_ids=out[n_prompt:])


def main():
    fixtures = {}
    for i, (name, n_prompt, n_answer, block) in enumerate(CASES):
        seed, t = cc.clear_case(lambda *a: trace(name, n_prompt, n_answer, block, *a), range(8000 + 100 * i, 8100 + 100 * i))
        options = dict(policy="first-hitting", max_tokens=n_answer, block=block, temperature=1.0, seed=seed)
        case = dict(model=name, reference="BD3-LM _semi_ar_sampler() with first_hitting", repository="kuleshov-group/bd3lms", commit="1c3e8f4",
                    path="diffusion.py", options=options, **t)
        fixtures.setdefault("first-hitting_" + name, []).append(case)
    for name, cases in fixtures.items():
        cc.write_fixture(name, cases)


main()
