/* SPDX-License-Identifier: Apache-2.0
 *
 * A line is written whole and at once, so that lines of several threads do not mix.
 */
#include "server/access_log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "server/json_value.h"

static FILE *open_file(const char *path, um_error *err) {
    FILE *file = fopen(path, "ae");
    if (file) return file;
    um_error_set(err, errno == ENOENT ? UM_NOT_FOUND : UM_IO, "%s: cannot write: %s", path,
                 strerror(errno));
    return NULL;
}

um_status access_log_open(access_log *log, const char *path, um_error *err) {
    log->path = path;
    log->file = path ? open_file(path, err) : stderr;
    if (!log->file) return err ? err->status : UM_IO;
    pthread_mutex_init(&log->lock, NULL);
    return UM_OK;
}

void access_log_close(access_log *log) {
    if (!log->file) return;
    if (log->path) fclose(log->file);
    log->file = NULL;
    pthread_mutex_destroy(&log->lock);
}

um_status access_log_reopen(access_log *log, um_error *err) {
    if (!log->path) return UM_OK;
    FILE *file = open_file(log->path, err);
    if (!file) return err ? err->status : UM_IO;
    pthread_mutex_lock(&log->lock);
    FILE *old = log->file;
    log->file = file;
    pthread_mutex_unlock(&log->lock);
    fclose(old);
    return UM_OK;
}

void access_log_write(access_log *log, json_t *line) {
    struct timespec now;
    struct tm calendar;
    char stamp[40], all[64];
    if (!line) return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &calendar);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &calendar);
    snprintf(all, sizeof all, "%s.%03ldZ", stamp, now.tv_nsec / 1000000);
    json_t *whole = json_pack("{s:s}", "time", all);
    if (whole) json_object_update_missing(whole, line);
    json_decref(line);
    char *text = json_value_write(whole, NULL);
    if (!text) return;
    pthread_mutex_lock(&log->lock);
    fprintf(log->file, "%s\n", text);
    fflush(log->file);
    pthread_mutex_unlock(&log->lock);
    memory_free(text);
}
