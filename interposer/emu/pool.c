/* Pools: memory that is given and taken back in the order of a stream. A pool keeps as much as it was told to. */
#include "emu/emu.h"

#include <stdlib.h>
#include <sys/mman.h>

struct emu_pool {
	int ordinal, device;
	bool builtin;
	uint64_t reserved, reserved_high, used, used_high, threshold, limit;
	CUmemPoolProps properties;
	int32_t reuse[3];
};

static struct emu_pool *builtin[EMU_DEVICES], *chosen[EMU_DEVICES]; /* by ordinal */

/* With emu.lock held, as all here. */
static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool grown(struct emu_pool *pool, uint64_t size)
{
	uint64_t needed = pool->used + size;

	if (pool->limit != 0 && needed > pool->limit)
		return false;
	if (needed > pool->reserved) {
		if (!emu_charge(pool->device, needed - pool->reserved))
			return false;
		pool->reserved = needed;
	}
	pool->used = needed;
	pool->used_high = larger(pool->used_high, pool->used);
	pool->reserved_high = larger(pool->reserved_high, pool->reserved);
	return true;
}

static void shrunk(struct emu_pool *pool, uint64_t keep)
{
	keep = larger(keep, pool->used);
	if (pool->reserved <= keep)
		return;
	emu_uncharge(pool->device, pool->reserved - keep);
	pool->reserved = keep;
}

void emu_pool_freed(void *handle, uint64_t size)
{
	struct emu_pool *pool = handle;

	pthread_mutex_lock(&emu.lock);
	if (emu_is(EMU_POOL, pool)) {
		pool->used -= size;
		shrunk(pool, pool->threshold);
	}
	pthread_mutex_unlock(&emu.lock);
}

static struct emu_pool *pool_new(int ordinal, bool is_builtin)
{
	struct emu_pool *pool = emu_new(EMU_POOL, sizeof(*pool));

	if (pool == NULL)
		return NULL;
	pool->ordinal = ordinal;
	pool->device = emu.visible[ordinal];
	pool->builtin = is_builtin;
	pool->properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
	pool->properties.location = (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, ordinal};
	for (int i = 0; i < 3; i++)
		pool->reuse[i] = 1;
	return pool;
}

static struct emu_pool *default_of(int ordinal)
{
	if (builtin[ordinal] == NULL)
		builtin[ordinal] = pool_new(ordinal, true);
	return builtin[ordinal];
}

static struct emu_pool *current_of(int ordinal)
{
	return chosen[ordinal] != NULL ? chosen[ordinal] : default_of(ordinal);
}

/* With a context goes what its device's pools had left. */
void emu_pools_drop(struct emu_context *context)
{
	if (builtin[context->ordinal] != NULL)
		shrunk(builtin[context->ordinal], 0);
}

static CUresult from_pool(struct emu_context *context, struct emu_pool *pool, size_t bytes, CUstream handle, CUdeviceptr *pointer)
{
	uint64_t size = emu_round(bytes, 512);
	struct emu_physical *physical = NULL;
	struct emu_range *range = NULL;
	struct emu_stream *stream;
	CUresult result;
	void *at = NULL;
	bool fits;

	REFUSE_IF(bytes == 0 || pointer == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(size < bytes, CUDA_ERROR_OUT_OF_MEMORY);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	if (stream->capture != NULL)
		return emu_capture_allocation(stream, bytes, pointer);
	pthread_mutex_lock(&emu.lock);
	fits = grown(pool, size);
	pthread_mutex_unlock(&emu.lock);
	REFUSE_IF(!fits, CUDA_ERROR_OUT_OF_MEMORY);
	physical = emu_physical_new(pool->device, size, false);
	if (physical != NULL)
		at = emu_map(physical, 0, size, size >= 1 << 20 ? 2 << 20 : 4096);
	if (at != NULL) {
		pthread_rwlock_wrlock(&emu.space);
		range = emu_range_add((struct emu_range){.base = (uintptr_t)at, .size = size, .kind = EMU_POOLED, .device = pool->device,
							 .context = context, .physical = physical, .pool = pool, .wanted = bytes});
		pthread_rwlock_unlock(&emu.space);
	}
	if (range != NULL) {
		*pointer = range->base;
		return CUDA_SUCCESS;
	}
	if (at != NULL)
		munmap(at, emu_round(size, 4096));
	if (physical != NULL)
		emu_physical_release(physical);
	emu_pool_freed(pool, size);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

GPUMAX_EXPORT CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream)
{
	struct emu_pool *pool;

	CALL_IN_CONTEXT(cuMemAllocAsync, context);
	pthread_mutex_lock(&emu.lock);
	pool = current_of(context->ordinal);
	pthread_mutex_unlock(&emu.lock);
	return pool == NULL ? CUDA_ERROR_OUT_OF_MEMORY : from_pool(context, pool, bytes, stream, pointer);
}

GPUMAX_EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemAllocFromPoolAsync, context);
	REFUSE_IF(!emu_is(EMU_POOL, pool), CUDA_ERROR_INVALID_VALUE);
	return from_pool(context, (struct emu_pool *)pool, bytes, stream, pointer);
}

static CUresult do_free(struct emu_context *context, struct emu_op *op)
{
	(void)context;
	return emu_free_range(op->address) == CUDA_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
}

GPUMAX_EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE, .effect = do_free, .address = pointer};
	struct emu_stream *stream;
	struct emu_range *range;
	CUresult result;
	bool fine;

	CALL_IN_CONTEXT(cuMemFreeAsync, context);
	REFUSE_IF(pointer == 0, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	if (stream->capture != NULL)
		return emu_capture_freeing(stream, pointer);
	pthread_rwlock_wrlock(&emu.space);
	range = emu_range_at(pointer);
	fine = range != NULL && range->base == pointer && (range->kind == EMU_POOLED || range->kind == EMU_PLAIN) && !range->going;
	if (fine)
		range->going = true; /* a second free is an error at once */
	pthread_rwlock_unlock(&emu.space);
	return fine ? emu_submit(stream, &op) : CUDA_ERROR_INVALID_VALUE;
}

GPUMAX_EXPORT CUresult cuMemPoolCreate(CUmemoryPool *handle, const CUmemPoolProps *properties)
{
	struct emu_pool *pool;

	CALL(cuMemPoolCreate);
	REFUSE_IF(handle == NULL || properties == NULL || properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE, CUDA_ERROR_NOT_SUPPORTED);
	REFUSE_IF(properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
	REFUSE_IF(!emu_ordinal(properties->location.id), CUDA_ERROR_INVALID_DEVICE);
	pool = pool_new(properties->location.id, false);
	REFUSE_IF(pool == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	pool->properties = *properties;
	pool->limit = properties->maxSize;
	*handle = (CUmemoryPool)pool;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemPoolDestroy(CUmemoryPool handle)
{
	struct emu_pool *pool = (struct emu_pool *)handle;

	CALL(cuMemPoolDestroy);
	REFUSE_IF(!emu_is(EMU_POOL, pool) || pool->builtin, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	for (int i = 0; i < EMU_DEVICES; i++)
		if (chosen[i] == pool)
			chosen[i] = NULL;
	shrunk(pool, 0);
	/* What it gave out stays, paid for, until the process ends: nobody counts it back. */
	emu_delete(EMU_POOL, pool);
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep)
{
	CALL(cuMemPoolTrimTo);
	REFUSE_IF(!emu_is(EMU_POOL, handle), CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	shrunk((struct emu_pool *)handle, keep);
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value)
{
	struct emu_pool *pool = (struct emu_pool *)handle;
	const uint64_t *words;

	CALL(cuMemPoolGetAttribute);
	REFUSE_IF(!emu_is(EMU_POOL, pool) || value == NULL, CUDA_ERROR_INVALID_VALUE);
	if ((int)attribute >= 1 && (int)attribute <= 3) {
		*(int32_t *)value = pool->reuse[(int)attribute - 1];
		return CUDA_SUCCESS;
	}
	words = attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD	    ? &pool->threshold
		: attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT ? &pool->reserved
		: attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH    ? &pool->reserved_high
		: attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT	    ? &pool->used
		: attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH	    ? &pool->used_high
								    : NULL;
	REFUSE_IF(words == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	*(uint64_t *)value = *words;
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value)
{
	struct emu_pool *pool = (struct emu_pool *)handle;
	CUresult result = CUDA_SUCCESS;

	CALL(cuMemPoolSetAttribute);
	REFUSE_IF(!emu_is(EMU_POOL, pool) || value == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	if ((int)attribute >= 1 && (int)attribute <= 3)
		pool->reuse[(int)attribute - 1] = *(int32_t *)value;
	else if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)
		pool->threshold = *(uint64_t *)value;
	else if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH && *(uint64_t *)value == 0)
		pool->reserved_high = pool->reserved;
	else if (attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH && *(uint64_t *)value == 0)
		pool->used_high = pool->used;
	else
		result = CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_unlock(&emu.lock);
	return result;
}

GPUMAX_EXPORT CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc *rights, size_t count)
{
	CALL(cuMemPoolSetAccess);
	REFUSE_IF(!emu_is(EMU_POOL, handle) || (rights == NULL && count > 0), CUDA_ERROR_INVALID_VALUE);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool handle, CUmemLocation *location)
{
	CALL(cuMemPoolGetAccess);
	REFUSE_IF(flags == NULL || location == NULL || !emu_is(EMU_POOL, handle), CUDA_ERROR_INVALID_VALUE);
	*flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	return CUDA_SUCCESS;
}

static CUresult pool_of(CUdevice device, bool current, CUmemoryPool *out)
{
	REFUSE_IF(out == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	pthread_mutex_lock(&emu.lock);
	*out = (CUmemoryPool)(current ? current_of(device) : default_of(device));
	pthread_mutex_unlock(&emu.lock);
	return *out != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

GPUMAX_EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
	CALL(cuDeviceGetDefaultMemPool);
	return pool_of(device, false, pool);
}

GPUMAX_EXPORT CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
	CALL(cuDeviceGetMemPool);
	return pool_of(device, true, pool);
}

GPUMAX_EXPORT CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
	CALL(cuDeviceSetMemPool);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF(!emu_is(EMU_POOL, pool) || ((struct emu_pool *)pool)->ordinal != device, CUDA_ERROR_INVALID_VALUE);
	chosen[device] = (struct emu_pool *)pool;
	return CUDA_SUCCESS;
}

static CUresult located(const CUmemLocation *location, CUmemAllocationType type)
{
	REFUSE_IF(location == NULL || type != CU_MEM_ALLOCATION_TYPE_PINNED, CUDA_ERROR_INVALID_VALUE);
	return location->type == CU_MEM_LOCATION_TYPE_DEVICE ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

GPUMAX_EXPORT CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
	CUresult result = located(location, type);

	CALL(cuMemGetDefaultMemPool);
	return result != CUDA_SUCCESS ? result : pool_of(location->id, false, pool);
}

GPUMAX_EXPORT CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type)
{
	CUresult result = located(location, type);

	CALL(cuMemGetMemPool);
	return result != CUDA_SUCCESS ? result : pool_of(location->id, true, pool);
}

GPUMAX_EXPORT CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool)
{
	CUresult result = located(location, type);

	return result != CUDA_SUCCESS ? result : cuDeviceSetMemPool(location->id, pool);
}
