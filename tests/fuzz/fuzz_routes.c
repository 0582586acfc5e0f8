/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests to the server: the first byte chooses the path, the rest is the body. Whatever comes
 * must give a job or a whole reply, and what is refused must say so in the shape of its API.
 */
#include "server/routes.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#define CHECK(condition)           \
    do {                           \
        if (!(condition)) abort(); \
    } while (0)

static const char *const paths[] = {"/v1/chat/completions", "/v1/completions",
                                    "/v1/messages",         "/tokenize",
                                    "/detokenize",          "/v1/models/demo"};

static um_tokenizer *tokenizer;
static um_model_info info;
static metrics *counters;

static void open_once(void) {
    um_error err;
    if (tokenizer) return;
    CHECK(um_model_inspect(PROJECT_DIR "/models/demo", -1, &info, &err) == UM_OK);
    CHECK(um_tokenizer_open(PROJECT_DIR "/models/demo", &tokenizer, &err) == UM_OK);
    CHECK(metrics_create(&counters, &err) == UM_OK);
}

static void check_error(const route_reply *reply, bool is_anthropic) {
    json_error_t fault;
    json_t *root = json_loadb(reply->body, reply->n_bytes, 0, &fault);
    json_t *error = json_object_get(root, "error");
    CHECK(json_string_length(json_object_get(error, "message")) > 0);
    CHECK(json_is_string(json_object_get(error, "type")));
    CHECK(is_anthropic == (json_object_get(root, "type") != NULL));
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    route_reply reply;
    if (n_bytes == 0) return 0;
    open_once();
    size_t i = data[0] % (sizeof paths / sizeof *paths);
    api_model model = {.id = "demo", .info = &info, .tokenizer = tokenizer};
    routes r = {.model = &model, .metrics = counters, .health = ROUTE_READY};
    route_request request = {.method = i == 5 ? "GET" : "POST",
                             .path = paths[i],
                             .body = (const char *)data + 1,
                             .n_bytes = n_bytes - 1};
    routes_answer(&r, &request, &reply);
    if (reply.job) {
        CHECK(reply.http == 0 && !reply.body && i <= 2);
        CHECK(reply.job->n_choices >= 1 && reply.job->n_choices <= API_CHOICES_MAX);
        for (size_t k = 0; k < reply.job->request.n_prompts; k++)
            CHECK(reply.job->request.prompts[k].n_ids >= 1);
    } else {
        CHECK(reply.http >= 200 && reply.http < 500 && (reply.body || reply.fixed));
        if (reply.http >= 400) check_error(&reply, i == 2);
    }
    route_reply_deinit(&reply);
    return 0;
}
