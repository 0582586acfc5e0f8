/* SPDX-License-Identifier: Apache-2.0
 *
 * Status and error for every room: the types of unmask.h and the three macros that carry them.
 * A function that can fail returns um_status and takes `um_error *err` last, which may be NULL.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "unmask.h"

#if defined(__GNUC__)
#define BASE_PRINTF(format_index, first_arg) \
    __attribute__((format(printf, format_index, first_arg)))
#else
#define BASE_PRINTF(format_index, first_arg)
#endif

/* Fills *err (if not NULL) with a status and a formatted sentence; clears `where` and sets byte_pos
 * to -1. Returns status. */
um_status um_error_set(um_error *err, um_status status, const char *format, ...) BASE_PRINTF(3, 4);

/* Names the file, tensor or parameter of an error that was set, and the byte (-1: unknown). Keeps a
 * name that is already there. Returns err's status, or UM_OK where err is NULL. */
um_status um_error_at(um_error *err, const char *where, int64_t byte_pos);

/* Returns from the current function with a status and a sentence. */
#define FAIL(status, err, ...) return um_error_set((err), (status), __VA_ARGS__)

/* Returns from the current function if the expression is not UM_OK. */
#define TRY(expr)                                     \
    do {                                              \
        um_status try_status_ = (expr);               \
        if (try_status_ != UM_OK) return try_status_; \
    } while (0)

/* Stores the expression's status in the local `status`, and jumps if it is not UM_OK. */
#define TRY_GOTO(expr, label)            \
    do {                                 \
        status = (expr);                 \
        if (status != UM_OK) goto label; \
    } while (0)

#endif
