/* SPDX-License-Identifier: Apache-2.0
 *
 * The um_constraint_* functions of unmask.h: a schema and a vocabulary become a token graph.
 */
#include "engine/constraint_api.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "decode/json_schema.h"
#include "decode/partial_fill.h"
#include "engine/tokenizer_api.h"

struct um_constraint {
    atomic_int n_holders;
    token_graph graph;
};

/* The bytes of every token that stands for text; special ones do not. */
static um_status read_texts(const tokenizer *t, token_texts *texts, um_error *err) {
    strbuf bytes;
    um_status status = UM_OK;
    strbuf_init(&bytes);
    texts->n_ids = tokenizer_size(t);
    texts->first = memory_alloc_array((size_t)texts->n_ids + 1, sizeof *texts->first);
    if (!texts->first) {
        status =
            um_error_set(err, UM_NO_MEMORY, "no memory for the texts of %d tokens", texts->n_ids);
        goto cleanup;
    }
    for (int32_t id = 0; id < texts->n_ids; id++) {
        texts->first[id] = bytes.n_bytes;
        TRY_GOTO(tokenizer_append_bytes(t, id, true, &bytes, err), cleanup);
    }
    texts->first[texts->n_ids] = bytes.n_bytes;
    strbuf_append_char(&bytes, 0);
    texts->bytes = (unsigned char *)strbuf_take(&bytes, NULL);
    if (!texts->bytes)
        status =
            um_error_set(err, UM_NO_MEMORY, "no memory for the texts of %d tokens", texts->n_ids);
cleanup:
    strbuf_deinit(&bytes);
    return status;
}

/* A vocabulary may lack a byte that every document needs. */
static um_status check_spelling(const token_graph *graph, um_error *err) {
    partial_fill fill;
    static const int32_t some_stop = -1;
    um_status status =
        partial_fill_init(&fill, graph, 0, &some_stop, 1, NULL, 0, graph->texts.n_ids, err);
    if (status == UM_OK && partial_fill_shortest(&fill) == INT32_MAX)
        status = um_error_set(err, UM_INVALID,
                              "the tokens of this vocabulary spell no document of the schema");
    partial_fill_deinit(&fill);
    return status;
}

static um_status create(const um_tokenizer *tokens, const char *schema, size_t n_bytes,
                        um_constraint **out, um_error *err) {
    byte_dfa dfa = {0};
    token_texts texts = {0};
    const tokenizer *vocabulary;
    if (!out) FAIL(UM_INVALID, err, "constraint must not be NULL");
    *out = NULL;
    TRY(tokenizer_api_vocabulary(tokens, &vocabulary, err));
    um_constraint *c = memory_calloc(1, sizeof *c);
    um_status status = UM_OK;
    if (!c) FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    atomic_init(&c->n_holders, 1);
    TRY_GOTO(json_schema_compile(schema, n_bytes, &dfa, err), cleanup);
    TRY_GOTO(read_texts(vocabulary, &texts, err), cleanup);
    TRY_GOTO(token_graph_build_take(&dfa, &texts, &c->graph, err), cleanup);
    TRY_GOTO(check_spelling(&c->graph, err), cleanup);
    *out = c;
    c = NULL;
cleanup:
    token_texts_deinit(&texts);
    byte_dfa_deinit(&dfa);
    constraint_release(c);
    return status;
}

um_status um_constraint_json_object(const um_tokenizer *tokens, um_constraint **constraint,
                                    um_error *err) {
    return create(tokens, NULL, 0, constraint, err);
}

um_status um_constraint_json_schema(const um_tokenizer *tokens, const char *schema, size_t n_bytes,
                                    um_constraint **constraint, um_error *err) {
    if (!schema) FAIL(UM_INVALID, err, "schema must not be NULL");
    return create(tokens, schema, n_bytes, constraint, err);
}

um_constraint *constraint_acquire(um_constraint *constraint) {
    atomic_fetch_add(&constraint->n_holders, 1);
    return constraint;
}

void constraint_release(um_constraint *constraint) {
    if (!constraint || atomic_fetch_sub(&constraint->n_holders, 1) > 1) return;
    token_graph_deinit(&constraint->graph);
    memory_free(constraint);
}

const token_graph *constraint_graph(const um_constraint *constraint) {
    return &constraint->graph;
}

size_t um_constraint_bytes(const um_constraint *constraint) {
    return constraint ? sizeof *constraint + token_graph_bytes(&constraint->graph) : 0;
}

void um_constraint_free(um_constraint **constraint) {
    if (!constraint) return;
    constraint_release(*constraint);
    *constraint = NULL;
}
