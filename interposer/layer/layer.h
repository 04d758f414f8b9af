/*
 * What the files of the layer know of each other. The layer stands between a program and its CUDA driver: it exports
 * every function of the driver, forwards most of them, and holds the process to its share with the rest.
 *
 * Three rules hold everywhere. The host program is never ended by us. In doubt a call goes to the driver, and is
 * counted. Nothing is done before the first call of CUDA.
 */
#ifndef GPUMAX_LAYER_H
#define GPUMAX_LAYER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpumax/cuda_abi.h"
#include "gpumax/export.h"
#include "share/share.h"
#include "slots.h"

#define EXPORT GPUMAX_EXPORT
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* driver.c: the real driver */

typedef void (*any_function)(void);
extern any_function gpumax_slots[SLOTS];
extern const any_function gpumax_forwards[SLOTS]; /* the layer's functions that only forward; NULL where it does more */

/* The real function in a slot, called with the type that `like` has. */
#define REAL_AS(like, slot) ((__typeof__(&like))__atomic_load_n(&gpumax_slots[slot], __ATOMIC_RELAXED))
#define REAL(name) REAL_AS(name, SLOT_##name)

any_function gpumax_resolve(uint32_t slot);
any_function driver_symbol(const char *name); /* NULL where the driver has none, or there is no driver */
bool driver_found(void);
void driver_watch(bool on); /* from now on the next calls of the program tell the client that they come */
extern _Thread_local bool own_thread; /* it's one of the layer's own, whose calls are nobody's wish to work */
const char *slot_name(uint32_t slot);
bool name_known(const char *name);

/* settings.c: what the environment asks for, read once at the first call of CUDA */

struct settings {
	bool active;    /* whether anything is enforced at all */
	bool swappable; /* large allocations are made of pieces that can be taken away and given back */
	uint64_t context; /* bytes that a context is thought to take of its device; 0: they count nothing */
	const char *broker; /* the path of its socket; NULL: there is none to ask */
	uint32_t ranks; /* processes of its group that begin together; 0: it waits for nobody */
	uint32_t rank;  /* which of them this is, from 1; 0: it counts by itself */
	struct share share;
};

const struct settings *settings(void);

static inline bool idle(void)
{
	return !settings()->active;
}

/* What was let through because we can't judge it; and what was refused. Read by tests and by whoever watches. */
struct counters {
	_Atomic uint64_t refused;           /* allocations beyond the limit */
	_Atomic uint64_t unknown_functions; /* function pointers given out whose names we have never heard of */
	_Atomic uint64_t export_tables;     /* private tables given out, behind which we see nothing */
	_Atomic uint64_t unaccounted;       /* allocations whose device or size we could not find out */
	_Atomic uint64_t gate_waits;        /* calls that had to wait for the device */
	_Atomic uint64_t spared;            /* bytes that left the device without being copied */
	_Atomic uint64_t swaps_out, swaps_in, swaps_failed;
	_Atomic uint64_t without_broker;    /* times that work went on without the broker that should have been asked */
};

extern struct counters counters;

static inline void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline void count_bytes(_Atomic uint64_t *counter, uint64_t bytes)
{
	atomic_fetch_add_explicit(counter, bytes, memory_order_relaxed);
}

/* index.c: what is where, by ranges that don't overlap */

enum kind { PLAIN, POOLED, BACKED, MAPPED, HANDLE, ARRAY, MANAGED, BORROWED };

struct block {
	uint64_t base, size; /* of addresses; for what has a handle alone: the handle, and 1 */
	uint64_t charged;    /* bytes that the share is charged with */
	CUcontext context;   /* with which it ends; NULL where it doesn't */
	void *owner;         /* struct pool, physical, backing or borrowed, by kind */
	struct block *left, *right;
	uint32_t device, weight;
	enum kind kind;
};

struct index {
	pthread_mutex_t lock;
	struct block *root;
	uint32_t chance;
};

extern struct index addresses, handles, arrays;

bool index_add(struct index *index, const struct block *block);     /* false: no memory, or the place is taken */
bool index_take(struct index *index, uint64_t base, struct block *taken); /* exactly there: it is removed */
bool index_take_within(struct index *index, uint64_t base, uint64_t size, enum kind kind, struct block *taken);
bool index_take_of(struct index *index, CUcontext context, struct block *taken);
bool index_find(struct index *index, uint64_t address, struct block *found); /* the one that holds the address */
bool index_next(struct index *index, uint64_t address, struct block *found); /* the first that begins at it or behind */
void indexes_after_fork(void);

/* devices.c */

#define MOST_DEVICES 64

bool device_current(uint32_t *device); /* the share's number of the current context's device */
bool device_of_stream(CUstream stream, bool per_thread, uint32_t *device);
bool device_index(CUdevice ordinal, uint32_t *device);
CUdevice device_ordinal(uint32_t device);
CUcontext context_current(void);
CUcontext context_primary(CUdevice device); /* contexts.c; NULL where it has none now: asking doesn't bring it into being */
void devices_after_fork(void);

/* charge.c: what the share is charged with for this process */

#define MORE_THAN_ANY (UINT64_C(1) << 56) /* bytes: no device has them, and sums with them would come around */

bool charge(uint32_t device, uint64_t bytes, uint64_t *charged); /* false: the limit would be exceeded */
enum verdict reserve_and_charge(uint32_t device, uint64_t bytes, bool movable);
bool charge_movable(uint32_t device, uint64_t bytes, uint64_t *charged); /* what can be swapped */
void discharge(uint32_t device, uint64_t bytes);
void discharge_movable(uint32_t device, uint64_t bytes);
uint64_t limit_of(uint32_t device); /* 0: none */
CUresult refuse(void); /* counts, and is CUDA_ERROR_OUT_OF_MEMORY */

/* pools.c */

bool pools_trim(uint32_t device); /* gives back what pools keep without need; whether anything came of it */
void pools_settle(void);          /* after a wait for the device: what was freed in stream order is free now */
void pool_freed(const struct block *block);
uint64_t pools_charged(uint32_t device);
void pools_after_fork(void);

/* physical.c */

void physical_after_fork(void);

/* graphs.c */

uint64_t graphs_charged(uint32_t device);
void graphs_after_fork(void);

bool graph_charge(CUgraph graph, uint32_t device, uint64_t bytes); /* for a node that allocates */
void graph_discharge(CUgraph graph, uint32_t device, uint64_t bytes); /* it was not added after all */
void graph_gone(CUgraph graph); /* the driver has none of it any more */

/* backing.c */

bool backing_wanted(uint64_t size, uint32_t device);
CUresult backing_allocate(CUdeviceptr *pointer, uint64_t size, uint32_t device);
CUresult backing_free(struct block *block);
void backing_end(const struct block *block); /* whatever its context still does, or is able to */
void backings_context_ends(CUcontext context, bool alive); /* when none of them is left in it */

/* gate.c: who may submit now */

struct gate_seat { /* also a struct gpumax_seat: with a broker it lies in memory that both share */
	_Atomic uint32_t calls; /* low byte: gated calls of its thread under way; above it: how many there have been */
	_Atomic uint32_t taken;
	struct gate_seat *next;
} __attribute__((aligned(64)));

#define GATE_UNDER_WAY 0xffu
#define GATE_CALL 0x101u
#define GATE_OPEN 1u /* as GPUMAX_LEASE_GRANTED: the word may be that of a lease */

extern _Thread_local struct gate_seat *gate_seat;
extern _Atomic(_Atomic uint32_t *) gate_word; /* its low byte says whether the gate is open */

struct gate_seat *gate_take_seat(void);
void gate_wait(struct gate_seat *seat);

static inline struct gate_seat *gate_enter(void)
{
	struct gate_seat *seat = gate_seat;

	if (UNLIKELY(!seat))
		seat = gate_take_seat();
	/*
	 * Only this thread writes its seat. Whoever closes the gate, or revokes the lease, does so first, then makes every
	 * thread pass a barrier (membarrier), then looks at the seats: either we see the gate closed, or it sees us inside.
	 */
	atomic_store_explicit(&seat->calls, atomic_load_explicit(&seat->calls, memory_order_relaxed) + GATE_CALL,
			      memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	if (UNLIKELY((uint8_t)atomic_load_explicit(atomic_load_explicit(&gate_word, memory_order_relaxed),
						   memory_order_acquire) != GATE_OPEN))
		gate_wait(seat);
	return seat;
}

static inline void gate_leave(struct gate_seat *seat)
{
	atomic_store_explicit(&seat->calls, atomic_load_explicit(&seat->calls, memory_order_relaxed) - 1,
			      memory_order_release);
}

enum why_closed { GATE_SWAPPED = 1, GATE_HELD = 2, GATE_PAUSED = 4, GATE_RESTS = 8 };

bool gate_close(uint32_t why, uint64_t patience_ns); /* false, and open again: not everybody left in time */
void gate_open(uint32_t why);
void gate_wake(void);
void gate_lease(_Atomic uint32_t *word);   /* from now on this is what opens it, too; NULL: nothing but our own reasons */
void gate_seats(struct gate_seat *first, size_t count); /* where threads sit that come from now on */
bool gate_seen(void);                      /* whether every thread that ever passed sits there */
bool gate_empty(uint64_t patience_ns);     /* of a gate that is closed: whether nobody is inside any more */
uint64_t gate_calls(void);                 /* how many there have been; it changes when one more begins */
void gate_after_fork(void);
extern _Atomic uint32_t captures; /* streams that are being captured: nobody is held up during that */

/* captures.c */

void capture_begun(CUstream stream, bool per_thread, bool to_own_graph);
void capture_ended(unsigned result, CUstream stream, bool per_thread); /* what the driver said when it was to end */
void capture_stream_ends(CUstream stream);
void captures_context_ends(CUcontext context);
void captures_thread_ends(void); /* of the stream that is the calling thread's own */
void captures_after_fork(void);

#endif
