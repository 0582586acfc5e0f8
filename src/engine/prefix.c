/* SPDX-License-Identifier: Apache-2.0
 *
 * Sharing of beginnings. Keys and values of a frozen block depend on its tokens and on those before
 * it, on the block's length, and on nothing else that differs within an engine; so they are shared
 * by tokens under the block length, in runs that are whole pages and whole blocks. Left out are
 * requests whose beginning depends on what follows (full attention, a prompt that sees all of
 * itself) or on how far a block had come (the approximations), and those that write a frozen row
 * once more (shifted logits with edits).
 */
#include "engine/engine.h"

static int64_t unit_of(const um_request *request) {
    int64_t a = request->settings.block_len, b = KV_PAGE_LEN;
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return request->settings.block_len / a * KV_PAGE_LEN;
}

bool prefix_is_shared(const um_request *request) {
    const request_settings *s = &request->settings;
    bool rewrites = model_traits_of(request->engine->mdl)->is_shifted && settings_may_edit(s);
    return request->engine->prefixes && s->is_causal && !s->has_prompt_block &&
           s->cache == UM_CACHE_EXACT && !rewrites;
}

/* How many runs of a lane's beginning are there. */
static int32_t count_found(const um_request *request, const lane *l, int32_t n_max) {
    int32_t unit = (int32_t)unit_of(request), n = 0;
    prefix_node *node = NULL;
    for (; n < n_max; n++) {
        node = prefix_index_find(request->engine->prefixes, node,
                                 (uint64_t)request->settings.block_len, l->tokens + n * unit, unit);
        if (!node) break;
    }
    return n;
}

static um_status attach(um_request *request, lane *l, int32_t n, um_error *err) {
    um_engine *engine = request->engine;
    int32_t unit = (int32_t)unit_of(request);
    for (int32_t i = 0; i < n; i++) {
        prefix_node *node =
            prefix_index_find(engine->prefixes, l->node, (uint64_t)request->settings.block_len,
                              l->tokens + i * unit, unit);
        TRY(page_table_share(engine->pool, prefix_node_pages(node), unit / KV_PAGE_LEN, &l->pages,
                             err));
        l->node = node;
        l->n_indexed++;
    }
    page_table_freeze(&l->pages, n * unit);
    return UM_OK;
}

um_status prefix_attach(um_request *request, int32_t n_tokens, int32_t *n_cached, um_error *err) {
    *n_cached = 0;
    if (!prefix_is_shared(request)) return UM_OK;
    int64_t unit = unit_of(request);
    int32_t n = (int32_t)(n_tokens / unit);
    for (int32_t i = 0; i < request->n_lanes; i++) n = count_found(request, &request->lanes[i], n);
    for (int32_t i = 0; i < request->n_lanes; i++) TRY(attach(request, &request->lanes[i], n, err));
    *n_cached = (int32_t)(n * unit);
    return UM_OK;
}

/* What another request has added in the meantime is taken in place of one's own pages. */
static bool publish_run(um_request *request, lane *l, int32_t unit) {
    um_engine *engine = request->engine;
    int32_t n_pages = unit / KV_PAGE_LEN, first = l->n_indexed * n_pages;
    const int32_t *tokens = l->tokens + l->n_indexed * unit;
    uint64_t salt = (uint64_t)request->settings.block_len;
    prefix_node *node = prefix_index_find(engine->prefixes, l->node, salt, tokens, unit);
    if (node)
        for (int32_t i = 0; i < n_pages; i++)
            page_table_replace(engine->pool, &l->pages, first + i, prefix_node_pages(node)[i]);
    else
        node =
            prefix_index_add(engine->prefixes, l->node, salt, tokens, unit, l->pages.pages + first);
    if (!node) return false;
    l->node = node;
    l->n_indexed++;
    return true;
}

void prefix_publish(um_request *request) {
    if (!prefix_is_shared(request)) return;
    int64_t unit = unit_of(request);
    for (int32_t i = 0; i < request->n_lanes; i++) {
        lane *l = &request->lanes[i];
        while ((l->n_indexed + 1) * unit <= request->n_final)
            if (!publish_run(request, l, (int32_t)unit)) break; /* no memory: tried again later */
    }
}

void prefix_detach(um_request *request) {
    for (int32_t i = 0; i < REQUEST_LANES_MAX; i++) {
        lane *l = &request->lanes[i];
        if (l->node) prefix_index_touch(request->engine->prefixes, l->node);
        l->node = NULL;
        l->n_indexed = 0;
    }
}
