/* SPDX-License-Identifier: Apache-2.0
 *
 * Evaluates expressions. Errors are Python's, with the template's line.
 */
#ifndef TEXT_JINJA_EVAL_H
#define TEXT_JINJA_EVAL_H

#include "text/jinja_exec.h"

um_status jinja_eval(jinja_run *run, const jinja_node *node, jinja_frame *frame, jinja_value *out);
/* Evaluates a chain of filters whose left end is `input`. */
um_status jinja_eval_filter_chain(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                                  jinja_value input, jinja_value *out);
/* The call of a CALL node, with one more keyword argument if caller is not NULL. */
um_status jinja_eval_call(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                          const jinja_value *caller, jinja_value *out);

/* object.name and object[key], with Jinja2's fallback from one to the other. */
um_status jinja_eval_attribute(jinja_run *run, jinja_value object, jinja_value name,
                               jinja_value *out);
um_status jinja_eval_item(jinja_run *run, jinja_value object, jinja_value key, jinja_value *out);

/* ---- jinja_operators.c ---- */

/* a op b for a token kind that is an arithmetic operator. */
um_status jinja_operators_binary(jinja_run *run, int op, jinja_value a, jinja_value b,
                                 jinja_value *out);
um_status jinja_operators_negate(jinja_run *run, jinja_value a, jinja_value *out);
/* a op b for a token kind or a jinja_operand. */
um_status jinja_operators_compare(jinja_run *run, int op, jinja_value a, jinja_value b,
                                  bool *is_true);
/* object[start:stop:step]; a missing part is None. */
um_status jinja_operators_slice(jinja_run *run, jinja_value object, const jinja_value *parts,
                                jinja_value *out);

#endif
