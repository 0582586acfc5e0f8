/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the keywords of a schema. Every keyword is honoured, or has no say in what is valid (a
 * title), or is refused by name: a schema that was half understood would pass for one that holds.
 */
#include "decode/json_schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "decode/json_compiler.h"

enum { NFA_STATES_MAX = 16 * JSON_SCHEMA_STATES, EASY_STATES = 6000 };

/* What a keyword is, or which types it is about. */
enum {
    IS_NULL = 1 << 0,
    IS_BOOLEAN = 1 << 1,
    IS_INTEGER = 1 << 2,
    IS_NUMBER = 1 << 3,
    IS_STRING = 1 << 4,
    IS_ARRAY = 1 << 5,
    IS_OBJECT = 1 << 6,
    IS_ANYTHING = (1 << 7) - 1,
    IS_NOTE = 1 << 8,  /* says nothing of what is valid */
    IS_WHOLE = 1 << 9, /* stands for the schema; goes with notes */
    IS_TYPE = 1 << 10
};

static const struct {
    const char *name;
    int use;
} keywords[] = {
    {"type", IS_TYPE},
    {"properties", IS_OBJECT},
    {"required", IS_OBJECT},
    {"additionalProperties", IS_OBJECT},
    {"items", IS_ARRAY},
    {"minItems", IS_ARRAY},
    {"maxItems", IS_ARRAY},
    {"minLength", IS_STRING},
    {"maxLength", IS_STRING},
    {"minimum", IS_NUMBER},
    {"maximum", IS_NUMBER},
    {"exclusiveMinimum", IS_NUMBER},
    {"exclusiveMaximum", IS_NUMBER},
    {"enum", IS_WHOLE},
    {"const", IS_WHOLE},
    {"anyOf", IS_WHOLE},
    {"$ref", IS_WHOLE},
    {"$defs", IS_NOTE},
    {"definitions", IS_NOTE},
    {"$schema", IS_NOTE},
    {"$comment", IS_NOTE},
    {"title", IS_NOTE},
    {"description", IS_NOTE},
    {"default", IS_NOTE},
    {"examples", IS_NOTE},
    {"deprecated", IS_NOTE},
    {"readOnly", IS_NOTE},
    {"writeOnly", IS_NOTE},
};

static const struct {
    const char *name;
    int type;
} type_names[] = {{"null", IS_NULL},     {"boolean", IS_BOOLEAN}, {"integer", IS_INTEGER},
                  {"number", IS_NUMBER}, {"string", IS_STRING},   {"array", IS_ARRAY},
                  {"object", IS_OBJECT}};

/* ---- Sentences ---- */

static void append_place(strbuf *out, const json_place *at) {
    if (at->up) append_place(out, at->up);
    if (!at->up)
        strbuf_append_string(out, "#");
    else if (at->name)
        strbuf_append_format(out, "/%.60s", at->name);
    else
        strbuf_append_format(out, "/%zu", at->index);
}

um_status json_place_fail(const json_place *at, um_status status, um_error *err, const char *format,
                          ...) {
    char sentence[320];
    strbuf place;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    strbuf_init(&place);
    append_place(&place, at);
    um_error_set(err, status, "%.200s: %s", place.data && !place.has_failed ? place.data : "#",
                 sentence);
    strbuf_deinit(&place);
    return status;
}

/* ---- Keywords ---- */

um_status json_schema_count(const json_t *schema, const char *keyword, const json_place *at,
                            int64_t fallback, int64_t *count, um_error *err) {
    const json_t *value = json_object_get(schema, keyword);
    *count = json_is_integer(value) ? json_integer_value(value) : fallback;
    if (!value || (json_is_integer(value) && *count >= 0 && *count <= 1000000000)) return UM_OK;
    return json_place_fail(at, UM_INVALID, err, "%s: expected an integer from 0 to 1000000000",
                           keyword);
}

/* All uses of the schema's keywords together; *whole is the one that stands for the schema. */
static um_status read_keywords(const json_t *schema, const json_place *at, int *uses,
                               const char **whole, um_error *err) {
    const char *name;
    const json_t *value;
    *uses = 0;
    *whole = NULL;
    json_object_foreach((json_t *)(uintptr_t)schema, name, value) {
        size_t i = 0, n = sizeof keywords / sizeof *keywords;
        while (i < n && strcmp(keywords[i].name, name) != 0) i++;
        if (i == n && strcmp(name, "$id") == 0 && !at->up) continue;
        if (i == n)
            return json_place_fail(at, UM_UNSUPPORTED, err,
                                   "the keyword \"%.60s\" is not supported", name);
        if (keywords[i].use == IS_WHOLE) {
            if (*whole)
                return json_place_fail(at, UM_UNSUPPORTED, err,
                                       "\"%s\" together with \"%s\" is not supported", *whole,
                                       name);
            *whole = name;
        }
        *uses |= keywords[i].use;
    }
    return UM_OK;
}

static int type_of_name(const json_t *name) {
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names && json_is_string(name); i++)
        if (strcmp(type_names[i].name, json_string_value(name)) == 0) return type_names[i].type;
    return 0;
}

/* The schema's types; those that its keywords are about, where it names none. */
static um_status read_types(const json_t *schema, const json_place *at, int uses, int *types,
                            um_error *err) {
    const json_t *value = json_object_get(schema, "type"), *item;
    size_t i;
    *types = uses & IS_ANYTHING ? uses & IS_ANYTHING : IS_ANYTHING;
    if (!value) return UM_OK;
    *types = type_of_name(value);
    json_array_foreach(value, i, item) {
        int type = type_of_name(item);
        if (!type) *types = 0;
        if (!type) break;
        *types |= type;
    }
    if (*types) return UM_OK;
    return json_place_fail(at, UM_INVALID, err,
                           "type: expected null, boolean, integer, number, string, array, object, "
                           "or a list of them");
}

/* ---- Values ---- */

static int type_of_value(const json_t *value) {
    switch (json_typeof(value)) {
        case JSON_OBJECT:
            return IS_OBJECT;
        case JSON_ARRAY:
            return IS_ARRAY;
        case JSON_STRING:
            return IS_STRING;
        case JSON_INTEGER:
            return IS_INTEGER | IS_NUMBER;
        case JSON_REAL: {
            double real = json_real_value(value);
            return real == floor(real) ? IS_INTEGER | IS_NUMBER : IS_NUMBER;
        }
        case JSON_NULL:
            return IS_NULL;
        default:
            return IS_BOOLEAN;
    }
}

/* The text of a value, with no more digits than it takes to mean it. Freed with memory_free. */
static char *write_value(const json_t *value, size_t *n_bytes) {
    static const size_t precisions[] = {15, 17};
    for (int i = 0; i < 2; i++) {
        size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(precisions[i]);
        *n_bytes = json_dumpb(value, NULL, 0, flags);
        char *text = *n_bytes ? memory_alloc(*n_bytes) : NULL;
        if (!text) return NULL;
        json_dumpb(value, text, *n_bytes, flags);
        json_t *again = json_loadb(text, *n_bytes, JSON_DECODE_ANY, NULL);
        bool is_same = json_equal(value, again);
        json_decref(again);
        if (is_same || i == 1) return text;
        memory_free(text);
    }
    return NULL;
}

static um_status add_constant(json_compiler *c, const json_t *value, int types, int32_t from,
                              int32_t to, um_error *err) {
    size_t n_bytes;
    if (!(type_of_value(value) & types)) return UM_OK;
    char *text = write_value(value, &n_bytes);
    if (!text) FAIL(UM_NO_MEMORY, err, "no memory for a schema");
    int32_t start = byte_nfa_state(&c->nfa);
    byte_nfa_empty(&c->nfa, from, start);
    byte_nfa_text(&c->nfa, start, text, n_bytes, to);
    memory_free(text);
    return UM_OK;
}

/* A bound of numbers as the last integer inside it. */
static um_status read_bound(const json_t *schema, const char *keyword, const json_place *at,
                            bool is_lower, bool is_exclusive, bool is_integer, int64_t *bound,
                            um_error *err) {
    const json_t *value = json_object_get(schema, keyword);
    if (!value) return UM_OK;
    if (!json_is_number(value))
        return json_place_fail(at, UM_INVALID, err, "%s: expected a number", keyword);
    double real = json_number_value(value);
    double inside = is_lower ? ceil(real) : floor(real);
    if (!is_integer && (is_exclusive || inside != real))
        return json_place_fail(at, UM_UNSUPPORTED, err,
                               "%s of numbers is supported for whole bounds that are included, "
                               "else for integers only",
                               keyword);
    if (is_exclusive && inside == real) inside += is_lower ? 1 : -1;
    double limit = is_lower ? (double)*bound : -(double)*bound;
    double found = is_lower ? inside : -inside;
    if (found > limit)
        *bound = fabs(inside) < 1e15 ? (int64_t)inside : is_lower ? INT64_MAX : INT64_MIN;
    return UM_OK;
}

static um_status add_numbers(json_compiler *c, const json_t *schema, const json_place *at,
                             bool is_integer, int32_t from, int32_t to, um_error *err) {
    const int64_t largest = (int64_t)1000000000000000 - 1;
    int64_t minimum = -largest, maximum = largest;
    TRY(read_bound(schema, "minimum", at, true, false, is_integer, &minimum, err));
    TRY(read_bound(schema, "exclusiveMinimum", at, true, true, is_integer, &minimum, err));
    TRY(read_bound(schema, "maximum", at, false, false, is_integer, &maximum, err));
    TRY(read_bound(schema, "exclusiveMaximum", at, false, true, is_integer, &maximum, err));
    bool is_bounded = minimum != -largest || maximum != largest;
    if (minimum > maximum) return UM_OK;
    if (!is_bounded)
        (is_integer ? json_lexeme_integer : json_lexeme_number)(&c->nfa, from, to);
    else if (is_integer)
        json_lexeme_range(&c->nfa, from, minimum, maximum, to);
    else
        json_lexeme_decimal_range(&c->nfa, from, minimum, maximum, to);
    return UM_OK;
}

static um_status add_types(json_compiler *c, const json_t *schema, const json_place *at, int types,
                           int levels, int32_t from, int32_t to, um_error *err) {
    if (types & IS_NULL) byte_nfa_text(&c->nfa, from, "null", 4, to);
    if (types & IS_BOOLEAN) byte_nfa_text(&c->nfa, from, "true", 4, to);
    if (types & IS_BOOLEAN) byte_nfa_text(&c->nfa, from, "false", 5, to);
    if (types & (IS_NUMBER | IS_INTEGER))
        TRY(add_numbers(c, schema, at, !(types & IS_NUMBER), from, to, err));
    if (types & IS_STRING) {
        int64_t minimum, maximum;
        TRY(json_schema_count(schema, "minLength", at, 0, &minimum, err));
        TRY(json_schema_count(schema, "maxLength", at, -1, &maximum, err));
        if (maximum < 0 || minimum <= maximum)
            json_lexeme_string(&c->nfa, from, minimum, maximum, to);
    }
    if (types & IS_ARRAY) TRY(json_container_array(c, schema, at, levels, from, to, err));
    if (types & IS_OBJECT) TRY(json_container_object(c, schema, at, levels, from, to, err));
    return UM_OK;
}

/* A value that may be anything, `levels` containers deep. */
static um_status add_anything(json_compiler *c, const json_place *at, int levels, int32_t from,
                              int32_t to, um_error *err) {
    int types = levels > 0 ? IS_ANYTHING : IS_ANYTHING & ~(IS_ARRAY | IS_OBJECT);
    return add_types(c, NULL, at, types, levels - 1, from, to, err);
}

/* ---- References ---- */

/* One part of a pointer (RFC 6901), up to the next '/'. Returns where the rest begins. */
static const char *next_part(const char *pointer, char *part, size_t capacity) {
    size_t n = 0;
    for (; *pointer && *pointer != '/'; pointer++) {
        char byte = *pointer;
        if (byte == '~' && (pointer[1] == '0' || pointer[1] == '1'))
            byte = *++pointer == '0' ? '~' : '/';
        if (n + 1 < capacity) part[n++] = byte;
    }
    part[n] = 0;
    return pointer;
}

/* What "#/$defs/node" names in the whole schema, or NULL. */
static const json_t *find_reference(const json_t *root, const char *reference) {
    const json_t *found = root;
    char part[256];
    if (*reference != '#') return NULL;
    for (const char *at = reference + 1; *at && found;) {
        if (*at != '/') return NULL;
        at = next_part(at + 1, part, sizeof part);
        if (json_is_array(found)) {
            size_t index = 0, n = 0;
            for (; part[n] >= '0' && part[n] <= '9' && n < 9; n++)
                index = index * 10 + (size_t)(part[n] - '0');
            found = n && !part[n] ? json_array_get(found, index) : NULL;
        } else {
            found = json_object_get(found, part);
        }
    }
    return found;
}

/* Goes where a $ref leads, unless that has been entered as often as recursion may go deep. */
static um_status follow_reference(json_compiler *c, const json_t *schema, const json_place *at,
                                  int levels, int32_t from, int32_t to, um_error *err) {
    const char *reference = json_string_value(json_object_get(schema, "$ref"));
    if (!reference) return json_place_fail(at, UM_INVALID, err, "$ref: expected a string");
    const json_t *target = find_reference(c->root, reference);
    if (!target)
        return json_place_fail(at, UM_INVALID, err,
                               "$ref: nothing in this schema is at \"%.100s\"; expected # and a "
                               "path, such as #/$defs/name",
                               reference);
    int n_entered = 0;
    for (const json_place *p = at; p; p = p->up) n_entered += p->followed == target;
    if (n_entered > c->level_max) return UM_OK;
    json_place place = {.up = at, .name = "$ref", .followed = target, .depth = at->depth + 1};
    return json_schema_value(c, target, &place, levels, from, to, err);
}

static um_status add_each(json_compiler *c, const json_t *schema, const char *keyword,
                          const json_place *at, int types, int levels, int32_t from, int32_t to,
                          um_error *err) {
    const json_t *list = json_object_get(schema, keyword), *item;
    if (!json_is_array(list) || !json_array_size(list))
        return json_place_fail(at, UM_INVALID, err, "%s: expected a list of at least one", keyword);
    bool is_choice = strcmp(keyword, "anyOf") == 0;
    size_t i;
    json_array_foreach(list, i, item) {
        json_place parent = {.up = at, .name = keyword, .depth = at->depth + 1};
        json_place place = {.up = &parent, .index = i, .depth = at->depth + 2};
        if (is_choice)
            TRY(json_schema_value(c, item, &place, levels, from, to, err));
        else
            TRY(add_constant(c, item, types, from, to, err));
    }
    return UM_OK;
}

/* A keyword that stands for the schema. `type` goes with enum and const. */
static um_status add_whole(json_compiler *c, const json_t *schema, const char *whole, int uses,
                           const json_place *at, int levels, int32_t from, int32_t to,
                           um_error *err) {
    bool is_constant = strcmp(whole, "enum") == 0 || strcmp(whole, "const") == 0;
    int types;
    if ((uses & IS_ANYTHING) || (!is_constant && (uses & IS_TYPE)))
        return json_place_fail(at, UM_UNSUPPORTED, err,
                               "\"%s\" together with other keywords is not supported", whole);
    TRY(read_types(schema, at, 0, &types, err));
    if (types & IS_NUMBER) types |= IS_INTEGER;
    if (strcmp(whole, "$ref") == 0) return follow_reference(c, schema, at, levels, from, to, err);
    if (strcmp(whole, "const") == 0)
        return add_constant(c, json_object_get(schema, whole), types, from, to, err);
    return add_each(c, schema, whole, at, types, levels, from, to, err);
}

um_status json_schema_value(json_compiler *c, const json_t *schema, const json_place *at,
                            int levels, int32_t from, int32_t to, um_error *err) {
    int uses, types;
    const char *whole;
    if (c->nfa.status == UM_OK && ++c->n_visits > JSON_VISITS_MAX) c->nfa.status = UM_LIMIT;
    if (c->nfa.status == UM_NO_MEMORY) FAIL(UM_NO_MEMORY, err, "no memory for a schema");
    if (c->nfa.status != UM_OK)
        FAIL(UM_LIMIT, err,
             "the schema needs an automaton that is too large; lower maxLength, minItems or "
             "maxItems");
    if (at->depth > JSON_NESTING_MAX)
        FAIL(UM_LIMIT, err, "the schema is nested more than %d deep", JSON_NESTING_MAX);
    if (!schema || json_is_true(schema)) return add_anything(c, at, levels, from, to, err);
    if (json_is_false(schema)) return UM_OK;
    if (!json_is_object(schema))
        return json_place_fail(at, UM_INVALID, err, "expected a schema: an object, true or false");
    TRY(read_keywords(schema, at, &uses, &whole, err));
    if (whole) return add_whole(c, schema, whole, uses, at, levels, from, to, err);
    if (!(uses & ~IS_NOTE)) return add_anything(c, at, levels, from, to, err);
    TRY(read_types(schema, at, uses, &types, err));
    /* An array or object without a word on what it holds goes as deep as a value of any kind. */
    bool is_free = !json_object_get(schema, "items") && !json_object_get(schema, "properties");
    return add_types(c, schema, at, types, is_free ? levels - 1 : levels, from, to, err);
}

/* ---- The whole ---- */

static um_status compile_at(const json_t *root, int level_max, int32_t n_states_max, byte_dfa *dfa,
                            um_error *err) {
    static const json_place place = {0};
    json_compiler c = {.root = root, .level_max = level_max};
    byte_nfa_init(&c.nfa, NFA_STATES_MAX);
    int32_t start = byte_nfa_state(&c.nfa), end = byte_nfa_state(&c.nfa);
    um_status status =
        root ? json_schema_value(&c, root, &place, level_max, start, end, err)
             : json_container_object(&c, NULL, &place, level_max - 1, start, end, err);
    if (status == UM_OK && c.nfa.status != UM_OK) {
        bool is_memory = c.nfa.status == UM_NO_MEMORY;
        status = um_error_set(err, c.nfa.status, "%s",
                              is_memory ? "no memory for a schema"
                                        : "the schema needs an automaton that is too large; lower "
                                          "maxLength, minItems or maxItems");
    }
    if (status == UM_OK) status = byte_dfa_build(&c.nfa, start, end, n_states_max, dfa, err);
    byte_nfa_deinit(&c.nfa);
    return status;
}

static um_status parse(const char *text, size_t n_bytes, json_t **root, um_error *err) {
    json_error_t problem;
    *root = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (*root) return UM_OK;
    /* jansson leaves the text empty for some of its own failures of memory. */
    bool is_memory = json_error_code(&problem) == json_error_out_of_memory || !problem.text[0];
    um_error_set(err, is_memory ? UM_NO_MEMORY : UM_FORMAT, "the schema is not JSON: line %d: %s",
                 problem.line, problem.text);
    if (!is_memory) um_error_at(err, "", problem.position);
    return is_memory ? UM_NO_MEMORY : UM_FORMAT;
}

um_status json_schema_compile(const char *text, size_t n_bytes, byte_dfa *dfa, um_error *err) {
    json_t *root = NULL;
    um_status status = UM_LIMIT;
    memset(dfa, 0, sizeof *dfa);
    if (text) TRY(parse(text, n_bytes, &root, err));
    /* As deep as an automaton of a handy size allows; but one level may take what it needs. */
    for (int level = JSON_SCHEMA_DEPTH; level >= 1 && status == UM_LIMIT; level--) {
        byte_dfa_deinit(dfa);
        status = compile_at(root, level, level > 1 ? EASY_STATES : JSON_SCHEMA_STATES, dfa, err);
    }
    if (status == UM_LIMIT && dfa->n_classes)
        um_error_set(err, UM_LIMIT,
                     "the schema needs an automaton of more than %d states; lower maxLength, "
                     "minItems or maxItems",
                     JSON_SCHEMA_STATES);
    if (status == UM_NOT_FOUND)
        status = um_error_set(err, UM_INVALID, "no document satisfies the schema");
    json_decref(root);
    return status;
}
