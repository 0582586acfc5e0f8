/* SPDX-License-Identifier: Apache-2.0
 *
 * What a constraint costs, without a model: making it for a vocabulary, and a step of a block. A
 * step is what the engine does around a forward: the sets of the block's positions, the tokens that
 * are allowed at each open one, and one commit. Tokens are drawn among the allowed ones, positions
 * at random.
 *
 *     bench_constraint DIRECTORY [SCHEMA] [BLOCK]       SCHEMA: a file, or "" for any object
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file_map.h"
#include "base/memory.h"
#include "base/rng.h"
#include "decode/partial_fill.h"
#include "engine/constraint_api.h"
#include "support/eval_items.h"

enum { STEPS_MAX = 4096 };

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The k-th allowed token, k drawn. */
static int32_t draw_token(const uint32_t *bits, int32_t vocab, double u) {
    int64_t n = 0;
    for (int32_t w = 0; w < (vocab + 31) / 32; w++) n += __builtin_popcount(bits[w]);
    int64_t k = (int64_t)(u * (double)n);
    for (int32_t id = 0; id < vocab; id++)
        if ((bits[id / 32] >> (id % 32) & 1) && k-- == 0) return id;
    return -1;
}

static void print_times(const char *what, double *ms, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += ms[i];
    qsort(ms, (size_t)n, sizeof *ms, compare);
    printf("%-28s %8.3f ms mean, %8.3f median, %8.3f most, of %d\n", what, sum / n, ms[n / 2],
           ms[n - 1], n);
}

/* Fills one block after another until there are enough steps. */
static void run_blocks(partial_fill *fill, int32_t block, int32_t stop) {
    static double step_ms[STEPS_MAX], put_ms[STEPS_MAX];
    int32_t vocab = fill->vocab, n_steps = 0;
    int32_t *tokens = malloc((size_t)block * sizeof *tokens);
    uint32_t *bits = malloc(((size_t)vocab + 31) / 32 * sizeof *bits);
    rng_key key = {.seed = 1};
    if (!tokens || !bits) exit(1);
    for (int32_t document = 0; n_steps + block <= STEPS_MAX; document++) {
        key.request = (uint64_t)document;
        for (int32_t i = 0; i < block; i++) tokens[i] = -1;
        for (int32_t n_open = block; n_open; n_open--) {
            int64_t begin = clock_now_ns();
            if (!partial_fill_load(fill, 0, tokens, block, 4 * block)) exit(1);
            for (int32_t i = 0; i < block; i++)
                if (tokens[i] < 0) partial_fill_allowed(fill, i, bits);
            step_ms[n_steps] = (double)(clock_now_ns() - begin) / 1e6;
            key.step = (uint32_t)n_open;
            int32_t at = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * n_open), i = 0;
            while (tokens[i] >= 0 || at-- > 0) i++;
            partial_fill_allowed(fill, i, bits);
            bits[stop / 32] &= ~((uint32_t)1 << (stop % 32));
            int32_t token = draw_token(bits, vocab, rng_uniform(&key, RNG_PURPOSE_TEST, 1));
            if (token < 0) token = stop;
            begin = clock_now_ns();
            partial_fill_put(fill, i, token);
            put_ms[n_steps++] = (double)(clock_now_ns() - begin) / 1e6;
            tokens[i] = token;
        }
    }
    print_times("a step's sets and tokens", step_ms, n_steps);
    print_times("a commit", put_ms, n_steps);
    free(bits);
    free(tokens);
}

int main(int argc, char **argv) {
    um_error err;
    um_tokenizer *tokenizer = NULL;
    um_constraint *constraint = NULL;
    char *schema = NULL;
    size_t n_bytes = 0;
    int32_t block = argc > 3 ? atoi(argv[3]) : 32;
    if (argc < 2 || block < 1 || block > STEPS_MAX) {
        fprintf(stderr, "usage: bench_constraint DIRECTORY [SCHEMA] [BLOCK]\n");
        return 2;
    }
    if (um_tokenizer_open(argv[1], &tokenizer, &err) != UM_OK) bench_die("tokenizer", &err);
    if (argc > 2 && *argv[2] && file_read(argv[2], 1 << 20, &schema, &n_bytes, &err) != UM_OK)
        bench_die("schema", &err);
    int64_t begin = clock_now_ns();
    um_status status =
        schema ? um_constraint_json_schema(tokenizer, schema, n_bytes, &constraint, &err)
               : um_constraint_json_object(tokenizer, &constraint, &err);
    if (status != UM_OK) bench_die("constraint", &err);
    double ms = (double)(clock_now_ns() - begin) / 1e6;
    const token_graph *g = constraint_graph(constraint);
    double mib = (double)(g->first_edge[g->n_states] * sizeof *g->edges +
                          g->first_token[g->n_sets] * sizeof *g->set_tokens) /
                 (1 << 20);
    printf("%d ids: %d states, %zu edges, %d sets of tokens, %.1f MiB, made in %.0f ms\n",
           g->texts.n_ids, g->n_states, g->first_edge[g->n_states], g->n_sets, mib, ms);
    partial_fill fill;
    int32_t stop = g->texts.n_ids; /* an id of its own */
    if (partial_fill_init(&fill, g, block, &stop, 1, NULL, 0, stop + 1, &err) != UM_OK)
        bench_die("sets", &err);
    printf("the shortest document takes %d tokens\n", partial_fill_shortest(&fill));
    run_blocks(&fill, block, stop);
    partial_fill_deinit(&fill);
    um_constraint_free(&constraint);
    um_tokenizer_close(&tokenizer);
    memory_free(schema);
    return 0;
}
