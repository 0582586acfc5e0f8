/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two halves of the schema compiler share: json_schema.c reads keywords and decides,
 * json_container.c lays out arrays and objects. A place is where in the schema one is, for
 * sentences.
 */
#ifndef DECODE_JSON_COMPILER_H
#define DECODE_JSON_COMPILER_H

#include <jansson.h>

#include "decode/json_lexeme.h"

enum { JSON_NESTING_MAX = 200, JSON_VISITS_MAX = 1 << 20 };

typedef struct json_place {
    const struct json_place *up; /* NULL at the root */
    const char *name;            /* a key, or NULL: item `index` */
    size_t index;
    const json_t *followed; /* what a $ref led to here, or NULL */
    int depth;
} json_place;

typedef struct json_compiler {
    byte_nfa nfa;
    const json_t *root;
    int level_max; /* of recursion */
    int64_t n_visits;
} json_compiler;

/* Adds the ways from `from` to `to` that spell a document of a schema; none where there is none.
 * levels: how deep a value that may be anything may go from here. */
um_status json_schema_value(json_compiler *c, const json_t *schema, const json_place *at,
                            int levels, int32_t from, int32_t to, um_error *err);

/* Fails with a sentence that begins with the place: "#/properties/name: ...". */
um_status json_place_fail(const json_place *at, um_status status, um_error *err, const char *format,
                          ...) BASE_PRINTF(4, 5);

/* A keyword's value as a count (0 to 1,000,000,000); fallback where it is absent. */
um_status json_schema_count(const json_t *schema, const char *keyword, const json_place *at,
                            int64_t fallback, int64_t *count, um_error *err);

/* schema may be NULL for both: anything. */
um_status json_container_array(json_compiler *c, const json_t *schema, const json_place *at,
                               int levels, int32_t from, int32_t to, um_error *err);
um_status json_container_object(json_compiler *c, const json_t *schema, const json_place *at,
                                int levels, int32_t from, int32_t to, um_error *err);

#endif
