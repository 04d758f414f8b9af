/* What contexts themselves take of a device. overhead.c says how that is known. */
#ifndef GPUMAX_LAYER_OVERHEAD_H
#define GPUMAX_LAYER_OVERHEAD_H

#include "layer.h"

struct overhead {
	uint64_t charged;
	uint32_t device;
	bool watched;  /* no other context begins until it was kept, or given back */
	bool seen;     /* NVML can say what it takes */
	uint64_t held, before; /* what this process was charged with then, and had by NVML */
};

bool overhead_take(CUdevice ordinal, bool primary, struct overhead *taken); /* before one is made; false: beyond the limit */
bool overhead_keep(CUcontext context, struct overhead *taken); /* false: it's larger than was said, and beyond the limit */
void overhead_give(struct overhead *taken); /* none was made */
void overhead_ends(CUcontext context);
uint64_t overhead_charged(uint32_t device);
void overhead_after_fork(void);

#endif
