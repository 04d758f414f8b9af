/* What the program says of its memory. hints.h and gpumax/layer.h say what for. */
#include "hints.h"

#include "gpumax/layer.h"
#include "swap.h"

#define DEEPEST 16

EXPORT int gpumax_layer_hint(unsigned long long pointer, unsigned long long size, int kind);
EXPORT int gpumax_layer_read_only(unsigned long long pointer, int read_only);
EXPORT int gpumax_layer_hint_begin(int kind);
EXPORT void gpumax_layer_hint_end(int began);

/* What a thread has begun and not yet ended, the innermost last. */
struct begun {
	uint64_t batch;
	int kind;
};
static _Thread_local struct begun begun[DEEPEST];
static _Thread_local int depth;
static _Atomic uint64_t batches;

void hint_new(struct backing *backing)
{
	const struct begun *last = depth ? &begun[depth - 1] : NULL;

	if (!last)
		return;
	backing->batch = last->kind == GPUMAX_LAYER_READ_ONLY ? last->batch : 0;
	for (uint32_t i = 0; i < backing->count && last->kind == GPUMAX_LAYER_DISCARDABLE; i++)
		piece_hint(backing, i, GPUMAX_LAYER_DISCARDABLE);
}

static void told(uint32_t device, int kind)
{
	const struct swap_listener *listener = swap_listener();
	struct swap_usage usage = swap_usage(device);

	if (!listener || !listener->hinted)
		return;
	if (kind != GPUMAX_LAYER_DISCARDABLE)
		listener->hinted(device, GPUMAX_LAYER_READ_ONLY, usage.read_only);
	if (kind != GPUMAX_LAYER_READ_ONLY)
		listener->hinted(device, GPUMAX_LAYER_DISCARDABLE, usage.discardable);
}

static void hint_pieces(struct backing *backing, uint64_t from, uint64_t to, uint8_t kind)
{
	for (uint32_t i = 0; i < backing->count; i++) {
		uint64_t at = backing->base + i * PIECE;

		if (at >= from && at + piece_size(backing, i) <= to)
			piece_hint(backing, i, kind);
	}
}

int gpumax_layer_hint(unsigned long long pointer, unsigned long long size, int kind)
{
	struct backing *backing;
	struct block block;
	uint64_t end;

	if (kind < GPUMAX_LAYER_NORMAL || kind > GPUMAX_LAYER_DISCARDABLE || !index_find(&addresses, pointer, &block))
		return CUDA_ERROR_INVALID_VALUE;
	if (block.kind != BACKED)
		return CUDA_ERROR_NOT_SUPPORTED;
	backing = block.owner;
	pthread_mutex_lock(&backings[block.device].lock);
	/* The program knows the size that it asked for; what the last piece has beyond it is nobody's. */
	end = size && size < block.base + block.size - pointer ? pointer + size : backing->base + backing->size;
	backing->batch = 0;
	hint_pieces(backing, pointer, end, (uint8_t)kind);
	pthread_mutex_unlock(&backings[block.device].lock);
	told(block.device, GPUMAX_LAYER_NORMAL);
	return CUDA_SUCCESS;
}

int gpumax_layer_read_only(unsigned long long pointer, int read_only)
{
	struct block block;

	if (!index_find(&addresses, pointer, &block))
		return CUDA_ERROR_INVALID_VALUE;
	return gpumax_layer_hint(block.base, 0, read_only ? GPUMAX_LAYER_READ_ONLY : GPUMAX_LAYER_NORMAL);
}

int gpumax_layer_hint_begin(int kind)
{
	if (kind < GPUMAX_LAYER_NORMAL || kind > GPUMAX_LAYER_DISCARDABLE || depth == DEEPEST)
		return -1;
	begun[depth] = (struct begun){atomic_fetch_add(&batches, 1) + 1, kind};
	return depth++;
}

static void end_batch(uint64_t batch)
{
	for (uint32_t device = 0; device < SHARE_DEVICES; device++) {
		bool any = false;

		pthread_mutex_lock(&backings[device].lock);
		for (struct backing *backing = backings[device].first; backing; backing = backing->next)
			if (backing->batch == batch) {
				hint_pieces(backing, backing->base, backing->base + backing->size, GPUMAX_LAYER_READ_ONLY);
				backing->batch = 0;
				any = true;
			}
		pthread_mutex_unlock(&backings[device].lock);
		if (any)
			told(device, GPUMAX_LAYER_READ_ONLY);
	}
}

void gpumax_layer_hint_end(int began)
{
	while (began >= 0 && depth > began) {
		depth--;
		if (begun[depth].kind == GPUMAX_LAYER_READ_ONLY)
			end_batch(begun[depth].batch);
	}
}
