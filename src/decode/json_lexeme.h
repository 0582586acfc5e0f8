/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of JSON (RFC 8259) as pieces of a byte automaton, cut to what every parser takes: no
 * lone surrogates and no zero character in strings, numbers that fit a double and an exact integer.
 */
#ifndef DECODE_JSON_LEXEME_H
#define DECODE_JSON_LEXEME_H

#include "decode/byte_nfa.h"

enum {
    JSON_INTEGER_DIGITS = 15, /* below 2^53: exact for every reader */
    JSON_FRACTION_DIGITS = 12
};

/* White space any number of times, at a state. */
void json_lexeme_space(byte_nfa *nfa, int32_t state);
/* Valid UTF-8 strings with quotes, of minimum to maximum characters; maximum -1: no bound. */
void json_lexeme_string(byte_nfa *nfa, int32_t from, int64_t minimum, int64_t maximum, int32_t to);
/* Strings without escapes that are none of `names` [n_names], which are UTF-8 without quotes. */
void json_lexeme_other_string(byte_nfa *nfa, int32_t from, const char *const *names, size_t n_names,
                              int32_t to);
/* The one spelling of a string, with its quotes. */
void json_lexeme_quoted(byte_nfa *nfa, int32_t from, const char *text, size_t n_bytes, int32_t to);
/* Integers without fraction and exponent, of at most JSON_INTEGER_DIGITS digits. */
void json_lexeme_integer(byte_nfa *nfa, int32_t from, int32_t to);
/* ... of minimum to maximum, both of at most JSON_INTEGER_DIGITS digits. */
void json_lexeme_range(byte_nfa *nfa, int32_t from, int64_t minimum, int64_t maximum, int32_t to);
/* Numbers with at most JSON_FRACTION_DIGITS digits behind the point and two in the exponent. */
void json_lexeme_number(byte_nfa *nfa, int32_t from, int32_t to);
/* Numbers without an exponent from minimum to maximum, both as for json_lexeme_range. */
void json_lexeme_decimal_range(byte_nfa *nfa, int32_t from, int64_t minimum, int64_t maximum,
                               int32_t to);

#endif
