/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole conversations through whole templates, byte for byte what transformers renders, and the
 * finding of templates and special tokens in a model directory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "text/chat_template.h"

/* Renders one case; its template is parsed anew only when the name changes. */
typedef struct session {
    const json_t *fixture;
    char *config;
    const char *template_name;
    chat_template *template_;
} session;

static void use_template(session *s, const char *name) {
    if (s->template_name && strcmp(s->template_name, name) == 0) return;
    chat_template_close(s->template_);
    char path[512];
    snprintf(path, sizeof path, TEST_DATA_DIR "/chat/templates/%s", name);
    char *text;
    size_t n_bytes;
    um_error err;
    if (file_read(path, 1 << 20, &text, &n_bytes, &err) != UM_OK) fail_msg("%s", err.message);
    if (chat_template_parse(text, n_bytes, s->config, &s->template_, &err) != UM_OK)
        fail_msg("%s: %s", name, err.message);
    memory_free(text);
    s->template_name = name;
}

static char *dump(const json_t *value) {
    return value && !json_is_null(value) ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
}

static int check_case(session *s, const json_t *test) {
    const char *name = json_string_value(json_object_get(test, "conversation"));
    const json_t *setting =
        json_array_get(json_object_get(s->fixture, "settings"),
                       (size_t)json_integer_value(json_object_get(test, "setting")));
    use_template(s, json_string_value(json_object_get(test, "template")));
    char *messages = dump(json_object_get(json_object_get(s->fixture, "conversations"), name));
    char *tools = dump(json_object_get(setting, "tools"));
    char *variables = dump(json_object_get(setting, "variables"));
    const char *expected = json_string_value(json_object_get(test, "expected"));
    const char *message = json_string_value(json_object_get(test, "message"));
    char *out;
    um_error err = {UM_OK, "", "", -1};
    um_status status = chat_template_render(
        s->template_, messages, tools, variables,
        json_is_true(json_object_get(setting, "add_generation_prompt")), &out, &err);
    int is_good;
    if (expected) {
        is_good = status == UM_OK && strcmp(out, expected) == 0;
    } else {
        const char *error = json_string_value(json_object_get(test, "error"));
        is_good = status == UM_INVALID &&
                  (strcmp(error, "raised") != 0 || strcmp(err.message, message) == 0);
    }
    if (!is_good)
        print_message("%s, %s, setting %d\nexpected: %s\n     got: %s (%s: %s)\n", s->template_name,
                      name, (int)json_integer_value(json_object_get(test, "setting")),
                      expected ? expected : message, out ? out : "", um_status_name(status),
                      err.message);
    free(messages);
    free(tools);
    free(variables);
    memory_free(out);
    return is_good;
}

static void conversations_match_transformers(void **state) {
    (void)state;
    json_t *fixture = json_load_file(TEST_DATA_DIR "/chat/conversations.json", 0, NULL);
    assert_non_null(fixture);
    session s = {.fixture = fixture, .config = dump(json_object_get(fixture, "config"))};
    const json_t *cases = json_object_get(fixture, "cases");
    size_t n_bad = 0, n = json_array_size(cases);
    for (size_t i = 0; i < n; i++) n_bad += !check_case(&s, json_array_get(cases, i));
    chat_template_close(s.template_);
    free(s.config);
    json_decref(fixture);
    assert_true(n > 1000);
    assert_int_equal(n_bad, 0);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

static chat_template *parse(const char *text, const char *config) {
    chat_template *t;
    um_error err;
    if (chat_template_parse(text, strlen(text), config, &t, &err) != UM_OK)
        fail_msg("%s", err.message);
    return t;
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *messages, *tools, *variables, *message;
    } cases[] = {
        {"{}", NULL, NULL, "messages must be a JSON array"},
        {"[1]", NULL, NULL, "messages must be an array of objects, item 0 is not"},
        {"[{}, []]", NULL, NULL, "messages must be an array of objects, item 1 is not"},
        {"", NULL, NULL, "messages are not valid JSON"},
        {"[{\"a\": 1, \"a\": 2}]", NULL, NULL, "messages are not valid JSON"},
        {"[{\"a\": 123456789012345678901}]", NULL, NULL, "messages are not valid JSON"},
        {"[{\"a\": \"\\u0000\"}]", NULL, NULL, "messages are not valid JSON"},
        {"[]", "{}", NULL, "tools must be a JSON array"},
        {"[]", "[\"f\"]", NULL, "tools must be an array of objects"},
        {"[]", NULL, "[]", "variables must be a JSON object"},
        {"[]", NULL, "{", "variables are not valid JSON"},
    };
    chat_template *t = parse("x", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *out;
        um_error err;
        um_status status = chat_template_render(t, cases[i].messages, cases[i].tools,
                                                cases[i].variables, false, &out, &err);
        if (status != UM_INVALID ||
            strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s gave %s: %s", cases[i].messages, um_status_name(status), err.message);
        assert_null(out);
    }
    char deep[2048] = "[{\"a\": ";
    size_t n = strlen(deep);
    memset(deep + n, '[', 300);
    memset(deep + n + 300, ']', 300);
    strcpy(deep + n + 600, "}]");
    char *out;
    assert_int_equal(chat_template_render(t, deep, NULL, NULL, false, &out, NULL), UM_INVALID);
    chat_template_close(t);
    chat_template_close(NULL);
}

static void expect(chat_template *t, const char *tools, const char *variables, const char *text) {
    char *out;
    um_error err;
    if (chat_template_render(t, "[]", tools, variables, true, &out, &err) != UM_OK)
        fail_msg("%s", err.message);
    assert_string_equal(out, text);
    memory_free(out);
}

static void variables_and_tokens(void **state) {
    (void)state;
    const char *text =
        "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}|{{ mask_token }}|"
        "{{ x }}|{{ messages }}|{{ tools }}|{{ add_generation_prompt }}";
    chat_template *t = parse(text,
                             "{\"bos_token\": {\"content\": \"<s>\"}, \"pad_token\": null,"
                             " \"eos_token\": \"</s>\", \"mask_token\": \"[M]\"}");
    expect(t, NULL, NULL, "<s>|</s>|False|[M]||[]|None|True");
    /* Variables replace tokens, but not what the call itself passes. */
    expect(t, "[{}]", "{\"x\": 1.5, \"bos_token\": \"B\", \"messages\": 1}",
           "B|</s>|False|[M]|1.5|[]|[{}]|True");
    chat_template_close(t);
    um_error err;
    assert_int_equal(chat_template_parse("x", 1, "[]", &t, &err), UM_FORMAT);
    assert_null(t);
}

/* ---- Directories ----------------------------------------------------------------------------- */

static char folder[] = "/tmp/test_chat_template_XXXXXX";

static void put(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!text) {
        unlink(path);
        return;
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static um_status open_and_render(const char *tools, char *text, um_error *err) {
    chat_template *t;
    char *out;
    text[0] = '\0';
    memset(err, 0, sizeof *err);
    um_status status = chat_template_open(folder, &t, err);
    if (status != UM_OK) return status;
    status = chat_template_render(t, "[]", tools, NULL, false, &out, err);
    if (out) snprintf(text, 64, "%s", out);
    memory_free(out);
    chat_template_close(t);
    return status;
}

static void check_directory(const char *tools, um_status wanted, const char *text) {
    char out[64];
    um_error err;
    um_status status = open_and_render(tools, out, &err);
    if (status != wanted || strcmp(out, text) != 0)
        fail_msg("expected %s \"%s\", got %s \"%s\": %s", um_status_name(wanted), text,
                 um_status_name(status), out, err.message);
}

static void directories_are_searched(void **state) {
    (void)state;
    static const char config_name[] = "tokenizer_config.json";
    check_directory(NULL, UM_NOT_FOUND, "");
    put(config_name, "{\"bos_token\": \"<s>\"}");
    check_directory(NULL, UM_NOT_FOUND, "");
    put(config_name, "{\"chat_template\": \"config {{ bos_token }}\", \"bos_token\": \"<s>\"}");
    check_directory(NULL, UM_OK, "config <s>");
    put("chat_template.jinja", "file {{ bos_token }}\n");
    check_directory(NULL, UM_OK, "file <s>");
    put(config_name, NULL);
    check_directory(NULL, UM_OK, "file ");
    put(config_name, "{");
    check_directory(NULL, UM_FORMAT, "");
    put("chat_template.jinja", NULL);
    put(config_name,
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"}, {\"name\": "
        "\"rag\", \"template\": \"{{\"}, {\"name\": \"tool_use\", \"template\": \"tools\"}]}");
    check_directory(NULL, UM_OK, "plain");
    check_directory("[]", UM_OK, "tools");
    put(config_name, "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"tools\"}]}");
    check_directory(NULL, UM_INVALID, "");
    check_directory("[{}]", UM_OK, "tools");
    put(config_name, "{\"chat_template\": [{\"name\": \"tool_use\"}]}");
    check_directory(NULL, UM_FORMAT, "");
    put(config_name, "{\"chat_template\": 5}");
    check_directory(NULL, UM_FORMAT, "");
    put(config_name, "{\"chat_template\": null}");
    check_directory(NULL, UM_NOT_FOUND, "");
    put(config_name, "{\"chat_template\": \"{% if %}\"}");
    check_directory(NULL, UM_FORMAT, "");
    put("chat_template.jinja", "\n{{ 'x' }");
    char out[64];
    um_error err;
    assert_int_equal(open_and_render(NULL, out, &err), UM_FORMAT);
    assert_string_equal(err.where, "chat_template.jinja");
    assert_non_null(strstr(err.message, "line 2"));
    char path[512];
    snprintf(path, sizeof path, "%s/additional_chat_templates", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    put("chat_template.jinja", "plain");
    put("additional_chat_templates/tool_use.jinja", "tools");
    check_directory(NULL, UM_OK, "plain");
    check_directory("[]", UM_OK, "tools");
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char path[512];
    put("additional_chat_templates/tool_use.jinja", NULL);
    put("chat_template.jinja", NULL);
    put("tokenizer_config.json", NULL);
    snprintf(path, sizeof path, "%s/additional_chat_templates", folder);
    rmdir(path);
    rmdir(folder);
    return 0;
}

static void memory_failures_are_survived(void **state) {
    (void)state;
    put("additional_chat_templates/tool_use.jinja", "{{ tools }}{{ messages }}");
    put("chat_template.jinja", "{% for m in messages %}{{ m.role }}{% endfor %}");
    put("tokenizer_config.json",
        "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}}");
    um_status status = UM_NO_MEMORY;
    for (uint64_t n = 1; status != UM_OK; n++) {
        char out[64];
        um_error err;
        memory_fault_at(n, 0);
        status = open_and_render("[{\"a\": [1, 2]}]", out, &err);
        memory_fault_at(0, 0);
        if (status != UM_OK && status != UM_NO_MEMORY)
            fail_msg("allocation %d: %s", (int)n, err.message);
        assert_true(n < 1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_match_transformers),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(variables_and_tokens),
        cmocka_unit_test_setup_teardown(directories_are_searched, make_folder, NULL),
        cmocka_unit_test_teardown(memory_failures_are_survived, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
