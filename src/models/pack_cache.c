/* SPDX-License-Identifier: Apache-2.0
 *
 * All workers read and check pieces of a part at once, into memory on huge pages: a mapped file
 * would be there sooner, and slower at each step.
 */
#include "models/pack_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/memory.h"
#include "base/new_file.h"
#include "models/pack.h"

enum { VERSION = 1, HEAD_ALIGNMENT = 4096 };

#define PIECE_BYTES ((size_t)4 << 20)

typedef struct file_head {
    char magic[8];
    uint32_t version, n_parts;
    uint64_t key, n_pieces;
} file_head;

static const char MAGIC[8] = {'u', 'm', 'p', 'a', 'c', 'k', 'e', 'd'};

/* What stands before the parts, as one block of memory. */
typedef struct directory {
    file_head *head; /* owned: all of the block */
    uint64_t *part_bytes, *hashes;
    size_t n_bytes; /* a multiple of HEAD_ALIGNMENT */
} directory;

static size_t pieces_of(size_t n_bytes) {
    return (n_bytes + PIECE_BYTES - 1) / PIECE_BYTES;
}

static um_status directory_init(directory *d, transformer *t, uint64_t key, um_error *err) {
    size_t n_parts = (size_t)t->shape.n_layers + 1, n_pieces = 0;
    for (size_t i = 0; i < n_parts; i++) n_pieces += pieces_of(pack_part_bytes(t, (int32_t)i));
    d->n_bytes = sizeof *d->head + (n_parts + n_pieces) * sizeof(uint64_t);
    d->n_bytes = (d->n_bytes + HEAD_ALIGNMENT - 1) / HEAD_ALIGNMENT * HEAD_ALIGNMENT;
    d->head = memory_calloc(1, d->n_bytes);
    if (!d->head) FAIL(UM_NO_MEMORY, err, "no memory for the head of a file of packed weights");
    *d->head = (file_head){
        .version = VERSION, .n_parts = (uint32_t)n_parts, .key = key, .n_pieces = n_pieces};
    memcpy(d->head->magic, MAGIC, sizeof MAGIC);
    d->part_bytes = (uint64_t *)(void *)(d->head + 1);
    d->hashes = d->part_bytes + n_parts;
    for (size_t i = 0; i < n_parts; i++) d->part_bytes[i] = pack_part_bytes(t, (int32_t)i);
    return UM_OK;
}

/* Pieces of one part, on all workers. */
typedef struct piece_task {
    int descriptor; /* -1: only hashes are wanted */
    unsigned char *memory;
    size_t n_bytes, file_at;
    uint64_t *hashes;
    atomic_bool has_failed;
} piece_task;

static bool read_all(int descriptor, unsigned char *to, size_t n_bytes, size_t at) {
    while (n_bytes > 0) {
        ssize_t n = pread(descriptor, to, n_bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        to += n;
        at += (size_t)n;
        n_bytes -= (size_t)n;
    }
    return true;
}

static void do_piece(void *context, int i_task, int i_worker) {
    (void)i_worker;
    piece_task *t = context;
    size_t at = (size_t)i_task * PIECE_BYTES, left = t->n_bytes - at;
    size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
    if (t->descriptor < 0) {
        t->hashes[i_task] = XXH3_64bits(t->memory + at, n);
        return;
    }
    if (atomic_load_explicit(&t->has_failed, memory_order_relaxed)) return;
    if (!read_all(t->descriptor, t->memory + at, n, t->file_at + at) ||
        XXH3_64bits(t->memory + at, n) != t->hashes[i_task])
        atomic_store_explicit(&t->has_failed, true, memory_order_relaxed);
}

/* Reads all parts. UM_AGAIN: the file is not what it should be. */
static um_status read_parts(int descriptor, const directory *d, transformer *t, device *dev,
                            um_progress_fn progress, void *user, um_error *err) {
    size_t total = 0, at = d->n_bytes;
    uint64_t *hashes = d->hashes;
    for (uint32_t i = 0; i < d->head->n_parts; i++) total += d->part_bytes[i];
    for (uint32_t i = 0; i < d->head->n_parts; i++) {
        size_t n_bytes = d->part_bytes[i];
        if (n_bytes == 0) continue;
        TRY(device_alloc(dev, n_bytes, &t->packed[i], err));
        piece_task task = {.descriptor = descriptor,
                           .memory = t->packed[i],
                           .n_bytes = n_bytes,
                           .file_at = at,
                           .hashes = hashes};
        thread_pool_run(dev->pool, do_piece, &task, (int)pieces_of(n_bytes));
        if (atomic_load(&task.has_failed)) return UM_AGAIN;
        hashes += pieces_of(n_bytes);
        at += n_bytes;
        if (progress)
            progress(user, "reading packed weights", (int64_t)(at - d->n_bytes), (int64_t)total);
    }
    return UM_OK;
}

/* Whether the file begins with the head that `expected` would have; takes over its hashes. */
static bool read_head(int descriptor, directory *expected) {
    size_t fixed = sizeof(file_head) + expected->head->n_parts * sizeof(uint64_t);
    size_t total = expected->n_bytes;
    for (uint32_t i = 0; i < expected->head->n_parts; i++) total += expected->part_bytes[i];
    struct stat known;
    if (fstat(descriptor, &known) != 0 || !S_ISREG(known.st_mode) || known.st_size < 0 ||
        (uint64_t)known.st_size != total)
        return false;
    unsigned char *found = memory_alloc(fixed);
    bool is_same = found && read_all(descriptor, found, fixed, 0) &&
                   memcmp(found, expected->head, fixed) == 0 &&
                   read_all(descriptor, (unsigned char *)expected->hashes,
                            expected->head->n_pieces * sizeof(uint64_t), fixed);
    memory_free(found);
    return is_same;
}

um_status pack_cache_read(const char *path, uint64_t key, transformer *t, device *dev,
                          um_progress_fn progress, void *user, bool *is_read, um_error *err) {
    directory d = {0};
    *is_read = false;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return UM_OK;
    um_status status = directory_init(&d, t, key, err);
    if (status == UM_OK && !read_head(descriptor, &d)) status = UM_AGAIN;
    if (status == UM_OK) status = read_parts(descriptor, &d, t, dev, progress, user, err);
    close(descriptor);
    for (int32_t i = 0; i <= t->shape.n_layers; i++) {
        if (status == UM_OK && t->packed[i]) {
            pack_part_bind(t, dev, i, t->packed[i], true);
        } else {
            device_free(dev, t->packed[i]);
            t->packed[i] = NULL;
        }
    }
    *is_read = status == UM_OK;
    memory_free(d.head);
    return status == UM_AGAIN ? UM_OK : status;
}

static um_status write_file(new_file *f, const char *path, const directory *d, const transformer *t,
                            um_error *err) {
    TRY(new_file_create(f, path, err));
    TRY(new_file_write(f, d->head, d->n_bytes, err));
    for (uint32_t i = 0; i < d->head->n_parts; i++)
        if (t->packed[i]) TRY(new_file_write(f, t->packed[i], d->part_bytes[i], err));
    return new_file_finish(f, err);
}

um_status pack_cache_write(const char *path, uint64_t key, transformer *t, device *dev,
                           um_error *err) {
    directory d = {0};
    TRY(directory_init(&d, t, key, err));
    uint64_t *hashes = d.hashes;
    for (uint32_t i = 0; i < d.head->n_parts; i++) {
        piece_task task = {
            .descriptor = -1, .memory = t->packed[i], .n_bytes = d.part_bytes[i], .hashes = hashes};
        thread_pool_run(dev->pool, do_piece, &task, (int)pieces_of(task.n_bytes));
        hashes += pieces_of(task.n_bytes);
    }
    new_file f = {0};
    um_status status = write_file(&f, path, &d, t, err);
    new_file_discard(&f);
    memory_free(d.head);
    return status;
}
