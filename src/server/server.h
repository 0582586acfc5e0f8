/* SPDX-License-Identifier: Apache-2.0
 *
 * The server as `unmask serve` sees it: open (it listens, and says that it is loading), give it a
 * model, drain, close.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/status.h"

typedef struct server server;

/* Strings are borrowed until server_close. */
typedef struct server_options {
    const char *host;               /* name or address to listen on */
    int32_t port;                   /* 0: any free one */
    const char *model_id;           /* as clients name the model */
    const char *api_key;            /* NULL: everybody may ask */
    const char *tls_cert, *tls_key; /* PEM files, both or neither */
    const char *log_path;           /* NULL: standard error */
    int32_t max_queue;              /* requests running or waiting */
    int32_t max_connections;
    int64_t max_body_bytes;
    int32_t timeout_seconds; /* without a byte from or to a client */
} server_options;

/* Listens. On success *out is the caller's. UM_INVALID names the option. */
um_status server_open(const server_options *options, server **out, um_error *err);
/* The port that it listens on. */
int32_t server_port(const server *s);
/* Answers from now on. engine and tokenizer (may be NULL) outlive the server. */
um_status server_set_model(server *s, um_engine *engine, const um_tokenizer *tokenizer,
                           um_error *err);
/* Takes no more connections and requests; those it has go on. */
void server_drain(server *s);
/* Requests whose replies are not all sent yet. */
int32_t server_active(server *s);
um_status server_reopen_log(server *s, um_error *err);
/* Ends what still runs, and frees. Accepts NULL. */
void server_close(server *s);

#endif
