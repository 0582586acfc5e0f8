/* SPDX-License-Identifier: Apache-2.0
 *
 * The values of a template: Python's, as far as chat templates can tell, and the state of one
 * render that all of the interpreter shares. Values are passed by copy and never change, except a
 * namespace, a loop and an iterator; all memory is the pool's, so nobody frees a value.
 * Strings are UTF-8 and not zero-terminated; a length counts bytes, an index characters.
 */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/strbuf.h"
#include "text/jinja_pool.h"

typedef enum jinja_kind {
    JINJA_UNDEFINED, /* text: its name, or a sentence (see jinja_undefined_kind) */
    JINJA_MISSING,   /* an argument that was not given; never seen by a template */
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_VIEW,     /* dict.keys(), .values(), .items() */
    JINJA_ITERATOR, /* what a Python generator is: gives its items once */
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_RANGE,
    JINJA_LOOP,     /* jinja_loop of jinja_exec.h */
    JINJA_MACRO,    /* jinja_macro of jinja_exec.h */
    JINJA_FUNCTION, /* jinja_builtin of jinja_builtins.h */
    JINJA_METHOD    /* a jinja_builtin with its self */
} jinja_kind;

/* How an undefined value came to be, for the sentence that its use gives: in `origin`. */
typedef enum jinja_undefined_kind {
    JINJA_UNDEFINED_NAME,     /* a variable that is not there */
    JINJA_UNDEFINED_SENTENCE, /* text is the sentence itself */
    JINJA_UNDEFINED_OF        /* plus a jinja_kind: an attribute of such a value */
} jinja_undefined_kind;

typedef struct jinja_value jinja_value;

typedef struct jinja_list {
    jinja_value *items;
    size_t n_items;
    size_t i_next;    /* of an iterator */
    const char *name; /* of a view: "dict_items" */
} jinja_list;

/* Keeps the order of insertion; a namespace is one as well. */
typedef struct jinja_dict {
    struct jinja_pair *pairs;
    size_t n_pairs;
    size_t capacity;
} jinja_dict;

typedef struct jinja_range {
    int64_t start;
    int64_t stop;
    int64_t step;
    size_t n_items;
} jinja_range;

struct jinja_value {
    uint8_t kind;
    uint8_t origin;
    size_t n_bytes; /* of text */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *text;
        jinja_list *list; /* list, tuple, view, iterator */
        jinja_dict *dict; /* dict, namespace */
        jinja_range *range;
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        const struct jinja_builtin *function;
        struct jinja_method *method;
    } as;
};

typedef struct jinja_pair {
    jinja_value key;
    jinja_value value;
} jinja_pair;

typedef struct jinja_method {
    jinja_value self;
    const struct jinja_builtin *function;
} jinja_method;

/* What one render may use. Far above what a chat template needs; see chat_template.h. The fuzz
 * build, which defines JINJA_FUZZING, takes less, so that it runs more templates. */
enum {
#ifdef JINJA_FUZZING
    JINJA_STEPS_MAX = 100 * 1000,
    JINJA_VALUES_MAX_BYTES = 16 * 1024 * 1024,
    JINJA_TEXT_MAX_BYTES = 4 * 1024 * 1024,
#else
    JINJA_STEPS_MAX = 10 * 1000 * 1000,
    JINJA_VALUES_MAX_BYTES = 256 * 1024 * 1024,
    JINJA_TEXT_MAX_BYTES = 64 * 1024 * 1024,
#endif
    JINJA_DEPTH_MAX = 200,      /* of nested values, macro calls and expressions */
    JINJA_EVAL_DEPTH_MAX = 1500 /* of nested evaluations, over all macros */
};

/* A string that concatenation extends in place, so that a text built piece by piece in a loop does
 * not cost the square of its length. */
typedef struct jinja_growing {
    char *text;
    size_t n_bytes;
    size_t capacity;
} jinja_growing;

/* One render. Owned by the thread that renders. */
typedef struct jinja_run {
    jinja_pool pool;
    size_t n_steps; /* spent */
    int depth;      /* of evaluation */
    int n_macros;   /* active */
    int line;       /* being executed */
    strbuf *out;
    const jinja_dict *variables; /* what the caller passes to the template */
    jinja_growing growing[4];
    size_t i_growing;
    um_error *err;
} jinja_run;

/* Sets the error "line N: ..." and returns status. */
um_status jinja_value_fail(jinja_run *run, um_status status, const char *format, ...)
    BASE_PRINTF(3, 4);
/* Spends n steps of the budget. Work on texts and arrays is paid by size, not by call. */
um_status jinja_value_spend(jinja_run *run, size_t n);
/* Memory of the pool, or an error. */
um_status jinja_value_alloc(jinja_run *run, size_t n, size_t item_bytes, void *memory);

jinja_value jinja_value_undefined(const char *name);
jinja_value jinja_value_sentence(const char *sentence); /* an undefined that explains itself */
jinja_value jinja_value_none(void);
jinja_value jinja_value_bool(bool b);
jinja_value jinja_value_int(int64_t i);
jinja_value jinja_value_float(double d);
jinja_value jinja_value_text(const char *text, size_t n_bytes); /* borrows */
jinja_value jinja_value_string(const char *text);               /* borrows, zero-terminated */
/* A sequence of this kind over items [n_items], which it borrows. */
um_status jinja_value_sequence(jinja_run *run, jinja_kind kind, jinja_value *items, size_t n_items,
                               jinja_value *out);
um_status jinja_value_copy_text(jinja_run *run, const char *text, size_t n_bytes, jinja_value *out);
/* Moves the buffer's text into the pool and empties the buffer, also on failure. */
um_status jinja_value_take(jinja_run *run, strbuf *buf, jinja_value *out);
um_status jinja_value_concat(jinja_run *run, jinja_value a, jinja_value b, jinja_value *out);

um_status jinja_value_dict(jinja_run *run, jinja_kind kind, jinja_value *out);
/* Sets a key, which must be hashable, to a value; replaces the old one. */
um_status jinja_value_dict_set(jinja_run *run, jinja_dict *dict, jinja_value key,
                               jinja_value value);
/* Adds a key known to be new. */
um_status jinja_value_dict_add(jinja_run *run, jinja_dict *dict, jinja_value key,
                               jinja_value value);
/* Spends what a search for this key costs. */
um_status jinja_value_spend_search(jinja_run *run, const jinja_dict *dict, jinja_value key);
const jinja_value *jinja_value_dict_get(const jinja_dict *dict, jinja_value key);
const jinja_value *jinja_value_dict_find(const jinja_dict *dict, const char *key, size_t n_bytes);

bool jinja_value_is_number(jinja_value v);              /* also a boolean, as in Python */
bool jinja_value_is_integer(jinja_value v, int64_t *i); /* int or bool */
bool jinja_value_is_hashable(jinja_value v);
bool jinja_value_equals_text(jinja_value v, const char *text);
double jinja_value_to_double(jinja_value v); /* of a number */
bool jinja_value_truth(jinja_value v);
/* "str", "dict": Python's name of the type. */
const char *jinja_value_type_name(jinja_value v);
/* The sentence for the use of an undefined value. */
um_status jinja_value_fail_undefined(jinja_run *run, jinja_value v);

um_status jinja_value_equal(jinja_run *run, jinja_value a, jinja_value b, bool *is_equal);
/* a < b; an error where Python has none of it. */
um_status jinja_value_less(jinja_run *run, jinja_value a, jinja_value b, bool *is_less);
um_status jinja_value_contains(jinja_run *run, jinja_value container, jinja_value item,
                               bool *is_in);
/* The items of anything that can be iterated, as an array; an iterator is used up by it. */
um_status jinja_value_iterate(jinja_run *run, jinja_value v, jinja_value **items, size_t *n_items);
/* Python's len(); false for what has none. */
bool jinja_value_length(jinja_value v, size_t *n);

#endif
