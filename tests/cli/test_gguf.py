"""GGUF files as models: the same scores, bit for bit, as the directories that they were made of."""
import json
import os
import shutil
import struct
import sys

sys.dont_write_bytecode = True
import gguf_build as build
from driver import DATA, check, main, read_bytes, read_header, refused, replace_bytes, run

MODELS = {"llada": "llada", "llada_moe": "llada-moe", "dream": "dream", "rnd1": "rnd1",
          "llada2_moe": "llada2", "llada22_moe": "llada2", "sdar": "sdar", "sdar_moe": "sdar-moe"}
IDS = " ".join(str(7 * i % 490 + 1) for i in range(40))


def model_of(name):
    return os.path.join(DATA, "models", name)


def logits(folder, model):
    path = os.path.join(folder, "logits.safetensors")
    run("logits", "-m", model, "--ids", IDS, "-o", path, "--threads", 1, "--precision", "reference")
    data = read_bytes(path)
    return data[read_header(data)[1]:]


def widened(folder, name):
    """A copy of a directory whose matrices are F32: sums over other types may have another order."""
    target = os.path.join(folder, name)
    shutil.copytree(model_of(name), target)
    header, start = read_header(read_bytes(target + "/model.safetensors"))
    source, at, data = build.Source(model_of(name)), 0, []
    for key in [k for k in header if k != "__metadata__"]:
        kind, shape, content = source.get(key)
        content = build.widen(kind, content)
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
        data.append(content)
    text = json.dumps(header).encode()
    replace_bytes(target + "/model.safetensors", struct.pack("<Q", len(text)) + text + b"".join(data))
    return target


def write(folder, builder, name="model.gguf", **layout):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(build.pack(builder.values, builder.tensors, **layout))
    return path


def test_same_logits(folder):
    for name, architecture in MODELS.items():
        stored = write(folder, build.convert(model_of(name), architecture))
        check(logits(folder, stored) == logits(folder, model_of(name)), "%s: other scores" % name)


def test_same_logits_f32(folder):
    for name in ["llada", "llada2_moe"]:
        wide = write(folder, build.convert(model_of(name), MODELS[name], "F32"))
        check(logits(folder, wide) == logits(folder, widened(folder, name)), "%s: other scores" % name)


def test_f16(folder):
    """Weights of these models are exact in BF16, and nearly so in F16."""
    path = write(folder, build.convert(model_of("llada"), "llada", "F16"))
    here, there = logits(folder, path), logits(folder, model_of("llada"))
    n = len(here) // 4
    a, b = struct.unpack("<%df" % n, here), struct.unpack("<%df" % n, there)
    error = sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b)
    check(error < 1e-6, "NMSE of F16 is %g" % error)


def test_inspect(folder):
    for name in ["llada", "dream", "llada22_moe"]:
        path = write(folder, build.convert(model_of(name), MODELS[name]))
        here = json.loads(run("inspect", "-m", path, "--json")[0])
        there = json.loads(run("inspect", "-m", model_of(name), "--json")[0])
        for key in ["architecture", "family", "shifted", "shapes", "parameters", "defaults", "mask_token",
                    "stop_tokens", "delete_token", "split_token", "cache_bytes_per_token"]:
            check(here[key] == there[key], "%s: %s is %r, expected %r" % (name, key, here[key], there[key]))


def test_run(folder):
    path = write(folder, build.convert(model_of("llada2_moe"), "llada2"))
    words = ["--ids", "5 6 7", "--max-tokens", 24, "--print-ids"]
    check(run("run", "-m", path, *words)[0] == run("run", "-m", model_of("llada2_moe"), *words)[0],
          "other tokens")


def test_layouts(folder):
    """Version 2, another alignment, parts, a head that is the embedding."""
    builder = build.convert(model_of("dream"), "dream")
    expected = logits(folder, model_of("dream"))
    check(logits(folder, write(folder, builder, version=2)) == expected, "version 2")
    paths = build.split(builder, folder + "/dream", 3)
    check(logits(folder, paths[0]) == expected, "parts")
    refused("inspect", "-m", paths[1], code=2, says="part 2 of 3")
    os.unlink(paths[2])
    refused("inspect", "-m", paths[0], code=1, says="dream-00003-of-00003.gguf")
    builder.values.append(("general.alignment", build.U32, 64))
    check(logits(folder, write(folder, builder, alignment=64)) == expected, "alignment")
    builder.tensors = [t for t in builder.tensors if t[0] != "output.weight"]
    check(logits(folder, write(folder, builder, alignment=64)) != expected, "a tied head")


def test_refused(folder):
    builder = build.convert(model_of("dream"), "dream")
    good = builder.values, builder.tensors

    def refuse(says, code=1, **changes):
        path = write(folder, builder)
        refused("logits", "-m", path, "--ids", "1 2", "-o", folder + "/x", code=code, says=says)
        builder.values, builder.tensors = list(good[0]), list(good[1])

    def change(key, kind, value):
        builder.values = [v for v in builder.values if v[0] != key]
        if kind is not None:
            builder.values.append((key, kind, value))

    change("general.architecture", build.STRING, "qwen2")
    refuse(["qwen2", "known are llada"])
    change("dream.block_count", None, None)
    refuse(["dream.block_count", "found nothing"])
    change("dream.block_count", build.STRING, "three")
    refuse(["dream.block_count", "expected an integer", "a string"])
    change("dream.block_count", build.U32, 4)
    refuse("blk.3.attn_norm.weight")
    change("dream.block_count", build.U32, 2)
    refuse(["blk.2", "no place"])
    change("dream.attention.causal", build.BOOL, 1)
    refuse("dream.attention.causal")
    change("dream.rope.dimension_count", build.U32, 8)
    refuse("dream.rope.dimension_count")
    change("dream.rope.scaling.type", build.STRING, "yarn")
    refuse("dream.rope.scaling.type")
    change("dream.attention.head_count", build.U32, 5)
    refuse(["model.gguf", "num_attention_heads"])
    change("tokenizer.ggml.mask_token_id", build.U32, 512)
    refuse(["model.gguf", "mask_token_id"])
    builder.tensors[3] = builder.tensors[3][:2] + (10,) + builder.tensors[3][3:]
    refuse([builder.tensors[3][0], "Q2_K"])
    builder.tensors.append(("blk.0.attn_q.scale", [1], 0, bytes(4)))
    refuse(["blk.0.attn_q.scale", "no place"])
    builder.tensors = [t for t in builder.tensors if t[0] != "blk.1.attn_v.bias"]
    refuse(["blk.1.attn_v.bias", "found none"])


def test_bad_files(folder):
    data = read_bytes(write(folder, build.convert(model_of("sdar"), "sdar")))
    path = folder + "/bad.gguf"
    for content, says in [(b"", "end of the file"), (b"not a model", "begins with"),
                          (data[:-40], "cut off"), (data[:200], "do not fit"), (data[:1500], "end of the file"),
                          (data[:4] + b"\0\0\0\3" + data[8:], "big-endian")]:
        replace_bytes(path, content)
        refused("inspect", "-m", path, code=1, says=says)
    os.mkdir(folder + "/directory")
    os.rename(path, folder + "/directory/bad.gguf")
    refused("inspect", "-m", folder + "/directory", code=1, says="config.json")


def test_shift(folder):
    """diffusion.shift_logits is the file's to say for models that see everything."""
    builder = build.convert(model_of("dream"), "dream")
    builder.values.append(("diffusion.shift_logits", build.BOOL, 0))
    path = write(folder, builder)
    check(json.loads(run("inspect", "-m", path, "--json")[0])["shifted"] is False, "shifted")


main([test_same_logits, test_same_logits_f32, test_f16, test_inspect, test_run, test_layouts, test_refused,
      test_bad_files, test_shift])
