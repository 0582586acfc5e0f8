/* SPDX-License-Identifier: Apache-2.0
 *
 * The regular expressions of tokenizer.json over PCRE2. Those files are written for Oniguruma (Ruby
 * syntax); what both engines read alike passes, what they read differently is translated, and the
 * rest is refused with its name, so that no pattern quietly means something else.
 */
#ifndef TEXT_SPLIT_REGEX_H
#define TEXT_SPLIT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* A compiled pattern; immutable, any thread. */
typedef struct split_regex split_regex;
/* What one search at a time needs: one for each thread (or call). */
typedef struct split_regex_match split_regex_match;

/* Compiles a pattern (is_literal: the text itself). *regex is the caller's. UM_FORMAT for a broken
 * pattern, UM_UNSUPPORTED for a construct that is not translated. */
um_status split_regex_create(const char *pattern, size_t n_bytes, bool is_literal,
                             split_regex **regex, um_error *err);
void split_regex_destroy(split_regex *regex); /* accepts NULL */

um_status split_regex_match_create(split_regex_match **match, um_error *err);
void split_regex_match_destroy(split_regex_match *match); /* accepts NULL */

/* Searches valid UTF-8 from `from` on. *is_found tells whether; then [*start, *end) is the match.
 * UM_LIMIT where the search takes more steps than any sensible pattern. */
um_status split_regex_find(const split_regex *regex, split_regex_match *match, const char *text,
                           size_t n_bytes, size_t from, bool *is_found, size_t *start, size_t *end,
                           um_error *err);

/* Walks all matches as the crate `onig` does: an empty match right after another one is passed
 * over. Start with {0}; is_found false ends the walk. */
typedef struct split_regex_walk {
    size_t from, last_end;
    bool has_last;
} split_regex_walk;
um_status split_regex_next(const split_regex *regex, split_regex_match *match, const char *text,
                           size_t n_bytes, split_regex_walk *walk, bool *is_found, size_t *start,
                           size_t *end, um_error *err);

#endif
