/* SPDX-License-Identifier: Apache-2.0
 *
 * The one file that knows libmicrohttpd: sockets, headers, bodies, suspended connections. One
 * thread serves all connections over epoll. A connection whose job has nothing to send is
 * suspended, and the driver resumes it under the job's lock, so that it never sleeps past what came
 * in between.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_map.h"
#include "base/memory.h"
#include "server/access_log.h"
#include "server/driver.h"
#include "server/json_value.h"
#include "server/routes.h"
#include "server/server.h"

enum { HEADER_BYTES = 65536, CHUNK_BYTES = 16384, PEM_BYTES = 1 << 20, LINGER_MS = 5000 };

struct server {
    server_options options;
    struct MHD_Daemon *daemon;
    access_log log;
    metrics *metrics;
    char *cert, *key; /* PEM, zero-terminated */
    int32_t port;
    char fault[256]; /* what the library says first while it starts */
    pthread_mutex_t lock;
    driver *driver;           /* lock; NULL while the model is loading */
    api_model loading, model; /* each unchanging once `current` may point to it */
    const api_model *current; /* lock */
    bool is_draining;         /* lock */
    atomic_int n_active;
};

/* One request on a connection, from its first header to its last byte. */
typedef struct exchange {
    server *server;
    struct MHD_Connection *connection;
    strbuf body;
    job *job;
    bool is_refused; /* a reply was queued before the body was read */
    int http;
    int64_t began_ns;
    size_t n_sent;
    char method[16], path[160], address[64];
} exchange;

static void note_address(exchange *x) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
                  x->address, sizeof x->address);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
                  x->address, sizeof x->address);
}

static void log_exchange(exchange *x, int http) {
    json_t *line =
        json_pack("{s:s, s:s, s:s, s:i, s:f, s:I}", "client", x->address, "method", x->method,
                  "path", "", "status", http, "ms", (double)(clock_now_ns() - x->began_ns) / 1e6,
                  "bytes", (json_int_t)x->n_sent);
    if (line) json_object_set_new(line, "path", json_value_text(x->path, strlen(x->path)));
    if (line && x->job) {
        job *j = x->job;
        pthread_mutex_lock(&j->lock);
        json_object_set_new(line, "id", json_string(j->id));
        if (j->state == JOB_DONE) { /* else the numbers are still the driver's */
            json_object_set_new(line, "prompt_tokens", json_integer(j->prompt_tokens));
            json_object_set_new(line, "completion_tokens", json_integer(j->completion_tokens));
            json_object_set_new(line, "forwards", json_integer(j->forwards));
        }
        pthread_mutex_unlock(&j->lock);
    }
    access_log_write(&x->server->log, line);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code) {
    exchange *x = *slot;
    (void)user;
    (void)connection;
    if (!x) return;
    server *s = x->server;
    int http = code == MHD_REQUEST_TERMINATED_COMPLETED_OK && x->http ? x->http : 499;
    if (x->job) job_leave(x->job);
    log_exchange(x, http);
    metrics_reply(s->metrics, http);
    job_release(x->job);
    strbuf_deinit(&x->body);
    memory_free(x);
    *slot = NULL;
    atomic_fetch_sub(&s->n_active, 1);
}

static exchange *begin_exchange(server *s, struct MHD_Connection *connection, const char *path,
                                const char *method) {
    exchange *x = memory_calloc(1, sizeof *x);
    if (!x) return NULL;
    x->server = s;
    x->connection = connection;
    x->began_ns = clock_now_ns();
    strbuf_init(&x->body);
    x->body.limit = (size_t)s->options.max_body_bytes + 1;
    strncpy(x->path, path, sizeof x->path - 1);
    strncpy(x->method, method, sizeof x->method - 1);
    note_address(x);
    atomic_fetch_add(&s->n_active, 1);
    return x;
}

static void add_header(struct MHD_Response *response, const char *name, const char *value) {
    if (value) (void)MHD_add_response_header(response, name, value);
}

static enum MHD_Result queue(exchange *x, struct MHD_Response *response, int http,
                             const char *content_type) {
    if (!response) return MHD_NO;
    add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    add_header(response, "X-Content-Type-Options", "nosniff");
    if (x->job) add_header(response, "X-Request-Id", x->job->id);
    x->http = http;
    enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)http, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_reply(exchange *x, route_reply *reply) {
    static const char policy[] =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    const char *bytes = reply->fixed ? reply->fixed : reply->body;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        reply->n_bytes, (void *)(uintptr_t)bytes,
        reply->fixed ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_COPY);
    if (response && reply->is_page) {
        add_header(response, "Content-Security-Policy", policy);
        add_header(response, "Referrer-Policy", "no-referrer");
        add_header(response, "Cache-Control", "no-cache");
    }
    if (response) add_header(response, "Allow", reply->allow);
    if (response && reply->http == 401) add_header(response, "WWW-Authenticate", "Bearer");
    if (response && (reply->http == 429 || reply->http == 503))
        add_header(response, "Retry-After", "1");
    x->n_sent = reply->n_bytes;
    enum MHD_Result result = queue(x, response, reply->http, reply->content_type);
    route_reply_deinit(reply);
    return result;
}

static enum MHD_Result refuse(exchange *x, int http, const um_error *err) {
    route_reply reply = {0};
    routes_refuse(x->path, http, err, &reply);
    return send_reply(x, &reply);
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static void resume(void *user) {
    MHD_resume_connection(((exchange *)user)->connection);
}

/* Suspends the connection until the driver has something. The job's lock is held. */
static void wait_for_job(exchange *x) {
    x->job->is_waiting = true;
    MHD_suspend_connection(x->connection);
}

/* The bytes of a stream; called by libmicrohttpd when it can send. */
static ssize_t read_stream(void *user, uint64_t position, char *buffer, size_t n_max) {
    exchange *x = user;
    job *j = x->job;
    ssize_t result = 0;
    (void)position;
    pthread_mutex_lock(&j->lock);
    size_t n = j->output.n_bytes < n_max ? j->output.n_bytes : n_max;
    if (j->is_gone) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (n > 0) {
        memcpy(buffer, j->output.data, n);
        memmove(j->output.data, j->output.data + n, j->output.n_bytes - n);
        j->output.n_bytes -= n;
        x->n_sent += n;
        result = (ssize_t)n;
    } else if (j->state == JOB_DONE) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        wait_for_job(x);
    }
    pthread_mutex_unlock(&j->lock);
    return result;
}

/* What the job allows now: nothing yet, a stream, or the whole reply. */
static enum MHD_Result continue_job(exchange *x) {
    job *j = x->job;
    struct MHD_Response *response = NULL;
    bool is_stream = false, is_gone;
    pthread_mutex_lock(&j->lock);
    is_gone = j->is_gone;
    if (!is_gone && j->state == JOB_QUEUED) {
        wait_for_job(x);
        pthread_mutex_unlock(&j->lock);
        return MHD_YES;
    }
    is_stream = j->request.is_stream && j->http == 200;
    if (!is_gone && !is_stream && j->state != JOB_DONE) {
        wait_for_job(x);
        pthread_mutex_unlock(&j->lock);
        return MHD_YES;
    }
    int http = j->http;
    if (!is_gone && !is_stream) {
        x->n_sent = j->output.n_bytes;
        response = MHD_create_response_from_buffer(j->output.n_bytes, j->output.data,
                                                   MHD_RESPMEM_MUST_COPY);
    }
    pthread_mutex_unlock(&j->lock);
    if (is_gone) return MHD_NO;
    if (!is_stream) return queue(x, response, http, "application/json");
    response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, CHUNK_BYTES, read_stream, x, NULL);
    if (response) {
        add_header(response, "Cache-Control", "no-cache");
        add_header(response, "X-Accel-Buffering", "no");
    }
    return queue(x, response, http, "text/event-stream; charset=utf-8");
}

static enum MHD_Result start_job(exchange *x, driver *d, job *j) {
    um_error err = {.byte_pos = -1};
    int on = 1;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    x->job = j;
    j->wake = resume;
    j->wake_user = x;
    j->socket = info ? info->connect_fd : -1;
    if (j->socket >= 0) /* chunks are small, and wanted at once */
        (void)setsockopt(j->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (driver_submit(d, j, &err) == UM_OK) return continue_job(x);
    return refuse(x, api_error_http(&err), &err);
}

/* ---- Requests -------------------------------------------------------------------------------- */

static enum MHD_Result answer(exchange *x) {
    server *s = x->server;
    route_reply reply;
    pthread_mutex_lock(&s->lock);
    routes r = {.model = s->current, .api_key = s->options.api_key, .metrics = s->metrics};
    driver *d = s->driver;
    bool is_draining = s->is_draining;
    pthread_mutex_unlock(&s->lock);
    r.n_jobs = d ? driver_jobs(d) : 0;
    r.health = is_draining                       ? ROUTE_DRAINING
               : !d                              ? ROUTE_LOADING
               : driver_check(d) == DRIVER_STUCK ? ROUTE_STUCK
                                                 : ROUTE_READY;
    const char *key =
        MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!key) key = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, "x-api-key");
    route_request request = {.method = x->method,
                             .path = x->path,
                             .key = key,
                             .body = x->body.data,
                             .n_bytes = x->body.n_bytes};
    routes_answer(&r, &request, &reply);
    strbuf_deinit(&x->body);
    return reply.job ? start_job(x, d, reply.job) : send_reply(x, &reply);
}

/* Refuses before the body is read where its length is known and too large. */
static bool is_too_long(const exchange *x) {
    const char *length =
        MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && strtoll(length, NULL, 10) > x->server->options.max_body_bytes;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n_bytes, void **slot) {
    server *s = user;
    exchange *x = *slot;
    um_error err;
    (void)version;
    if (!x) {
        *slot = x = begin_exchange(s, connection, path, method);
        if (!x) return MHD_NO;
        um_error_set(&err, UM_LIMIT, "the body: expected at most %lld bytes",
                     (long long)s->options.max_body_bytes);
        return is_too_long(x) ? refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, &err) : MHD_YES;
    }
    if (x->job) return continue_job(x);
    if (*n_bytes) {
        if (routes_takes_body(x->path)) strbuf_append(&x->body, bytes, *n_bytes);
        *n_bytes = 0;
        return x->body.has_failed ? MHD_NO : MHD_YES; /* a body without a length: cut off */
    }
    return answer(x);
}

/* ---- The server ------------------------------------------------------------------------------ */

static void log_library(void *user, const char *format, va_list arguments) {
    server *s = user;
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = '\0';
    if (!s->daemon && !s->fault[0]) snprintf(s->fault, sizeof s->fault, "%.255s", text);
    access_log_write(&s->log, json_pack("{s:s, s:o}", "level", "warning", "message",
                                        json_value_text(text, strlen(text))));
}

static um_status read_pem(const char *option, const char *path, char **text, um_error *err) {
    size_t n_bytes;
    um_status status = file_read(path, PEM_BYTES, text, &n_bytes, err);
    if (status != UM_OK) um_error_at(err, option, -1);
    return status;
}

static um_status listen_on(server *s, const struct addrinfo *address, um_error *err) {
    const server_options *o = &s->options;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    if (address->ai_family == AF_INET6) flags |= MHD_USE_IPv6;
    if (s->cert) flags |= MHD_USE_TLS;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, s->cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, s->key},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};
    errno = 0;
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, log_library, s,
        MHD_OPTION_SOCK_ADDR, address->ai_addr, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->timeout_seconds, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)o->max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_ARRAY, s->cert ? tls : plain,
        MHD_OPTION_END);
    if (!s->daemon)
        FAIL(UM_IO, err, "cannot listen on %s, port %d: %s", o->host, o->port,
             s->cert && s->fault[0] ? s->fault
             : errno                ? strerror(errno)
                                    : "libmicrohttpd refuses");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    s->port = info && info->port ? info->port : o->port;
    return UM_OK;
}

static um_status start(server *s, um_error *err) {
    const server_options *o = &s->options;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    char port[16];
    TRY(access_log_open(&s->log, o->log_path, err));
    TRY(metrics_create(&s->metrics, err));
    if (!o->tls_cert != !o->tls_key)
        return api_refuse(err, "tls-cert", "--tls-cert and --tls-key go together");
    if (o->tls_cert) {
        TRY(read_pem("tls-cert", o->tls_cert, &s->cert, err));
        TRY(read_pem("tls-key", o->tls_key, &s->key, err));
        if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
            FAIL(UM_UNSUPPORTED, err, "this libmicrohttpd was built without TLS");
    }
    snprintf(port, sizeof port, "%d", o->port);
    int code = getaddrinfo(o->host, port, &hints, &list);
    if (code != 0 || !list)
        return api_refuse(err, "host", "--host: \"%s\" names no address: %s", o->host,
                          gai_strerror(code));
    um_status status = listen_on(s, list, err);
    freeaddrinfo(list);
    return status;
}

um_status server_open(const server_options *options, server **out, um_error *err) {
    server *s = memory_calloc(1, sizeof *s);
    if (!s) FAIL(UM_NO_MEMORY, err, "no memory for the server");
    s->options = *options;
    s->loading.id = s->model.id = options->model_id;
    s->current = &s->loading;
    pthread_mutex_init(&s->lock, NULL);
    um_status status = start(s, err);
    if (status == UM_OK)
        *out = s;
    else
        server_close(s);
    return status;
}

int32_t server_port(const server *s) {
    return s->port;
}

um_status server_set_model(server *s, um_engine *engine, const um_tokenizer *tokenizer,
                           um_error *err) {
    driver *d = NULL;
    TRY(driver_create(engine, s->metrics, s->options.max_queue, &d, err));
    s->model.info = um_engine_info(engine);
    s->model.tokenizer = tokenizer;
    s->model.created = (int64_t)time(NULL);
    pthread_mutex_lock(&s->lock);
    s->current = &s->model;
    s->driver = d;
    pthread_mutex_unlock(&s->lock);
    return UM_OK;
}

void server_drain(server *s) {
    pthread_mutex_lock(&s->lock);
    bool was_draining = s->is_draining;
    s->is_draining = true;
    pthread_mutex_unlock(&s->lock);
    if (was_draining) return;
    int socket = MHD_quiesce_daemon(s->daemon);
    if (socket >= 0) close(socket);
    if (s->driver) driver_drain(s->driver);
}

int32_t server_active(server *s) {
    return atomic_load(&s->n_active);
}

um_status server_reopen_log(server *s, um_error *err) {
    return access_log_reopen(&s->log, err);
}

void server_close(server *s) {
    if (!s) return;
    if (s->driver) driver_end(s->driver); /* wakes every connection */
    /* What was made is sent, as far as clients take it in a few seconds. */
    for (int i = 0; i < LINGER_MS / 10 && s->daemon && atomic_load(&s->n_active); i++)
        usleep(10000);
    if (s->daemon) MHD_stop_daemon(s->daemon);
    driver_destroy(s->driver);
    access_log_close(&s->log);
    metrics_destroy(s->metrics);
    memory_free(s->cert);
    memory_free(s->key);
    pthread_mutex_destroy(&s->lock);
    memory_free(s);
}
