/* SPDX-License-Identifier: Apache-2.0
 *
 * response_format as the text of a schema; constraint_cache.c makes a constraint of it, once. A
 * schema of which a keyword would not be honoured is refused there, also where the client does not
 * ask for `strict`.
 */
#include <string.h>

#include "base/memory.h"
#include "server/api_request.h"
#include "server/json_value.h"

static const char field[] = "response_format";

/* {"name": ..., "schema": {...}, "strict": ..., "description": ...} */
static um_status read_schema(api_request *r, json_t *format, um_error *err) {
    json_t *holder = json_object_get(format, "json_schema");
    json_t *schema = json_object_get(holder, "schema");
    for (void *at = json_object_iter(holder); at; at = json_object_iter_next(holder, at)) {
        const char *key = json_object_iter_key(at);
        if (strcmp(key, "name") != 0 && strcmp(key, "schema") != 0 && strcmp(key, "strict") != 0 &&
            strcmp(key, "description") != 0)
            return api_refuse(err, field, "%s: json_schema: unknown field \"%.60s\"", field, key);
    }
    if (!json_is_object(schema))
        return api_refuse(err, field, "%s: json_schema.schema: expected an object, found %s", field,
                          json_value_kind(schema));
    r->schema = json_value_write_exact(json_incref(schema), &r->n_schema);
    if (!r->schema) FAIL(UM_NO_MEMORY, err, "no memory for a schema");
    return UM_OK;
}

um_status api_format_read(api_request *r, const api_model *model, um_error *err) {
    json_t *format = json_object_get(r->root, field);
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || json_is_null(format)) return UM_OK;
    bool is_schema = type && strcmp(type, "json_schema") == 0;
    bool is_object = type && strcmp(type, "json_object") == 0;
    if (!is_schema && !is_object && !(type && strcmp(type, "text") == 0))
        return api_refuse(err, field, "%s: expected a type of text, json_object or json_schema",
                          field);
    if (json_object_size(format) != (is_schema ? 2u : 1u))
        return api_refuse(err, field, "%s: expected %s, found other fields", field,
                          is_schema ? "type and json_schema" : "type alone");
    if (!is_schema && !is_object) return UM_OK;
    if (!model->tokenizer) return api_refuse(err, field, "%s: the model has no tokenizer", field);
    r->constraint_field = field;
    return is_schema ? read_schema(r, format, err) : UM_OK;
}
