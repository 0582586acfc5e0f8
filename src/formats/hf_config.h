/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json, generation_config.json and what tokenizer files say of special tokens, as checked
 * values. Knows JSON and files; which keys a family needs is the family's business (models/).
 */
#ifndef FORMATS_HF_CONFIG_H
#define FORMATS_HF_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct hf_config hf_config;

/* Reads config.json (required) and generation_config.json (optional) of a model directory. JSON
 * that is not an object, has duplicate keys or is not UTF-8 is UM_FORMAT with its byte. */
um_status hf_config_open(const char *directory, hf_config **config, um_error *err);
/* For tests and fuzzing: the same from text; generation may be NULL. */
um_status hf_config_parse(const char *config_json, size_t n_config, const char *generation_json,
                          size_t n_generation, hf_config **config, um_error *err);
/* A config that was made of another file's metadata. Takes `config`, an object, in any case; name
 * begins the messages about its values, and is borrowed. */
um_status hf_config_from_json_take(json_t *config, const char *name, hf_config **out,
                                   um_error *err);
/* Adds the text of a generation_config.json to a config that was made without one. */
um_status hf_config_add_generation(hf_config *config, const char *json, size_t n_bytes,
                                   um_error *err);
void hf_config_close(hf_config *config); /* accepts NULL */

/* architectures[0], or NULL; borrowed. */
const char *hf_config_architecture(const hf_config *config);
/* model_type, or NULL; borrowed. */
const char *hf_config_model_type(const hf_config *config);

/* Getters over config.json. A key may name a member of an object: "rope_parameters.rope_theta";
 * where "rope_parameters" is there and no object, the getter judges that value itself, and where it
 * is absent, so is the member. `null` counts as absent. An integer may be written as a real that is
 * exactly one (32.0, 1e6). A value of another JSON type, a number that
 * does not fit, or one outside [low, high] is UM_FORMAT; an absent required one as well; each
 * with key, what was expected, what was found. */
um_status hf_config_int(const hf_config *config, const char *key, int64_t low, int64_t high,
                        int64_t *value, um_error *err);
um_status hf_config_int_or(const hf_config *config, const char *key, int64_t low, int64_t high,
                           int64_t fallback, int64_t *value, um_error *err);
/* Accepts integers and reals; NaN and infinity never. */
um_status hf_config_real(const hf_config *config, const char *key, double low, double high,
                         double *value, um_error *err);
um_status hf_config_real_or(const hf_config *config, const char *key, double low, double high,
                            double fallback, double *value, um_error *err);
um_status hf_config_bool_or(const hf_config *config, const char *key, bool fallback, bool *value,
                            um_error *err);
/* *text is borrowed from the config. */
um_status hf_config_string_or(const hf_config *config, const char *key, const char *fallback,
                              const char **text, um_error *err);
/* A list of at most `capacity` integers; *n_values is 0 for an absent one. The error of an item
 * names it as key[3]. */
um_status hf_config_ints_or_none(const hf_config *config, const char *key, int64_t low,
                                 int64_t high, int32_t *values, int32_t capacity, int32_t *n_values,
                                 um_error *err);
/* True where the key is there and not null. */
bool hf_config_has(const hf_config *config, const char *key);
/* True where the key is there and neither null nor false: how configs spell "not used" where the
 * value in use is an object or a number. */
bool hf_config_is_set(const hf_config *config, const char *key);

/* The same over generation_config.json; absent file: the fallback. */
um_status hf_config_generation_int_or(const hf_config *config, const char *key, int64_t low,
                                      int64_t high, int64_t fallback, int64_t *value,
                                      um_error *err);
um_status hf_config_generation_real_or(const hf_config *config, const char *key, double low,
                                       double high, double fallback, double *value, um_error *err);
um_status hf_config_generation_string_or(const hf_config *config, const char *key,
                                         const char *fallback, const char **text, um_error *err);

/* Collects stop tokens: config's eos_token_id and then generation_config's, each a number
 * or a list of numbers, without repeats; each within [0, vocab), else UM_FORMAT. More than
 * `capacity` different ones are UM_UNSUPPORTED. */
um_status hf_config_stop_tokens(const hf_config *config, int64_t vocab, int32_t *tokens,
                                int32_t capacity, int32_t *n_tokens, um_error *err);

/* The mask token as the files of a directory give it, tried in this order: config's
 * "mask_token_id"; tokenizer_config.json's "mask_token" looked up in added_tokens_decoder, then in
 * tokenizer.json's added_tokens, then in added_tokens.json; then an added token whose content is
 * one of <|mask|>, <|MASK|>, <|mdm_mask|>, [MASK], <mask>, <MASK>, |<MASK>|, <[MASK]>. *token is -1
 * where none says. Files that are absent are skipped. Damaged ones are UM_FORMAT where the search
 * gets to them, and so is a mask token outside [0, vocab). directory may be NULL (config alone). */
um_status hf_config_mask_token(const hf_config *config, const char *directory, int64_t vocab,
                               int32_t *token, um_error *err);

#endif
