/* SPDX-License-Identifier: Apache-2.0
 *
 * What each family makes of the config of a published model, and what it refuses. Configs are cut
 * to the keys that matter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/family.h"

/* Of the published files: numbers of a layer, tokens, and defaults. */
typedef struct published {
    const char *model, *config, *family, *policy;
    um_attention attention;
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, rotary_dim, inner, vocab, context;
    int32_t n_experts, n_active, expert_inner, n_block_experts;
    int32_t mask, stop, other_stop, delete_token, split_token, block_len, sub_block;
    double rope_theta, threshold;
    bool is_shifted, has_seed, is_normalised;
    route_score score;
} published;

static const char *const llada_moe_config =
    "{\"architectures\":[\"LLaDAMoEModelLM\"],\"model_type\":\"llada\",\"hidden_size\":2048,"
    "\"num_hidden_layers\":16,\"num_attention_heads\":16,\"num_key_value_heads\":16,"
    "\"num_experts\":64,\"num_experts_per_tok\":8,\"expert_intermediate_size\":1024,"
    "\"dense_intermediate_size\":8192,\"shared_expert_intermediate_size\":null,"
    "\"moe_layer_freq\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"qk_layernorm\":true,"
    "\"moe_router_score_function\":\"softmax\",\"moe_router_enable_expert_bias\":false,"
    "\"norm_topk_prob\":null,\"routed_scaling_factor\":1,\"router_num_group\":null,"
    "\"partial_rotary_factor\":1,\"rope_theta\":50000,\"rms_norm_eps\":1e-5,"
    "\"vocab_size\":157184,\"max_position_embeddings\":8192,\"rope_scaling\":null}";

static const char *const llada22_config =
    "{\"architectures\":[\"LLaDA2MoeModelLM\"],\"model_type\":\"llada2_moe\",\"hidden_size\":4096,"
    "\"num_hidden_layers\":32,\"num_attention_heads\":32,\"num_key_value_heads\":4,"
    "\"head_dim\":128,\"partial_rotary_factor\":0.5,\"rotary_dim\":64,\"intermediate_size\":9216,"
    "\"first_k_dense_replace\":1,\"num_experts\":256,\"num_experts_per_tok\":8,"
    "\"num_shared_experts\":1,\"moe_intermediate_size\":1024,\"n_group\":8,\"topk_group\":4,"
    "\"routed_scaling_factor\":2.5,\"use_qk_norm\":true,\"block_size\":32,\"expert_capacity\":48,"
    "\"delete_token_id\":156930,\"split_token_id\":156931,\"rope_theta\":3000000,"
    "\"vocab_size\":157184,\"max_position_embeddings\":131072}";

static const char *const sdar_config =
    "{\"architectures\":[\"SDARForCausalLM\"],\"model_type\":\"sdar\",\"attention_bias\":false,"
    "\"block_size\":4,\"head_dim\":128,\"hidden_act\":\"silu\",\"hidden_size\":2560,"
    "\"intermediate_size\":9728,\"max_position_embeddings\":32768,\"num_attention_heads\":32,"
    "\"num_hidden_layers\":36,\"num_key_value_heads\":8,\"rms_norm_eps\":1e-6,"
    "\"rope_scaling\":null,\"rope_theta\":1000000,\"sliding_window\":null,"
    "\"use_sliding_window\":false,\"vocab_size\":151936,\"fuse_cross_entropy\":true}";

static const char *const rnd1_config =
    "{\"architectures\":[\"RND1LM\"],\"model_type\":\"rnd1\",\"decoder_sparse_step\":1,"
    "\"head_dim\":128,\"hidden_size\":2048,\"intermediate_size\":6144,"
    "\"max_position_embeddings\":40960,\"mlp_only_layers\":[],\"moe_intermediate_size\":768,"
    "\"norm_topk_prob\":true,\"num_attention_heads\":32,\"num_experts\":128,"
    "\"num_experts_per_tok\":8,\"num_hidden_layers\":48,\"num_key_value_heads\":4,"
    "\"rope_scaling\":false,\"sliding_window\":false,\"rope_theta\":1000000.0,"
    "\"vocab_size\":151936,\"moe_backend\":\"hf\",\"num_diffusion_steps\":256}";

static const char *const dream_config =
    "{\"architectures\":[\"DreamModel\"],\"model_type\":\"Dream\",\"hidden_size\":3584,"
    "\"intermediate_size\":18944,\"max_position_embeddings\":131072,\"num_attention_heads\":28,"
    "\"num_hidden_layers\":28,\"num_key_value_heads\":4,\"rope_scaling\":null,"
    "\"rope_theta\":1000000.0,\"use_mrope\":false,\"use_sliding_window\":false,"
    "\"sliding_window\":null,\"vocab_size\":152064}";

static const char *const fast_config =
    "{\"architectures\":[\"Fast_dLLM_QwenForCausalLM\"],\"model_type\":\"Fast_dLLM_Qwen\","
    "\"bd_size\":32,\"hidden_size\":3584,\"intermediate_size\":18944,"
    "\"max_position_embeddings\":32768,\"num_attention_heads\":28,\"num_hidden_layers\":28,"
    "\"num_key_value_heads\":4,\"rope_parameters\":{\"rope_theta\":1000000.0,"
    "\"rope_type\":\"default\"},\"vocab_size\":152064}";

static const char *const illada_config =
    "{\"architectures\":[\"ILLaDAForCausalLM\"],\"model_type\":\"illada\",\"hidden_size\":4096,"
    "\"intermediate_size\":12288,\"max_position_embeddings\":4096,\"num_attention_heads\":32,"
    "\"num_hidden_layers\":32,\"num_key_value_heads\":8,\"attention_bias\":false,"
    "\"mlp_bias\":false,\"layer_norm_eps\":null,\"tie_word_embeddings\":true,"
    "\"rope_scaling\":{\"type\":\"default\",\"factor\":1.0},\"rope_theta\":500000,"
    "\"vocab_size\":155136}";

static void describe(const char *json, const family **kind, transformer_shape *shape,
                     model_traits *traits, um_status *status, um_error *err) {
    hf_config *config;
    memset(shape, 0, sizeof *shape);
    *traits = (model_traits){.mask_token = -1,
                             .extra_stop_token = -1,
                             .other_stop_token = -1,
                             .delete_token = -1,
                             .split_token = -1};
    assert_int_equal(hf_config_parse(json, strlen(json), NULL, 0, &config, err), UM_OK);
    *status = family_find(config, kind, err);
    if (*status == UM_OK) *status = (*kind)->describe(config, shape, traits, err);
    hf_config_close(config);
}

static void check_published(const published *p) {
    const family *kind;
    transformer_shape s;
    model_traits t;
    um_status status;
    um_error err = {0};
    describe(p->config, &kind, &s, &t, &status, &err);
    if (status != UM_OK) fail_msg("%s: %s", p->model, err.message);
    const struct {
        const char *what;
        int64_t found, expected;
    } rows[] = {
        {"attention", t.attention, p->attention},
        {"n_layers", s.n_layers, p->n_layers},
        {"hidden", s.hidden, p->hidden},
        {"n_heads", s.n_heads, p->n_heads},
        {"n_kv_heads", s.n_kv_heads, p->n_kv_heads},
        {"head_dim", s.head_dim, p->head_dim},
        {"rotary_dim", s.rotary_dim, p->rotary_dim},
        {"inner", s.inner, p->inner},
        {"vocab", s.vocab, p->vocab},
        {"context", t.context, p->context},
        {"n_experts", s.n_experts, p->n_experts},
        {"n_active", s.n_active, p->n_active},
        {"expert_inner", s.expert_inner, p->expert_inner},
        {"n_block_experts", s.n_block_experts, p->n_block_experts},
        {"expert_block_len", s.expert_block_len, p->n_block_experts ? p->block_len : 0},
        {"n_group", s.n_group, p->n_experts ? 1 : 0},
        {"router_score", s.router_score, p->score},
        {"is_router_normalised", s.is_router_normalised, p->is_normalised},
        {"mask", t.mask_token, p->mask},
        {"stop", t.extra_stop_token, p->stop},
        {"other stop", t.other_stop_token, p->other_stop},
        {"delete", t.delete_token, p->delete_token},
        {"split", t.split_token, p->split_token},
        {"block_len", t.block_len, p->block_len},
        {"sub_block", t.sub_block, p->sub_block},
        {"is_shifted", t.is_shifted, p->is_shifted},
        {"has_seed", t.has_seed, p->has_seed},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].found != rows[i].expected)
            fail_msg("%s: %s is %lld, expected %lld", p->model, rows[i].what,
                     (long long)rows[i].found, (long long)rows[i].expected);
    assert_string_equal(kind->name, p->family);
    assert_string_equal(t.policy, p->policy);
    assert_true(s.rope_theta == p->rope_theta && t.threshold == p->threshold);
}

static void test_published(void **state) {
    (void)state;
    const published rows[] = {
        {.model = "LLaDA-MoE-7B-A1B",
         .config = llada_moe_config,
         .family = "llada_moe",
         .policy = "schedule",
         .attention = UM_ATTENTION_FULL,
         .n_layers = 16,
         .hidden = 2048,
         .n_heads = 16,
         .n_kv_heads = 16,
         .head_dim = 128,
         .rotary_dim = 128,
         .vocab = 157184,
         .context = 8192,
         .n_experts = 64,
         .n_active = 8,
         .expert_inner = 1024,
         .mask = 156895,
         .stop = 156900,
         .other_stop = -1,
         .delete_token = -1,
         .split_token = -1,
         .block_len = 32,
         .rope_theta = 50000,
         .threshold = 0.9,
         .score = ROUTE_SCORE_SOFTMAX},
        {.model = "LLaDA2.2-flash",
         .config = llada22_config,
         .family = "llada2_moe",
         .policy = "levenshtein",
         .attention = UM_ATTENTION_BLOCK_CAUSAL,
         .n_layers = 32,
         .hidden = 4096,
         .n_heads = 32,
         .n_kv_heads = 4,
         .head_dim = 128,
         .rotary_dim = 64,
         .inner = 9216,
         .vocab = 157184,
         .context = 131072,
         .n_experts = 256,
         .n_active = 8,
         .expert_inner = 1024,
         .n_block_experts = 48,
         .mask = 156895,
         .stop = -1,
         .other_stop = -1,
         .delete_token = 156930,
         .split_token = 156931,
         .block_len = 32,
         .rope_theta = 3e6,
         .threshold = 0.5,
         .is_normalised = true,
         .score = ROUTE_SCORE_SIGMOID},
        {.model = "SDAR-4B-Chat",
         .config = sdar_config,
         .family = "sdar",
         .policy = "dynamic",
         .attention = UM_ATTENTION_BLOCK_CAUSAL,
         .n_layers = 36,
         .hidden = 2560,
         .n_heads = 32,
         .n_kv_heads = 8,
         .head_dim = 128,
         .rotary_dim = 128,
         .inner = 9728,
         .vocab = 151936,
         .context = 32768,
         .mask = 151669,
         .stop = 151645,
         .other_stop = 151643,
         .delete_token = -1,
         .split_token = -1,
         .block_len = 4,
         .rope_theta = 1e6,
         .threshold = 0.85},
        {.model = "RND1-Base-0910",
         .config = rnd1_config,
         .family = "rnd1",
         .policy = "entropy",
         .attention = UM_ATTENTION_FULL,
         .n_layers = 48,
         .hidden = 2048,
         .n_heads = 32,
         .n_kv_heads = 4,
         .head_dim = 128,
         .rotary_dim = 128,
         .vocab = 151936,
         .context = 40960,
         .n_experts = 128,
         .n_active = 8,
         .expert_inner = 768,
         .mask = 151669,
         .stop = 151645,
         .other_stop = 151643,
         .delete_token = -1,
         .split_token = -1,
         .rope_theta = 1e6,
         .threshold = 0.9,
         .is_shifted = true,
         .is_normalised = true,
         .score = ROUTE_SCORE_SOFTMAX},
        {.model = "Dream-v0-Instruct-7B",
         .config = dream_config,
         .family = "dream",
         .policy = "entropy",
         .attention = UM_ATTENTION_FULL,
         .n_layers = 28,
         .hidden = 3584,
         .n_heads = 28,
         .n_kv_heads = 4,
         .head_dim = 128,
         .rotary_dim = 128,
         .inner = 18944,
         .vocab = 152064,
         .context = 131072,
         .mask = 151666,
         .stop = 151645,
         .other_stop = 151643,
         .delete_token = -1,
         .split_token = -1,
         .rope_theta = 1e6,
         .threshold = 0.9,
         .is_shifted = true},
        {.model = "Fast_dLLM_v2_7B",
         .config = fast_config,
         .family = "fast_dllm_v2",
         .policy = "threshold",
         .attention = UM_ATTENTION_BLOCK_CAUSAL,
         .n_layers = 28,
         .hidden = 3584,
         .n_heads = 28,
         .n_kv_heads = 4,
         .head_dim = 128,
         .rotary_dim = 128,
         .inner = 18944,
         .vocab = 152064,
         .context = 32768,
         .mask = 151665,
         .stop = 151645,
         .other_stop = -1,
         .delete_token = -1,
         .split_token = -1,
         .block_len = 32,
         .sub_block = 8,
         .rope_theta = 1e6,
         .threshold = 0.9,
         .is_shifted = true,
         .has_seed = true},
        {.model = "iLLaDA-8B-Instruct",
         .config = illada_config,
         .family = "illada",
         .policy = "schedule",
         .attention = UM_ATTENTION_FULL,
         .n_layers = 32,
         .hidden = 4096,
         .n_heads = 32,
         .n_kv_heads = 8,
         .head_dim = 128,
         .rotary_dim = 128,
         .inner = 12288,
         .vocab = 155136,
         .context = 4096,
         .mask = 5,
         .stop = 2,
         .other_stop = -1,
         .delete_token = -1,
         .split_token = -1,
         .block_len = 32,
         .rope_theta = 500000,
         .threshold = 0.9},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_published(&rows[i]);
}

/* A published config with one more field in front: a repeated key is no JSON here, so only keys
 * that the config does not have. */
static void test_refused(void **state) {
    (void)state;
    const struct {
        const char *config, *field, *part;
    } rows[] = {
        {sdar_config, "\"use_regular_causal\":true", "use_regular_causal"},
        {sdar_config, "\"partial_rotary_factor\":0.5", "partial_rotary_factor"},
        {sdar_config, "\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":4}", "yarn"},
        {sdar_config, "\"rope_parameters\":{\"rope_theta\":5000}", "but"},
        {sdar_config, "\"rope_parameters\":\"default\"", "rope_parameters.factor"},
        {dream_config, "\"hidden_act\":\"gelu\"", "hidden_act"},
        {fast_config, "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2}", "linear"},
        {fast_config, "\"use_sliding_window\":true", "use_sliding_window"},
        {fast_config, "\"head_dim\":7", "head_dim"},
        {llada_moe_config, "\"clip_qkv\":8", "clip_qkv"},
        {llada_moe_config, "\"head_dim\":\"wide\"", "head_dim"},
        {llada22_config, "\"score_function\":\"softmax\"", "score_function"},
        {llada22_config, "\"norm_topk_prob\":false", "norm_topk_prob"},
        {rnd1_config, "\"use_sliding_window\":true", "use_sliding_window"},
        {"{\"architectures\":[\"GPT2LMHeadModel\"]}", NULL, "known are LLaDA2MoeModelLM"},
        {"{\"architectures\":[\"LLaDAMoEModelLMs\"],\"model_type\":\"llada\"}", NULL, "RND1LM"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const family *kind;
        transformer_shape s;
        model_traits t;
        um_status status;
        um_error err = {0};
        char json[2048];
        snprintf(json, sizeof json, rows[i].field ? "{%s,%s" : "%s%s",
                 rows[i].field ? rows[i].field : "", rows[i].config + (rows[i].field ? 1 : 0));
        describe(json, &kind, &s, &t, &status, &err);
        if ((status != UM_UNSUPPORTED && status != UM_FORMAT) || !strstr(err.message, rows[i].part))
            fail_msg("%s: %s: %s", rows[i].part, um_status_name(status), err.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_published),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
