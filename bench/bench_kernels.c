/* SPDX-License-Identifier: Apache-2.0
 *
 * Speed of the kernels by tier: linear, attention, experts and head, medians of several runs,
 * beside the FMA peak of one core measured on this machine (times the threads). Not a test.
 *
 *     bench_kernels [threads [linear|attention|experts|head [tier]]]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/device.h"
#include "kernels/ops.h"

enum { RUNS = 9, RUN_NS = 4000000 };

typedef void (*timed)(void *context);

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of one call, over RUNS runs of at least RUN_NS. */
static double seconds_of(timed function, void *context) {
    double times[RUNS];
    int64_t start = clock_now_ns();
    function(context);
    int64_t once = clock_now_ns() - start;
    int n = once >= RUN_NS ? 1 : (int)(RUN_NS / (once + 1)) + 1;
    int runs = once > 20 * RUN_NS ? 1 : RUNS;
    for (int i = 0; i < runs; i++) {
        start = clock_now_ns();
        for (int j = 0; j < n; j++) function(context);
        times[i] = (double)(clock_now_ns() - start) * 1e-9 / n;
    }
    qsort(times, (size_t)runs, sizeof *times, compare);
    return times[runs / 2];
}

#if defined(__x86_64__)
/* Twelve independent chains of multiply-adds in registers: nothing but the units' throughput. */
static __attribute__((target("avx512f"))) void fma_chains(void *context) {
    (void)context;
    for (int j = 0; j < 100000; j++)
        __asm__ volatile(
            "vfmadd213ps %%zmm31, %%zmm30, %%zmm0\n\tvfmadd213ps %%zmm31, %%zmm30, %%zmm1\n\t"
            "vfmadd213ps %%zmm31, %%zmm30, %%zmm2\n\tvfmadd213ps %%zmm31, %%zmm30, %%zmm3\n\t"
            "vfmadd213ps %%zmm31, %%zmm30, %%zmm4\n\tvfmadd213ps %%zmm31, %%zmm30, %%zmm5\n\t"
            "vfmadd213ps %%zmm31, %%zmm30, %%zmm6\n\tvfmadd213ps %%zmm31, %%zmm30, %%zmm7\n\t"
            "vfmadd213ps %%zmm31, %%zmm30, %%zmm8\n\tvfmadd213ps %%zmm31, %%zmm30, %%zmm9\n\t"
            "vfmadd213ps %%zmm31, %%zmm30, %%zmm10\n\tvfmadd213ps %%zmm31, %%zmm30, %%zmm11"
            :
            :
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
              "xmm10", "xmm11");
}

static double peak_gflops(void) {
    if (!__builtin_cpu_supports("avx512f")) return 0.0;
    return 2.0 * 16 * 12 * 100000 / seconds_of(fma_chains, NULL) * 1e-9;
}
#else
static double peak_gflops(void) {
    return 0.0;
}
#endif

static float *numbers(size_t n) {
    float *x = aligned_alloc(64, (n * sizeof *x + 127) / 64 * 64);
    if (!x) exit(1);
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * 2654435761u >> 8) % 1000) * 2e-3f - 1.0f;
    return x;
}

static void *weights(dtype type, size_t n) {
    float *x = numbers(n);
    uint16_t *half = (uint16_t *)(void *)x;
    if (type == DTYPE_F32) return x;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        half[i] = (uint16_t)(bits >> 16);
    }
    return x;
}

typedef struct linear_case {
    device *dev;
    float *x, *y;
    matrix w;
    int32_t n_rows;
} linear_case;

static void run_linear(void *context) {
    linear_case *c = context;
    c->dev->ops->linear(c->dev, c->y, c->x, &c->w, NULL, c->n_rows);
}

static void bench_linear(device *dev) {
    static const int32_t shapes[][2] = {{256, 256}, {2048, 2048}, {12288, 4096}};
    static const int32_t rows[] = {1, 8, 32, 96};
    for (int i = 0; i < 3; i++)
        for (int t = 0; t < 2; t++) {
            dtype type = t ? DTYPE_F32 : DTYPE_BF16;
            int32_t n_out = shapes[i][0], n_in = shapes[i][1];
            size_t n = (size_t)n_out * (size_t)n_in;
            linear_case c = {.dev = dev,
                             .x = numbers(96 * (size_t)n_in),
                             .y = numbers(96 * (size_t)n_out),
                             .w = {weights(type, n), type, n_out, n_in}};
            void *data = (void *)(uintptr_t)c.w.data;
            for (int k = 0; k < 4; k++) {
                c.n_rows = rows[k];
                double s = seconds_of(run_linear, &c);
                printf("%-7s linear %-4s %5d x %-5d rows %3d  %9.1f us %8.1f GFLOP/s %7.1f GB/s\n",
                       dev->tier, dtype_name(type), n_out, n_in, rows[k], s * 1e6,
                       2e-9 * (double)n * rows[k] / s, 1e-9 * (double)(n * dtype_bytes(type)) / s);
            }
            free(data);
            free(c.x);
            free(c.y);
        }
}

static const char *const kv_type_names[] = {"f32", "bf16", "int8"};

typedef struct attention_case {
    device *dev;
    attention_args args;
    void *scratch;
} attention_case;

static void run_attention(void *context) {
    attention_case *c = context;
    c->dev->ops->attention(c->dev, &c->args, c->scratch);
}

/* Rows that see the whole context, or, ROWS_MAX of them, a prompt in blocks of 32. */
static void bench_attention_shape(device *dev, kv_type type, const int32_t shape[4],
                                  int32_t context) {
    enum { BLOCK = 32 };
    int32_t n_rows = shape[0], n_heads = shape[1], n_kv_heads = shape[2], head_dim = shape[3];
    int32_t n_pages = context / KV_PAGE_LEN;
    size_t cache = kv_part_bytes(type, head_dim) * (size_t)(n_pages * n_kv_heads);
    size_t n = (size_t)n_rows * (size_t)(n_heads * head_dim);
    size_t n_kv = (size_t)context * (size_t)(n_kv_heads * head_dim);
    int32_t *pages = malloc((size_t)n_pages * sizeof *pages);
    int32_t *seq = calloc((size_t)context, sizeof *seq);
    int32_t *end = malloc((size_t)n_rows * sizeof *end);
    int32_t *positions = malloc((size_t)context * sizeof *positions);
    if (!pages || !seq || !end || !positions) exit(1);
    double visible = 0.0;
    for (int32_t p = 0; p < n_pages; p++) pages[p] = (int32_t)((int64_t)p * 7 % n_pages);
    for (int32_t p = 0; p < context; p++) positions[p] = p;
    for (int32_t r = 0; r < n_rows; r++) {
        end[r] = n_rows > BLOCK ? context - n_rows + (r / BLOCK + 1) * BLOCK : context;
        visible += end[r];
    }
    kv_table table = {pages, n_pages};
    float *q = numbers(n), *out = numbers(n), *k = numbers(n_kv), *v = numbers(n_kv);
    attention_case c = {
        .dev = dev,
        .args = {.q = q,
                 .out = out,
                 .seq = seq,
                 .visible_end = end,
                 .tables = &table,
                 .kv = {numbers(cache / sizeof(float)), numbers(cache / sizeof(float)), type},
                 .n_rows = n_rows,
                 .n_heads = n_heads,
                 .n_kv_heads = n_kv_heads,
                 .head_dim = head_dim,
                 .scale = 0.1f}};
    dev->ops->kv_write(dev, &c.args.kv, k, v, seq, positions, &table, context, n_kv_heads,
                       head_dim);
    c.scratch = numbers(dev->ops->attention_scratch(dev, &c.args) / sizeof(float));
    double t = seconds_of(run_attention, &c);
    double flops = 4.0 * n_heads * head_dim * visible;
    printf(
        "%-7s attention %-4s rows %3d heads %2d/%-2d dim %3d context %5d  %9.1f us %7.1f "
        "GFLOP/s %6.1f GB/s\n",
        dev->tier, kv_type_names[type], n_rows, n_heads, n_kv_heads, head_dim, context, t * 1e6,
        flops / t * 1e-9, 2e-9 * (double)cache / t);
    free(c.args.kv.keys);
    free(c.args.kv.values);
    free(c.scratch);
    free(v);
    free(k);
    free(out);
    free(q);
    free(positions);
    free(end);
    free(seq);
    free(pages);
}

static void bench_attention(device *dev) {
    static const int32_t shapes[][4] = {/* rows, heads, kv heads, head_dim */
                                        {32, 32, 32, 128}, {32, 16, 4, 128},  {1, 32, 32, 128},
                                        {1, 16, 4, 128},   {512, 16, 4, 128}, {512, 32, 32, 128}};
    static const int32_t contexts[] = {64, 512, 4096, 16384};
    bool is_scalar = strcmp(dev->tier, "scalar") == 0;
    for (int type = 0; type < 3; type++)
        for (int i = 0; i < 6; i++)
            for (int k = 0; k < 4; k++) {
                int32_t n_rows = shapes[i][0], context = contexts[k];
                if (is_scalar && context > 512) continue;
                if (n_rows == 1 && context < 4096) continue;
                if (n_rows == 512 && context != 512 && context != 4096) continue;
                bench_attention_shape(dev, (kv_type)type, shapes[i], context);
            }
}

typedef struct experts_case {
    device *dev;
    experts_args args;
    void *scratch;
} experts_case;

static void run_experts(void *context) {
    experts_case *c = context;
    c->dev->ops->experts(c->dev, &c->args, c->scratch);
}

static void bench_experts(device *dev) {
    enum { HIDDEN = 256, INNER = 128, EXPERTS = 16, ACTIVE = 4 };
    for (int32_t rows = 32; rows <= 96; rows += 64) {
        mlp_weights experts[EXPERTS];
        size_t n = HIDDEN * INNER;
        unsigned char *w = weights(DTYPE_BF16, n * 3 * EXPERTS);
        for (size_t e = 0; e < EXPERTS; e++) {
            experts[e].gate = (matrix){w + 2 * n * (3 * e), DTYPE_BF16, INNER, HIDDEN, NULL, false};
            experts[e].up =
                (matrix){w + 2 * n * (3 * e + 1), DTYPE_BF16, INNER, HIDDEN, NULL, false};
            experts[e].down =
                (matrix){w + 2 * n * (3 * e + 2), DTYPE_BF16, HIDDEN, INNER, NULL, false};
        }
        int32_t ids[96 * ACTIVE];
        for (int i = 0; i < 96 * ACTIVE; i++) ids[i] = (i * 7 + i / ACTIVE) % EXPERTS;
        float *x = numbers(96 * HIDDEN), *y = numbers(96 * HIDDEN), *k = numbers(96 * ACTIVE);
        experts_case c = {.dev = dev,
                          .args = {.x = x,
                                   .y = y,
                                   .ids = ids,
                                   .weights = k,
                                   .experts = experts,
                                   .n_rows = rows,
                                   .n_active = ACTIVE,
                                   .n_experts = EXPERTS}};
        c.scratch = numbers(dev->ops->experts_scratch(dev, &c.args) / sizeof(float));
        double t = seconds_of(run_experts, &c);
        printf("%-7s experts rows %2d hidden 256, 4 of 16 x 128  %9.1f us %8.1f GFLOP/s\n",
               dev->tier, rows, t * 1e6, 6.0 * (double)n * rows * ACTIVE / t * 1e-9);
        free(c.scratch);
        free(w);
        free(x);
        free(y);
        free(k);
    }
}

typedef struct head_case {
    device *dev;
    head_args args;
    void *scratch;
} head_case;

static void run_head(void *context) {
    head_case *c = context;
    c->dev->ops->head(c->dev, &c->args, c->scratch);
}

static void bench_head(device *dev) {
    static const int32_t shapes[][2] = {{4096, 256}, {65536, 1024}};
    static const char *const kinds[3] = {"argmax", "draw", "top_p"};
    for (int i = 0; i < 2; i++)
        for (int kind = 0; kind < 3; kind++) {
            enum { ROWS = 32 };
            int32_t vocab = shapes[i][0], hidden = shapes[i][1];
            score scores[ROWS];
            score_request requests[ROWS];
            float *x = numbers(ROWS * (size_t)hidden);
            void *w = weights(DTYPE_BF16, (size_t)vocab * (size_t)hidden);
            for (int r = 0; r < ROWS; r++)
                requests[r] = (score_request){.row = r,
                                              .guide_row = -1,
                                              .temperature = kind ? 1.0 : 0.0,
                                              .top_p = kind == 2 ? 0.9 : 1.0,
                                              .removed = -1,
                                              .watched = {-1, -1},
                                              .key = {.position = (uint32_t)r}};
            head_case c = {.dev = dev,
                           .args = {.x = x,
                                    .w = {w, DTYPE_BF16, vocab, hidden},
                                    .logit_scale = 0.1f,
                                    .n_rows = ROWS,
                                    .n_requests = ROWS,
                                    .requests = requests,
                                    .forbidden_token = -1,
                                    .scores = scores}};
            c.scratch = numbers(dev->ops->head_scratch(dev, &c.args) / sizeof(float));
            double t = seconds_of(run_head, &c);
            printf("%-7s head %5d x %4d rows %d %-6s  %9.1f us %8.1f GFLOP/s\n", dev->tier, vocab,
                   hidden, ROWS, kinds[kind], t * 1e6,
                   2.0 * vocab * (double)hidden * ROWS / t * 1e-9);
            free(c.scratch);
            free(w);
            free(x);
        }
}

int main(int argc, char **argv) {
    static const char *const tiers[] = {"avx512", "avx2", "scalar"};
    static const struct {
        const char *name;
        void (*run)(device *dev);
    } parts[] = {{"linear", bench_linear},
                 {"attention", bench_attention},
                 {"experts", bench_experts},
                 {"head", bench_head}};
    int n_threads = argc > 1 ? atoi(argv[1]) : 0;
    printf("FMA peak of one core (512 bits): %.1f GFLOP/s; threads: %d\n", peak_gflops(),
           n_threads ? n_threads : threads_available());
    for (int i = 0; i < 3; i++) {
        device *dev = NULL;
        um_error err = {0};
        if (argc > 3 && strcmp(argv[3], tiers[i]) != 0) continue;
        setenv("UNMASK_CPU", tiers[i], 1);
        if (device_open("cpu", n_threads, &dev, &err) != UM_OK) {
            printf("%s: %s\n", tiers[i], err.message);
            continue;
        }
        for (int j = 0; j < 4; j++)
            if (argc < 3 || strcmp(argv[2], parts[j].name) == 0) parts[j].run(dev);
        device_close(dev);
    }
    return 0;
}
