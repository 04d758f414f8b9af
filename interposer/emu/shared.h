/*
 * What all processes on an emulated machine share: who uses how much of which device, and whose turn it is on each of
 * its engines. A file, mapped by all. Whoever lives holds a lock on the byte of its slot; the kernel takes it away with
 * the process, however that ends, so what the dead held is found and given back.
 */
#ifndef EMU_SHARED_H
#define EMU_SHARED_H

#include "emu/config.h"

#include <pthread.h>

enum { EMU_SLOTS = 256 };
enum emu_engine { EMU_COMPUTE, EMU_H2D, EMU_D2H, EMU_ENGINES, EMU_NO_ENGINE = -1 };
/* Why a process can't be checkpointed. */
enum { EMU_BLOCKS_MANAGED = 1, EMU_BLOCKS_IPC = 2 };

struct emu_turn {
	uint64_t free_at; /* when what was given to the engine is done */
	uint64_t until;	  /* when its owner should be heard of again */
	uint64_t slice_end;
	int32_t owner; /* slot + 1, or 0 */
	uint32_t changed;
	uint8_t waits[EMU_SLOTS];
};

struct emu_shared_device {
	struct emu_turn turn[EMU_ENGINES];
	int32_t broken; /* a CUresult that every call gets, or 0 */
	uint32_t ecc;	/* errors of its memory that couldn't be corrected */
	double slower;	/* how many times as long copies take */
	uint64_t busy_ns; /* of the compute engine, for all that there ever were */
};

struct emu_slot {
	int32_t pid;
	char name[32];
	uint64_t used[EMU_DEVICES];
	uint64_t peak[EMU_DEVICES];
	uint64_t busy_ns[EMU_DEVICES]; /* of the compute engine */
	uint64_t saved[EMU_DEVICES];   /* in a checkpoint */
	uint32_t running;	       /* work that was submitted and isn't done */
	uint32_t blockers;
	uint32_t managed, ipc;
	int32_t process_state; /* CUprocessState */
	uint32_t changed;
};

struct emu_shared {
	uint64_t magic;
	uint64_t config;
	pthread_mutex_t lock;
	uint64_t now; /* of the virtual clock */
	uint64_t began;
	struct emu_shared_device device[EMU_DEVICES];
	struct emu_slot slot[EMU_SLOTS];
};

extern const uint64_t emu_shared_magic; /* changes with the layout */

/* NULL where it can't be; `said` then says why. `me`: the slot that was taken, -1 where all are; NULL: only looks on. */
struct emu_shared *emu_shared_open(const struct emu_config *config, int *me, char *said, size_t said_size);
void emu_shared_forget(void);
void emu_shared_leave(const struct emu_config *config, int me); /* the last one takes a file that nobody named away */
void emu_shared_lock(struct emu_shared *shared);
void emu_shared_unlock(struct emu_shared *shared);
/* With the lock held: */
void emu_reap(struct emu_shared *shared);
uint64_t emu_used(const struct emu_shared *shared, int device);

void emu_futex_wake(uint32_t *word);
void emu_futex_wait(uint32_t *word, uint32_t seen, uint64_t at_most_ns);
uint64_t emu_monotonic(void);

#endif
