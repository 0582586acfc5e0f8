/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing against the table. The first mistake ends it with a sentence; nothing is guessed except
 * the name that was probably meant.
 */
#include "programs/options.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 32 };

/* Edits (insert, delete, replace, swap of neighbours) from one short word to another. */
static size_t edit_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    size_t rows[3][NAME_BYTES_MAX + 1];
    if (n > NAME_BYTES_MAX || m > NAME_BYTES_MAX) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two_above[j - 2] + 1 < best)
                best = two_above[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *options_nearest(const char *typed, const char *const *words, size_t n) {
    const char *nearest = NULL;
    size_t n_typed = strlen(typed), best = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        size_t distance = edit_distance(typed, words[i]);
        /* What was typed may be the beginning of a longer name. */
        if (n_typed >= 3 && n_typed < NAME_BYTES_MAX && strlen(words[i]) > n_typed) {
            char start[NAME_BYTES_MAX + 1];
            for (size_t n_start = n_typed; n_start <= n_typed + 1; n_start++) {
                snprintf(start, sizeof start, "%.*s", (int)n_start, words[i]);
                size_t start_distance = edit_distance(typed, start) + 1;
                if (start_distance < distance) distance = start_distance;
            }
        }
        if (distance < best) {
            best = distance;
            nearest = words[i];
        }
    }
    size_t limit = n_typed < 3 ? 1 : n_typed < 8 ? 2 : 3;
    return best <= limit ? nearest : NULL;
}

static um_status refuse_unknown(command_id command, const char *argument, um_error *err) {
    const char *names[OPTION_COUNT];
    char typed[NAME_BYTES_MAX + 1];
    size_t n_names = 0;
    const char *start = argument + strspn(argument, "-");
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(start, "="), start);
    bool is_elsewhere = false;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (option_table[i].commands & (1u << command))
            names[n_names++] = option_table[i].name;
        else if (strcmp(option_table[i].name, typed) == 0)
            is_elsewhere = true;
    }
    if (is_elsewhere) FAIL(UM_INVALID, err, "the option --%s belongs to another command", typed);
    const char *nearest = options_nearest(typed, names, n_names);
    if (nearest)
        FAIL(UM_INVALID, err, "unknown option \"%s\"; did you mean --%s?", argument, nearest);
    FAIL(UM_INVALID, err, "unknown option \"%s\"", argument);
}

/* The option that an argument names, or NULL. *value is what follows '=', or NULL. */
static const option_spec *find_option(command_id command, const char *argument,
                                      const char **value) {
    *value = NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const option_spec *spec = &option_table[i];
        if (!(spec->commands & (1u << command))) continue;
        if (argument[1] != '-') {
            if (spec->short_name && argument[1] == spec->short_name && !argument[2]) return spec;
            continue;
        }
        size_t n = strlen(spec->name);
        if (strncmp(argument + 2, spec->name, n) != 0) continue;
        if (argument[2 + n] == '=') *value = argument + 2 + n + 1;
        if (argument[2 + n] == '=' || argument[2 + n] == '\0') return spec;
    }
    return NULL;
}

static um_status parse_integer(const option_spec *spec, const char *text, option_value *value,
                               um_error *err) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    bool is_number = *text && !strchr(" \t\n\v\f\r+", *text) && *end == '\0';
    /* Above 2^53 the table's maximum is rounded up; errno catches what does not fit at all. */
    if (!is_number || errno || (double)number < spec->minimum || (double)number > spec->maximum)
        FAIL(UM_INVALID, err, "--%s: expected a whole number from %.0f to %lld, found \"%s\"",
             spec->name, spec->minimum,
             spec->maximum >= 0x1p63 ? LLONG_MAX : (long long)spec->maximum, text);
    value->integer = number;
    return UM_OK;
}

static um_status parse_real(const option_spec *spec, const char *text, option_value *value,
                            um_error *err) {
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    /* Only decimal spellings: strtod also takes "nan", "inf" and hexadecimal. */
    bool is_number = *text && strspn(text, "0123456789.eE+-") == strlen(text) && *end == '\0';
    bool is_small = number < spec->minimum || (spec->is_above_minimum && number == spec->minimum);
    if (!is_number || errno || is_small || !(number <= spec->maximum))
        FAIL(UM_INVALID, err, "--%s: expected a number %s %g %s %g, found \"%s\"", spec->name,
             spec->is_above_minimum ? "above" : "from", spec->minimum,
             spec->is_above_minimum ? "and at most" : "to", spec->maximum, text);
    value->real = number;
    return UM_OK;
}

static um_status parse_choice(const option_spec *spec, const char *text, option_value *value,
                              um_error *err) {
    size_t n = strlen(text);
    const char *word = spec->choices;
    for (int i = 0;; i++) {
        size_t n_word = strcspn(word, "|");
        if (n == n_word && memcmp(word, text, n) == 0) {
            value->integer = i;
            return UM_OK;
        }
        if (!word[n_word]) break;
        word += n_word + 1;
    }
    FAIL(UM_INVALID, err, "--%s: expected one of %s, found \"%s\"", spec->name, spec->choices,
         text);
}

static um_status parse_value(const option_spec *spec, const char *text, option_value *value,
                             um_error *err) {
    value->text = text;
    switch (spec->type) {
        case OPTION_TYPE_INTEGER:
            return parse_integer(spec, text, value, err);
        case OPTION_TYPE_REAL:
            return parse_real(spec, text, value, err);
        case OPTION_TYPE_CHOICE:
            return parse_choice(spec, text, value, err);
        case OPTION_TYPE_FLAG:
        case OPTION_TYPE_TEXT:
            break;
    }
    return UM_OK;
}

um_status options_parse(command_id command, int n_args, char **args, options *o, um_error *err) {
    memset(o, 0, sizeof *o);
    o->command = command;
    for (int i = 0; i < n_args; i++) {
        const char *argument = args[i], *text;
        if (argument[0] != '-' || !argument[1])
            FAIL(UM_INVALID, err, "unexpected argument \"%s\"; a prompt goes after -p", argument);
        const option_spec *spec = find_option(command, argument, &text);
        if (!spec) return refuse_unknown(command, argument, err);
        option_value *value = &o->values[spec - option_table];
        if (value->is_set) FAIL(UM_INVALID, err, "--%s is given twice", spec->name);
        value->is_set = true;
        if (spec == &option_table[OPTION_HELP]) return UM_OK;
        if (spec->type == OPTION_TYPE_FLAG) {
            if (text)
                FAIL(UM_INVALID, err, "--%s takes no argument, found \"%s\"", spec->name, text);
            continue;
        }
        if (!text) {
            if (i + 1 == n_args)
                FAIL(UM_INVALID, err, "--%s: expected an argument (%s), found the end of the line",
                     spec->name, spec->argument);
            text = args[++i];
        }
        TRY(parse_value(spec, text, value, err));
    }
    return UM_OK;
}

um_status options_add(options *o, const char *name, const char *text, um_error *err) {
    char argument[NAME_BYTES_MAX + 4];
    const char *value;
    snprintf(argument, sizeof argument, "--%s", name);
    const option_spec *spec = strchr(name, '=') ? NULL : find_option(o->command, argument, &value);
    if (!spec || spec == &option_table[OPTION_HELP])
        return refuse_unknown(o->command, argument, err);
    option_value *slot = &o->values[spec - option_table];
    if (slot->is_set) return UM_OK;
    if (spec->type == OPTION_TYPE_FLAG) {
        slot->is_set = strcmp(text, "true") == 0;
        if (slot->is_set || strcmp(text, "false") == 0) return UM_OK;
        FAIL(UM_INVALID, err, "--%s: expected true or false, found \"%s\"", name, text);
    }
    slot->is_set = true;
    return parse_value(spec, text, slot, err);
}

bool options_has(const options *o, option_id id) {
    return o->values[id].is_set;
}

const char *options_text(const options *o, option_id id) {
    return o->values[id].text;
}

int64_t options_integer(const options *o, option_id id, int64_t fallback) {
    return o->values[id].is_set ? o->values[id].integer : fallback;
}

double options_real(const options *o, option_id id, double fallback) {
    return o->values[id].is_set ? o->values[id].real : fallback;
}

um_status options_refuse_pair(const options *o, option_id first, option_id second,
                              const char *reason, um_error *err) {
    if (!options_has(o, first) || !options_has(o, second)) return UM_OK;
    FAIL(UM_INVALID, err, "--%s does not go with --%s: %s", option_table[second].name,
         option_table[first].name, reason);
}

um_status options_require(const options *o, option_id id, um_error *err) {
    const option_spec *spec = &option_table[id];
    const char *text = options_has(o, id) ? options_text(o, id) : NULL;
    if (options_has(o, id) && (!text || text[0])) return UM_OK;
    FAIL(UM_INVALID, err, "%s %s is missing: %s",
         spec->short_name == 'm'   ? "-m"
         : spec->short_name == 'o' ? "-o"
                                   : spec->name,
         spec->argument, spec->help);
}
