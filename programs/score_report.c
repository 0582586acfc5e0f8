/* SPDX-License-Identifier: Apache-2.0
 *
 * The best choice is the one with the highest log-likelihood, and apart from that the one with the
 * highest for each of its tokens; of equal ones the first.
 */
#include "programs/score_report.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

#define BITS_PER_NAT 1.4426950408889634

static double per_token(const score_value *v) {
    return v->result.log_likelihood / v->result.n_tokens;
}

static size_t find_best(const score_value *values, size_t n, bool is_per_token) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        double a = is_per_token ? per_token(&values[i]) : values[i].result.log_likelihood;
        double b = is_per_token ? per_token(&values[best]) : values[best].result.log_likelihood;
        if (a > b) best = i;
    }
    return best;
}

/* ---- JSON --------------------------------------------------------------------------------- */

static json_t *new_ids(const int32_t *ids, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++) json_array_append_new(array, json_integer(ids[i]));
    return array;
}

/* The masked positions of the answer, an array for each block: [[0, 3], [7]]. */
static json_t *new_mask(const um_score_options *o, int32_t block_len, const uint8_t *masked) {
    json_t *blocks = json_array(), *positions = NULL;
    size_t i_block = SIZE_MAX;
    for (size_t i = 0; blocks && i < o->n_answer; i++) {
        size_t at = block_len ? (o->n_prompt + i) / (size_t)block_len : 0;
        if (at != i_block) {
            i_block = at;
            positions = json_array();
            json_array_append_new(blocks, positions);
        }
        if (masked[i]) json_array_append_new(positions, json_integer((json_int_t)i));
    }
    return blocks;
}

static um_status add_samples(const score_report *report, const score_value *v, json_t *object,
                             um_error *err) {
    const um_score_options *o = &v->options;
    bool is_causal = report->info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    int32_t block_len = !is_causal ? 0 : o->block_len ? o->block_len : report->info->block_len;
    uint8_t *masked = memory_alloc(o->n_answer);
    json_t *samples = json_array();
    um_status status = UM_OK;
    if (!masked || !samples)
        status = um_error_set(err, UM_NO_MEMORY, "no memory for %d samples", o->n_samples);
    for (int32_t s = 0; status == UM_OK && s < o->n_samples; s++) {
        status = um_score_masks(report->info, o, s, masked, err);
        if (status == UM_OK)
            json_array_append_new(samples, json_pack("{s:f, s:o}", "log_likelihood", v->samples[s],
                                                     "masked", new_mask(o, block_len, masked)));
    }
    if (status == UM_OK) {
        json_object_set_new(object, "block", json_integer(block_len));
        json_object_set_new(object, "prompt_ids", new_ids(o->prompt, o->n_prompt));
        json_object_set_new(object, "answer_ids", new_ids(o->answer, o->n_answer));
        json_object_set(object, "samples", samples);
    }
    json_decref(samples);
    memory_free(masked);
    return status;
}

static um_status new_answer(const score_report *report, const score_value *v, json_t **object,
                            um_error *err) {
    const um_score_result *r = &v->result;
    json_t *error = isnan(r->standard_error) ? json_null() : json_real(r->standard_error);
    *object = json_pack("{s:f, s:o, s:f, s:f, s:i, s:i, s:I}", "log_likelihood", r->log_likelihood,
                        "standard_error", error, "per_token", per_token(v), "bits_per_token",
                        per_token(v) * -BITS_PER_NAT, "n_tokens", r->n_tokens, "n_samples",
                        r->n_samples, "seed", (json_int_t)v->options.seed);
    if (!*object) FAIL(UM_NO_MEMORY, err, "no memory for a result");
    return report->has_masks ? add_samples(report, v, *object, err) : UM_OK;
}

static um_status new_choices(const score_report *report, const score_item *item,
                             const score_value *values, json_t **object, um_error *err) {
    json_t *list = json_array();
    *object = json_pack("{s:o}", "choices", list);
    if (!*object) FAIL(UM_NO_MEMORY, err, "no memory for a result");
    for (size_t i = 0; i < item->n_answers; i++) {
        json_t *answer = NULL;
        um_status status = new_answer(report, &values[i], &answer, err);
        json_array_append_new(list, answer);
        if (status != UM_OK) return status;
    }
    size_t best = find_best(values, item->n_answers, false);
    size_t best_per_token = find_best(values, item->n_answers, true);
    json_object_set_new(*object, "best", json_integer((json_int_t)best));
    json_object_set_new(*object, "best_per_token", json_integer((json_int_t)best_per_token));
    if (item->label >= 0) json_object_set_new(*object, "label", json_integer(item->label));
    return UM_OK;
}

static um_status print_object(const json_t *object, um_error *err) {
    char *line = json_dumps(object, JSON_REAL_PRECISION(12));
    if (!line) FAIL(UM_NO_MEMORY, err, "no memory for a line of JSON");
    puts(line);
    free(line);
    return UM_OK;
}

static um_status print_json(const score_report *report, const score_item *item, size_t i_item,
                            const score_value *values, um_error *err) {
    json_t *object = NULL;
    um_status status = item->has_choices ? new_choices(report, item, values, &object, err)
                                         : new_answer(report, values, &object, err);
    if (status == UM_OK && report->has_many)
        json_object_set_new(object, "item", json_integer((json_int_t)i_item));
    if (status == UM_OK) status = print_object(object, err);
    json_decref(object);
    return status;
}

/* ---- Text --------------------------------------------------------------------------------- */

static void print_error(double error) {
    if (isnan(error))
        printf("%11s", "-");
    else
        printf("%11.4f", error);
}

/* The columns of a table's row, without the first. */
static void print_columns(const score_value *v) {
    printf("  %14.4f", v->result.log_likelihood);
    print_error(v->result.standard_error);
    printf("  %10.4f  %10.4f  %6d", per_token(v), per_token(v) * -BITS_PER_NAT, v->result.n_tokens);
}

static void print_heading(const char *first) {
    printf("%6s  %14s%11s  %10s  %10s  %6s\n", first, "log-likelihood", "error", "per token",
           "bits/token", "tokens");
}

static void print_alone(const score_value *v) {
    const um_score_result *r = &v->result;
    printf("log-likelihood  %12.4f", r->log_likelihood);
    if (!isnan(r->standard_error)) printf(" +/- %.4f", r->standard_error);
    printf("\nper token       %12.4f\nbits per token  %12.4f\n", per_token(v),
           per_token(v) * -BITS_PER_NAT);
    printf("tokens          %7d\nsamples         %7d\n", r->n_tokens, r->n_samples);
}

static void print_choices(const score_item *item, const score_value *values) {
    print_heading("choice");
    for (size_t i = 0; i < item->n_answers; i++) {
        printf("%6zu", i);
        print_columns(&values[i]);
        putchar('\n');
    }
    printf("best: %zu; for each token: %zu\n", find_best(values, item->n_answers, false),
           find_best(values, item->n_answers, true));
}

static void print_line(const score_item *item, size_t i_item, const score_value *values) {
    if (i_item == 0) print_heading("item");
    size_t best = item->has_choices ? find_best(values, item->n_answers, false) : 0;
    printf("%6zu", i_item);
    print_columns(&values[best]);
    if (item->has_choices) {
        printf("  choice %zu; for each token %zu", best, find_best(values, item->n_answers, true));
        if (item->label >= 0)
            printf("; label %d, %s", item->label, (size_t)item->label == best ? "right" : "wrong");
    }
    putchar('\n');
}

/* ---- Both --------------------------------------------------------------------------------- */

um_status score_report_item(score_report *report, const score_item *item, size_t i_item,
                            const score_value *values, um_error *err) {
    if (!item->has_choices) {
        report->n_answers++;
        report->sum += values->result.log_likelihood;
    } else if (item->label >= 0) {
        size_t label = (size_t)item->label;
        report->n_labels++;
        report->n_right += find_best(values, item->n_answers, false) == label;
        report->n_right_per_token += find_best(values, item->n_answers, true) == label;
    }
    if (report->is_json) return print_json(report, item, i_item, values, err);
    if (report->has_many)
        print_line(item, i_item, values);
    else if (item->has_choices)
        print_choices(item, values);
    else
        print_alone(values);
    return UM_OK;
}

static json_t *new_mean(double sum, size_t n) {
    return n ? json_real(sum / (double)n) : json_null();
}

um_status score_report_end(const score_report *report, size_t n_items, um_error *err) {
    double n_right = (double)report->n_right, n_per_token = (double)report->n_right_per_token;
    if (!report->has_many) return UM_OK;
    if (report->is_json) {
        json_t *object = json_pack("{s:I, s:o, s:o, s:o}", "items", (json_int_t)n_items,
                                   "mean_log_likelihood", new_mean(report->sum, report->n_answers),
                                   "accuracy", new_mean(n_right, report->n_labels),
                                   "accuracy_per_token", new_mean(n_per_token, report->n_labels));
        um_status status = print_object(object, err);
        json_decref(object);
        return status;
    }
    if (report->n_answers)
        printf("mean log-likelihood of %zu answers: %.4f\n", report->n_answers,
               report->sum / (double)report->n_answers);
    if (report->n_labels)
        printf("right: %zu of %zu (%.1f %%); for each token: %zu (%.1f %%)\n", report->n_right,
               report->n_labels, 100 * n_right / (double)report->n_labels,
               report->n_right_per_token, 100 * n_per_token / (double)report->n_labels);
    return UM_OK;
}
