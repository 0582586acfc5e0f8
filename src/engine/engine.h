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

#include "cache/page_pool.h"
#include "cache/prefix_index.h"
#include "engine/ahead.h"
#include "engine/pace.h"
#include "kernels/device_scratch.h"
#include "kernels/ops.h"
#include "models/model.h"
#include "unmask.h"

enum {
    REQUEST_LANES_MAX = 2,  /* the sequence itself, and its unconditional half under guidance */
    REQUEST_EVENTS_MAX = 6, /* accepted, prefill, step, block, and the last one */
    STEP_ROWS_MAX = 4096,   /* rows of a step, unless one request alone has more */
    PREFILL_CHUNK = 512,    /* prompt tokens a forward, by default */
    WINDOW_BLOCKS = 4,      /* of a policy with several open blocks, by default */
    WINDOW_BLOCKS_MAX = 1024,
    STEPS_MAX = 1000000,
    FOLDS_UNDONE_MAX = 2, /* of a block, before its next one is taken along no more */
    STATE_BYTES_MAX = 1 << 30,
    STATE_GUARD_BYTES = 64, /* behind a policy's state, filled with STATE_GUARD */
    STATE_GUARD = 0xA5
};

typedef struct plugin plugin;
typedef struct request_constraint request_constraint;

/* A request's options, with every default filled in. */
typedef struct request_settings {
    const um_policy *policy;
    plugin *plugin; /* what the policy came from, or NULL; closed with the request */
    um_policy_params params;
    int32_t max_tokens;
    int32_t block_len; /* of the mask; of the schedule where attention is full */
    int32_t unit_len;  /* positions that a policy calls a block: block_len or a part of it */
    int32_t prefill_chunk;
    um_cache_mode cache; /* never DEFAULT; EXACT for full attention means NONE */
    double temperature, top_p, min_p;
    int32_t top_k;
    float cfg_scale;
    int32_t top_logprobs; /* -1: none */
    int32_t priority;
    bool folds;               /* a forward that may settle a block takes the next one along */
    bool is_causal;           /* the mask is block-causal */
    bool has_prompt_block;    /* ... and the whole prompt is its first block */
    int32_t removed_token;    /* logits_eos_inf: never proposed; -1: none */
    int32_t unsure_tokens[2]; /* confidence_eos_eot_inf: have no confidence; -1: none */
    rng_key key;              /* seed and request; position and step are filled in for each draw */
} request_settings;

/* What a request does to its logits, and its end tokens (logit_rules.c). */
typedef struct logit_rules {
    bool is_used; /* some logit may change */
    float frequency_penalty, presence_penalty, repetition_penalty;
    int32_t min_end; /* positions before it take no end token */
    int32_t n_bias, n_ends, n_prompt, n_answer, n_list, n_early;
    um_logit_bias *bias; /* [n_bias] by rising token */
    int32_t *ends;       /* [n_ends] by rising token */
    int32_t
        *prompt; /* [n_prompt] distinct tokens of it and of a suffix, with a repetition penalty */
    int32_t *answer;         /* [n_answer] its committed tokens, sorted */
    logit_adjustment *list;  /* [n_list] of the step */
    logit_adjustment *early; /* [n_early] of the step, for positions before min_end */
} logit_rules;

/* One sequence of positions with its pages. Lane 1 has the prompt masked. */
typedef struct lane {
    int32_t *tokens; /* [n_canvas] */
    page_table pages;
    prefix_node *node; /* the last run of its beginning that is shared, or NULL */
    int32_t n_indexed; /* runs up to it */
} lane;

typedef enum request_phase {
    PHASE_WAITING = 0, /* for pages; it may have been put back */
    PHASE_PREFILL = 1,
    PHASE_DECODE = 2,
    PHASE_SEED =
        3, /* the finished block once more; its last row writes the next one's first token */
    PHASE_FINISHED = 4 /* the last event is queued or taken; holds no page */
} request_phase;

struct um_request {
    um_engine *engine;
    um_request *next; /* state_lock; in order of rank: priority, then age */
    request_settings settings;
    int32_t n_prompt, n_canvas, n_lanes;
    int32_t decode_end; /* positions from here on are no window's: of a suffix, and behind it */
    lane lanes[REQUEST_LANES_MAX];
    uint8_t *states; /* [n_canvas] um_position_state */
    char *policy_args;
    logit_rules rules;

    request_phase phase;
    request_phase next_phase; /* after the prefill: DECODE or SEED */
    int32_t origin;           /* where blocks are counted from */
    int32_t n_carried;        /* blocks that the last step finished with a change */
    int32_t n_prefill;        /* positions that are prefilled: whole blocks */
    int32_t n_cached;         /* prompt tokens that were in the prefix cache */
    int32_t preemptions;
    bool is_started;                  /* accepted once; stays true where it is put back */
    bool has_opened;                  /* the policy has widened the window for the next step */
    int32_t n_final;                  /* positions whose final keys and values are in their slots */
    int32_t window_first, window_end; /* the open blocks: what the policy sees */
    int32_t i_step;                   /* steps since the first of them became the first */
    int32_t step;                     /* steps of all blocks: what draws are keyed by */
    int32_t forwards, prefill_forwards;
    int64_t prefill_ns, decode_ns;
    int64_t last_step; /* number of the step it last took part in */
    bool is_queued;    /* state_lock; counts for max_queue */

    /* Its part of the step being made. */
    bool is_secured;              /* has pages for its next span */
    int32_t i_rank;               /* place in the list */
    int32_t prefill_rows;         /* positions of a prompt that the step has room for */
    int32_t span_first, span_end; /* positions, the same in every lane */
    int32_t first_row[REQUEST_LANES_MAX];
    int32_t n_undone; /* forwards of this window that took the next block along in vain */
    int32_t first_score, n_scores; /* into the plan's score requests */
    int32_t
        n_ahead; /* behind them those of the next block: they hold if the open one has settled */

    /* What the policy sees and writes, for windows of up to n_window positions. */
    int32_t n_window;
    um_candidate *candidates;
    int32_t *order, *view_tokens;
    uint8_t *view_states;
    double *keys;
    um_policy_change *changes; /* one more than n_window: a guard */
    const float **logit_rows;
    float *logits; /* [n_window, and a block where it folds; vocab], or NULL: where the policy
                      sees logits, or log-probabilities are asked for */
    um_token_logprob *top_tokens; /* [n_window, top_logprobs], or NULL */
    unsigned char *state;         /* state_bytes and a guard, or NULL */
    size_t state_bytes;
    request_constraint *constraint; /* or NULL */

    /* Events; `is_drained` and the queue under state_lock. */
    um_event events[REQUEST_EVENTS_MAX];
    int32_t n_events, i_event;
    bool is_drained;
    int32_t n_staged;                    /* events written by a step and not yet published */
    int32_t *event_inputs, *event_block; /* [n_window and a block] */
    int32_t n_event_block;               /* of it in use by the step's events */
    um_change *event_changes;            /* [n_window] */
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
    device_scratch scratch;
} step_plan;

struct um_engine {
    pthread_mutex_t step_lock, state_lock;
    device *dev;
    model *mdl;
    page_pool *pool;
    kv_layer *kv; /* [n_layers] */
    um_kv_type kv_type;
    int64_t n_steps, max_step_ns;
    int32_t max_requests, max_queue; /* 0: no bound */
    prefix_index *prefixes;          /* NULL: nothing is shared */
    pace pace;
    step_plan plan;
    steps_ahead ahead;    /* step_lock */
    um_stats stats;       /* step_lock: counters */
    um_stats published;   /* state_lock: as the last step left them */
    um_request *requests; /* state_lock; in order of rank */
    int32_t n_requests;   /* state_lock */
    int32_t n_queued;     /* state_lock: those that were never accepted */
    um_request **ready;   /* state_lock: [ready_capacity] room for all requests */
    int32_t ready_capacity;
};

/* ---- engine.c ----------------------------------------------------------------------------- */

/* Makes the counters visible, and how requests and pages stand. Both locks held. */
void engine_publish_stats(um_engine *engine);

/* ---- schedule.c --------------------------------------------------------------------------- */

/* Ends what was cancelled, gives running requests the pages of their next span, admits what waits.
 * Sets is_secured of those that can take part in the step. Returns whether a request has ended or
 * was admitted. Both locks held. */
bool schedule_pages(um_engine *engine);

/* ---- prefix.c ----------------------------------------------------------------------------- */

/* True where the beginning of a request may be shared. */
bool prefix_is_shared(const um_request *request);
/* Takes what is cached of the first n_tokens into empty tables: n_cached of them, frozen. */
um_status prefix_attach(um_request *request, int32_t n_tokens, int32_t *n_cached, um_error *err);
/* Shares what is frozen. */
void prefix_publish(um_request *request);
/* Before its pages are given back. */
void prefix_detach(um_request *request);

/* ---- plugin.c ----------------------------------------------------------------------------- */

/* Loads a policy from a shared object; on success *out is the caller's. */
um_status plugin_open(const char *path, plugin **out, um_error *err);
const um_policy *plugin_policy(const plugin *p);
void plugin_close(plugin *p); /* accepts NULL */

/* ---- settings.c --------------------------------------------------------------------------- */

/* Checks options against the model and fills every default. A plugin in the settings is the
 * caller's, also after a failure. */
um_status settings_resolve(const um_engine *engine, const um_request_options *options,
                           request_settings *settings, um_error *err);

/* True where committed positions may take another token. */
bool settings_may_edit(const request_settings *settings);

/* ---- logit_rules.c ------------------------------------------------------------------------ */

/* Checks the options that rules and log-probabilities are made of. */
um_status logit_rules_check(const um_model_info *info, const um_request_options *options,
                            um_error *err);
/* rules is zeroed; options are checked. What it holds is freed by logit_rules_deinit, also after a
 * failure. */
um_status logit_rules_init(logit_rules *rules, const um_model_info *info,
                           const um_request_options *options, int32_t n_canvas, um_error *err);
void logit_rules_deinit(logit_rules *rules);
/* Counts what is committed, before a step; its lists stay as they are until the next one. */
void logit_rules_update(um_request *request);
/* Puts what holds for a position into its score request. */
void logit_rules_apply(const um_request *request, int32_t position, score_request *q);
/* True where they stay what they are through the steps of a block. */
bool logit_rules_are_fixed(const um_request *request);
/* True where a position's token ends the text there. */
bool logit_rules_end_text(const um_request *request, int32_t position);

/* ---- logprobs.c --------------------------------------------------------------------------- */

/* Fills log_probability and the top tokens of a step's i-th change: position and token are set. */
void logprobs_fill(const um_engine *engine, um_request *request, int32_t i_change,
                   um_change *change);

/* ---- request.c ---------------------------------------------------------------------------- */

/* Opens the window of one block that starts at `first`. */
void request_open_window(um_request *request, int32_t first);
/* True where every block begins with a forward over the canvas that writes its first token alone: a
 * cache is kept stale and logits are shifted, so later forwards lack the row before the block. */
bool request_is_stale(const um_request *request);
/* The start of the mask's block that holds a position. */
int32_t request_block_start(const um_request *request, int32_t position);
/* Next free event slot, cleared; it is published with the step's others. */
um_event *request_stage_event(um_request *request, um_event_kind kind);
/* True where a position of the window is undecided. */
bool request_has_mask(const um_request *request);
/* Ends a request with an error; gives its pages back. step_lock held. */
void request_fail(um_request *request, const um_error *err);
/* Ends a request well; gives its pages back. step_lock held. */
void request_finish(um_request *request, um_finish_reason reason, int32_t n_tokens);
void request_release_pages(um_request *request);

/* ---- plan.c ------------------------------------------------------------------------------- */

void plan_clear(step_plan *plan);
void plan_deinit(step_plan *plan);
/* Where the request's next span ends. */
int32_t plan_span_end(const um_engine *engine, const um_request *request);
/* Rows that it takes in all its lanes. */
int64_t plan_rows_of(const um_engine *engine, const um_request *request);
/* Adds the request's next span to the plan. UM_NO_MEMORY is the request's fault alone. */
um_status plan_add(um_engine *engine, um_request *request, um_error *err);
/* The kernels' view of the plan. */
model_batch plan_batch(const um_engine *engine);

/* ---- decide.c ----------------------------------------------------------------------------- */

/* Lets a policy of several blocks widen its window before a forward, once. */
um_status decide_open(um_engine *engine, um_request *request, um_error *err);
/* Shows the policy the scores of a step and checks what it decides. */
um_status decide(um_engine *engine, um_request *request, um_policy_decision *d, um_error *err);
/* The token of the request's only score, with its confidence. */
um_status decide_seed(um_engine *engine, um_request *request, um_change *change, um_error *err);

/* ---- constrain.c -------------------------------------------------------------------------- */

/* Holds the constraint for a request whose window is allocated. UM_INVALID where max_tokens do not
 * hold the shortest document. */
um_status constrain_create(um_request *request, um_constraint *constraint, um_error *err);
void constrain_destroy(um_request *request); /* accepts a request without a constraint */
/* Before positions [first, end) are scored: everything before them stands, everything behind them
 * is open. UM_OK without a constraint. */
um_status constrain_begin(um_request *request, int32_t first, int32_t end, um_error *err);
/* score_request.allowed of a position in [first, end), valid until the next constrain_begin; NULL:
 * every token. */
const uint32_t *constrain_allowed(um_request *request, int32_t position);
/* Takes out of a decision what would leave no way to complete the answer: commits are looked at
 * from the surest on, then edits, each beside those before it. One commit is always left. */
um_status constrain_decision(um_request *request, um_policy_decision *d, um_error *err);

/* ---- apply.c ------------------------------------------------------------------------------ */

/* The first end token of the window with nothing undecided before it, or -1. */
int32_t apply_find_stop(const um_request *request);
/* Takes the scores of a planned request, changes its block, stages its events. step_lock held. */
void apply_step(um_engine *engine, um_request *request, int64_t elapsed_ns);

#endif
