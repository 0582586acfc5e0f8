/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters that Hugging Face's normal forms do not know. See normalizer.c for what follows.
 */
#ifndef TEXT_UNICODE_YOUNG_H
#define TEXT_UNICODE_YOUNG_H

#include <stdbool.h>

/* True for a character whose normal form is younger than Unicode 9. */
bool unicode_young_has(unsigned codepoint);

#endif
