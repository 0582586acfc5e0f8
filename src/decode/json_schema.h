/* SPDX-License-Identifier: Apache-2.0
 *
 * From a JSON schema to the automaton of documents that satisfy it. What cannot be held to is
 * refused by the keyword's name; where the schema leaves a choice of spelling, the automaton has a
 * part of it:
 *
 *   properties in the order of the schema; no others unless additionalProperties says so
 *   recursion (a $ref inside itself, a value that may be anything) to a bounded depth
 *   enum and const as JSON writes them without spaces
 */
#ifndef DECODE_JSON_SCHEMA_H
#define DECODE_JSON_SCHEMA_H

#include "decode/byte_dfa.h"

enum {
    JSON_SCHEMA_STATES = 16384, /* of the automaton, at most */
    JSON_SCHEMA_DEPTH = 6       /* of recursion; less where the automaton would be too large */
};

/* text [n_bytes] is the schema; NULL: any object. *dfa is the caller's (byte_dfa_deinit), also
 * after a failure. UM_FORMAT: not JSON, with the byte. UM_INVALID: no schema, or one that no
 * document satisfies. UM_UNSUPPORTED names the keyword. UM_LIMIT: too large. */
um_status json_schema_compile(const char *text, size_t n_bytes, byte_dfa *dfa, um_error *err);

#endif
