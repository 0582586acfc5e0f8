/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask inspect`: what a directory holds, as a table for people or one JSON object for programs.
 * No weight is read.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/commands.h"
#include "programs/policy_options.h"
#include "programs/report.h"

enum { CONTEXT_SHOWN = 4096, CONTEXTS_MAX = 3 };

typedef struct inspection {
    um_model_info info;
    bool has_tokenizer, has_chat_template;
    um_kv_type kv_type;             /* with which memory is shown */
    int32_t contexts[CONTEXTS_MAX]; /* for which memory is shown */
    int n_contexts;
} inspection;

static const char *attention_name(um_attention attention) {
    return attention == UM_ATTENTION_FULL ? "full" : "block-causal";
}

static const char *remask_name(um_remask remask) {
    return remask == UM_REMASK_RANDOM ? "random" : "low-confidence";
}

static int64_t weight_bytes(const um_model_info *info) {
    return info->bytes_f32 + info->bytes_f16 + info->bytes_bf16 + info->bytes_blocks;
}

static int64_t context_bytes(const inspection *s, int32_t n_tokens) {
    return weight_bytes(&s->info) + um_model_cache_bytes(&s->info, s->kv_type) * n_tokens;
}

/* "12.3 MB" in a small buffer of the caller. */
static const char *size_text(int64_t n_bytes, char *text, size_t n) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)n_bytes;
    size_t i = 0;
    while (value >= 1000 && i + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        i++;
    }
    snprintf(text, n, i ? "%.1f %s" : "%.0f %s", value, units[i]);
    return text;
}

static void print_bytes(const char *label, int64_t n_bytes) {
    char text[32];
    if (n_bytes) printf("  %-20s%s\n", label, size_text(n_bytes, text, sizeof text));
}

static void print_shapes(const um_model_info *m) {
    printf("  %-20s%d\n  %-20s%d\n", "layers", m->n_layers, "hidden", m->hidden);
    printf("  %-20s%d of %d, %d for keys and values\n", "heads", m->n_heads, m->head_dim,
           m->n_kv_heads);
    if (m->n_experts)
        printf("  %-20s%d, %d act, %d shared\n", "experts", m->n_experts, m->n_active,
               m->n_shared_experts);
    printf("  %-20s%d\n  %-20s%d tokens\n", "vocabulary", m->vocab, "context", m->context);
}

static void print_memory(const inspection *s) {
    const um_model_info *m = &s->info;
    char text[32];
    printf("\nmemory\n");
    print_bytes("weights, f32", m->bytes_f32);
    print_bytes("weights, f16", m->bytes_f16);
    print_bytes("weights, bf16", m->bytes_bf16);
    print_bytes("weights, quantized", m->bytes_blocks);
    print_bytes("cache for a token", um_model_cache_bytes(m, s->kv_type));
    print_bytes("  in f32", um_model_cache_bytes(m, UM_KV_F32));
    print_bytes("  in bf16", um_model_cache_bytes(m, UM_KV_BF16));
    print_bytes("  in int8", um_model_cache_bytes(m, UM_KV_INT8));
    for (int i = 0; i < s->n_contexts; i++)
        printf("  at %-6d tokens    %s\n", s->contexts[i],
               size_text(context_bytes(s, s->contexts[i]), text, sizeof text));
}

/* What the model's policy reads, as far as the model says it. */
static void print_defaults(const um_model_info *m) {
    const um_policy *policy = um_policy_find(m->policy);
    uint32_t reads = policy ? policy->reads : 0;
    printf("\ndefaults\n  %-20s%s\n", "policy", m->policy);
    if (m->block_len)
        printf("  %-20s%d\n", "block", m->block_len);
    else
        printf("  %-20s%s\n", "block", "whole answer");
    if (m->sub_block) printf("  %-20s%d\n", "sub-block", m->sub_block);
    if (m->steps) printf("  %-20s%d\n", "steps", m->steps);
    if (reads & UM_READS_REMASK)
        printf("  %-20s%s\n", "remask", remask_name(m->remask));
    else if (reads & UM_READS_THRESHOLD)
        printf("  %-20s%g\n", "threshold", m->threshold);
    if (reads & UM_READS_EDIT)
        printf("  %-20s%g\n  %-20s%d\n", "edit-threshold", m->edit_threshold, "post-steps",
               m->post_steps);
    printf("  %-20s%g\n", "temperature", m->temperature);
    if (m->top_k > 0) printf("  %-20s%d\n", "top-k", m->top_k);
    if (m->top_p < 1) printf("  %-20s%g\n", "top-p", m->top_p);
    if (m->cfg_scale > 0) printf("  %-20s%g\n", "cfg", m->cfg_scale);
}

static void print_token(const char *label, int32_t token) {
    if (token >= 0) printf("  %-20s%d\n", label, token);
}

static void print_tokens(const um_model_info *m) {
    print_token("mask token", m->mask_token);
    print_token("end of text", m->eos_token);
    print_token("end of turn", m->eot_token);
    print_token("delete token", m->delete_token);
    print_token("split token", m->split_token);
    printf("  %-20s", "stop tokens");
    for (int32_t i = 0; i < m->n_stop_tokens; i++) printf("%s%d", i ? " " : "", m->stop_tokens[i]);
    puts(m->n_stop_tokens ? "" : "none");
}

static void print_table(const inspection *s) {
    const um_model_info *m = &s->info;
    printf("model\n  %-20s%s (%s)\n  %-20s%s\n", "architecture", m->architecture, m->family,
           "attention", attention_name(m->attention));
    if (m->is_shifted) printf("  %-20s%s\n", "scores", "shifted: row i is of position i + 1");
    print_shapes(m);
    printf("  %-20s%" PRId64 " in %" PRId64 " tensors\n", "parameters", m->n_parameters,
           m->n_tensors);
    print_memory(s);
    print_defaults(m);
    printf("\ntext\n  %-20s%s%s\n", "tokenizer",
           s->has_tokenizer ? "yes" : "none: the model runs on ids",
           s->has_chat_template ? ", with chat template" : "");
    print_tokens(m);
}

static json_t *memory_json(const inspection *s) {
    json_t *list = json_array();
    for (int i = 0; i < s->n_contexts; i++)
        json_array_append_new(list, json_pack("{s:i, s:I}", "context", (int)s->contexts[i], "bytes",
                                              (json_int_t)context_bytes(s, s->contexts[i])));
    return list;
}

static json_t *defaults_json(const um_model_info *m) {
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:i, s:f, s:f}", "policy",
                     m->policy, "remask", remask_name(m->remask), "block", (int)m->block_len,
                     "sub_block", (int)m->sub_block, "steps", (int)m->steps, "post_steps",
                     (int)m->post_steps, "threshold", m->threshold, "edit_threshold",
                     m->edit_threshold, "temperature", m->temperature, "top_k", (int)m->top_k,
                     "top_p", m->top_p, "cfg", m->cfg_scale);
}

static json_t *shapes_json(const um_model_info *m) {
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "layers",
                     (int)m->n_layers, "hidden", (int)m->hidden, "heads", (int)m->n_heads,
                     "kv_heads", (int)m->n_kv_heads, "head_dim", (int)m->head_dim, "vocabulary",
                     (int)m->vocab, "context", (int)m->context, "experts", (int)m->n_experts,
                     "active_experts", (int)m->n_active, "shared_experts",
                     (int)m->n_shared_experts);
}

static json_t *cache_json(const um_model_info *m) {
    return json_pack("{s:I, s:I, s:I}", "f32", (json_int_t)um_model_cache_bytes(m, UM_KV_F32),
                     "bf16", (json_int_t)um_model_cache_bytes(m, UM_KV_BF16), "int8",
                     (json_int_t)um_model_cache_bytes(m, UM_KV_INT8));
}

/* A token's id, or null. */
static json_t *token_json(int32_t token) {
    return token >= 0 ? json_integer(token) : json_null();
}

static um_status print_json(const inspection *s, um_error *err) {
    const um_model_info *m = &s->info;
    json_t *stops = json_array();
    for (int32_t i = 0; i < m->n_stop_tokens; i++)
        json_array_append_new(stops, json_integer(m->stop_tokens[i]));
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:b, s:o, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:I, s:o, s:o, s:o, s:i, s:o, "
        "s:o, "
        "s:o,"
        " s:o, s:o, s:b, s:b}",
        "architecture", m->architecture, "family", m->family, "attention",
        attention_name(m->attention), "shifted", (int)m->is_shifted, "shapes", shapes_json(m),
        "parameters", (json_int_t)m->n_parameters, "tensors", (json_int_t)m->n_tensors, "bytes",
        "f32", (json_int_t)m->bytes_f32, "f16", (json_int_t)m->bytes_f16, "bf16",
        (json_int_t)m->bytes_bf16, "quantized", (json_int_t)m->bytes_blocks,
        "cache_bytes_per_token", (json_int_t)um_model_cache_bytes(m, s->kv_type),
        "cache_bytes_by_type", cache_json(m), "memory", memory_json(s), "defaults",
        defaults_json(m), "mask_token", (int)m->mask_token, "eos_token", token_json(m->eos_token),
        "eot_token", token_json(m->eot_token), "delete_token", token_json(m->delete_token),
        "split_token", token_json(m->split_token), "stop_tokens", stops, "tokenizer",
        (int)s->has_tokenizer, "chat_template", (int)s->has_chat_template);
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(9)) : NULL;
    if (text) puts(text);
    bool is_printed = text != NULL;
    free(text);
    json_decref(root);
    if (!is_printed) FAIL(UM_NO_MEMORY, err, "no memory for the JSON of a model");
    return UM_OK;
}

static void add_context(inspection *s, int32_t n_tokens) {
    for (int i = 0; i < s->n_contexts; i++)
        if (s->contexts[i] == n_tokens) return;
    s->contexts[s->n_contexts++] = n_tokens;
}

/* Needs no model. */
static um_status list_policies(const options *o, um_error *err) {
    TRY(options_refuse_pair(o, OPTION_POLICIES, OPTION_MODEL, "the list is the program's", err));
    if (options_has(o, OPTION_JSON))
        TRY(policy_options_print_json(err));
    else
        policy_options_print(stdout);
    return report_flush_output(err);
}

static um_status run(const options *o, um_error *err) {
    inspection s = {0};
    um_tokenizer *tokenizer = NULL;
    if (options_has(o, OPTION_POLICIES)) return list_policies(o, err);
    TRY(options_require(o, OPTION_MODEL, err));
    const char *directory = options_text(o, OPTION_MODEL);
    TRY(um_model_inspect(directory, (int32_t)options_integer(o, OPTION_MASK_TOKEN, -1), &s.info,
                         err));
    um_error no_tokenizer;
    um_status status = um_tokenizer_open(directory, &tokenizer, &no_tokenizer);
    if (status != UM_OK && status != UM_NOT_FOUND) {
        *err = no_tokenizer;
        return status;
    }
    s.has_tokenizer = status == UM_OK;
    s.kv_type = (um_kv_type)options_integer(o, OPTION_KV_TYPE, UM_KV_AUTO);
    if (s.kv_type == UM_KV_AUTO) s.kv_type = UM_KV_BF16; /* with --precision fast, the default */
    s.has_chat_template = um_tokenizer_has_chat_template(tokenizer);
    um_tokenizer_close(&tokenizer);
    if (s.info.context >= CONTEXT_SHOWN) add_context(&s, CONTEXT_SHOWN);
    add_context(&s, s.info.context);
    if (options_has(o, OPTION_CONTEXT))
        add_context(&s, (int32_t)options_integer(o, OPTION_CONTEXT, 0));
    if (options_has(o, OPTION_JSON))
        TRY(print_json(&s, err));
    else
        print_table(&s);
    return report_flush_output(err);
}

int inspect_command(const options *o) {
    um_error err = {.byte_pos = -1};
    return run(o, &err) == UM_OK ? REPORT_EXIT_DONE : report_error("inspect", &err);
}
