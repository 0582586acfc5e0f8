"""`unmask run --svg`: a picture that holds the answer and every forward, and nothing from outside."""
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

sys.dont_write_bytecode = True
from driver import DATA, DEMO, check, main, refused, run

SVG = "{http://www.w3.org/2000/svg}"


def film(folder, *arguments):
    """The picture's root, and what `run --json` says of the same answer."""
    path = os.path.join(folder, "film.svg")
    answer = json.loads(run("run", "-m", DEMO, *arguments, "--json", "--svg", path)[0])
    with open(path) as file:
        text = file.read()
    check(not re.search(r"<script|href|url\(|@import|\bon[a-z]+=", text), "it refers to something outside")
    return ElementTree.fromstring(text), answer


def final_text(root):
    """The texts that are shown where nothing moves: those that never go, from left to right."""
    found = []

    def walk(element, is_gone):
        is_gone = is_gone or "d" in element.get("class", "").split()
        if element.tag == SVG + "text" and not is_gone and element.get("class") != "s":
            found.append((int(element.get("y")), int(element.get("x")), element[0].tail))
        for child in element:
            walk(child, is_gone)
    walk(root, False)
    return " ".join(text for _, _, text in sorted(found))


def squeezed(text):
    return re.sub(r"\s", "", text)


def test_answer(folder):
    for arguments in [["-p", "Tell me a story about a red ball.", "--max-tokens", "96", "--threshold", "0.7"],
                      ["-p", "What is 12 + 30?"],
                      ["-p", "<&>\u00e9", "--max-tokens", "40", "--temperature", "1", "--seed", "3"],
                      ["-p", "Tell me a story.", "--max-tokens", "64", "--policy", "edit", "--threshold", "0.3",
                       "--edit-threshold", "0.3"],
                      ["-p", "As JSON.", "--json-schema", os.path.join(DATA, "schemas", "words.json"),
                       "--max-tokens", "40", "--temperature", "1"]]:
        root, answer = film(folder, *arguments)
        shown, said = squeezed(final_text(root)), squeezed(answer["text"])
        check(shown == said, "%r: shown %r, said %r" % (arguments, shown, said))
        style = root.find(SVG + "style").text
        steps = re.findall(r"@keyframes a(\d+)\{0%\{opacity:0\}([0-9.]+)%", style)
        # A folded forward is one event; forwards of blocks after the answer's end have none.
        check([int(step) for step, _ in steps] == list(range(len(steps))), "steps %r" % steps)
        check(0 < len(steps) <= answer["forwards"], "%d steps, %d forwards" % (len(steps), answer["forwards"]))
        times = [float(time) for _, time in steps]
        check(times == sorted(times) and 0 < times[0] and times[-1] < 100, "times %r" % times)
        status = [text.text for text in root.iter(SVG + "text") if text.get("class") == "s"]
        check(len(status) == len(steps) and status[-1].startswith("forward %d, " % len(steps)), "%r" % status[-1:])
        masks = [rect for rect in root.iter(SVG + "rect") if rect.get("class") == "m"]
        check(len(masks) > 0, "no masks")
        width = int(root.get("width"))
        check(all(int(rect.get("x")) + int(rect.get("width")) <= width for rect in masks), "beyond the edge")


def test_edits(folder):
    root, _ = film(folder, "-p", "Tell me a story.", "--max-tokens", "64", "--policy", "edit", "--threshold", "0.2",
                   "--edit-threshold", "0.2")
    edits = [text for text in root.iter(SVG + "text") if "e" in text.get("class", "").split()]
    check(len(edits) > 0, "no edit is underlined")


def test_columns(folder):
    root, answer = film(folder, "-p", "What is 12 + 30?", "--columns", "3")
    rows = {text.get("y") for text in root.iter(SVG + "text") if text.get("class") != "s"}
    check(len(rows) >= len(answer["ids"]) / 3 - 1, "%d rows of %d tokens" % (len(rows), len(answer["ids"])))


def test_refusals(folder):
    refused("run", "-m", DEMO, "--svg", folder + "/x.svg", code=2, says="--svg is of one answer")
    refused("run", "-m", DEMO, "-p", "a", "--svg", folder + "/none/x.svg", code=1, says=["none/x.svg", "cannot write"])
    refused("run", "-m", os.path.join(DATA, "models", "llada2_moe"), "--ids", "5", "--print-ids", "--svg",
            folder + "/x.svg", code=1, says="tokenizer")
    refused("run", "-m", DEMO, "-p", "a", "--max-tokens", "100000", "--svg", folder + "/x.svg", code=1, says="context")
    check(not os.path.exists(folder + "/x.svg"), "a film without an answer is left")


main([test_answer, test_edits, test_columns, test_refusals])
