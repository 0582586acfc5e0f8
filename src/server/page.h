/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of page/, as bytes: page_files.c is made from them by tools/embed.cmake at build.
 */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <stddef.h>

typedef struct page_file {
    const char *path; /* "/": index.html; NULL ends the list */
    const char *content_type;
    const char *bytes;
    size_t n_bytes;
} page_file;

extern const page_file page_files[];

#endif
