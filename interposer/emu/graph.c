/* Graphs: work that is put down first, by hand or by capture, and given to a stream as often as one likes. */
#include "emu/emu.h"

#include <stdlib.h>
#include <string.h>

struct emu_node {
	struct emu_graph *graph;
	CUgraphNodeType type;
	struct emu_op op;
	size_t index;
};
struct edge {
	size_t from, to;
};
struct emu_graph {
	struct emu_node **nodes;
	size_t count, room;
	struct edge *edges;
	size_t edges_count, edges_room;
};
struct emu_exec {
	struct emu_op *ops;
	size_t count;
};

static int global_captures;
static _Thread_local int own_captures;
static _Thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

static bool room(void **list, size_t count, size_t *has, size_t size)
{
	void *larger;

	if (count < *has)
		return true;
	larger = realloc(*list, (*has * 2 + 16) * size);
	if (larger == NULL)
		return false;
	*list = larger;
	*has = *has * 2 + 16;
	return true;
}

static struct emu_node *node_add(struct emu_graph *graph, CUgraphNodeType type, const struct emu_op *op)
{
	struct emu_node *node;

	if (!room((void **)&graph->nodes, graph->count, &graph->room, sizeof(struct emu_node *)))
		return NULL;
	node = emu_new(EMU_NODE, sizeof(*node));
	if (node == NULL)
		return NULL;
	node->graph = graph;
	node->type = type;
	node->op = *op;
	node->index = graph->count;
	graph->nodes[graph->count++] = node;
	return node;
}

static bool edge_add(struct emu_graph *graph, size_t from, size_t to)
{
	if (!room((void **)&graph->edges, graph->edges_count, &graph->edges_room, sizeof(*graph->edges)))
		return false;
	graph->edges[graph->edges_count++] = (struct edge){from, to};
	return true;
}

GPUMAX_EXPORT CUresult cuGraphCreate(CUgraph *handle, unsigned int flags)
{
	CALL(cuGraphCreate);
	REFUSE_IF(handle == NULL || flags != 0, CUDA_ERROR_INVALID_VALUE);
	*handle = emu_new(EMU_GRAPH, sizeof(struct emu_graph));
	return *handle != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

GPUMAX_EXPORT CUresult cuGraphDestroy(CUgraph handle)
{
	struct emu_graph *graph = (struct emu_graph *)handle;

	CALL(cuGraphDestroy);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < graph->count; i++)
		emu_delete(EMU_NODE, graph->nodes[i]);
	free(graph->nodes);
	free(graph->edges);
	emu_delete(EMU_GRAPH, graph);
	return CUDA_SUCCESS;
}

static CUresult added(CUgraphNode *handle, CUgraph graph_handle, const CUgraphNode *after, size_t count, CUgraphNodeType type,
		      const struct emu_op *op)
{
	struct emu_graph *graph = (struct emu_graph *)graph_handle;
	struct emu_node *node;

	REFUSE_IF(handle == NULL || !emu_is(EMU_GRAPH, graph) || (count > 0 && after == NULL), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < count; i++)
		REFUSE_IF(!emu_is(EMU_NODE, after[i]) || ((struct emu_node *)after[i])->graph != graph, CUDA_ERROR_INVALID_VALUE);
	node = node_add(graph, type, op);
	REFUSE_IF(node == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	for (size_t i = 0; i < count; i++)
		REFUSE_IF(!edge_add(graph, ((struct emu_node *)after[i])->index, node->index), CUDA_ERROR_OUT_OF_MEMORY);
	*handle = (CUgraphNode)node;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					       const CUDA_KERNEL_NODE_PARAMS_v2 *p)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	CUfunction function;
	CUresult result;

	CALL_IN_CONTEXT(cuGraphAddKernelNode_v2, context);
	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	{
		unsigned int grid[] = {p->gridDimX, p->gridDimY, p->gridDimZ}, block[] = {p->blockDimX, p->blockDimY, p->blockDimZ};

		function = p->func != NULL ? p->func : (CUfunction)(void *)p->kern;
		result = emu_kernel_op(context, function, grid, block, p->kernelParams, p->extra, &op);
	}
	return result != CUDA_SUCCESS ? result : added(node, graph, after, count, CU_GRAPH_NODE_TYPE_KERNEL, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					    const CUDA_KERNEL_NODE_PARAMS_v1 *p)
{
	CUDA_KERNEL_NODE_PARAMS_v2 newer = {0};

	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	memcpy(&newer, p, sizeof(*p));
	return cuGraphAddKernelNode_v2(node, graph, after, count, &newer);
}

GPUMAX_EXPORT CUresult cuGraphAddMemsetNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					    const CUDA_MEMSET_NODE_PARAMS_v1 *p, CUcontext context)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	CUresult result;

	CALL(cuGraphAddMemsetNode);
	REFUSE_IF(p == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, context), CUDA_ERROR_INVALID_CONTEXT);
	result = emu_set_checked((struct emu_context *)context, (struct emu_set){p->dst, p->width, p->height, p->pitch, p->value, p->elementSize}, &op);
	return result != CUDA_SUCCESS ? result : added(node, graph, after, count, CU_GRAPH_NODE_TYPE_MEMSET, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					    const CUDA_MEMCPY3D *copy, CUcontext context)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	CUresult result;

	CALL(cuGraphAddMemcpyNode);
	REFUSE_IF(copy == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, context), CUDA_ERROR_INVALID_CONTEXT);
	result = emu_solid_op((struct emu_context *)context, copy, &op);
	return result != CUDA_SUCCESS ? result : added(node, graph, after, count, CU_GRAPH_NODE_TYPE_MEMCPY, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};

	CALL(cuGraphAddEmptyNode);
	return added(node, graph, after, count, CU_GRAPH_NODE_TYPE_EMPTY, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddHostNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
					  const CUDA_HOST_NODE_PARAMS_v1 *p)
{
	struct emu_op op;

	CALL(cuGraphAddHostNode);
	REFUSE_IF(p == NULL || p->fn == NULL, CUDA_ERROR_INVALID_VALUE);
	op = emu_host_op(p->fn, p->userData);
	return added(node, graph, after, count, CU_GRAPH_NODE_TYPE_HOST, &op);
}

GPUMAX_EXPORT CUresult cuGraphAddDependencies(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
	struct emu_graph *graph = (struct emu_graph *)handle;

	CALL(cuGraphAddDependencies);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || (count > 0 && (from == NULL || to == NULL)), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < count; i++) {
		REFUSE_IF(!emu_is(EMU_NODE, from[i]) || !emu_is(EMU_NODE, to[i]), CUDA_ERROR_INVALID_VALUE);
		REFUSE_IF(!edge_add(graph, ((struct emu_node *)from[i])->index, ((struct emu_node *)to[i])->index), CUDA_ERROR_OUT_OF_MEMORY);
	}
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode *nodes, size_t *count)
{
	struct emu_graph *graph = (struct emu_graph *)handle;

	CALL(cuGraphGetNodes);
	REFUSE_IF(!emu_is(EMU_GRAPH, graph) || count == NULL, CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; nodes != NULL && i < *count; i++)
		nodes[i] = i < graph->count ? (CUgraphNode)graph->nodes[i] : NULL;
	if (nodes == NULL || *count > graph->count)
		*count = graph->count;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
	CALL(cuGraphNodeGetType);
	REFUSE_IF(!emu_is(EMU_NODE, node) || type == NULL, CUDA_ERROR_INVALID_VALUE);
	*type = ((struct emu_node *)node)->type;
	return CUDA_SUCCESS;
}

/* An order in which all comes behind what it depends on; false where there is a ring. */
static bool in_order(const struct emu_graph *graph, struct emu_op *out)
{
	size_t *open = calloc(graph->count + 1, sizeof(*open)), done = 0;
	bool *taken = calloc(graph->count + 1, sizeof(*taken)), moved = true;

	for (size_t i = 0; open != NULL && i < graph->edges_count; i++)
		open[graph->edges[i].to]++;
	while (open != NULL && taken != NULL && moved) {
		moved = false;
		for (size_t i = 0; i < graph->count; i++) {
			if (taken[i] || open[i] > 0)
				continue;
			taken[i] = moved = true;
			out[done++] = graph->nodes[i]->op;
			for (size_t e = 0; e < graph->edges_count; e++)
				open[graph->edges[e].to] -= graph->edges[e].from == i;
		}
	}
	free(open);
	free(taken);
	return done == graph->count;
}

GPUMAX_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *handle, CUgraph graph_handle, unsigned long long flags)
{
	struct emu_graph *graph = (struct emu_graph *)graph_handle;
	struct emu_exec *exec;

	CALL(cuGraphInstantiateWithFlags);
	REFUSE_IF(handle == NULL || !emu_is(EMU_GRAPH, graph) || flags > 15, CUDA_ERROR_INVALID_VALUE);
	exec = emu_new(EMU_EXEC, sizeof(*exec));
	REFUSE_IF(exec == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	exec->count = graph->count;
	exec->ops = calloc(graph->count + 1, sizeof(*exec->ops));
	if (exec->ops == NULL || !in_order(graph, exec->ops)) {
		free(exec->ops);
		emu_delete(EMU_EXEC, exec);
		return CUDA_ERROR_INVALID_VALUE;
	}
	*handle = (CUgraphExec)exec;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *wrong, char *log, size_t size)
{
	if (wrong != NULL)
		*wrong = NULL;
	if (log != NULL && size > 0)
		*log = '\0';
	return cuGraphInstantiateWithFlags(exec, graph, 0);
}

GPUMAX_EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle)
{
	CALL(cuGraphExecDestroy);
	REFUSE_IF(!emu_is(EMU_EXEC, handle), CUDA_ERROR_INVALID_VALUE);
	free(((struct emu_exec *)handle)->ops);
	emu_delete(EMU_EXEC, handle);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle)
{
	struct emu_exec *exec = (struct emu_exec *)handle;
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuGraphLaunch, context);
	REFUSE_IF(!emu_is(EMU_EXEC, exec), CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, stream_handle, &result);
	for (size_t i = 0; stream != NULL && result == CUDA_SUCCESS && i < exec->count; i++)
		result = emu_submit(stream, &exec->ops[i]);
	return result;
}

GPUMAX_EXPORT CUresult cuGraphUpload(CUgraphExec handle, CUstream stream)
{
	CUresult result;

	CALL_IN_CONTEXT(cuGraphUpload, context);
	REFUSE_IF(!emu_is(EMU_EXEC, handle), CUDA_ERROR_INVALID_VALUE);
	emu_stream(context, stream, &result);
	return result;
}

/* Capture. What is given to a capturing stream is put down, one behind the other. */

CUresult emu_capture(struct emu_stream *stream, const struct emu_op *op)
{
	struct emu_graph *graph = stream->capture;
	CUgraphNodeType type = op->engine == EMU_COMPUTE ? CU_GRAPH_NODE_TYPE_KERNEL : CU_GRAPH_NODE_TYPE_EMPTY;
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&emu.lock);
	if (stream->capture_broken)
		result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	else if (node_add(graph, type, op) == NULL || (graph->count > 1 && !edge_add(graph, graph->count - 2, graph->count - 1)))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_unlock(&emu.lock);
	return result;
}

static void break_captures(void)
{
	for (struct emu_context *context = emu_contexts(); context != NULL; context = context->next)
		for (struct emu_stream *each = context->streams; each != NULL; each = each->next_in_context)
			if (each->capture != NULL && each->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED)
				each->capture_broken = true;
}

CUresult emu_unsafe(void)
{
	if (__atomic_load_n(&global_captures, __ATOMIC_RELAXED) == 0 && own_captures == 0)
		return CUDA_SUCCESS;
	if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED || (thread_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && own_captures == 0))
		return CUDA_SUCCESS;
	pthread_mutex_lock(&emu.lock);
	break_captures();
	pthread_mutex_unlock(&emu.lock);
	return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

GPUMAX_EXPORT CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUstreamCaptureMode before = thread_mode;

	CALL(cuThreadExchangeStreamCaptureMode);
	REFUSE_IF(mode == NULL || (unsigned)*mode > CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_ERROR_INVALID_VALUE);
	thread_mode = *mode;
	*mode = before;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamBeginCapture_v2, context);
	REFUSE_IF((unsigned)mode > CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	REFUSE_IF(stream == context->legacy, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
	REFUSE_IF(stream->capture != NULL, CUDA_ERROR_ILLEGAL_STATE);
	stream->capture = emu_new(EMU_GRAPH, sizeof(struct emu_graph));
	REFUSE_IF(stream->capture == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	stream->capture_mode = mode;
	stream->capture_origin = true;
	stream->capture_broken = false;
	stream->capture_thread = pthread_self();
	if (mode == CU_STREAM_CAPTURE_MODE_GLOBAL)
		__atomic_add_fetch(&global_captures, 1, __ATOMIC_RELAXED);
	if (mode != CU_STREAM_CAPTURE_MODE_RELAXED)
		own_captures++;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamBeginCapture(CUstream stream)
{
	return cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

static void left(struct emu_graph *graph)
{
	pthread_mutex_lock(&emu.lock);
	for (struct emu_context *context = emu_contexts(); context != NULL; context = context->next)
		for (struct emu_stream *each = context->streams; each != NULL; each = each->next_in_context)
			if (each->capture == graph)
				each->capture = NULL;
	pthread_mutex_unlock(&emu.lock);
}

GPUMAX_EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
	struct emu_stream *stream;
	struct emu_graph *captured;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamEndCapture, context);
	REFUSE_IF(graph == NULL, CUDA_ERROR_INVALID_VALUE);
	*graph = NULL;
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	REFUSE_IF(stream->capture == NULL, CUDA_ERROR_ILLEGAL_STATE);
	REFUSE_IF(!stream->capture_origin, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
	REFUSE_IF(stream->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(stream->capture_thread, pthread_self()),
		  CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
	captured = stream->capture;
	left(captured);
	stream->capture_origin = false;
	if (stream->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL)
		__atomic_sub_fetch(&global_captures, 1, __ATOMIC_RELAXED);
	if (stream->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED)
		own_captures--;
	if (stream->capture_broken) {
		stream->capture_broken = false;
		cuGraphDestroy((CUgraph)captured);
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	}
	*graph = (CUgraph)captured;
	return CUDA_SUCCESS;
}

static CUstreamCaptureStatus status_of(const struct emu_stream *stream)
{
	return stream->capture == NULL	 ? CU_STREAM_CAPTURE_STATUS_NONE
	       : stream->capture_broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
					 : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

GPUMAX_EXPORT CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamIsCapturing, context);
	REFUSE_IF(status == NULL, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	*status = status_of(stream);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph,
						 const CUgraphNode **nodes, size_t *count)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamGetCaptureInfo_v2, context);
	REFUSE_IF(status == NULL, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	*status = status_of(stream);
	if (id != NULL)
		*id = (uint64_t)(uintptr_t)stream->capture;
	if (graph != NULL)
		*graph = (CUgraph)stream->capture;
	if (nodes != NULL)
		*nodes = NULL;
	if (count != NULL)
		*count = 0;
	return CUDA_SUCCESS;
}
