/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask serve`: listens, loads the model, waits for signals. All signals are taken by this thread
 * with sigwait; every other one has them blocked.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "programs/commands.h"
#include "programs/engine_settings.h"
#include "programs/progress.h"
#include "programs/report.h"
#include "programs/serve_config.h"
#include "server/server.h"

enum { CACHE_CONTEXTS = 4, CACHE_TOKENS_MAX = 65536, POLL_MS = 50, NAME_BYTES = 256 };

static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

/* The last part of the model's path: "models/demo/" is "demo". */
static void name_model(const char *path, char name[NAME_BYTES]) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t first = n;
    while (first > 0 && path[first - 1] != '/') first--;
    snprintf(name, NAME_BYTES, "%.*s", (int)(n - first), path + first);
}

/* Room for several requests, within reason for a laptop. */
static um_status cache_tokens(const options *o, int64_t *n_tokens, um_error *err) {
    um_model_info info;
    if (options_has(o, OPTION_SYNTHETIC)) { /* there is no file to ask: one context */
        *n_tokens = options_integer(o, OPTION_CACHE_TOKENS, 0);
        return UM_OK;
    }
    TRY(um_model_inspect(options_text(o, OPTION_MODEL),
                         (int32_t)options_integer(o, OPTION_MASK_TOKEN, -1), &info, err));
    int64_t n = (int64_t)info.context * CACHE_CONTEXTS;
    if (n > CACHE_TOKENS_MAX) n = CACHE_TOKENS_MAX;
    if (n < info.context) n = info.context;
    *n_tokens = options_integer(o, OPTION_CACHE_TOKENS, n);
    return UM_OK;
}

/* Signals wait until the model is loaded, which may take minutes: whoever asks for the end before
 * gets it here, where no request is lost. */
static void progress_or_leave(void *user, const char *what, int64_t done, int64_t total) {
    sigset_t pending;
    sigpending(&pending);
    if (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1)
        _exit(REPORT_EXIT_FAULT);
    progress_load(user, what, done, total);
}

static um_status open_engine(const options *o, progress *p, um_engine **engine, um_error *err) {
    um_engine_options settings;
    engine_settings(o, p, &settings);
    settings.progress = progress_or_leave;
    settings.max_step_ms = options_real(o, OPTION_MAX_STEP_MS, 0);
    settings.prefix_cache = options_integer(o, OPTION_PREFIX_CACHE, 1) == 1;
    TRY(cache_tokens(o, &settings.cache_tokens, err));
    um_status status = um_engine_open(&settings, engine, err);
    progress_clear(p);
    return status;
}

static um_status open_server(const options *o, const char *name, server **s, um_error *err) {
    server_options settings = {
        .host = options_has(o, OPTION_HOST) ? options_text(o, OPTION_HOST) : "127.0.0.1",
        .port = (int32_t)options_integer(o, OPTION_PORT, 8000),
        .model_id = name,
        .api_key = options_text(o, OPTION_API_KEY),
        .tls_cert = options_text(o, OPTION_TLS_CERT),
        .tls_key = options_text(o, OPTION_TLS_KEY),
        .log_path = options_text(o, OPTION_LOG),
        .max_queue = (int32_t)options_integer(o, OPTION_MAX_QUEUE, 256),
        .max_connections = (int32_t)options_integer(o, OPTION_MAX_CONNECTIONS, 1024),
        .max_body_bytes = options_integer(o, OPTION_MAX_BODY_BYTES, 4 << 20),
        .timeout_seconds = (int32_t)options_integer(o, OPTION_TIMEOUT, 60),
    };
    if (settings.api_key && !settings.api_key[0])
        FAIL(UM_INVALID, err, "--api-key: expected a key, found an empty one");
    return server_open(&settings, s, err);
}

static void announce(const options *o, const server *s, const char *name) {
    const char *scheme = options_has(o, OPTION_TLS_CERT) ? "https" : "http";
    const char *host = options_has(o, OPTION_HOST) ? options_text(o, OPTION_HOST) : "127.0.0.1";
    bool is_v6 = strchr(host, ':') != NULL;
    printf("%s is served at %s://%s%s%s:%d/\n", name, scheme, is_v6 ? "[" : "", host,
           is_v6 ? "]" : "", server_port(s));
    fflush(stdout);
}

/* Waits for a signal to end, and then for the requests that run, or for a second signal. */
static void wait_for_end(const sigset_t *set, server *s) {
    const struct timespec moment = {.tv_nsec = POLL_MS * 1000000};
    bool is_draining = false;
    while (!is_draining || server_active(s) > 0) {
        int number = sigtimedwait(set, NULL, &moment);
        if (number == SIGHUP) {
            um_error err = {.byte_pos = -1};
            if (server_reopen_log(s, &err) != UM_OK) report_error("serve", &err);
        } else if (number > 0) {
            if (is_draining) return;
            is_draining = true;
            server_drain(s);
        }
    }
}

static um_status serve(const options *o, um_error *err) {
    um_status status = UM_OK;
    um_tokenizer *tokenizer = NULL;
    um_engine *engine = NULL;
    server *s = NULL;
    progress load;
    sigset_t signals;
    char name[NAME_BYTES];

    TRY(engine_settings_check_model(o, err));
    const char *path = options_text(o, OPTION_MODEL);
    block_signals(&signals);
    progress_init(&load, options_has(o, OPTION_VERBOSE));
    name_model(path ? path : options_text(o, OPTION_SYNTHETIC), name);
    if (options_has(o, OPTION_SERVED_MODEL_NAME))
        snprintf(name, sizeof name, "%s", options_text(o, OPTION_SERVED_MODEL_NAME));
    TRY_GOTO(open_server(o, name, &s, err), cleanup);
    if (path) status = um_tokenizer_open(path, &tokenizer, err);
    if (status == UM_NOT_FOUND) status = UM_OK; /* such a model runs on ids */
    if (status != UM_OK) goto cleanup;
    TRY_GOTO(open_engine(o, &load, &engine, err), cleanup);
    TRY_GOTO(server_set_model(s, engine, tokenizer, err), cleanup);
    announce(o, s, name);
    wait_for_end(&signals, s);
cleanup:
    server_close(s);
    um_engine_close(&engine);
    um_tokenizer_close(&tokenizer);
    return status;
}

int serve_command(const options *given) {
    um_error err = {.byte_pos = -1};
    options o = *given;
    char *text = NULL;
    um_status status = serve_config_read(&o, &text, &err);
    if (status == UM_OK) status = serve(&o, &err);
    memory_free(text);
    return status == UM_OK ? REPORT_EXIT_DONE : report_error("serve", &err);
}
