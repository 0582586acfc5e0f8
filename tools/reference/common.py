"""What the scripts of this folder share: a small model in float32, imports of the authors' files, and the trace format.

The model is read from a folder in Hugging Face layout and computed here by plain PyTorch on a CPU, so that any decoding code can be
given the forward that it expects (masks, caches, partial inputs) whatever version of transformers is at hand. `check()` compares it
with the golden logits of the folder. The authors' files come from the directory that REFERENCE_CODE names; none is kept here.
"""
import importlib.util
import json
import os
import sys
import types

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)


def block_mask(n, block, queries=None):
    """Which of n keys each of the last `queries` positions sees: those of its own and of earlier blocks."""
    b = torch.arange(n) // block
    return b[n - (queries or n):, None] >= b[None]


class Model:
    """A transformer of one of the families llada, sdar, sdar_moe, fast_dllm_v2, llada2_moe (and llada2_2) in float32."""

    device = torch.device("cpu")

    def __init__(self, folder):
        self.folder = folder
        self.config = c = json.load(open(f"{folder}/config.json"))
        self.w = {k: v.float() for k, v in load_file(f"{folder}/model.safetensors").items()}
        self.vocab, self.mask_id = c["vocab_size"], c["mask_token_id"]
        self.heads = c.get("num_attention_heads", c.get("n_heads"))
        self.kv_heads = c.get("num_key_value_heads", c.get("n_kv_heads"))
        self.layers = c.get("num_hidden_layers", c.get("n_layers"))
        self.head_dim = c.get("head_dim") or c.get("hidden_size", c.get("d_model")) // self.heads
        self.rotary = int(self.head_dim * c.get("partial_rotary_factor", 1.0))
        self.family = c["model_type"]

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.w[name], self.config["rms_norm_eps"])

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def rope(self, x, positions):
        d = self.rotary
        freq = self.config["rope_theta"] ** -(torch.arange(0, d, 2).float() / d)
        a = torch.cat([positions[:, None] * freq] * 2, -1)
        rotated = torch.cat([-x[..., d // 2:d], x[..., :d // 2]], -1)
        return torch.cat([x[..., :d] * a.cos() + rotated * a.sin(), x[..., d:]], -1)

    def gated(self, x, gate, up, down):
        return self.linear(F.silu(self.linear(x, gate)) * self.linear(x, up), down)

    def experts(self, x, p, index, weight):
        if f"{p}.experts.gate_up_proj" in self.w:
            return self.fused_experts(x, p, index, weight)
        out = torch.zeros_like(x)
        for e in index.unique().tolist():
            row, slot = (index == e).nonzero(as_tuple=True)
            y = self.gated(x[row], *(f"{p}.experts.{e}.{n}_proj" for n in ("gate", "up", "down")))
            out.index_add_(0, row, y * weight[row, slot, None])
        return out

    def fused_experts(self, x, p, index, weight):
        gate_up, down = self.w[f"{p}.experts.gate_up_proj"][index], self.w[f"{p}.experts.down_proj"][index]
        gate, up = torch.einsum("nd,nkfd->nkf", x, gate_up).chunk(2, -1)
        return torch.einsum("nkf,nkdf,nk->nd", F.silu(gate) * up, down, weight)

    def mlp(self, x, p):
        c = self.config
        if f"{p}.gate.weight" not in self.w:
            return self.gated(x, *(f"{p}.{n}_proj" for n in ("gate", "up", "down")))
        logits, k = self.linear(x, f"{p}.gate"), c["num_experts_per_tok"]
        if self.family != "llada2_moe":
            weight, index = logits.softmax(-1).topk(k, -1)
            return self.experts(x, p, index, weight / weight.sum(-1, keepdim=True))
        score = logits.sigmoid()
        choice = (score + self.w[f"{p}.gate.expert_bias"]).view(len(x), c["n_group"], -1)
        groups = choice.topk(2, -1)[0].sum(-1).topk(c["topk_group"], -1)[1]
        keep = torch.zeros(choice.shape[:2], dtype=torch.bool).scatter_(1, groups, True)
        index = choice.masked_fill(~keep[..., None], float("-inf")).flatten(1).topk(k, -1)[1]
        weight = score.gather(1, index)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-20) * c["routed_scaling_factor"]
        shared = self.gated(x, *(f"{p}.shared_experts.{n}_proj" for n in ("gate", "up", "down")))
        return self.experts(x, p, index, weight) + shared

    def qkv(self, h, i):
        """Queries, keys and values [heads, n, head_dim] of layer i, before the rotary embedding."""
        if self.family == "llada2_moe":
            p = f"model.layers.{i}.attention"
            parts = self.linear(h, f"{p}.query_key_value").view(len(h), -1, self.head_dim)
            q, k, v = parts.split([self.heads, self.kv_heads, self.kv_heads], 1)
            q, k = self.norm(q, f"{p}.query_layernorm.weight"), self.norm(k, f"{p}.key_layernorm.weight")
        else:
            p = f"model.transformer.blocks.{i}" if self.family == "llada" else f"model.layers.{i}.self_attn"
            q, k, v = (self.linear(h, f"{p}.{n}_proj").view(len(h), -1, self.head_dim) for n in "qkv")
            if f"{p}.q_norm.weight" in self.w:
                q, k = self.norm(q, f"{p}.q_norm.weight"), self.norm(k, f"{p}.k_norm.weight")
        return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)

    def run(self, ids, positions, see, exchange=lambda layer, k, v: (k, v)):
        """Logits [n, vocabulary] of ids [n]. exchange(layer, k, v) gives the keys and values to attend to (it holds the caches);
        see [n, keys] says which of them each position sees, None all."""
        names = {"llada": ("model.transformer.blocks", "attn_norm", "attn_out", "ff_norm", "model.transformer.ln_f.weight",
                           "model.transformer.wte.weight", "model.transformer.ff_out"),
                 "llada2_moe": ("model.layers", "input_layernorm", "attention.dense", "post_attention_layernorm", "model.norm.weight",
                                "model.word_embeddings.weight", "lm_head")}
        layers, norm1, out, norm2, last, embed, head = names.get(self.family, (
            "model.layers", "input_layernorm", "self_attn.o_proj", "post_attention_layernorm", "model.norm.weight",
            "model.embed_tokens.weight", "lm_head"))
        x = self.w[embed][ids]
        for i in range(self.layers):
            p = f"{layers}.{i}"
            q, k, v = self.qkv(self.norm(x, f"{p}.{norm1}.weight"), i)
            q, k = self.rope(q, positions), self.rope(k, positions)
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, 0) for t in exchange(i, k, v))
            a = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=see)[0]
            x = x + self.linear(a.transpose(0, 1).flatten(1), f"{p}.{out}")
            h = self.norm(x, f"{p}.{norm2}.weight")
            if self.family == "llada":
                x = x + self.gated(h, f"{p}.ff_proj", f"{p}.up_proj", f"{p}.ff_out")
            else:
                x = x + self.mlp(h, f"{p}.mlp")
        return self.linear(self.norm(x, last), head)

    def logits(self, ids, block):
        """One forward over the whole sequence; block 0 is full attention."""
        ids = torch.as_tensor(ids).view(-1)
        return self.run(ids, torch.arange(len(ids)), block_mask(len(ids), block) if block else None)

    def check(self):
        """The largest difference from the golden logits, which must be rounding."""
        golden = load_file(f"{self.folder}/golden.safetensors")
        name = next(k for k in golden if k.startswith("logits"))
        block = int(name[len("logits_block"):]) if name.startswith("logits_block") else 0
        gap = (self.logits(golden["input_ids"].long(), block) - golden[name]).abs().max().item()
        assert gap < 1e-3, f"{self.folder}: differs from {name} by {gap}"
        return gap


class Cache:
    """Keys and values of the positions before the current input, one pair for each layer."""

    def __init__(self):
        self.pairs = {}

    def length(self):
        return self.pairs[0][0].shape[1] if self.pairs else 0

    def exchange(self, store):
        def f(layer, k, v):
            if layer in self.pairs:
                k, v = (torch.cat(t, 1) for t in zip(self.pairs[layer], (k, v)))
            if store:
                self.pairs[layer] = (k, v)
            return k, v
        return f


def stub(name, **members):
    """Puts a stand-in for a module that an authors' file imports but that its decoding does not need."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        parent = ".".join(parts[:i])
        if parent not in sys.modules:
            sys.modules[parent] = types.ModuleType(parent)
            sys.modules[parent].__path__ = []
    sys.modules[name] = module = types.ModuleType(name)
    for k, v in members.items():
        setattr(module, k, v)
    return module


def authors(path, replace=()):
    """Imports an authors' file REFERENCE_CODE/path, with pieces of its text replaced where it would not run as it is."""
    full = os.path.join(os.environ["REFERENCE_CODE"], path)
    text = open(full).read()
    for old, new in replace:
        assert old in text, f"{path}: no «{old}»"
        text = text.replace(old, new)
    module = types.ModuleType(os.path.basename(path)[:-3])
    module.__file__ = full
    sys.modules[module.__name__] = module
    exec(compile(text, full, "exec"), module.__dict__)
    return module


def prompt(n, vocab, seed):
    """n random ids below the special tokens at the end of the small vocabularies."""
    return torch.randint(3, vocab - 16, (1, n), generator=torch.Generator().manual_seed(seed))


class Trace:
    """The forwards of one decoding run, what each of them wrote, and how near any decision came to a tie.

    What a step wrote is seen in the inputs of the next forward, so that nothing inside the authors' loops needs a hook."""

    def __init__(self, prompt_ids, mask_id):
        self.canvas = dict(enumerate(prompt_ids))
        self.prompt, self.mask_id = len(prompt_ids), mask_id
        self.forwards, self.margin, self.pending = [], 1.0, None

    def settle(self, first, tokens):
        """Gives the differences from the canvas to the forward before; to be called where no forward shows what a step wrote."""
        new = {first + i: t for i, t in enumerate(tokens)}
        changes = [[p, t] for p, t in new.items() if self.canvas.get(p, self.mask_id) != t]
        self.canvas.update(new)
        if self.forwards:
            self.forwards[-1]["changes"] += changes
            assert all(t != self.mask_id for _, t in changes), "commits the mask token"
        if self.pending:
            self.measure({p for p, _ in changes}, **self.pending)
            self.pending = None

    def measure(self, chosen, first, logits, groups, threshold, entropy):
        p = logits.double().softmax(-1)
        c = (p * (p + 1e-12).log()).sum(-1) if entropy else p.max(-1)[0]
        limit = -threshold if entropy and threshold is not None else threshold
        for group in groups:
            rows = [q - first for q in group if q in chosen]
            rest = [q - first for q in group if q not in chosen]
            gaps = [1.0]
            if rows:
                top = p[rows].topk(2, -1)[0]
                gaps.append((top[:, 0] - top[:, 1]).min().item())
            if rows and rest:
                gaps.append(c[rows].min().item() - c[rest].max().item())
            if limit is not None and group:
                gaps.append((c[rows + rest] - limit).abs().min().item())
            self.margin = min(self.margin, *gaps)

    def step(self, first, inputs, logits=None, groups=(), threshold=None, entropy=False, **more):
        """A forward over inputs, the tokens from position first on. groups: the positions among which it chooses, in parts that
        are chosen from separately; threshold: of the confidence, or of the entropy."""
        self.settle(first, inputs)
        self.forwards.append(dict(first=first, inputs=list(inputs), changes=[], **more))
        if logits is not None:
            self.pending = dict(first=first, logits=logits, groups=groups, threshold=threshold, entropy=entropy)

    def case(self, output, first=0, **head):
        """The case of the fixture, whose output begins at position first; None where a decision was nearly a tie."""
        self.settle(first, output)
        if self.margin < 1e-5:
            return None
        tokens = [self.canvas[p] for p in sorted(self.canvas)]
        assert self.mask_id not in tokens, "leaves a mask"
        return dict(**head, prompt_ids=tokens[:self.prompt], forwards=self.forwards, output_ids=tokens[self.prompt:])


def first_clear(make, seeds=range(1, 100)):
    """The case of the first seed without near ties and without a committed mask token."""
    for seed in seeds:
        try:
            case = make(seed)
        except AssertionError as e:
            print("seed", seed, e)
            continue
        if case:
            return case
        print("seed", seed, "has a near tie")
    raise SystemExit("no seed gives a clear case")


def write(path, cases):
    """Writes the list of cases compactly."""
    with open(path, "w") as f:
        json.dump(cases, f, separators=(",", ":"))
    size = os.path.getsize(path)
    assert size < 150_000, f"{path}: {size} bytes"
    print(path, len(cases), "cases", size, "bytes", [len(c["forwards"]) for c in cases], "forwards")
