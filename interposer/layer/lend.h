/*
 * Swappable memory in another process. The driver has handles of 64 bytes for plain memory (cuIpcGetMemHandle), and none
 * for memory that is mapped by hand, but descriptors of each of its pieces. So the layer gives out handles of its own:
 * they name a socket of the process that has the memory, where the layer of another process gets descriptor by descriptor.
 *
 * Each opened allocation has a connection for as long as it is open. So long the memory isn't moved, and counts where it
 * was made, even if it is freed there: however a process ends, its connections end with it.
 */
#ifndef GPUMAX_LAYER_LEND_H
#define GPUMAX_LAYER_LEND_H

#include "backing.h"

#define LEND_PATIENCE_SECONDS 60 /* so long others may need to have the memory on the device again */
#define LEND_TICKET UINT64_C(0x31646e656c2d7067) /* gp-lend1 */

struct ticket {
	uint64_t magic;
	uint64_t door; /* chance: the socket is called by it */
	uint64_t id;   /* chance: of the allocation */
	uint64_t size;
	uint32_t device; /* as the lender numbers it */
	uint32_t reserved[7];
};

_Static_assert(sizeof(struct ticket) == CU_IPC_HANDLE_SIZE, "a handle of the driver's size");

/* One piece is asked for at a time, the first one first. With the answer comes its descriptor, if the result is success. */
struct lend_ask {
	uint64_t magic, id;
	uint32_t device, piece;
};

struct lend_answer {
	uint64_t magic, size;
	uint32_t result, reserved;
};

/* lend.c: memory of this process */

bool lend(const struct block *block, CUipcMemHandle *handle);
bool lend_freed(struct backing *backing, uint64_t charged); /* with the device's lock; true: it stays charged, others have it open */
bool lend_is_own(const struct ticket *ticket);
uint64_t lend_outlives(uint32_t device); /* bytes that were freed here, and are open elsewhere */
int lend_socket(uint64_t door, bool listens); /* -1: there is none, or nobody */
bool lend_trusted(int socket);
void lend_after_fork(void);

/* borrow.c: memory of others */

CUresult borrow_open(const struct ticket *ticket, CUdeviceptr *pointer);
bool borrow_close(CUdeviceptr pointer, CUresult *result); /* false: it isn't one of these */
void borrow_context_ends(CUcontext context);
void borrow_after_fork(void);

#endif
