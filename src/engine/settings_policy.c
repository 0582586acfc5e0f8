/* SPDX-License-Identifier: Apache-2.0
 *
 * Which policy a request runs under, and with which parameters: found by name, by path or by what
 * is given; nothing that is given goes unread.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine/settings.h"

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

um_status settings_find_policy(const um_model_info *info, const um_request_options *o,
                               request_settings *s, um_error *err) {
    if (!o->policy) {
        s->policy = infer_policy(info, given_parameters(o, 0, NULL));
        if (!s->policy)
            return settings_refuse(err, "policy",
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
        return settings_refuse(err, "threshold", "random remasking does not look at confidence");
    return UM_OK;
}

static um_status resolve_window(const um_request_options *o, request_settings *s, um_error *err) {
    um_policy_params *p = &s->params;
    bool is_multi = s->policy->flags & UM_POLICY_MULTI_BLOCK;
    if (o->window < 0) return settings_refuse_int(err, "window", "1 or more", o->window);
    p->window = o->window ? o->window : is_multi ? WINDOW_BLOCKS : 1;
    if (p->window > WINDOW_BLOCKS_MAX)
        return settings_refuse_int(err, "window", "at most 1024", p->window);
    if (o->metric < UM_METRIC_DEFAULT || o->metric > UM_METRIC_ENTROPY)
        return settings_refuse_int(err, "metric", "confidence (1) or entropy (2)",
                                   (int64_t)o->metric);
    p->metric = o->metric;
    /* d3LLM's threshold for LLaDA. */
    if (is_multi && p->metric == UM_METRIC_ENTROPY && isnan(o->threshold)) p->threshold = 0.5;
    /* Blocks of a window are edited only where it is asked for. */
    if (is_multi && isnan(o->edit_threshold)) p->edit_threshold = INFINITY;
    return UM_OK;
}

um_status settings_fill_params(const um_model_info *info, const model_traits *traits,
                               const um_request_options *o, request_settings *s, um_error *err) {
    um_policy_params *p = &s->params;
    TRY(settings_fraction(o->threshold, info->threshold, "threshold", &p->threshold, err));
    TRY(settings_fraction(o->edit_threshold, info->edit_threshold, "edit_threshold",
                          &p->edit_threshold, err));
    /* Without a threshold of its own, `schedule` commits what its schedule says and no more. */
    if (s->policy == um_policy_find("schedule") && isnan(o->threshold)) p->threshold = INFINITY;
    p->post_steps = o->post_steps == -1 ? info->post_steps : o->post_steps;
    if (p->post_steps < 0 || p->post_steps > STEPS_MAX)
        return settings_refuse_int(err, "post_steps", "0 to 1000000", p->post_steps);
    p->steps = o->steps ? o->steps : info->steps;
    if (p->steps == 0) p->steps = s->unit_len;
    if (p->steps < 1 || p->steps > STEPS_MAX)
        return settings_refuse_int(err, "steps", "1 to 1000000", p->steps);
    um_remask remask = o->remask ? o->remask : info->remask;
    if (remask != UM_REMASK_LOW_CONFIDENCE && remask != UM_REMASK_RANDOM)
        return settings_refuse_int(err, "remask", "low-confidence (1) or random (2)",
                                   (int64_t)remask);
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
