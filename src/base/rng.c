/* SPDX-License-Identifier: Apache-2.0
 *
 * Philox4x32-10. The 64-bit key is seed and request mixed by one Philox call of their own, so that
 * neighbouring seeds and requests give unrelated streams; the 128-bit counter is
 * (index / 2, purpose, position, step).
 */
#include "base/rng.h"

/* Multipliers and Weyl constants of Salmon et al., section 3.1, table 2 (random123's philox.h). */
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static double to_open_unit(uint32_t high, uint32_t low) {
    uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
    return ((double)bits + 0.5) * 0x1p-53;
}

void rng_uniform_pair(const rng_key *key, rng_purpose purpose, uint32_t index, double out[2]) {
    uint32_t seed_key[2] = {(uint32_t)key->seed, (uint32_t)(key->seed >> 32)};
    uint32_t request[4] = {(uint32_t)key->request, (uint32_t)(key->request >> 32), 0, 0};
    uint32_t mixed[4], draw[4];
    rng_philox(request, seed_key, mixed);
    uint32_t counter[4] = {index / 2, (uint32_t)purpose, key->position, key->step};
    rng_philox(counter, mixed, draw);
    out[0] = to_open_unit(draw[0], draw[1]);
    out[1] = to_open_unit(draw[2], draw[3]);
}

double rng_uniform(const rng_key *key, rng_purpose purpose, uint32_t index) {
    double pair[2];
    rng_uniform_pair(key, purpose, index & ~1u, pair);
    return pair[index & 1u];
}
