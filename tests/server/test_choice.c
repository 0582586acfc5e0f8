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
#include "server/logprobs_reply.h"
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

/* ---- Log-probabilities ----------------------------------------------------------------------- */

/* A job of one choice as the driver has it, without an engine. */
static job *begin_job(api_kind kind, const char *body) {
    api_request request;
    um_error err = {0};
    job *j = NULL;
    um_status status = api_request_parse(kind, body, strlen(body), &model, &request, &err);
    if (status != UM_OK) fail_msg("%s", err.message);
    um_request_options options = request.options;
    options.n_prompt = 1;
    options.max_tokens = CELLS;
    assert_int_equal(job_create(&request, &model, &j, &err), UM_OK);
    assert_int_equal(choice_init(&j->choices[0], &j->request, &model, &options, &err), UM_OK);
    return j;
}

/* What the forward says of a cell: a number of its own, and two alternatives. */
static um_status commit_logged(choice *c, int32_t cell, int32_t token) {
    float p = -0.25f * (float)(cell + 1);
    const um_token_logprob top[2] = {{token, p}, {token + 1, p - 1}};
    um_change change = {.position = 1 + cell,
                        .token = token,
                        .probability = 0.5f,
                        .log_probability = p,
                        .n_top = 2,
                        .top = top};
    um_event event = {.kind = UM_EVENT_STEP, .n_changes = 1, .changes = &change};
    um_error err;
    return choice_take_event(c, &event, &err);
}

/* Adds what the chunks written so far say to `all`: entries of a chat, or the lists by name. */
static void gather(strbuf *out, json_t *all) {
    for (char *line = out->data; line && (line = strstr(line, "data: {")); line++) {
        json_error_t fault;
        json_t *chunk = json_loads(line + 6, JSON_DISABLE_EOF_CHECK, &fault);
        const json_t *choice_0 = json_array_get(json_object_get(chunk, "choices"), 0);
        json_t *found = json_object_get(choice_0, "logprobs");
        assert_non_null(found);
        const char *names[] = {"content", "tokens", "token_logprobs", "top_logprobs",
                               "text_offset"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            json_t *list = json_object_get(found, names[i]);
            if (!list) continue;
            if (!json_object_get(all, names[i])) json_object_set_new(all, names[i], json_array());
            json_array_extend(json_object_get(all, names[i]), list);
        }
        json_decref(chunk);
    }
    strbuf_deinit(out);
}

/* Streams an answer whose cells come in the order of a stride. The chunks together must say what
 * the whole reply says, which is returned. */
static json_t *stream_and_whole(api_kind kind, const char *body, const int32_t *ids, size_t n,
                                size_t stride) {
    um_error err = {0};
    json_t *all = json_object(), *root, *whole = NULL;
    for (int is_stream = 1; is_stream >= 0; is_stream--) {
        job *j = begin_job(kind, body);
        choice *c = &j->choices[0];
        strbuf out;
        strbuf_init(&out);
        if (is_stream) reply_stream_begin(j, &out);
        for (size_t start = 0; start < stride && c->end == CHOICE_OPEN; start++)
            for (size_t i = start; i < n && c->end == CHOICE_OPEN; i += stride) {
                assert_int_equal(commit_logged(c, (int32_t)i, ids[i]), UM_OK);
                if (is_stream && c->n_ready > c->n_sent)
                    assert_int_equal(reply_stream_text(j, c, NULL, &out, &err), UM_OK);
            }
        if (c->end == CHOICE_OPEN) assert_int_equal(done(c, ids, n), UM_OK);
        if (is_stream) {
            assert_int_equal(reply_stream_end_choice(j, c, &out, &err), UM_OK);
            gather(&out, all);
        } else {
            assert_int_equal(reply_whole(j, &out, &err), UM_OK);
            json_error_t fault;
            root = json_loadb(out.data, out.n_bytes, 0, &fault);
            assert_non_null(root);
            whole = json_incref(json_array_get(json_object_get(root, "choices"), 0));
            json_decref(root);
            strbuf_deinit(&out);
        }
        job_release(j);
    }
    const json_t *logprobs = json_object_get(whole, "logprobs");
    const char *name;
    json_t *list;
    json_object_foreach(all, name, list)
        assert_true(json_equal(list, json_object_get(logprobs, name)));
    json_decref(all);
    return whole;
}

static void test_chat_logprobs(void **state) {
    (void)state;
    size_t n;
    int32_t *ids = encode(poem, &n);
    for (size_t stride = 1; stride < 5; stride++) {
        json_t *whole = stream_and_whole(API_KIND_CHAT,
                                         "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\","
                                         "\"content\":\"x\"}],\"logprobs\":true,"
                                         "\"top_logprobs\":2}",
                                         ids, n, stride);
        json_t *content = json_object_get(json_object_get(whole, "logprobs"), "content");
        strbuf bytes;
        strbuf_init(&bytes);
        assert_int_equal(json_array_size(content), n);
        for (size_t i = 0; i < n; i++) {
            json_t *entry = json_array_get(content, i);
            json_t *top = json_object_get(entry, "top_logprobs");
            double p = json_number_value(json_object_get(entry, "logprob"));
            assert_true(p == -0.25 * (double)(i + 1)); /* cells, not the order they came in */
            assert_int_equal(json_array_size(top), 2);
            assert_true(json_number_value(json_object_get(json_array_get(top, 1), "logprob")) ==
                        p - 1);
            for (size_t k = 0; k < json_array_size(json_object_get(entry, "bytes")); k++)
                strbuf_append_char(&bytes, (char)json_integer_value(
                                               json_array_get(json_object_get(entry, "bytes"), k)));
        }
        assert_string_equal(bytes.data, poem); /* also where a token is a part of a character */
        strbuf_deinit(&bytes);
        json_decref(whole);
    }
    um_free(ids);
}

/* Four lists of one length; offsets count characters; a stop string leaves the tokens before it. */
static void test_completion_logprobs(void **state) {
    (void)state;
    size_t n;
    int32_t *ids = encode(poem, &n);
    static const char *const parameters[] = {"", ",\"echo\":true", ",\"stop\":\"said\""};
    for (size_t k = 0; k < 3; k++) {
        char body[256];
        snprintf(body, sizeof body, "{\"model\":\"demo\",\"prompt\":\"A dog\",\"logprobs\":1%s}",
                 parameters[k]);
        json_t *whole = stream_and_whole(API_KIND_COMPLETION, body, ids, n, 1);
        json_t *logprobs = json_object_get(whole, "logprobs");
        const char *text = json_string_value(json_object_get(whole, "text"));
        json_t *tokens = json_object_get(logprobs, "tokens");
        json_t *numbers = json_object_get(logprobs, "token_logprobs");
        json_t *offsets = json_object_get(logprobs, "text_offset");
        size_t n_tokens = json_array_size(tokens), n_prompt = 0, at = 0, n_chars = 0;
        assert_int_equal(json_array_size(numbers), n_tokens);
        assert_int_equal(json_array_size(offsets), n_tokens);
        assert_int_equal(json_array_size(json_object_get(logprobs, "top_logprobs")), n_tokens);
        while (json_is_null(json_array_get(numbers, n_prompt))) n_prompt++;
        assert_true(k == 1 ? n_prompt > 1 : n_prompt == 0);
        assert_true(k == 2 ? n_tokens < n : n_tokens == n + n_prompt);
        assert_true(json_number_value(json_array_get(numbers, n_prompt)) == -0.25);
        for (size_t i = 0; i < n_tokens; i++) {
            const char *token = json_string_value(json_array_get(tokens, i));
            assert_true(json_integer_value(json_array_get(offsets, i)) == (json_int_t)n_chars);
            if (strncmp(token, "bytes:", 6) == 0) break; /* a part of a character: seen in chats */
            assert_true(strncmp(text + at, token, strlen(token)) == 0);
            at += strlen(token);
            for (const char *c = token; *c; c++) n_chars += ((unsigned char)*c & 0xc0) != 0x80;
        }
        assert_true(at > 4);
        json_decref(whole);
    }
    um_free(ids);
}

/* A token that a finished block has elsewhere than the step wrote it has no number. */
static void test_moved_logprobs(void **state) {
    (void)state;
    um_error err;
    job *j = begin_job(API_KIND_COMPLETION,
                       "{\"model\":\"demo\",\"prompt\":\"x\",\"logprobs\":0,\"policy\":\"edit\"}");
    choice *c = &j->choices[0];
    for (int32_t i = 0; i < 3; i++) assert_int_equal(commit_logged(c, i, 10 + i), UM_OK);
    const int32_t block[] = {10, 12, 12};
    um_event event = {.kind = UM_EVENT_BLOCK, .first_position = 1, .n_inputs = 3, .inputs = block};
    assert_int_equal(choice_take_event(c, &event, &err), UM_OK);
    json_t *found = logprobs_reply(j, c, SIZE_MAX, false);
    json_t *expected = json_pack("[f, n, f]", -0.25, -0.75);
    assert_true(json_equal(json_object_get(found, "token_logprobs"), expected));
    assert_true(json_is_null(json_object_get(found, "top_logprobs")));
    json_decref(found);
    json_decref(expected);
    job_release(j);
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
        cmocka_unit_test(test_chat_logprobs),
        cmocka_unit_test(test_completion_logprobs),
        cmocka_unit_test(test_moved_logprobs),
        cmocka_unit_test(test_calls),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
