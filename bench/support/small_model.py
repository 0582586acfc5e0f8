"""A model of SDAR's shape with random weights and the bundled model's tokenizer: its answers cost next to nothing, for
programs that look at the server around them."""
import json
import os
import random
import shutil
import struct

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, VOCAB = 32, 2, 1, 16, 32, 4096
CONFIG = {"architectures": ["SDARForCausalLM"], "model_type": "sdar", "vocab_size": VOCAB, "hidden_size": HIDDEN,
          "intermediate_size": INNER, "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
          "head_dim": HEAD_DIM, "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
          "tie_word_embeddings": False, "attention_bias": False, "eos_token_id": 0, "mask_token_id": 1, "block_size": 32}
LAYER = {"self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
         "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
         "self_attn.q_norm": (HEAD_DIM,), "self_attn.k_norm": (HEAD_DIM,), "mlp.gate_proj": (INNER, HIDDEN),
         "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER), "input_layernorm": (HIDDEN,),
         "post_attention_layernorm": (HIDDEN,)}


def bf16(draw, name, shape):
    """Norms are ones; of other weights the magnitude is 0.03 to 0.25, but 8 to 32 in the head: the model is sure of all that
    it says, and a block takes one forward."""
    if len(shape) == 1:
        return b"\x80\x3f" * shape[0]
    n = shape[0] * shape[1]
    data = bytearray(draw.randbytes(2 * n))
    data[1::2] = bytes(draw.choices(b"\x41\xc1" if name == "lm_head.weight" else b"\x3d\xbd\x3e\xbe", k=n))
    return bytes(data)


def write(folder, demo):
    """The model's files, of which the tokenizer's come from the directory demo."""
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    shapes.update({"model.layers.0.%s.weight" % name: shape for name, shape in LAYER.items()})
    draw, header, data = random.Random(1), {}, b""
    for name, shape in shapes.items():
        part = bf16(draw, name, shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(CONFIG, file)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(demo, name), folder)
