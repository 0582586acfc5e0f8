/* SPDX-License-Identifier: Apache-2.0
 *
 * The body of a request for text, checked and turned into what the engine takes. Every parameter is
 * honoured or refused with its name; none is ignored. A function on bytes: no socket, no engine.
 */
#ifndef SERVER_API_REQUEST_H
#define SERVER_API_REQUEST_H

#include <jansson.h>

#include "server/api_error.h"

enum { API_STOPS_MAX = 16, API_CHOICES_MAX = 128, API_PROMPTS_MAX = 128 };

typedef enum api_kind {
    API_KIND_CHAT = 0,       /* POST /v1/chat/completions */
    API_KIND_COMPLETION = 1, /* POST /v1/completions */
    API_KIND_MESSAGES = 2    /* POST /v1/messages */
} api_kind;

/* What requests are checked against. Borrowed, unchanging; any thread. */
typedef struct api_model {
    const char *id; /* as clients name it */
    const um_model_info *info;
    const um_tokenizer *tokenizer; /* NULL: the model runs on ids */
    int64_t created;               /* seconds since 1970 */
} api_model;

typedef struct api_prompt {
    int32_t *ids; /* [n_ids], for um_free */
    size_t n_ids;
} api_prompt;

/* Until api_request_deinit. */
typedef struct api_request {
    api_kind kind;
    json_t *root; /* the body: strings below borrow from it */
    um_request_options
        options;         /* prompt, seed's second key and max_tokens' default are the job's */
    api_prompt *prompts; /* [n_prompts] */
    size_t n_prompts;
    api_prompt suffix; /* what options.suffix points to */
    int32_t n;         /* choices of each prompt that the reply has */
    int32_t best_of;   /* choices of each prompt that are made: at least n */
    bool has_max_tokens;
    bool is_forced;      /* the answer is a call of a tool, and the constraint its rest */
    bool is_single_call; /* the reply has one call at most */
    char *forced_name;   /* of the function; NULL: the answer says it */
    bool is_stream, has_usage, has_steps, has_echo, has_tools;
    bool has_logprobs; /* the reply says them; options.top_logprobs is set then */
    int32_t n_top;     /* alternatives of each token that it says */
    const char *stops[API_STOPS_MAX];
    size_t n_stops;
    int32_t *stop_ids;   /* what options.stop_tokens points to */
    um_logit_bias *bias; /* what options.logit_bias points to */
    const char *user;
    /* A constraint that is to be made before the request can start; the parameter that asks. */
    const char *constraint_field; /* NULL: none */
    char *schema;                 /* [n_schema] or NULL: any object */
    size_t n_schema;
} api_request;

/* Parses and checks a body, renders the chat template, makes ids. On failure *request is empty;
 * UM_NOT_FOUND is an unknown model. */
um_status api_request_parse(api_kind kind, const char *body, size_t n_bytes, const api_model *model,
                            api_request *request, um_error *err);
void api_request_deinit(api_request *request);

/* The parameter's name in the API for one of um_request_options. */
const char *api_parameter_name(const char *field);

/* ---- api_parameters.c ----------------------------------------------------------------------- */

/* Reads every parameter but those of the prompt. */
um_status api_parameters_read(api_request *request, const api_model *model, um_error *err);

/* ---- api_format.c --------------------------------------------------------------------------- */

/* response_format as a schema. */
um_status api_format_read(api_request *request, const api_model *model, um_error *err);

/* ---- api_prompt.c --------------------------------------------------------------------------- */

um_status api_prompt_read(api_request *request, const api_model *model, um_error *err);
/* Text as ids; field names the parameter. */
um_status api_prompt_encode(const api_model *model, const char *field, const char *text,
                            size_t n_bytes, api_prompt *prompt, um_error *err);
/* An array of ids of the vocabulary. */
um_status api_prompt_ids(const api_model *model, const char *field, const json_t *array,
                         api_prompt *prompt, um_error *err);

#endif
