/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as a safetensors file. What the parser accepts must lie within the bytes and tile the data.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void require(int is_true) {
    if (!is_true) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    for (int any_type = 0; any_type < 2; any_type++) {
        safetensors list;
        um_error err = {0};
        um_status status = safetensors_parse(data, n_bytes, "fuzz", any_type, &list, &err);
        if (status != UM_OK) {
            require(err.status == status && err.message[0] && !list.tensors);
            continue;
        }
        size_t n_used = 0;
        for (size_t i = 0; i < list.n_tensors; i++) {
            const tensor *t = &list.tensors[i];
            const uint8_t *first = t->data;
            int64_t n_items = 1;
            require(first >= data + 8 && t->n_bytes <= (size_t)(data + n_bytes - first));
            require(t->n_dims >= 0 && t->n_dims <= TENSOR_DIMS_MAX);
            for (int j = 0; j < TENSOR_DIMS_MAX; j++) n_items *= t->shape[j];
            require(n_items == t->n_items);
            require(any_type || (size_t)n_items * dtype_bytes(t->type) == t->n_bytes);
            require(strlen(t->name) < n_bytes);
            n_used += t->n_bytes;
        }
        require(n_used < n_bytes);
        safetensors_deinit(&list);
    }
    return 0;
}
