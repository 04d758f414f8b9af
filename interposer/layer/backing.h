/* Allocations made of pieces: the range of addresses is reserved once, what is behind it comes and goes. */
#ifndef GPUMAX_LAYER_BACKING_H
#define GPUMAX_LAYER_BACKING_H

#include "layer.h"

#define PIECE (UINT64_C(32) << 20)

struct piece {
	CUmemGenericAllocationHandle handle;
	char *host;     /* room for its bytes on the host; NULL: none */
	bool resident;
	bool host_true; /* the host has its bytes, as they are or would be on the device */
	uint8_t hint;   /* gpumax_layer_kind */
};

struct backing {
	struct backing *next, *previous;
	uint64_t base, size; /* the whole range; the last piece may be shorter than the others */
	uint64_t charged;
	CUcontext context;
	uint32_t device, count;
	uint64_t batch; /* what it is to be read-only with, when that ends; 0: nothing */
	uint32_t holds; /* others may see it: while there are any it isn't moved */
	bool given;     /* one of them for ever: a handle of it was given out */
	struct loan *loan; /* lend.c; NULL: its handle was never asked for */
	bool lost;      /* its context is broken: it isn't moved any more, and nobody waits for it */
	struct piece pieces[];
};

/* The lock is held for as long as an order for the device moves pieces; the sums are read without it. */
struct backings {
	pthread_mutex_t lock;
	struct backing *first;
	_Atomic uint64_t bytes, out, kept, read_only, discardable;
	_Atomic uint64_t coming; /* charged, and waiting at the gate to be made */
};

extern struct backings backings[SHARE_DEVICES];

uint64_t piece_size(const struct backing *backing, uint32_t i);
CUresult piece_bring(struct backing *backing, uint32_t i); /* memory behind it, of no certain content */
CUresult piece_drop(struct backing *backing, uint32_t i);
void piece_hint(struct backing *backing, uint32_t i, uint8_t hint);
void piece_forget_host(struct backing *backing, uint32_t i);

bool backing_keep(uint64_t address); /* waits until it's on the device; it isn't moved any more. False: not one of ours, or lost */
bool backing_hold(struct backing *backing); /* with the lock. It isn't moved until let go of. False: it's on the host */
void backing_let_go(struct backing *backing);
bool backing_can_be_lent(uint32_t device); /* the driver has descriptors of pieces */

#endif
