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

/* The contexts that have allocations which can be moved, and the streams of ours in them, which end before they do. */
void mover_know(CUcontext context);
size_t mover_contexts(CUcontext *contexts, size_t most);
void mover_context_ends(CUcontext context);
void mover_after_fork(void);

/* drain.c: waits until what was submitted in these contexts has ended; CUDA_ERROR_NOT_READY: not by the deadline */
CUresult drain(uint64_t deadline_ns);
void drain_after_fork(void);
uint64_t moment(void);

#endif
