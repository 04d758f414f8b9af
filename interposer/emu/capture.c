/* Capture: what is given to a capturing stream is put down in a graph, one behind the other. */
#include "emu/graph.h"

static int global_captures;
static _Thread_local int own_captures;
static _Thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

CUresult emu_capture(struct emu_stream *stream, const struct emu_op *op)
{
	struct emu_graph *graph = stream->capture;
	CUgraphNodeType type = op->engine == EMU_COMPUTE ? CU_GRAPH_NODE_TYPE_KERNEL : CU_GRAPH_NODE_TYPE_EMPTY;
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&emu.lock);
	if (stream->capture_broken)
		result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	else if (emu_node_add(graph, type, op) == NULL || (graph->count > 1 && !emu_edge_add(graph, graph->count - 2, graph->count - 1)))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_unlock(&emu.lock);
	return result;
}

/* What streams capture is written with emu.lock held; which streams there are, with emu.work. */
static void break_captures(void)
{
	pthread_mutex_lock(&emu.work);
	for (struct emu_context *context = emu_contexts(); context != NULL; context = context->next)
		for (struct emu_stream *each = context->streams; each != NULL; each = each->next_in_context)
			if (each->capture != NULL && each->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED)
				each->capture_broken = true;
	pthread_mutex_unlock(&emu.work);
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
	struct emu_graph *graph;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamBeginCapture_v2, context);
	REFUSE_IF((unsigned)mode > CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	REFUSE_IF(stream == context->legacy, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
	REFUSE_IF(stream->capture != NULL, CUDA_ERROR_ILLEGAL_STATE);
	graph = emu_new(EMU_GRAPH, sizeof(*graph));
	REFUSE_IF(graph == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	pthread_mutex_lock(&emu.lock);
	stream->capture = graph;
	stream->capture_mode = mode;
	stream->capture_origin = true;
	stream->capture_broken = false;
	stream->capture_thread = pthread_self();
	pthread_mutex_unlock(&emu.lock);
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

/* Nobody captures it any more; false where the capture was broken. */
static bool left(struct emu_stream *stream, const struct emu_graph *graph)
{
	bool whole;

	pthread_mutex_lock(&emu.lock);
	pthread_mutex_lock(&emu.work);
	for (struct emu_context *context = emu_contexts(); context != NULL; context = context->next)
		for (struct emu_stream *each = context->streams; each != NULL; each = each->next_in_context)
			if (each->capture == graph)
				each->capture = NULL;
	pthread_mutex_unlock(&emu.work);
	whole = !stream->capture_broken;
	stream->capture_origin = stream->capture_broken = false;
	pthread_mutex_unlock(&emu.lock);
	return whole;
}

GPUMAX_EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
	struct emu_stream *stream;
	struct emu_graph *captured;
	CUresult result;
	bool whole;

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
	whole = left(stream, captured);
	if (stream->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL)
		__atomic_sub_fetch(&global_captures, 1, __ATOMIC_RELAXED);
	if (stream->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED)
		own_captures--;
	if (!whole) {
		cuGraphDestroy((CUgraph)captured);
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	}
	*graph = (CUgraph)captured;
	return CUDA_SUCCESS;
}

static CUstreamCaptureStatus status_of(const struct emu_stream *stream)
{
	CUstreamCaptureStatus status;

	pthread_mutex_lock(&emu.lock);
	status = stream->capture == NULL     ? CU_STREAM_CAPTURE_STATUS_NONE
		 : stream->capture_broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
					  : CU_STREAM_CAPTURE_STATUS_ACTIVE;
	pthread_mutex_unlock(&emu.lock);
	return status;
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

GPUMAX_EXPORT CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph,
						 const CUgraphNode **nodes, const CUgraphEdgeData **edges, size_t *count)
{
	if (edges != NULL)
		*edges = NULL;
	return cuStreamGetCaptureInfo_v2(stream, status, id, graph, nodes, count);
}
