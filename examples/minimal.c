/* SPDX-License-Identifier: Apache-2.0
 *
 * The smallest program that writes text with a model:
 *
 *     cc minimal.c $(pkg-config --cflags --libs unmask) -o minimal
 *     ./minimal MODEL_DIRECTORY "<role>HUMAN</role>1 + 3 =<|role_end|><role>ASSISTANT</role>"
 */
#include <stdio.h>
#include <string.h>
#include <unmask.h>

static int fail(const um_error *err) {
    fprintf(stderr, "minimal: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv) {
    um_error err;
    um_tokenizer *tokenizer = NULL;
    um_engine *engine = NULL;
    um_request *request = NULL;
    int32_t *prompt = NULL;
    size_t n_prompt;
    if (argc != 3) {
        fprintf(stderr, "usage: minimal MODEL_DIRECTORY PROMPT\n");
        return 2;
    }
    um_engine_options engine_options;
    um_engine_options_init(&engine_options);
    engine_options.directory = argv[1];
    if (um_tokenizer_open(argv[1], &tokenizer, &err) != UM_OK) return fail(&err);
    if (um_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), &prompt, &n_prompt, &err) != UM_OK)
        return fail(&err);
    if (um_engine_open(&engine_options, &engine, &err) != UM_OK) return fail(&err);

    um_request_options options;
    um_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = n_prompt;
    options.max_tokens = 64;
    if (um_request_create(engine, &options, &request, &err) != UM_OK) return fail(&err);
    while (um_engine_step(engine, &err) == UM_OK) {
        um_event event;
        while (um_request_next_event(request, &event) == UM_OK) {
            char *text = NULL;
            if (event.kind == UM_EVENT_ERROR) return fail(&event.error);
            if (event.kind != UM_EVENT_DONE) continue;
            if (um_tokenizer_decode(tokenizer, event.tokens, (size_t)event.n_tokens, true, &text,
                                    NULL, &err) == UM_OK)
                printf("%s\n", text);
            um_free(text);
        }
    }
    um_request_destroy(&request);
    um_engine_close(&engine);
    um_free(prompt);
    um_tokenizer_close(&tokenizer);
    return 0;
}
