/* SPDX-License-Identifier: Apache-2.0
 *
 * Events of the engine as text and chunks, without an engine and without a socket: what is given
 * out never has to be taken back, stop strings are found wherever tokens split them, calls of tools
 * come out whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/choice.h"
#include "server/reply.h"
#include "server/tool_shapes.h"

enum { CELLS = 256 };

static um_tokenizer *tokenizer;
static um_model_info info;
static api_model model;

static int open_model(void **state) {
    (void)state;
    um_error err;
    assert_int_equal(um_model_inspect(PROJECT_DIR "/models/demo", -1, &info, &err), UM_OK);
    assert_int_equal(um_tokenizer_open(PROJECT_DIR "/models/demo", &tokenizer, &err), UM_OK);
    model = (api_model){.id = "demo", .info = &info, .tokenizer = tokenizer};
    return 0;
}

static int close_model(void **state) {
    (void)state;
    um_tokenizer_close(&tokenizer);
    return 0;
}

/* A choice of a completion with the given parameters. */
static void begin(choice *c, api_request *request, const char *parameters) {
    char body[512];
    um_error err = {0};
    int n = snprintf(body, sizeof body, "{\"model\":\"demo\",\"prompt\":\"x\",\"max_tokens\":%d%s}",
                     CELLS, parameters);
    um_status status =
        api_request_parse(API_KIND_COMPLETION, body, (size_t)n, &model, request, &err);
    if (status != UM_OK) fail_msg("%s", err.message);
    request->options.n_prompt = 1;
    memset(c, 0, sizeof *c);
    assert_int_equal(choice_init(c, request, &model, &request->options, &err), UM_OK);
}

static um_status commit(choice *c, int32_t cell, int32_t token) {
    um_change change = {.position = 1 + cell, .token = token, .probability = 1};
    um_event event = {.kind = UM_EVENT_STEP, .n_changes = 1, .changes = &change};
    um_error err;
    return choice_take_event(c, &event, &err);
}

static um_status done(choice *c, const int32_t *ids, size_t n_ids) {
    um_event event = {
        .kind = UM_EVENT_DONE, .finish = UM_FINISH_STOP, .n_tokens = (int32_t)n_ids, .tokens = ids};
    um_error err;
    return choice_take_event(c, &event, &err);
}

static int32_t *encode(const char *text, size_t *n_ids) {
    int32_t *ids;
    um_error err;
    assert_int_equal(um_tokenizer_encode(tokenizer, text, strlen(text), &ids, n_ids, &err), UM_OK);
    assert_true(*n_ids < CELLS);
    return ids;
}

static const char poem[] =
    "The caf\xc3\xa9 \xf0\x9f\x90\xb6 is \xe6\xbc\xa2\xe5\xad\x97, said Zoe.";

/* Cells committed in several orders: text grows with the committed prefix, by whole characters. */
static void test_orders(void **state) {
    (void)state;
    size_t n;
    int32_t *ids = encode(poem, &n);
    for (size_t stride = 1; stride < 7; stride++) {
        choice c;
        api_request request;
        begin(&c, &request, "");
        size_t n_ready = 0;
        for (size_t start = 0; start < stride; start++)
            for (size_t i = start; i < n; i += stride) {
                assert_int_equal(commit(&c, (int32_t)i, ids[i]), UM_OK);
                assert_true(c.n_ready >= n_ready && c.n_ready <= strlen(poem));
                n_ready = c.n_ready;
                if (n_ready) assert_memory_equal(c.text.data, poem, n_ready);
                /* No byte of a character without the others. */
                assert_true(((unsigned char)poem[n_ready] & 0xc0) != 0x80);
            }
        assert_int_equal(done(&c, ids, n), UM_OK);
        assert_int_equal(c.end, CHOICE_STOP);
        assert_string_equal(c.text.data, poem);
        assert_int_equal(c.n_tokens, n);
        choice_deinit(&c);
        api_request_deinit(&request);
    }
    um_free(ids);
}

/* Every piece of a text as a stop string: what was ready before is never cut again. */
static void test_stops(void **state) {
    (void)state;
    const char text[] = "abab aba abacus is a word";
    size_t n, n_text = strlen(text);
    int32_t *ids = encode(text, &n);
    for (size_t first = 0; first < n_text; first++)
        for (size_t length = 1; first + length <= n_text; length++) {
            char parameters[128];
            choice c;
            api_request request;
            snprintf(parameters, sizeof parameters, ",\"stop\":[\"zzz\",\"%.*s\"]", (int)length,
                     text + first);
            begin(&c, &request, parameters);
            const char *expected = strstr(text, request.stops[1]);
            size_t n_ready = 0;
            for (size_t i = 0; i < n && c.end == CHOICE_OPEN; i++) {
                assert_int_equal(commit(&c, (int32_t)i, ids[i]), UM_OK);
                assert_true(c.n_ready >= n_ready);
                n_ready = c.n_ready;
                assert_true(n_ready <= (size_t)(expected - text));
            }
            assert_int_equal(c.end, CHOICE_STOP);
            assert_string_equal(c.stop, request.stops[1]);
            assert_int_equal(c.text.n_bytes, expected - text);
            assert_int_equal(c.n_ready, c.text.n_bytes);
            choice_deinit(&c);
            api_request_deinit(&request);
        }
    um_free(ids);
}

/* Under a policy that edits, nothing is given out before its block is finished. */
static void test_edits(void **state) {
    (void)state;
    size_t n;
    int32_t *ids = encode(poem, &n);
    choice c;
    api_request request;
    um_error err;
    begin(&c, &request, ",\"policy\":\"edit\"");
    for (size_t i = 0; i < n; i++) assert_int_equal(commit(&c, (int32_t)i, ids[i]), UM_OK);
    assert_int_equal(c.n_ready, 0);
    um_event block = {
        .kind = UM_EVENT_BLOCK, .first_position = 1, .n_inputs = (int32_t)n, .inputs = ids};
    assert_int_equal(choice_take_event(&c, &block, &err), UM_OK);
    assert_int_equal(c.n_ready, strlen(poem));
    choice_deinit(&c);
    api_request_deinit(&request);
    um_free(ids);
}

static void test_calls(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n_calls, n_text;
    } cases[] = {
        {"plain", 0, 5},
        {"Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>", 1, 5},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"
         "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>",
         2, 0},
        {"<tool_call>{\"name\": \"f\"}</tool_call>", 0, 36},
        {"<tool_call>{\"name\":\"f\",\"arguments\":{}}", 0, 38},
        {"a <tool_call>not json</tool_call>", 0, 33},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *calls = NULL;
        size_t n_text = 0;
        um_error err;
        assert_int_equal(
            tool_shapes_find_calls(cases[i].text, strlen(cases[i].text), &calls, &n_text, &err),
            UM_OK);
        assert_int_equal(json_array_size(calls), cases[i].n_calls);
        assert_int_equal(n_text, cases[i].n_text);
        json_decref(calls);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_calls),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
