"""What the canvas_ scripts share: our counter-based random numbers, the small models under their
authors' modelling code (float32, CPU), a recorder of forwards, and the search for clear-cut cases.

REFERENCE_CODE names the directory that holds the authors' files as sources.txt lists them."""
import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
import types

import numpy as np
import torch
import transformers
import transformers.cache_utils as cache_utils
import transformers.modeling_rope_utils as rope_utils
import transformers.pytorch_utils as pytorch_utils
import transformers.utils as hf_utils
import transformers.utils.import_utils as import_utils
from safetensors.torch import load_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "..", "tests", "data", "models")
TRACES = os.path.join(HERE, "..", "..", "tests", "data", "traces")
TOKEN, REMASK = 1, 2  # purposes of a draw, as in src/base/rng.h


# ---- Random numbers: src/base/rng.c in numpy ----------------------------------------------------

def philox(counter, key):
    """Philox4x32-10. counter: 4 arrays (or numbers) of 32 bits, key: 2 of them. Returns 4 arrays."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in counter)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def uniform(seed, position, step, purpose, index, request=0):
    """The draw of (seed, request, position, step, purpose, index), in (0, 1); arrays broadcast."""
    mixed = philox((request & 0xFFFFFFFF, request >> 32, 0, 0), (seed & 0xFFFFFFFF, seed >> 32))
    index = np.asarray(index, dtype=np.uint64)
    d = philox((index >> np.uint64(1), purpose, np.asarray(position), step), (mixed[0], mixed[1]))
    odd = (index & np.uint64(1)).astype(bool)
    bits = np.where(odd, d[2] << np.uint64(32) | d[3], d[0] << np.uint64(32) | d[1]) >> np.uint64(11)
    return (bits.astype(np.float64) + 0.5) * 2.0**-53


def token_uniforms(seed, positions, step, n_tokens):
    """[len(positions), n_tokens] uniforms of the token draw, float64."""
    return torch.from_numpy(uniform(seed, np.asarray(positions)[:, None], step, TOKEN, np.arange(n_tokens)[None]))


def remask_uniforms(seed, positions, step):
    return torch.from_numpy(np.atleast_1d(uniform(seed, np.asarray(positions), step, REMASK, 0)))


def gumbel(u):
    return -torch.log(-torch.log(u))


# ---- The authors' modelling code under today's transformers, in float32 ------------------------

def _patch_transformers():
    def decorator(*a, **k):
        return lambda f: f
    for name in ("add_start_docstrings", "add_start_docstrings_to_model_forward",
                 "replace_return_docstrings", "add_code_sample_docstrings"):
        if not hasattr(hf_utils, name):
            setattr(hf_utils, name, decorator)
    for name in ("is_flash_attn_2_available", "is_flash_attn_greater_or_equal_2_10", "is_torchdynamo_compiling"):
        if not hasattr(hf_utils, name):
            setattr(hf_utils, name, lambda *a, **k: False)
    if not hasattr(hf_utils, "TransformersKwargs"):
        hf_utils.TransformersKwargs = dict
    if not hasattr(pytorch_utils, "ALL_LAYERNORM_LAYERS"):
        pytorch_utils.ALL_LAYERNORM_LAYERS = []
    pytorch_utils.is_torch_greater_or_equal_than_1_13 = True
    if not hasattr(import_utils, "is_torch_fx_available"):
        import_utils.is_torch_fx_available = lambda: False
    try:
        mask_utils = importlib.import_module("transformers.modeling_attn_mask_utils")
    except ModuleNotFoundError:
        mask_utils = sys.modules["transformers.modeling_attn_mask_utils"] = types.ModuleType("modeling_attn_mask_utils")
    for name in ("_prepare_4d_causal_attention_mask", "_prepare_4d_causal_attention_mask_for_sdpa",
                 "AttentionMaskConverter"):
        if not hasattr(mask_utils, name):
            setattr(mask_utils, name, lambda *a, **k: None)
    if not hasattr(rope_utils, "rope_config_validation"):
        rope_utils.rope_config_validation = lambda *a, **k: None
    if not hasattr(cache_utils, "StaticCache"):
        cache_utils.StaticCache = cache_utils.DynamicCache
    rope_utils.ROPE_INIT_FUNCTIONS.setdefault("default", inverse_frequencies)


def inverse_frequencies(config, device=None, seq_len=None, **k):
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    n = int(head_dim * (getattr(config, "partial_rotary_factor", 1.0) or 1.0))
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    return 1.0 / (theta ** (torch.arange(0, n, 2, dtype=torch.int64).float() / n)), 1.0


_patch_transformers()
_packages = tempfile.mkdtemp(prefix="reference-")
sys.path.insert(0, _packages)


def import_code(folder, modules, replace=(), package=None):
    """Imports modules of REFERENCE_CODE/folder from a private copy in which bf16 is float32."""
    package = package or "ref_" + folder.replace("/", "_")
    target = os.path.join(_packages, package)
    if not os.path.isdir(target):
        shutil.copytree(os.path.join(os.environ["REFERENCE_CODE"], folder), target)
        open(os.path.join(target, "__init__.py"), "a").close()
        for name in os.listdir(target):
            if name.endswith(".py"):
                text = open(os.path.join(target, name)).read().replace("torch.bfloat16", "torch.float32")
                text = re.sub(r"_tied_weights_keys\s*=\s*\[[^\]]*\]", "_tied_weights_keys = {}", text)
                for old, new in replace:
                    text = text.replace(old, new)
                open(os.path.join(target, name), "w").write(text)
    return [importlib.import_module(f"{package}.{m}") for m in modules]


LLADA_REPLACE = [('init_device = "cuda"', 'init_device = "cpu"'), ("init_device = 'cuda'", "init_device = 'cpu'"),
                 ("from model.modeling_llada", "from .modeling_llada"), ("from model.", "from .")]


def folder_config(folder):
    return json.load(open(os.path.join(folder, "config.json")))


def model_folder(name):
    return os.path.join(MODELS, name)


def _stock(cls, config_cls, c):
    """A model of transformers itself; rope_theta of the folder goes where transformers 5 wants it."""
    c = {k: v for k, v in c.items() if k not in ("architectures", "model_type", "block_size", "bd_size")}
    c["rope_parameters"] = dict(rope_theta=c.pop("rope_theta", 1e6), rope_type="default")
    config = getattr(transformers, config_cls)(**c)
    config._attn_implementation = "eager"
    return getattr(transformers, cls)(config)


def _build(c):
    kind = c["architectures"][0]
    if kind == "LLaDAModelLM":
        cm, mm = import_code("llada", ["configuration_llada", "modeling_llada"], LLADA_REPLACE)
        config = cm.LLaDAConfig(**c)
        config.use_cache = False
        return mm.LLaDAModelLM(config)
    if kind == "LLaDAMoEModelLM":
        cm, mm = import_code("llada_moe", ["configuration_lladamoe", "modeling_lladamoe"])
        config = cm.LLaDAMoEConfig(**c)
        config._attn_implementation, config.rope_theta, config.rope_scaling = "eager", c["rope_theta"], None
        return mm.LLaDAMoEModelLM(config)
    if kind == "DreamModel":
        cm, mm = import_code("dream", ["configuration_dream", "modeling_dream"])
        config = cm.DreamConfig(**c)
        config._attn_implementation, config.rope_theta, config.rope_scaling = "sdpa", c["rope_theta"], None
        return mm.DreamModel(config)
    if kind == "LLaDA2MoeModelLM":
        cm, mm = import_code("llada21", ["configuration_llada21_moe", "modeling_llada21_moe"])
        config = cm.LLaDA2MoeConfig(**{k: v for k, v in c.items() if k not in ("architectures", "model_type")})
        config._attn_implementation = "eager"
        for key in ("rope_theta", "partial_rotary_factor"):
            setattr(config, key, c[key])
        config.use_cache = False
        m = mm.LLaDA2MoeModelLM(config)
        m.model.rotary_emb.inv_freq = inverse_frequencies(types.SimpleNamespace(**c))[0]
        return m
    stock = {"RND1LM": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig"),
             "SDARForCausalLM": ("Qwen3ForCausalLM", "Qwen3Config"),
             "SDARMoeForCausalLM": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig"),
             "Fast_dLLM_QwenForCausalLM": ("Qwen2ForCausalLM", "Qwen2Config")}
    return _stock(*stock[kind], c)


def weights_of(folder):
    return {k: v.float() for k, v in load_file(os.path.join(folder, "model.safetensors")).items()}


def load_model(folder):
    m = _build(folder_config(folder)).eval().float()
    missing, unexpected = m.load_state_dict(weights_of(folder), strict=False)
    assert not unexpected and not [n for n in missing if "inv_freq" not in n and "rotary" not in n], (missing, unexpected)
    return m


def block_mask(n, block):
    """Additive mask [1, 1, n, n]: a position sees those of its own and of earlier blocks; block 0: all."""
    i = torch.arange(n) // block if block else torch.zeros(n)
    return torch.where(i[:, None] >= i[None], 0.0, float("-inf"))[None, None]


def row_function(folder, block):
    """f(tokens [1, n]) -> logits [1, n, vocab] of a forward over all of them: the model's own rows."""
    m, c = load_model(folder), folder_config(folder)
    kind = c["architectures"][0]
    if kind == "LLaDAModelLM":
        return lambda x: m(x).logits
    if kind == "LLaDAMoEModelLM":
        return lambda x: m(x, use_cache=False).logits
    if kind == "DreamModel":
        return lambda x: m(x, "full", None).logits
    return lambda x: m(x, attention_mask=block_mask(x.shape[1], block),
                       position_ids=torch.arange(x.shape[1])[None], use_cache=False).logits


# ---- Recording --------------------------------------------------------------------------------

_rand = torch.rand  # the noise here is torch's even where a script replaces torch.rand
_SOFTMAX = (torch, "softmax"), (torch.nn.functional, "softmax"), (torch.Tensor, "softmax")
_softmax = [getattr(*place) for place in _SOFTMAX]


@contextlib.contextmanager
def _softmax_is(functions):
    saved = [getattr(*place) for place in _SOFTMAX]
    for place, f in zip(_SOFTMAX, functions):
        setattr(*place, f)
    try:
        yield
    finally:
        for place, f in zip(_SOFTMAX, saved):
            setattr(*place, f)


def _true_softmax():
    return _softmax_is(_softmax)


def _shaken_softmax(amplitude, seed):
    """Every probability that the decoding code takes is off by a factor of up to 1 +- amplitude."""
    noise = torch.Generator().manual_seed(seed)

    def shaken(f):
        def g(*a, **k):
            p = f(*a, **k)
            return p * (1 + amplitude * (2 * _rand(p.shape, generator=noise) - 1)).to(p.dtype)
        return g
    return _softmax_is([shaken(f) for f in _softmax])


class Recorder:
    """Wraps a row function: keeps each forward's tokens, and moves every logit by up to `shake`.
    wants_mask [n]: the masked positions of the last forward whose best token is the mask itself."""

    def __init__(self, rows, mask, shake=0.0, seed=0):
        self.rows, self.mask, self.shake = rows, mask, shake
        self.noise = torch.Generator().manual_seed(seed)
        self.tokens = []

    def __call__(self, x, shift=False):
        self.tokens.append(x[0].tolist())
        with _true_softmax():
            logits = self.rows(x).clone()
        if self.shake:
            logits += self.shake * (2 * _rand(logits.shape, generator=self.noise, dtype=torch.float32) - 1)
        best = logits[0].argmax(-1)
        if shift:
            best = torch.cat([best[:1], best[:-1]])
        self.wants_mask = (best == self.mask) & (x[0] == self.mask)
        return logits

    def step(self):
        """Forwards made before the one whose logits are being used."""
        return len(self.tokens) - 1

    def masked(self):
        """Masked positions of the last forward."""
        return [i for i, t in enumerate(self.tokens[-1]) if t == self.mask]


def forwards_of(tokens, final, spans):
    """The fixture's list: of each forward its span (first, end) of the canvas and what changed there."""
    out = []
    for i, (x, (first, end)) in enumerate(zip(tokens, spans)):
        y = tokens[i + 1] if i + 1 < len(tokens) else final
        changes = [[p, y[p]] for p in range(first, end) if y[p] != x[p]]
        out.append(dict(first=first, inputs=x[first:end], changes=changes))
    return out


def random_prompt(n, vocabulary, seed):
    return torch.randint(3, vocabulary - 16, (1, n), generator=torch.Generator().manual_seed(seed)).tolist()[0]


def clear_case(run, seeds, shake=1e-4, probability_shake=1e-5, n_shakes=6):
    """The first seed whose trace stays the same when every logit and every probability moves a little:
    no near ties. run(seed, shake, noise_seed) returns a trace, or None where the case does not fit."""
    def shaken(seed, i):
        with _shaken_softmax(probability_shake, i):
            return run(seed, shake, i)
    for seed in seeds:
        trace = run(seed, 0.0, 0)
        if trace is not None and all(shaken(seed, i) == trace for i in range(1, n_shakes + 1)):
            return seed, trace
    raise RuntimeError(f"no clear case among the seeds {seeds}")


def write_fixture(name, cases):
    os.makedirs(TRACES, exist_ok=True)
    path = os.path.join(TRACES, name + ".json")
    with open(path, "w") as f:
        json.dump(cases, f, separators=(",", ":"))
        f.write("\n")
    print(name, len(cases), "cases", [len(c["forwards"]) for c in cases], os.path.getsize(path), "bytes", flush=True)
