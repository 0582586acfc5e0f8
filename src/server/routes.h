/* SPDX-License-Identifier: Apache-2.0
 *
 * From a request as bytes to a reply as bytes, or to a job that the driver is to run. No socket:
 * the tests and the fuzzer call it as the HTTP side does.
 */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/driver.h"

typedef enum route_health {
    ROUTE_LOADING = 0,
    ROUTE_READY = 1,
    ROUTE_STUCK = 2,
    ROUTE_DRAINING = 3
} route_health;

/* What routes read. Unchanging while a call runs. */
typedef struct routes {
    const api_model *model; /* its info is NULL while it is loading */
    const char *api_key;    /* NULL: none is asked for */
    metrics *metrics;
    route_health health;
    int32_t n_jobs;
} routes;

typedef struct route_request {
    const char *method, *path;
    const char *key; /* "Bearer KEY" or a bare key; NULL: none was sent */
    const char *body;
    size_t n_bytes;
} route_request;

/* Filled by routes_answer. Either `job` is set, and the rest empty, or a status and a body. */
typedef struct route_reply {
    int http;
    const char *content_type;
    const char *allow; /* with 405: the method that goes; else NULL */
    bool is_page;      /* the page: it comes with a content security policy */
    const char *fixed; /* a body that is constant, or NULL */
    char *body;        /* for memory_free; NULL where `fixed` or `job` is set */
    size_t n_bytes;
    job *job; /* one hold, the caller's */
} route_reply;

void routes_answer(const routes *r, const route_request *request, route_reply *reply);
/* A reply that says what is wrong. path chooses the shape. */
void routes_refuse(const char *path, int http, const um_error *err, route_reply *reply);
void route_reply_deinit(route_reply *reply);
/* True where the path is known and wants a body. */
bool routes_takes_body(const char *path);

#endif
