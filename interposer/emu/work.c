/* Streams at work: a list of things to do for each, a thread that does them, and what waits for what. */
#include "emu/emu.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct emu_fence *emu_fence_new(void)
{
	struct emu_fence *fence = calloc(1, sizeof(*fence));

	if (fence != NULL)
		fence->references = 1;
	return fence;
}

struct emu_fence *emu_fence_keep(struct emu_fence *fence)
{
	if (fence != NULL)
		__atomic_add_fetch(&fence->references, 1, __ATOMIC_RELAXED);
	return fence;
}

void emu_fence_drop(struct emu_fence *fence)
{
	if (fence != NULL && __atomic_sub_fetch(&fence->references, 1, __ATOMIC_ACQ_REL) == 0)
		free(fence);
}

/* With emu.work held, as all that follows unless it says otherwise. */
bool emu_is_done(const struct emu_fence *fence)
{
	return fence == NULL || (fence->done && (!emu.config.virtual_clock || fence->end <= emu_now()));
}

static bool after(struct emu_op *op, struct emu_fence *fence)
{
	if (fence == NULL || (fence->done && !emu.config.virtual_clock))
		return true;
	if (op->after_count == op->after_room) {
		int room = op->after_room * 2 + 4;
		struct emu_fence **larger = realloc(op->after, (size_t)room * sizeof(*larger));

		if (larger == NULL)
			return false;
		op->after = larger;
		op->after_room = room;
	}
	op->after[op->after_count++] = emu_fence_keep(fence);
	return true;
}

static void op_free(struct emu_op *op)
{
	for (int i = 0; i < op->after_count; i++)
		emu_fence_drop(op->after[i]);
	free(op->after);
	emu_fence_drop(op->fence);
	free(op);
}

/* What has to be done first: what the stream was told to wait for, and the rules of the legacy default stream. */
static bool ordered(struct emu_stream *stream, struct emu_op *op)
{
	struct emu_context *context = stream->context;
	bool fine = after(op, stream->latest);

	for (int i = 0; i < stream->waits_count; i++) {
		fine &= after(op, stream->waits[i]);
		emu_fence_drop(stream->waits[i]);
	}
	stream->waits_count = 0;
	if ((stream->flags & CU_STREAM_NON_BLOCKING) != 0)
		return fine;
	if (stream != context->legacy)
		return fine && after(op, context->legacy->latest);
	for (struct emu_stream *each = context->streams; each != NULL; each = each->next_in_context)
		if (each != stream && (each->flags & CU_STREAM_NON_BLOCKING) == 0)
			fine &= after(op, each->latest);
	return fine;
}

static uint64_t ready_at(const struct emu_op *op)
{
	uint64_t ready = op->submitted;

	for (int i = 0; i < op->after_count; i++)
		if (op->after[i]->end > ready)
			ready = op->after[i]->end;
	return ready;
}

static void running(int change)
{
	__atomic_add_fetch(&emu.slot->running, (uint32_t)change, __ATOMIC_SEQ_CST);
}

/* Without emu.work. */
static uint64_t carried_out(struct emu_stream *stream, struct emu_op *op, uint64_t ready, bool more)
{
	struct emu_context *context = stream->context;
	uint64_t end = ready;
	CUresult result = CUDA_SUCCESS;

	if (emu_usable(context) != CUDA_SUCCESS && op->engine != EMU_NO_ENGINE)
		return end;
	if (op->engine != EMU_NO_ENGINE)
		end = emu_engine_run(context->device, op->engine, ready, op->forever ? UINT64_MAX / 4 : op->duration, more, &stream->stop);
	else if (op->holds)
		end = ready + op->duration;
	if (op->holds && !emu.config.virtual_clock)
		emu_wait_until(end);
	if (op->patient && !emu_word_waited(op, &stream->stop))
		return end;
	if (op->effect != NULL && !__atomic_load_n(&stream->stop, __ATOMIC_RELAXED))
		result = op->effect(context, op);
	if (result != CUDA_SUCCESS)
		__atomic_store_n(&context->broken, result, __ATOMIC_RELAXED);
	return end;
}

static void finished(struct emu_stream *stream, struct emu_op *op, uint64_t end)
{
	op->fence->end = end;
	op->fence->done = true;
	stream->end = end;
	if (op->fence->awaited)
		pthread_cond_broadcast(&emu.done);
}

static bool all_done(const struct emu_op *op)
{
	for (int i = 0; i < op->after_count; i++)
		if (!op->after[i]->done)
			return false;
	return true;
}

/* Sleeps until what it comes after may be done. */
static void await_some(const struct emu_op *op)
{
	for (int i = 0; i < op->after_count; i++)
		op->after[i]->awaited = true;
	pthread_cond_wait(&emu.done, &emu.work);
}

static void *worker(void *argument)
{
	struct emu_stream *stream = argument;

	pthread_mutex_lock(&emu.work);
	for (;;) {
		struct emu_op *op;
		uint64_t ready, end;
		bool more;

		while (stream->first == NULL && !stream->stop)
			pthread_cond_wait(&stream->wake, &emu.work);
		op = stream->first;
		if (op == NULL)
			break;
		while (!all_done(op) && !stream->stop)
			await_some(op);
		ready = ready_at(op);
		more = op->next != NULL && op->next->engine == op->engine && all_done(op) && op->next->after_count <= 1;
		pthread_mutex_unlock(&emu.work);
		end = carried_out(stream, op, ready, more);
		pthread_mutex_lock(&emu.work);
		stream->first = op->next;
		if (stream->first == NULL)
			stream->last = NULL;
		finished(stream, op, end);
		op_free(op);
		running(-1);
	}
	pthread_mutex_unlock(&emu.work);
	return NULL;
}

/* A program's signals are for its own threads. */
static bool started(struct emu_stream *stream)
{
	sigset_t all, before;

	if (stream->started)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	stream->started = pthread_create(&stream->thread, NULL, worker, stream) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return stream->started;
}

static void at_once(struct emu_stream *stream, struct emu_op *op)
{
	uint64_t ready, end;

	/* Another thread may be at what this is to come after. */
	while (!all_done(op))
		await_some(op);
	ready = ready_at(op);
	pthread_mutex_unlock(&emu.work);
	end = carried_out(stream, op, ready, false);
	pthread_mutex_lock(&emu.work);
	finished(stream, op, end);
	op_free(op);
}

static CUresult given(struct emu_stream *stream, const struct emu_op *wanted)
{
	struct emu_op *op = malloc(sizeof(*op));

	REFUSE_IF(op == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	*op = *wanted;
	op->next = NULL;
	op->after = NULL;
	op->after_count = op->after_room = 0;
	op->submitted = emu_now();
	op->fence = emu_fence_new();
	if (op->fence == NULL || !ordered(stream, op) || (!emu.config.virtual_clock && !started(stream))) {
		op_free(op);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	emu_fence_drop(stream->latest);
	stream->latest = emu_fence_keep(op->fence);
	if (emu.config.virtual_clock) {
		at_once(stream, op);
		return CUDA_SUCCESS;
	}
	if (stream->last != NULL)
		stream->last->next = op;
	else
		stream->first = op;
	stream->last = op;
	running(1);
	pthread_cond_signal(&stream->wake);
	return CUDA_SUCCESS;
}

/* Without emu.work. */
CUresult emu_submit(struct emu_stream *stream, const struct emu_op *op)
{
	CUresult result;

	REFUSE_IF(op->forever && emu.config.virtual_clock, CUDA_ERROR_LAUNCH_TIMEOUT);
	if (stream->capture != NULL)
		return emu_capture(stream, op);
	pthread_mutex_lock(&emu.work);
	result = given(stream, op);
	pthread_mutex_unlock(&emu.work);
	return result;
}

CUresult emu_submit_and_wait(struct emu_stream *stream, const struct emu_op *op)
{
	CUresult result;

	if (stream->capture != NULL)
		return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	result = emu_submit(stream, op);
	return result != CUDA_SUCCESS ? result : emu_stream_wait(stream);
}

CUresult emu_wait(struct emu_context *context, struct emu_fence *fence)
{
	pthread_mutex_lock(&emu.work);
	while (fence != NULL && !fence->done) {
		fence->awaited = true;
		pthread_cond_wait(&emu.done, &emu.work);
	}
	if (fence != NULL && emu.config.virtual_clock)
		emu_wait_until(fence->end);
	emu_fence_drop(fence);
	pthread_mutex_unlock(&emu.work);
	return emu_usable(context);
}

static struct emu_fence *latest_of(const struct emu_stream *stream)
{
	struct emu_fence *fence;

	pthread_mutex_lock(&emu.work);
	fence = emu_fence_keep(stream->latest);
	pthread_mutex_unlock(&emu.work);
	return fence;
}

CUresult emu_stream_wait(struct emu_stream *stream)
{
	return emu_wait(stream->context, latest_of(stream));
}

CUresult emu_context_wait(struct emu_context *context)
{
	CUresult result = emu_usable(context);
	int count = 0;
	struct emu_fence **fences = NULL;

	pthread_mutex_lock(&emu.work);
	for (struct emu_stream *each = context->streams; each != NULL; each = each->next_in_context)
		count++;
	fences = calloc((size_t)count + 1, sizeof(struct emu_fence *));
	count = 0;
	for (struct emu_stream *each = context->streams; fences != NULL && each != NULL; each = each->next_in_context)
		fences[count++] = emu_fence_keep(each->latest);
	pthread_mutex_unlock(&emu.work);
	for (int i = 0; i < count; i++)
		result = emu_wait(context, fences[i]);
	free(fences);
	return fences == NULL ? CUDA_ERROR_OUT_OF_MEMORY : result;
}
