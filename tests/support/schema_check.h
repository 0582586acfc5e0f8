/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether a document satisfies a JSON schema, straight from the words of the standard: a second
 * opinion beside the automaton, which shares nothing with it. Knows the keywords that the automaton
 * honours.
 */
#ifndef SUPPORT_SCHEMA_CHECK_H
#define SUPPORT_SCHEMA_CHECK_H

#include <jansson.h>

/* NULL where `value` satisfies `schema`, else the keyword that it fails. root: what $ref counts
 * from. */
const char *schema_check(const json_t *root, const json_t *schema, const json_t *value);

#endif
