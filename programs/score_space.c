/* SPDX-License-Identifier: Apache-2.0
 *
 * One step back is one character of UTF-8. The table is str.isspace() of Python 3: the characters
 * of bidirectional type WS, B or S, or of category Zs.
 */
#include "programs/score_space.h"

#include <stdbool.h>
#include <stdint.h>

static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t score_space_trim(const char *text, size_t n_bytes) {
    while (n_bytes) {
        uint32_t c = 0;
        int shift = 0;
        size_t at = n_bytes - 1;
        /* No white space has more than three bytes. */
        while (at > 0 && shift < 12 && ((unsigned char)text[at] & 0xc0) == 0x80) {
            c |= ((unsigned char)text[at--] & 0x3fu) << shift;
            shift += 6;
        }
        unsigned char lead = (unsigned char)text[at];
        if (shift == 0)
            c = lead;
        else if (shift == 6)
            c |= (lead & 0x1fu) << 6;
        else
            c |= (lead & 0x0fu) << 12;
        if (!is_space(c)) break;
        n_bytes = at;
    }
    return n_bytes;
}
