"""--pack-cache: packed weights in a file give the same scores, and a file that does not fit is
written anew."""
import os
import sys

sys.dont_write_bytecode = True
from driver import DEMO, check, main, read_bytes, refused, run

IDS = " ".join(str(7 * i % 200 + 1) for i in range(40))


def quantized(folder, kind="q4_0"):
    path = os.path.join(folder, kind + ".gguf")
    run("quantize", "-m", DEMO, "-t", kind, "-o", path)
    return path


def logits(folder, model, cache=None):
    path = os.path.join(folder, "logits.safetensors")
    run("logits", "-m", model, "--ids", IDS, "-o", path, "--threads", 2,
        *(["--pack-cache", cache] if cache else []))
    return read_bytes(path)


def stamp(path):
    return os.stat(path).st_ino, os.stat(path).st_mtime_ns


def overwrite(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_same_scores(folder):
    for kind in ["q8_0", "q4_k"]:
        model, cache = quantized(folder, kind), os.path.join(folder, kind + ".packed")
        expected = logits(folder, model)
        check(logits(folder, model, cache) == expected, "other scores where the cache is written")
        written = stamp(cache)
        check(logits(folder, model, cache) == expected, "other scores where the cache is read")
        check(stamp(cache) == written, "the cache was written again")


def test_is_read(folder):
    """Weights that changed behind the back of size, time and samples are not seen."""
    model, cache = quantized(folder), os.path.join(folder, "packed")
    expected = logits(folder, model, cache)
    known, size = os.stat(model), os.path.getsize(model)
    overwrite(model, size // 2, b"\x55" * 64)
    os.utime(model, ns=(known.st_atime_ns, known.st_mtime_ns))
    check(logits(folder, model, cache) == expected, "the cache was not read")
    check(logits(folder, model) != expected, "the weights did not change")
    os.utime(model, ns=(known.st_atime_ns, known.st_mtime_ns + 1))
    check(logits(folder, model, cache) != expected, "a cache of older weights was read")


def test_does_not_fit(folder):
    model, cache = quantized(folder), os.path.join(folder, "packed")
    expected = logits(folder, model, cache)
    whole = read_bytes(cache)
    for damage in ["a byte", "the head", "the end", "longer", "empty", "another model"]:
        if damage == "a byte":
            overwrite(cache, len(whole) - 1000, bytes([whole[-1000] ^ 1]))
        elif damage == "the head":
            overwrite(cache, 8, b"\xff")
        elif damage == "the end":
            os.truncate(cache, len(whole) - 1)
        elif damage == "longer":
            overwrite(cache, len(whole), b"x")
        elif damage == "empty":
            os.truncate(cache, 0)
        else:
            logits(folder, quantized(folder, "q8_0"), cache)
        check(read_bytes(cache) != whole, "%s: nothing was damaged" % damage)
        check(logits(folder, model, cache) == expected, "%s: other scores" % damage)
        check(read_bytes(cache) == whole, "%s: the cache was not written anew" % damage)
    check(sorted(os.listdir(folder)) == ["logits.safetensors", "packed", "q4_0.gguf", "q8_0.gguf"],
          "files are left over: %s" % os.listdir(folder))


def test_refused(folder):
    model, cache = quantized(folder), os.path.join(folder, "packed")
    ids = ["--ids", "1 2 3", "-o", os.path.join(folder, "logits")]
    refused("logits", "-m", DEMO, *ids, "--pack-cache", cache, code=2,
            says=["--pack-cache", "block type"])
    refused("logits", "-m", model, *ids, "--pack-cache", cache, "--precision", "reference", code=2,
            says=["--pack-cache", "fast precision"])
    refused("bench", "--synthetic", "llada-169m", "-t", "q4_0", "--layers", 1, "--pack-cache", cache,
            code=2, says=["--pack-cache", "synthetic"])
    refused("logits", "-m", model, *ids, "--pack-cache", os.path.join(folder, "none", "packed"),
            code=1, says=["cannot write", "none/packed"])
    check(not os.path.exists(cache), "a refused run wrote a cache")


main([test_same_scores, test_is_read, test_does_not_fit, test_refused])
