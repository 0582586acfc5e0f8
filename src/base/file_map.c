/* SPDX-License-Identifier: Apache-2.0
 *
 * Mapping and reading of files over POSIX. A mapping is private and read-only; a file that another
 * program truncates later raises SIGBUS, as everywhere.
 */
#include "base/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

static um_status open_regular(const char *path, int *fd, size_t *n_bytes, um_error *err) {
    /* O_NONBLOCK: a FIFO without a writer must not hold us up before fstat tells what it is. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        um_status status = errno == ENOENT || errno == ENOTDIR ? UM_NOT_FOUND : UM_IO;
        um_error_set(err, status, "cannot open %s: %s", path, strerror(errno));
        um_error_at(err, path, -1);
        return status;
    }
    struct stat st;
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        um_error_set(err, UM_IO, "%s is not a regular file", path);
        um_error_at(err, path, -1);
        close(*fd);
        return UM_IO;
    }
    *n_bytes = (size_t)st.st_size;
    return UM_OK;
}

um_status file_map_open(const char *path, file_map *map, um_error *err) {
    memset(map, 0, sizeof *map);
    int fd;
    size_t n_bytes;
    TRY(open_regular(path, &fd, &n_bytes, err));
    if (n_bytes) {
        void *data = mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            um_status status = errno == ENOMEM ? UM_NO_MEMORY : UM_IO;
            um_error_set(err, status, "cannot map %s (%zu bytes): %s", path, n_bytes,
                         strerror(errno));
            um_error_at(err, path, -1);
            close(fd);
            return status;
        }
        map->data = data;
        map->n_bytes = n_bytes;
    }
    close(fd);
    return UM_OK;
}

void file_map_close(file_map *map) {
    if (map->data) {
        union {
            const unsigned char *read_only;
            void *any;
        } address = {.read_only = map->data};
        munmap(address.any, map->n_bytes);
    }
    memset(map, 0, sizeof *map);
}

um_status file_read(const char *path, size_t limit_bytes, char **text, size_t *n_bytes,
                    um_error *err) {
    int fd;
    size_t size;
    TRY(open_regular(path, &fd, &size, err));
    if (size > limit_bytes) {
        close(fd);
        um_error_set(err, UM_FORMAT, "%s has %zu bytes; at most %zu are expected", path, size,
                     limit_bytes);
        um_error_at(err, path, -1);
        return UM_FORMAT;
    }
    char *data = memory_alloc(size + 1);
    if (!data) {
        close(fd);
        FAIL(UM_NO_MEMORY, err, "no memory for the %zu bytes of %s", size, path);
    }
    size_t done = 0;
    while (done < size) {
        ssize_t got = read(fd, data + done, size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    int read_errno = errno;
    close(fd);
    if (done < size) {
        memory_free(data);
        um_error_set(err, UM_IO, "cannot read %s past byte %zu: %s", path, done,
                     strerror(read_errno));
        um_error_at(err, path, (int64_t)done);
        return UM_IO;
    }
    data[size] = '\0';
    *text = data;
    *n_bytes = size;
    return UM_OK;
}

char *file_path_join(const char *directory, const char *name) {
    size_t n_directory = strlen(directory), n_name = strlen(name);
    while (n_directory > 1 && directory[n_directory - 1] == '/') n_directory--;
    char *path = memory_alloc(n_directory + n_name + 2);
    if (!path) return NULL;
    memcpy(path, directory, n_directory);
    path[n_directory] = '/';
    memcpy(path + n_directory + 1, name, n_name + 1);
    return path;
}

int file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}
