/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything a template can call by name: filters, tests, methods of values and global functions,
 * all as one type, and the binding of arguments to parameters. What Jinja2 has and no chat template
 * uses is left out; its use is reported as unknown.
 */
#ifndef TEXT_JINJA_BUILTINS_H
#define TEXT_JINJA_BUILTINS_H

#include "text/jinja_value.h"

enum { JINJA_PARAMS_MAX = 4 };

typedef struct jinja_call {
    jinja_value self; /* of a method; the left side of a filter or test */
    const jinja_value *args;
    size_t n_args;
    const jinja_pair *named;
    size_t n_named;
    jinja_value bound[JINJA_PARAMS_MAX]; /* by parameter; JINJA_MISSING where none was given */
} jinja_call;

typedef um_status (*jinja_function)(jinja_run *run, const jinja_call *call, jinja_value *out);

typedef struct jinja_builtin {
    const char *name;
    const char *params; /* names with spaces between; NULL: takes what comes, unbound */
    int n_required;
    jinja_function function; /* NULL: exists in Python but not here, or is unsafe */
} jinja_builtin;

/* Tables that end with a NULL name. */
extern const jinja_builtin jinja_filters[];        /* jinja_filters.c: texts and numbers */
extern const jinja_builtin jinja_sequences[];      /* jinja_sequences.c: filters over sequences */
extern const jinja_builtin jinja_string_methods[]; /* jinja_methods.c */
extern const jinja_builtin jinja_dict_methods[];
extern const jinja_builtin jinja_list_methods[]; /* also those of tuples */

/* NULL where there is none. */
const jinja_builtin *jinja_builtins_find_filter(jinja_value name);
const jinja_builtin *jinja_builtins_find_test(jinja_value name);
const jinja_builtin *jinja_builtins_find_global(jinja_value name);
const jinja_builtin *jinja_builtins_find_method(jinja_value self, jinja_value name);

/* Binds call's arguments and runs the function. */
um_status jinja_builtins_invoke(jinja_run *run, const jinja_builtin *builtin, jinja_call *call,
                                jinja_value *out);

/* Reading of bound parameters: the value, or a default where it is missing. */
jinja_value jinja_builtins_param(const jinja_call *call, size_t i, jinja_value fallback);
bool jinja_builtins_flag(const jinja_call *call, size_t i, bool fallback);
/* An int (or bool); an error for anything else. */
um_status jinja_builtins_integer(jinja_run *run, const jinja_call *call, size_t i, int64_t fallback,
                                 int64_t *out);
/* A zero-based start and an end for Python's optional slice arguments of n items. */
int64_t jinja_builtins_clamp(int64_t i, size_t n);
/* "format % argument" of Python; argument may be a tuple or a dict. */
um_status jinja_filters_printf(jinja_run *run, jinja_value format, jinja_value argument,
                               jinja_value *out);

#endif
