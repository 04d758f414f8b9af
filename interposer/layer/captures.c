/*
 * Captures of streams, from beginning to end: while there is one nobody is held up. Of a capture that comes to nothing the
 * driver destroys the graph, and nobody is given it: what was charged to it is given back here.
 */
#include <stdlib.h>

#include "api.h"
#include "layer.h"

struct capture {
	struct capture *next;
	CUstream stream;
	CUcontext context;
	pthread_t thread; /* whose default stream it is, where it is one */
	CUgraph graph;    /* NULL: not known, or the program's own */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct capture *all;

static void over(void)
{
	uint32_t before = atomic_load(&captures);

	while (before && !atomic_compare_exchange_weak(&captures, &before, before - 1))
		;
}

static CUgraph graph_of(CUstream stream, bool per_thread)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	CUgraph graph = NULL;
	uint64_t id;
	CUresult result = per_thread ? REAL(cuStreamGetCaptureInfo_v2_ptsz)(stream, &status, &id, &graph, NULL, NULL)
				     : REAL(cuStreamGetCaptureInfo_v2)(stream, &status, &id, &graph, NULL, NULL);

	return result == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? graph : NULL;
}

/* The default stream of a thread goes by one name in all of them. */
static struct capture as_known(CUstream stream, bool per_thread)
{
	struct capture capture = {.stream = per_thread && !stream ? CU_STREAM_PER_THREAD : stream};

	if (capture.stream == CU_STREAM_PER_THREAD)
		capture.thread = pthread_self();
	return capture;
}

static CUcontext context_of(CUstream stream, bool per_thread)
{
	CUcontext context = NULL;

	if (!stream || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD ||
	    (per_thread ? REAL(cuStreamGetCtx_ptsz)(stream, &context) : REAL(cuStreamGetCtx)(stream, &context)))
		return context_current();
	return context;
}

void capture_begun(CUstream stream, bool per_thread, bool to_own_graph)
{
	struct capture *capture;

	atomic_fetch_add(&captures, 1);
	if (idle() || !(capture = malloc(sizeof *capture)))
		return;
	*capture = as_known(stream, per_thread);
	capture->context = context_of(stream, per_thread);
	capture->graph = to_own_graph ? NULL : graph_of(stream, per_thread);
	pthread_mutex_lock(&lock);
	capture->next = all;
	all = capture;
	pthread_mutex_unlock(&lock);
}

/* False: its beginning wasn't seen. */
static bool take(CUstream stream, bool per_thread, CUgraph *graph)
{
	struct capture wanted = as_known(stream, per_thread), **place, *capture;

	pthread_mutex_lock(&lock);
	for (place = &all; (capture = *place); place = &capture->next)
		if (capture->stream == wanted.stream &&
		    (wanted.stream != CU_STREAM_PER_THREAD || pthread_equal(capture->thread, wanted.thread)))
			break;
	if (capture) {
		*place = capture->next;
		*graph = capture->graph;
	}
	pthread_mutex_unlock(&lock);
	free(capture);
	return capture != NULL;
}

/* One that failed has ended too; a stream that was not captured, by another thread, or only joined tells nothing. */
void capture_ended(unsigned result, CUstream stream, bool per_thread)
{
	bool failed = result >= CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED && result != CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	CUgraph graph = NULL;

	if (result != CUDA_SUCCESS && !failed)
		return;
	if (!take(stream, per_thread, &graph) && failed)
		return;
	over();
	if (failed && graph)
		graph_gone(graph);
}

/* It ends with its stream, too: nobody would be held up any more if it counted for ever. */
void capture_stream_ends(CUstream stream)
{
	CUgraph graph = NULL;

	if (!atomic_load(&captures) || !take(stream, false, &graph))
		return;
	over();
	if (graph)
		graph_gone(graph);
}

/* All of a context, or all of a thread's own stream. */
static void end_all(CUcontext context, bool of_thread)
{
	struct capture **place = &all, *ended = NULL, *capture;

	pthread_mutex_lock(&lock);
	while ((capture = *place)) {
		if (of_thread ? capture->stream != CU_STREAM_PER_THREAD || !pthread_equal(capture->thread, pthread_self())
			      : capture->context != context) {
			place = &capture->next;
			continue;
		}
		*place = capture->next;
		capture->next = ended;
		ended = capture;
	}
	pthread_mutex_unlock(&lock);
	while ((capture = ended)) {
		ended = capture->next;
		over();
		if (capture->graph)
			graph_gone(capture->graph);
		free(capture);
	}
}

void captures_context_ends(CUcontext context)
{
	if (atomic_load(&captures))
		end_all(context, false);
}

void captures_thread_ends(void)
{
	if (atomic_load(&captures))
		end_all(NULL, true);
}

void captures_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	all = NULL;
}
