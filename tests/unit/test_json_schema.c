/* SPDX-License-Identifier: Apache-2.0
 *
 * Schemas as automata: which documents are in them and which are not, and what is refused with
 * which words. Whether what they let through satisfies the schema is checked on answers
 * (tests/invariance/test_constraint.c) and here by walks through the automaton.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "decode/json_schema.h"
#include "support/schema_check.h"

static bool has(const byte_dfa *dfa, const char *text) {
    int32_t state = 0;
    for (; *text && state >= 0; text++) state = byte_dfa_next(dfa, state, (uint8_t)*text);
    return state >= 0 && dfa->accepts[state];
}

static void compile(const char *schema, byte_dfa *dfa) {
    um_error err;
    if (json_schema_compile(schema, schema ? strlen(schema) : 0, dfa, &err) != UM_OK)
        fail_msg("%s: %s", schema, err.message);
}

enum { N_TEXTS = 16 };

static const struct {
    const char *schema;
    const char *in[N_TEXTS], *out[N_TEXTS];
} cases[] = {
    {NULL,
     {"{}", "{ }", "{\"a\":1}", "{\"a\" : [1, {\"b\":null}] ,\n\t\"c\":\"d\"}", "{\"\":-0.5e+10}",
      "{\"\\u00e9\\n\":true}", "{\"a\":[[[[[]]]]]}"},
     {"", "[]", "1", " {}", "{} ", "{\"a\"}", "{\"a\":1,}", "{a:1}", "{\"a\":01}", "{\"a\":1.}",
      "{\"a\":\"\\u0000\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\n\"}", "{\"a\":tru}"}},
    {"true", {"1", "\"x\"", "null", "[]", "{}", "[{}]"}, {"", "nul", "[1,]"}},
    {"{\"type\": \"string\"}",
     {"\"\"", "\"a\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
      "\"\\uABCD\\ud7ff\\u0001\\u0010\\u0100\"", "\"\x7f\""},
     {"\"", "a", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"",
      "\"\xe0\x80\x80\"", "\"\\x\"", "\"\\u12\"", "\"\\udc00\"", "\"\\u0000\"", "\"\\uDBFF\""}},
    {"{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}",
     {"\"ab\"", "\"abc\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\n\\u00e9x\""},
     {"\"\"", "\"a\"", "\"abcd\"", "\"\xc3\xa9\""}},
    {"{\"type\": \"integer\"}",
     {"0", "-0", "7", "-12", "999999999999999"},
     {"", "-", "00", "01", "1.0", "1e3", "+1", "1000000000000000", " 1"}},
    {"{\"type\": \"number\"}",
     {"0", "-1", "3.25", "1e5", "1E-05", "-0.000000000001", "12e+99"},
     {".5", "5.", "1e", "1e100", "1e+", "--1", "0x1", "NaN", "Infinity"}},
    {"{\"type\": \"integer\", \"minimum\": -17, \"maximum\": 123}",
     {"-17", "-16", "-9", "-1", "0", "9", "10", "99", "100", "119", "123"},
     {"-18", "-20", "-100", "124", "130", "200", "1000", "00", "-0"}},
    {"{\"type\": \"integer\", \"exclusiveMinimum\": 995, \"exclusiveMaximum\": 1003.5}",
     {"996", "999", "1000", "1003"},
     {"995", "1004", "99", "9960"}},
    {"{\"type\": \"integer\", \"minimum\": 0}", {"0", "5", "123456"}, {"-1", "-0"}},
    {"{\"type\": \"number\", \"minimum\": -3, \"maximum\": 10}",
     {"-3", "-2.9", "-0.5", "0", "0.001", "9.999", "10", "7"},
     {"-3.1", "-3.0", "-4", "10.0", "10.5", "11", "1e0"}},
    {"{\"type\": [\"integer\", \"null\", \"boolean\"]}",
     {"1", "null", "true", "false"},
     {"\"1\"", "1.5", "[]"}},
    {"{\"enum\": [\"a\\\"b\", 1, 0.1, null, [1, {\"x\": true}]]}",
     {"\"a\\\"b\"", "1", "0.1", "null", "[1,{\"x\":true}]"},
     {"\"a\"", "2", "[1, {\"x\":true}]", "0.10"}},
    {"{\"enum\": [1, \"a\", 2.5, 3.0], \"type\": [\"integer\"]}",
     {"1", "3.0"},
     {"\"a\"", "2.5", "3"}},
    {"{\"const\": {\"b\": 1, \"a\": \"\\u0001\"}}", {"{\"b\":1,\"a\":\"\\u0001\"}"}, {"{\"a\":1}"}},
    {"{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 1, \"maxItems\": 3}",
     {"[1]", "[1,2]", "[ 1 , 2 , 3 ]"},
     {"[]", "[1,2,3,4]", "[1,]", "[,1]", "[\"a\"]"}},
    {"{\"items\": {\"type\": \"null\"}, \"minItems\": 2}",
     {"[null,null]", "[null,null,null,null]"},
     {"[]", "[null]", "null"}},
    {"{\"type\": \"array\", \"items\": false}", {"[]", "[ ]"}, {"[1]"}},
    {"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": true, \"c\": "
     "{\"type\": \"null\"}}, \"required\": [\"b\"]}",
     {"{\"b\":[1]}", "{\"a\":1,\"b\":2}", "{\"b\":1,\"c\":null}",
      "{ \"a\" : 1 , \"b\" : 2 , \"c\" : null }"},
     {"{}", "{\"a\":1}", "{\"b\":1,\"a\":1}", "{\"b\":1,\"d\":1}", "{\"a\":1\"b\":2}", "{,\"b\":1}",
      "{\"b\":1,}"}},
    {"{\"properties\": {\"a\": {\"type\": \"null\"}, \"b\": false}}",
     {"{}", "{\"a\":null}"},
     {"{\"b\":1}", "{\"a\":1}", "[]"}},
    {"{\"properties\": {\"ab\": {\"type\": \"null\"}, \"a\": {\"type\": \"null\"}, "
     "\"\xc3\xa9\": true}, \"additionalProperties\": {\"type\": \"integer\"}}",
     {"{\"abc\":1}", "{\"\":1,\"b\":2}", "{\"ab\":null,\"a\":null,\"x\":1,\"aa\":2}",
      "{\"\xc3\xa9\xc3\xa9\":3}", "{\"\xd0\xb0\":3}", "{\"\xc3\xa9\":\"x\"}"},
     {"{\"ab\":1}", "{\"a\":1}", "{\"a\":null,\"a\":1}", "{\"x\":null}", "{\"\\u0061\":1}",
      "{\"x\":1,\"a\":null}"}},
    {"{\"type\": \"object\", \"required\": [\"x\"]}",
     {"{\"x\":1}", "{\"x\":[],\"y\":2}"},
     {"{}", "{\"y\":2}"}},
    {"{\"type\": \"object\", \"additionalProperties\": {\"type\": \"boolean\"}}",
     {"{}", "{\"a\":true,\"b\":false}"},
     {"{\"a\":1}"}},
    {"{\"anyOf\": [{\"type\": \"integer\"}, {\"const\": \"x\"}, false]}",
     {"1", "\"x\""},
     {"\"y\"", "null"}},
    {"{\"$defs\": {\"list\": {\"type\": [\"array\", \"null\"], \"items\": {\"$ref\": "
     "\"#/$defs/list\"}}}, \"$ref\": \"#/$defs/list\"}",
     {"null", "[]", "[null,[null,[]]]", "[[[[]]]]"},
     {"1", "[1]", "[null"}},
    {"{\"definitions\": {\"a/b~c\": {\"type\": \"null\"}}, \"$ref\": \"#/definitions/a~1b~0c\"}",
     {"null"},
     {"1"}},
    {"{\"title\": \"t\", \"description\": \"d\", \"properties\": {\"n\": {\"$ref\": \"#\"}}}",
     {"{}", "{\"n\":{}}", "{\"n\":{\"n\":{}}}"},
     {"{\"n\":1}", "{\"m\":{}}"}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void test_documents(void **state) {
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        byte_dfa dfa;
        compile(cases[i].schema, &dfa);
        for (int k = 0; k < N_TEXTS; k++) {
            if (cases[i].in[k] && !has(&dfa, cases[i].in[k]))
                fail_msg("%s: %s is not in it", cases[i].schema, cases[i].in[k]);
            if (cases[i].out[k] && has(&dfa, cases[i].out[k]))
                fail_msg("%s: %s is in it", cases[i].schema, cases[i].out[k]);
        }
        byte_dfa_deinit(&dfa);
    }
}

/* The way out that a walk takes when it is long: to a state nearer to the end. */
static int32_t *find_distances(const byte_dfa *dfa) {
    int32_t *distance = malloc((size_t)dfa->n_states * sizeof *distance);
    assert_non_null(distance);
    for (int32_t s = 0; s < dfa->n_states; s++) distance[s] = dfa->accepts[s] ? 0 : 1 << 30;
    for (bool has_changed = true; has_changed;) {
        has_changed = false;
        for (int32_t s = 0; s < dfa->n_states; s++) {
            for (int byte = 0; byte < 256; byte++) {
                int32_t next = byte_dfa_next(dfa, s, (uint8_t)byte);
                if (next < 0 || distance[next] + 1 >= distance[s]) continue;
                distance[s] = distance[next] + 1;
                has_changed = true;
            }
        }
    }
    for (int32_t s = 0; s < dfa->n_states; s++) assert_true(distance[s] < 1 << 30);
    return distance;
}

/* Random ways through every automaton are documents that satisfy the schema. */
static void test_walks(void **state) {
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        byte_dfa dfa;
        compile(cases[i].schema, &dfa);
        int32_t *distance = find_distances(&dfa);
        const char *any = "{\"type\": \"object\"}";
        json_t *root = json_loads(cases[i].schema ? cases[i].schema : any, JSON_DECODE_ANY, NULL);
        assert_non_null(root);
        for (uint32_t walk = 0; walk < 300; walk++) {
            char text[512];
            int n = 0;
            for (int32_t at = 0; !dfa.accepts[at] || n < 2;) {
                rng_key key = {.seed = i, .position = walk, .step = (uint32_t)n};
                bool is_late = n > 40;
                int bytes[256], n_bytes = 0;
                for (int byte = 0; byte < 256; byte++) {
                    int32_t next = byte_dfa_next(&dfa, at, (uint8_t)byte);
                    if (next < 0 || (is_late && distance[next] >= distance[at])) continue;
                    bytes[n_bytes++] = byte;
                }
                if (!n_bytes) break;
                int k = (int)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * n_bytes);
                text[n++] = (char)bytes[k];
                at = byte_dfa_next(&dfa, at, (uint8_t)bytes[k]);
                assert_true(n < 500);
            }
            text[n] = 0;
            json_error_t problem;
            json_t *value = json_loadb(text, (size_t)n, JSON_DECODE_ANY, &problem);
            if (!value) fail_msg("%s: %s: %s", cases[i].schema, problem.text, text);
            const char *failed = schema_check(root, root, value);
            if (failed) fail_msg("%s: fails %s: %s", cases[i].schema, failed, text);
            json_decref(value);
        }
        json_decref(root);
        free(distance);
        byte_dfa_deinit(&dfa);
    }
}

static const struct {
    const char *schema;
    um_status status;
    const char *words;
} refusals[] = {
    {"{", UM_FORMAT, "the schema is not JSON"},
    {"{\"type\": 1, \"type\": 2}", UM_FORMAT, "the schema is not JSON"},
    {"3", UM_INVALID, "#: expected a schema"},
    {"{\"pattern\": \"a*\"}", UM_UNSUPPORTED, "#: the keyword \"pattern\""},
    {"{\"properties\": {\"a\": {\"items\": {\"format\": \"date\"}}}}", UM_UNSUPPORTED,
     "#/properties/a/items: the keyword \"format\""},
    {"{\"anyOf\": [true, {\"oneOf\": []}]}", UM_UNSUPPORTED, "#/anyOf/1: the keyword \"oneOf\""},
    {"{\"type\": \"int\"}", UM_INVALID, "#: type: expected null, boolean"},
    {"{\"type\": [\"null\", 3]}", UM_INVALID, "#: type: expected"},
    {"{\"type\": []}", UM_INVALID, "#: type: expected"},
    {"{\"type\": \"string\", \"minLength\": -1}", UM_INVALID, "minLength: expected an integer"},
    {"{\"type\": \"string\", \"maxLength\": \"3\"}", UM_INVALID, "maxLength: expected an integer"},
    {"{\"minItems\": 3, \"maxItems\": 2}", UM_INVALID, "minItems 3 is above maxItems 2"},
    {"{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 2}", UM_INVALID,
     "no document satisfies the schema"},
    {"false", UM_INVALID, "no document satisfies the schema"},
    {"{\"enum\": []}", UM_INVALID, "enum: expected a list of at least one"},
    {"{\"enum\": [1], \"minimum\": 2}", UM_UNSUPPORTED, "\"enum\" together with other keywords"},
    {"{\"enum\": [1], \"const\": 1}", UM_UNSUPPORTED, "together with"},
    {"{\"$ref\": \"#/x\", \"type\": \"null\"}", UM_UNSUPPORTED, "\"$ref\" together with other"},
    {"{\"$ref\": \"other.json\"}", UM_INVALID, "$ref: nothing in this schema is at"},
    {"{\"$ref\": \"#/$defs/none\"}", UM_INVALID, "nothing in this schema is at \"#/$defs/none\""},
    {"{\"$ref\": \"#\"}", UM_INVALID, "no document satisfies the schema"},
    {"{\"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}", UM_INVALID,
     "no document satisfies the schema"},
    {"{\"required\": [\"a\"], \"additionalProperties\": false}", UM_INVALID,
     "\"a\" is required, and additionalProperties forbids it"},
    {"{\"required\": \"a\"}", UM_INVALID, "required: expected an array of names"},
    {"{\"required\": [1]}", UM_INVALID, "required: expected an array of names"},
    {"{\"properties\": []}", UM_INVALID, "properties: expected an object"},
    {"{\"additionalProperties\": 1}", UM_INVALID, "additionalProperties: expected a schema"},
    {"{\"type\": \"number\", \"minimum\": 0.5}", UM_UNSUPPORTED, "minimum of numbers is supported"},
    {"{\"type\": \"number\", \"exclusiveMaximum\": 5}", UM_UNSUPPORTED,
     "exclusiveMaximum of numbers"},
    {"{\"type\": \"integer\", \"minimum\": \"0\"}", UM_INVALID, "minimum: expected a number"},
    {"{\"type\": \"integer\", \"minimum\": 5, \"exclusiveMaximum\": 5}", UM_INVALID,
     "no document satisfies"},
    {"{\"type\": \"integer\", \"minimum\": 1e30}", UM_INVALID, "no document satisfies"},
    {"{\"type\": \"string\", \"maxLength\": 1000000}", UM_LIMIT, "lower maxLength"},
    {"{\"type\": \"string\", \"maxLength\": 5000}", UM_LIMIT, "more than 16384 states"},
    {"{\"items\": {\"items\": {\"items\": {}, \"minItems\": 99}, \"minItems\": 99}, "
     "\"minItems\": 99}",
     UM_LIMIT, "lower maxLength"},
    {"{\"$defs\": {\"a\": {\"anyOf\": [{\"$ref\": \"#/$defs/a\"}, {\"$ref\": \"#/$defs/b\"}]}, "
     "\"b\": {\"anyOf\": [{\"$ref\": \"#/$defs/b\"}, {\"$ref\": \"#/$defs/a\"}, {\"$ref\": "
     "\"#/$defs/a\"}]}}, \"$ref\": \"#/$defs/a\"}",
     UM_INVALID, "no document satisfies"},
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        byte_dfa dfa;
        um_error err;
        const char *schema = refusals[i].schema;
        um_status status = json_schema_compile(schema, strlen(schema), &dfa, &err);
        if (status != refusals[i].status || err.status != status)
            fail_msg("%s: %s: %s", schema, um_status_name(status), err.message);
        if (!strstr(err.message, refusals[i].words))
            fail_msg("%s: expected \"%s\" in \"%s\"", schema, refusals[i].words, err.message);
        byte_dfa_deinit(&dfa);
    }
}

/* Every integer around the bounds, whatever the bounds. */
static void test_ranges(void **state) {
    (void)state;
    static const int bounds[] = {-1000, -101, -100, -99, -10, -9, -1, 0, 1, 8, 9, 10, 99, 100, 115};
    enum { N = sizeof bounds / sizeof *bounds };
    for (int i = 0; i < N; i++) {
        for (int k = i; k < N; k++) {
            byte_dfa dfa;
            char schema[128], text[16];
            snprintf(schema, sizeof schema,
                     "{\"type\": \"integer\", \"minimum\": %d, \"maximum\": %d}", bounds[i],
                     bounds[k]);
            compile(schema, &dfa);
            for (int x = -1200; x <= 1200; x++) {
                snprintf(text, sizeof text, "%d", x);
                if (has(&dfa, text) != (x >= bounds[i] && x <= bounds[k]))
                    fail_msg("%s: %d", schema, x);
            }
            byte_dfa_deinit(&dfa);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
