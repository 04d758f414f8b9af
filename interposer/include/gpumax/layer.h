/*
 * What a program may say to the layer under CUDA, and ask of it. The functions are found by name in the library that the
 * program has as libcuda.so.1 (dlsym, ctypes); a program in which there are none runs without the layer. All of them may
 * be called from any thread, at any time after cuInit. Answers that aren't numbers of something are results of CUDA: 0 is
 * success, 1 CUDA_ERROR_INVALID_VALUE, 2 CUDA_ERROR_OUT_OF_MEMORY, 600 CUDA_ERROR_NOT_READY, 801 CUDA_ERROR_NOT_SUPPORTED.
 */
#ifndef GPUMAX_LAYER_H_PUBLIC
#define GPUMAX_LAYER_H_PUBLIC

#include <stddef.h>
#include <stdint.h>

enum gpumax_layer_kind {
	GPUMAX_LAYER_NORMAL = 0,
	GPUMAX_LAYER_READ_ONLY = 1,  /* the program won't write there any more: it is copied to the host once at most */
	GPUMAX_LAYER_DISCARDABLE = 2 /* never copied to the host; after a swap its content is undefined */
};

/*
 * Says it of a part of an allocation; `size` 0: from the pointer to the allocation's end. It is kept by pieces of 32 MiB,
 * and a piece that only a part of is meant is not meant. 1: the pointer is in no allocation; 801: in one that is never
 * swapped, so that it makes no difference. A program that writes to what it called read-only may find it unwritten.
 */
int gpumax_layer_hint(unsigned long long pointer, unsigned long long size, int kind);
int gpumax_layer_read_only(unsigned long long pointer, int read_only); /* of a whole allocation */

/*
 * All that this thread allocates until `end`. What is to be read-only is so from `end` on, since it is written before.
 * `begin` gives what `end` wants; pairs may be nested. Negative: not such a kind, and nothing to end.
 */
int gpumax_layer_hint_begin(int kind);
void gpumax_layer_hint_end(int began);

/*
 * Gives up the memory of all devices, and the right to use them, until `resume`: what submits work waits. 600: it did
 * not rest within `patience_ms`, or a stream is being captured; then nothing has changed. `resume` makes the devices
 * usable again; the memory comes back by then or at the next call that needs it, when there is room. 600: nothing was
 * paused.
 */
int gpumax_layer_pause(unsigned int patience_ms);
int gpumax_layer_resume(void);

enum gpumax_layer_mode { GPUMAX_LAYER_FAIR = 0, GPUMAX_LAYER_STRICT = 1 };

struct gpumax_layer_share {
	uint64_t limit;     /* bytes that all processes of the group may have; 0: no limit */
	uint64_t guarantee; /* of which so much is always on the device */
	uint64_t used;      /* by all processes of the group, wherever it is */
	uint64_t own;       /* of this by this process */
	uint64_t swapped;   /* of own, in memory of the host */
	uint64_t pinned;    /* of own, can't be swapped */
	uint32_t share;     /* of the device's time, in thousandths */
	uint32_t mode;      /* gpumax_layer_mode */
	uint32_t swaps;     /* 1: memory is swapped */
	uint32_t paused;    /* 1: between pause and resume */
};

/* `device`: as the program counts them. Fills the first `size` bytes of `share`; 101: no such device. */
int gpumax_layer_share(int device, struct gpumax_layer_share *share, size_t size);

/* Why memory can't be swapped. */
enum gpumax_layer_reason {
	GPUMAX_LAYER_SMALL = 0,   /* allocations below 1 MiB */
	GPUMAX_LAYER_PLAIN = 1,   /* pitched memory, and all where swapping is off or the driver can't map memory */
	GPUMAX_LAYER_MANAGED = 2, /* the driver itself moves it */
	GPUMAX_LAYER_POOLS = 3,   /* in stream order */
	GPUMAX_LAYER_GRAPHS = 4,  /* allocated by graphs */
	GPUMAX_LAYER_ARRAYS = 5,
	GPUMAX_LAYER_MAPPED = 6,  /* that the program maps by itself (cuMemCreate) */
	GPUMAX_LAYER_SHARED = 7,  /* others have it open, or may: it was retained, or given to another device */
	GPUMAX_LAYER_CONTEXTS = 8, /* what contexts themselves take, by NVML or as GPUMAX_CONTEXT says */
	GPUMAX_LAYER_REASONS = 9
};

/* Bytes by reason, on one device of the program's; the answer is how many reasons there are. */
size_t gpumax_layer_pinned(int device, uint64_t *bytes, size_t count);

/* In this order, also to those who know fewer of them; the answer is how many there are. */
enum gpumax_layer_counter {
	GPUMAX_LAYER_REFUSED = 0,
	GPUMAX_LAYER_UNKNOWN_FUNCTIONS = 1,
	GPUMAX_LAYER_EXPORT_TABLES = 2,
	GPUMAX_LAYER_UNACCOUNTED = 3,
	GPUMAX_LAYER_GATE_WAITS = 4,
	GPUMAX_LAYER_COPIED_OUT = 5, /* bytes over the link */
	GPUMAX_LAYER_COPIED_IN = 6,
	GPUMAX_LAYER_SPARED = 7,     /* bytes that left the device uncopied: discardable, or still true on the host */
	GPUMAX_LAYER_STAGED = 8,     /* bytes of the copied ones that went by way of a small pinned buffer */
	GPUMAX_LAYER_SWAPS_OUT = 9,
	GPUMAX_LAYER_SWAPS_IN = 10,
	GPUMAX_LAYER_SWAPS_FAILED = 11,
	GPUMAX_LAYER_WITHOUT_BROKER = 12, /* times that work went on without the broker that should have been asked */
	GPUMAX_LAYER_COUNTERS = 13
};
size_t gpumax_layer_counters(uint64_t *values, size_t count);

#endif
