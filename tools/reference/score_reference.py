"""The likelihood bound of a masked diffusion model under GIVEN masks, by the authors' modelling code.

    REFERENCE_CODE=<authors' files> python score_reference.py MODEL_FOLDER CASES.json
reads a list of cases as in tests/data/scores (or one case), computes every sample's log-likelihood anew and
prints the cases with these numbers as JSON, and on stderr the largest difference from what the file says.

A case: prompt_ids, answer_ids, block (0: full attention) and samples; a sample: masked, a list of lists of
answer positions (0 is the answer's first token), log_likelihood. mean: over the samples.
  full attention   masked [[...]]: k of n positions; -(n / k) * sum of cross entropies of one forward over
                   [prompt, answer with these masked].
  block-causal     masked has one list for each block of the grid at multiples of `block` that holds answer
                   positions. A block with n_b of them, k_b masked, gives -(n_b / k_b) * sum; earlier blocks
                   are clean, later ones absent.
  shifted          row i predicts position i + 1. Block-causal (Fast-dLLM v2): a block's first position is
                   predicted by the last row of the clean blocks before it, is never masked and counts once
                   with its exact log-probability; n_b is the number of the others. A block that holds no
                   other answer position has the empty list."""
import json
import sys

import torch

import canvas_common as cc

SHIFTED = ("DreamModel", "Fast_dLLM_QwenForCausalLM", "RND1LM")


class Scorer:
    def __init__(self, folder, block):
        c = cc.folder_config(folder)
        self.rows, self.block = cc.row_function(folder, block), block
        self.mask, self.shift = c["mask_token_id"], c["architectures"][0] in SHIFTED

    def log_probabilities(self, tokens, positions, targets):
        """log p(target) at each position of one forward over tokens; float64 after the logits."""
        logp = self.rows(torch.tensor([tokens]))[0].double().log_softmax(-1)
        return [float(logp[p - self.shift, t]) for p, t in zip(positions, targets)]

    def spans(self, n_prompt, n):
        """For each block that holds answer positions: its end, the seed position or None, the others."""
        if not self.block:
            return [(n, None, list(range(n_prompt, n)))]
        out = []
        for first in range(n_prompt // self.block * self.block, n, self.block):
            end = min(first + self.block, n)
            positions = list(range(max(first, n_prompt), end))
            is_seeded = self.shift and positions[0] == first
            out.append((end, first if is_seeded else None, positions[is_seeded:]))
        return out

    def masked_sum(self, prompt, answer, end, masked):
        canvas = prompt + answer
        tokens = [self.mask if p - len(prompt) in masked else canvas[p] for p in range(end)]
        return sum(self.log_probabilities(tokens, [len(prompt) + m for m in masked], [answer[m] for m in masked]))

    def sample(self, prompt, answer, masked):
        canvas = prompt + answer
        total, spans = 0.0, self.spans(len(prompt), len(canvas))
        assert len(spans) == len(masked)
        for (end, seed, positions), m in zip(spans, masked):
            assert all(len(prompt) + i in positions for i in m) and bool(m) == bool(positions)
            if seed is not None and seed > 0:
                total += self.log_probabilities(canvas[:seed], [seed], [canvas[seed]])[0]
            if m:
                total += len(positions) / len(m) * self.masked_sum(prompt, answer, end, m)
        return total

    def score(self, case):
        values = [self.sample(case["prompt_ids"], case["answer_ids"], s["masked"]) for s in case["samples"]]
        samples = [dict(s, log_likelihood=v) for s, v in zip(case["samples"], values)]
        return dict(case, samples=samples, mean=sum(values) / len(values))


def main():
    folder, path = sys.argv[1:]
    cases = json.load(open(path))
    cases = cases if isinstance(cases, list) else [cases]
    worst, out = 0.0, []
    for case in cases:
        scored = Scorer(folder, case.get("block", 0)).score(case)
        pairs = zip(case["samples"], scored["samples"])
        worst = max([worst] + [abs(a["log_likelihood"] - b["log_likelihood"]) for a, b in pairs if "log_likelihood" in a])
        out.append(scored)
    json.dump(out, sys.stdout, separators=(",", ":"))
    print()
    print("largest difference", worst, file=sys.stderr)


if __name__ == "__main__":
    main()
