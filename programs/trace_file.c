/* SPDX-License-Identifier: Apache-2.0
 *
 * Trace lines. Nine significant digits give a float back exactly. Each line is flushed, so that a
 * full disk ends the request at the step it happens, and a reader can follow.
 */
#include "programs/trace_file.h"

#include <errno.h>

#include "programs/report.h"

um_status trace_file_open(trace_file *trace, const char *path, um_error *err) {
    trace->path = path;
    trace->file = fopen(path, "w");
    if (!trace->file) return report_system(err, path, "cannot write", errno);
    return UM_OK;
}

um_status trace_file_write(trace_file *trace, const um_event *event, um_error *err) {
    FILE *file = trace->file;
    if (!file) return UM_OK;
    errno = 0;
    fprintf(file, "{\"forward\":%d,\"block\":%d,\"first\":%d,\"inputs\":[", event->forward,
            event->block, event->first_position);
    for (int32_t i = 0; i < event->n_inputs; i++)
        fprintf(file, "%s%d", i ? "," : "", event->inputs[i]);
    fputs("],\"commits\":[", file);
    for (int32_t i = 0; i < event->n_changes; i++) {
        const um_change *change = &event->changes[i];
        fprintf(file, "%s[%d,%d,%.9g]", i ? "," : "", change->position, change->token,
                (double)change->probability);
    }
    fputs("]}\n", file);
    if (fflush(file) != 0 || ferror(file))
        return report_system(err, trace->path, "cannot write", errno ? errno : EIO);
    return UM_OK;
}

um_status trace_file_close(trace_file *trace, um_error *err) {
    FILE *file = trace->file;
    if (!file) return UM_OK;
    trace->file = NULL;
    errno = 0;
    int had_error = fflush(file) != 0 || ferror(file);
    int error_number = errno;
    if (fclose(file) != 0 && !had_error) {
        had_error = 1;
        error_number = errno;
    }
    if (had_error)
        return report_system(err, trace->path, "cannot write", error_number ? error_number : EIO);
    return UM_OK;
}
