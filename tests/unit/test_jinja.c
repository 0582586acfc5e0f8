/* SPDX-License-Identifier: Apache-2.0
 *
 * The template language against jinja2 itself: snippets.json holds templates and what jinja2 set up
 * as in transformers makes of them. Also what no fixture can say: the limits, and the errors'
 * lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "text/chat_template.h"

static json_t *load_fixture(void) {
    json_error_t mistake;
    json_t *fixture = json_load_file(TEST_DATA_DIR "/chat/snippets.json", 0, &mistake);
    if (!fixture) fail_msg("snippets.json: %s at line %d", mistake.text, mistake.line);
    return fixture;
}

/* Parses and renders over no messages. *is_parsed says how far it came. */
static um_status render(const char *text, size_t n_bytes, const char *variables, char **out,
                        int *is_parsed, um_error *err) {
    chat_template *t;
    *out = NULL;
    *is_parsed = 0;
    memset(err, 0, sizeof *err);
    um_status status = chat_template_parse(text, n_bytes, NULL, &t, err);
    if (status != UM_OK) return status;
    *is_parsed = 1;
    status = chat_template_render(t, "[]", NULL, variables, false, out, err);
    chat_template_close(t);
    return status;
}

static int check_case(const json_t *test, const char *variables) {
    const json_t *text = json_object_get(test, "template");
    const char *source = json_string_value(text);
    const char *expected = json_string_value(json_object_get(test, "expected"));
    const char *error = json_string_value(json_object_get(test, "error"));
    char *out;
    um_error err;
    int is_parsed;
    um_status status = render(source, json_string_length(text), variables, &out, &is_parsed, &err);
    int is_good;
    if (expected)
        is_good = status == UM_OK && strcmp(out, expected) == 0;
    else if (strcmp(error, "syntax") == 0)
        is_good = !is_parsed && (status == UM_FORMAT || status == UM_UNSUPPORTED);
    else if (strcmp(error, "raised") == 0)
        is_good = status == UM_INVALID &&
                  strcmp(err.message, json_string_value(json_object_get(test, "message"))) == 0;
    else
        is_good = is_parsed && status == UM_INVALID;
    if (!is_good)
        print_message("template: %s\nexpected: %s\n     got: %s (%s: %s)\n", source,
                      expected ? expected : json_string_value(json_object_get(test, "message")),
                      out ? out : "", um_status_name(status), err.message);
    memory_free(out);
    return is_good;
}

static void snippets_match_jinja2(void **state) {
    (void)state;
    json_t *fixture = load_fixture();
    char *variables = json_dumps(json_object_get(fixture, "variables"), 0);
    const json_t *cases = json_object_get(fixture, "cases");
    size_t n_bad = 0, n = json_array_size(cases);
    for (size_t i = 0; i < n; i++) n_bad += !check_case(json_array_get(cases, i), variables);
    free(variables);
    json_decref(fixture);
    assert_true(n > 250);
    assert_int_equal(n_bad, 0);
}

/* Templates that grow or run without bound end in an error, soon, or are harmless. */
static void limits_hold(void **state) {
    (void)state;
    json_t *fixture = load_fixture();
    const json_t *limited = json_object_get(fixture, "limited");
    for (size_t i = 0; i < json_array_size(limited); i++) {
        const json_t *text = json_array_get(limited, i);
        char *out;
        um_error err;
        int is_parsed;
        clock_t start = clock();
        um_status status =
            render(json_string_value(text), json_string_length(text), NULL, &out, &is_parsed, &err);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        memory_free(out);
        if (seconds > 20) fail_msg("%.60s ran for %.1f s", json_string_value(text), seconds);
        bool is_harmless =
            strstr(json_string_value(text), "(f(f") || strstr(json_string_value(text), "[1[1");
        if (status == UM_OK || status == UM_NO_MEMORY || (!err.message[0] && !is_harmless))
            fail_msg("%.60s gave %s: %s", json_string_value(text), um_status_name(status),
                     err.message);
    }
    json_decref(fixture);
}

typedef struct mistake {
    const char *text;
    um_status status;
    const char *message; /* what the message begins with */
} mistake;

static const mistake mistakes[] = {
    {"a\nb {{ x.y }}", UM_INVALID, "line 2: 'x' is undefined"},
    {"{% set d = {} %}\n\n{{ d.x.y }}", UM_INVALID, "line 3: 'dict object' has no attribute 'x'"},
    {"{{ 1 }}\n{% if 1 %}", UM_FORMAT, "line 2: unexpected end of template"},
    {"\n\n{% nope %}", UM_FORMAT, "line 3: unknown tag 'nope'"},
    {"{{ 'a'\n|nope }}", UM_FORMAT, "line 2: no filter named 'nope'"},
    {"{{ 1 is nope }}", UM_FORMAT, "line 1: no test named 'nope'"},
    {"{{ nope() }}", UM_INVALID, "line 1: 'nope' is undefined"},
    {"{{ 'a'.nope() }}", UM_INVALID, "line 1: 'str object' has no attribute 'nope'"},
    {"{{ [].append(1) }}", UM_INVALID, "line 1: access to attribute 'append' of 'list' object"},
    {"{{ raise_exception('Roles must alternate') }}", UM_INVALID, "Roles must alternate"},
    {"{{ 9223372036854775807 + 1 }}", UM_INVALID, "line 1: an integer does not fit into 64 bits"},
    {"{{ 92233720368547758070 }}", UM_UNSUPPORTED, "line 1: an integer does not fit into 64 bits"},
    {"{% for x in [] recursive %}{% endfor %}", UM_UNSUPPORTED, "line 1: recursive loops"},
    {"{% include 'x' %}", UM_UNSUPPORTED, "line 1: the tag 'include' is not supported"},
    {"{% extends 'x' %}", UM_UNSUPPORTED, "line 1: the tag 'extends' is not supported"},
    {"{{ 'a'.encode() }}", UM_UNSUPPORTED, "line 1: the method 'encode' is not supported"},
    {"{{ '\\N{DASH}' }}", UM_UNSUPPORTED, "line 1: \\N escapes are not supported"},
    {"{{ '\\x00' }}", UM_UNSUPPORTED, "line 1: a string holds U+0000"},
    {"{{ '\\ud800' }}", UM_UNSUPPORTED, "line 1: a string holds U+D800"},
    {"\xff", UM_FORMAT, "the template is not UTF-8 text"},
    {"{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", UM_INVALID,
     "line 1: macros call each other too deep"},
    {"{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}",
     UM_INVALID, "line 1: the template runs for too long"},
    {"{{ 'a' * 10 ** 9 }}", UM_INVALID, "line 1: a repetition is too long"},
};

static void mistakes_have_lines(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        const mistake *m = &mistakes[i];
        char *out;
        um_error err;
        int is_parsed;
        um_status status = render(m->text, strlen(m->text), NULL, &out, &is_parsed, &err);
        if (status != m->status || strncmp(err.message, m->message, strlen(m->message)) != 0)
            fail_msg("%s gave %s: %s", m->text, um_status_name(status), err.message);
        assert_null(out);
    }
}

static void zero_byte_is_refused(void **state) {
    (void)state;
    char *out;
    um_error err;
    int is_parsed;
    assert_int_equal(render("a\0b", 3, NULL, &out, &is_parsed, &err), UM_FORMAT);
}

/* The date is today's, so only its shape is known. */
static void strftime_now_gives_a_date(void **state) {
    (void)state;
    const char *text = "{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('') }}";
    char *out;
    um_error err;
    int is_parsed;
    assert_int_equal(render(text, strlen(text), NULL, &out, &is_parsed, &err), UM_OK);
    assert_int_equal(strlen(out), 11);
    assert_int_equal(out[4], '-');
    assert_true(memcmp(out, "2020", 4) > 0);
    memory_free(out);
}

/* A text built piece by piece must not cost the square of its length. */
static void long_texts_are_cheap(void **state) {
    (void)state;
    const char *text =
        "{% set ns = namespace(s='') %}{% for i in range(20000) %}"
        "{% set ns.s = ns.s + 'message ' ~ i ~ '\\n' * 200 %}{% endfor %}"
        "{{ ns.s|length }}";
    char *out;
    um_error err;
    int is_parsed;
    if (render(text, strlen(text), NULL, &out, &is_parsed, &err) != UM_OK)
        fail_msg("%s", err.message);
    assert_string_equal(out, "4248890");
    memory_free(out);
}

/* Every allocation may fail, once or for good, and nothing leaks or crashes. */
static void memory_failures_are_survived(void **state) {
    (void)state;
    const char *text =
        "{% macro m(a, b=2) %}{{ a }}{{ varargs }}{% endmacro %}{% set x %}{{ m(1, 2, 3) }}{% "
        "endset"
        " %}{% for i in range(50) if i is odd %}{{ [i, {'k': i}]|tojson(indent=2) }}{{ 'a' * 3000 "
        "}}{{ 'x,y'.split(',')|map('upper')|join(';')|title }}{% endfor %}{{ '%s' % x }}{{ "
        "['b', 'A']|sort|unique|list }}{{ '{}'.format(1) }}{{ 'a\\nb'|indent }}{{ 'ab'.center(7) "
        "}}";
    for (int is_sticky = 0; is_sticky < 2; is_sticky++) {
        um_status status = UM_NO_MEMORY;
        for (uint64_t n = 1; status != UM_OK; n++) {
            char *out;
            um_error err;
            int is_parsed;
            memory_fault_at(n, is_sticky);
            status = render(text, strlen(text), "{\"q\": [1, \"x\", {\"y\": null}]}", &out,
                            &is_parsed, &err);
            memory_fault_at(0, 0);
            if (status != UM_OK && status != UM_NO_MEMORY)
                fail_msg("allocation %d: %s", (int)n, err.message);
            memory_free(out);
            assert_true(n < 100000);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snippets_match_jinja2),        cmocka_unit_test(limits_hold),
        cmocka_unit_test(mistakes_have_lines),          cmocka_unit_test(zero_byte_is_refused),
        cmocka_unit_test(strftime_now_gives_a_date),    cmocka_unit_test(long_texts_are_cheap),
        cmocka_unit_test(memory_failures_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
