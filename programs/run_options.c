/* SPDX-License-Identifier: Apache-2.0
 *
 * Pairs of options that contradict each other, as a table; then the few rules that ask for values.
 * Which policy reads which parameter is the library's to say (policy_options.h).
 */
#include "programs/run_options.h"

#include <math.h>

#include "programs/policy_options.h"

/* Order of the words in the table of options. */
static const um_remask remask_values[] = {UM_REMASK_LOW_CONFIDENCE, UM_REMASK_RANDOM};
static const um_metric metric_values[] = {UM_METRIC_CONFIDENCE, UM_METRIC_ENTROPY};
static const um_request_attention attention_values[] = {UM_ATTENTION_OF_MODEL,
                                                        UM_ATTENTION_OF_BLOCKS};
static const um_cache_mode cache_values[] = {UM_CACHE_EXACT, UM_CACHE_NONE, UM_CACHE_PREFIX,
                                             UM_CACHE_DUAL};
static const um_fold fold_values[] = {UM_FOLD_AUTO, UM_FOLD_OFF};

static const struct {
    option_id first, second;
    const char *reason;
} contradictions[] = {
    {OPTION_PROMPT, OPTION_IDS, "there is one prompt"},
    {OPTION_IDS, OPTION_SYSTEM, "ids go to the model as they are"},
    {OPTION_RAW, OPTION_SYSTEM, "a system message needs the chat template"},
    {OPTION_JSON, OPTION_WATCH, "standard output holds one of them"},
    {OPTION_PRINT_IDS, OPTION_WATCH, "standard output holds one of them"},
    {OPTION_JSON_OBJECT, OPTION_JSON_SCHEMA, "the schema says whether it is an object"},
    {OPTION_JSON_OBJECT, OPTION_IGNORE_EOS, "the document is the whole answer"},
    {OPTION_JSON_SCHEMA, OPTION_IGNORE_EOS, "the document is the whole answer"},
};

static um_status check_sampling(const options *o, um_error *err) {
    static const option_id readers[] = {OPTION_TOP_K, OPTION_TOP_P, OPTION_MIN_P};
    if (!options_has(o, OPTION_TEMPERATURE) || options_real(o, OPTION_TEMPERATURE, 0) > 0)
        return UM_OK;
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++)
        if (options_has(o, readers[i]))
            FAIL(UM_INVALID, err,
                 "--%s does not go with --temperature 0, at which nothing is drawn",
                 option_table[readers[i]].name);
    return UM_OK;
}

um_status run_options_check(const options *o, const um_request_options *request, um_error *err) {
    TRY(options_require(o, OPTION_MODEL, err));
    for (size_t i = 0; i < sizeof contradictions / sizeof contradictions[0]; i++)
        TRY(options_refuse_pair(o, contradictions[i].first, contradictions[i].second,
                                contradictions[i].reason, err));
    bool is_conversation = !options_has(o, OPTION_PROMPT) && !options_has(o, OPTION_IDS);
    if (is_conversation && options_has(o, OPTION_TRACE))
        FAIL(UM_INVALID, err, "--trace is of one request: give a prompt with -p or --ids");
    if (is_conversation && options_has(o, OPTION_SVG))
        FAIL(UM_INVALID, err, "--svg is of one answer: give a prompt with -p or --ids");
    if (is_conversation && options_has(o, OPTION_SUFFIX))
        FAIL(UM_INVALID, err, "--suffix is of one answer: give a prompt with -p or --ids");
    if (options_has(o, OPTION_SUFFIX) && !options_text(o, OPTION_SUFFIX)[0])
        FAIL(UM_INVALID, err, "--suffix: expected a text, found an empty one");
    if (options_has(o, OPTION_PROMPT) && !options_text(o, OPTION_PROMPT)[0])
        FAIL(UM_INVALID, err, "-p: expected a prompt, found an empty text");
    static const option_id of_watch[] = {OPTION_DELAY, OPTION_COLUMNS};
    for (size_t i = 0; i < sizeof of_watch / sizeof of_watch[0]; i++)
        if (options_has(o, of_watch[i]) && !options_has(o, OPTION_WATCH) &&
            !(of_watch[i] == OPTION_COLUMNS && options_has(o, OPTION_SVG)))
            FAIL(UM_INVALID, err, "--%s needs --watch", option_table[of_watch[i]].name);
    TRY(policy_options_check(request, err));
    return check_sampling(o, err);
}

bool run_options_constrain(const options *o) {
    return options_has(o, OPTION_JSON_OBJECT) || options_has(o, OPTION_JSON_SCHEMA);
}

answer_style run_options_style(const options *o) {
    return options_has(o, OPTION_JSON)        ? ANSWER_STYLE_JSON
           : options_has(o, OPTION_PRINT_IDS) ? ANSWER_STYLE_IDS
           : options_has(o, OPTION_WATCH)     ? ANSWER_STYLE_WATCH
                                              : ANSWER_STYLE_TEXT;
}

/* Numbers of the policies; an option that is not given leaves the default. */
static void fill_policy(const options *o, um_request_options *r) {
    const struct {
        option_id option;
        double *value;
    } reals[] = {
        {OPTION_THRESHOLD, &r->threshold},         {OPTION_EDIT_THRESHOLD, &r->edit_threshold},
        {OPTION_LOW_THRESHOLD, &r->low_threshold}, {OPTION_FACTOR, &r->factor},
        {OPTION_ENTROPY_BOUND, &r->entropy_bound}, {OPTION_EPS, &r->eps},
        {OPTION_ALG_TEMP, &r->alg_temp},           {OPTION_CREDIT_ALPHA, &r->credit_alpha},
        {OPTION_CREDIT_BETA, &r->credit_beta},     {OPTION_CREDIT_GAMMA, &r->credit_gamma},
        {OPTION_BLOCK_ADD, &r->block_add},         {OPTION_BLOCK_READY, &r->block_ready},
    };
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        *reals[i].value = options_real(o, reals[i].option, *reals[i].value);
    r->policy = options_text(o, OPTION_POLICY);
    r->policy_args = options_text(o, OPTION_POLICY_ARGS);
    r->post_steps = (int32_t)options_integer(o, OPTION_POST_STEPS, r->post_steps);
    r->steps = (int32_t)options_integer(o, OPTION_STEPS, r->steps);
    r->window = (int32_t)options_integer(o, OPTION_WINDOW, r->window);
    if (options_has(o, OPTION_REMASK))
        r->remask = remask_values[options_integer(o, OPTION_REMASK, 0)];
    if (options_has(o, OPTION_METRIC))
        r->metric = metric_values[options_integer(o, OPTION_METRIC, 0)];
}

void run_options_fill(const options *o, um_request_options *r) {
    um_request_options_init(r);
    r->max_tokens = (int32_t)options_integer(o, OPTION_MAX_TOKENS, r->max_tokens);
    r->block_len = (int32_t)options_integer(o, OPTION_BLOCK, r->block_len);
    r->sub_block = (int32_t)options_integer(o, OPTION_SUB_BLOCK, r->sub_block);
    if (options_has(o, OPTION_ATTENTION))
        r->attention = attention_values[options_integer(o, OPTION_ATTENTION, 0)];
    fill_policy(o, r);
    r->logits_eos_inf = options_has(o, OPTION_LOGITS_EOS_INF);
    r->confidence_eos_eot_inf = options_has(o, OPTION_CONFIDENCE_EOS_EOT_INF);
    r->cfg_scale = options_real(o, OPTION_CFG, r->cfg_scale);
    r->temperature = options_real(o, OPTION_TEMPERATURE, r->temperature);
    r->top_k = (int32_t)options_integer(o, OPTION_TOP_K, r->top_k);
    r->top_p = options_real(o, OPTION_TOP_P, r->top_p);
    r->min_p = options_real(o, OPTION_MIN_P, r->min_p);
    r->seed = (uint64_t)options_integer(o, OPTION_SEED, 0);
    r->ignore_eos = options_has(o, OPTION_IGNORE_EOS);
    if (options_has(o, OPTION_CACHE)) r->cache = cache_values[options_integer(o, OPTION_CACHE, 0)];
    if (options_has(o, OPTION_FOLD)) r->fold = fold_values[options_integer(o, OPTION_FOLD, 0)];
    r->prefill_chunk = (int32_t)options_integer(o, OPTION_PREFILL_CHUNK, r->prefill_chunk);
}
