"""`unmask run --json-schema` and `--json-object`: every answer parses and satisfies its schema."""
import glob
import json
import os
import sys

sys.dont_write_bytecode = True
from driver import DATA, DEMO, check, main, refused, run

ASK = ["run", "-m", DEMO, "-p", "Tell me a story about a red ball, as JSON."]
SCHEMAS = sorted(glob.glob(os.path.join(DATA, "schemas", "*.json")))


def is_type(name, value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"null": value is None, "boolean": isinstance(value, bool), "number": number,
            "integer": number and value == int(value), "string": isinstance(value, str),
            "array": isinstance(value, list), "object": isinstance(value, dict)}[name]


def satisfies(root, schema, value):
    """Whether a value satisfies a schema of the keywords that the folder's schemas use."""
    if schema is True or schema is False:
        return schema
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        if not satisfies(root, target, value):
            return False
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(name, value) for name in types):
        return False
    same = [json.dumps(v, sort_keys=True) for v in schema.get("enum", [schema["const"]] if "const" in schema else [])]
    if same and json.dumps(value, sort_keys=True) not in same:
        return False
    if "anyOf" in schema and not any(satisfies(root, s, value) for s in schema["anyOf"]):
        return False
    if isinstance(value, str):
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (schema.get("minimum", value) <= value <= schema.get("maximum", value)
                and not value <= schema.get("exclusiveMinimum", value - 1)
                and not value >= schema.get("exclusiveMaximum", value + 1))
    if isinstance(value, list):
        return (schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
                and all(satisfies(root, schema.get("items", True), item) for item in value))
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return (all(name in value for name in schema.get("required", []))
                and all(satisfies(root, properties.get(name, others), item) for name, item in value.items()))
    return True


def test_schemas(_folder):
    check(len(SCHEMAS) == 10, "%d schemas" % len(SCHEMAS))
    texts = set()
    for path in SCHEMAS:
        with open(path) as file:
            schema = json.load(file)
        for seed in range(4):
            text = run(*ASK, "--json-schema", path, "--threshold", 0.5, "--temperature", 0.7, "--seed", seed,
                       "--max-tokens", 60 + seed)[0]
            check(satisfies(schema, schema, json.loads(text)), "%s, seed %d: %s" % (path, seed, text))
            texts.add(text)
        text = run(*ASK, "--json-schema", path, "--max-tokens", 60)[0]
        check(satisfies(schema, schema, json.loads(text)), "%s, greedy: %s" % (path, text))
    check(len(texts) > 20, "%d different answers" % len(texts))


def test_object(_folder):
    for options in [[], ["--temperature", 1, "--threshold", 0.3], ["--policy", "edit", "--edit-threshold", 0.3],
                    ["--policy", "multi-block", "--block", 8]]:
        value = json.loads(run(*ASK, "--json-object", "--max-tokens", 50, *options)[0])
        check(isinstance(value, dict), "%r: %r" % (options, value))
    answer = json.loads(run(*ASK, "--json-object", "--max-tokens", 50, "--json")[0])
    check(isinstance(json.loads(answer["text"]), dict), "%r" % answer)
    # As few tokens as there can be: "{" and "}".
    answer = json.loads(run(*ASK, "--json-object", "--max-tokens", 2, "--json")[0])
    check(json.loads(answer["text"]) == {} and answer["tokens"] == 2, "%r" % answer)
    # Ids in and out; the constraint opens the tokenizer all the same.
    ids = run("run", "-m", DEMO, "--ids", "300 301", "--json-object", "--max-tokens", 50, "--print-ids")[0].split()
    text = run("tokenize", "-m", DEMO, "--decode", " ".join(ids))[0]
    check(isinstance(json.loads(text), dict), text)


def test_refusals(folder):
    def schema(text):
        path = os.path.join(folder, "schema.json")
        with open(path, "w") as file:
            file.write(text)
        return path
    person = SCHEMAS[[os.path.basename(path) for path in SCHEMAS].index("person.json")]
    refused(*ASK, "--json-schema", folder + "/none.json", code=1, says="none.json")
    refused(*ASK, "--json-schema", schema("{"), code=1, says=["schema.json", "is not JSON"])
    refused(*ASK, "--json-schema", schema('{"type": "string", "pattern": "a*"}'), code=1,
            says=["schema.json", '"pattern" is not supported'])
    refused(*ASK, "--json-schema", schema('{"type": "text"}'), code=2, says="type: expected null")
    refused(*ASK, "--json-schema", person, "--json-object", code=2, says="--json-object")
    refused(*ASK, "--json-schema", person, "--ignore-eos", code=2, says="--ignore-eos")
    refused(*ASK, "--json-schema", person, "--max-tokens", 5, code=2, says="--max-tokens: expected at least 2")
    refused(*ASK, "--json-object", "--logits-eos-inf", code=2, says="logits_eos_inf")
    refused("run", "-m", os.path.join(DATA, "models", "llada2_2"), "--ids", "5", "--json-object", "--print-ids",
            code=1, says="tokenizer")


main([test_schemas, test_object, test_refusals])
