/* SPDX-License-Identifier: Apache-2.0
 *
 * Status names and error sentences. Knows no room above it; formats into the caller's um_error so
 * that reporting a failure never allocates.
 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *um_status_sentence(um_status status) {
    switch (status) {
#define STATUS_CASE(name, number, sentence) \
    case UM_##name:                         \
        return sentence;
        UM_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "unknown status";
}

const char *um_status_name(um_status status) {
    switch (status) {
#define STATUS_CASE(name, number, sentence) \
    case UM_##name:                         \
        return "UM_" #name;
        UM_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    }
    return "UM_UNKNOWN";
}

#define VERSION_TEXT(n) #n
#define VERSION_STRING(major, minor, patch) \
    VERSION_TEXT(major) "." VERSION_TEXT(minor) "." VERSION_TEXT(patch)

const char *um_version(void) {
    return VERSION_STRING(UM_VERSION_MAJOR, UM_VERSION_MINOR, UM_VERSION_PATCH);
}

um_status um_error_set(um_error *err, um_status status, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        /* Formatted aside, because an argument may be the old message. */
        char message[sizeof err->message];
        vsnprintf(message, sizeof message, format, args);
        va_end(args);
        memcpy(err->message, message, sizeof message);
        err->status = status;
        err->where[0] = '\0';
        err->byte_pos = -1;
    }
    return status;
}

um_status um_error_at(um_error *err, const char *where, int64_t byte_pos) {
    if (!err) return UM_OK;
    if (where && !err->where[0]) snprintf(err->where, sizeof err->where, "%s", where);
    if (byte_pos >= 0 && err->byte_pos < 0) err->byte_pos = byte_pos;
    return err->status;
}
