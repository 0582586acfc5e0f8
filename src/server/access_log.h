/* SPDX-License-Identifier: Apache-2.0
 *
 * One line of JSON for each request and for each thing that happens to the server itself, to
 * standard error or to a file that can be opened anew (logrotate).
 */
#ifndef SERVER_ACCESS_LOG_H
#define SERVER_ACCESS_LOG_H

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>

#include "base/status.h"

typedef struct access_log {
    pthread_mutex_t lock;
    FILE *file;       /* lock */
    const char *path; /* NULL: standard error */
} access_log;

um_status access_log_open(access_log *log, const char *path, um_error *err);
void access_log_close(access_log *log);
/* Opens the file again under its name; keeps the old one where that fails. */
um_status access_log_reopen(access_log *log, um_error *err);
/* Adds the time, writes a line, releases the object. Accepts NULL. */
void access_log_write(access_log *log, json_t *line);

#endif
