#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/tokenizers: what Hugging Face's `tokenizers` gives for 10,000 texts.

Usage: make_tokenizer_fixture.py GPT2_DIR QWEN3_DIR DEMO_DIR VECTORS_DIR OUT_DIR
       make_tokenizer_fixture.py --young > src/text/unicode_young.c
(each of the first three holds a tokenizer.json; needs the Python package `tokenizers`).

strings.bin     u32 count, then for each: u32 bytes, UTF-8
NAME/ids.bin    for each string: u32 number of ids, u64 hash of them
NAME/decode.bin u32 count, then for each: u32 n, i32 ids [n], u8 skip_special, u32 bytes, UTF-8
cases.json      small tokenizers (flags, normalizers, splits), texts, ids or their hash

The hash is FNV-1a by whole ids: h = 14695981039346656037; h = (h ^ id) * 1099511628211 mod 2^64.
Texts hold only characters of Unicode 14: see the README of src/text.
"""
import json
import os
import random
import shutil
import struct
import sys
import unicodedata

from tokenizers import Tokenizer, normalizers

SEED = 20240229
N_STRINGS = 10000
N_DECODES = 400


def fnv(ids):
    h = 14695981039346656037
    for i in ids:
        h = ((h ^ i) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return h


# ---- Texts -------------------------------------------------------------------------------------

def is_old(c):
    """Assigned in Unicode 14 or before, whatever this Python knows."""
    return unicodedata.category(chr(c)) not in ("Cn", "Cs")


assert unicodedata.unidata_version == "14.0.0", "run with a Python of Unicode 14 (3.11)"
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and is_old(c)]
ALL_SMALL = [c for c in ALL if not (0x3400 <= c < 0xA000 or 0xAC00 <= c < 0xE000 or c >= 0x20000)]
BY_CATEGORY = {}
for _c in ALL:
    BY_CATEGORY.setdefault(unicodedata.category(chr(_c)), []).append(_c)
DIGITS = BY_CATEGORY["Nd"] + BY_CATEGORY["Nl"] + BY_CATEGORY["No"]
MARKS = BY_CATEGORY["Mn"] + BY_CATEGORY["Mc"] + BY_CATEGORY["Me"]
DECOMPOSING = [c for c in ALL if unicodedata.normalize("NFKD", chr(c)) != chr(c)]
CANONICAL = [c for c in ALL if unicodedata.normalize("NFD", chr(c)) != chr(c)]
SPACES = [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, 0x180E, 0x2000, 0x2003, 0x2009, 0x200A, 0x200B,
          0x200C, 0x200D, 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF]
BLOCKS = [(0x41, 0x5B), (0x61, 0x7B), (0x30, 0x3A), (0x21, 0x30), (0xC0, 0x180), (0x370, 0x400),
          (0x400, 0x530), (0x531, 0x590), (0x591, 0x600), (0x600, 0x700), (0x700, 0x7C0),
          (0x900, 0x980), (0x980, 0xA00), (0xB80, 0xC00), (0xE00, 0xE80), (0xF00, 0x1000),
          (0x1000, 0x10A0), (0x10A0, 0x1100), (0x1100, 0x1200), (0x1200, 0x1380), (0x13A0, 0x1400),
          (0x1780, 0x1800), (0x1800, 0x18B0), (0x1E00, 0x2000), (0x2000, 0x2070), (0x20A0, 0x20D0),
          (0x2100, 0x2200), (0x2200, 0x2300), (0x2460, 0x2500), (0x2500, 0x2600), (0x3000, 0x3040),
          (0x3040, 0x3100), (0x3131, 0x3190), (0x4E00, 0x5000), (0xAC00, 0xAE00), (0xF900, 0xFB00),
          (0xFB00, 0xFE00), (0xFF00, 0xFFF0), (0x10000, 0x10100), (0x12000, 0x12400),
          (0x1D400, 0x1D800), (0x1F300, 0x1F700), (0x1F900, 0x1FA00), (0x20000, 0x20100),
          (0xE0020, 0xE0080)]
WORDS = ("the of and to in is that it was for on are as with his they at be this have from or had "
         "by hot word but what some we can out other were all there when up use your how said an "
         "each she Which THEIR Time if Will way About many Then them Write would like so these "
         "her long make thing see him two has look more day could go come did number sound no "
         "most people my over know water than call first who may down side been now find").split()
CONTRACTIONS = [a + b for a in ("'", "\u2019", "`") for b in
                ("s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Re", "rE", "VE", "M", "LL",
                 "Ll", "lL", "D", "\u017f", "x", "lll", "sd", "")]
EMOJI = ["\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466", "\U0001F3F3\uFE0F\u200D\U0001F308",
         "\U0001F1E9\U0001F1EA", "\U0001F44D\U0001F3FD", "\u2764\uFE0F", "1\uFE0F\u20E3",
         "\U0001F9D1\U0001F3FF\u200D\U0001F680", "\U0001F600", "\U0001F3F4\U000E0067\U000E0062\U000E007F"]
CHANGING = ["e\u0301", "a\u0323\u0302", "a\u0302\u0323", "\u1112\u1161\u11AB", "\u212B", "\u2126",
            "\uF900", "o\u0308\u0304", "q\u0307\u0323", "\u0958", "\u0344", "\u1E9B\u0323",
            "\uAC00\u11A8", "\U0001D15E", "\u0DD9\u0DCF\u0DCA", "\u03D3", "\u2ADC", "\u0F73",
            "\u0041\u030A\u0327", "\uFB01", "\u2460", "\uFF21", "\u00BD"]
CODE = ["for (int i = 0; i < n; i++) {\r\n\tx[i] += 1;\r\n}\r\n", "def f(x):\n    return x ** 2\n\n",
        "https://example.org/a?b=c&d=%20e#f", "a=b;c=d\\n", "{\"k\": [1, 2.5e-3, null]}",
        "<div class=\"x\">&amp;</div>", "$\\frac{1}{2}$", "3.14159", "1,234,567.89", "C++20",
        "user@example.com", "#include <stdio.h>\n", "2024-02-29T23:59:60Z", "\x1b[31mred\x1b[0m"]


def make_strings(specials):
    r = random.Random(SEED)
    pick = r.choice

    def chars(pool, low, high):
        return "".join(chr(pick(pool)) for _ in range(r.randint(low, high)))

    def block():
        low, high = pick(BLOCKS)
        pool = [c for c in range(low, high) if is_old(c)]
        return chars(pool, 1, 12)

    def run():
        c = pick(["a", " ", "\n", "\r\n", "\t", "!", "0", "\u00e9", "\u4e2d", "\u0301", "=", "\0",
                  "ab", "\u3000", "\U0001F600", "'s", "\u180e", " \n", "<|", "A"])
        n = r.choice([2, 3, 5, 8, 17, 33, 64, 100])
        return c * n

    def broken():
        s = pick(specials)
        i, j = sorted((r.randrange(len(s) + 1), r.randrange(len(s) + 1)))
        return pick([s[:i], s[i:], s[:i] + s[j:], s[:i] + " " + s[i:], s[:i] + s, s.upper(),
                     s[:i] + "\u0301" + s[i:]])

    parts = [
        (14, lambda: pick(WORDS)), (8, lambda: " " + pick(WORDS)), (6, lambda: " "),
        (5, lambda: chars(SPACES, 1, 5)), (3, lambda: pick(["\n", "\r\n", "\r", "\n\n", " \n ", "\t"])),
        (8, block), (5, lambda: chars(ALL_SMALL, 1, 5)), (2, lambda: chars(ALL, 1, 3)),
        (5, lambda: chars(DIGITS, 1, 5)), (3, lambda: str(r.randrange(10 ** r.randint(1, 12)))),
        (5, lambda: pick(WORDS) + pick(CONTRACTIONS)), (3, lambda: pick(EMOJI)),
        (4, lambda: chr(pick(ALL_SMALL)) + chars(MARKS, 1, 4)), (4, lambda: pick(CHANGING)),
        (3, lambda: chars(CANONICAL, 1, 4)), (2, lambda: pick(CODE)),
        (4, lambda: pick(specials)), (3, broken), (3, lambda: chr(r.randrange(0x20))),
        (1, lambda: "\0" * r.randint(1, 3)), (2, run),
        (2, lambda: chars(range(0x21, 0x7F), 1, 8)),
        (1, lambda: chr(pick([0xFFFE, 0xFFFF, 0x10FFFF, 0xFFFD, 0xFDD0, 0xE000, 0x378, 0x7F, 0xAD]))),
    ]
    weights = [w for w, _ in parts]
    makers = [m for _, m in parts]
    out = ["", " ", "\0", "\n", "a" * 20000, " " * 20000, "\u0301\u0323" * 3000, "ab" * 6000,
           " \n" * 3000, "1" * 5000, "\u4e2d" * 3000]
    out += specials + CONTRACTIONS + CHANGING + EMOJI + CODE
    while len(out) < N_STRINGS:
        n = r.choice([1, 1, 2, 3, 5, 8, 13, 20])
        out.append("".join(m() for m in r.choices(makers, weights, k=n)))
    return out[:N_STRINGS]


# ---- Small tokenizers --------------------------------------------------------------------------

def byte_characters():
    own = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    rest = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def base_tokenizer():
    """All bytes, and a merge for each pair of a few characters, so that cuts show in the ids."""
    table = byte_characters()
    vocab = {table[b]: b for b in range(256)}
    letters = [table[b] for b in b"ab12-_. A<>'"]
    merges = []
    for x in letters:
        for y in letters:
            merges.append([x, y])
            vocab[x + y] = len(vocab)
    merges.append(["ab", "ab"])
    vocab["abab"] = len(vocab)
    return {"version": "1.0", "added_tokens": [], "normalizer": None,
            "pre_tokenizer": byte_level(), "post_processor": None, "decoder": byte_level(),
            "model": {"type": "BPE", "vocab": vocab, "merges": merges}}


def added(n_base, *tokens):
    out = []
    for i, (content, flags) in enumerate(tokens):
        token = {"id": n_base + i, "content": content, "special": False, "single_word": False,
                 "lstrip": False, "rstrip": False, "normalized": False}
        token.update({f: True for f in flags.split()})
        out.append(token)
    return out


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
            "use_regex": False, **options}


def make_cases():
    base = base_tokenizer()
    n = len(base["model"]["vocab"])
    r = random.Random(SEED + 1)
    texts = ["", "ab", "aabb 12-21__. Ab", "  a<x>  b <x>a<x><x> ", "<x> <x>\n\t <x>",
             "a<x>b <x>. -<x>- _<x>_ 1<x> \u00e9<x> <x>\u0301 (<x>)", "  <y>  <x>  <y>  ", "<<x>>",
             "aaaa bbbb  abab--12--..", "AAB<X>ab<x>AB", "a-b--a---b", "-a-", "--", "a", "--a1b2--",
             "12ab34  1a2b", "\u00e9a\u0301 A\u030a <\u212b>", "a b\u3000a\u00a0b\u2028a", "ab.ab.ab",
             "it's a'b 'll", "a\nb\r\na", "1\u0661a\u00bd2\u2167b\u4e00"]
    for _ in range(60):
        texts.append("".join(r.choice(["a", "b", "1", "2", "-", "_", ".", " ", "A", "<x>", "<y>",
                                       "ab", "  ", "\u00e9", "e\u0301", "\n", "<X>", "x"])
                             for _ in range(r.randint(1, 14))))
    words = "".join("%s<x>%s " % (chr(c), chr(c))
                    for c in sorted(set(r.sample(ALL_SMALL, 1500) + [0xAA, 0x24B6, 0x1F130, 0x1F189,
                                                                     0x200C, 0x200D, 0x203F, 0xB2,
                                                                     0x2160, 0x660, 0x903, 0x488])))
    points = "".join(chr(c) for c in sorted(r.sample(ALL_SMALL, 4000)))
    forms = " ".join(chr(c) for c in DECOMPOSING if not (0xAC20 <= c < 0xD7A4))
    marks = "".join("a" + "".join(chr(r.choice(MARKS)) for _ in range(r.randint(1, 50)))
                    for _ in range(200))
    cases = []

    def case(name, overrides, more=(), model=None):
        cases.append({"name": name, "overrides": overrides, "model": model or {},
                      "texts": texts + list(more)})

    def token_case(name, flags, more=(), **overrides):
        case(name, {"added_tokens": added(n, ("<x>", flags), ("<y>", "special")), **overrides}, more)

    case("plain", {})
    for flags in ("special", "lstrip", "rstrip", "lstrip rstrip", "single_word", "normalized",
                  "single_word lstrip rstrip", "special normalized", "normalized lstrip rstrip"):
        token_case("token " + flags, flags, [words] if flags == "single_word" else [])
    lower = {"type": "Lowercase"}
    token_case("normalized token under Lowercase", "normalized", normalizer=lower)
    token_case("token under Lowercase", "", normalizer=lower)
    case("upper token normalized", {"normalizer": lower,
                                    "added_tokens": added(n, ("<X>", "normalized"))})
    case("overlapping tokens", {"added_tokens": added(n, ("<x>", ""), ("<x><x>", ""), ("x><", ""),
                                                      ("a b", "special"), ("b<<", "single_word"),
                                                      ("\u00e9e", "normalized"))})
    case("token of the vocabulary", {"added_tokens": [dict(added(n, ("ab", "special"))[0],
                                                           id=base["model"]["vocab"]["ab"])]})
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        case(form, {"normalizer": {"type": form}}, [forms, marks, points])
    case("lower", {"normalizer": lower}, [points, forms])
    for left in (False, True):
        for right in (False, True):
            case("strip", {"normalizer": {"type": "Strip", "strip_left": left,
                                          "strip_right": right}})
    case("prepend", {"normalizer": {"type": "Prepend", "prepend": "b-"}})
    case("replace", {"normalizer": {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"}})
    case("replace regex", {"normalizer": {"type": "Replace", "pattern": {"Regex": "[ab]+|\\s+"},
                                          "content": "A."}})
    case("sequence", {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, lower, {"type": "Replace", "pattern": {"String": "a"}, "content": "bb"}]}})
    patterns = [{"String": "-"}, {"String": "ab"}, {"Regex": "-+"}, {"Regex": "\\s+"},
                {"Regex": "[a-b]+|\\p{N}"}, {"Regex": "(?=-)"}, {"Regex": "b*"}, {"String": "."},
                {"Regex": "\\bab?\\b|[^\\w\\s]"}, {"Regex": "(?i:A)|[\\h-]"},
                {"Regex": "^a|b$|\\d{,2}"}, {"Regex": "\\p{^L}++(?!\\S)"}, {"Regex": "(?<=a)[b1]"}]
    for pattern in patterns:
        for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                         "Contiguous"):
            for invert in (False, True):
                case("split %s %s %s" % (pattern, behavior, invert), {
                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                        {"type": "Split", "pattern": pattern, "behavior": behavior,
                         "invert": invert}, byte_level()]}})
    for regex in ("\\w", "\\W", "\\s", "\\d", "\\p{L}", "\\p{Lu}", "\\p{Greek}", "[^\\s\\p{L}\\p{N}]",
                  "\\p{Han}"):
        case("class " + regex, {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": False},
            byte_level()]}}, [points, forms])
    for flag in (False, True):
        case("digits", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": flag}, byte_level()]}})
    for kind in ("Whitespace", "WhitespaceSplit"):
        case(kind, {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": kind}, byte_level(add_prefix_space=True)]}}, [points])
    for space in (False, True):
        for regex in (False, True):
            token_case("byte level", "", pre_tokenizer=byte_level(add_prefix_space=space,
                                                                  use_regex=regex))
    case("ignore merges", {}, model={"ignore_merges": True})
    case("ignore merges, cut", {"pre_tokenizer": byte_level(use_regex=True)},
         model={"ignore_merges": True})
    vocab = {t: i for t, i in base["model"]["vocab"].items() if "b" not in t and "2" not in t}
    merges = [m for m in base["model"]["merges"] if all(t in vocab for t in m)]
    for fuse in (False, True):
        case("unknown bytes", {}, model={"vocab": vocab, "merges": merges, "unk_token": "A",
                                         "fuse_unk": fuse})
    # Two ways to one token, of different rank: see the expired entries in bpe.c.
    case("two ways", {}, model={"vocab": {**base["model"]["vocab"], "aba": n, "ababa": n + 1},
                                "merges": [["a", "b"], ["ab", "a"], ["b", "a"], ["a", "ba"],
                                           ["ab", "aba"], ["aba", "ba"], ["aba", "b"]][:6]})
    for c in cases:
        tokenizer = {**base, **c["overrides"], "model": {**base["model"], **c["model"]}}
        hf = Tokenizer.from_str(json.dumps(tokenizer))
        results = []
        for text in c["texts"]:
            ids = hf.encode(text, add_special_tokens=False).ids
            results.append([len(ids), "%016x" % fnv(ids), hf.decode(ids) if len(text) < 200 else None])
        c["results"] = results
        c["more"] = c.pop("texts")[len(texts):]
    long_texts = sorted({t for c in cases for t in c["more"]})
    for c in cases:
        c["more"] = [long_texts.index(t) for t in c["more"]]
    return {"base": base, "texts": texts, "long_texts": long_texts, "cases": cases}


# ---- Files -------------------------------------------------------------------------------------

def write_decodes(path, hf, strings, n_ids):
    r = random.Random(SEED + 2)
    known = [i for i in range(n_ids) if hf.id_to_token(i) is not None]
    short = [i for i in known if len(hf.id_to_token(i)) == 1]
    with open(path, "wb") as f:
        f.write(struct.pack("<I", N_DECODES))
        for i in range(N_DECODES):
            kind = i % 4
            if kind == 0:
                ids = hf.encode(r.choice(strings)[:300], add_special_tokens=False).ids
            elif kind == 1:
                ids = [r.choice(known) for _ in range(r.randint(0, 40))]
            elif kind == 2:
                ids = [r.choice(short) for _ in range(r.randint(1, 40))]
            else:
                ids = hf.encode(r.choice(strings)[:300], add_special_tokens=False).ids
                for _ in range(3):
                    if ids:
                        del ids[r.randrange(len(ids))]
            skip = bool(r.getrandbits(1))
            text = hf.decode(ids, skip_special_tokens=skip).encode()
            f.write(struct.pack("<I%diBI" % len(ids), len(ids), *ids, skip, len(text)) + text)


YOUNG_HEAD = """/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters whose normal form is younger than the tables of Hugging Face's tokenizers (Unicode 9):
 * marks, compatibility characters, and the one pair that composes.
 * Generated by tools/make_tokenizer_fixture.py --young; compared there with Unicode 14.
 */
#include "text/unicode_young.h"

#include <stddef.h>

static const struct {
    unsigned first, last;
} ranges[] = {
"""
YOUNG_TAIL = """};

bool unicode_young_has(unsigned codepoint) {
    size_t low = 0, high = sizeof ranges / sizeof *ranges;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < codepoint)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof ranges / sizeof *ranges && ranges[low].first <= codepoint;
}
"""


def print_young():
    forms = [(f, getattr(normalizers, f)()) for f in ("NFC", "NFD", "NFKC", "NFKD")]
    nfd = forms[1][1]

    def is_young(c):
        if any(n.normalize_str(c) != unicodedata.normalize(f, c) for f, n in forms):
            return True
        return any(nfd.normalize_str(s) != unicodedata.normalize("NFD", s)
                   for p in "\u0334\u0345\u05b0\u0323\u0301" for s in ("a" + c + p, "a" + p + c))

    ranges = []
    for c in ALL:
        if is_young(chr(c)) or c in (0x11930, 0x11935):
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
    print(YOUNG_HEAD + "".join("    {0x%X, 0x%X},\n" % tuple(r) for r in ranges) + YOUNG_TAIL, end="")


def main():
    if sys.argv[1:] == ["--young"]:
        return print_young()
    *sources, vectors, out = sys.argv[1:]
    names = ["gpt2", "qwen3", "demo"]
    os.makedirs(out, exist_ok=True)
    tokenizers = []
    for name, source in zip(names, sources):
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        compact = os.path.join(source, "tokenizer.string-merges.json")
        if not os.path.exists(compact):
            compact = os.path.join(source, "tokenizer.json")
        target = os.path.join(folder, "tokenizer.json")
        shutil.copyfile(compact, target)
        tokenizers.append((name, folder, Tokenizer.from_file(target)))
    for stem, name in (("gpt-2", "gpt2"), ("qwen2", "qwen3")):
        for kind in ("inp", "out"):
            shutil.copyfile(os.path.join(vectors, "ggml-vocab-%s.gguf.%s" % (stem, kind)),
                            os.path.join(out, name, "vectors." + kind))
    specials = sorted({t.content for _, _, hf in tokenizers
                       for t in hf.get_added_tokens_decoder().values()})
    strings = make_strings(specials)
    with open(os.path.join(out, "strings.bin"), "wb") as f:
        f.write(struct.pack("<I", len(strings)))
        for s in strings:
            data = s.encode()
            f.write(struct.pack("<I", len(data)) + data)
    for name, folder, hf in tokenizers:
        with open(os.path.join(folder, "ids.bin"), "wb") as f:
            for s in strings:
                ids = hf.encode(s, add_special_tokens=False).ids
                f.write(struct.pack("<IQ", len(ids), fnv(ids)))
        write_decodes(os.path.join(folder, "decode.bin"), hf, strings, hf.get_vocab_size())
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as f:
        json.dump(make_cases(), f, ensure_ascii=False, indent=0)


main()
