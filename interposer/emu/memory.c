/* Memory: plain, pitched, managed, of the host; how much there is. */
#include "emu/emu.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The driver takes memory from a device in larger pieces than a program asks for. */
enum { STEP = 512 };

CUresult emu_allocate(struct emu_context *context, enum emu_range_kind kind, uint64_t wanted, unsigned int flags, CUdeviceptr *pointer)
{
	bool of_device = kind == EMU_PLAIN || kind == EMU_MANAGED || kind == EMU_GRAPHED;
	uint64_t size = emu_round(wanted, of_device ? STEP : 4096);
	struct emu_physical *physical;
	struct emu_range *range = NULL;
	void *at;

	/* What a graph allocates may be captured. */
	REFUSE_IF(kind != EMU_GRAPHED && emu_unsafe() != CUDA_SUCCESS, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	REFUSE_IF(wanted == 0 || size < wanted, wanted == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY);
	physical = emu_physical_new(of_device ? context->device : -1, size, of_device);
	REFUSE_IF(physical == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	at = emu_map(physical, 0, size, size >= 1 << 20 ? 2 << 20 : 4096);
	if (at != NULL) {
		pthread_rwlock_wrlock(&emu.space);
		range = emu_range_add((struct emu_range){.base = (uint64_t)(uintptr_t)at, .size = size, .kind = kind,
							 .device = context->device, .context = context, .physical = physical,
							 .wanted = wanted, .flags = flags});
		pthread_rwlock_unlock(&emu.space);
	}
	if (range == NULL) {
		if (at != NULL)
			munmap(at, emu_round(size, 4096));
		emu_physical_release(physical);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*pointer = range->base;
	return CUDA_SUCCESS;
}

/* Whatever a range is, it goes. */
CUresult emu_free_range(uint64_t base)
{
	struct emu_range gone;
	const struct emu_range *range;

	pthread_rwlock_wrlock(&emu.space);
	range = emu_range_at(base);
	if (range == NULL || range->base != base || range->kind == EMU_RESERVED) {
		pthread_rwlock_unlock(&emu.space);
		return CUDA_ERROR_INVALID_VALUE;
	}
	gone = *range;
	emu_range_remove(base);
	if (gone.kind != EMU_REGISTERED)
		munmap((void *)(uintptr_t)base, emu_round(gone.size, 4096));
	pthread_rwlock_unlock(&emu.space);
	if (gone.physical != NULL)
		emu_physical_release(gone.physical);
	if (gone.kind == EMU_POOLED)
		emu_pool_freed(gone.pool, gone.size);
	if (gone.kind == EMU_MANAGED || gone.kind == EMU_IPC) {
		emu_shared_lock(emu.shared);
		*(gone.kind == EMU_MANAGED ? &emu.slot->managed : &emu.slot->ipc) -= 1;
		emu_shared_unlock(emu.shared);
	}
	return CUDA_SUCCESS;
}

/* The address has to be the beginning of such a range. */
static bool begins(uint64_t base, unsigned int kinds)
{
	const struct emu_range *range;
	bool does;

	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(base);
	does = range != NULL && range->base == base && (kinds & (1u << range->kind)) != 0;
	pthread_rwlock_unlock(&emu.space);
	return does;
}

GPUMAX_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes)
{
	CALL_IN_CONTEXT(cuMemAlloc_v2, context);
	REFUSE_IF(pointer == NULL, CUDA_ERROR_INVALID_VALUE);
	return emu_allocate(context, EMU_PLAIN, bytes, 0, pointer);
}

GPUMAX_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned int element)
{
	size_t row = emu_round(width, 512);

	CALL_IN_CONTEXT(cuMemAllocPitch_v2, context);
	REFUSE_IF(pointer == NULL || pitch == NULL || (element != 4 && element != 8 && element != 16), CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(width == 0 || height == 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(row < width || row > SIZE_MAX / height, CUDA_ERROR_OUT_OF_MEMORY);
	*pitch = row;
	return emu_allocate(context, EMU_PLAIN, row * height, 0, pointer);
}

GPUMAX_EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer)
{
	CUresult waited;

	CALL_IN_CONTEXT(cuMemFree_v2, context);
	if (pointer == 0)
		return CUDA_SUCCESS;
	REFUSE_IF(!begins(pointer, 1u << EMU_PLAIN | 1u << EMU_MANAGED | 1u << EMU_POOLED), CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(emu_unsafe() != CUDA_SUCCESS, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	/* As the driver does it, whatever still runs is waited for. */
	waited = emu_context_wait(context);
	return waited != CUDA_SUCCESS ? waited : emu_free_range(pointer);
}

GPUMAX_EXPORT CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags)
{
	CUresult result;

	CALL_IN_CONTEXT(cuMemAllocManaged, context);
	REFUSE_IF(pointer == NULL || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST), CUDA_ERROR_INVALID_VALUE);
	result = emu_allocate(context, EMU_MANAGED, bytes, flags, pointer);
	if (result == CUDA_SUCCESS) {
		emu_shared_lock(emu.shared);
		emu.slot->managed++;
		emu_shared_unlock(emu.shared);
	}
	return result;
}

GPUMAX_EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
	uint64_t used;

	CALL_IN_CONTEXT(cuMemGetInfo_v2, context);
	REFUSE_IF(available == NULL || total == NULL, CUDA_ERROR_INVALID_VALUE);
	emu_shared_lock(emu.shared);
	emu_reap(emu.shared);
	used = emu_used(emu.shared, context->device);
	emu_shared_unlock(emu.shared);
	*total = emu_model(context)->memory;
	*available = used < *total ? *total - used : 0;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr pointer)
{
	const struct emu_range *range;
	const struct emu_mapping *mapping;
	CUresult result = CUDA_ERROR_NOT_FOUND;

	CALL_IN_CONTEXT(cuMemGetAddressRange_v2, context);
	(void)context;
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(pointer);
	mapping = emu_mapping_at(pointer);
	if (range != NULL && (range->kind != EMU_RESERVED || mapping != NULL)) {
		if (base != NULL)
			*base = mapping != NULL ? mapping->base : range->base;
		if (size != NULL)
			*size = mapping != NULL ? mapping->size : range->wanted;
		result = CUDA_SUCCESS;
	}
	pthread_rwlock_unlock(&emu.space);
	return result;
}

/* Memory of the host that copies reach at full speed. */

GPUMAX_EXPORT CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned int flags)
{
	CUdeviceptr made = 0;
	CUresult result;

	CALL_IN_CONTEXT(cuMemHostAlloc, context);
	REFUSE_IF(pointer == NULL || flags > 7, CUDA_ERROR_INVALID_VALUE);
	result = emu_allocate(context, EMU_HOST, bytes, flags, &made);
	*pointer = (void *)(uintptr_t)made;
	return result;
}

GPUMAX_EXPORT CUresult cuMemAllocHost_v2(void **pointer, size_t bytes)
{
	return cuMemHostAlloc(pointer, bytes, 0);
}

GPUMAX_EXPORT CUresult cuMemFreeHost(void *pointer)
{
	CUresult waited;

	CALL_IN_CONTEXT(cuMemFreeHost, context);
	REFUSE_IF(!begins((uintptr_t)pointer, 1u << EMU_HOST), CUDA_ERROR_INVALID_VALUE);
	waited = emu_context_wait(context);
	return waited != CUDA_SUCCESS ? waited : emu_free_range((uintptr_t)pointer);
}

GPUMAX_EXPORT CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned int flags)
{
	uint64_t base = (uintptr_t)pointer;
	CUresult result = CUDA_SUCCESS;

	CALL_IN_CONTEXT(cuMemHostRegister_v2, context);
	REFUSE_IF(pointer == NULL || bytes == 0 || flags > 15 || base + bytes < base, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_wrlock(&emu.space);
	if (emu_range_at(base) != NULL || emu_range_at(base + bytes - 1) != NULL)
		result = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	else if (emu_range_add((struct emu_range){.base = base, .size = bytes, .kind = EMU_REGISTERED, .device = context->device,
						  .context = context, .wanted = bytes, .flags = flags}) == NULL)
		result = CUDA_ERROR_OUT_OF_MEMORY;
	pthread_rwlock_unlock(&emu.space);
	return result;
}

GPUMAX_EXPORT CUresult cuMemHostUnregister(void *pointer)
{
	CUresult waited;

	CALL_IN_CONTEXT(cuMemHostUnregister, context);
	REFUSE_IF(pointer == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!begins((uintptr_t)pointer, 1u << EMU_REGISTERED), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	waited = emu_context_wait(context);
	return waited != CUDA_SUCCESS ? waited : emu_free_range((uintptr_t)pointer);
}

GPUMAX_EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *pointer, unsigned int flags)
{
	const struct emu_range *range;

	CALL_IN_CONTEXT(cuMemHostGetDevicePointer_v2, context);
	(void)context;
	REFUSE_IF(device == NULL || flags != 0, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at((uintptr_t)pointer);
	*device = range != NULL && (range->kind == EMU_HOST || range->kind == EMU_REGISTERED) ? (uintptr_t)pointer : 0;
	pthread_rwlock_unlock(&emu.space);
	return *device != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

GPUMAX_EXPORT CUresult cuMemHostGetFlags(unsigned int *flags, void *pointer)
{
	const struct emu_range *range;
	CUresult result = CUDA_ERROR_INVALID_VALUE;

	CALL_IN_CONTEXT(cuMemHostGetFlags, context);
	(void)context;
	REFUSE_IF(flags == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at((uintptr_t)pointer);
	if (range != NULL && (range->kind == EMU_HOST || range->kind == EMU_REGISTERED)) {
		*flags = range->flags | CU_MEMHOSTALLOC_DEVICEMAP;
		result = CUDA_SUCCESS;
	}
	pthread_rwlock_unlock(&emu.space);
	return result;
}
