/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters and histograms as Prometheus text. Names begin with "sglang:" where the meaning is that
 * of SGLang's metric, so that its dashboards work, and with "unmask_" where only these models have
 * it. Any thread; one lock, held briefly.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/strbuf.h"
#include "server/job.h"

typedef struct metrics metrics;

um_status metrics_create(metrics **out, um_error *err);
void metrics_destroy(metrics *m); /* accepts NULL */

/* After each step of the engine. */
void metrics_step(metrics *m, int64_t elapsed_ns, int64_t n_running, int64_t n_waiting,
                  int64_t n_pages, int64_t n_free, const um_stats *stats);
void metrics_constraints(metrics *m, const constraint_cache_stats *stats);
/* A job has ended, well or not. */
void metrics_job(metrics *m, const job *j);
/* A reply was sent, or its client has left (status 499). */
void metrics_reply(metrics *m, int http);
void metrics_write(metrics *m, const char *model, strbuf *out);

#endif
