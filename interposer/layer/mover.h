/* Copies between device and host, several under way at once, in order; for one order at a time. */
#ifndef GPUMAX_LAYER_MOVER_H
#define GPUMAX_LAYER_MOVER_H

#include "backing.h"

#define AHEAD 4 /* copies under way at once: while one is finished the next ones run */

enum direction { TO_HOST, TO_DEVICE };

struct copy {
	struct backing *backing;
	uint32_t piece;
	char *stage; /* the pinned buffer that it goes by; NULL: straight */
	CUevent event;
};

struct mover {
	enum direction direction;
	struct copy ring[AHEAD];
	uint32_t first, count;
	uint64_t under_way; /* bytes */
	uint64_t copied;
};

bool mover_full(const struct mover *mover);
CUresult mover_start(struct mover *mover, struct backing *backing, uint32_t piece);
/* The oldest copy has ended: which piece, and how it went. */
CUresult mover_end(struct mover *mover, struct backing **backing, uint32_t *piece);
void mover_counted(uint64_t *to_host, uint64_t *to_device, uint64_t *staged);

void mover_context_ends(CUcontext context, bool alive); /* what we have in it goes before it does, or with it */
void mover_after_fork(void);

/* drain.c: waits until what was submitted in any context has ended; CUDA_ERROR_NOT_READY: not by the deadline */
CUresult drain(uint64_t deadline_ns);
void drain_after_fork(void);
uint64_t moment(void);

#endif
