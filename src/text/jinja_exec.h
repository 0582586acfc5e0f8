/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs statements. Variables live in frames that form a chain: a loop's body, a macro and a block
 * have their own, an if has not, which gives Jinja2's scoping rules without its compiler.
 */
#ifndef TEXT_JINJA_EXEC_H
#define TEXT_JINJA_EXEC_H

#include "text/jinja_builtins.h"
#include "text/jinja_parser.h"

typedef struct jinja_frame {
    struct jinja_frame *parent; /* NULL for the template's own */
    jinja_dict variables;
} jinja_frame;

typedef struct jinja_loop jinja_loop;
typedef struct jinja_macro jinja_macro;

/* Renders a whole template to run->out. */
um_status jinja_exec_template(jinja_run *run, const jinja_nodes *body);

/* ---- For jinja_eval.c and jinja_text.c ---- */

/* The value of a name; an undefined one where there is none. */
um_status jinja_exec_lookup(jinja_run *run, const jinja_frame *frame, jinja_value name,
                            jinja_value *out);
/* loop.index and the like; UM_OK with *is_found false where there is no such attribute. */
um_status jinja_exec_loop_attribute(jinja_run *run, jinja_loop *loop, jinja_value name,
                                    jinja_value *out, bool *is_found);
um_status jinja_exec_call_macro(jinja_run *run, const jinja_macro *macro, const jinja_call *call,
                                jinja_value *out);
um_status jinja_exec_append_loop(jinja_run *run, jinja_loop *loop, strbuf *buf);
jinja_value jinja_exec_macro_name(const jinja_macro *macro);

#endif
