/* SPDX-License-Identifier: Apache-2.0
 *
 * White space at the end of a prompt, as Python's str.rstrip() sees it: what moves from the prompt
 * to the answer must be what moves in LLaDA's evaluation.
 */
#ifndef PROGRAMS_SCORE_SPACE_H
#define PROGRAMS_SCORE_SPACE_H

#include <stddef.h>

/* Bytes of the text without white space at its end. Text that is no UTF-8 there is left alone. */
size_t score_space_trim(const char *text, size_t n_bytes);

#endif
