/* SPDX-License-Identifier: Apache-2.0
 *
 * A request's options against the model: every default filled in, every value checked, and no
 * parameter accepted that the chosen policy, cache or temperature would ignore.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

/* Sets an error that names the parameter. */
static um_status refuse(um_error *err, const char *parameter, const char *sentence) {
    um_error_set(err, UM_INVALID, "%s: %s", parameter, sentence);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

static um_status refuse_real(um_error *err, const char *parameter, const char *expected,
                             double found) {
    um_error_set(err, UM_INVALID, "%s: expected %s, found %g", parameter, expected, found);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

static um_status refuse_int(um_error *err, const char *parameter, const char *expected,
                            int64_t found) {
    um_error_set(err, UM_INVALID, "%s: expected %s, found %lld", parameter, expected,
                 (long long)found);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

/* A probability that may be left to the default (NaN). */
static um_status resolve_fraction(double given, double fallback, const char *parameter,
                                  double *value, um_error *err) {
    *value = isnan(given) ? fallback : given;
    if (!(*value >= 0 && *value <= 1)) return refuse_real(err, parameter, "0 to 1", *value);
    return UM_OK;
}

/* Numbers of one policy or a few, with their defaults and ranges. A real is given where it is no
 * NaN; its range is open at the lower end where is_above is set. */
typedef struct real_parameter {
    const char *name;
    uint32_t reads;
    size_t option, param; /* offsets of the doubles */
    double fallback, minimum, maximum;
    bool is_above;
} real_parameter;

#define PARAMETER(name_, reads_, fallback_, minimum_, maximum_, is_above_)                      \
    {                                                                                           \
#name_, reads_, offsetof(um_request_options, name_), offsetof(um_policy_params, name_), \
            fallback_, minimum_, maximum_, is_above_                                            \
    }

/* Defaults: Fast-dLLM's factor 1; dInfer's HierarchyDecoder and CreditThresholdParallelDecoder;
 * SDAR's README eb_threshold 0.35; Dream's eps 1e-3, alg_temp none; D2F's block_add_threshold 0.1
 * and decoded_token_threshold 0.95. */
static const real_parameter parameters[] = {
    PARAMETER(low_threshold, UM_READS_LOW_THRESHOLD, 0.4, 0, 1, false),
    PARAMETER(factor, UM_READS_FACTOR, 1, 0, 1e6, true),
    PARAMETER(entropy_bound, UM_READS_ENTROPY_BOUND, 0.35, 0, 1e6, true),
    PARAMETER(eps, UM_READS_EPS, 1e-3, 0, 0.999, false),
    PARAMETER(alg_temp, UM_READS_ALG_TEMP, 0, 0, 1e6, false),
    PARAMETER(credit_alpha, UM_READS_CREDIT, 0.7, 0, 100, false),
    PARAMETER(credit_beta, UM_READS_CREDIT, 0.8, 0, 1, false),
    PARAMETER(credit_gamma, UM_READS_CREDIT, 0.2, 0, 100, false),
    PARAMETER(block_add, UM_READS_WINDOW, 0.1, 0, 1, false),
    PARAMETER(block_ready, UM_READS_WINDOW, 0.95, 0, 1, false),
};
enum { N_PARAMETERS = sizeof parameters / sizeof *parameters };

static double real_option(const um_request_options *o, const real_parameter *p) {
    double value;
    memcpy(&value, (const char *)o + p->option, sizeof value);
    return value;
}

/* The parameters that a request sets, as UM_READS_*. With a name, that of the first one outside
 * `known`. */
static uint32_t given_parameters(const um_request_options *o, uint32_t known, const char **name) {
    const struct {
        const char *name;
        uint32_t reads;
        bool is_given;
    } others[] = {
        {"threshold", UM_READS_THRESHOLD, !isnan(o->threshold)},
        {"edit_threshold", UM_READS_EDIT, !isnan(o->edit_threshold)},
        {"post_steps", UM_READS_EDIT, o->post_steps != -1},
        {"steps", UM_READS_STEPS, o->steps != 0},
        {"remask", UM_READS_REMASK, o->remask != UM_REMASK_DEFAULT},
        {"window", UM_READS_WINDOW, o->window != 0},
        {"metric", UM_READS_METRIC, o->metric != UM_METRIC_DEFAULT},
        {"policy_args", UM_READS_ARGUMENTS, o->policy_args && *o->policy_args},
    };
    uint32_t given = 0;
    if (name) *name = NULL;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (!others[i].is_given) continue;
        given |= others[i].reads;
        if (name && !*name && !(others[i].reads & known)) *name = others[i].name;
    }
    for (int i = 0; i < N_PARAMETERS; i++) {
        if (isnan(real_option(o, &parameters[i]))) continue;
        given |= parameters[i].reads;
        if (name && !*name && !(parameters[i].reads & known)) *name = parameters[i].name;
    }
    return given;
}

/* Names of the built-in policies that read a set of parameters, or all names. */
static const char *policy_names(uint32_t reads, char buffer[400]) {
    size_t n = 0;
    buffer[0] = 0;
    for (int32_t i = 0; um_policy_at(i); i++) {
        if ((um_policy_at(i)->reads & reads) != reads) continue;
        int written = snprintf(buffer + n, 400 - n, "%s%s", n ? ", " : "", um_policy_at(i)->name);
        if (written > 0 && (size_t)written < 400 - n) n += (size_t)written;
    }
    return buffer;
}

/* Refuses a parameter that the policy does not read. */
static um_status check_reads(const um_policy *policy, const um_request_options *o, um_error *err) {
    const char *name;
    char names[400];
    uint32_t given = given_parameters(o, policy->reads, &name);
    if (!(given & ~policy->reads)) return UM_OK;
    /* The one parameter's own readers. */
    uint32_t unread = given & ~policy->reads;
    policy_names(unread & (~unread + 1), names);
    um_error_set(err, UM_INVALID, "%s: the policy %s does not read it; %s%s", name, policy->name,
                 *names ? "those that do: " : "only a policy of your own can", names);
    um_error_at(err, name, -1);
    return UM_INVALID;
}

/* Without a name: the family's policy if it reads all that is given, else the first that does. A
 * threshold asks a family that schedules for the policy `threshold`. */
static const um_policy *infer_policy(const um_model_info *info, uint32_t given) {
    const um_policy *family = um_policy_find(info->policy);
    bool is_schedule = family == um_policy_find("schedule");
    bool wants_threshold = (given & UM_READS_THRESHOLD) && !(given & UM_READS_REMASK);
    if (family && !(given & ~family->reads) && !(is_schedule && wants_threshold)) return family;
    for (int32_t i = 0; um_policy_at(i); i++) {
        const um_policy *p = um_policy_at(i);
        bool is_possible = !(p->flags & UM_POLICY_INSERTS) || info->delete_token >= 0;
        if (is_possible && !(given & ~p->reads)) return p;
    }
    return NULL;
}

static um_status refuse_policy(const char *name, um_error *err) {
    char names[400];
    um_error_set(err, UM_INVALID,
                 "policy: expected %s, or the path of a shared object with a '/', found \"%s\"",
                 policy_names(0, names), name);
    um_error_at(err, "policy", -1);
    return UM_INVALID;
}

um_status um_request_options_check(const um_request_options *o, um_error *err) {
    if (!o->policy || strchr(o->policy, '/')) return UM_OK;
    const um_policy *policy = um_policy_find(o->policy);
    return policy ? check_reads(policy, o, err) : refuse_policy(o->policy, err);
}

static um_status resolve_policy(const um_model_info *info, const um_request_options *o,
                                request_settings *s, um_error *err) {
    if (!o->policy) {
        s->policy = infer_policy(info, given_parameters(o, 0, NULL));
        if (!s->policy)
            return refuse(err, "policy",
                          "no policy reads all the parameters that are given; name one");
    } else if (strchr(o->policy, '/')) {
        TRY(plugin_open(o->policy, &s->plugin, err));
        s->policy = plugin_policy(s->plugin);
    } else {
        s->policy = um_policy_find(o->policy);
        if (!s->policy) return refuse_policy(o->policy, err);
    }
    TRY(check_reads(s->policy, o, err));
    if ((s->policy->flags & UM_POLICY_INSERTS) && info->delete_token < 0) {
        um_error_set(err, UM_INVALID,
                     "policy: %s needs a model with edit tokens (LLaDA2.2); this one has none",
                     s->policy->name);
        um_error_at(err, "policy", -1);
        return UM_INVALID;
    }
    bool is_random = o->remask == UM_REMASK_RANDOM;
    if (!isnan(o->threshold) && is_random)
        return refuse(err, "threshold", "random remasking does not look at confidence");
    return UM_OK;
}

/* A part of a block that is denoised by itself; the mask stays that of the block. */
static um_status resolve_unit(const um_model_info *info, const um_request_options *o,
                              request_settings *s, um_error *err) {
    bool is_full = !s->is_causal;
    bool is_multi = s->policy->flags & UM_POLICY_MULTI_BLOCK;
    if (o->sub_block && is_full)
        return refuse(err, "sub_block", "full attention has no blocks in its mask; set block_len");
    if (o->sub_block && is_multi)
        return refuse(err, "sub_block", "a policy with a window of blocks takes whole blocks");
    if (o->sub_block < 0 || (o->sub_block && s->block_len % o->sub_block != 0)) {
        um_error_set(err, UM_INVALID, "sub_block: expected a divisor of the block of %d, found %d",
                     s->block_len, o->sub_block);
        um_error_at(err, "sub_block", -1);
        return UM_INVALID;
    }
    s->unit_len = o->sub_block ? o->sub_block : info->sub_block;
    bool is_usable = s->unit_len > 0 && s->block_len % s->unit_len == 0;
    if (is_full || is_multi || !is_usable) s->unit_len = s->block_len;
    return UM_OK;
}

static um_status resolve_window(const um_request_options *o, request_settings *s, um_error *err) {
    um_policy_params *p = &s->params;
    bool is_multi = s->policy->flags & UM_POLICY_MULTI_BLOCK;
    if (o->window < 0) return refuse_int(err, "window", "1 or more", o->window);
    p->window = o->window ? o->window : is_multi ? WINDOW_BLOCKS : 1;
    if (p->window > WINDOW_BLOCKS_MAX) return refuse_int(err, "window", "at most 1024", p->window);
    if (o->metric < UM_METRIC_DEFAULT || o->metric > UM_METRIC_ENTROPY)
        return refuse_int(err, "metric", "confidence (1) or entropy (2)", (int64_t)o->metric);
    p->metric = o->metric;
    /* d3LLM's threshold for LLaDA. */
    if (is_multi && p->metric == UM_METRIC_ENTROPY && isnan(o->threshold)) p->threshold = 0.5;
    /* Blocks of a window are edited only where it is asked for. */
    if (is_multi && isnan(o->edit_threshold)) p->edit_threshold = INFINITY;
    return UM_OK;
}

static um_status resolve_params(const um_model_info *info, const model_traits *traits,
                                const um_request_options *o, request_settings *s, um_error *err) {
    um_policy_params *p = &s->params;
    TRY(resolve_fraction(o->threshold, info->threshold, "threshold", &p->threshold, err));
    TRY(resolve_fraction(o->edit_threshold, info->edit_threshold, "edit_threshold",
                         &p->edit_threshold, err));
    /* Without a threshold of its own, `schedule` commits what its schedule says and no more. */
    if (s->policy == um_policy_find("schedule") && isnan(o->threshold)) p->threshold = INFINITY;
    p->post_steps = o->post_steps == -1 ? info->post_steps : o->post_steps;
    if (p->post_steps < 0 || p->post_steps > STEPS_MAX)
        return refuse_int(err, "post_steps", "0 to 1000000", p->post_steps);
    p->steps = o->steps ? o->steps : info->steps;
    if (p->steps == 0) p->steps = s->unit_len;
    if (p->steps < 1 || p->steps > STEPS_MAX)
        return refuse_int(err, "steps", "1 to 1000000", p->steps);
    um_remask remask = o->remask ? o->remask : info->remask;
    if (remask != UM_REMASK_LOW_CONFIDENCE && remask != UM_REMASK_RANDOM)
        return refuse_int(err, "remask", "low-confidence (1) or random (2)", (int64_t)remask);
    p->is_random = remask == UM_REMASK_RANDOM && (s->policy->reads & UM_READS_REMASK);
    p->is_inclusive = traits->has_inclusive_threshold;
    for (int i = 0; i < N_PARAMETERS; i++) {
        const real_parameter *r = &parameters[i];
        double value = real_option(o, r);
        if (isnan(value)) value = r->fallback;
        if (isnan(o->eps) && r->reads == UM_READS_EPS && traits->has_even_steps) value = 0;
        if (!(value >= r->minimum && value <= r->maximum) || (r->is_above && value <= r->minimum)) {
            um_error_set(err, UM_INVALID, "%s: expected %s%g to %g, found %g", r->name,
                         r->is_above ? "above " : "", r->minimum, r->maximum, value);
            um_error_at(err, r->name, -1);
            return UM_INVALID;
        }
        memcpy((char *)p + r->param, &value, sizeof value);
    }
    TRY(resolve_window(o, s, err));
    /* Arguments of a policy of the user's own are read by it alone. */
    p->arguments = o->policy_args ? o->policy_args : "";
    const char *reason = s->policy->refuse ? s->policy->refuse(p) : NULL;
    if (!reason) return UM_OK;
    um_error_set(err, UM_INVALID, "policy: %s: %s", s->policy->name, reason);
    um_error_at(err, "policy", -1);
    return UM_INVALID;
}

static um_status resolve_end_tokens(const um_model_info *info, const um_request_options *o,
                                    request_settings *s, um_error *err) {
    s->removed_token = s->unsure_tokens[0] = s->unsure_tokens[1] = -1;
    if (o->logits_eos_inf) {
        if (info->eos_token < 0)
            return refuse(err, "logits_eos_inf", "the model names no end-of-text token");
        s->removed_token = info->eos_token;
    }
    /* The family's code writes to an alias at temperature 0 and to a copy above it: there the end
     * of the text keeps its confidence (generate.py, `logits_with_noise[...] = logits[...] =
     * -inf`). */
    if (o->confidence_eos_eot_inf) {
        if (info->eot_token < 0 && (info->eos_token < 0 || s->temperature > 0))
            return refuse(err, "confidence_eos_eot_inf", "the model names no end-of-turn token");
        s->unsure_tokens[0] = s->temperature > 0 ? -1 : info->eos_token;
        s->unsure_tokens[1] = info->eot_token;
    }
    return UM_OK;
}

static um_status resolve_sampling(const um_model_info *info, const um_request_options *o,
                                  request_settings *s, um_error *err) {
    s->temperature = isnan(o->temperature) ? info->temperature : o->temperature;
    if (!(s->temperature >= 0 && s->temperature <= 1e6))
        return refuse_real(err, "temperature", "0 to 1000000", s->temperature);
    s->top_k = o->top_k == -1 ? info->top_k : o->top_k;
    if (s->top_k < 0) return refuse_int(err, "top_k", "0 or more", s->top_k);
    s->top_p = isnan(o->top_p) ? info->top_p : o->top_p;
    if (!(s->top_p > 0 && s->top_p <= 1))
        return refuse_real(err, "top_p", "above 0 and at most 1", s->top_p);
    TRY(resolve_fraction(o->min_p, 0, "min_p", &s->min_p, err));
    if (s->temperature > 0 && (s->policy->flags & UM_POLICY_IS_GREEDY))
        return refuse(err, "temperature", "the policy does not draw; it needs a temperature of 0");
    if (s->temperature == 0) {
        const char *unread = o->top_k > 0                       ? "top_k"
                             : !isnan(o->top_p) && o->top_p < 1 ? "top_p"
                             : !isnan(o->min_p) && o->min_p > 0 ? "min_p"
                                                                : NULL;
        if (unread) return refuse(err, unread, "at temperature 0 nothing is drawn");
        s->top_k = 0;
        s->top_p = 1;
        s->min_p = 0;
    }
    double cfg_scale = isnan(o->cfg_scale) ? info->cfg_scale : o->cfg_scale;
    if (!(cfg_scale >= 0 && cfg_scale <= 1e6))
        return refuse_real(err, "cfg_scale", "0 to 1000000", cfg_scale);
    s->cfg_scale = (float)cfg_scale;
    s->ignore_eos = o->ignore_eos;
    s->key = (rng_key){.seed = o->seed, .request = o->request_key};
    return UM_OK;
}

static um_status resolve_cache(const um_request_options *o, request_settings *s, um_error *err) {
    bool is_full = !s->is_causal;
    switch (o->cache) {
        case UM_CACHE_DEFAULT:
        case UM_CACHE_EXACT:
            s->cache = is_full ? UM_CACHE_NONE : UM_CACHE_EXACT;
            break;
        case UM_CACHE_NONE:
            s->cache = UM_CACHE_NONE;
            break;
        case UM_CACHE_PREFIX:
        case UM_CACHE_DUAL:
            /* Fast-dLLM v2's block cache: parts of a block against a block that has gone stale. */
            if (!is_full && (o->cache == UM_CACHE_PREFIX || s->unit_len == s->block_len))
                return refuse(
                    err, "cache",
                    "prefix and dual approximate full attention; this model is block-causal "
                    "and its exact cache costs less (dual goes with a sub_block)");
            if (s->policy->flags & UM_POLICY_MULTI_BLOCK)
                return refuse(err, "cache",
                              "prefix and dual go with one open block; the policy has several");
            if (s->cfg_scale > 0)
                return refuse(err, "cache", "prefix and dual do not go with guidance (cfg_scale)");
            s->cache = o->cache;
            break;
        default:
            return refuse_int(err, "cache", "a um_cache_mode", (int64_t)o->cache);
    }
    if (o->prefill_chunk < 0)
        return refuse_int(err, "prefill_chunk", "1 or more", o->prefill_chunk);
    int32_t chunk = o->prefill_chunk ? o->prefill_chunk : PREFILL_CHUNK;
    int32_t n_blocks = chunk / s->block_len;
    s->prefill_chunk = (n_blocks ? n_blocks : 1) * s->block_len;
    if (s->has_prompt_block) s->prefill_chunk = INT32_MAX; /* the prompt sees all of itself */
    return UM_OK;
}

um_status settings_resolve(const um_engine *engine, const um_request_options *o,
                           request_settings *s, um_error *err) {
    const um_model_info *info = model_info(engine->mdl);
    const model_traits *traits = model_traits_of(engine->mdl);
    memset(s, 0, sizeof *s);
    if (o->n_prompt < 1 || !o->prompt)
        return refuse(err, "prompt", "expected at least one token, found none");
    for (size_t i = 0; i < o->n_prompt; i++) {
        if (o->prompt[i] >= 0 && o->prompt[i] < info->vocab) continue;
        um_error_set(err, UM_INVALID, "prompt: token %zu is %d; expected 0 to %d", i, o->prompt[i],
                     info->vocab - 1);
        um_error_at(err, "prompt", -1);
        return UM_INVALID;
    }
    s->max_tokens = o->max_tokens;
    if (s->max_tokens < 1) return refuse_int(err, "max_tokens", "1 or more", s->max_tokens);
    s->is_causal = info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    if (o->attention != UM_ATTENTION_OF_MODEL && o->attention != UM_ATTENTION_OF_BLOCKS)
        return refuse_int(err, "attention", "model (0) or blocks (1)", (int64_t)o->attention);
    if (o->attention == UM_ATTENTION_OF_BLOCKS && s->is_causal)
        return refuse(err, "attention", "the model is block-causal by itself");
    s->has_prompt_block = o->attention == UM_ATTENTION_OF_BLOCKS;
    s->is_causal |= s->has_prompt_block;
    s->block_len = o->block_len ? o->block_len : info->block_len;
    if (s->block_len == 0) s->block_len = s->max_tokens;
    if (s->block_len < 1 || s->block_len > info->context) {
        um_error_set(err, UM_INVALID, "block_len: expected 1 to %d (the context), found %d",
                     info->context, s->block_len);
        um_error_at(err, "block_len", -1);
        return UM_INVALID;
    }
    if (s->is_causal && traits->block_multiple > 1 && s->block_len % traits->block_multiple != 0) {
        um_error_set(err, UM_INVALID,
                     "block_len: expected a multiple of %d, within which the model routes experts; "
                     "found %d",
                     traits->block_multiple, s->block_len);
        um_error_at(err, "block_len", -1);
        return UM_INVALID;
    }
    int64_t n_total = (int64_t)o->n_prompt + s->max_tokens;
    if (n_total > info->context) {
        um_error_set(err, UM_LIMIT,
                     "a prompt of %zu tokens and %d to write are %lld; the model's context is %d",
                     o->n_prompt, s->max_tokens, (long long)n_total, info->context);
        um_error_at(err, o->n_prompt >= (size_t)info->context ? "prompt" : "max_tokens", -1);
        return UM_LIMIT;
    }
    TRY(resolve_policy(info, o, s, err));
    TRY(resolve_unit(info, o, s, err));
    TRY(resolve_params(info, traits, o, s, err));
    TRY(resolve_sampling(info, o, s, err));
    TRY(resolve_end_tokens(info, o, s, err));
    return resolve_cache(o, s, err);
}
