/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a GGUF file: the header, and what reads on behind it (config, tensors, tokenizer, chat
 * template), which takes a path and gets that of a file in memory. What the parser accepts must lie
 * within the bytes, one tensor beside the other.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "formats/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void require(int is_true) {
    if (!is_true) abort();
}

/* Every byte that a getter gives out lies in the file. */
static void read_value(const gguf_value *value, const uint8_t *data, size_t n_bytes) {
    char text[64];
    int64_t integer;
    double real;
    bool is_true;
    const char *string;
    size_t n, at = 0;
    require(value->data >= data && value->n_bytes <= (size_t)(data + n_bytes - value->data));
    require(gguf_describe(value, text) == text && strlen(text) < sizeof text);
    gguf_value_int(value, &integer);
    gguf_value_real(value, &real);
    gguf_value_bool(value, &is_true);
    gguf_value_string(value, &string, &n);
    if (value->type == GGUF_TYPE_STRING) {
        for (uint64_t i = 0; i < value->n_items; i++) {
            require(gguf_next_string(value, &at, &string, &n));
            require((const uint8_t *)string >= data &&
                    n <= (size_t)(data + n_bytes - (const uint8_t *)string));
        }
        require(at == value->n_bytes && !gguf_next_string(value, &at, &string, &n));
    } else {
        for (uint64_t i = 0; i < value->n_items; i++) gguf_item_int(value, i, &integer);
        require(value->n_items * gguf_item_bytes(value->type) == value->n_bytes);
    }
}

static void read_header(const uint8_t *data, size_t n_bytes) {
    gguf header;
    um_error err = {0};
    um_status status = gguf_parse(data, n_bytes, "fuzz", &header, &err);
    if (status != UM_OK) {
        require(err.status == status && err.message[0] && !header.tensors && !header.values);
        return;
    }
    size_t n_used = 0;
    for (size_t i = 0; i < header.n_values; i++) {
        require(gguf_find(&header, header.values[i].key) == &header.values[i]);
        read_value(&header.values[i], data, n_bytes);
    }
    for (size_t i = 0; i < header.n_tensors; i++) {
        const tensor *t = &header.tensors[i];
        const uint8_t *first = t->data;
        int64_t n_items = 1;
        require(first >= data && t->n_bytes <= (size_t)(data + n_bytes - first));
        require(t->n_dims >= 1 && t->n_dims <= TENSOR_DIMS_MAX);
        for (int j = 0; j < TENSOR_DIMS_MAX; j++) n_items *= t->shape[j];
        require(n_items == t->n_items && n_items > 0);
        require(dtype_size(t->type, (size_t)n_items) == t->n_bytes);
        n_used += t->n_bytes;
    }
    require(n_used <= n_bytes);
    gguf_deinit(&header);
}

static void read_model(const char *path) {
    um_model_info info;
    um_tokenizer *text = NULL;
    um_error err = {0};
    um_status status = um_model_inspect(path, -1, &info, &err);
    require(status == UM_OK || (err.status == status && err.message[0]));
    status = um_tokenizer_open(path, &text, &err);
    require((status == UM_OK) == (text != NULL));
    if (!text) return;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    char *rendered = NULL;
    if (um_tokenizer_encode(text, "a b<m>12", 8, &ids, &n_ids, &err) == UM_OK) um_free(ids);
    if (um_tokenizer_render_chat(text, "[]", NULL, NULL, true, &rendered, &err) == UM_OK)
        um_free(rendered);
    um_tokenizer_close(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    read_header(data, n_bytes);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) return 0;
    if (write(fd, data, n_bytes) == (ssize_t)n_bytes) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        read_model(path);
    }
    close(fd);
    return 0;
}
