/*
 * What may be asked of the layer from within its process: gpumax/layer.h has what is for programs; the rest is for tests.
 * Each answers with a result of CUDA. Harmless where nothing is enforced.
 */
#include "backing.h"
#include "gpumax/layer.h"
#include "mover.h"
#include "swap.h"

EXPORT int gpumax_layer_pause(unsigned int patience_ms);
EXPORT int gpumax_layer_resume(void);
EXPORT int gpumax_layer_swap_out(unsigned int patience_ms);
EXPORT int gpumax_layer_swap_in(void);
EXPORT int gpumax_layer_swap(int ordinal, int out, unsigned long long resident, unsigned int patience_ms,
			     struct swap_report *report);
EXPORT int gpumax_layer_hold(int held, unsigned int patience_ms);

static uint64_t in_ms(unsigned int ms)
{
	return moment() + (uint64_t)ms * 1000000u;
}

int gpumax_layer_pause(unsigned int patience_ms)
{
	return settings()->swappable ? (int)swap_pause(in_ms(patience_ms)) : CUDA_ERROR_NOT_SUPPORTED;
}

int gpumax_layer_resume(void)
{
	return (int)swap_resume();
}

/* All of all devices, or nothing. */
int gpumax_layer_swap_out(unsigned int patience_ms)
{
	return settings()->swappable ? (int)swap_all_out(in_ms(patience_ms)) : CUDA_ERROR_NOT_SUPPORTED;
}

int gpumax_layer_swap_in(void)
{
	return (int)swap_all_in();
}

/* An order as a broker gives it: one device, until so many bytes are on it. */
int gpumax_layer_swap(int ordinal, int out, unsigned long long resident, unsigned int patience_ms, struct swap_report *report)
{
	uint32_t device;

	if (!settings()->swappable || !device_index(ordinal, &device))
		return CUDA_ERROR_NOT_SUPPORTED;
	*report = out ? swap_out(device, resident, in_ms(patience_ms), NULL) : swap_in(device, resident, in_ms(patience_ms), NULL);
	return (int)report->why;
}

/* Holds up what submits work, or lets it go on. */
int gpumax_layer_hold(int held, unsigned int patience_ms)
{
	settings(); /* from now on a child that is forked begins with an open gate */
	if (held)
		return gate_close(GATE_HELD, (uint64_t)patience_ms * 1000000u) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
	gate_open(GATE_HELD);
	return CUDA_SUCCESS;
}
