/*
 * Memory in stream order. A pool keeps memory that its program has freed, so the share is charged with what the pool
 * has reserved, or with what the program holds of it where that is more. Before a request is refused the pools give back
 * what they keep without need.
 */
#include <stdlib.h>

#include "api.h"
#include "layer.h"

struct pool {
	struct pool *next;
	CUmemoryPool handle;
	uint64_t live;    /* bytes that the program holds */
	uint64_t coming;  /* bytes that it has asked for and doesn't hold yet */
	uint64_t charged;
	uint32_t device;
	bool ended; /* destroyed by the program, which still holds memory of it */
	bool elsewhere; /* of host memory, which is no matter of ours */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t asking = PTHREAD_MUTEX_INITIALIZER; /* one at a time looks what is lacking, and waits until it's there */
static struct pool *pools;
static _Atomic bool unsettled; /* something was freed in stream order */

static uint64_t reserved(const struct pool *pool)
{
	uint64_t bytes = 0;

	if (pool->ended || REAL(cuMemPoolGetAttribute)(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &bytes))
		return 0;
	return bytes;
}

/* Charges what the pool has come to. False: that is beyond the limit, and the charge is as it was. */
static bool settle(struct pool *pool)
{
	uint64_t kept = reserved(pool), held = pool->live + pool->coming, wanted = kept > held ? kept : held, more;
	enum verdict verdict;

	if (wanted > pool->charged) {
		verdict = share_charge(pool->device, wanted - pool->charged, limit_of(pool->device));
		if (verdict == WITHIN)
			pool->charged = wanted;
		return verdict != BEYOND;
	} else if ((more = pool->charged - wanted)) {
		discharge(pool->device, more);
		pool->charged = wanted;
	}
	return true;
}

/* One that a program didn't make is a device's own, and may be another device's than the stream that asks it for memory. */
static uint32_t device_of_pool(CUmemoryPool handle, uint32_t of_stream)
{
	CUmemoryPool own;
	uint32_t device;
	int number = 0;

	REAL(cuDeviceGetCount)(&number);
	for (CUdevice ordinal = 0; ordinal < number; ordinal++)
		if (REAL(cuDeviceGetDefaultMemPool)(&own, ordinal) == CUDA_SUCCESS && own == handle && device_index(ordinal, &device))
			return device;
	return of_stream;
}

static struct pool *known(CUmemoryPool handle, uint32_t device, bool made)
{
	struct pool *pool = pools;

	while (pool && (pool->ended || pool->handle != handle))
		pool = pool->next;
	if (!pool && (pool = calloc(1, sizeof *pool))) {
		*pool = (struct pool){.next = pools, .handle = handle, .device = made ? device : device_of_pool(handle, device)};
		pools = pool;
	}
	return pool;
}

static void drop(struct pool *pool)
{
	struct pool **place = &pools;

	while (*place != pool)
		place = &(*place)->next;
	*place = pool->next;
	free(pool);
}

/* One that was destroyed is forgotten when nothing of it is held, or about to be, any more. */
static void drop_ended(struct pool *pool)
{
	if (pool->ended && !pool->live && !pool->coming)
		drop(pool);
}

static bool trim(uint32_t device)
{
	uint64_t before = share_used(device);

	for (struct pool *pool = pools; pool; pool = pool->next) {
		if (pool->device != device || pool->elsewhere)
			continue;
		if (!pool->ended)
			REAL(cuMemPoolTrimTo)(pool->handle, 0);
		settle(pool);
	}
	return share_used(device) < before;
}

static bool any_of(uint32_t device)
{
	struct pool *pool = pools;

	while (pool && pool->device != device)
		pool = pool->next;
	return pool != NULL;
}

/* What is freed in stream order is kept until the stream has come there; the driver too waits before it gives up. */
static bool trim_after_wait(uint32_t device)
{
	if (!any_of(device))
		return false;
	if (trim(device))
		return true;
	return atomic_load(&captures) == 0 && REAL(cuCtxSynchronize)() == CUDA_SUCCESS && trim(device);
}

bool pools_trim(uint32_t device)
{
	bool freed;

	pthread_mutex_lock(&lock);
	freed = trim_after_wait(device);
	pthread_mutex_unlock(&lock);
	return freed;
}

uint64_t pools_charged(uint32_t device)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&lock);
	for (struct pool *pool = pools; pool; pool = pool->next)
		if (pool->device == device)
			sum += pool->charged;
	pthread_mutex_unlock(&lock);
	return sum;
}

void pools_settle(void)
{
	if (!atomic_load_explicit(&unsettled, memory_order_relaxed))
		return;
	pthread_mutex_lock(&lock);
	atomic_store(&unsettled, false);
	for (struct pool *pool = pools; pool; pool = pool->next) {
		settle(pool);
		if (pool->charged > pool->live)
			atomic_store(&unsettled, true);
	}
	pthread_mutex_unlock(&lock);
}

/* With nothing locked that anybody needs who frees memory, and outside of the gate: a broker's answer may take long. */
static bool charge_more(struct pool *pool, uint64_t more)
{
	enum verdict verdict = more ? reserve_and_charge(pool->device, more, false) : WITHIN;

	if (verdict == UNKNOWN)
		count(&counters.unaccounted);
	if (verdict == WITHIN) {
		pthread_mutex_lock(&lock);
		pool->charged += more;
		pthread_mutex_unlock(&lock);
	}
	return verdict != BEYOND;
}

static uint64_t lacking(const struct pool *pool)
{
	uint64_t wanted, more;

	pthread_mutex_lock(&lock);
	wanted = pool->live + pool->coming;
	more = wanted > pool->charged ? wanted - pool->charged : 0;
	pthread_mutex_unlock(&lock);
	return more;
}

/* The request has come to something, or to nothing. With the lock held. */
static void arrived(struct pool *pool, uint64_t size)
{
	pool->coming -= size;
	settle(pool);
	drop_ended(pool);
}

/* Room for what is coming, charged ahead of it: what the pool keeps serves first. */
static bool prepare(struct pool *pool, uint64_t size)
{
	bool fine;

	pthread_mutex_lock(&asking);
	fine = charge_more(pool, lacking(pool)) || (pools_trim(pool->device) && charge_more(pool, lacking(pool)));
	pthread_mutex_unlock(&asking);
	if (fine)
		return true;
	pthread_mutex_lock(&lock);
	arrived(pool, size);
	pthread_mutex_unlock(&lock);
	return false;
}

typedef CUresult (*free_async)(CUdeviceptr, CUstream);

struct request {
	CUmemoryPool pool;
	CUstream stream;
	bool per_thread;
	uint32_t device;
};

static CUresult take(const struct request *request, CUdeviceptr *pointer, size_t size)
{
	if (request->per_thread)
		return REAL(cuMemAllocFromPoolAsync_ptsz)(pointer, size, request->pool, request->stream);
	return REAL(cuMemAllocFromPoolAsync)(pointer, size, request->pool, request->stream);
}

/* What was taken is entered; where the pool had to reserve more than the limit lets it, it is given back. */
static CUresult keep(const struct request *request, struct pool *pool, CUdeviceptr pointer, size_t size)
{
	struct block block = {.base = pointer, .size = size, .charged = size, .device = pool->device, .kind = POOLED,
			      .owner = pool};

	pool->live += size;
	pool->coming -= size;
	if (settle(pool) || (trim_after_wait(pool->device) && settle(pool))) {
		if (!index_add(&addresses, &block))
			count(&counters.unaccounted);
		return CUDA_SUCCESS;
	}
	if (request->per_thread)
		REAL(cuMemFreeAsync_ptsz)(pointer, request->stream);
	else
		REAL(cuMemFreeAsync)(pointer, request->stream);
	pool->live -= size;
	trim_after_wait(pool->device);
	settle(pool);
	drop_ended(pool);
	return refuse();
}

/* NULL: what comes of it isn't accounted. */
static struct pool *begin(const struct request *request, size_t size)
{
	struct pool *pool;

	pthread_mutex_lock(&lock);
	pool = known(request->pool, request->device, false);
	if (!pool)
		count(&counters.unaccounted);
	else if (pool->elsewhere)
		pool = NULL;
	else
		pool->coming += size;
	pthread_mutex_unlock(&lock);
	return pool;
}

static CUresult take_and_keep(const struct request *request, struct pool *pool, CUdeviceptr *pointer, size_t size)
{
	CUresult result = take(request, pointer, size);

	if (!pool)
		return result;
	if (result == CUDA_SUCCESS)
		return keep(request, pool, *pointer, size);
	arrived(pool, size);
	return result;
}

/* In a stream that is captured nothing is allocated yet: a node of the graph will. */
static bool capturing(const struct request *request, CUgraph *graph)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	uint64_t id;
	CUresult result;

	if (atomic_load(&captures) == 0)
		return false;
	result = request->per_thread
			 ? REAL(cuStreamGetCaptureInfo_v2_ptsz)(request->stream, &status, &id, graph, NULL, NULL)
			 : REAL(cuStreamGetCaptureInfo_v2)(request->stream, &status, &id, graph, NULL, NULL);
	return result == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

static CUresult allocate(const struct request *request, CUdeviceptr *pointer, size_t size)
{
	struct gate_seat *seat;
	struct pool *pool;
	CUresult result;
	CUgraph graph;

	if (capturing(request, &graph)) {
		if (!graph_charge(graph, request->device, size))
			return refuse();
		result = take(request, pointer, size);
		if (result != CUDA_SUCCESS)
			graph_discharge(graph, request->device, size);
		return result;
	}
	if (size >= MORE_THAN_ANY)
		return refuse();
	pool = begin(request, size);
	if (pool && !prepare(pool, size))
		return refuse();
	seat = gate_enter();
	pthread_mutex_lock(&lock);
	result = take_and_keep(request, pool, pointer, size);
	pthread_mutex_unlock(&lock);
	gate_leave(seat);
	return result;
}

static bool current_pool(struct request *request)
{
	return device_of_stream(request->stream, request->per_thread, &request->device) &&
	       REAL(cuDeviceGetMemPool)(&request->pool, device_ordinal(request->device)) == CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t size, CUstream stream)
{
	struct request request = {.stream = stream};

	if (idle() || !pointer || !size || !current_pool(&request))
		return REAL(cuMemAllocAsync)(pointer, size, stream);
	return allocate(&request, pointer, size);
}

EXPORT CUresult cuMemAllocAsync_ptsz(CUdeviceptr *pointer, size_t size, CUstream stream)
{
	struct request request = {.stream = stream, .per_thread = true};

	if (idle() || !pointer || !size || !current_pool(&request))
		return REAL(cuMemAllocAsync_ptsz)(pointer, size, stream);
	return allocate(&request, pointer, size);
}

EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t size, CUmemoryPool pool, CUstream stream)
{
	struct request request = {.pool = pool, .stream = stream};

	if (idle() || !pointer || !size || !device_of_stream(stream, false, &request.device))
		return REAL(cuMemAllocFromPoolAsync)(pointer, size, pool, stream);
	return allocate(&request, pointer, size);
}

EXPORT CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *pointer, size_t size, CUmemoryPool pool, CUstream stream)
{
	struct request request = {.pool = pool, .stream = stream, .per_thread = true};

	if (idle() || !pointer || !size || !device_of_stream(stream, true, &request.device))
		return REAL(cuMemAllocFromPoolAsync_ptsz)(pointer, size, pool, stream);
	return allocate(&request, pointer, size);
}

void pool_freed(const struct block *block)
{
	struct pool *pool = block->owner;

	pthread_mutex_lock(&lock);
	pool->live -= block->charged;
	settle(pool);
	if (pool->charged > pool->live)
		atomic_store(&unsettled, true);
	drop_ended(pool);
	pthread_mutex_unlock(&lock);
}

static CUresult release(CUdeviceptr pointer, CUstream stream, free_async real)
{
	struct block block;
	CUresult result;

	if (idle() || !index_take(&addresses, pointer, &block))
		return real(pointer, stream);
	if (block.kind == BACKED) /* of cuMemAlloc: allowed, and then it is no matter of a pool */
		return backing_free(&block);
	result = real(pointer, stream);
	if (result != CUDA_SUCCESS || block.kind == MAPPED || block.kind == BORROWED)
		index_add(&addresses, &block);
	else if (block.kind == POOLED)
		pool_freed(&block);
	else
		discharge(block.device, block.charged);
	return result;
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream)
{
	return release(pointer, stream, REAL(cuMemFreeAsync));
}

EXPORT CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream)
{
	return release(pointer, stream, REAL(cuMemFreeAsync_ptsz));
}

EXPORT CUresult cuMemPoolCreate(CUmemoryPool *handle, const CUmemPoolProps *properties)
{
	CUresult result = REAL(cuMemPoolCreate)(handle, properties);
	bool here = true;
	uint32_t device = 0;
	struct pool *pool;

	if (result != CUDA_SUCCESS || idle())
		return result;
	here = properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
	if (here && !device_index(properties->location.id, &device))
		return result;
	pthread_mutex_lock(&lock);
	pool = known(*handle, device, true);
	if (pool)
		pool->elsewhere = !here;
	pthread_mutex_unlock(&lock);
	return result;
}

EXPORT CUresult cuMemPoolDestroy(CUmemoryPool handle)
{
	struct pool *pool = NULL;
	CUresult result;

	if (idle())
		return REAL(cuMemPoolDestroy)(handle);
	pthread_mutex_lock(&lock);
	for (pool = pools; pool && (pool->ended || pool->handle != handle);)
		pool = pool->next;
	result = REAL(cuMemPoolDestroy)(handle);
	if (result == CUDA_SUCCESS && pool) {
		pool->ended = true;
		settle(pool);
		drop_ended(pool);
	}
	pthread_mutex_unlock(&lock);
	return result;
}

EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes)
{
	CUresult result = REAL(cuMemPoolTrimTo)(pool, keep_bytes);

	if (result == CUDA_SUCCESS && !idle()) {
		atomic_store(&unsettled, true);
		pools_settle();
	}
	return result;
}

void pools_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_mutex_init(&asking, NULL);
	pools = NULL;
}
