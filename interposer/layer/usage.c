/* What a process has on its devices, what of it can't be moved, and why. */
#include <string.h>

#include "backing.h"
#include "client/client.h"
#include "gpumax/layer.h"
#include "lend.h"
#include "mover.h"
#include "overhead.h"
#include "swap.h"

EXPORT int gpumax_layer_share(int device, struct gpumax_layer_share *share, size_t size);
EXPORT size_t gpumax_layer_pinned(int device, uint64_t *bytes, size_t count_asked);
EXPORT size_t gpumax_layer_counters(uint64_t *values, size_t count_asked);

static uint64_t less(uint64_t from, uint64_t what)
{
	return from > what ? from - what : 0;
}

struct swap_usage swap_usage(uint32_t device)
{
	const struct backings *all = &backings[device];
	uint64_t coming = atomic_load(&all->coming), bytes = atomic_load(&all->bytes), out = atomic_load(&all->out);
	uint64_t held = share_held(device);
	struct swap_usage usage = {.used = held > bytes ? held : bytes};

	usage.kept = atomic_load(&all->kept);
	usage.pinned = less(usage.used, bytes + coming) + usage.kept;
	usage.resident = less(usage.used, out + coming);
	usage.read_only = atomic_load(&all->read_only);
	usage.discardable = atomic_load(&all->discardable);
	return usage;
}

static bool number_of(int ordinal, uint32_t *device)
{
	return !idle() && device_index(ordinal, device);
}

int gpumax_layer_share(int ordinal, struct gpumax_layer_share *share, size_t size)
{
	struct gpumax_layer_share found = {.limit = settings()->share.limit, .share = 1000, .mode = GPUMAX_LAYER_FAIR};
	const struct swap_listener *listener;
	struct swap_usage usage;
	uint32_t device;

	if (!share)
		return CUDA_ERROR_INVALID_VALUE;
	if (!idle()) {
		if (!device_index(ordinal, &device))
			return CUDA_ERROR_INVALID_DEVICE;
		client_begin(); /* the broker knows */
		listener = swap_listener();
		usage = swap_usage(device);
		found.guarantee = found.limit;
		if (listener && listener->share)
			listener->share(device, &found.limit, &found.guarantee, &found.share, &found.mode);
		found.used = share_used(device);
		found.own = usage.used;
		found.swapped = usage.used - usage.resident;
		found.pinned = usage.pinned;
		found.swaps = settings()->swappable;
		found.paused = swap_paused();
	}
	memcpy(share, &found, size < sizeof found ? size : sizeof found);
	return CUDA_SUCCESS;
}

static uint64_t arrays_charged(uint32_t device)
{
	struct block block;
	uint64_t sum = 0;

	for (uint64_t from = 0; index_next(&arrays, from, &block); from = block.base + 1)
		sum += block.device == device ? block.charged : 0;
	return sum;
}

/* What is in none of the others the program maps by itself: its handles are charged, not its addresses. */
static void reasons(uint32_t device, uint64_t bytes[GPUMAX_LAYER_REASONS])
{
	struct block block;
	uint64_t known = 0;

	for (uint64_t from = 0; index_next(&addresses, from, &block); from = block.base + 1) {
		if (block.device != device)
			continue;
		if (block.kind == MANAGED)
			bytes[GPUMAX_LAYER_MANAGED] += block.charged;
		else if (block.kind == PLAIN)
			bytes[block.charged < UINT64_C(1) << 20 ? GPUMAX_LAYER_SMALL : GPUMAX_LAYER_PLAIN] += block.charged;
	}
	bytes[GPUMAX_LAYER_POOLS] = pools_charged(device);
	bytes[GPUMAX_LAYER_GRAPHS] = graphs_charged(device);
	bytes[GPUMAX_LAYER_ARRAYS] = arrays_charged(device);
	bytes[GPUMAX_LAYER_CONTEXTS] = overhead_charged(device);
	bytes[GPUMAX_LAYER_SHARED] = atomic_load(&backings[device].kept) + lend_outlives(device);
	for (int i = 0; i < GPUMAX_LAYER_REASONS; i++)
		known += bytes[i];
	bytes[GPUMAX_LAYER_MAPPED] = less(swap_usage(device).pinned, known);
}

size_t gpumax_layer_pinned(int ordinal, uint64_t *bytes, size_t count_asked)
{
	uint64_t all[GPUMAX_LAYER_REASONS] = {0};
	uint32_t device;

	if (number_of(ordinal, &device))
		reasons(device, all);
	memcpy(bytes, all, (count_asked < GPUMAX_LAYER_REASONS ? count_asked : GPUMAX_LAYER_REASONS) * sizeof *all);
	return GPUMAX_LAYER_REASONS;
}

size_t gpumax_layer_counters(uint64_t *values, size_t count_asked)
{
	uint64_t all[GPUMAX_LAYER_COUNTERS] = {
		[GPUMAX_LAYER_REFUSED] = atomic_load(&counters.refused),
		[GPUMAX_LAYER_UNKNOWN_FUNCTIONS] = atomic_load(&counters.unknown_functions),
		[GPUMAX_LAYER_EXPORT_TABLES] = atomic_load(&counters.export_tables),
		[GPUMAX_LAYER_UNACCOUNTED] = atomic_load(&counters.unaccounted),
		[GPUMAX_LAYER_GATE_WAITS] = atomic_load(&counters.gate_waits),
		[GPUMAX_LAYER_SPARED] = atomic_load(&counters.spared),
		[GPUMAX_LAYER_SWAPS_OUT] = atomic_load(&counters.swaps_out),
		[GPUMAX_LAYER_SWAPS_IN] = atomic_load(&counters.swaps_in),
		[GPUMAX_LAYER_SWAPS_FAILED] = atomic_load(&counters.swaps_failed),
		[GPUMAX_LAYER_WITHOUT_BROKER] = atomic_load(&counters.without_broker),
	};

	mover_counted(&all[GPUMAX_LAYER_COPIED_OUT], &all[GPUMAX_LAYER_COPIED_IN], &all[GPUMAX_LAYER_STAGED]);
	memcpy(values, all, (count_asked < GPUMAX_LAYER_COUNTERS ? count_asked : GPUMAX_LAYER_COUNTERS) * sizeof *all);
	return GPUMAX_LAYER_COUNTERS;
}
