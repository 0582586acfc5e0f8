"""quantize: what is written is read as the same model; errors, mixes, refusals, memory."""
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import gguf_build as build
from driver import (DATA, DEMO, PROGRAM, check, edit_json, main, read_bytes, read_header, refused,
                    replace_bytes, run)

MODELS = ["llada", "llada2_moe", "llada_moe", "dream", "rnd1", "sdar", "sdar_moe", "llada22_moe",
          "illada", "fast_dllm_v2"]
TYPES = ["q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "f16", "bf16", "f32"]
IDS = " ".join(str(7 * i % 60 + 1) for i in range(32))

IS_SANITIZED = any(word in read_bytes(PROGRAM) for word in (b"__asan_init", b"__tsan_init"))


def model_of(name):
    return os.path.join(DATA, "models", name)


def quantize(folder, model, kind, *options, name="out.gguf"):
    path = os.path.join(folder, name)
    out, err = run("quantize", "-m", model, "-t", kind, "-o", path, "--force", "--json", *options)
    check(err == "", err)
    return path, json.loads(out)


def scores(folder, model, ids=IDS):
    path = os.path.join(folder, "logits.safetensors")
    run("logits", "-m", model, "--ids", ids, "-o", path, "--threads", 1, "--precision", "reference")
    data = read_bytes(path)
    return data[read_header(data)[1]:]


def nmse(here, there):
    a, b = (struct.unpack("<%df" % (len(x) // 4), x) for x in (here, there))
    return sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b)


def rewrite(folder, name, change):
    """A copy of a directory each of whose tensors is what change(key, type, shape, bytes) gives."""
    target = os.path.join(folder, name)
    shutil.copytree(model_of(name), target)
    path = os.path.join(target, "model.safetensors")
    source, header, at, data = build.Source(model_of(name)), {}, 0, []
    for key in [k for k in source.header if k != "__metadata__"]:
        kind, shape, content = change(key, *source.get(key))
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
        data.append(content)
    text = json.dumps(header).encode()
    replace_bytes(path, struct.pack("<Q", len(text)) + text + b"".join(data))
    return target


def test_same_logits(folder):
    """Weights of these models are bfloat16: in that type nothing is lost, and nothing rearranged."""
    for name in MODELS:
        path, report = quantize(folder, model_of(name), "bf16")
        check(report["error"] == 0 and os.path.getsize(path) == report["file_bytes"], report)
        check(scores(folder, path) == scores(folder, model_of(name)), "%s: other scores" % name)


def test_same_logits_f32(folder):
    for name in MODELS[:1 if IS_SANITIZED else 6]:
        wide = rewrite(folder, name, lambda key, kind, shape, data: ("F32", shape, build.widen(kind, data)))
        path, _ = quantize(folder, wide, "f32")
        check(scores(folder, path) == scores(folder, wide), "%s: other scores" % name)


def test_types(folder):
    """Fewer bits, more error, in tensors and in scores. Bounds: twice what was measured."""
    expected = scores(folder, DEMO)
    bounds = {"q8_0": 3.1e-4, "q6_k": 1.8e-3, "q5_k": 4.4e-3, "q4_k": 1.7e-2, "q4_0": 3e-2, "f16": 2.1e-13,
              "bf16": 0, "f32": 0}
    reports = {}
    for kind in TYPES:
        path, reports[kind] = quantize(folder, DEMO, kind)
        info = json.loads(run("inspect", "-m", path, "--json")[0])
        check(info["family"] == "llada2_moe" and info["parameters"] == reports[kind]["parameters"], info)
        check(kind.upper() in [t["type"] for t in reports[kind]["tensors"]], reports[kind])
        error = nmse(scores(folder, path), expected)
        check(error <= bounds[kind], "%s: NMSE of scores is %g" % (kind, error))
    for better, worse in [("q8_0", "q6_k"), ("q6_k", "q5_k"), ("q5_k", "q4_k"), ("q4_k", "q4_0")]:
        check(reports[better]["error"] < reports[worse]["error"], (better, worse))
    for more, fewer in [("q8_0", "q6_k"), ("q6_k", "q5_k"), ("q5_k", "q4_k"), ("q4_k", "q4_0")]:
        check(reports[more]["bits_per_weight"] > reports[fewer]["bits_per_weight"], (more, fewer))


def test_same_answer(folder):
    """Text, chat template and defaults of decoding go along."""
    path, _ = quantize(folder, DEMO, "bf16")
    for words in [["-p", "a b", "--max-tokens", 24], ["--ids", "5 6 7", "--max-tokens", 24, "--print-ids"]]:
        check(run("run", "-m", path, *words)[0] == run("run", "-m", DEMO, *words)[0], "another answer")
    here, there = (json.loads(run("inspect", "-m", m, "--json")[0]) for m in (path, DEMO))
    for key in ["defaults", "mask_token", "stop_tokens", "tokenizer", "chat_template", "shapes"]:
        check(here[key] == there[key], "%s is %r, expected %r" % (key, here[key], there[key]))


def test_from_gguf(folder):
    """A GGUF file as the source gives the file that the directory gives."""
    wide, _ = quantize(folder, model_of("llada"), "bf16", name="wide.gguf")
    a, b = (read_bytes(quantize(folder, m, "q8_0", name=n)[0])
            for m, n in ((wide, "a.gguf"), (model_of("llada"), "b.gguf")))
    check(nmse(scores(folder, folder + "/a.gguf"), scores(folder, folder + "/b.gguf")) == 0, "other scores")
    check(len(a) == len(b), "other sizes")


def test_mix(folder):
    def kinds(report):
        return {t["name"]: (t["type"], t["wanted"]) for t in report["tensors"]}

    mixed = kinds(quantize(folder, model_of("llada2_moe"), "q4_k")[1])
    pure = kinds(quantize(folder, model_of("llada2_moe"), "q4_k", "--pure")[1])
    # Rows of 64 and 176 numbers: no whole blocks of 256.
    check(mixed["output.weight"] == ("Q8_0", "Q6_K") and pure["output.weight"] == ("Q4_0", "Q4_K"),
          (mixed["output.weight"], pure["output.weight"]))
    for found in (mixed, pure):
        for name, kind in found.items():
            if "norm" in name or "bias" in name or "ffn_gate_inp" in name:
                check(kind == ("F32", None), (name, kind))
    check(all(kind[0] in ("Q4_0", "F16", "BF16", "F32") for kind in pure.values()), pure)
    table = "".join(run("quantize", "-m", model_of("llada"), "-t", "q4_k", "-o", folder + "/t.gguf", "--verbose"))
    check("its rows are no whole blocks of Q4_K" in table and "bits a weight" in table, table)


def test_threads(folder):
    files = [read_bytes(quantize(folder, model_of("sdar"), "q4_k", "--threads", n)[0]) for n in (1, 3)]
    check(files[0] == files[1], "bits depend on threads")


def test_refused(folder):
    path, _ = quantize(folder, model_of("dream"), "q8_0")
    before, source = read_bytes(path), model_of("dream")
    refused("quantize", "-m", source, "-t", "q8_0", "-o", path, code=1, says=["exists", "--force"])
    check(read_bytes(path) == before, "the file was changed")
    refused("quantize", "-m", path, "-t", "q8_0", "-o", folder + "/b", code=1, says="quantized already")
    refused("quantize", "-m", source, "-t", "q3_k", "-o", folder + "/b", code=2, says="q3_k")
    refused("quantize", "-m", source, "-o", folder + "/b", code=2, says="type")
    refused("quantize", "-m", source, "-t", "q8_0", code=2, says="-o FILE is missing")
    wide, _ = quantize(folder, source, "bf16", name="wide.gguf")
    before = read_bytes(wide)
    refused("quantize", "-m", wide, "-t", "f16", "-o", wide, "--force", code=2, says="that is read")
    check(read_bytes(wide) == before, "the source was changed")
    refused("quantize", "-m", source, "-t", "q8_0", "-o", folder + "/no/where", code=1, says="cannot write")
    refused("quantize", "-m", folder, "-t", "q8_0", "-o", folder + "/b", code=1, says="config.json")
    bad = rewrite(folder, "dream", lambda key, kind, shape, data:
                  (kind, shape, data[:2] + b"\xc0\x7f" + data[4:] if "layers.1.mlp.up" in key else data))
    refused("quantize", "-m", bad, "-t", "q8_0", "-o", folder + "/b", "--json", code=1,
            says=["blk.1.ffn_up.weight", "not finite"])
    left = sorted(f for f in os.listdir(folder) if f.startswith("b"))
    check(left == [], "left behind: %r" % left)


def limited(*arguments, **limits):
    def limit():
        for key, value in limits.items():
            resource.setrlimit(getattr(resource, key), (value, value))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return subprocess.run([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=limit, timeout=300)


def test_no_space(folder):
    done = limited("quantize", "-m", model_of("dream"), "-t", "f32", "-o", folder + "/full.gguf",
                   RLIMIT_FSIZE=100000)
    check(done.returncode == 1 and b"cannot write" in done.stderr, done)
    check(os.listdir(folder) == [], "left behind: %r" % os.listdir(folder))


def test_memory(folder):
    """Tensors are streamed: memory of its own stays far below one matrix."""
    if IS_SANITIZED:
        return
    n, large = 1 << 18, ["model.transformer.wte.weight", "model.transformer.ff_out.weight"]
    zeros = bytes(n * 64 * 4)
    model = rewrite(folder, "llada", lambda key, kind, shape, data:
                    ("F32", [n, shape[1]], zeros) if key in large else (kind, shape, data))
    edit_json(model + "/config.json", vocab_size=n, embedding_size=n)
    for name in os.listdir(model):
        if name.startswith("tokenizer"):
            os.unlink(os.path.join(model, name))
    done = limited("quantize", "-m", model, "-t", "q4_0", "-o", folder + "/large.gguf", "--threads", 1,
                   RLIMIT_DATA=len(zeros) // 2)
    check(done.returncode == 0, done.stderr)


def test_interrupt(folder):
    """Ctrl-C leaves nothing behind."""
    words = ["quantize", "-m", DEMO, "-t", "q4_k", "-o", folder + "/x.gguf", "--threads", "1"]
    process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.time() + 60
    while not os.listdir(folder) and process.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    if process.returncode == 0:  # it was faster
        check(os.listdir(folder) == ["x.gguf"], os.listdir(folder))
        return
    check(process.returncode == 1 and b"interrupted" in err, (process.returncode, err))
    check(os.listdir(folder) == [], os.listdir(folder))


def test_importances(folder):
    """A text that is run through the model makes the errors that count smaller."""
    text = os.path.join(folder, "text.txt")
    with open(text, "w") as file:
        file.write("Once upon a time there was a little girl. She had a red ball. " * 12)
    # As diffusion models see a text: with masks in it.
    ids = json.loads(run("tokenize", "-m", DEMO, "--file", text)[0])
    ids[::3] = [json.loads(run("inspect", "-m", DEMO, "--json")[0])["mask_token"]] * len(ids[::3])
    ids = " ".join(map(str, ids))
    expected = scores(folder, DEMO, ids)
    plain, _ = quantize(folder, DEMO, "q4_0", "--pure", name="plain.gguf")
    weighed, report = quantize(folder, DEMO, "q4_0", "--pure", "--imatrix", text, name="weighed.gguf")
    check(sum(t["importance"] for t in report["tensors"]) > 10, report)
    check(read_bytes(plain) != read_bytes(weighed), "the text changed nothing")
    check(nmse(scores(folder, weighed, ids), expected) < nmse(scores(folder, plain, ids), expected), "a text gains nothing")
    refused("quantize", "-m", DEMO, "-t", "q4_0", "-o", folder + "/c.gguf", "--imatrix", folder + "/none", code=1,
            says="none")


main([test_importances, test_same_logits, test_same_logits_f32, test_types, test_same_answer, test_from_gguf, test_mix,
      test_threads, test_refused, test_no_space, test_memory, test_interrupt])
