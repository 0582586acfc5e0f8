/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed weights kept in a file, so that the next start reads them instead of packing anew. The
 * file is this machine's: a cache, not a format to hand on.
 *
 *   head | part bytes u64 [n_parts] | XXH3 u64 [n_pieces] of each 4 MiB of each part
 *   | zeros up to a multiple of 4096 | the parts' bytes
 */
#ifndef MODELS_PACK_CACHE_H
#define MODELS_PACK_CACHE_H

#include "models/transformer.h"

/* Reads the packed weights of `t` from a file that was written for the same weights: `key` says
 * which. *is_read is false where there is no such file, where it was written for others or by
 * another version, or where it is damaged; then nothing has changed. UM_NO_MEMORY. */
um_status pack_cache_read(const char *path, uint64_t key, transformer *t, device *dev,
                          um_progress_fn progress, void *user, bool *is_read, um_error *err);
/* Writes packed weights, after transformer_pack. The file appears when it is whole. */
um_status pack_cache_write(const char *path, uint64_t key, transformer *t, device *dev,
                           um_error *err);

#endif
