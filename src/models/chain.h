/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps that follow each other on the device: the first one is any forward, those behind it are of
 * one shape, go over the open blocks that it scores, and take their tokens from what the operation
 * `decide` has made of the scores before. The host queues a step before it knows what the last one
 * says; a gate on the device keeps it from being done where a block has come to its end.
 *
 *   on the device: blocks | i_score | rows | states | gate | tokens | scores | head's requests
 *                  | inputs of the steps that follow          what a step reports is side by side
 */
#ifndef MODELS_CHAIN_H
#define MODELS_CHAIN_H

#include "models/step_inputs.h"
#include "models/transformer.h"

/* What a chain is made of; the host's. */
typedef struct model_chain {
    /* The steps that follow: request i is that of the first step, at its row here. */
    model_batch next;
    int32_t n_blocks, n_items;
    const decide_block *blocks; /* [n_blocks] */
    /* [n_items], as decide_args has them; rows are those of `next`. */
    const int32_t *i_score, *rows, *states, *tokens;
} model_chain;

/* Where a chain lies. Zero-initialised is empty; chain_place_deinit while the device is open. */
typedef struct chain_place {
    device_scratch scratch; /* what stays from step to step */
    decide_args decide;     /* addresses of the device, as all that follows but `reports` */
    step_inputs inputs;     /* of the steps that follow */
    void *head;
    void *reports[DEVICE_MARKS]; /* [reports_capacity] host: what steps have reported */
    size_t reports_capacity;
} chain_place;

/* What a step has left; valid until the step after the next one is queued. */
typedef struct chain_report {
    const device_gate *gate; /* closed: the step behind it is not done */
    const int32_t *tokens;   /* [n_items] after it was decided */
    const score *scores;     /* [n_requests of the batch] */
} chain_report;

void chain_place_deinit(chain_place *place);
/* Makes room for a chain behind a batch: the only call that allocates. */
um_status chain_reserve(const transformer *t, device *dev, const model_batch *first,
                        const model_chain *chain, device_scratch *scratch, chain_place *place,
                        um_error *err);
/* Queues the first step. Each request of `first` has a row to itself;
 * what requests may not ask for is head_placed's rule (kernels/ops.h). scratch, place: as
 * chain_reserve has left them. */
um_status chain_begin(const transformer *t, device *dev, const kv_layer *kv,
                      const model_batch *first, const model_chain *chain, device_scratch *scratch,
                      chain_place *place);
/* Queues step i_step of the chain, from 1. UM_UNSUPPORTED: the device has no gates; nothing is
 * queued. */
um_status chain_next(const transformer *t, device *dev, const kv_layer *kv,
                     const model_chain *chain, device_scratch *scratch, chain_place *place,
                     int i_step);
/* Waits for the report of step i_step. */
um_status chain_take(device *dev, const chain_place *place, int i_step, chain_report *report);

#endif
