/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU's tier table: single-threaded inner kernels, filled from scalar upward (a better tier
 * overwrites what it does better). Files cpu_*.c split an operation over the pool and call these;
 * nothing here knows of threads. Every kernel treats each row (query, output) by one fixed sequence
 * of operations, whatever tile it lands in: batch invariance is theirs to keep.
 */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/packed.h"
#include "quant/dtype.h"

enum {
    DECODED_ROWS = 4,         /* rows of a block type that are decoded at once */
    ATTEND_QUERIES_MAX = 128, /* queries of an attend_tile */
    ATTEND_SPLIT = 1024,      /* positions that are summed by themselves: whole pages */
    ATTEND_CHUNK = 128,       /* positions whose scores are held at a time: whole pages */
    HEAD_TILE = 256           /* vocabulary tile of the head; even; part of the results' bits */
};

/* y[r, o] = sum_i x[row(r), i] * w[o, i] + bias[o], row(r) = x_rows ? x_rows[r] : r. */
typedef struct matmul_tile {
    float *y;              /* row r at y + r * y_stride */
    const float *x;        /* row r at x + row(r) * x_stride */
    const int32_t *x_rows; /* [n_rows] or NULL */
    const void *w;         /* [n_out, n_in] of type, any alignment */
    const float *bias;     /* [n_out] or NULL */
    size_t x_stride, y_stride;
    dtype type;
    int32_t n_rows, n_in, n_out;
} matmul_tile;

/* Attention of some queries of one sequence to one key-value head, over the positions
 * [first, first + ATTEND_SPLIT) as far as each query sees them; first is a multiple of
 * ATTEND_SPLIT. Queries with the same visible_end stand together.
 *
 * What has been summed is a state of attend_state_floats each:
 *   [0, head_dim)  sum over positions of exp(score - max) * value
 *   then, at attend_padded(head_dim): max (at least -FLT_MAX), sum of exp(score - max)
 *
 * The cut into splits is part of the results' bits: a query's splits are merged in their order,
 * whether one task has done them all or a task each. */
typedef struct attend_tile {
    const float *q[ATTEND_QUERIES_MAX]; /* [head_dim] each */
    int32_t visible_end[ATTEND_QUERIES_MAX];
    float *states; /* [n_queries, attend_state_floats]: written where visible_end > first */
    const int32_t *pages;
    kv_layer kv;
    float *scratch; /* [attend_scratch_floats], 64-byte aligned */
    int32_t n_queries, n_kv_heads, kv_head, head_dim, first;
    float scale;
} attend_tile;

/* Of the logits of one vocabulary tile, the forbidden token included. */
typedef struct tile_softmax {
    float top;              /* the highest */
    double sum, sum_logits; /* sum e, sum (l - top) * e with e = exp(l - top) */
    bool is_finite;         /* false: the rest is undefined */
} tile_softmax;

/* Of the same, where excluded tokens are -infinity: i_max -1 where all are. */
typedef struct tile_best {
    float max, second; /* second -infinity where there is none */
    int32_t i_max;
} tile_best;

/* The winner of a draw so far: token -1 before the first. */
typedef struct gumbel_best {
    double key;
    int32_t token;
    float logit;
} gumbel_best;

typedef struct cpu_kernels {
    const char *name;
    void (*matmul)(const matmul_tile *tile); /* not of block types: see cpu_matmul */
    void (*pack)(const pack_tile *tile);     /* kernels/packed.h */
    void (*matmul_packed)(const packed_tile *tile);
    void (*pack_bf16)(const pack_tile *tile);
    void (*matmul_bf16)(const bf16_tile *tile);
    void (*pack_tiled)(const pack_tile *tile);
    void (*matmul_tiled)(const panels_tile *tile);
    bool has_bf16;  /* products of bfloat16 are faster here than those of float32 */
    bool has_tiles; /* and faster than those of 8-bit integers */
    /* kernels/limits.h: run n_rounds and say how many operations that was; NULL: no such kernel. */
    int64_t (*burn_f32)(int64_t n_rounds);
    int64_t (*burn_int8)(int64_t n_rounds);
    int64_t (*burn_bf16)(int64_t n_rounds);
    uint64_t (*read)(const unsigned char *memory, size_t n_bytes);
    /* out [n] f32 from stored numbers. */
    void (*decode)(dtype type, const void *data, size_t n, float *out);
    /* One row; y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *gain, int32_t dim, float eps);
    /* One head; cosines, sines [half]. */
    void (*rope)(float *x, const float *cosines, const float *sines, int32_t half);
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n); /* y may be gate */
    void (*add)(float *y, const float *x, size_t n);
    void (*add_scaled)(float *y, const float *x, float scale, size_t n); /* y += scale * x */
    void (*sigmoid)(float *y, const float *x, size_t n);                 /* y may be x */
    void (*softmax)(float *y, const float *x, size_t n);                 /* y may be x */
    void (*attend)(const attend_tile *tile);
    /* state becomes the state of both; the positions of `part` come after its own. */
    void (*attend_merge)(float *state, const float *part, int32_t head_dim);
    /* out [head_dim] = sums of the state / its sum of weights. */
    void (*attend_finish)(float *out, const float *state, int32_t head_dim);
    tile_softmax (*tile_softmax)(const float *l, int32_t n);
    tile_best (*tile_best)(const float *l, int32_t n);
    /* sum of exp((l - max) * inverse_temperature); -infinity counts 0; max is finite */
    double (*tile_tempered)(const float *l, int32_t n, float max, float inverse_temperature);
    /* Draws tokens first_token + i; excluded ones are -infinity. n <= HEAD_TILE, first_token even.
     * Improves *best by the highest l / temperature - log(-log u), the lower id on a tie: the same
     * bits in every tier. */
    void (*gumbel)(const float *l, int32_t n, int32_t first_token, const rng_key *key,
                   double temperature, gumbel_best *best);
} cpu_kernels;

/* device_open makes one of these: `base` is what callers see. */
typedef struct cpu_device {
    device base;
    cpu_kernels kernels;
    float *decoded;       /* [n_workers, DECODED_ROWS, decoded_width], or NULL */
    size_t decoded_width; /* see device_reserve_decode */
} cpu_device;

static inline const cpu_kernels *cpu_kernels_of(const device *dev) {
    return &((const cpu_device *)dev)->kernels;
}

/* Dimensions rounded up to whole vectors of 16. */
static inline size_t attend_padded(int32_t head_dim) {
    return ((size_t)head_dim + 15) / 16 * 16;
}

static inline size_t attend_state_floats(int32_t head_dim) {
    return attend_padded(head_dim) + 16;
}

/* Queries, scores of a chunk, and a chunk of keys or values as float32. */
static inline size_t attend_scratch_floats(int32_t head_dim) {
    return (attend_padded(head_dim) + ATTEND_CHUNK) * ATTEND_QUERIES_MAX +
           attend_padded(head_dim) * ATTEND_CHUNK;
}

/* Where a page's keys, or values, of one head begin. */
static inline void *kv_part(void *keys_or_values, kv_type type, int32_t page, int32_t kv_head,
                            int32_t n_kv_heads, int32_t head_dim) {
    size_t i_part = (size_t)page * (size_t)n_kv_heads + (size_t)kv_head;
    return (unsigned char *)keys_or_values + i_part * kv_part_bytes(type, head_dim);
}

/* Scales of an int8 part. */
static inline float *kv_scales(void *part, int32_t head_dim) {
    return (float *)(void *)((unsigned char *)part + (size_t)head_dim * KV_PAGE_LEN);
}

static inline size_t round_up_64(size_t n_bytes) {
    return (n_bytes + 63) & ~(size_t)63;
}

/* Lays scratch out part by part, each on 64 bytes: base NULL only adds up the size, `at`. */
typedef struct scratch_cursor {
    unsigned char *base;
    size_t at;
} scratch_cursor;

static inline void *scratch_take(scratch_cursor *scratch, size_t n_bytes) {
    void *part = scratch->base ? scratch->base + scratch->at : NULL;
    scratch->at += round_up_64(n_bytes);
    return part;
}

/* ---- Tiers ------------------------------------------------------------------------------------
 */

void cpu_fill_scalar(cpu_kernels *k);
void cpu_fill_avx2(cpu_kernels *k);       /* only where cpu_has_avx2 */
void cpu_fill_amx(cpu_kernels *k);        /* only where cpu_has_amx; over cpu_fill_avx512 */
void cpu_fill_avx512bf16(cpu_kernels *k); /* only where cpu_has_avx512bf16; over cpu_fill_avx512 */
void cpu_fill_avx512(cpu_kernels *k);     /* only where cpu_has_avx512; over cpu_fill_avx2 */
void cpu_fill_avxvnni(cpu_kernels *k);    /* only where cpu_has_avxvnni; over cpu_fill_avx2 */
bool cpu_has_avx2(void);                  /* AVX2, FMA, F16C and the system saves their registers */
bool cpu_has_avx512(void);                /* AVX-512 F, BW, VL, DQ as well */

bool cpu_has_avxvnni(void);     /* AVX-VNNI, which AVX-512 is not needed for */
bool cpu_has_vnni(void);        /* AVX-512 VNNI */
bool cpu_has_avx512bf16(void);  /* AVX512-BF16 */
bool cpu_is_fast_at_bf16(void); /* and its products are faster than those of float32 */
bool cpu_has_amx(void);         /* tiles with bfloat16, granted to this process */

void limits_fill_scalar(cpu_kernels *k);
void limits_fill_avx2(cpu_kernels *k);
void limits_fill_avx512(cpu_kernels *k);
void packed_fill_scalar(cpu_kernels *k);
void tiled_fill_scalar(cpu_kernels *k);
void packed_fill_avx2(cpu_kernels *k);
void packed_fill_avxvnni(cpu_kernels *k);  /* only where cpu_has_avxvnni */
void packed_fill_avx512(cpu_kernels *k);   /* only where cpu_has_vnni */
void tiled_fill_amx(cpu_kernels *k);       /* only where cpu_has_amx */
void bf16_fill_amx(cpu_kernels *k);        /* only where cpu_has_amx */
void bf16_fill_avx512bf16(cpu_kernels *k); /* only where cpu_has_avx512bf16 */
void matmul_fill_scalar(cpu_kernels *k);
void matmul_fill_avx2(cpu_kernels *k);
void matmul_fill_avx512(cpu_kernels *k);
void rows_fill_scalar(cpu_kernels *k);
void rows_fill_avx2(cpu_kernels *k);
void rows_fill_avx512(cpu_kernels *k);
void attention_fill_scalar(cpu_kernels *k);
void attention_fill_avx2(cpu_kernels *k);
void attention_fill_avx512(cpu_kernels *k);
void head_fill_scalar(cpu_kernels *k);
void head_fill_avx2(cpu_kernels *k);
void head_fill_avx512(cpu_kernels *k);

/* The exact key of one token: l / temperature - log(-log u). The one definition all tiers share. */
double gumbel_key(float l, double temperature, double u);

/* ---- Operations (kernels/ops.h says what they do) ---------------------------------------------
 */

/* kernels->matmul for every type: rows of block types are decoded to float32 first, into memory
 * that device_reserve_decode has set aside. */
void cpu_matmul(const device *dev, const matmul_tile *tile, int i_worker);

/* Quantizes groups [first_group, end_group) of one block of at most 16 rows; row r is x + (rows ?
 * rows[r] : r) * n_in. */
void cpu_pack_block(const cpu_kernels *kernels, packed_form form, unsigned char *records,
                    const float *x, const int32_t *rows, int32_t n_rows, int32_t n_in,
                    int32_t first_group, int32_t end_group);
/* Quantizes rows x + rows[r] * n_in (rows NULL: r) over the pool. */
void cpu_pack_gathered(device *dev, packed_form form, void *packed, const float *x,
                       const int32_t *rows, int32_t n_rows, int32_t n_in);
/* Panels [first_panel, end_panel) of w by n_rows rows in blocks; y points at the first panel's
 * first output of row 0. `next`: panels of the same width that the worker will want then, which are
 * fetched ahead, or NULL; cpu_panel_of gives them. */
void cpu_packed_panels(const cpu_kernels *kernels, float *y, size_t y_stride,
                       const unsigned char *blocks, const matrix *w, const float *bias,
                       int32_t n_rows, int32_t first_panel, int32_t end_panel,
                       const unsigned char *next);
/* NULL past the last one, and where weights are not packed. */
const unsigned char *cpu_panel_of(const matrix *w, int32_t i_panel);

um_status cpu_linear(device *dev, float *y, const float *x, const matrix *w, const float *bias,
                     int32_t n_rows);
size_t cpu_pack_scratch(const device *dev, int32_t n_rows, int32_t n_in);
um_status cpu_pack_rows(device *dev, packed_form form, void *packed, const float *x, int32_t n_rows,
                        int32_t n_in);
um_status cpu_linear_packed(device *dev, float *y, const void *packed, const matrix *w,
                            const float *bias, int32_t n_rows);
um_status cpu_embed(device *dev, float *y, const matrix *table, const int32_t *tokens,
                    int32_t n_rows);
um_status cpu_rms_norm(device *dev, float *y, const float *x, const float *gain, int32_t n_rows,
                       int32_t dim, float eps);
um_status cpu_rope(device *dev, float *x, const int32_t *positions, const float *cosines,
                   const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                   int32_t rotary_dim);
um_status cpu_kv_write(device *dev, const kv_layer *kv, const float *k, const float *v,
                       const int32_t *seq, const int32_t *positions, const kv_table *tables,
                       int32_t n_rows, int32_t n_kv_heads, int32_t head_dim);
um_status cpu_swiglu(device *dev, float *y, const float *gate, const float *up, size_t n);
um_status cpu_add(device *dev, float *y, const float *x, size_t n);
um_status cpu_gather(device *dev, float *y, const float *x, const int32_t *rows, int32_t n_rows,
                     int32_t dim);
size_t cpu_attention_scratch(const device *dev, const attention_args *args);
um_status cpu_attention(device *dev, const attention_args *args, void *scratch);
size_t cpu_route_scratch(const device *dev, const route_args *args);
um_status cpu_route(device *dev, const route_args *args, void *scratch);
size_t cpu_experts_scratch(const device *dev, const experts_args *args);
um_status cpu_experts(device *dev, const experts_args *args, void *scratch);
size_t cpu_head_scratch(const device *dev, const head_args *args);
um_status cpu_head(device *dev, const head_args *args, void *scratch);
size_t cpu_head_place_bytes(const device *dev, const head_args *args);
um_status cpu_head_place(device *dev, const head_args *args, void *placed);
um_status cpu_head_placed(device *dev, const head_args *args, void *placed, void *scores,
                          void *scratch);
um_status cpu_decide(device *dev, const decide_args *args);

#endif
