/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps kept as CUDA graphs: hundreds of launches become one. A key holds everything that the
 * launches depend on, addresses included, so that a graph whose key is met again does what they
 * would. A key is recorded when it comes the second time: what comes once, such as a prompt's
 * chunk, is not worth it. The graph that was not used for the longest time makes room.
 */
#include <assert.h>
#include <string.h>

#include "kernels/cuda/cuda_device.h"

static cuda_graph *find(cuda_device *cuda, const void *key, size_t n_bytes) {
    for (int i = 0; i < CUDA_GRAPHS; i++) {
        cuda_graph *g = &cuda->graphs[i];
        if (g->last_use && g->key_bytes == n_bytes && memcmp(g->key, key, n_bytes) == 0) return g;
    }
    return NULL;
}

/* An empty place for a key. */
static cuda_graph *make_room(cuda_device *cuda, const void *key, size_t n_bytes) {
    cuda_graph *oldest = &cuda->graphs[0];
    for (int i = 1; i < CUDA_GRAPHS; i++)
        if (cuda->graphs[i].last_use < oldest->last_use) oldest = &cuda->graphs[i];
    if (oldest->exec) cudaGraphExecDestroy(oldest->exec);
    memset(oldest, 0, sizeof *oldest);
    memcpy(oldest->key, key, n_bytes);
    oldest->key_bytes = n_bytes;
    return oldest;
}

um_status cuda_replay(device *dev, const void *key, size_t n_bytes, bool *is_replayed) {
    cuda_device *cuda = cuda_of(dev);
    assert(n_bytes <= DEVICE_KEY_BYTES && !cuda->recording);
    *is_replayed = false;
    cuda_graph *g = find(cuda, key, n_bytes);
    bool is_known = g != NULL;
    if (!g) g = make_room(cuda, key, n_bytes);
    g->last_use = ++cuda->n_graph_uses;
    if (!is_known) return UM_OK;
    if (g->exec) {
        *is_replayed = true;
        return cuda_check(cuda, cudaGraphLaunch(g->exec, cuda->stream));
    }
    TRY(cuda_check(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal)));
    cuda->recording = g;
    return UM_OK;
}

um_status cuda_replay_end(device *dev, um_status status) {
    cuda_device *cuda = cuda_of(dev);
    cuda_graph *g = cuda->recording;
    if (!g) return status;
    cudaGraph_t graph = NULL;
    cuda->recording = NULL;
    um_status ended = cuda_check(cuda, cudaStreamEndCapture(cuda->stream, &graph));
    if (status == UM_OK) status = ended;
    if (status == UM_OK) status = cuda_check(cuda, cudaGraphInstantiate(&g->exec, graph, 0));
    if (graph) cudaGraphDestroy(graph);
    if (status == UM_OK) status = cuda_check(cuda, cudaGraphLaunch(g->exec, cuda->stream));
    return status;
}

void cuda_graphs_destroy(cuda_device *cuda) {
    for (int i = 0; i < CUDA_GRAPHS; i++)
        if (cuda->graphs[i].exec) cudaGraphExecDestroy(cuda->graphs[i].exec);
}
