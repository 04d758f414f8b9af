/* What is known of a pointer. */
#include "emu/emu.h"

#include <string.h>

static size_t size_of(CUpointer_attribute attribute)
{
	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_MAPPED:
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		return 4;
	case CU_POINTER_ATTRIBUTE_CONTEXT:
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		return 8;
	default:
		return 0;
	}
}

static int ordinal_of(int device)
{
	for (int i = 0; i < emu.visible_count; i++)
		if (emu.visible[i] == device)
			return i;
	return CU_DEVICE_INVALID;
}

/* With emu.space held. Numbers as 64 bits; the caller cuts them to size. */
static uint64_t value_of(CUpointer_attribute attribute, uint64_t pointer, const struct emu_range *range, const struct emu_mapping *mapping)
{
	bool of_host = range->kind == EMU_HOST || range->kind == EMU_REGISTERED;

	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		return (uintptr_t)range->context;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		return of_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		return pointer;
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		return of_host || range->kind == EMU_MANAGED ? pointer : 0;
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		return mapping != NULL ? (uintptr_t)mapping->physical : range->id;
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		return range->kind == EMU_MANAGED;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		return (uint64_t)ordinal_of(mapping != NULL ? mapping->physical->device : range->device);
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		return range->kind == EMU_PLAIN;
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
		return range->base;
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
		return range->wanted;
	case CU_POINTER_ATTRIBUTE_MAPPED:
		return range->kind != EMU_RESERVED || mapping != NULL;
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		return mapping != NULL ? (uint64_t)mapping->physical->properties.requestedHandleTypes : 0;
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		return mapping != NULL ? mapping->access : CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		return (uintptr_t)range->pool;
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		return mapping != NULL ? mapping->size : range->size;
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		return mapping != NULL ? mapping->base : range->base;
	default:
		return 0;
	}
}

/* Of a pointer that nobody gave out, `several` has zeros, and one attribute alone is an error. */
static CUresult answered(CUpointer_attribute attribute, uint64_t pointer, void *out, bool several)
{
	const struct emu_range *range;
	uint64_t value = 0;
	CUresult result = CUDA_SUCCESS;

	REFUSE_IF(out == NULL || size_of(attribute) == 0, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(pointer);
	if (range != NULL)
		value = value_of(attribute, pointer, range, range->kind == EMU_RESERVED ? emu_mapping_at(pointer) : NULL);
	else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
		value = (uint64_t)CU_DEVICE_INVALID;
	if (range == NULL && !several)
		result = CUDA_ERROR_INVALID_VALUE;
	pthread_rwlock_unlock(&emu.space);
	if (result == CUDA_SUCCESS)
		memcpy(out, &value, size_of(attribute));
	return result;
}

GPUMAX_EXPORT CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr pointer)
{
	CALL(cuPointerGetAttribute);
	return answered(attribute, pointer, value, false);
}

GPUMAX_EXPORT CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **values, CUdeviceptr pointer)
{
	CALL(cuPointerGetAttributes);
	REFUSE_IF(attributes == NULL || values == NULL, CUDA_ERROR_INVALID_VALUE);
	for (unsigned int i = 0; i < count; i++) {
		CUresult result = answered(attributes[i], pointer, values[i], true);

		REFUSE_IF(result != CUDA_SUCCESS, result);
	}
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr pointer)
{
	CALL(cuPointerSetAttribute);
	(void)pointer;
	return value != NULL && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
