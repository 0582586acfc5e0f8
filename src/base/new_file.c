/* SPDX-License-Identifier: Apache-2.0
 *
 * Every write is checked: a disk that is full, a limit of the file's size (EFBIG where the program
 * ignores SIGXFSZ) and a failure that only closing tells of.
 */
#include "base/new_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/strbuf.h"

static um_status fail_write(const new_file *f, int error_number, um_error *err) {
    um_error_set(err, UM_IO, "%s: cannot write: %s", f->path,
                 strerror(error_number ? error_number : EIO));
    um_error_at(err, f->path, -1);
    return UM_IO;
}

static um_status open_beside(new_file *f, um_error *err) {
    strbuf name;
    strbuf_init(&name);
    strbuf_append_format(&name, "%s.XXXXXX", f->path);
    char *temporary = strbuf_take(&name, NULL);
    if (!temporary) FAIL(UM_NO_MEMORY, err, "no memory for a file name");
    int descriptor = mkstemp(temporary);
    if (descriptor < 0) {
        int error_number = errno;
        memory_free(temporary);
        return fail_write(f, error_number, err);
    }
    f->temporary = temporary;
    mode_t mask = umask(0);
    umask(mask);
    f->file = fchmod(descriptor, 0666 & ~mask) == 0 ? fdopen(descriptor, "wb") : NULL;
    if (f->file) return UM_OK;
    int error_number = errno;
    close(descriptor);
    return fail_write(f, error_number, err);
}

um_status new_file_create(new_file *f, const char *path, um_error *err) {
    struct stat known;
    f->path = memory_copy_string(path, strlen(path));
    if (!f->path) FAIL(UM_NO_MEMORY, err, "no memory for the path %s", path);
    if (stat(path, &known) != 0 || S_ISREG(known.st_mode)) return open_beside(f, err);
    f->file = fopen(path, "wb");
    return f->file ? UM_OK : fail_write(f, errno, err);
}

um_status new_file_write(new_file *f, const void *data, size_t n_bytes, um_error *err) {
    errno = 0;
    if (n_bytes == 0 || fwrite(data, 1, n_bytes, f->file) == n_bytes) return UM_OK;
    return fail_write(f, errno, err);
}

um_status new_file_close(new_file *f, um_error *err) {
    FILE *file = f->file;
    f->file = NULL;
    errno = 0;
    return fclose(file) == 0 ? UM_OK : fail_write(f, errno, err);
}

um_status new_file_finish(new_file *f, um_error *err) {
    if (f->file) TRY(new_file_close(f, err));
    if (!f->temporary) return UM_OK;
    if (rename(f->temporary, f->path) != 0) return fail_write(f, errno, err);
    memory_free(f->temporary);
    f->temporary = NULL;
    return UM_OK;
}

void new_file_discard(new_file *f) {
    if (f->file) fclose(f->file);
    if (f->temporary) unlink(f->temporary);
    memory_free(f->temporary);
    memory_free(f->path);
    memset(f, 0, sizeof *f);
}
