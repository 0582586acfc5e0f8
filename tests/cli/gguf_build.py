"""Makes GGUF files out of small model directories, as llama.cpp's converters name and order things.

Written apart from src/models/gguf_schema.c on purpose: the two are compared by test_gguf.py.
"""
import json
import os
import struct

from driver import read_bytes, read_header

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
TYPE_IDS = {"F32": 0, "F16": 1, "BF16": 30}
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def item(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q"}[kind], value)


def pack_value(key, kind, value):
    out = text(key)
    if isinstance(value, list):
        return out + struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(item(kind, v) for v in value)
    return out + struct.pack("<I", kind) + item(kind, value)


def pack(values, tensors, version=3, alignment=32):
    """values [(key, kind, value)], tensors [(name, dims outermost first, type id, bytes)]."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    out += b"".join(pack_value(*v) for v in values)
    offset, data = 0, []
    for name, dims, kind, content in tensors:
        out += text(name) + struct.pack("<I", len(dims))
        out += b"".join(struct.pack("<Q", d) for d in reversed(dims)) + struct.pack("<IQ", kind, offset)
        data.append(content + bytes(-len(content) % alignment))
        offset += len(data[-1])
    return out + bytes(-len(out) % alignment) + b"".join(data)


class Source:
    """The tensors of a directory with one safetensors file."""

    def __init__(self, directory):
        self.config = json.loads(read_bytes(os.path.join(directory, "config.json")))
        self.data = read_bytes(os.path.join(directory, "model.safetensors"))
        self.header, self.start = read_header(self.data)

    def has(self, name):
        return name in self.header

    def get(self, name):
        """(type, shape, bytes)"""
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        return entry["dtype"], entry["shape"], self.data[self.start + begin:self.start + end]


def widen(kind, content):
    """Bytes of F32 from bytes of F32, or of BF16, whose bits are the upper half."""
    if kind == "F32":
        return content
    out = bytearray(2 * len(content))
    out[2::4], out[3::4] = content[0::2], content[1::2]
    return bytes(out)


def narrow(content):
    """Bytes of F16 from bytes of F32."""
    n = len(content) // 4
    return struct.pack("<%de" % n, *struct.unpack("<%df" % n, content))


def interleave(shape, content, n_heads):
    """The converter's permute(): row 2j + b of a head's rows is row b * half + j."""
    row_bytes, head = len(content) // shape[0], shape[0] // n_heads
    rows = [content[r * row_bytes:(r + 1) * row_bytes] for r in range(shape[0])]
    out = []
    for h in range(n_heads):
        for j in range(head // 2):
            out += [rows[h * head + j], rows[h * head + head // 2 + j]]
    return b"".join(out)


class Builder:
    def __init__(self, source, architecture, stored):
        self.source, self.architecture, self.stored = source, architecture, stored
        self.values = [("general.architecture", STRING, architecture)]
        self.tensors = []

    def own(self, key, kind, value):
        if value is not None:
            self.values.append((self.architecture + "." + key, kind, value))

    def put(self, name, shape, kind, content):
        is_vector = len(shape) == 1 or "ffn_gate_inp" in name
        stored = "F32" if is_vector else self.stored or kind
        if stored != kind:
            content, kind = widen(kind, content), "F32"
            if stored == "F16":
                content, kind = narrow(content), "F16"
        assert stored == kind
        self.tensors.append((name, shape, TYPE_IDS[kind], content))

    def copy(self, target, name, n_heads=0):
        kind, shape, content = self.source.get(name)
        self.put(target, shape, kind, interleave(shape, content, n_heads) if n_heads else content)

    def copy_if(self, target, name):
        if self.source.has(name):
            self.copy(target, name)

    def stack(self, prefix, layer, n_experts):
        """Experts as one tensor for each of gate, up, down."""
        experts = prefix + ".experts."
        if self.source.has(experts + "gate_up_proj"):
            kind, shape, content = self.source.get(experts + "gate_up_proj")
            half = shape[1] // 2
            size = len(content) // n_experts // 2
            for part, name in enumerate(["gate", "up"]):
                parts = [content[(2 * e + part) * size:(2 * e + part + 1) * size] for e in range(n_experts)]
                self.put("blk.%d.ffn_%s_exps.weight" % (layer, name), [n_experts, half, shape[2]], kind,
                         b"".join(parts))
            self.copy("blk.%d.ffn_down_exps.weight" % layer, experts + "down_proj")
            return
        for name in ["gate", "up", "down"]:
            parts = [self.source.get("%s%d.%s_proj.weight" % (experts, e, name)) for e in range(n_experts)]
            self.put("blk.%d.ffn_%s_exps.weight" % (layer, name), [n_experts] + parts[0][1], parts[0][0],
                     b"".join(p[2] for p in parts))


def add_sizes(b, c):
    def get(*keys):
        return next((c[k] for k in keys if c.get(k) is not None), None)

    b.own("block_count", U32, get("num_hidden_layers", "n_layers"))
    b.own("context_length", U32, get("max_position_embeddings", "max_sequence_length"))
    b.own("embedding_length", U32, get("hidden_size", "d_model"))
    b.own("feed_forward_length", U32, get("dense_intermediate_size", "intermediate_size", "mlp_hidden_size"))
    b.own("attention.head_count", U32, get("num_attention_heads", "n_heads"))
    b.own("attention.head_count_kv", U32, get("num_key_value_heads", "n_kv_heads"))
    b.own("attention.layer_norm_rms_epsilon", F32, get("rms_norm_eps"))
    b.own("rope.freq_base", F32, get("rope_theta"))
    b.own("attention.causal", BOOL, 0)
    if get("head_dim"):
        b.own("attention.key_length", U32, get("head_dim"))
        b.own("attention.value_length", U32, get("head_dim"))
    b.own("expert_count", U32, get("num_experts"))
    b.own("expert_used_count", U32, get("num_experts_per_tok"))
    b.own("expert_feed_forward_length", U32, get("expert_intermediate_size", "moe_intermediate_size"))
    b.values.append(("tokenizer.ggml.mask_token_id", U32, c["mask_token_id"]))
    if c.get("eos_token_id") is not None:
        b.values.append(("tokenizer.ggml.eos_token_id", U32, c["eos_token_id"]))


def add_llada(b, c):
    b.values.append(("diffusion.shift_logits", BOOL, 0))
    b.own("rope.dimension_count", U32, c["d_model"] // c["n_heads"])
    b.own("vocab_size", U32, c["vocab_size"])
    b.copy("token_embd.weight", "model.transformer.wte.weight")
    b.copy("output_norm.weight", "model.transformer.ln_f.weight")
    b.copy_if("output.weight", "model.transformer.ff_out.weight")
    names = {"attn_norm": "attn_norm", "attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj",
             "attn_output": "attn_out", "ffn_norm": "ff_norm", "ffn_gate": "ff_proj", "ffn_up": "up_proj",
             "ffn_down": "ff_out"}
    heads = {"attn_q": c["n_heads"], "attn_k": c["n_kv_heads"]}
    for i in range(c["n_layers"]):
        for target, name in names.items():
            b.copy("blk.%d.%s.weight" % (i, target), "model.transformer.blocks.%d.%s.weight" % (i, name),
                   heads.get(target, 0))


def add_qwen(b, c):
    if b.architecture == "llada-moe":
        b.values.append(("diffusion.shift_logits", BOOL, 0))
    if b.architecture in ("sdar", "sdar-moe"):
        b.own("block_size", U32, c["block_size"])
    b.copy("token_embd.weight", "model.embed_tokens.weight")
    b.copy("output_norm.weight", "model.norm.weight")
    b.copy_if("output.weight", "lm_head.weight")
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
             "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj", "ffn_gate_inp": "mlp.gate"}
    for i in range(c["num_hidden_layers"]):
        for target, name in names.items():
            for end in ["weight", "bias"]:
                b.copy_if("blk.%d.%s.%s" % (i, target, end), "model.layers.%d.%s.%s" % (i, name, end))
        if c.get("num_experts"):
            b.stack("model.layers.%d.mlp" % i, i, c["num_experts"])


def add_llada2(b, c):
    b.own("rope.dimension_count", U32, int(c["head_dim"] * c["partial_rotary_factor"]))
    b.own("leading_dense_block_count", U32, c["first_k_dense_replace"])
    b.own("vocab_size", U32, c["vocab_size"])
    b.own("expert_shared_count", U32, c["num_shared_experts"])
    b.own("expert_shared_feed_forward_length", U32, c["num_shared_experts"] * c["moe_intermediate_size"])
    b.own("expert_weights_scale", F32, c["routed_scaling_factor"])
    b.own("expert_weights_norm", BOOL, 1)
    b.own("expert_gating_func", U32, 2)
    b.own("expert_group_count", U32, c["n_group"])
    b.own("expert_group_used_count", U32, c["topk_group"])
    for key in ["expert_capacity", "delete_token_id", "split_token_id"]:
        b.own(key, U32, c.get(key))
    if c.get("expert_capacity"):
        b.own("block_size", U32, c["block_size"])
    b.copy("token_embd.weight", "model.word_embeddings.weight")
    b.copy("output_norm.weight", "model.norm.weight")
    b.copy_if("output.weight", "lm_head.weight")
    names = {"attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
             "attn_qkv.weight": "attention.query_key_value.weight",
             "attn_q_norm.weight": "attention.query_layernorm.weight",
             "attn_k_norm.weight": "attention.key_layernorm.weight",
             "attn_output.weight": "attention.dense.weight", "ffn_gate_inp.weight": "mlp.gate.weight",
             "exp_probs_b.bias": "mlp.gate.expert_bias"}
    for part in ["gate", "up", "down"]:
        names["ffn_%s.weight" % part] = "mlp.%s_proj.weight" % part
        names["ffn_%s_shexp.weight" % part] = "mlp.shared_experts.%s_proj.weight" % part
    for i in range(c["num_hidden_layers"]):
        for target, name in names.items():
            b.copy_if("blk.%d.%s" % (i, target), "model.layers.%d.%s" % (i, name))
        if i >= c["first_k_dense_replace"]:
            b.stack("model.layers.%d.mlp" % i, i, c["num_experts"])


def convert(directory, architecture, stored=None):
    """A Builder with a model's values and tensors; stored: None (as in the directory), F32, F16."""
    b = Builder(Source(directory), architecture, stored)
    add_sizes(b, b.source.config)
    add = {"llada": add_llada, "llada2": add_llada2}.get(architecture, add_qwen)
    add(b, b.source.config)
    return b


def split(builder, stem, n_parts):
    """Writes stem-00001-of-0000N.gguf; the first part has the metadata. Returns the first path."""
    paths, tensors = [], builder.tensors
    for i in range(n_parts):
        values = (builder.values if i == 0 else []) + [("split.no", U32, i), ("split.count", U32, n_parts),
                                                       ("split.tensors.count", I32, len(tensors))]
        paths.append("%s-%05d-of-%05d.gguf" % (stem, i + 1, n_parts))
        part = tensors[i * len(tensors) // n_parts:(i + 1) * len(tensors) // n_parts]
        with open(paths[-1], "wb") as file:
            file.write(pack(values, part))
    return paths
