/*
 * Out: the gate closes, what runs is awaited, each piece is copied to the host and let go of while the next is copied.
 * In: each piece is made anew at its address and filled; then the gate opens. Pointers stay what they are, so nobody
 * notices. Whatever fails on the way out is undone; the bytes on the host are given up only when they are on the device.
 */
#include <sys/mman.h>
#include <time.h>

#include "api.h"
#include "backing.h"
#include "swap.h"

#define AHEAD 4 /* copies under way at once */

static pthread_mutex_t swapping = PTHREAD_MUTEX_INITIALIZER;
static bool out;
static _Atomic uint64_t copied_out, copied_in;

void backing_host_free(struct backing *backing)
{
	if (!backing->host)
		return;
	if (backing->registered)
		REAL(cuMemHostUnregister)(backing->host);
	munmap(backing->host, backing->size);
	backing->host = NULL;
	backing->registered = backing->host_true = false;
}

static CUresult host_ready(struct backing *backing)
{
	void *host;

	if (backing->host)
		return CUDA_SUCCESS;
	host = mmap(NULL, backing->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (host == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	backing->host = host;
	backing->registered = REAL(cuMemHostRegister_v2)(host, backing->size, 0) == CUDA_SUCCESS;
	return CUDA_SUCCESS;
}

/* The copies of one allocation: a stream of our own, and as many events as copies are under way. */
struct copying {
	struct backing *backing;
	CUstream stream;
	CUevent events[AHEAD];
};

static void finish(struct copying *copying)
{
	CUcontext unused;

	if (copying->stream)
		REAL(cuStreamSynchronize)(copying->stream);
	for (int i = 0; i < AHEAD; i++)
		if (copying->events[i])
			REAL(cuEventDestroy_v2)(copying->events[i]);
	if (copying->stream)
		REAL(cuStreamDestroy_v2)(copying->stream);
	REAL(cuCtxPopCurrent_v2)(&unused);
}

static CUresult begin(struct copying *copying, struct backing *backing)
{
	CUresult result = REAL(cuCtxPushCurrent_v2)(backing->context);

	*copying = (struct copying){.backing = backing};
	if (result != CUDA_SUCCESS)
		return result;
	result = REAL(cuStreamCreate)(&copying->stream, CU_STREAM_NON_BLOCKING);
	for (int i = 0; i < AHEAD && result == CUDA_SUCCESS; i++)
		result = REAL(cuEventCreate)(&copying->events[i], CU_EVENT_DISABLE_TIMING);
	if (result != CUDA_SUCCESS)
		finish(copying);
	return result;
}

static CUresult start_out(struct copying *copying, uint32_t i)
{
	struct backing *backing = copying->backing;
	CUresult result;

	if (backing->read_only && backing->host_true)
		return CUDA_SUCCESS;
	result = REAL(cuMemcpyDtoHAsync_v2)(backing->host + i * PIECE, backing->base + i * PIECE, piece_size(backing, i),
					    copying->stream);
	if (result == CUDA_SUCCESS)
		atomic_fetch_add(&copied_out, piece_size(backing, i));
	return result == CUDA_SUCCESS ? REAL(cuEventRecord)(copying->events[i % AHEAD], copying->stream) : result;
}

static CUresult end_out(struct copying *copying, uint32_t i)
{
	CUresult result = CUDA_SUCCESS;

	if (!(copying->backing->read_only && copying->backing->host_true))
		result = REAL(cuEventSynchronize)(copying->events[i % AHEAD]);
	return result == CUDA_SUCCESS ? piece_drop(copying->backing, i) : result;
}

static CUresult move_out(struct backing *backing)
{
	struct copying copying;
	uint32_t started = 0, ended = 0;
	CUresult result = host_ready(backing);

	if (result == CUDA_SUCCESS)
		result = begin(&copying, backing);
	if (result != CUDA_SUCCESS)
		return result;
	while (ended < backing->count && result == CUDA_SUCCESS) {
		if (started < backing->count && started - ended < AHEAD)
			result = start_out(&copying, started++);
		else
			result = end_out(&copying, ended++);
	}
	finish(&copying);
	backing->host_true = result == CUDA_SUCCESS;
	return result;
}

static CUresult move_in(struct backing *backing)
{
	struct copying copying;
	CUresult result = begin(&copying, backing);

	if (result != CUDA_SUCCESS)
		return result;
	for (uint32_t i = 0; i < backing->count && result == CUDA_SUCCESS; i++) {
		if (backing->pieces[i].resident)
			continue;
		result = piece_bring(backing, i);
		if (result == CUDA_SUCCESS)
			result = REAL(cuMemcpyHtoDAsync_v2)(backing->base + i * PIECE, backing->host + i * PIECE,
							    piece_size(backing, i), copying.stream);
		if (result == CUDA_SUCCESS)
			atomic_fetch_add(&copied_in, piece_size(backing, i));
		else
			piece_drop(backing, i);
	}
	if (result == CUDA_SUCCESS)
		result = REAL(cuStreamSynchronize)(copying.stream);
	finish(&copying);
	if (result == CUDA_SUCCESS && !backing->read_only)
		backing->host_true = false;
	return result;
}

static CUresult all_in(void)
{
	CUresult result = CUDA_SUCCESS;

	for (struct backing *backing = backings; backing && result == CUDA_SUCCESS; backing = backing->next)
		result = move_in(backing);
	return result;
}

/* Everything that runs in the contexts of what is to go. */
static CUresult wait_for_work(void)
{
	CUcontext last = NULL, unused;
	CUresult result = CUDA_SUCCESS;

	for (struct backing *backing = backings; backing && result == CUDA_SUCCESS; backing = backing->next) {
		if (backing->context == last)
			continue;
		last = backing->context;
		result = REAL(cuCtxPushCurrent_v2)(last);
		if (result != CUDA_SUCCESS)
			break;
		result = REAL(cuCtxSynchronize)();
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	return result;
}

static CUresult all_out(void)
{
	CUresult result = wait_for_work();

	for (struct backing *backing = backings; backing && result == CUDA_SUCCESS; backing = backing->next)
		result = move_out(backing);
	return result;
}

CUresult swap_out(uint64_t patience_ns)
{
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&swapping);
	if (!out) {
		if (gate_close(GATE_SWAPPED, patience_ns)) {
			pthread_mutex_lock(&backings_lock);
			result = all_out();
			out = result == CUDA_SUCCESS || all_in() != CUDA_SUCCESS;
			pthread_mutex_unlock(&backings_lock);
			if (!out)
				gate_open(GATE_SWAPPED);
		} else {
			result = CUDA_ERROR_NOT_READY;
		}
	}
	pthread_mutex_unlock(&swapping);
	return result;
}

CUresult swap_in(void)
{
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&swapping);
	if (out) {
		pthread_mutex_lock(&backings_lock);
		result = all_in();
		pthread_mutex_unlock(&backings_lock);
		out = result != CUDA_SUCCESS;
		if (!out)
			gate_open(GATE_SWAPPED);
	}
	pthread_mutex_unlock(&swapping);
	return result;
}

void swap_copied(uint64_t *to_host, uint64_t *to_device)
{
	*to_host = atomic_load(&copied_out);
	*to_device = atomic_load(&copied_in);
}

bool swap_is_out(void)
{
	bool answer;

	pthread_mutex_lock(&swapping);
	answer = out;
	pthread_mutex_unlock(&swapping);
	return answer;
}

/* A child has none of its parent's allocations, and no thread that moves any. */
void swap_after_fork(void)
{
	pthread_mutex_init(&swapping, NULL);
	pthread_mutex_init(&backings_lock, NULL);
	backings = NULL;
	out = false;
}
