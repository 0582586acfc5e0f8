/* SPDX-License-Identifier: Apache-2.0
 *
 * The blocks of an answer and the masks of a sample, as pure functions. Counts are stratified as in
 * LLaDA's eval_llada.py (_forward_process): a random start, then even steps through 1 to n, so that
 * n samples of n positions mask each number of them once.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "engine/score.h"

void um_score_options_init(um_score_options *options) {
    memset(options, 0, sizeof *options);
    options->n_samples = 128; /* mc_num of eval_llada.py */
}

um_status score_layout_init(score_layout *layout, const um_model_info *info,
                            const um_score_options *options, um_error *err) {
    if (!options->prompt || options->n_prompt < 1)
        FAIL(UM_INVALID, err, "prompt: expected at least one token, found none");
    if (!options->answer || options->n_answer < 1)
        FAIL(UM_INVALID, err, "answer: expected at least one token, found none");
    size_t n_total;
    if (__builtin_add_overflow(options->n_prompt, options->n_answer, &n_total) ||
        n_total > (size_t)info->context)
        FAIL(UM_LIMIT, err,
             "%zu tokens of the prompt and %zu of the answer are more than the model's context of "
             "%d",
             options->n_prompt, options->n_answer, info->context);
    if (options->n_samples < 1 || options->n_samples > SCORE_SAMPLES_MAX)
        FAIL(UM_INVALID, err, "n_samples: expected 1 to %d, found %d", SCORE_SAMPLES_MAX,
             options->n_samples);
    if (!isfinite(options->cfg_scale) || options->cfg_scale < 0)
        FAIL(UM_INVALID, err, "cfg_scale: expected a number from 0 on, found %g",
             options->cfg_scale);
    bool is_causal = info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    if (!is_causal && options->block_len != 0)
        FAIL(UM_INVALID, err,
             "block_len: expected none, found %d: with full attention the answer is not cut",
             options->block_len);
    int32_t block_len = options->block_len ? options->block_len : info->block_len;
    if (is_causal && (block_len < 1 || block_len > info->context))
        FAIL(UM_INVALID, err, "block_len: expected 1 to %d (the context), found %d", info->context,
             block_len);
    int32_t n_prompt = (int32_t)options->n_prompt;
    *layout = (score_layout){
        .is_causal = is_causal,
        .is_shifted = info->is_shifted,
        .n_prompt = n_prompt,
        .n_total = (int32_t)n_total,
        .block_len = is_causal ? block_len : (int32_t)n_total,
        .n_blocks = 1,
    };
    if (!is_causal) return UM_OK;
    layout->i_first = n_prompt / block_len;
    layout->n_blocks = (layout->n_total - 1) / block_len + 1 - layout->i_first;
    return UM_OK;
}

score_block score_layout_block(const score_layout *layout, int32_t i) {
    assert(i >= 0 && i < layout->n_blocks);
    score_block block = {.number = layout->i_first + i};
    int64_t end = ((int64_t)block.number + 1) * layout->block_len;
    block.start = block.number * layout->block_len;
    block.end = end < layout->n_total ? (int32_t)end : layout->n_total;
    block.first = block.start > layout->n_prompt ? block.start : layout->n_prompt;
    block.has_seed = layout->is_causal && layout->is_shifted && block.first == block.start;
    block.first += block.has_seed;
    block.n = block.end - block.first;
    return block;
}

/* The k-th largest of n numbers, k from 1: Hoare's selection. Moves the numbers. */
static double select_largest(double *numbers, int32_t n, int32_t k) {
    int32_t low = 0, high = n - 1, target = k - 1;
    while (low < high) {
        double pivot = numbers[low + (high - low) / 2];
        int32_t i = low, j = high;
        while (i <= j) {
            while (numbers[i] > pivot) i++;
            while (numbers[j] < pivot) j--;
            if (i > j) break;
            double moving = numbers[i];
            numbers[i++] = numbers[j];
            numbers[j--] = moving;
        }
        if (target <= j)
            high = j;
        else if (target >= i)
            low = i;
        else
            break;
    }
    return numbers[target];
}

/* Positions that are masked, 1 to n. */
static int32_t draw_count(const um_score_options *options, const score_block *block,
                          int32_t i_sample) {
    rng_key key = {.seed = options->seed, .request = options->item};
    double u = rng_uniform(&key, RNG_PURPOSE_SCORE_COUNT, (uint32_t)block->number);
    int64_t start = (int64_t)(u * block->n);
    if (start >= block->n) start = block->n - 1; /* the product may be rounded up */
    int64_t shift = (int64_t)i_sample * block->n / options->n_samples;
    return (int32_t)((start + shift) % block->n) + 1;
}

void score_draw_masks(const um_score_options *options, const score_block *block, int32_t i_sample,
                      double *draws, uint8_t *masked) {
    if (block->n == 0) return;
    double *ranked = draws + block->n;
    int32_t n_left = draw_count(options, block, i_sample);
    for (int32_t i = 0; i < block->n; i++) {
        rng_key key = {.seed = options->seed,
                       .request = options->item,
                       .position = (uint32_t)(block->first + i),
                       .step = (uint32_t)i_sample};
        ranked[i] = draws[i] = rng_uniform(&key, RNG_PURPOSE_SCORE_MASK, 0);
    }
    double least = select_largest(ranked, block->n, n_left);
    for (int32_t i = 0; i < block->n; i++) n_left -= draws[i] > least;
    /* Of equal draws the lower positions are masked. */
    for (int32_t i = 0; i < block->n; i++)
        masked[i] = draws[i] > least || (draws[i] == least && n_left-- > 0);
}

um_status um_score_masks(const um_model_info *info, const um_score_options *options,
                         int32_t i_sample, uint8_t *masked, um_error *err) {
    score_layout layout;
    TRY(score_layout_init(&layout, info, options, err));
    if (i_sample < 0 || i_sample >= options->n_samples)
        FAIL(UM_INVALID, err, "i_sample: expected 0 to %d, found %d", options->n_samples - 1,
             i_sample);
    double *draws = memory_alloc_array(options->n_answer * 2, sizeof *draws);
    if (!draws) FAIL(UM_NO_MEMORY, err, "no memory for %zu draws", options->n_answer * 2);
    memset(masked, 0, options->n_answer);
    for (int32_t i = 0; i < layout.n_blocks; i++) {
        score_block block = score_layout_block(&layout, i);
        score_draw_masks(options, &block, i_sample, draws, masked + block.first - layout.n_prompt);
    }
    memory_free(draws);
    return UM_OK;
}
