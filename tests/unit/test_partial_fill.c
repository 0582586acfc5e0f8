/* SPDX-License-Identifier: Apache-2.0
 *
 * The sets of a partly filled text against brute force: with a vocabulary of a dozen tokens, every
 * way to fill a few positions is written down, and what is allowed is what at least one document
 * agrees with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "decode/json_schema.h"
#include "decode/partial_fill.h"

enum { LENGTH = 5, VOCAB_MAX = 16, ROUNDS = 400 };

/* Token 0 has no text, like a mask; one of the last two stops, the other is barred. */
static const struct {
    const char *schema, *tokens[VOCAB_MAX];
} cases[] = {
    {"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"enum\": "
     "[\"a\", \"ab\"]}}, \"required\": [\"a\"]}",
     {"", "{\"", "a", "\":", "1", "0", ",\"b", "\"a", "b", "\"}", "}", "{\"a\":1", "\"", "1}"}},
    {"{\"type\": \"array\", \"items\": {\"enum\": [\"x\", \"xy\", \"y\"]}, \"maxItems\": 3}",
     {"", "[", "]", "\"", ",", "x", "y", "\",\"", "[\"", "\"]", "x\"", "xy", " "}},
    {"{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 4}",
     {"", "\"", "a", "\xc3", "\xa9", "\xc3\xa9", "a\"", "\"a", "\\", "n", "\xa9\"", "aa"}},
    {"{\"anyOf\": [{\"type\": \"integer\", \"minimum\": 8, \"maximum\": 120}, {\"const\": null}, "
     "{\"type\": \"array\", \"items\": {\"const\": 1}}]}",
     {"", "1", "2", "8", "0", "nu", "ll", "null", "[", "]", "1,", "12", ",1", "[1"}},
    {NULL, {"", "{", "}", "\"", ":", "{}", "\":", "1", "{\"", ",", "a", " ", "-"}},
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* All texts of LENGTH tokens that are documents, filled up with the token that stops. */
typedef struct oracle {
    int8_t (*texts)[LENGTH];
    size_t n_texts, capacity;
    const byte_dfa *dfa;
    const token_texts *tokens;
    int32_t n_plain, stop, barred;
} oracle;

static void keep(oracle *o, const int8_t text[LENGTH]) {
    assert_int_equal(memory_grow(&o->texts, &o->capacity, o->n_texts, sizeof *o->texts), 0);
    memcpy(o->texts[o->n_texts++], text, LENGTH);
}

static void enumerate(oracle *o, int8_t text[LENGTH], int at, int32_t state) {
    if (o->dfa->accepts[state]) {
        for (int i = at; i < LENGTH; i++) text[i] = (int8_t)o->stop;
        keep(o, text);
    }
    for (int32_t token = 1; at < LENGTH && token < o->n_plain; token++) {
        int32_t next = state;
        if (token == o->barred) continue;
        for (size_t k = o->tokens->first[token]; k < o->tokens->first[token + 1] && next >= 0; k++)
            next = byte_dfa_next(o->dfa, next, o->tokens->bytes[k]);
        if (next < 0) continue;
        text[at] = (int8_t)token;
        enumerate(o, text, at + 1, next);
    }
}

/* Whether a text agrees with the tokens that stand (-1: open), of which there are n. */
static bool agrees(const int8_t text[LENGTH], const int32_t *tokens, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] >= 0 && tokens[i] != text[i]) return false;
    return true;
}

static bool can_complete(const oracle *o, const int32_t *tokens, int32_t n) {
    for (size_t i = 0; i < o->n_texts; i++)
        if (agrees(o->texts[i], tokens, n)) return true;
    return false;
}

static void make_texts(const char *const *tokens, token_texts *texts) {
    int32_t n = 1;
    size_t n_bytes = 0;
    while (n < VOCAB_MAX && tokens[n]) n_bytes += strlen(tokens[n++]);
    texts->n_ids = n;
    texts->bytes = memory_alloc(n_bytes);
    texts->first = memory_calloc((size_t)n + 1, sizeof *texts->first);
    assert_true(texts->bytes && texts->first);
    for (int32_t i = 0; i < n; i++) {
        size_t length = strlen(tokens[i]);
        memcpy(texts->bytes + texts->first[i], tokens[i], length);
        texts->first[i + 1] = texts->first[i] + length;
    }
}

/* What is allowed at every position, one by one and as bits, is what brute force finds. */
static void check_allowed(partial_fill *f, const oracle *o, int32_t *tokens, int32_t n,
                          const char *what) {
    uint32_t bits;
    for (int32_t i = 0; i < n; i++) {
        int32_t stands = tokens[i];
        partial_fill_allowed(f, i, &bits);
        for (int32_t token = 0; token <= o->stop; token++) {
            tokens[i] = token;
            bool is_right = can_complete(o, tokens, n);
            if (partial_fill_allows(f, i, token) != is_right || (bits >> token & 1) != is_right)
                fail_msg("%s: token %d at position %d of %d: %s expected", what, token, i, n,
                         is_right ? "allowed" : "not allowed");
        }
        tokens[i] = stands;
    }
}

static void check_case(int i_case, bool is_barred) {
    byte_dfa dfa;
    token_texts texts;
    token_graph graph;
    partial_fill fill;
    um_error err;
    const char *schema = cases[i_case].schema;
    make_texts(cases[i_case].tokens, &texts);
    assert_int_equal(json_schema_compile(schema, schema ? strlen(schema) : 0, &dfa, &err), UM_OK);
    int32_t n_plain = texts.n_ids;
    assert_int_equal(token_graph_build_take(&dfa, &texts, &graph, &err), UM_OK);
    oracle o = {.dfa = &graph.dfa,
                .tokens = &graph.texts,
                .n_plain = n_plain,
                .stop = n_plain,
                .barred = is_barred ? n_plain - 2 : -1};
    int8_t text[LENGTH];
    enumerate(&o, text, 0, 0);
    assert_true(o.n_texts > 2);
    assert_int_equal(
        partial_fill_init(&fill, &graph, LENGTH, &o.stop, 1, &o.barred, 1, n_plain + 1, &err),
        UM_OK);
    int n_possible = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        rng_key key = {.seed = (uint64_t)i_case, .position = round};
        int32_t tokens[LENGTH], n = LENGTH - (int32_t)(round % 3);
        char what[128];
        snprintf(what, sizeof what, "case %d, round %u", i_case, round);
        /* A document, some of whose tokens are open, and in some rounds one that is any token. */
        const int8_t *source =
            o.texts[(size_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * (double)o.n_texts)];
        for (int32_t i = 0; i < n; i++) {
            key.step = (uint32_t)i + 1;
            tokens[i] = rng_uniform(&key, RNG_PURPOSE_TEST, 0) < 0.5 ? source[i] : -1;
            if (round % 4 != 0 || rng_uniform(&key, RNG_PURPOSE_TEST, 1) > 0.2) continue;
            int32_t other = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 2) * (n_plain + 1));
            if (other != o.barred) tokens[i] = other; /* one that is barred never stands */
        }
        bool is_possible = can_complete(&o, tokens, n);
        assert_int_equal(partial_fill_load(&fill, 0, tokens, n, LENGTH - n), is_possible);
        check_allowed(&fill, &o, tokens, n, what);
        n_possible += is_possible;
        if (!is_possible) continue;
        /* Then one change after another: tokens that are allowed, edits and openings. */
        for (uint32_t change = 0; change < 12; change++) {
            key.step = 100 + change;
            int32_t at = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * n), n_allowed = 0;
            int32_t allowed[VOCAB_MAX + 1];
            for (int32_t token = 0; token <= o.stop; token++)
                if (partial_fill_allows(&fill, at, token)) allowed[n_allowed++] = token;
            assert_true(n_allowed > 0);
            tokens[at] = allowed[(int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 1) * n_allowed)];
            if (change % 5 == 4) tokens[at] = -1;
            partial_fill_put(&fill, at, tokens[at]);
            assert_true(can_complete(&o, tokens, n));
            check_allowed(&fill, &o, tokens, n, what);
        }
    }
    assert_true(n_possible > ROUNDS / 2);
    partial_fill_deinit(&fill);
    token_graph_deinit(&graph);
    memory_free(o.texts);
}

static void test_brute_force(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++)
        for (int is_barred = 0; is_barred < 2; is_barred++) check_case(i, is_barred);
}

/* The fewest tokens of a document, and none where a needed one is missing or barred. */
static void test_shortest(void **state) {
    (void)state;
    static const int32_t stop = 14, barred[] = {7, 5};
    byte_dfa dfa;
    token_texts texts;
    token_graph graph;
    partial_fill fill;
    um_error err;
    make_texts(cases[3].tokens, &texts);
    assert_int_equal(json_schema_compile("{\"const\": null}", 15, &dfa, &err), UM_OK);
    assert_int_equal(token_graph_build_take(&dfa, &texts, &graph, &err), UM_OK);
    for (int32_t n_barred = 0; n_barred <= 2; n_barred++) {
        assert_int_equal(partial_fill_init(&fill, &graph, 4, &stop, 1, barred, n_barred, 15, &err),
                         UM_OK);
        int32_t shortest = partial_fill_shortest(&fill);
        assert_int_equal(shortest, n_barred == 0 ? 1 : n_barred == 1 ? 2 : INT32_MAX);
        partial_fill_deinit(&fill);
    }
    /* A model with a smaller vocabulary than the tokenizer's has no "null" and no "ll". */
    assert_int_equal(partial_fill_init(&fill, &graph, 4, &stop, 1, NULL, 0, 6, &err), UM_OK);
    assert_int_equal(partial_fill_shortest(&fill), INT32_MAX);
    partial_fill_deinit(&fill);
    token_graph_deinit(&graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_brute_force),
                                       cmocka_unit_test(test_shortest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
