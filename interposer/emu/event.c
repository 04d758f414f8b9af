/* Events: marks in a stream, with the time at which they were passed. */
#include "emu/emu.h"

struct emu_event {
	struct emu_context *context;
	unsigned int flags;
	struct emu_fence *fence; /* of the newest record; NULL before the first */
	struct emu_graph *capture;
};

GPUMAX_EXPORT CUresult cuEventCreate(CUevent *handle, unsigned int flags)
{
	struct emu_event *event;

	CALL_IN_CONTEXT(cuEventCreate, context);
	REFUSE_IF(handle == NULL || flags > 7, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0, CUDA_ERROR_INVALID_VALUE);
	event = emu_new(EMU_EVENT, sizeof(*event));
	REFUSE_IF(event == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	event->context = context;
	event->flags = flags;
	*handle = (CUevent)event;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuEventDestroy_v2(CUevent handle)
{
	CALL(cuEventDestroy_v2);
	REFUSE_IF(!emu_is(EMU_EVENT, handle), CUDA_ERROR_INVALID_HANDLE);
	pthread_mutex_lock(&emu.work);
	emu_fence_drop(((struct emu_event *)handle)->fence);
	pthread_mutex_unlock(&emu.work);
	emu_delete(EMU_EVENT, handle);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned int flags)
{
	struct emu_event *event = (struct emu_event *)handle;
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuEventRecordWithFlags, context);
	REFUSE_IF(!emu_is(EMU_EVENT, event), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(flags > 1, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, stream_handle, &result);
	REFUSE_IF(stream == NULL, result);
	event->capture = stream->capture;
	if (stream->capture != NULL)
		return CUDA_SUCCESS; /* what is captured later is behind it anyway: a graph keeps the order */
	result = emu_submit(stream, &op);
	REFUSE_IF(result != CUDA_SUCCESS, result);
	pthread_mutex_lock(&emu.work);
	emu_fence_drop(event->fence);
	event->fence = emu_fence_keep(stream->latest);
	pthread_mutex_unlock(&emu.work);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuEventRecord(CUevent handle, CUstream stream)
{
	return cuEventRecordWithFlags(handle, stream, 0);
}

GPUMAX_EXPORT CUresult cuEventQuery(CUevent handle)
{
	struct emu_event *event = (struct emu_event *)handle;
	CUresult result;

	CALL(cuEventQuery);
	REFUSE_IF(!emu_is(EMU_EVENT, event), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(event->capture != NULL, CUDA_ERROR_CAPTURED_EVENT);
	result = emu_usable(event->context);
	REFUSE_IF(result != CUDA_SUCCESS, result);
	pthread_mutex_lock(&emu.work);
	result = emu_is_done(event->fence) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
	pthread_mutex_unlock(&emu.work);
	return result;
}

static struct emu_fence *fence_of(const struct emu_event *event)
{
	struct emu_fence *fence;

	pthread_mutex_lock(&emu.work);
	fence = emu_fence_keep(event->fence);
	pthread_mutex_unlock(&emu.work);
	return fence;
}

GPUMAX_EXPORT CUresult cuEventSynchronize(CUevent handle)
{
	struct emu_event *event = (struct emu_event *)handle;

	CALL(cuEventSynchronize);
	REFUSE_IF(!emu_is(EMU_EVENT, event), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(event->capture != NULL, CUDA_ERROR_CAPTURED_EVENT);
	return emu_wait(event->context, fence_of(event));
}

GPUMAX_EXPORT CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent first, CUevent second)
{
	struct emu_event *from = (struct emu_event *)first, *to = (struct emu_event *)second;
	CUresult result = CUDA_SUCCESS;

	CALL(cuEventElapsedTime_v2);
	REFUSE_IF(milliseconds == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_EVENT, from) || !emu_is(EMU_EVENT, to), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(((from->flags | to->flags) & CU_EVENT_DISABLE_TIMING) != 0, CUDA_ERROR_INVALID_HANDLE);
	pthread_mutex_lock(&emu.work);
	if (from->fence == NULL || to->fence == NULL)
		result = CUDA_ERROR_INVALID_HANDLE;
	else if (!emu_is_done(from->fence) || !emu_is_done(to->fence))
		result = CUDA_ERROR_NOT_READY;
	else
		*milliseconds = (float)(((double)to->fence->end - (double)from->fence->end) / 1e6);
	pthread_mutex_unlock(&emu.work);
	return result;
}

GPUMAX_EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent first, CUevent second)
{
	return cuEventElapsedTime_v2(milliseconds, first, second);
}

GPUMAX_EXPORT CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned int flags)
{
	struct emu_event *event = (struct emu_event *)handle;
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamWaitEvent, context);
	REFUSE_IF(!emu_is(EMU_EVENT, event), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(flags > 1, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, stream_handle, &result);
	REFUSE_IF(stream == NULL, result);
	if (event->capture != NULL) {
		REFUSE_IF(stream->capture != NULL && stream->capture != event->capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
		pthread_mutex_lock(&emu.lock);
		stream->capture = event->capture; /* the stream joins the capture */
		pthread_mutex_unlock(&emu.lock);
		return CUDA_SUCCESS;
	}
	REFUSE_IF(stream->capture != NULL && event->fence != NULL, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
	if (stream->waits_count == (int)(sizeof(stream->waits) / sizeof(stream->waits[0]))) {
		struct emu_op op = {.engine = EMU_NO_ENGINE};

		result = emu_submit(stream, &op); /* takes up those that were there */
		REFUSE_IF(result != CUDA_SUCCESS, result);
	}
	pthread_mutex_lock(&emu.work);
	if (event->fence != NULL)
		stream->waits[stream->waits_count++] = emu_fence_keep(event->fence);
	pthread_mutex_unlock(&emu.work);
	return CUDA_SUCCESS;
}
