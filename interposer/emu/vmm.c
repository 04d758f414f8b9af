/* Addresses and memory apart: reserve, create, map, unmap, give to other processes. */
#include "emu/emu.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t granularity_of(int device)
{
	return device >= 0 ? emu.config.device[device].granularity : (uint64_t)2 << 20;
}

static bool device_of(const CUmemLocation *location, int *device)
{
	if (location->type == CU_MEM_LOCATION_TYPE_DEVICE && emu_ordinal(location->id)) {
		*device = emu.visible[location->id];
		return true;
	}
	*device = -1;
	return location->type == CU_MEM_LOCATION_TYPE_HOST || location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
	       location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

/* A mapping without rights can't be touched by the program either: what a device would fault on faults. */
static int rights(CUmemAccess_flags access)
{
	return access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? PROT_READ | PROT_WRITE
	       : access == CU_MEM_ACCESS_FLAGS_PROT_READ    ? PROT_READ
							    : PROT_NONE;
}

static bool place(uint64_t base, uint64_t size, const struct emu_physical *physical, uint64_t offset, CUmemAccess_flags access)
{
	int kind = physical != NULL ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	return mmap((void *)(uintptr_t)base, size, rights(access), kind | MAP_FIXED, physical != NULL ? physical->file : -1,
		    physical != NULL ? (off_t)(physical->offset + offset) : 0) != MAP_FAILED;
}

bool emu_mappings_again(const struct emu_physical *physical)
{
	bool fine = true;

	for (const struct emu_mapping *each = emu_mapping_first(0, UINT64_MAX); each != NULL && fine;
	     each = emu_mapping_first(each->base + each->size, UINT64_MAX))
		if (each->physical == physical)
			fine = place(each->base, each->size, physical, each->offset, each->access);
	return fine;
}

GPUMAX_EXPORT CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *properties,
						     CUmemAllocationGranularity_flags option)
{
	int device;

	CALL(cuMemGetAllocationGranularity);
	REFUSE_IF(granularity == NULL || properties == NULL || (unsigned)option > 1, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!device_of(&properties->location, &device), CUDA_ERROR_INVALID_DEVICE);
	*granularity = granularity_of(device);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemAddressReserve(CUdeviceptr *pointer, size_t size, size_t alignment, CUdeviceptr wish,
					   unsigned long long flags)
{
	struct emu_range range = {.kind = EMU_RESERVED, .device = -1, .size = size, .wanted = size};
	void *at = MAP_FAILED;

	CALL(cuMemAddressReserve);
	REFUSE_IF(pointer == NULL || size == 0 || size % 4096 != 0 || flags != 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF((alignment & (alignment - 1)) != 0, CUDA_ERROR_INVALID_VALUE);
	if (alignment < 2 << 20)
		alignment = 2 << 20;
	if (wish != 0 && wish % alignment == 0)
		at = mmap((void *)(uintptr_t)wish, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (at == MAP_FAILED)
		at = emu_map(NULL, 0, size, alignment);
	REFUSE_IF(at == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	range.base = (uintptr_t)at;
	pthread_rwlock_wrlock(&emu.space);
	emu_range_add(range);
	pthread_rwlock_unlock(&emu.space);
	*pointer = range.base;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemAddressFree(CUdeviceptr pointer, size_t size)
{
	const struct emu_range *range;
	CUresult result = CUDA_SUCCESS;

	CALL(cuMemAddressFree);
	pthread_rwlock_wrlock(&emu.space);
	range = emu_range_at(pointer);
	if (range == NULL || range->base != pointer || range->kind != EMU_RESERVED || range->size != size) {
		result = CUDA_ERROR_INVALID_VALUE;
	} else if (emu_mapping_first(pointer, pointer + size) != NULL) {
		result = CUDA_ERROR_INVALID_VALUE; /* something is mapped there still */
	} else {
		emu_range_remove(pointer);
		munmap((void *)(uintptr_t)pointer, size);
	}
	pthread_rwlock_unlock(&emu.space);
	return result;
}

GPUMAX_EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *properties,
				   unsigned long long flags)
{
	struct emu_physical *physical;
	int device;

	CALL(cuMemCreate);
	REFUSE_IF(handle == NULL || properties == NULL || size == 0 || flags != 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(properties->type != CU_MEM_ALLOCATION_TYPE_PINNED, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!device_of(&properties->location, &device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF(size % granularity_of(device) != 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(((int)properties->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0, CUDA_ERROR_NOT_SUPPORTED);
	physical = emu_physical_new(device, size, true);
	REFUSE_IF(physical == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	physical->properties = *properties;
	physical->held = 1;
	*handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
	return CUDA_SUCCESS;
}

static struct emu_physical *physical_of(CUmemGenericAllocationHandle handle)
{
	struct emu_physical *physical = (struct emu_physical *)(uintptr_t)handle;

	return emu_is(EMU_PHYSICAL, physical) ? physical : NULL;
}

GPUMAX_EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct emu_physical *physical;

	CALL(cuMemRelease);
	physical = physical_of(handle);
	REFUSE_IF(physical == NULL || __atomic_load_n(&physical->held, __ATOMIC_RELAXED) <= 0, CUDA_ERROR_INVALID_VALUE);
	__atomic_sub_fetch(&physical->held, 1, __ATOMIC_RELAXED);
	emu_physical_release(physical); /* what is mapped stays until it is unmapped */
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	const struct emu_mapping *mapping;

	CALL(cuMemRetainAllocationHandle);
	REFUSE_IF(handle == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	mapping = emu_mapping_at((uintptr_t)address);
	if (mapping != NULL) {
		__atomic_add_fetch(&mapping->physical->references, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&mapping->physical->held, 1, __ATOMIC_RELAXED);
		*handle = (CUmemGenericAllocationHandle)(uintptr_t)mapping->physical;
	}
	pthread_rwlock_unlock(&emu.space);
	return mapping != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

GPUMAX_EXPORT CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties, CUmemGenericAllocationHandle handle)
{
	const struct emu_physical *physical;

	CALL(cuMemGetAllocationPropertiesFromHandle);
	physical = physical_of(handle);
	REFUSE_IF(properties == NULL || physical == NULL, CUDA_ERROR_INVALID_VALUE);
	*properties = physical->properties;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
				unsigned long long flags)
{
	struct emu_physical *physical;
	const struct emu_range *range;
	CUresult result = CUDA_SUCCESS;

	CALL(cuMemMap);
	physical = physical_of(handle);
	REFUSE_IF(physical == NULL || flags != 0 || size == 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(offset > physical->size || size > physical->size - offset, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF((pointer | size | offset) % granularity_of(physical->device) != 0, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_wrlock(&emu.space);
	range = emu_range_at(pointer);
	if (range == NULL || range->kind != EMU_RESERVED || pointer + size > range->base + range->size ||
	    emu_mapping_first(pointer, pointer + size) != NULL)
		result = CUDA_ERROR_INVALID_VALUE;
	else if (!place(pointer, size, physical, offset, CU_MEM_ACCESS_FLAGS_PROT_NONE) ||
		 !emu_mapping_add((struct emu_mapping){.base = pointer, .size = size, .offset = offset, .physical = physical}))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	else
		__atomic_add_fetch(&physical->references, 1, __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&emu.space);
	return result;
}

/* Whole mappings only, as with the driver. */
static bool whole(uint64_t from, uint64_t to)
{
	while (from < to) {
		const struct emu_mapping *mapping = emu_mapping_at(from);

		if (mapping == NULL || mapping->base != from || mapping->base + mapping->size > to)
			return false;
		from = mapping->base + mapping->size;
	}
	return true;
}

GPUMAX_EXPORT CUresult cuMemUnmap(CUdeviceptr pointer, size_t size)
{
	CUresult result = CUDA_ERROR_INVALID_VALUE;

	CALL(cuMemUnmap);
	REFUSE_IF(size == 0 || pointer + size < pointer, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_wrlock(&emu.space);
	if (whole(pointer, pointer + size)) {
		struct emu_mapping *mapping;

		while ((mapping = emu_mapping_first(pointer, pointer + size)) != NULL) {
			struct emu_physical *physical = mapping->physical;

			place(mapping->base, mapping->size, NULL, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE);
			emu_mapping_remove(mapping->base);
			emu_physical_release(physical);
		}
		result = CUDA_SUCCESS;
	}
	pthread_rwlock_unlock(&emu.space);
	return result;
}

GPUMAX_EXPORT CUresult cuMemSetAccess(CUdeviceptr pointer, size_t size, const CUmemAccessDesc *wishes, size_t count)
{
	CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
	CUresult result = CUDA_ERROR_INVALID_VALUE;
	int device;

	CALL(cuMemSetAccess);
	REFUSE_IF(wishes == NULL || count == 0 || size == 0, CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < count; i++) {
		REFUSE_IF(!device_of(&wishes[i].location, &device), CUDA_ERROR_INVALID_DEVICE);
		if (wishes[i].flags > access)
			access = wishes[i].flags;
	}
	pthread_rwlock_wrlock(&emu.space);
	if (whole(pointer, pointer + size)) {
		for (uint64_t at = pointer; at < pointer + size;) {
			struct emu_mapping *mapping = emu_mapping_at(at);

			mapping->access = access;
			mprotect((void *)(uintptr_t)mapping->base, mapping->size, rights(access));
			at = mapping->base + mapping->size;
		}
		result = CUDA_SUCCESS;
	}
	pthread_rwlock_unlock(&emu.space);
	return result;
}

GPUMAX_EXPORT CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr pointer)
{
	const struct emu_mapping *mapping;

	CALL(cuMemGetAccess);
	REFUSE_IF(flags == NULL || location == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	mapping = emu_mapping_at(pointer);
	*flags = mapping != NULL ? mapping->access : 0;
	pthread_rwlock_unlock(&emu.space);
	return mapping != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

GPUMAX_EXPORT CUresult cuMemExportToShareableHandle(void *out, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
						    unsigned long long flags)
{
	struct emu_physical *physical;
	bool apart;
	int file;

	CALL(cuMemExportToShareableHandle);
	physical = physical_of(handle);
	REFUSE_IF(out == NULL || physical == NULL || flags != 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
		      physical->properties.requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_wrlock(&emu.space);
	apart = emu_physical_apart(physical);
	pthread_rwlock_unlock(&emu.space);
	REFUSE_IF(!apart, CUDA_ERROR_OUT_OF_MEMORY);
	file = fcntl(physical->file, F_DUPFD_CLOEXEC, 0);
	REFUSE_IF(file < 0, CUDA_ERROR_OPERATING_SYSTEM);
	*(int *)out = file;
	return CUDA_SUCCESS;
}

/* The name of the file says of which device it is; who made it pays for it. */
static bool described(int file, int *device, uint64_t *size)
{
	char link[64], name[128];
	ssize_t length;
	unsigned long long bytes;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	length = readlink(link, name, sizeof(name) - 1);
	if (length <= 0)
		return false;
	name[length] = '\0';
	if (sscanf(name, "/memfd:gpumax-emu:%d:%llu", device, &bytes) != 2 || *device >= emu.config.devices)
		return false;
	*size = bytes;
	return true;
}

GPUMAX_EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *given, CUmemAllocationHandleType type)
{
	struct emu_physical *physical;
	struct stat status;
	uint64_t size = 0;
	int device = -1, file = (int)(intptr_t)given;

	CALL(cuMemImportFromShareableHandle);
	REFUSE_IF(handle == NULL || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!described(file, &device, &size) || fstat(file, &status) != 0 || (uint64_t)status.st_size < size, CUDA_ERROR_INVALID_VALUE);
	file = fcntl(file, F_DUPFD_CLOEXEC, 0);
	REFUSE_IF(file < 0, CUDA_ERROR_OPERATING_SYSTEM);
	physical = emu_new(EMU_PHYSICAL, sizeof(*physical));
	if (physical == NULL) {
		close(file);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	physical->references = physical->held = 1;
	physical->device = device;
	physical->file = file;
	physical->size = size;
	physical->own_file = true;
	physical->properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	physical->properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	physical->properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	for (int i = 0; i < emu.visible_count; i++)
		if (emu.visible[i] == device)
			physical->properties.location.id = i;
	*handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
	return CUDA_SUCCESS;
}
