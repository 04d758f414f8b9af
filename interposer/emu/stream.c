/* Streams as a program sees them. */
#include "emu/emu.h"

#include <stdlib.h>

static uint64_t ids = 2;

/* A stream per thread and context, found by the thread. */
struct own {
	struct emu_context *context;
	uint64_t context_id;
	struct emu_stream *stream;
	struct own *next;
};
static pthread_key_t owned;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The thread has ended; its streams stay with their contexts. */
static void forget(void *list)
{
	for (struct own *own = list, *next; own != NULL; own = next) {
		next = own->next;
		free(own);
	}
}

static void prepare(void)
{
	pthread_key_create(&owned, forget);
}

struct emu_stream *emu_stream_new(struct emu_context *context, unsigned int flags, int priority)
{
	struct emu_stream *stream = emu_new(EMU_STREAM, sizeof(*stream));

	if (stream == NULL)
		return NULL;
	stream->context = context;
	stream->flags = flags;
	stream->priority = priority;
	pthread_cond_init(&stream->wake, NULL);
	pthread_mutex_lock(&emu.work);
	stream->id = ++ids;
	stream->next_in_context = context->streams;
	context->streams = stream;
	pthread_mutex_unlock(&emu.work);
	return stream;
}

static struct emu_stream *per_thread(struct emu_context *context)
{
	struct own *own;

	pthread_once(&once, prepare);
	own = pthread_getspecific(owned);
	while (own != NULL && (own->context != context || own->context_id != context->id))
		own = own->next;
	if (own != NULL)
		return own->stream;
	own = malloc(sizeof(*own));
	if (own == NULL)
		return NULL;
	*own = (struct own){context, context->id, emu_stream_new(context, CU_STREAM_DEFAULT, 0), pthread_getspecific(owned)};
	if (own->stream != NULL)
		own->stream->per_thread = true;
	pthread_setspecific(owned, own);
	return own->stream;
}

/* The stream of a handle; NULL and the default ones are of the current context. */
struct emu_stream *emu_stream(struct emu_context *context, CUstream handle, CUresult *result)
{
	struct emu_stream *stream = NULL;

	*result = CUDA_SUCCESS;
	if (handle == NULL || handle == CU_STREAM_LEGACY)
		stream = context->legacy;
	else if (handle == CU_STREAM_PER_THREAD)
		stream = per_thread(context);
	else if (emu_is(EMU_STREAM, handle))
		stream = (struct emu_stream *)handle;
	if (stream == NULL)
		*result = CUDA_ERROR_INVALID_HANDLE;
	else if (stream->context != context)
		*result = emu_usable(stream->context);
	return *result == CUDA_SUCCESS ? stream : NULL;
}

/* Lets what was given to it end, unless that never ends, and forgets the stream. */
void emu_stream_end(struct emu_stream *stream)
{
	struct emu_stream **at = &stream->context->streams;

	pthread_mutex_lock(&emu.work);
	__atomic_store_n(&stream->stop, true, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&stream->wake);
	pthread_cond_broadcast(&emu.done);
	pthread_mutex_unlock(&emu.work);
	if (stream->started)
		pthread_join(stream->thread, NULL);
	pthread_mutex_lock(&emu.work);
	while (*at != stream)
		at = &(*at)->next_in_context;
	*at = stream->next_in_context;
	for (int i = 0; i < stream->waits_count; i++)
		emu_fence_drop(stream->waits[i]);
	emu_fence_drop(stream->latest);
	pthread_mutex_unlock(&emu.work);
	pthread_cond_destroy(&stream->wake);
	emu_delete(EMU_STREAM, stream);
}

GPUMAX_EXPORT CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned int flags, int priority)
{
	CALL_IN_CONTEXT(cuStreamCreateWithPriority, context);
	REFUSE_IF(handle == NULL || flags > CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
	*handle = (CUstream)emu_stream_new(context, flags, priority > 0 ? 0 : priority < -5 ? -5 : priority);
	return *handle != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

GPUMAX_EXPORT CUresult cuStreamCreate(CUstream *handle, unsigned int flags)
{
	return cuStreamCreateWithPriority(handle, flags, 0);
}

GPUMAX_EXPORT CUresult cuStreamDestroy_v2(CUstream handle)
{
	struct emu_stream *stream = (struct emu_stream *)handle;

	CALL(cuStreamDestroy_v2);
	REFUSE_IF(!emu_is(EMU_STREAM, stream) || stream == stream->context->legacy || stream->per_thread, CUDA_ERROR_INVALID_HANDLE);
	/* The driver comes back at once and lets the work end; here it has ended. */
	if (emu_usable(stream->context) == CUDA_SUCCESS)
		emu_stream_wait(stream);
	emu_stream_end(stream);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamSynchronize(CUstream handle)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamSynchronize, context);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	REFUSE_IF(stream->capture != NULL, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	return emu_stream_wait(stream);
}

GPUMAX_EXPORT CUresult cuStreamQuery(CUstream handle)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamQuery, context);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	REFUSE_IF(stream->capture != NULL, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	pthread_mutex_lock(&emu.work);
	result = emu_is_done(stream->latest) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
	pthread_mutex_unlock(&emu.work);
	return result;
}

GPUMAX_EXPORT CUresult cuStreamGetFlags(CUstream handle, unsigned int *flags)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamGetFlags, context);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL || flags == NULL, stream == NULL ? result : CUDA_ERROR_INVALID_VALUE);
	*flags = stream->flags;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamGetPriority(CUstream handle, int *priority)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamGetPriority, context);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL || priority == NULL, stream == NULL ? result : CUDA_ERROR_INVALID_VALUE);
	*priority = stream->priority;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamGetId(CUstream handle, unsigned long long *id)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamGetId, context);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL || id == NULL, stream == NULL ? result : CUDA_ERROR_INVALID_VALUE);
	*id = stream->id;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext *out)
{
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamGetCtx, context);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL || out == NULL, stream == NULL ? result : CUDA_ERROR_INVALID_VALUE);
	*out = (CUcontext)stream->context;
	return CUDA_SUCCESS;
}

static CUresult call_host(struct emu_context *context, struct emu_op *op)
{
	emu_in_callback++;
	if (op->host.function != NULL)
		op->host.function(op->host.data);
	else
		op->host.callback(op->host.stream, emu_usable(context), op->host.data);
	emu_in_callback--;
	return CUDA_SUCCESS;
}

struct emu_op emu_host_op(CUhostFn function, void *data)
{
	return (struct emu_op){.engine = EMU_NO_ENGINE, .effect = call_host, .host = {.function = function, .data = data}};
}

GPUMAX_EXPORT CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data)
{
	struct emu_op op = emu_host_op(function, data);
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuLaunchHostFunc, context);
	REFUSE_IF(function == NULL, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	return stream == NULL ? result : emu_submit(stream, &op);
}

GPUMAX_EXPORT CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void *data, unsigned int flags)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE, .effect = call_host, .host = {.callback = callback, .stream = handle, .data = data}};
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuStreamAddCallback, context);
	REFUSE_IF(callback == NULL || flags != 0, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	REFUSE_IF(stream->capture != NULL, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	return emu_submit(stream, &op);
}
