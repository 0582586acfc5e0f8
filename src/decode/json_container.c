/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays and objects as pieces of an automaton. White space may stand around every item, name and
 * value, and nowhere outside the document.
 */
#include <string.h>

#include "base/memory.h"
#include "decode/json_compiler.h"

static int32_t state(json_compiler *c) {
    return byte_nfa_state(&c->nfa);
}

static int32_t spaced_state(json_compiler *c) {
    int32_t at = state(c);
    json_lexeme_space(&c->nfa, at);
    return at;
}

static void take(json_compiler *c, int32_t from, char byte, int32_t to) {
    byte_nfa_edge(&c->nfa, from, byte, byte, to);
}

/* ---- Arrays ---- */

um_status json_container_array(json_compiler *c, const json_t *schema, const json_place *at,
                               int levels, int32_t from, int32_t to, um_error *err) {
    int64_t minimum, maximum;
    TRY(json_schema_count(schema, "minItems", at, 0, &minimum, err));
    TRY(json_schema_count(schema, "maxItems", at, -1, &maximum, err));
    if (maximum >= 0 && minimum > maximum)
        return json_place_fail(at, UM_INVALID, err, "minItems %lld is above maxItems %lld",
                               (long long)minimum, (long long)maximum);
    json_place place = {.up = at, .name = "items", .depth = at->depth + 1};
    const json_t *items = json_object_get(schema, "items");
    int32_t open = spaced_state(c);
    take(c, from, '[', open);
    if (minimum == 0) take(c, open, ']', to);
    int32_t before = open;
    /* One copy of an item for each that is counted, and one that repeats. */
    for (int64_t n = 1; n != maximum + 1 && c->nfa.status == UM_OK; n++) {
        int32_t item = state(c), after = spaced_state(c);
        byte_nfa_empty(&c->nfa, before, item);
        TRY(json_schema_value(c, items, &place, levels, item, after, err));
        if (n >= minimum) take(c, after, ']', to);
        before = spaced_state(c);
        take(c, after, ',', before);
        if (n >= minimum && maximum < 0) {
            byte_nfa_empty(&c->nfa, before, item);
            break;
        }
    }
    return UM_OK;
}

/* ---- Objects ---- */

typedef struct member {
    const char *name;
    const json_t *schema; /* NULL: anything */
    bool is_required;
} member;

typedef struct members {
    member *items;
    size_t n, capacity;
    const char **names; /* [n] */
    bool is_open;       /* others may follow */
    const json_t *others;
} members;

static void members_deinit(members *m) {
    memory_free(m->items);
    memory_free(m->names);
}

static um_status add_member(members *m, const char *name, const json_t *schema, um_error *err) {
    if (memory_grow(&m->items, &m->capacity, m->n, sizeof *m->items) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a schema");
    m->items[m->n++] = (member){.name = name, .schema = schema};
    return UM_OK;
}

/* A required property that is not described may be anything, unless others are forbidden. */
static um_status require(members *m, const json_t *name, const json_place *at, bool is_closed,
                         um_error *err) {
    const char *text = json_string_value(name);
    if (!text) return json_place_fail(at, UM_INVALID, err, "required: expected an array of names");
    size_t i = 0;
    while (i < m->n && strcmp(m->items[i].name, text) != 0) i++;
    if (i == m->n && is_closed)
        return json_place_fail(at, UM_INVALID, err,
                               "\"%.100s\" is required, and additionalProperties forbids it", text);
    if (i == m->n) TRY(add_member(m, text, m->others, err));
    m->items[i].is_required = true;
    return UM_OK;
}

/* Without properties an object holds anything. With them it holds no others unless it says so:
 * what a model is not asked for is seldom wanted, and is valid without. */
static um_status read_members(const json_t *schema, const json_place *at, members *m,
                              um_error *err) {
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties");
    if (properties && !json_is_object(properties))
        return json_place_fail(at, UM_INVALID, err, "properties: expected an object");
    if (required && !json_is_array(required))
        return json_place_fail(at, UM_INVALID, err, "required: expected an array of names");
    if (others && !json_is_object(others) && !json_is_boolean(others))
        return json_place_fail(at, UM_INVALID, err,
                               "additionalProperties: expected a schema, true or false");
    m->others = json_is_object(others) ? others : NULL;
    m->is_open = others ? !json_is_false(others) : !properties;
    const char *name;
    const json_t *value;
    size_t i;
    /* jansson keeps an object's keys in the order of the text. */
    json_object_foreach((json_t *)(uintptr_t)properties, name, value) {
        TRY(add_member(m, name, value, err));
    }
    json_array_foreach(required, i, value) {
        TRY(require(m, value, at, json_is_false(others), err));
    }
    m->names = memory_alloc_array(m->n, sizeof *m->names);
    if (!m->names) FAIL(UM_NO_MEMORY, err, "no memory for a schema");
    for (i = 0; i < m->n; i++) m->names[i] = m->items[i].name;
    return UM_OK;
}

/* name : value, from a state before the name to one after the value. */
static um_status add_pair(json_compiler *c, const members *m, size_t i, const json_place *at,
                          int levels, int32_t from, int32_t to, um_error *err) {
    int32_t colon = spaced_state(c), value = spaced_state(c), start = state(c);
    take(c, colon, ':', value);
    byte_nfa_empty(&c->nfa, value, start);
    if (i < m->n) {
        json_place parent = {.up = at, .name = "properties", .depth = at->depth + 1};
        json_place place = {.up = &parent, .name = m->items[i].name, .depth = at->depth + 2};
        json_lexeme_quoted(&c->nfa, from, m->items[i].name, strlen(m->items[i].name), colon);
        return json_schema_value(c, m->items[i].schema, &place, levels, start, to, err);
    }
    json_place place = {.up = at, .name = "additionalProperties", .depth = at->depth + 1};
    if (m->n)
        json_lexeme_other_string(&c->nfa, from, m->names, m->n, colon);
    else
        json_lexeme_string(&c->nfa, from, 0, -1, colon);
    return json_schema_value(c, m->others, &place, levels, start, to, err);
}

/* Two rows of states: before property i with nothing written (first), and with something (next):
 * there a comma comes before the name.
 *
 *   {  first[0] ---> first[1] ---> ... first[n]  }        across: a property left out
 *          \ pair        \ pair
 *           > next[1] ---> next[2] ---> ... next[n]  }
 */
static um_status add_members(json_compiler *c, const members *m, const json_place *at, int levels,
                             int32_t from, int32_t to, um_error *err) {
    int32_t first = spaced_state(c), next = -1;
    take(c, from, '{', first);
    for (size_t i = 0; i < m->n; i++) {
        int32_t name = state(c), after = spaced_state(c);
        byte_nfa_empty(&c->nfa, first, name);
        if (next >= 0) {
            int32_t comma = spaced_state(c);
            take(c, next, ',', comma);
            byte_nfa_empty(&c->nfa, comma, name);
        }
        TRY(add_pair(c, m, i, at, levels, name, after, err));
        int32_t skipped = state(c);
        if (!m->items[i].is_required) {
            byte_nfa_empty(&c->nfa, first, skipped);
            if (next >= 0) byte_nfa_empty(&c->nfa, next, after);
        }
        first = skipped;
        next = after;
    }
    if (m->is_open) {
        int32_t name = state(c), after = spaced_state(c), comma = spaced_state(c);
        byte_nfa_empty(&c->nfa, first, name);
        byte_nfa_empty(&c->nfa, comma, name);
        if (next >= 0) byte_nfa_empty(&c->nfa, next, after);
        TRY(add_pair(c, m, m->n, at, levels, name, after, err));
        take(c, after, ',', comma);
        next = after;
    }
    take(c, first, '}', to);
    if (next >= 0) take(c, next, '}', to);
    return UM_OK;
}

um_status json_container_object(json_compiler *c, const json_t *schema, const json_place *at,
                                int levels, int32_t from, int32_t to, um_error *err) {
    members m = {0};
    um_status status = read_members(schema, at, &m, err);
    if (status == UM_OK) status = add_members(c, &m, at, levels, from, to, err);
    members_deinit(&m);
    return status;
}
