/* SPDX-License-Identifier: Apache-2.0
 *
 * What `unmask score` prints: aligned lines for people, or JSON objects. Sums up on the way for the
 * last line of many items.
 */
#ifndef PROGRAMS_SCORE_REPORT_H
#define PROGRAMS_SCORE_REPORT_H

#include "programs/score_items.h"

/* One scored answer. samples [n_samples] f64, or NULL where samples are not printed. */
typedef struct score_value {
    um_score_options options;
    um_score_result result;
    double *samples;
} score_value;

typedef struct score_report {
    bool is_json, has_masks, has_many; /* has_many: a line an item */
    const um_model_info *info;         /* for the masks */
    size_t n_answers, n_labels, n_right, n_right_per_token;
    double sum; /* of the log-likelihoods of items with one answer */
} score_report;

/* Prints an item; values [item->n_answers]. */
um_status score_report_item(score_report *report, const score_item *item, size_t i_item,
                            const score_value *values, um_error *err);
/* The last line where there are many items. */
um_status score_report_end(const score_report *report, size_t n_items, um_error *err);

#endif
