"""Traces of RND1's own diffusion_sample() on the small model `rnd1`: its default entropy schedule and its
entropy bound (eb_gamma). Row i of the model predicts position i + 1: the sampler shifts.

    REFERENCE_CODE=<authors' files> python canvas_rnd1.py
eos_token_id None: otherwise the sampler keeps the last position of the canvas for a pad or end token.
Schedule: after forward i of S, floor(n (S - i) / S) positions stay masked, those of the highest entropy.
Where S divides n that is the even schedule with positions by rising entropy ("schedule": "even"); it is not
Dream's `entropy` with eps 0, whose rounding takes one position less here and there. Bound: positions by falling log-probability, the
longest prefix with (sum - maximum) of entropies at most eb_gamma. The cases without "order" are those whose
traces are the same with positions by rising entropy."""
import torch

import canvas_common as cc

FOLDER = cc.model_folder("rnd1")
MASK = cc.folder_config(FOLDER)["mask_token_id"]
rows = cc.row_function(FOLDER, 0)
sampling = cc.import_code("rnd1", ["sampling"])[0]

# (prompt length, answer length, steps, eb_gamma or None, also the same by rising entropy)
CASES = [
    (21, 64, 16, None, False),
    (12, 48, 48, None, False),
    (30, 40, 8, None, False),
    (21, 12, 100, 0.1, True),
    (9, 16, 100, 0.5, True),
    (21, 48, 100, 0.1, False),
    (17, 32, 100, 0.5, False),
    (26, 40, 100, 2.0, False),
]


class Model:
    """What diffusion_sample() needs of a model."""

    def __init__(self, recorder):
        self.recorder, self.logits = recorder, []

    def eval(self):
        return self

    def parameters(self):
        return iter([torch.zeros(1)])

    def __call__(self, input_ids):
        logits = self.recorder(input_ids, shift=True)
        self.logits.append(logits[0])
        return type("Output", (), dict(logits=logits))


def by_entropy(logits, masked, gamma):
    """The positions that the bound takes when they are ranked by rising entropy."""
    logp = logits[torch.tensor(masked) - 1].log_softmax(-1)
    h, order = (-(logp.exp() * logp).sum(-1)).sort()
    n = int(((h.cumsum(0) - h) <= gamma).sum())
    return sorted(masked[i] for i in order[:n].tolist())


def trace(n_prompt, n_answer, steps, gamma, both_orders, seed, shake, noise_seed):
    prompt = cc.random_prompt(n_prompt, 512, seed)
    recorder = cc.Recorder(rows, MASK, shake, noise_seed)
    wanted = []
    model = Model(recorder)
    model.recorder = lambda x, shift: (recorder(x, shift), wanted.append(bool(recorder.wants_mask.any())))[0]
    out = sampling.diffusion_sample(model, seq_len=n_prompt + n_answer, num_steps=steps, mask_token_id=MASK,
                                    prefix_ids=torch.tensor([prompt]), eos_token_id=None, eb_gamma=gamma)[0].tolist()
    if any(wanted):
        return None
    forwards = cc.forwards_of(recorder.tokens, out, [(n_prompt, n_prompt + n_answer)] * len(recorder.tokens))
    if both_orders:
        for logits, x, f in zip(model.logits, recorder.tokens, forwards):
            masked = [i for i, t in enumerate(x) if t == MASK]
            if by_entropy(logits, masked, gamma) != [p for p, _ in f["changes"]]:
                return None
    return dict(prompt_ids=prompt, forwards=forwards, output_ids=out[n_prompt:])


def main():
    fixtures = {}
    for i, (n_prompt, n_answer, steps, gamma, both_orders) in enumerate(CASES):
        seed, t = cc.clear_case(lambda *a: trace(n_prompt, n_answer, steps, gamma, both_orders, *a), range(9000 + 500 * i, 9500 + 500 * i))
        options = dict(max_tokens=n_answer, block=n_answer, temperature=0.0)
        options.update(dict(policy="entropy", steps=steps, schedule="even") if gamma is None else dict(policy="entropy-bound", eb_gamma=gamma))
        if gamma is not None and not both_orders:
            options["order"] = "confidence"
        fixtures.setdefault(options["policy"], []).append(dict(
            model="rnd1", reference="RND1 diffusion_sample(greedy, temperature=1)" + ("" if gamma is None else f" with eb_gamma={gamma}"),
            repository="RadicalNumerics/RND1", commit="87d5f46", path="rnd/sampling.py", options=options, **t,
            note="logits are shifted: row i predicts position i + 1"))
    for policy, cases in fixtures.items():
        cc.write_fixture(policy + "_rnd1", cases)


main()
