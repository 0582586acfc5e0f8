/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's own structs. Two locks, always taken in this order:
 *
 *   step_lock   held through a step, and by whoever touches pages, the model or the planned step
 *   state_lock  held briefly: the list of requests, their phases and their queued events
 *
 * A request takes part in a step only when its events have been taken (is_drained), so the buffers
 * that events point into are never written while a host program may read them.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "cache/page_pool.h"
#include "decode/policy.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "models/model.h"
#include "unmask.h"

enum {
    REQUEST_LANES_MAX = 2,  /* the sequence itself, and its unconditional half under guidance */
    REQUEST_EVENTS_MAX = 6, /* accepted, prefill, step, block, and the last one */
    STEP_ROWS_MAX = 4096,   /* rows of a step, unless one request alone has more */
    PREFILL_CHUNK = 512     /* prompt tokens a forward, by default */
};

/* A request's options, with every default filled in. */
typedef struct request_settings {
    const policy *policy;
    policy_params params;
    int32_t max_tokens, block_len, prefill_chunk;
    um_cache_mode cache; /* never DEFAULT; EXACT for full attention means NONE */
    double temperature, top_p, min_p;
    int32_t top_k;
    float cfg_scale;
    bool ignore_eos;
    rng_key key; /* seed and request; position and step are filled in for each draw */
} request_settings;

/* One sequence of positions with its pages. Lane 1 has the prompt masked. */
typedef struct lane {
    int32_t *tokens; /* [n_canvas] */
    page_table pages;
} lane;

typedef enum request_phase {
    PHASE_WAITING = 0, /* for pages */
    PHASE_PREFILL = 1,
    PHASE_DECODE = 2,
    PHASE_FINISHED = 3 /* the last event is queued or taken; holds no page */
} request_phase;

struct um_request {
    um_engine *engine;
    um_request *next; /* state_lock; in order of creation */
    request_settings settings;
    int32_t n_prompt, n_canvas, n_lanes;
    lane lanes[REQUEST_LANES_MAX];
    uint8_t *states; /* [n_canvas] position_state */

    request_phase phase;
    int32_t n_final;                /* positions whose final keys and values are in their slots */
    int32_t block_first, block_end; /* the open block */
    int32_t i_step;                 /* forwards of that block so far */
    policy_state policy;
    int32_t forwards, prefill_forwards;
    int64_t prefill_ns, decode_ns;
    int64_t last_step; /* number of the step it last took part in */

    /* Its part of the step being made. */
    int32_t span_first, span_end; /* positions, the same in every lane */
    int32_t first_row[REQUEST_LANES_MAX];
    int32_t first_score, n_scores; /* into the plan's score requests */

    /* Scratch of a decision, [longest block]. */
    candidate *candidates;
    int32_t *order;
    policy_change *changes;

    /* Events; `is_drained` and the queue under state_lock. */
    um_event events[REQUEST_EVENTS_MAX];
    int32_t n_events, i_event;
    bool is_drained;
    int32_t n_staged;                    /* events written by a step and not yet published */
    int32_t *event_inputs, *event_block; /* [longest block] */
    um_change *event_changes;            /* [longest block] */
    atomic_bool is_cancelled;
};

/* The rows of a step. Arrays grow while a step is planned and never inside it. */
typedef struct step_plan {
    int32_t n_rows, rows_capacity;
    int32_t *tokens, *positions, *seq, *visible_end; /* [rows_capacity] */
    int32_t n_scores, scores_capacity;
    score_request *score_requests; /* [scores_capacity] */
    score *scores;
    int32_t n_tables, tables_capacity;
    kv_table *tables;
    int32_t n_requests, requests_capacity;
    um_request **requests; /* taking part */
    arena scratch;
} step_plan;

struct um_engine {
    pthread_mutex_t step_lock, state_lock;
    device *dev;
    model *mdl;
    page_pool *pool;
    kv_layer *kv; /* [n_layers] */
    int64_t n_steps;
    step_plan plan;
    um_request *requests; /* state_lock; oldest first */
};

/* ---- settings.c --------------------------------------------------------------------------- */

/* Checks options against the model and fills every default. */
um_status settings_resolve(const um_engine *engine, const um_request_options *options,
                           request_settings *settings, um_error *err);

/* ---- request.c ---------------------------------------------------------------------------- */

/* Opens the block that starts at `first`. */
void request_open_block(um_request *request, int32_t first);
/* Next free event slot, cleared; it is published with the step's others. */
um_event *request_stage_event(um_request *request, um_event_kind kind);
/* Ends a request with an error; gives its pages back. step_lock held. */
void request_fail(um_request *request, const um_error *err);
/* Ends a request well; gives its pages back. step_lock held. */
void request_finish(um_request *request, um_finish_reason reason, int32_t n_tokens);
void request_release_pages(um_request *request);

/* ---- plan.c ------------------------------------------------------------------------------- */

void plan_clear(step_plan *plan);
void plan_deinit(step_plan *plan);
/* Rows that the request's next span takes in all its lanes. */
int64_t plan_rows_of(const um_engine *engine, const um_request *request);
/* Adds the request's next span to the plan. UM_NO_MEMORY is the request's fault alone. */
um_status plan_add(um_engine *engine, um_request *request, um_error *err);
/* The kernels' view of the plan. */
model_batch plan_batch(const um_engine *engine);

/* ---- apply.c ------------------------------------------------------------------------------ */

/* Takes the scores of a planned request, changes its block, stages its events. step_lock held. */
void apply_step(um_engine *engine, um_request *request, int64_t elapsed_ns);

#endif
