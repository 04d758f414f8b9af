/*
 * Copies between device and host. Each context has a stream for each direction, since a link carries both at once, and
 * an event for each copy that is under way. They are made when they are first needed, and kept.
 */
#include "mover.h"

#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "host.h"

struct lane {
	struct lane *next;
	CUcontext context;
	CUstream streams[2];
	CUevent events[2][AHEAD];
	char *stages[2][AHEAD];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lane *lanes;
static _Atomic uint64_t copied_out, copied_in, copied_staged;

static struct lane *lane_of(CUcontext context)
{
	struct lane *lane;

	pthread_mutex_lock(&lock);
	for (lane = lanes; lane && lane->context != context; lane = lane->next)
		;
	if (!lane && (lane = calloc(1, sizeof *lane))) {
		lane->context = context;
		lane->next = lanes;
		lanes = lane;
	}
	pthread_mutex_unlock(&lock);
	return lane;
}

/* With the lane's context current. */
static CUresult ready(struct lane *lane, enum direction direction)
{
	CUresult result = CUDA_SUCCESS;

	if (!lane->streams[direction])
		result = REAL(cuStreamCreate)(&lane->streams[direction], CU_STREAM_NON_BLOCKING);
	for (int i = 0; i < AHEAD && result == CUDA_SUCCESS; i++)
		if (!lane->events[direction][i])
			result = REAL(cuEventCreate)(&lane->events[direction][i], CU_EVENT_DISABLE_TIMING);
	return result;
}

/* A buffer for memory that isn't pinned. Without one the driver copies as well as it can. */
static char *stage(struct lane *lane, enum direction direction, uint32_t i)
{
	void *made = NULL;

	if (!lane->stages[direction][i] && REAL(cuMemHostAlloc)(&made, PIECE, CU_MEMHOSTALLOC_PORTABLE) == CUDA_SUCCESS)
		lane->stages[direction][i] = made;
	return lane->stages[direction][i];
}

bool mover_full(const struct mover *mover)
{
	return mover->count == AHEAD;
}

static CUresult issue(struct mover *mover, const struct lane *lane, struct copy *copy)
{
	const struct backing *backing = copy->backing;
	const struct piece *piece = &backing->pieces[copy->piece];
	uint64_t size = piece_size(backing, copy->piece), at = backing->base + copy->piece * PIECE;
	CUstream stream = lane->streams[mover->direction];
	char *host = copy->stage ? copy->stage : piece->host;
	CUresult result;

	if (mover->direction == TO_HOST) {
		result = REAL(cuMemcpyDtoHAsync_v2)(host, at, size, stream);
	} else {
		if (copy->stage)
			memcpy(copy->stage, piece->host, size);
		result = REAL(cuMemcpyHtoDAsync_v2)(at, host, size, stream);
	}
	if (result == CUDA_SUCCESS) {
		result = REAL(cuEventRecord)(copy->event, stream);
		if (result != CUDA_SUCCESS) /* nobody may take the memory away under a copy */
			REAL(cuStreamSynchronize)(stream);
	}
	return result;
}

static CUresult start(struct mover *mover, struct backing *backing, uint32_t i)
{
	uint32_t place = (mover->first + mover->count) % AHEAD;
	struct copy *copy = &mover->ring[place];
	struct lane *lane = lane_of(backing->context);
	struct piece *piece = &backing->pieces[i];
	CUresult result = lane ? ready(lane, mover->direction) : CUDA_ERROR_OUT_OF_MEMORY;

	if (result == CUDA_SUCCESS && !piece->host && !(piece->host = host_take(piece_size(backing, i))))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	if (result != CUDA_SUCCESS)
		return result;
	*copy = (struct copy){.backing = backing, .piece = i, .event = lane->events[mover->direction][place]};
	if (!host_pinned(piece->host))
		copy->stage = stage(lane, mover->direction, place);
	result = issue(mover, lane, copy);
	if (result == CUDA_SUCCESS) {
		mover->count++;
		mover->under_way += piece_size(backing, i);
	}
	return result;
}

CUresult mover_start(struct mover *mover, struct backing *backing, uint32_t piece)
{
	CUcontext unused;
	CUresult result = REAL(cuCtxPushCurrent_v2)(backing->context);

	if (result != CUDA_SUCCESS)
		return result;
	result = start(mover, backing, piece);
	REAL(cuCtxPopCurrent_v2)(&unused);
	return result;
}

CUresult mover_end(struct mover *mover, struct backing **backing, uint32_t *piece)
{
	struct copy *copy = &mover->ring[mover->first];
	uint64_t size = piece_size(copy->backing, copy->piece);
	CUcontext unused;
	CUresult result = REAL(cuCtxPushCurrent_v2)(copy->backing->context);

	if (result == CUDA_SUCCESS) {
		result = REAL(cuEventSynchronize)(copy->event);
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	*backing = copy->backing;
	*piece = copy->piece;
	mover->first = (mover->first + 1) % AHEAD;
	mover->count--;
	mover->under_way -= size;
	if (result != CUDA_SUCCESS)
		return result;
	if (copy->stage && mover->direction == TO_HOST)
		memcpy(copy->backing->pieces[copy->piece].host, copy->stage, size);
	mover->copied += size;
	atomic_fetch_add(mover->direction == TO_HOST ? &copied_out : &copied_in, size);
	if (copy->stage)
		atomic_fetch_add(&copied_staged, size);
	return CUDA_SUCCESS;
}

void mover_counted(uint64_t *to_host, uint64_t *to_device, uint64_t *staged)
{
	*to_host = atomic_load(&copied_out);
	*to_device = atomic_load(&copied_in);
	*staged = atomic_load(&copied_staged);
}

static void end(struct lane *lane)
{
	for (int direction = TO_HOST; direction <= TO_DEVICE; direction++) {
		for (int i = 0; i < AHEAD; i++) {
			if (lane->events[direction][i])
				REAL(cuEventDestroy_v2)(lane->events[direction][i]);
			if (lane->stages[direction][i])
				REAL(cuMemFreeHost)(lane->stages[direction][i]);
		}
		if (lane->streams[direction])
			REAL(cuStreamDestroy_v2)(lane->streams[direction]);
	}
}

void mover_context_ends(CUcontext context, bool alive)
{
	struct lane **place, *lane;

	pthread_mutex_lock(&lock);
	for (place = &lanes; *place && (*place)->context != context; place = &(*place)->next)
		;
	lane = *place;
	if (lane)
		*place = lane->next;
	pthread_mutex_unlock(&lock);
	if (lane && alive)
		end(lane);
	free(lane);
}

void mover_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	lanes = NULL;
}
