/* SPDX-License-Identifier: Apache-2.0
 *
 * The decisions of kernels/decide.h, one block of threads for each open block, whose positions are
 * ranked all at once: scalar/decide_scalar.c says what comes out, bit for bit.
 */
#include "kernels/cuda/philox.cuh"
#include "kernels/decide.h"

enum { THREADS = 256 };

typedef struct proposal {
    const score *s; /* NULL: not scored */
    float p;
    int token;
    bool prefers_mask;
} proposal;

static __device__ proposal propose(const decide_args &a, const decide_block &b, int item) {
    proposal v = {};
    if (a.i_score[item] < 0) return v;
    v.s = &a.scores[a.i_score[item]];
    v.token = b.is_drawn ? v.s->drawn : v.s->token;
    v.p = !b.is_drawn     ? v.s->probability
          : b.is_tempered ? v.s->drawn_tempered
                          : v.s->drawn_probability;
    v.prefers_mask = !b.is_drawn && v.s->forbidden_probability > v.s->probability;
    return v;
}

/* rng_uniform of base/rng.h for RNG_PURPOSE_REMASK, index 0. */
static __device__ double draw(const decide_block &b, int i, int steps_made) {
    uint32_t mixed[4] = {(uint32_t)b.key.request, (uint32_t)(b.key.request >> 32), 0, 0};
    philox(mixed, (uint32_t)b.key.seed, (uint32_t)(b.key.seed >> 32));
    uint32_t c[4] = {0, 2, b.key.position + (uint32_t)i, b.key.step + (uint32_t)steps_made};
    philox(c, mixed[0], mixed[1]);
    return to_open_unit(c[0], c[1]);
}

static __device__ void write_item(const decide_args &a, int item, int token, int state) {
    a.tokens[item] = token;
    a.row_tokens[a.rows[item]] = token;
    a.states[item] = state;
}

/* Adds up over the threads of the block. */
static __device__ int count_all(int n) {
    __shared__ int parts[THREADS / 32];
    for (int mask = 16; mask > 0; mask /= 2) n += __shfl_xor_sync(~0u, n, mask);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = n;
    __syncthreads();
    n = 0;
    for (int w = 0; w < THREADS / 32; w++) n += parts[w];
    return n;
}

enum { WILLING = 1, UNWILLING = 2, OPENS = 4 }; /* flags of a position */

static __device__ int least_of(const decide_block &b, int n_masked, int n_willing) {
    int n = 0;
    if (b.rule != DECIDE_EDIT && b.i_step < b.steps) n = b.n / b.steps + (b.i_step < b.n % b.steps);
    return min(max(min(n, n_willing), 1), n_masked);
}

static __global__ void __launch_bounds__(THREADS) decide_blocks(const decide_args a) {
    __shared__ double keys[DECIDE_BLOCK_MAX];
    __shared__ unsigned char flags[DECIDE_BLOCK_MAX]; /* 0: neither masked nor opened */
    const decide_block b = a.blocks[blockIdx.x];
    const int steps_made = a.gate->n_steps;
    bool is_finite = true;
    int n_masked = 0, n_willing = 0;
    for (int i = (int)threadIdx.x; i < b.n; i += THREADS) {
        int item = b.first + i, state = a.states[item];
        proposal v = propose(a, b, item);
        if (v.s && !v.s->is_finite) is_finite = false;
        keys[i] = b.rule == DECIDE_RANDOM ? draw(b, i, steps_made) : (double)v.p;
        flags[i] = 0;
        if (state == DECIDE_MASKED)
            flags[i] = b.rule != DECIDE_RANDOM && v.prefers_mask ? UNWILLING : WILLING;
        bool may_open = b.rule == DECIDE_EDIT && state == DECIDE_COMMITTED && v.s &&
                        v.prefers_mask && (double)v.s->forbidden_probability > b.edit_threshold &&
                        b.mask_token != a.tokens[item];
        if (may_open) flags[i] = OPENS;
        n_masked += state == DECIDE_MASKED;
        n_willing += flags[i] == WILLING;
    }
    is_finite = __syncthreads_and(is_finite);
    if (!is_finite) {
        if (threadIdx.x == 0) a.gate->is_open = 0;
        return;
    }
    n_masked = count_all(n_masked);
    n_willing = count_all(n_willing);
    int n_least = least_of(b, n_masked, n_willing), n_commits = 0, n_edits = 0, n_opened = 0;
    for (int i = (int)threadIdx.x; i < b.n; i += THREADS) {
        int item = b.first + i, flag = flags[i], rank = 0;
        proposal v = propose(a, b, item);
        if (flag == WILLING || flag == UNWILLING) {
            for (int j = 0; j < b.n; j++) {
                int other = flags[j];
                if ((other != WILLING && other != UNWILLING) || j == i) continue;
                bool is_before = keys[j] > keys[i] || (keys[j] == keys[i] && j < i);
                if (other != flag) is_before = other == WILLING;
                rank += is_before;
            }
            double p = (double)v.p;
            bool is_high = b.rule != DECIDE_RANDOM && rank < n_willing &&
                           (p > b.threshold || (b.is_inclusive && p >= b.threshold));
            if (rank >= n_least && !is_high) continue;
            n_commits++;
            write_item(a, item, v.token, DECIDE_COMMITTED);
            continue;
        }
        if (b.rule != DECIDE_EDIT || a.states[item] != DECIDE_COMMITTED || !v.s) continue;
        if (flag == OPENS) {
            for (int j = 0; j < i; j++) rank += flags[j] == OPENS;
            if (b.n_reopened + rank >= b.n) continue;
            n_opened++;
            n_edits++;
            write_item(a, item, b.mask_token, DECIDE_MASKED);
        } else if (!v.prefers_mask && (double)v.p > b.edit_threshold && v.token != a.tokens[item]) {
            n_edits++;
            write_item(a, item, v.token, DECIDE_COMMITTED);
        }
    }
    n_commits = count_all(n_commits);
    n_edits = count_all(n_edits);
    n_opened = count_all(n_opened);
    if (threadIdx.x != 0) return;
    decide_block *to = &a.blocks[blockIdx.x];
    int n_left = n_masked - n_commits + n_opened;
    bool is_finished = n_left == 0;
    if (b.rule == DECIDE_EDIT) {
        int n_post = b.n_post + (n_masked == 0);
        to->n_reopened = b.n_reopened + n_opened;
        to->n_post = n_post;
        is_finished = n_left == 0 && ((n_masked == 0 && n_edits == 0) || n_post + 1 > b.post_steps);
    }
    to->i_step = b.i_step + 1;
    if (is_finished || (n_left == 0 && b.needs_mask)) a.gate->is_open = 0;
}

enum { REPORTERS = 512 };

/* Once all blocks have read the count. The host's memory is written over the bus, without a copy
 * that the next step would wait for. */
static __global__ void __launch_bounds__(REPORTERS) end_step(const decide_args a) {
    const int4 *from = (const int4 *)a.report;
    int4 *to = (int4 *)a.reports[a.gate->n_steps & 1];
    __syncthreads();
    if (threadIdx.x == 0) {
        a.gate->n_steps++;
        a.gate->end_ns = device_clock_ns();
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < a.report_bytes / sizeof *from; i += REPORTERS) to[i] = from[i];
}

extern "C" void cuda_launch_decide(cudaStream_t stream, const decide_args *a) {
    decide_blocks<<<(unsigned)a->n_blocks, THREADS, 0, stream>>>(*a);
    end_step<<<1, REPORTERS, 0, stream>>>(*a);
}
