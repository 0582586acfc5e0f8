/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors: 8 bytes with the header's length, little-endian; a JSON header padded with spaces to
 * a multiple of 8; the data. Written to a neighbour of the target, then renamed onto it.
 */
#include "programs/tensor_file.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "programs/interrupt.h"
#include "programs/report.h"

enum { CHUNK_VALUES = 1 << 18 };

static um_status write_all(FILE *file, const char *path, const void *data, size_t n_bytes,
                           um_error *err) {
    errno = 0;
    if (fwrite(data, 1, n_bytes, file) == n_bytes) return UM_OK;
    return report_system(err, path, "cannot write", errno ? errno : EIO);
}

static um_status write_header(FILE *file, const char *path, const char *name, size_t n_rows,
                              size_t n_columns, um_error *err) {
    char header[256];
    unsigned char length[8];
    int n = snprintf(header, sizeof header - 8,
                     "{\"%s\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]}}",
                     name, n_rows, n_columns, n_rows * n_columns * sizeof(float));
    while (n % 8 != 0) header[n++] = ' ';
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)n >> (8 * i));
    TRY(write_all(file, path, length, sizeof length, err));
    return write_all(file, path, header, (size_t)n, err);
}

/* float32 as little-endian bytes, whatever the machine. */
static um_status write_values(FILE *file, const char *path, const float *values, size_t n,
                              um_error *err) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (size_t i = 0; i < n; i += CHUNK_VALUES) {
        size_t n_now = n - i < CHUNK_VALUES ? n - i : CHUNK_VALUES;
        if (interrupt_is_set()) return um_error_set(err, UM_CANCELLED, "interrupted");
        TRY(write_all(file, path, values + i, n_now * sizeof *values, err));
    }
#else
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits = __builtin_bswap32(bits);
        TRY(write_all(file, path, &bits, sizeof bits, err));
    }
#endif
    return UM_OK;
}

/* Closes the file in any case. */
static um_status write_and_close(FILE *file, const char *path, const char *name,
                                 const float *values, size_t n_rows, size_t n_columns,
                                 um_error *err) {
    um_status status = write_header(file, path, name, n_rows, n_columns, err);
    if (status == UM_OK) status = write_values(file, path, values, n_rows * n_columns, err);
    errno = 0;
    if (fclose(file) != 0 && status == UM_OK)
        status = report_system(err, path, "cannot write", errno ? errno : EIO);
    return status;
}

static um_status write_beside(const char *path, const char *name, const float *values,
                              size_t n_rows, size_t n_columns, um_error *err) {
    strbuf buffer;
    strbuf_init(&buffer);
    strbuf_append_format(&buffer, "%s.XXXXXX", path);
    char *temporary = strbuf_take(&buffer, NULL);
    if (!temporary) FAIL(UM_NO_MEMORY, err, "no memory for a file name");
    um_status status = UM_OK;
    int descriptor = mkstemp(temporary);
    if (descriptor < 0) {
        status = report_system(err, path, "cannot write", errno);
        memory_free(temporary);
        return status;
    }
    mode_t mask = umask(0);
    umask(mask);
    FILE *file = fchmod(descriptor, 0666 & ~mask) == 0 ? fdopen(descriptor, "wb") : NULL;
    if (file) {
        status = write_and_close(file, path, name, values, n_rows, n_columns, err);
    } else {
        status = report_system(err, path, "cannot write", errno);
        close(descriptor);
    }
    if (status == UM_OK && rename(temporary, path) != 0)
        status = report_system(err, path, "cannot write", errno);
    if (status != UM_OK) unlink(temporary);
    memory_free(temporary);
    return status;
}

um_status tensor_file_write(const char *path, const char *name, const float *values, size_t n_rows,
                            size_t n_columns, um_error *err) {
    struct stat known;
    if (stat(path, &known) != 0 || S_ISREG(known.st_mode))
        return write_beside(path, name, values, n_rows, n_columns, err);
    FILE *file = fopen(path, "wb");
    if (!file) return report_system(err, path, "cannot write", errno);
    return write_and_close(file, path, name, values, n_rows, n_columns, err);
}
