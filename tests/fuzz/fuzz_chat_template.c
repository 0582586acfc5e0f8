/* SPDX-License-Identifier: Apache-2.0
 *
 * A template and, after a zero byte, the messages; without one, messages of its own. Whatever comes
 * must end in a text or in an error with a sentence, within the budget.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/chat_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const char default_messages[] =
    "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": "
    "\"H\xc3\xa9 "
    "<b>\\n\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": "
    "{\"name\": "
    "\"f\", \"arguments\": {\"x\": [1, 2.5, true]}}}]}, {\"role\": \"tool\", \"content\": \"ok\"}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    if (n_bytes > 1 << 16) return 0;
    const uint8_t *zero = n_bytes ? memchr(data, 0, n_bytes) : NULL;
    size_t n_template = zero ? (size_t)(zero - data) : n_bytes;
    char *messages = NULL;
    if (zero) {
        size_t n = n_bytes - n_template - 1;
        messages = malloc(n + 1);
        if (!messages) return 0;
        memcpy(messages, zero + 1, n);
        messages[n] = '\0';
    }
    chat_template *t;
    um_error err = {UM_OK, "", "", -1};
    um_status status =
        chat_template_parse((const char *)data, n_template,
                            "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}", &t, &err);
    if (status == UM_OK) {
        char *text;
        status = chat_template_render(
            t, messages ? messages : default_messages,
            "[{\"name\": \"f\", \"parameters\": {\"x\": {\"type\": \"int\"}}}]",
            "{\"enable_thinking\": false, \"s\": \"a b\"}", true, &text, &err);
        if (status == UM_OK) {
            assert(text);
            memory_free(text);
        } else {
            assert(!text);
        }
        chat_template_close(t);
    }
    assert(status == UM_OK || err.status == status);
    free(messages);
    return 0;
}
