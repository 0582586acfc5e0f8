/* SPDX-License-Identifier: Apache-2.0
 *
 * The twins of policies that decide beside the scores (kernels/decide.h) against the policies
 * themselves: whole blocks of random scores with many ties, step by step, bit for bit, in every
 * tier.
 */
#include "decode/policy.h"
#include "kernel_check.h"

enum { N_MAX = 70, ROUNDS = 400, MASK = 7, VOCAB = 12, FIRST = 5, STATE_BYTES = 64 };

_Static_assert((int)DECIDE_FIXED == (int)UM_POSITION_PROMPT, "um_position_state");
_Static_assert((int)DECIDE_MASKED == (int)UM_POSITION_MASKED, "um_position_state");
_Static_assert((int)DECIDE_COMMITTED == (int)UM_POSITION_COMMITTED, "um_position_state");

/* A block as the policy sees it, and as its twin does. */
typedef struct pair {
    const um_policy *policy;
    um_policy_params params;
    rng_key key;
    int32_t n, i_step;
    unsigned char policy_state[STATE_BYTES];
    int32_t tokens[N_MAX];
    uint8_t states[N_MAX];
    um_candidate candidates[N_MAX];
    decide_block block;
    score scores[N_MAX];
    int32_t i_score[N_MAX], rows[N_MAX], twin_states[N_MAX], twin_tokens[N_MAX];
    int32_t row_tokens[2 * N_MAX];
    device_gate gate;
} pair;

static double draw(const um_policy_view *view, int32_t index) {
    rng_key key = *(const rng_key *)view->draw_key;
    key.position = (uint32_t)(view->first_position + index);
    return rng_uniform(&key, RNG_PURPOSE_REMASK, 0);
}

static int32_t below(uint64_t *seed, int32_t n) {
    return (int32_t)(check_random(seed) % (uint32_t)n);
}

static const um_policy *const policies[] = {&policy_threshold, &policy_schedule, &policy_static,
                                            &policy_dynamic, &policy_edit};
static const decide_rule rules[] = {DECIDE_BEST, DECIDE_BEST, DECIDE_BEST, DECIDE_BEST,
                                    DECIDE_EDIT};

/* A block of the i-th policy with random parameters, in a random state. */
static void make(pair *p, int i_policy, uint64_t *seed) {
    memset(p, 0, sizeof *p);
    p->policy = policies[i_policy];
    p->n = 1 + below(seed, N_MAX);
    p->key = (rng_key){.seed = check_random(seed), .request = check_random(seed), .step = 3};
    p->params = (um_policy_params){.steps = 1 + below(seed, 2 * p->n),
                                   .post_steps = below(seed, 4),
                                   .threshold = 0.25 * below(seed, 5),
                                   .edit_threshold = 0.25 * below(seed, 5),
                                   .is_inclusive = below(seed, 2),
                                   .is_random = i_policy == 1 && below(seed, 2)};
    bool is_static = p->policy == &policy_static, is_dynamic = p->policy == &policy_dynamic;
    p->block = (decide_block){
        .key = p->key,
        .threshold = is_static ? INFINITY : p->params.threshold,
        .edit_threshold = p->params.edit_threshold,
        .rule = p->params.is_random ? DECIDE_RANDOM : rules[i_policy],
        .n = p->n,
        .steps = p->params.steps,
        .post_steps = p->params.post_steps,
        .mask_token = MASK,
        .is_inclusive =
            p->params.is_inclusive && !is_static && !is_dynamic && p->policy != &policy_edit,
        .is_drawn = below(seed, 3) == 0,
        .is_tempered = below(seed, 2),
        .needs_mask = below(seed, 4) == 0,
    };
    p->block.key.position = FIRST;
    p->gate.is_open = 1;
    for (int32_t i = 0; i < p->n; i++) {
        p->states[i] = (uint8_t)(below(seed, 8) ? UM_POSITION_MASKED : UM_POSITION_PROMPT);
        p->tokens[i] = p->states[i] == UM_POSITION_MASKED ? MASK : below(seed, VOCAB);
        p->rows[i] = 2 * i + 1;
        p->twin_states[i] = p->states[i];
        p->twin_tokens[i] = p->row_tokens[p->rows[i]] = p->tokens[i];
    }
}

/* New scores of the positions that the policy sees; few different numbers, so that many tie. */
static void score_block(pair *p, uint64_t *seed) {
    bool is_edit = p->policy == &policy_edit;
    int32_t n_scores = 0;
    for (int32_t i = 0; i < p->n; i++) {
        bool is_scored = p->states[i] == UM_POSITION_MASKED ||
                         (is_edit && p->states[i] == UM_POSITION_COMMITTED);
        p->candidates[i] = (um_candidate){0};
        p->i_score[i] = is_scored ? n_scores : -1;
        if (!is_scored) continue;
        score *s = &p->scores[n_scores++];
        *s = (score){.is_finite = true, .token = below(seed, MASK), .drawn = below(seed, MASK)};
        s->probability = 0.125f * (float)below(seed, 9);
        s->forbidden_probability = below(seed, 3) ? 0 : 0.125f * (float)below(seed, 9);
        s->drawn_probability = 0.125f * (float)below(seed, 9);
        s->drawn_tempered = 0.125f * (float)below(seed, 9);
        um_candidate *c = &p->candidates[i]; /* engine/decide.c, candidate_of */
        c->token = p->block.is_drawn ? s->drawn : s->token;
        c->mask_probability = s->forbidden_probability;
        c->probability = !p->block.is_drawn     ? s->probability
                         : p->block.is_tempered ? s->drawn_tempered
                                                : s->drawn_probability;
        c->prefers_mask = !p->block.is_drawn && s->forbidden_probability > s->probability;
    }
}

/* One step of the policy; returns whether it finishes the block. */
static bool step_policy(pair *p) {
    um_policy_change changes[N_MAX];
    um_policy_decision d = {.changes = changes};
    int32_t order[N_MAX];
    double keys[N_MAX];
    um_policy_view view = {.params = &p->params,
                           .n = p->n,
                           .first_position = FIRST,
                           .block_len = p->n,
                           .i_step = p->i_step,
                           .vocab = VOCAB,
                           .mask_token = MASK,
                           .tokens = p->tokens,
                           .states = p->states,
                           .candidates = p->candidates,
                           .order = order,
                           .keys = keys,
                           .state = p->policy_state,
                           .draw = draw,
                           .draw_key = &p->key};
    p->policy->step(&view, &d);
    for (int32_t i = 0; i < d.n_changes; i++) {
        int32_t at = d.changes[i].index;
        p->tokens[at] = d.changes[i].token;
        p->states[at] =
            (uint8_t)(p->tokens[at] == MASK ? UM_POSITION_MASKED : UM_POSITION_COMMITTED);
    }
    p->i_step++;
    p->key.step++;
    return d.n_finished > 0;
}

/* Steps until the block is finished; returns how many there were. */
static int32_t run(device *dev, int i_policy, uint64_t seed) {
    static pair p;
    int32_t n_steps = 0;
    make(&p, i_policy, &seed);
    decide_args args = {.blocks = &p.block,
                        .scores = p.scores,
                        .i_score = p.i_score,
                        .rows = p.rows,
                        .states = p.twin_states,
                        .tokens = p.twin_tokens,
                        .row_tokens = p.row_tokens,
                        .gate = &p.gate,
                        .n_blocks = 1};
    for (bool is_finished = false; !is_finished && n_steps < 8 * N_MAX; n_steps++) {
        score_block(&p, &seed);
        is_finished = step_policy(&p);
        p.gate.is_open = 1;
        assert_int_equal(dev->ops->decide(dev, &args), UM_OK);
        int32_t n_masked = 0;
        for (int32_t i = 0; i < p.n; i++) {
            if (p.twin_tokens[i] != p.tokens[i] || p.twin_states[i] != p.states[i] ||
                p.row_tokens[p.rows[i]] != p.tokens[i])
                fail_msg(
                    "%s: %s, seed %llu, step %d, position %d: token %d, state %d; the "
                    "policy's are %d and %d",
                    dev->tier, p.policy->name, (unsigned long long)seed, n_steps, i,
                    p.twin_tokens[i], p.twin_states[i], p.tokens[i], p.states[i]);
            assert_int_equal(p.row_tokens[2 * i], 0);
            n_masked += p.states[i] == UM_POSITION_MASKED;
        }
        bool goes_on = !is_finished && (n_masked || !p.block.needs_mask);
        assert_int_equal(p.gate.is_open, goes_on);
        assert_int_equal(p.gate.n_steps, n_steps + 1);
    }
    return n_steps;
}

static void twins_follow_their_policies(void **state) {
    (void)state;
    for (int t = 0; t < N_TIERS; t++) {
        bool is_scalar = t == 0, is_gpu = t == N_TIERS - 1;
        if (!is_scalar && !is_gpu) continue; /* one version for all of the CPU's */
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        int32_t n_steps = 0;
        for (int i = 0; i < (is_gpu ? ROUNDS / 10 : ROUNDS); i++)
            for (int k = 0; k < 5; k++) n_steps += run(dev, k, (uint64_t)(1000 * i + k));
        assert_true(n_steps > 3 * ROUNDS / 10 * 5);
        device_close(dev);
    }
}

/* Several blocks at once: each is decided by itself, and the gate closes where one is finished or
 * holds a score that is no number. */
static void the_gate_closes_for_all(void **state) {
    (void)state;
    for (int t = 0; t < N_TIERS; t += N_TIERS - 1) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        for (int kind = 0; kind < 3; kind++) { /* goes on; the second is finished; not finite */
            score scores[4];
            for (int i = 0; i < 4; i++)
                scores[i] = (score){.is_finite = true, .token = i, .probability = 0.5f};
            scores[3].is_finite = kind != 2;
            int32_t i_score[4] = {0, 1, 2, 3}, rows[4] = {3, 2, 1, 0};
            device_gate gate = {.is_open = 1, .n_steps = 8};
            int32_t states[4] = {1, 1, 1, kind == 1 ? 0 : 1}, tokens[4] = {7, 7, 7, 7},
                    out[4] = {0};
            decide_block blocks[2] = {{.n = 2, .steps = 2, .threshold = 0.9, .mask_token = MASK},
                                      {.n = 2, .steps = 2, .threshold = 0.9, .mask_token = MASK}};
            blocks[1].first = 2;
            if (kind == 1) i_score[3] = -1;
            decide_args args = {.blocks = blocks,
                                .scores = scores,
                                .i_score = i_score,
                                .rows = rows,
                                .states = states,
                                .tokens = tokens,
                                .row_tokens = out,
                                .gate = &gate,
                                .n_blocks = 2};
            assert_int_equal(dev->ops->decide(dev, &args), UM_OK);
            assert_int_equal(gate.is_open, kind == 0);
            assert_int_equal(gate.n_steps, 9);
            assert_int_equal(tokens[0], 0);
            assert_int_equal(out[3], 0);
            assert_int_equal(states[0], DECIDE_COMMITTED);
            assert_int_equal(states[1], DECIDE_MASKED);
            assert_int_equal(tokens[2], kind == 2 ? 7 : 2);
        }
        device_close(dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twins_follow_their_policies),
        cmocka_unit_test(the_gate_closes_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
