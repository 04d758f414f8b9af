/* The inside of the emulated driver. */
#ifndef EMU_EMU_H
#define EMU_EMU_H

#include "emu/config.h"
#include "emu/shared.h"
#include "gpumax/cuda_api.h"
#include "gpumax/export.h"

#include <pthread.h>
#include <sys/types.h>

/* What this process knows. `lock` guards tables and lists; `work` the streams; `space` what is mapped where. */
struct emu {
	struct emu_config config;
	struct emu_shared *shared;
	struct emu_slot *slot;
	int me; /* number of the slot */
	pid_t pid;
	CUresult init;
	int visible[EMU_DEVICES], visible_count;
	pthread_mutex_t lock, work;
	pthread_cond_t done;
	pthread_rwlock_t space;
};
extern struct emu emu;

/* ---- calls (call.c): each function begins with CALL or CALL_IN_CONTEXT ---- */

struct emu_call {
	const char *name;
	uint64_t count;
	struct emu_call *next;
	bool listed, faulty;
};
CUresult emu_enter(struct emu_call *call);
CUresult emu_enter_early(struct emu_call *call);
void emu_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern _Thread_local int emu_in_callback;

/* Its name stands in a list, too: which faults there may be (known.c). */
#define CALL_NAMED(function)                                                                                           \
	static const char *const named_ __attribute__((section("emu_calls"), used)) = #function

#define CALL(function)                                                                                                 \
	CALL_NAMED(function);                                                                                          \
	static struct emu_call call_ = {.name = #function};                                                            \
	do {                                                                                                           \
		CUresult entered_ = emu_enter(&call_);                                                                 \
		if (entered_ != CUDA_SUCCESS)                                                                          \
			return entered_;                                                                               \
	} while (0)

#define CALL_IN_CONTEXT(function, context)                                                                             \
	CALL(function);                                                                                                \
	struct emu_context *context = emu_current();                                                                   \
	do {                                                                                                           \
		CUresult usable_ = emu_usable(context);                                                                \
		if (usable_ != CUDA_SUCCESS)                                                                           \
			return usable_;                                                                                \
	} while (0)

#define REFUSE_IF(condition, result)                                                                                   \
	do {                                                                                                           \
		if (condition)                                                                                         \
			return result;                                                                                 \
	} while (0)

/* ---- handles (handle.c): a pointer that isn't one of ours is found out, never followed ---- */

enum emu_kind {
	EMU_CONTEXT = 1,
	EMU_STREAM,
	EMU_EVENT,
	EMU_MODULE,
	EMU_FUNCTION,
	EMU_LIBRARY,
	EMU_ARRAY,
	EMU_POOL,
	EMU_GRAPH,
	EMU_NODE,
	EMU_EXEC,
	EMU_PHYSICAL,
	EMU_MIPMAP
};
void *emu_new(enum emu_kind kind, size_t size);
bool emu_is(enum emu_kind kind, const void *handle);
void emu_delete(enum emu_kind kind, void *handle);
void emu_unlist(const void *handle); /* no longer a handle; its memory stays */

/* ---- contexts (context.c) ---- */

struct emu_stream;
struct emu_context {
	int ordinal, device; /* as this process counts, and as the machine does */
	unsigned int flags, version;
	bool primary;
	int retained;
	CUresult broken;
	struct emu_stream *legacy;
	struct emu_stream *streams; /* all of it, by next_in_context */
	struct emu_context *next;
	size_t limits[16];
	uint64_t id;
};
struct emu_context *emu_current(void);
CUresult emu_usable(const struct emu_context *context);
const struct emu_model *emu_model(const struct emu_context *context);
bool emu_ordinal(CUdevice device);
struct emu_context *emu_contexts(void);

/* ---- memory of devices (charge.c, physical.c, space.c) ---- */

bool emu_charge(int device, uint64_t bytes);
void emu_uncharge(int device, uint64_t bytes);

struct emu_physical {
	int references;
	int held; /* of these, handles that the program has */
	int device; /* -1: of the host */
	int file;
	uint64_t offset, size;
	bool own_file; /* it was exported, or came from elsewhere */
	bool charged;
	CUmemAllocationProp properties;
};
struct emu_physical *emu_physical_new(int device, uint64_t size, bool charged);
bool emu_physical_apart(struct emu_physical *physical);
void emu_physical_release(struct emu_physical *physical);

enum emu_range_kind { EMU_PLAIN = 1, EMU_RESERVED, EMU_HOST, EMU_REGISTERED, EMU_MANAGED, EMU_IPC, EMU_POOLED, EMU_GRAPHED };
struct emu_range {
	uint64_t base, size;
	enum emu_range_kind kind;
	int device;
	struct emu_context *context;
	struct emu_physical *physical;
	void *pool;
	uint64_t id, wanted; /* bytes as they were asked for */
	unsigned int flags;
	bool going; /* a free of it is on its way */
};
struct emu_mapping {
	uint64_t base, size, offset;
	struct emu_physical *physical;
	CUmemAccess_flags access;
};
/* With `space` held: */
struct emu_range *emu_range_at(uint64_t address);
struct emu_range *emu_range_add(struct emu_range range);
void emu_range_remove(uint64_t base);
struct emu_mapping *emu_mapping_at(uint64_t address);
bool emu_mapping_add(struct emu_mapping mapping);
void emu_mapping_remove(uint64_t base);
struct emu_mapping *emu_mapping_first(uint64_t from, uint64_t to);
bool emu_mappings_again(const struct emu_physical *physical); /* wherever it is mapped, since its file is another one */
bool emu_reaches(uint64_t address, uint64_t bytes, bool write);
struct emu_range *emu_range_of(struct emu_context *context, enum emu_range_kind kind);
/* Host memory that stands for memory of a device. */
void *emu_map(struct emu_physical *physical, uint64_t offset, uint64_t size, uint64_t alignment);
uint64_t emu_round(uint64_t bytes, uint64_t to);
CUresult emu_free_range(uint64_t base);
CUresult emu_allocate(struct emu_context *context, enum emu_range_kind kind, uint64_t wanted, unsigned int flags, CUdeviceptr *pointer);
/* With `space` held: bytes are copied, or become zero, without taking memory of the host for zeros where that can be helped (sparse.c). */
void emu_move(uint64_t to, uint64_t from, uint64_t bytes);
void emu_zero(uint64_t to, uint64_t bytes);

/* ---- work (work.c, engine.c, stream.c) ---- */

struct emu_fence {
	int references;
	bool done;
	bool awaited; /* somebody sleeps until it is done */
	uint64_t end;
};

struct emu_copy {
	uint64_t to, from;
	size_t width, height, depth;
	size_t to_pitch, to_slice, from_pitch, from_slice;
	bool to_device, from_device;
};
struct emu_set {
	uint64_t to;
	size_t width, height, pitch; /* in elements, rows, bytes */
	uint32_t value, element;
};
struct emu_kernel;
struct emu_run {
	const struct emu_kernel *kernel;
	uint64_t duration; /* where the image says it */
	unsigned int grid[3], block[3];
	union {
		uint64_t word[12];
		unsigned char byte[96];
	} parameter;
};

struct emu_event;
struct emu_op {
	struct emu_op *next;
	struct emu_fence *fence;
	struct emu_fence **after;
	int after_count, after_room;
	uint64_t submitted, duration;
	enum emu_engine engine;
	bool forever;
	bool holds; /* takes time of its stream alone */
	bool patient; /* waits for a word in memory */
	CUresult (*effect)(struct emu_context *context, struct emu_op *op);
	union {
		struct emu_copy copy;
		struct emu_set set;
		struct emu_run run;
		struct {
			CUhostFn function;
			CUstreamCallback callback;
			CUstream stream;
			void *data;
		} host;
		uint64_t address;
		struct {
			uint64_t address, value;
			unsigned int flags;
			bool wide;
		} word;
	};
};

struct emu_graph;
struct emu_stream {
	struct emu_context *context;
	struct emu_stream *next_in_context;
	unsigned int flags;
	int priority;
	bool per_thread, stop, started;
	struct emu_op *first, *last;
	struct emu_fence *latest;
	struct emu_fence *waits[32];
	int waits_count;
	uint64_t end;
	pthread_t thread;
	pthread_cond_t wake;
	uint64_t id;
	struct emu_graph *capture;
	CUstreamCaptureMode capture_mode;
	bool capture_origin, capture_broken;
	pthread_t capture_thread;
};

struct emu_stream *emu_stream(struct emu_context *context, CUstream handle, CUresult *result);
struct emu_stream *emu_stream_new(struct emu_context *context, unsigned int flags, int priority);
void emu_stream_end(struct emu_stream *stream);
/* Gives work to a stream, or to the graph that it captures. The op is copied. */
CUresult emu_submit(struct emu_stream *stream, const struct emu_op *op);
CUresult emu_submit_and_wait(struct emu_stream *stream, const struct emu_op *op);
CUresult emu_wait(struct emu_context *context, struct emu_fence *fence);
bool emu_is_done(const struct emu_fence *fence);
CUresult emu_stream_wait(struct emu_stream *stream);
CUresult emu_context_wait(struct emu_context *context);
struct emu_fence *emu_fence_new(void);
struct emu_fence *emu_fence_keep(struct emu_fence *fence);
void emu_fence_drop(struct emu_fence *fence);

uint64_t emu_now(void);
void emu_wait_until(uint64_t when);
uint64_t emu_engine_run(int device, enum emu_engine engine, uint64_t ready, uint64_t duration, bool more,
			const bool *stop);

/* ---- copies, kernels, graphs ---- */

CUresult emu_copy_checked(struct emu_context *context, struct emu_copy copy, struct emu_op *op, bool *pageable);
CUresult emu_set_checked(struct emu_context *context, struct emu_set set, struct emu_op *op);
bool emu_array(CUarray handle, uint64_t *at, size_t *pitch, size_t *rows);
CUresult emu_kernel_op(struct emu_context *context, CUfunction function, const unsigned int *grid,
		       const unsigned int *block, void **parameters, void **extra, struct emu_op *op);
CUresult emu_solid_op(struct emu_context *context, const CUDA_MEMCPY3D *copy, struct emu_op *op);
struct emu_op emu_host_op(CUhostFn function, void *data);
CUresult emu_capture(struct emu_stream *stream, const struct emu_op *op);
CUresult emu_capture_allocation(const struct emu_stream *stream, size_t bytes, CUdeviceptr *pointer);
CUresult emu_capture_freeing(const struct emu_stream *stream, CUdeviceptr pointer);
/* Waits as long as the stream isn't stopped; false where it was, or where the word isn't there. */
bool emu_word_waited(const struct emu_op *op, const bool *stop);
/* Calls that aren't allowed while something is captured break what is captured. */
CUresult emu_unsafe(void);
void emu_pool_freed(void *pool, uint64_t size);
void emu_pools_drop(struct emu_context *context);

#endif
