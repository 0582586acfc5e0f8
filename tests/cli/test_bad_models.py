"""Model directories that are damaged or contradict themselves: a sentence and exit code 1 or 2."""
import sys
import json
import os
import shutil
import struct

sys.dont_write_bytecode = True
from driver import DEMO, check, copy_model, edit_json, main, read_bytes, read_header, refused, replace_bytes, run

RUN = ["--ids", "5 6 7", "--max-tokens", "4", "--print-ids"]


def refused_run(model, says, code=1):
    refused("run", "-m", model, *RUN, code=code, says=says)


def with_header(data, change):
    """The bytes of a safetensors file after `change` of its header's object or text."""
    header, start = read_header(data)
    text = change(header)
    text = (text if isinstance(text, str) else json.dumps(text if text is not None else header)).encode()
    return struct.pack("<Q", len(text)) + text + data[start:]


def test_missing(folder):
    refused_run(folder + "/no", "config.json")
    refused_run(folder, "config.json")
    refused("inspect", "-m", folder, code=1, says="config.json")
    model = copy_model(folder)
    os.unlink(model + "/model.safetensors")
    refused_run(model, "safetensors")


def test_config(folder):
    model = copy_model(folder)
    config = model + "/config.json"
    good = read_bytes(config)
    for change in [
        {"model_type": "gpt9", "architectures": ["GPT9ForCausalLM"]}, {"num_experts": 0}, {"n_group": 3},
        {"num_experts_per_tok": 1000}, {"mask_token_id": 10 ** 9}, {"hidden_size": 0},
        {"hidden_size": 10 ** 30}, {"num_hidden_layers": 10 ** 9}, {"vocab_size": -1}, {"hidden_size": 63},
        {"num_hidden_layers": "two"}, {"rope_theta": -1.0}, {"num_key_value_heads": 0}, {"head_dim": None,
         "num_attention_heads": 7},
    ]:
        edit_json(config, **change)
        err = refused("run", "-m", model, *RUN, code=1, says="unmask run: ") if "mask_token_id" not in change \
            else None
        if err is None:
            out = run_any(model)
            check(out in (1, 2), "mask token beyond the vocabulary: exit code %d" % out)
        replace_bytes(config, good)
    for data in [b"", b"{", b"[]", b"{\"a\":1,\"a\":2}", b"\xff", good[:-3], good + b"x", b"{" * 100000]:
        replace_bytes(config, data)
        refused_run(model, "config.json")


def run_any(model):
    import subprocess
    from driver import PROGRAM
    return subprocess.run([PROGRAM, "run", "-m", model] + RUN, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def test_weights(folder):
    model = copy_model(folder)
    path = model + "/model.safetensors"
    good = read_bytes(path)
    header, start = read_header(good)
    names = sorted(name for name in header if name != "__metadata__")
    first, second = names[0], names[1]
    last = max(names, key=lambda name: header[name]["data_offsets"])

    def changed(name, **fields):
        def change(h):
            h[name].update(fields)
        return with_header(good, change)

    def removed(h):
        del h[first]

    cases = [
        (good[:-100], "unmask run"), (good[:start - 5], "header"), (good[:4], "unmask run"), (b"", "unmask run"),
        (struct.pack("<Q", 1 << 62) + good[8:], "header"), (with_header(good, removed), "unmask run"),
        (changed(first, shape=[1, 1]), "unmask run"), (changed(first, shape=[-1]), "unmask run"),
        (changed(first, shape=[1 << 62, 1 << 62]), first), (changed(first, dtype="I64"), first),
        (with_header(good, lambda h: h.update({"renamed": h.pop(last)})), last),
        (changed(first, data_offsets=header[second]["data_offsets"]), "unmask run"),
        (changed(first, data_offsets=[0, 1 << 60]), "unmask run"),
        (with_header(good, lambda h: json.dumps(h)[:-1] + ',"%s":{}}' % first), first),
        (with_header(good, lambda h: "nonsense"), "unmask run"),
    ]
    for data, says in cases:
        replace_bytes(path, data)
        refused_run(model, says)


def test_nan(folder):
    model = copy_model(folder)
    path = model + "/model.safetensors"
    data = bytearray(read_bytes(path))
    header, start = read_header(data)
    name = next(n for n in header if n.endswith("norm.weight"))
    begin = start + header[name]["data_offsets"][0]
    data[begin:begin + 2] = b"\xc0\x7f"  # a NaN in bf16; in f32 its upper half is in the next bytes
    if header[name]["dtype"] == "F32":
        data[begin:begin + 4] = b"\x00\x00\xc0\x7f"
    replace_bytes(path, bytes(data))
    err = refused("run", "-m", model, *RUN, code=1, says=["NaN", name])
    check(err.count(name) == 1, "said more than once: " + err)


def test_shards(folder):
    model = copy_model(folder, source=DEMO)
    index = model + "/model.safetensors.index.json"
    good = read_bytes(index)
    shards = json.loads(good)["weight_map"]
    name = sorted(shards)[0]
    for shard, says in [("../outside.safetensors", "outside"), ("/etc/passwd", "unmask run"),
                        ("no.safetensors", "no.safetensors"), ("", "unmask run"), (7, "unmask run")]:
        value = json.loads(good)
        value["weight_map"][name] = shard
        replace_bytes(index, json.dumps(value).encode())
        refused_run(model, says)
    value = json.loads(good)
    value["weight_map"]["model.no.such.tensor"] = shards[name]
    replace_bytes(index, json.dumps(value).encode())
    refused_run(model, "model.no.such.tensor")
    replace_bytes(index, good)
    os.unlink(os.path.join(model, shards[name]))
    refused_run(model, shards[name])


def test_tokenizer(folder):
    model = copy_model(folder, source=DEMO)
    path = model + "/tokenizer.json"
    good = read_bytes(path)
    value = json.loads(good)
    del value["model"]["merges"]
    for data in [json.dumps(value).encode(), b"", b"{}", good[:1000], b"\xff\xfe"]:
        replace_bytes(path, data)
        refused("run", "-m", model, "-p", "x", code=1, says="unmask run: ")
        run("run", "-m", model, *RUN)  # ids do not need it
    replace_bytes(path, good)
    edit_json(model + "/tokenizer_config.json", chat_template="{% for %}")
    refused("run", "-m", model, "-p", "x", code=1, says="unmask run: ")
    check(run("run", "-m", model, "-p", "1 + 3 =", "--raw", "--max-tokens", "8")[0], "--raw needs no template")
    edit_json(model + "/tokenizer_config.json", chat_template=None)
    run("run", "-m", model, "-p", "x", "--max-tokens", "8")
    refused("run", "-m", model, "-p", "x", "--system", "y", code=2, says=["--system", "template"])


def test_fifos(folder):
    """A FIFO without a writer is refused at once; opening it must not wait for one."""
    for name in ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]:
        model = copy_model(folder)
        path = model + "/" + name
        if os.path.lexists(path):
            os.unlink(path)
        os.mkfifo(path)
        if name == "tokenizer.json":
            refused("run", "-m", model, "-p", "x", code=1, says="unmask run: ")
        else:
            refused("run", "-m", model, *RUN, code=1, says="not a regular file")
        shutil.rmtree(model)
    refused("tokenize", "-m", DEMO, "--file", fifo(folder), code=1, says="not a regular file")


def fifo(folder):
    path = folder + "/fifo"
    os.mkfifo(path)
    return path


def test_contradictions(folder):
    """Switches that leave tensors of the file unread would run a part of the model."""
    model = copy_model(folder)
    for key, value in [("use_qk_norm", False), ("num_shared_experts", 0), ("num_hidden_layers", 2),
                       ("moe_router_enable_expert_bias", False)]:
        config = read_bytes(model + "/config.json")
        edit_json(model + "/config.json", **{key: value})
        refused("run", "-m", model, *RUN, code=1, says=key)
        replace_bytes(model + "/config.json", config)
    edit_json(model + "/config.json", quantization_config={"bits": 4})
    refused("run", "-m", model, *RUN, code=1, says="quantization_config")


def test_long_context(folder):
    """The cache holds what one request needs, whatever its blocks."""
    model = copy_model(folder)
    edit_json(model + "/config.json", max_position_embeddings=65536)
    run("run", "-m", model, *RUN, "--block", "2000", "--steps", "1")
    edit_json(model + "/config.json", max_position_embeddings=20)
    run("run", "-m", model, *RUN)  # the default block is no longer than the context
    with open(model + "/generation_config.json", "w") as file:
        json.dump({"block_length": 99999}, file)
    refused("run", "-m", model, *RUN, code=1, says="block_length")


main([test_fifos, test_contradictions, test_long_context, test_missing, test_config, test_weights, test_nan, test_shards, test_tokenizer])
