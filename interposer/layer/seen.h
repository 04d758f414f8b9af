/* What NVML says that this process has of a device. seen.c says when it can. */
#ifndef GPUMAX_LAYER_SEEN_H
#define GPUMAX_LAYER_SEEN_H

#include "layer.h"

bool seen_own(uint32_t device, uint64_t *bytes); /* 0: it isn't listed. False: NVML can't say */

#endif
