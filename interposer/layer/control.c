/*
 * What may be asked of the layer from within its process: by tests now, by the thread that speaks with the broker later.
 * Each answers with a result of CUDA. Harmless where nothing is enforced.
 */
#include <string.h>

#include "backing.h"
#include "swap.h"

EXPORT int gpumax_layer_swap_out(unsigned int patience_ms);
EXPORT int gpumax_layer_swap_in(void);
EXPORT int gpumax_layer_hold(int held, unsigned int patience_ms);
EXPORT int gpumax_layer_read_only(unsigned long long pointer, int read_only);
EXPORT size_t gpumax_layer_counters(uint64_t *values, size_t count_asked);

int gpumax_layer_swap_out(unsigned int patience_ms)
{
	if (!settings()->swappable)
		return CUDA_ERROR_NOT_SUPPORTED;
	return (int)swap_out((uint64_t)patience_ms * 1000000u);
}

int gpumax_layer_swap_in(void)
{
	return (int)swap_in();
}

/* Holds up what submits work, or lets it go on. */
int gpumax_layer_hold(int held, unsigned int patience_ms)
{
	settings(); /* from now on a child that is forked begins with an open gate */
	if (held)
		return gate_close(GATE_LEASE, (uint64_t)patience_ms * 1000000u) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
	gate_open(GATE_LEASE);
	return CUDA_SUCCESS;
}

/* The program says that it won't write to an allocation: once swapped out, it need not be copied again. */
int gpumax_layer_read_only(unsigned long long pointer, int read_only)
{
	struct backing *backing;
	struct block block;

	if (!index_find(&addresses, pointer, &block) || block.kind != BACKED)
		return CUDA_ERROR_INVALID_VALUE;
	backing = block.owner;
	pthread_mutex_lock(&backings_lock);
	backing->read_only = read_only != 0;
	if (!read_only)
		backing->host_true = false;
	pthread_mutex_unlock(&backings_lock);
	return CUDA_SUCCESS;
}

/* In this order, also to those who know fewer of them; the answer is how many there are. */
size_t gpumax_layer_counters(uint64_t *values, size_t count_asked)
{
	uint64_t all[] = {
		atomic_load(&counters.refused), atomic_load(&counters.unknown_functions),
		atomic_load(&counters.export_tables), atomic_load(&counters.unaccounted),
		atomic_load(&counters.gate_waits), 0, 0,
	};
	size_t known = sizeof all / sizeof *all;

	swap_copied(&all[5], &all[6]);
	memcpy(values, all, (count_asked < known ? count_asked : known) * sizeof *all);
	return known;
}
