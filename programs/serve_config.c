/* SPDX-License-Identifier: Apache-2.0
 *
 * The names are those of the command line, and so are the checks: option_table.c says all.
 */
#include "programs/serve_config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_map.h"

enum { CONFIG_BYTES_MAX = 1 << 20, VARIABLE_BYTES = 64 };

static um_status read_environment(options *o, um_error *err) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_spec *spec = &option_table[i];
        char name[VARIABLE_BYTES];
        if (!(spec->commands & (1u << o->command)) || i == OPTION_HELP) continue;
        int n = snprintf(name, sizeof name, "UNMASK_%s", spec->name);
        for (int k = 0; k < n; k++)
            name[k] = name[k] == '-' ? '_' : (char)toupper((unsigned char)name[k]);
        const char *value = getenv(name);
        if (!value) continue;
        um_status status = options_add(o, spec->name, value, err);
        if (status != UM_OK) um_error_at(err, name, -1);
        TRY(status);
    }
    return UM_OK;
}

static char *trim(char *text) {
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    while (isspace((unsigned char)*text)) text++;
    return text;
}

/* One line: nothing, a comment, or "name = value". */
static um_status read_line(options *o, char *line, bool *is_given, um_error *err) {
    line = trim(line);
    if (!*line || *line == '#') return UM_OK;
    char *equals = strchr(line, '=');
    if (!equals) FAIL(UM_INVALID, err, "expected \"name = value\", found \"%.60s\"", line);
    *equals = '\0';
    char *name = trim(line);
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(option_table[i].name, name) != 0) continue;
        if (is_given[i]) FAIL(UM_INVALID, err, "%s is given twice", name);
        is_given[i] = true;
    }
    return options_add(o, name, trim(equals + 1), err);
}

um_status serve_config_read(options *o, char **text, um_error *err) {
    bool is_given[OPTION_COUNT] = {false};
    size_t n_bytes;
    *text = NULL;
    TRY(read_environment(o, err));
    const char *path = options_text(o, OPTION_CONFIG);
    if (!path) return UM_OK;
    TRY(file_read(path, CONFIG_BYTES_MAX, text, &n_bytes, err));
    is_given[OPTION_CONFIG] = true; /* a file that names another one */
    int i_line = 0;
    for (char *line = *text, *next; line; line = next) {
        char place[320];
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        i_line++;
        um_status status = read_line(o, line, is_given, err);
        snprintf(place, sizeof place, "%.200s, line %d", path, i_line);
        if (status != UM_OK) um_error_at(err, place, -1);
        TRY(status);
    }
    return UM_OK;
}
