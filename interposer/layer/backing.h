/* Allocations made of pieces: the range of addresses is reserved once, what is behind it comes and goes. */
#ifndef GPUMAX_LAYER_BACKING_H
#define GPUMAX_LAYER_BACKING_H

#include "layer.h"

#define PIECE (UINT64_C(32) << 20)

struct piece {
	CUmemGenericAllocationHandle handle;
	bool resident;
};

struct backing {
	struct backing *next, *previous;
	uint64_t base, size; /* the whole range; the last piece may be shorter than the others */
	uint64_t charged;
	CUcontext context;
	uint32_t device, count;
	char *host;      /* where its bytes are while it is out; kept, since making it ready is slow */
	bool registered; /* the driver copies from and to it directly */
	bool read_only;  /* said by the program: the copy on the host stays true once it is */
	bool host_true;
	struct piece pieces[];
};

extern pthread_mutex_t backings_lock;
extern struct backing *backings;

uint64_t piece_size(const struct backing *backing, uint32_t i);
CUresult piece_bring(struct backing *backing, uint32_t i); /* memory behind it, of no certain content */
CUresult piece_drop(struct backing *backing, uint32_t i);

/* swap.c */
void backing_host_free(struct backing *backing);

#endif
