/* Taking what a process has on its devices away, and giving it back. */
#ifndef GPUMAX_LAYER_SWAP_H
#define GPUMAX_LAYER_SWAP_H

#include "layer.h"

CUresult swap_out(uint64_t patience_ns); /* CUDA_ERROR_NOT_READY: something would not end in time */
CUresult swap_in(void);
bool swap_is_out(void);
void swap_copied(uint64_t *to_host, uint64_t *to_device);
void swap_after_fork(void);

#endif
