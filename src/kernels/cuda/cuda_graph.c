/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps kept as CUDA graphs: hundreds of launches become one. A key holds everything that the
 * launches depend on, addresses included, so that a graph whose key is met again does what they
 * would. A key is recorded when it comes the second time: what comes once, such as a prompt's
 * chunk, is not worth it. The graph that was not used for the longest time makes room.
 *
 * A run behind a gate is recorded at once, into the body of a conditional node: the device decides
 * whether it is done, and one that is not costs some microseconds.
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

/* The graph of a key, made room for if it is new. */
static cuda_graph *use_graph(cuda_device *cuda, const void *key, size_t n_bytes, bool *is_known) {
    assert(n_bytes <= DEVICE_KEY_BYTES && !cuda->recording);
    cuda_graph *g = find(cuda, key, n_bytes);
    *is_known = g != NULL;
    if (!g) g = make_room(cuda, key, n_bytes);
    g->last_use = ++cuda->n_graph_uses;
    return g;
}

um_status cuda_replay(device *dev, const void *key, size_t n_bytes, bool *is_replayed) {
    cuda_device *cuda = cuda_of(dev);
    bool is_known;
    cuda_graph *g = use_graph(cuda, key, n_bytes, &is_known);
    *is_replayed = g->exec != NULL;
    if (!is_known) return UM_OK;
    if (g->exec) return cuda_check(cuda, cudaGraphLaunch(g->exec, cuda->stream));
    TRY(cuda_check(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal)));
    cuda->recording = g;
    return UM_OK;
}

/* Begins to record what is behind a gate: [look at it] -> [conditional node: what is recorded]. */
static cudaError_t record_gated(cuda_device *cuda, device_gate *gate, cudaGraph_t whole) {
    struct cudaGraphNodeParams params = {.type = cudaGraphNodeTypeConditional};
    cudaGraphConditionalHandle handle;
    cudaGraphNode_t look, node;
    cudaGraph_t same;
    size_t n = 1;
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
    cudaError_t error =
        cudaGraphConditionalHandleCreate(&handle, whole, 0, cudaGraphCondAssignDefault);
    if (error != cudaSuccess) return error;
    error = cudaStreamBeginCaptureToGraph(cuda->stream, whole, NULL, NULL, 0, mode);
    if (error != cudaSuccess) return error;
    cuda_launch_gate(cuda->stream, handle, gate);
    error = cudaStreamEndCapture(cuda->stream, &same);
    if (error == cudaSuccess) error = cudaGraphGetNodes(whole, &look, &n);
    params.conditional.handle = handle;
    params.conditional.type = cudaGraphCondTypeIf;
    params.conditional.size = 1;
#if CUDART_VERSION >= 13000
    if (error == cudaSuccess) error = cudaGraphAddNode(&node, whole, &look, NULL, 1, &params);
#else
    if (error == cudaSuccess) error = cudaGraphAddNode(&node, whole, &look, 1, &params);
#endif
    if (error != cudaSuccess) return error;
    return cudaStreamBeginCaptureToGraph(cuda->stream, params.conditional.phGraph_out[0], NULL,
                                         NULL, 0, mode);
}

um_status cuda_replay_gated(device *dev, const void *key, size_t n_bytes, device_gate *gate,
                            bool *is_replayed) {
    cuda_device *cuda = cuda_of(dev);
    bool is_known;
    cuda_graph *g = use_graph(cuda, key, n_bytes, &is_known);
    *is_replayed = g->exec != NULL;
    if (g->exec) return cuda_check(cuda, cudaGraphLaunch(g->exec, cuda->stream));
    cudaGraph_t whole = NULL;
    cudaError_t error = cudaGraphCreate(&whole, 0);
    if (error == cudaSuccess) error = record_gated(cuda, gate, whole);
    if (error != cudaSuccess) {
        cuda_check(cuda, error);
        if (whole) cudaGraphDestroy(whole);
        return UM_UNSUPPORTED;
    }
    cuda->recording = g;
    cuda->recording_whole = whole;
    return UM_OK;
}

um_status cuda_replay_end(device *dev, um_status status) {
    cuda_device *cuda = cuda_of(dev);
    cuda_graph *g = cuda->recording;
    if (!g) return status;
    cudaGraph_t graph = NULL, whole = cuda->recording_whole;
    cuda->recording = NULL;
    cuda->recording_whole = NULL;
    um_status ended = cuda_check(cuda, cudaStreamEndCapture(cuda->stream, &graph));
    if (whole) graph = whole; /* what was recorded is a part of it */
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
