/* SPDX-License-Identifier: Apache-2.0
 *
 * One function a keyword, as the standard lists them.
 */
#include "support/schema_check.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool is_type(const char *type, const json_t *value) {
    if (strcmp(type, "null") == 0) return json_is_null(value);
    if (strcmp(type, "boolean") == 0) return json_is_boolean(value);
    if (strcmp(type, "number") == 0) return json_is_number(value);
    if (strcmp(type, "string") == 0) return json_is_string(value);
    if (strcmp(type, "array") == 0) return json_is_array(value);
    if (strcmp(type, "object") == 0) return json_is_object(value);
    double number = json_number_value(value);
    return strcmp(type, "integer") == 0 && json_is_number(value) && number == floor(number);
}

static bool has_type(const json_t *types, const json_t *value) {
    size_t i;
    const json_t *item;
    if (json_is_string(types)) return is_type(json_string_value(types), value);
    json_array_foreach(types, i, item) {
        if (is_type(json_string_value(item), value)) return true;
    }
    return false;
}

/* Numbers are equal by value: 1 is 1.0. */
static bool is_equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static bool is_among(const json_t *list, const json_t *value) {
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item) {
        if (is_equal(item, value)) return true;
    }
    return false;
}

static size_t count_characters(const json_t *string) {
    size_t n = 0;
    for (const char *at = json_string_value(string); *at; at++)
        n += ((unsigned char)*at & 0xC0) != 0x80;
    return n;
}

static const char *check_object(const json_t *root, const json_t *schema, const json_t *value) {
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *others = json_object_get(schema, "additionalProperties");
    const char *name, *failed;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(schema, "required"), i, item) {
        if (!json_object_get(value, json_string_value(item))) return "required";
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, item) {
        const json_t *own = json_object_get(properties, name);
        if (own && (failed = schema_check(root, own, item))) return failed;
        if (!own && others && (failed = schema_check(root, others, item)))
            return "additionalProperties";
    }
    return NULL;
}

static const char *check_array(const json_t *root, const json_t *schema, const json_t *value) {
    const json_t *minimum = json_object_get(schema, "minItems");
    const json_t *maximum = json_object_get(schema, "maxItems");
    const json_t *items = json_object_get(schema, "items");
    const char *failed;
    size_t i, n = json_array_size(value);
    const json_t *item;
    if (minimum && n < (size_t)json_integer_value(minimum)) return "minItems";
    if (maximum && n > (size_t)json_integer_value(maximum)) return "maxItems";
    json_array_foreach(value, i, item) {
        if (items && (failed = schema_check(root, items, item))) return failed;
    }
    return NULL;
}

static const char *check_bounds(const json_t *schema, const json_t *value) {
    double x = json_is_string(value) ? (double)count_characters(value) : json_number_value(value);
    const char *least = json_is_string(value) ? "minLength" : "minimum";
    const char *most = json_is_string(value) ? "maxLength" : "maximum";
    const json_t *bound;
    if ((bound = json_object_get(schema, least)) && x < json_number_value(bound)) return least;
    if ((bound = json_object_get(schema, most)) && x > json_number_value(bound)) return most;
    if (json_is_string(value)) return NULL;
    bound = json_object_get(schema, "exclusiveMinimum");
    if (bound && x <= json_number_value(bound)) return "exclusiveMinimum";
    bound = json_object_get(schema, "exclusiveMaximum");
    return bound && x >= json_number_value(bound) ? "exclusiveMaximum" : NULL;
}

/* ~0 and ~1 of a pointer's part, in place. */
static const char *unescape(char *part) {
    char *to = part;
    for (const char *from = part; *from; from++)
        *to++ = *from != '~' ? *from : *++from == '0' ? '~' : '/';
    *to = 0;
    return part;
}

static const json_t *follow(const json_t *root, const char *reference) {
    char path[256];
    const json_t *found = root;
    if (strlen(reference) >= sizeof path) return NULL;
    strcpy(path, reference);
    for (char *part = strtok(path, "/"); part && found; part = strtok(NULL, "/"))
        if (strcmp(part, "#") != 0) found = json_object_get(found, unescape(part));
    return found;
}

const char *schema_check(const json_t *root, const json_t *schema, const json_t *value) {
    if (json_is_true(schema)) return NULL;
    if (!json_is_object(schema)) return "false";
    const json_t *keyword, *item;
    const char *failed = NULL;
    if ((keyword = json_object_get(schema, "$ref"))) {
        const json_t *target = follow(root, json_string_value(keyword));
        if ((failed = schema_check(root, target, value))) return failed;
    }
    if ((keyword = json_object_get(schema, "type")) && !has_type(keyword, value)) return "type";
    if ((keyword = json_object_get(schema, "enum")) && !is_among(keyword, value)) return "enum";
    if ((keyword = json_object_get(schema, "const")) && !is_equal(keyword, value)) return "const";
    if ((keyword = json_object_get(schema, "anyOf"))) {
        size_t i, n_right = 0;
        json_array_foreach(keyword, i, item) {
            n_right += !schema_check(root, item, value);
        }
        if (!n_right) return "anyOf";
    }
    if (json_is_object(value)) return check_object(root, schema, value);
    if (json_is_array(value)) return check_array(root, schema, value);
    if (json_is_string(value) || json_is_number(value)) return check_bounds(schema, value);
    return NULL;
}
