/* SPDX-License-Identifier: Apache-2.0
 *
 * Scalar decoding of stored numbers. Loads go through memcpy: a tensor in a file may begin at any
 * byte. The search for non-finite numbers looks at exponents only, so that compilers vectorise it.
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

void dtype_decode(dtype type, const void *data, size_t n, float *out) {
    const unsigned char *bytes = data;
    if (type == DTYPE_F32) {
        memcpy(out, bytes, n * sizeof *out);
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

int64_t dtype_find_not_finite(dtype type, const void *data, size_t n) {
    enum { CHUNK = 4096 };
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
