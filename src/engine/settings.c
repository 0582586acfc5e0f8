/* SPDX-License-Identifier: Apache-2.0
 *
 * A request's options against the model: every default filled in, every value checked, and no
 * parameter accepted that the chosen policy, cache or temperature would ignore.
 */
#include <math.h>
#include <string.h>

#include "engine/settings.h"

um_status settings_refuse(um_error *err, const char *parameter, const char *sentence) {
    um_error_set(err, UM_INVALID, "%s: %s", parameter, sentence);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

um_status settings_refuse_real(um_error *err, const char *parameter, const char *expected,
                               double found) {
    um_error_set(err, UM_INVALID, "%s: expected %s, found %g", parameter, expected, found);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

um_status settings_refuse_int(um_error *err, const char *parameter, const char *expected,
                              int64_t found) {
    um_error_set(err, UM_INVALID, "%s: expected %s, found %lld", parameter, expected,
                 (long long)found);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

um_status settings_fraction(double given, double fallback, const char *parameter, double *value,
                            um_error *err) {
    *value = isnan(given) ? fallback : given;
    if (!(*value >= 0 && *value <= 1))
        return settings_refuse_real(err, parameter, "0 to 1", *value);
    return UM_OK;
}

/* A part of a block that is denoised by itself; the mask stays that of the block. */
static um_status resolve_unit(const um_model_info *info, const um_request_options *o,
                              request_settings *s, um_error *err) {
    bool is_full = !s->is_causal;
    bool is_multi = s->policy->flags & UM_POLICY_MULTI_BLOCK;
    if (o->sub_block && is_full)
        return settings_refuse(err, "sub_block",
                               "full attention has no blocks in its mask; set block_len");
    if (o->sub_block && is_multi)
        return settings_refuse(err, "sub_block",
                               "a policy with a window of blocks takes whole blocks");
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

static um_status resolve_end_tokens(const um_model_info *info, const um_request_options *o,
                                    request_settings *s, um_error *err) {
    s->removed_token = s->unsure_tokens[0] = s->unsure_tokens[1] = -1;
    if (o->logits_eos_inf) {
        if (info->eos_token < 0)
            return settings_refuse(err, "logits_eos_inf", "the model names no end-of-text token");
        s->removed_token = info->eos_token;
    }
    /* The family's code writes to an alias at temperature 0 and to a copy above it: there the end
     * of the text keeps its confidence (generate.py, `logits_with_noise[...] = logits[...] =
     * -inf`). */
    if (o->confidence_eos_eot_inf) {
        if (info->eot_token < 0 && (info->eos_token < 0 || s->temperature > 0))
            return settings_refuse(err, "confidence_eos_eot_inf",
                                   "the model names no end-of-turn token");
        s->unsure_tokens[0] = s->temperature > 0 ? -1 : info->eos_token;
        s->unsure_tokens[1] = info->eot_token;
    }
    return UM_OK;
}

static um_status resolve_sampling(const um_model_info *info, const um_request_options *o,
                                  request_settings *s, um_error *err) {
    s->temperature = isnan(o->temperature) ? info->temperature : o->temperature;
    if (!(s->temperature >= 0 && s->temperature <= 1e6))
        return settings_refuse_real(err, "temperature", "0 to 1000000", s->temperature);
    s->top_k = o->top_k == -1 ? info->top_k : o->top_k;
    if (s->top_k < 0) return settings_refuse_int(err, "top_k", "0 or more", s->top_k);
    s->top_p = isnan(o->top_p) ? info->top_p : o->top_p;
    if (!(s->top_p > 0 && s->top_p <= 1))
        return settings_refuse_real(err, "top_p", "above 0 and at most 1", s->top_p);
    TRY(settings_fraction(o->min_p, 0, "min_p", &s->min_p, err));
    if (s->temperature > 0 && (s->policy->flags & UM_POLICY_IS_GREEDY))
        return settings_refuse(err, "temperature",
                               "the policy does not draw; it needs a temperature of 0");
    if (s->temperature == 0) {
        const char *unread = o->top_k > 0                       ? "top_k"
                             : !isnan(o->top_p) && o->top_p < 1 ? "top_p"
                             : !isnan(o->min_p) && o->min_p > 0 ? "min_p"
                                                                : NULL;
        if (unread) return settings_refuse(err, unread, "at temperature 0 nothing is drawn");
        s->top_k = 0;
        s->top_p = 1;
        s->min_p = 0;
    }
    double cfg_scale = isnan(o->cfg_scale) ? info->cfg_scale : o->cfg_scale;
    if (!(cfg_scale >= 0 && cfg_scale <= 1e6))
        return settings_refuse_real(err, "cfg_scale", "0 to 1000000", cfg_scale);
    s->cfg_scale = (float)cfg_scale;
    s->top_logprobs = o->top_logprobs;
    s->priority = o->priority;
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
                return settings_refuse(
                    err, "cache",
                    "prefix and dual approximate full attention; this model is block-causal "
                    "and its exact cache costs less (dual goes with a sub_block)");
            if (s->policy->flags & UM_POLICY_MULTI_BLOCK)
                return settings_refuse(
                    err, "cache", "prefix and dual go with one open block; the policy has several");
            if (s->cfg_scale > 0)
                return settings_refuse(err, "cache",
                                       "prefix and dual do not go with guidance (cfg_scale)");
            s->cache = o->cache;
            break;
        default:
            return settings_refuse_int(err, "cache", "a um_cache_mode", (int64_t)o->cache);
    }
    if (o->prefill_chunk < 0)
        return settings_refuse_int(err, "prefill_chunk", "1 or more", o->prefill_chunk);
    int32_t chunk = o->prefill_chunk ? o->prefill_chunk : PREFILL_CHUNK;
    int32_t n_blocks = chunk / s->block_len;
    s->prefill_chunk = (n_blocks ? n_blocks : 1) * s->block_len;
    if (s->has_prompt_block) s->prefill_chunk = INT32_MAX; /* the prompt sees all of itself */
    return UM_OK;
}

/* Whether the forward that settles a block may be the next one's first: where no row of a block
 * sees a later one, and every row of the next block is of its own block. */
static um_status resolve_fold(const model_traits *traits, const um_request_options *o,
                              request_settings *s, um_error *err) {
    if (o->fold != UM_FOLD_AUTO && o->fold != UM_FOLD_OFF)
        return settings_refuse_int(err, "fold", "auto (0) or off (1)", (int64_t)o->fold);
    bool is_apart = s->is_causal && s->cache == UM_CACHE_EXACT && !traits->is_shifted &&
                    s->unit_len == s->block_len;
    bool is_multi = s->policy->flags & UM_POLICY_MULTI_BLOCK;
    s->folds = o->fold == UM_FOLD_AUTO && is_apart && !is_multi && settings_may_edit(s);
    return UM_OK;
}

/* A constraint says where the answer ends, and holds position by position. */
static um_status check_constraint(const um_model_info *info, const um_request_options *o,
                                  const request_settings *s, um_error *err) {
    if (!o->constraint) return UM_OK;
    if (o->ignore_eos)
        return settings_refuse(err, "constraint",
                               "does not go with ignore_eos: the document is the whole answer");
    if (o->logits_eos_inf)
        return settings_refuse(err, "constraint",
                               "does not go with logits_eos_inf: it needs the end-of-text token");
    /* Each could leave a position no token, or end the text inside the document. */
    if (o->min_tokens || o->n_stop_tokens)
        return settings_refuse(
            err, "constraint",
            "does not go with min_tokens or stop_tokens: the document says where "
            "the answer ends");
    for (int32_t i = 0; i < o->n_logit_bias; i++)
        if (o->logit_bias[i].bias == -INFINITY)
            return settings_refuse(err, "constraint",
                                   "does not go with a logit_bias of minus infinity: the document "
                                   "may need the token");
    if (!info->n_stop_tokens)
        return settings_refuse(err, "constraint",
                               "the model names no token that ends the text after the document");
    if (s->policy->flags & UM_POLICY_INSERTS) {
        um_error_set(
            err, UM_INVALID,
            "constraint: the policy %s inserts and deletes tokens, which moves what stands "
            "behind them; it does not go with a constraint",
            s->policy->name);
        um_error_at(err, "constraint", -1);
        return UM_INVALID;
    }
    return UM_OK;
}

static um_status check_ids(const um_model_info *info, const char *parameter, const int32_t *ids,
                           size_t n, um_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < info->vocab) continue;
        um_error_set(err, UM_INVALID, "%s: token %zu is %d; expected 0 to %d", parameter, i, ids[i],
                     info->vocab - 1);
        um_error_at(err, parameter, -1);
        return UM_INVALID;
    }
    return UM_OK;
}

static um_status check_context(const um_model_info *info, const um_request_options *o,
                               um_error *err) {
    size_t context = (size_t)info->context, n_max = context + 1;
    size_t n_given =
        (o->n_prompt < n_max ? o->n_prompt : n_max) + (o->n_suffix < n_max ? o->n_suffix : n_max);
    if (n_given + (size_t)o->max_tokens <= context) return UM_OK;
    um_error_set(err, UM_LIMIT,
                 "a prompt of %zu tokens, %d to write%s are %zu; the model's context is %d",
                 o->n_prompt, o->max_tokens, o->n_suffix ? " and the suffix" : "",
                 n_given + (size_t)o->max_tokens, info->context);
    um_error_at(err,
                o->n_prompt >= context   ? "prompt"
                : o->n_suffix >= context ? "suffix"
                                         : "max_tokens",
                -1);
    return UM_LIMIT;
}

/* Everything that is written sees the suffix, or it would be no infilling: where the mask is
 * block-causal, one block holds both. A shifted model's first row to score is the one before. */
static um_status check_suffix(const model_traits *traits, const um_request_options *o,
                              const request_settings *s, um_error *err) {
    if (!o->n_suffix || !s->is_causal) return UM_OK;
    int64_t n_prompt = (int64_t)o->n_prompt, origin = s->has_prompt_block ? n_prompt : 0;
    int64_t n_before = (n_prompt - origin) % s->block_len;
    int64_t n_in_block = n_before + s->max_tokens + (int64_t)o->n_suffix;
    if (n_in_block > s->block_len) {
        um_error_set(
            err, UM_INVALID,
            "suffix: a position sees its own block of %d tokens and earlier ones; the %lld "
            "of the prompt that lie in the block, %d to write and %zu of the suffix are "
            "%lld. Write fewer, or set a larger block",
            s->block_len, (long long)n_before, o->max_tokens, o->n_suffix, (long long)n_in_block);
        um_error_at(err, "suffix", -1);
        return UM_INVALID;
    }
    if (n_before == 0 && (traits->is_shifted || traits->has_seed))
        return settings_refuse(err, "suffix",
                               "the first position to write begins a block, and this model scores "
                               "it from the row before, which does not see the suffix; give a "
                               "prompt of one token more or less");
    return UM_OK;
}

um_status settings_resolve(const um_engine *engine, const um_request_options *o,
                           request_settings *s, um_error *err) {
    const um_model_info *info = model_info(engine->mdl);
    const model_traits *traits = model_traits_of(engine->mdl);
    memset(s, 0, sizeof *s);
    if (o->n_prompt < 1 || !o->prompt)
        return settings_refuse(err, "prompt", "expected at least one token, found none");
    if (o->n_suffix && !o->suffix)
        return settings_refuse(err, "suffix", "expected tokens, found none");
    TRY(check_ids(info, "prompt", o->prompt, o->n_prompt, err));
    TRY(check_ids(info, "suffix", o->suffix, o->n_suffix, err));
    s->max_tokens = o->max_tokens;
    if (s->max_tokens < 1)
        return settings_refuse_int(err, "max_tokens", "1 or more", s->max_tokens);
    s->is_causal = info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    if (o->attention != UM_ATTENTION_OF_MODEL && o->attention != UM_ATTENTION_OF_BLOCKS)
        return settings_refuse_int(err, "attention", "model (0) or blocks (1)",
                                   (int64_t)o->attention);
    if (o->attention == UM_ATTENTION_OF_BLOCKS && s->is_causal)
        return settings_refuse(err, "attention", "the model is block-causal by itself");
    if (o->attention == UM_ATTENTION_OF_BLOCKS && traits->block_multiple > 1)
        return settings_refuse(err, "attention",
                               "the engine's expert_cap chooses experts for blocks that start "
                               "elsewhere than those of the answer");
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
    TRY(check_context(info, o, err));
    TRY(check_suffix(traits, o, s, err));
    TRY(settings_find_policy(info, o, s, err));
    TRY(logit_rules_check(info, o, err));
    TRY(check_constraint(info, o, s, err));
    TRY(resolve_unit(info, o, s, err));
    TRY(settings_fill_params(info, traits, o, s, err));
    TRY(resolve_sampling(info, o, s, err));
    TRY(resolve_end_tokens(info, o, s, err));
    TRY(resolve_cache(o, s, err));
    return resolve_fold(traits, o, s, err);
}

bool settings_may_edit(const request_settings *s) {
    return (s->policy->flags & UM_POLICY_SCORES_COMMITTED) && s->params.edit_threshold <= 1;
}
