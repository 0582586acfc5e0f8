/* SPDX-License-Identifier: Apache-2.0
 *
 * Values as text: Python's str() and repr(), and json.dumps as the tojson filter calls it. Reads no
 * template; a value that has no text, such as an undefined in JSON, is an error.
 */
#ifndef TEXT_JINJA_TEXT_H
#define TEXT_JINJA_TEXT_H

#include "text/jinja_value.h"

typedef struct jinja_json_style {
    const char *indent; /* one level's, or NULL for one line; [n_indent] */
    size_t n_indent;
    jinja_value item_separator; /* strings */
    jinja_value key_separator;
    bool is_ascii; /* ensure_ascii */
    bool is_sorted;
} jinja_json_style;

/* Appends to buf what str(v), repr(v) or json.dumps(v) is. A full buffer is noticed by
 * jinja_value_take. */
um_status jinja_text_append(jinja_run *run, jinja_value v, strbuf *buf);
um_status jinja_text_append_repr(jinja_run *run, jinja_value v, strbuf *buf);
um_status jinja_text_append_json(jinja_run *run, jinja_value v, const jinja_json_style *style,
                                 strbuf *buf);
/* repr of a float: the shortest digits that read back as the same number. */
void jinja_text_append_float(double d, strbuf *buf);
/* str(v) as a value; a string is returned as it is. */
um_status jinja_text_of(jinja_run *run, jinja_value v, jinja_value *out);
/* A buffer with the limit that texts have. */
void jinja_text_begin(strbuf *buf);

#endif
