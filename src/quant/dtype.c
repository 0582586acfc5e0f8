/* SPDX-License-Identifier: Apache-2.0
 *
 * Scalar decoding of stored numbers and rounding to 16 bits. Loads go through memcpy: a tensor in a
 * file may begin at any byte. The search for non-finite numbers looks at exponents only, so that
 * compilers vectorise it.
 */
#include "quant/dtype.h"

#include "quant/blocks.h"

const char *dtype_name(dtype type) {
    switch (type) {
        case DTYPE_F32:
            return "F32";
        case DTYPE_F16:
            return "F16";
        case DTYPE_BF16:
            return "BF16";
        case DTYPE_Q8_0:
            return "Q8_0";
        case DTYPE_Q4_0:
            return "Q4_0";
        case DTYPE_Q4_K:
            return "Q4_K";
        case DTYPE_Q5_K:
            return "Q5_K";
        case DTYPE_Q6_K:
            return "Q6_K";
    }
    return "?";
}

bool dtype_find(const char *name, dtype *type) {
    static const char *const names[] = {
        [DTYPE_F32] = "f32",   [DTYPE_F16] = "f16",   [DTYPE_BF16] = "bf16", [DTYPE_Q8_0] = "q8_0",
        [DTYPE_Q4_0] = "q4_0", [DTYPE_Q4_K] = "q4_k", [DTYPE_Q5_K] = "q5_k", [DTYPE_Q6_K] = "q6_k"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *type = (dtype)i;
        return true;
    }
    return false;
}

size_t dtype_block_len(dtype type) {
    switch (type) {
        case DTYPE_Q8_0:
        case DTYPE_Q4_0:
            return BLOCK_LEN;
        case DTYPE_Q4_K:
        case DTYPE_Q5_K:
        case DTYPE_Q6_K:
            return BLOCK_K_LEN;
        default:
            return 1;
    }
}

size_t dtype_block_bytes(dtype type) {
    switch (type) {
        case DTYPE_Q8_0:
            return sizeof(block_q8_0);
        case DTYPE_Q4_0:
            return sizeof(block_q4_0);
        case DTYPE_Q4_K:
            return sizeof(block_q4_k);
        case DTYPE_Q5_K:
            return sizeof(block_q5_k);
        case DTYPE_Q6_K:
            return sizeof(block_q6_k);
        default:
            return dtype_bytes(type);
    }
}

size_t dtype_size(dtype type, size_t n) {
    return n / dtype_block_len(type) * dtype_block_bytes(type);
}

size_t dtype_bytes(dtype type) {
    return type == DTYPE_F32 ? 4 : 2;
}

float dtype_from_f16(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1Fu, mantissa = bits & 0x3FFu, wide;
    if (exponent == 0x1F) {
        wide = sign | 0x7F800000u | mantissa << 13;
    } else if (exponent) {
        wide = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        /* A subnormal: mantissa * 2^-24 is exact in float32. */
        float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t dtype_to_f16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    uint32_t sign = wide >> 16 & 0x8000u, magnitude = wide & 0x7FFFFFFFu, half;
    if (magnitude > 0x7F800000u) {
        half = 0x7E00;
    } else if (magnitude >= 0x477FF000u) {
        half = 0x7C00; /* from the middle between the largest number and 2^16 on */
    } else if (magnitude >= 0x38800000u) {
        /* Rounding may carry into the exponent, which is then right as well. */
        half = (magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1)) >> 13;
    } else if (magnitude < 0x33000000u) {
        half = 0; /* below 2^-25, half of the smallest subnormal */
    } else {
        /* A subnormal counts units of 2^-24. */
        uint32_t shift = 126 - (magnitude >> 23), mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
        half = mantissa >> shift;
        uint32_t rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);
        half += rest > middle || (rest == middle && (half & 1));
    }
    return (uint16_t)(sign | half);
}

uint16_t dtype_to_bf16(float value) {
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    if ((wide & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(wide >> 16 | 0x40);
    return (uint16_t)((wide + 0x7FFFu + (wide >> 16 & 1)) >> 16);
}

/* Decoders of one block each; block [dtype_block_bytes], out [dtype_block_len] f32. */
static void decode_q8_0(const void *block, float *out) {
    block_q8_0 b;
    memcpy(&b, block, sizeof b);
    float d = dtype_from_f16(b.d);
    for (int i = 0; i < BLOCK_LEN; i++) out[i] = d * (float)b.qs[i];
}

static void decode_q4_0(const void *block, float *out) {
    block_q4_0 b;
    memcpy(&b, block, sizeof b);
    float d = dtype_from_f16(b.d);
    for (int i = 0; i < BLOCK_LEN / 2; i++) {
        out[i] = d * (float)((b.qs[i] & 15) - 8);
        out[i + BLOCK_LEN / 2] = d * (float)((b.qs[i] >> 4) - 8);
    }
}

/* A pair of groups shares 32 bytes: the even group has the low nibbles. */
static void decode_q4_k(const void *block, float *out) {
    block_q4_k b;
    memcpy(&b, block, sizeof b);
    float d = dtype_from_f16(b.d), dmin = dtype_from_f16(b.dmin);
    for (int i = 0; i < BLOCK_K_LEN; i++) {
        int g = i / 32, sc, m, q = b.qs[g / 2 * 32 + i % 32] >> g % 2 * 4 & 15;
        block_k_scale(b.scales, g, &sc, &m);
        float scale = d * (float)sc, offset = dmin * (float)m;
        out[i] = scale * (float)q - offset;
    }
}

/* Bit g of qh[i] is the fifth bit of number i of group g. */
static void decode_q5_k(const void *block, float *out) {
    block_q5_k b;
    memcpy(&b, block, sizeof b);
    float d = dtype_from_f16(b.d), dmin = dtype_from_f16(b.dmin);
    for (int i = 0; i < BLOCK_K_LEN; i++) {
        int g = i / 32, sc, m, q = b.qs[g / 2 * 32 + i % 32] >> g % 2 * 4 & 15;
        q |= (b.qh[i % 32] >> g & 1) << 4;
        block_k_scale(b.scales, g, &sc, &m);
        float scale = d * (float)sc, offset = dmin * (float)m;
        out[i] = scale * (float)q - offset;
    }
}

/* Each half of 128 numbers has 64 bytes of ql and 32 of qh. Its four runs of 32 lie in the low
 * nibbles of ql, first and last 32 bytes, then in the high ones; run k in bits 2k of qh. */
static void decode_q6_k(const void *block, float *out) {
    block_q6_k b;
    memcpy(&b, block, sizeof b);
    float d = dtype_from_f16(b.d);
    for (int i = 0; i < BLOCK_K_LEN; i++) {
        int half = i / 128, run = i / 32 % 4, l = i % 32;
        int low = b.ql[half * 64 + run % 2 * 32 + l] >> run / 2 * 4 & 15;
        int high = b.qh[half * 32 + l] >> 2 * run & 3;
        float scale = d * (float)b.scales[i / 16];
        out[i] = scale * (float)((low | high << 4) - 32);
    }
}

static void decode_block(dtype type, const void *block, float *out) {
    switch (type) {
        case DTYPE_Q8_0:
            decode_q8_0(block, out);
            break;
        case DTYPE_Q4_0:
            decode_q4_0(block, out);
            break;
        case DTYPE_Q4_K:
            decode_q4_k(block, out);
            break;
        case DTYPE_Q5_K:
            decode_q5_k(block, out);
            break;
        default:
            decode_q6_k(block, out);
            break;
    }
}

void dtype_decode(dtype type, const void *data, size_t n, float *out) {
    const unsigned char *bytes = data;
    if (type == DTYPE_F32) {
        if (n) memcpy(out, bytes, n * sizeof *out);
        return;
    }
    if (dtype_is_block(type)) {
        size_t len = dtype_block_len(type), n_bytes = dtype_block_bytes(type);
        for (size_t i = 0; i < n / len; i++) decode_block(type, bytes + i * n_bytes, out + i * len);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        out[i] = type == DTYPE_BF16 ? dtype_from_bf16(bits) : dtype_from_f16(bits);
    }
}

/* A number is finite unless its exponent bits are all ones. */
static int is_finite_16(const unsigned char *bytes, size_t i, uint16_t exponent) {
    uint16_t bits;
    memcpy(&bits, bytes + 2 * i, sizeof bits);
    return (bits & exponent) != exponent;
}

static int is_finite_32(const unsigned char *bytes, size_t i) {
    uint32_t bits;
    memcpy(&bits, bytes + 4 * i, sizeof bits);
    return (bits & 0x7F800000u) != 0x7F800000u;
}

/* A block is as finite as its scales: d stands first, or last in Q6_K; K types of 4 and 5 bits have
 * dmin after d. */
static int64_t find_block_not_finite(dtype type, const unsigned char *bytes, size_t n) {
    size_t len = dtype_block_len(type), n_bytes = dtype_block_bytes(type);
    size_t first = type == DTYPE_Q6_K ? offsetof(block_q6_k, d) : 0;
    size_t n_scales = type == DTYPE_Q4_K || type == DTYPE_Q5_K ? 2 : 1;
    for (size_t i = 0; i < n / len; i++)
        for (size_t j = 0; j < n_scales; j++)
            if (!is_finite_16(bytes + i * n_bytes + first, j, 0x7C00)) return (int64_t)(i * len);
    return -1;
}

int64_t dtype_find_not_finite(dtype type, const void *data, size_t n) {
    enum { CHUNK = 4096 };
    if (dtype_is_block(type)) return find_block_not_finite(type, data, n);
    const unsigned char *bytes = data;
    uint16_t exponent = type == DTYPE_BF16 ? 0x7F80 : 0x7C00;
    for (size_t first = 0; first < n; first += CHUNK) {
        size_t end = n - first < CHUNK ? n : first + CHUNK;
        unsigned n_bad = 0;
        if (type == DTYPE_F32) {
            for (size_t i = first; i < end; i++) n_bad += (unsigned)!is_finite_32(bytes, i);
        } else {
            for (size_t i = first; i < end; i++)
                n_bad += (unsigned)!is_finite_16(bytes, i, exponent);
        }
        if (!n_bad) continue;
        for (size_t i = first; i < end; i++)
            if (type == DTYPE_F32 ? !is_finite_32(bytes, i) : !is_finite_16(bytes, i, exponent))
                return (int64_t)i;
    }
    return -1;
}
