/*
 * Memory of the host for what is off the device: what the broker has made ready first, then our own. Of our own no more
 * than a bound is pinned (the driver then copies from and to it directly); what is beyond that goes by way of a few
 * pinned buffers.
 */
#ifndef GPUMAX_LAYER_HOST_H
#define GPUMAX_LAYER_HOST_H

#include "layer.h"

void host_expect(uint64_t bytes); /* so much will be taken soon: it is made ready in pieces of that size */
char *host_take(uint64_t bytes);  /* with a context current; NULL: the host has no memory left */
void host_give(char *at, uint64_t bytes);
bool host_pinned(const char *at);
bool host_add(int descriptor, uint64_t bytes);
void host_shrink(uint64_t needed); /* own memory beyond what could be needed goes back */
void host_context_ends(CUcontext context);
void host_after_fork(void);

#endif
