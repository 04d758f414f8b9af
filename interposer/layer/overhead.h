/* What contexts themselves take of a device. overhead.c says why it has to be told. */
#ifndef GPUMAX_LAYER_OVERHEAD_H
#define GPUMAX_LAYER_OVERHEAD_H

#include "layer.h"

struct overhead {
	uint64_t charged;
	uint32_t device;
};

bool overhead_take(CUdevice ordinal, struct overhead *taken); /* before one is made; false: beyond the limit */
void overhead_keep(CUcontext context, const struct overhead *taken);
void overhead_give(const struct overhead *taken); /* none was made */
void overhead_ends(CUcontext context);
uint64_t overhead_charged(uint32_t device);
void overhead_after_fork(void);

#endif
