/* SPDX-License-Identifier: Apache-2.0
 *
 * Metadata to config. Defaults of keys that are absent are llama.cpp's, since its converters leave
 * out what is a default there: a file means the same in both programs.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "models/family.h"
#include "models/gguf_model.h"

/* What the functions of this file share. */
typedef struct metadata {
    const gguf *header;
    const char *file; /* last part of the path */
    const gguf_architecture *architecture;
    json_t *config;
} metadata;

static um_status set(const metadata *m, const char *key, json_t *value, um_error *err) {
    if (json_object_set_new(m->config, key, value) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for the metadata of %s", m->file);
    return UM_OK;
}

static um_status refuse(const metadata *m, const char *key, const char *expected,
                        const gguf_value *value, um_error *err) {
    char found[64];
    um_error_set(err, UM_FORMAT, "%s: \"%s\": expected %s, found %s", m->file, key, expected,
                 gguf_describe(value, found));
    um_error_at(err, m->header->path, -1);
    return UM_FORMAT;
}

/* A key behind the architecture's name. */
static const gguf_value *find_own(const metadata *m, const char *key, char name[96]) {
    snprintf(name, 96, "%s%s", m->architecture->name, key);
    return gguf_find(m->header, name);
}

static um_status find_architecture(metadata *m, um_error *err) {
    static const char key[] = "general.architecture";
    const gguf_value *value = gguf_find(m->header, key);
    const char *text;
    char name[64];
    size_t n;
    if (!value || !gguf_value_string(value, &text, &n))
        return refuse(m, key, "a string", value, err);
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), text);
    if (n == strlen(name)) m->architecture = gguf_architecture_find(name);
    if (m->architecture) return UM_OK;
    for (char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7E) *c = '?';
    um_error_set(err, UM_UNSUPPORTED,
                 "%s: architecture \"%s\" is not known as a diffusion model; known are %s", m->file,
                 name, gguf_architecture_names());
    um_error_at(err, m->header->path, -1);
    return UM_UNSUPPORTED;
}

/* ---- Values --------------------------------------------------------------------------------- */

static um_status set_value(const metadata *m, const gguf_key *key, um_error *err) {
    char name[96];
    int64_t integer;
    double real;
    bool is_true;
    const gguf_value *value = gguf_find(m->header, gguf_key_name(name, m->architecture, key));
    if (!value && key->rule != GGUF_KEY_REQUIRED) return UM_OK;
    switch (key->type) {
        case GGUF_KEY_U32:
            if (!value || !gguf_value_int(value, &integer))
                return refuse(m, name, "an integer", value, err);
            return key->config ? set(m, key->config, json_integer(integer), err) : UM_OK;
        case GGUF_KEY_F32:
            /* json_real takes no NaN. */
            if (!value || !gguf_value_real(value, &real) || !(real >= -1e30 && real <= 1e30))
                return refuse(m, name, "a number", value, err);
            return key->config ? set(m, key->config, json_real(real), err) : UM_OK;
        case GGUF_KEY_BOOL:
            if (!value || !gguf_value_bool(value, &is_true))
                return refuse(m, name, "true or false", value, err);
            return key->config ? set(m, key->config, json_boolean(is_true), err) : UM_OK;
    }
    return UM_OK;
}

/* An integer that is there already, or the fallback. */
static int64_t known_int(const metadata *m, const char *key, int64_t fallback) {
    const json_t *value = json_object_get(m->config, key);
    return value ? json_integer_value(value) : fallback;
}

static um_status set_default(const metadata *m, const char *key, json_t *value, um_error *err) {
    if (!json_object_get(m->config, key)) return set(m, key, value, err);
    json_decref(value);
    return UM_OK;
}

/* A rotary embedding whose frequencies are scaled is none that this project computes. */
static um_status refuse_scaled_rope(const metadata *m, um_error *err) {
    static const char *const factors[] = {".rope.scaling.factor", ".rope.scale_linear"};
    char name[96];
    const char *text;
    size_t n;
    double factor;
    const gguf_value *value = find_own(m, ".rope.scaling.type", name);
    if (value && (!gguf_value_string(value, &text, &n) || n != 4 || memcmp(text, "none", 4) != 0))
        FAIL(UM_UNSUPPORTED, err, "%s: \"%s\": expected \"none\"; scaled frequencies are not read",
             m->file, name);
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        value = find_own(m, factors[i], name);
        if (value && (!gguf_value_real(value, &factor) || factor != 1))
            return refuse(m, name, "1", value, err);
    }
    return UM_OK;
}

/* block_count counts layers for multi-token prediction, which are not used here. */
static um_status n_extra_layers(const metadata *m, int64_t *n, um_error *err) {
    char name[96];
    const gguf_value *value = find_own(m, ".nextn_predict_layers", name);
    *n = 0;
    if (!value) return UM_OK;
    if (!gguf_value_int(value, n) || *n < 0 || *n > SIZE_LAYERS_MAX)
        return refuse(m, name, "a number of layers", value, err);
    return UM_OK;
}

static um_status set_layers(const metadata *m, um_error *err) {
    int64_t n_extra, n_layers = known_int(m, "num_hidden_layers", 0);
    TRY(n_extra_layers(m, &n_extra, err));
    if (n_extra) TRY(set(m, "num_hidden_layers", json_integer(n_layers - n_extra), err));
    n_layers -= n_extra;
    if (strcmp(m->architecture->family, "llada_moe") != 0) return UM_OK;
    /* LLaDA-MoE's config has a number for each layer; in a GGUF file all of them have experts. */
    json_t *kinds = json_array();
    for (int64_t i = 0; i < n_layers && i < SIZE_LAYERS_MAX; i++)
        json_array_append_new(kinds, json_integer(1));
    return set(m, "moe_layer_freq", kinds, err);
}

static um_status set_defaults(const metadata *m, um_error *err) {
    TRY(set_default(m, "rope_theta", json_real(10000), err));
    /* Graphs of models made of Qwen3-MoE always normalise; LLaDA-MoE's never does. */
    if (strcmp(m->architecture->family, "llada_moe") != 0)
        TRY(set_default(m, "norm_topk_prob", json_true(), err));
    if (strcmp(m->architecture->family, "llada2_moe") != 0) return UM_OK;
    TRY(set_default(m, "n_group", json_integer(1), err));
    TRY(set_default(m, "topk_group", json_integer(1), err));
    TRY(set_default(m, "routed_scaling_factor", json_real(1), err));
    int64_t heads = known_int(m, "num_attention_heads", 1), width = known_int(m, "hidden_size", 1);
    int64_t head_dim = known_int(m, "head_dim", heads > 0 ? width / heads : 0);
    int64_t rotary_dim = known_int(m, "rotary_dim", 0);
    if (head_dim < 1 || rotary_dim < 0 || rotary_dim > head_dim) {
        um_error_set(err, UM_FORMAT,
                     "%s: \"%s.rope.dimension_count\": expected at most the head's width, %lld, "
                     "found %lld",
                     m->file, m->architecture->name, (long long)head_dim, (long long)rotary_dim);
        um_error_at(err, m->header->path, -1);
        return UM_FORMAT;
    }
    return set(m, "partial_rotary_factor", json_real((double)rotary_dim / (double)head_dim), err);
}

/* ---- Vocabulary ----------------------------------------------------------------------------- */

static um_status set_vocabulary(const metadata *m, const tensor_catalog *catalog, um_error *err) {
    char name[160];
    const tensor *t = tensor_catalog_find(catalog, gguf_role_name(name, GGUF_ROLE_EMBEDDING, 0));
    if (!t || t->n_dims != 2) {
        um_error_set(err, UM_FORMAT, "%s: %s: expected a tensor of two dimensions, found %s",
                     m->file, name, t ? "another number of them" : "none");
        um_error_at(err, m->header->path, -1);
        return UM_FORMAT;
    }
    return set(m, "vocab_size", json_integer(t->shape[0]), err);
}

static um_status read_token(const metadata *m, const char *key, int64_t *token, um_error *err) {
    const gguf_value *value = gguf_find(m->header, key);
    *token = -1;
    if (value && (!gguf_value_int(value, token) || *token < 0))
        return refuse(m, key, "a token id", value, err);
    return UM_OK;
}

static um_status set_tokens(const metadata *m, um_error *err) {
    static const char *const ends[] = {gguf_key_eos_token, gguf_key_eot_token};
    int64_t token;
    TRY(read_token(m, gguf_key_mask_token, &token, err));
    if (token >= 0) TRY(set(m, "mask_token_id", json_integer(token), err));
    json_t *list = json_array();
    TRY(set(m, "eos_token_id", list, err));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        TRY(read_token(m, ends[i], &token, err));
        if (token >= 0 && json_array_append_new(list, json_integer(token)) != 0)
            FAIL(UM_NO_MEMORY, err, "no memory for the metadata of %s", m->file);
    }
    return UM_OK;
}

/* ---- The whole ------------------------------------------------------------------------------ */

static um_status fill(metadata *m, const tensor_catalog *catalog, um_error *err) {
    TRY(find_architecture(m, err));
    TRY(set(m, "architectures", json_pack("[s]", m->architecture->config_architecture), err));
    for (int i = 0; i < m->architecture->n_keys; i++)
        TRY(set_value(m, &m->architecture->keys[i], err));
    TRY(refuse_scaled_rope(m, err));
    TRY(set_layers(m, err));
    TRY(set_defaults(m, err));
    TRY(set_vocabulary(m, catalog, err));
    return set_tokens(m, err);
}

static metadata metadata_of(const tensor_catalog *catalog, const gguf_architecture *architecture) {
    metadata m = {.header = tensor_catalog_gguf(catalog), .architecture = architecture};
    const char *slash = strrchr(m.header->path, '/');
    m.file = slash ? slash + 1 : m.header->path;
    return m;
}

/* The defaults of decoding that a directory keeps in a file of its own. */
static um_status add_generation(const metadata *m, hf_config *config, um_error *err) {
    const gguf_value *value = gguf_find(m->header, gguf_key_generation);
    const char *text;
    size_t n_bytes;
    if (!value) return UM_OK;
    if (!gguf_value_string(value, &text, &n_bytes))
        return refuse(m, gguf_key_generation, "a string", value, err);
    return hf_config_add_generation(config, text, n_bytes, err);
}

um_status gguf_config_create(const tensor_catalog *catalog, const gguf_architecture **architecture,
                             hf_config **config, um_error *err) {
    metadata m = metadata_of(catalog, NULL);
    *config = NULL;
    m.config = json_object();
    if (!m.config) FAIL(UM_NO_MEMORY, err, "no memory for the metadata of %s", m.file);
    um_status status = fill(&m, catalog, err);
    *architecture = m.architecture;
    if (status != UM_OK) {
        json_decref(m.config);
        return status;
    }
    TRY(hf_config_from_json_take(m.config, m.file, config, err));
    status = add_generation(&m, *config, err);
    if (status == UM_OK) return UM_OK;
    hf_config_close(*config);
    *config = NULL;
    return status;
}

/* The number of a key as the file has it; false where it is absent. */
static bool told_number(const metadata *m, const gguf_key *key, double *number) {
    char name[96];
    bool is_true;
    const gguf_value *value = gguf_find(m->header, gguf_key_name(name, m->architecture, key));
    if (!value) return false;
    if (key->type == GGUF_KEY_BOOL) {
        if (!gguf_value_bool(value, &is_true)) return false;
        *number = is_true;
        return true;
    }
    return gguf_value_real(value, number);
}

um_status gguf_config_check(const tensor_catalog *catalog, const gguf_architecture *architecture,
                            const transformer_shape *shape, model_traits *traits, um_error *err) {
    metadata m = metadata_of(catalog, architecture);
    int64_t n_extra;
    TRY(n_extra_layers(&m, &n_extra, err));
    for (int i = 0; i < architecture->n_keys; i++) {
        const gguf_key *key = &architecture->keys[i];
        double told, held;
        char name[96];
        if (key->rule == GGUF_KEY_INFORMAL || !told_number(&m, key, &told)) continue;
        if (key->number == GGUF_NUMBER_SHIFTED && architecture->has_shift)
            traits->is_shifted = told != 0;
        if (!gguf_schema_number(key, shape, traits, &held)) continue;
        if (key->number == GGUF_NUMBER_LAYERS) told -= (double)n_extra;
        if (key->type == GGUF_KEY_F32 ? (float)told == (float)held : told == held) continue;
        um_error_set(err, UM_UNSUPPORTED,
                     "%s: \"%s\": expected %g for a model of this kind, found %g", m.file,
                     gguf_key_name(name, architecture, key), held, told);
        um_error_at(err, m.header->path, -1);
        return UM_UNSUPPORTED;
    }
    return UM_OK;
}
