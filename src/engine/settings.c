/* SPDX-License-Identifier: Apache-2.0
 *
 * A request's options against the model: every default filled in, every value checked, and no
 * parameter accepted that the chosen policy, cache or temperature would ignore.
 */
#include <math.h>
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

/* Without a name, the policy that the given parameters belong to, else the family's. */
static um_status resolve_policy(const um_model_info *info, const um_request_options *o,
                                request_settings *s, um_error *err) {
    const char *name = o->policy;
    bool wants_edit = !isnan(o->edit_threshold) || o->post_steps != -1;
    if (!name && wants_edit) name = policy_edit.name;
    if (!name && o->remask != UM_REMASK_DEFAULT) name = policy_schedule.name;
    if (!name && !isnan(o->threshold) && strcmp(info->policy, policy_schedule.name) == 0)
        name = policy_threshold.name;
    if (!name) name = info->policy;
    s->policy = policy_find(name);
    if (!s->policy) {
        um_error_set(err, UM_INVALID, "policy: expected threshold, schedule or edit, found \"%s\"",
                     name);
        um_error_at(err, "policy", -1);
        return UM_INVALID;
    }
    bool is_edit = s->policy == &policy_edit, is_schedule = s->policy == &policy_schedule;
    if (wants_edit && !is_edit)
        return refuse(err, isnan(o->edit_threshold) ? "post_steps" : "edit_threshold",
                      "only the policy edit reads it");
    if (o->remask != UM_REMASK_DEFAULT && !is_schedule)
        return refuse(err, "remask", "only the policy schedule reads it");
    if (!isnan(o->threshold) && is_schedule && o->remask == UM_REMASK_RANDOM)
        return refuse(err, "threshold", "random remasking does not look at confidence");
    if (o->steps != 0 && is_edit) return refuse(err, "steps", "the policy edit does not read it");
    return UM_OK;
}

static um_status resolve_params(const um_model_info *info, const model_traits *traits,
                                const um_request_options *o, request_settings *s, um_error *err) {
    policy_params *p = &s->params;
    TRY(resolve_fraction(o->threshold, info->threshold, "threshold", &p->threshold, err));
    TRY(resolve_fraction(o->edit_threshold, info->edit_threshold, "edit_threshold",
                         &p->edit_threshold, err));
    /* Without a threshold of its own, `schedule` commits what its schedule says and no more. */
    if (s->policy == &policy_schedule && isnan(o->threshold)) p->threshold = INFINITY;
    p->post_steps = o->post_steps == -1 ? info->post_steps : o->post_steps;
    if (p->post_steps < 0) return refuse_int(err, "post_steps", "0 or more", p->post_steps);
    p->steps = o->steps ? o->steps : info->steps;
    if (p->steps == 0) p->steps = s->block_len;
    if (p->steps < 1) return refuse_int(err, "steps", "1 or more", p->steps);
    um_remask remask = o->remask ? o->remask : info->remask;
    if (remask != UM_REMASK_LOW_CONFIDENCE && remask != UM_REMASK_RANDOM)
        return refuse_int(err, "remask", "low-confidence (1) or random (2)", (int64_t)remask);
    p->is_random = remask == UM_REMASK_RANDOM && s->policy == &policy_schedule;
    p->is_inclusive = traits->has_inclusive_threshold;
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

static um_status resolve_cache(const um_model_info *info, const um_request_options *o,
                               request_settings *s, um_error *err) {
    bool is_full = info->attention == UM_ATTENTION_FULL;
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
            if (!is_full)
                return refuse(
                    err, "cache",
                    "prefix and dual approximate full attention; this model is block-causal "
                    "and its exact cache costs less");
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
    s->block_len = o->block_len ? o->block_len : info->block_len;
    if (s->block_len < 1 || s->block_len > info->context) {
        um_error_set(err, UM_INVALID, "block_len: expected 1 to %d (the context), found %d",
                     info->context, s->block_len);
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
    TRY(resolve_params(info, traits, o, s, err));
    TRY(resolve_sampling(info, o, s, err));
    return resolve_cache(info, o, s, err);
}
