/* Devices: what they are. */
#include "emu/emu.h"

#include <stdio.h>
#include <string.h>

bool emu_ordinal(CUdevice device)
{
	return device >= 0 && device < emu.visible_count;
}

static const struct emu_model *model_of(CUdevice device)
{
	return &emu.config.device[emu.visible[device]];
}

GPUMAX_EXPORT CUresult cuDeviceGetCount(int *count)
{
	CALL(cuDeviceGetCount);
	REFUSE_IF(count == NULL, CUDA_ERROR_INVALID_VALUE);
	*count = emu.visible_count;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	CALL(cuDeviceGet);
	REFUSE_IF(device == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(ordinal), CUDA_ERROR_INVALID_DEVICE);
	*device = ordinal;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
	CALL(cuDeviceGetName);
	REFUSE_IF(name == NULL || length <= 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	snprintf(name, (size_t)length, "%s", model_of(device)->name);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	CALL(cuDeviceGetUuid_v2);
	REFUSE_IF(uuid == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	memcpy(uuid->bytes, model_of(device)->uuid, sizeof(uuid->bytes));
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
	return cuDeviceGetUuid_v2(uuid, device);
}

GPUMAX_EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	CALL(cuDeviceTotalMem_v2);
	REFUSE_IF(bytes == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	*bytes = model_of(device)->memory;
	return CUDA_SUCCESS;
}

struct attribute {
	int number, value;
};

/* What is the same for all models; those that aren't here are 0, as with features that a device hasn't. */
static const struct attribute constants[] = {
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
    {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
    {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_PITCH, 2147483647},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1410000},
    {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
    {CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, CU_COMPUTEMODE_DEFAULT},
    {CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT, 512},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
    {CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 1},
    {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1215000},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120},
    {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 41943040},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
    {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32},
    {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 167936},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
    {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
    {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 166912},
    {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
    {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS, 1},
    {CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, 0},
};

GPUMAX_EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	CALL(cuDeviceGetAttribute);
	REFUSE_IF(value == NULL || (int)attribute < 1 || (int)attribute > 400, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	*value = 0;
	if (attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
		*value = model_of(device)->sms;
	else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
		*value = model_of(device)->major;
	else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
		*value = model_of(device)->minor;
	else if (attribute == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)
		*value = emu.visible[device] + 1;
	else if (attribute == CU_DEVICE_ATTRIBUTE_NUMA_ID)
		*value = -1;
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (constants[i].number == (int)attribute)
			*value = constants[i].value;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
	CALL(cuDeviceComputeCapability);
	REFUSE_IF(major == NULL || minor == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	*major = model_of(device)->major;
	*minor = model_of(device)->minor;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGetPCIBusId(char *text, int length, CUdevice device)
{
	CALL(cuDeviceGetPCIBusId);
	REFUSE_IF(text == NULL || length < 13, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	snprintf(text, (size_t)length, "0000:%02X:00.0", (unsigned)(emu.visible[device] + 1));
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *text)
{
	unsigned int domain, bus;

	CALL(cuDeviceGetByPCIBusId);
	REFUSE_IF(device == NULL || text == NULL || sscanf(text, "%x:%x:", &domain, &bus) != 2, CUDA_ERROR_INVALID_VALUE);
	for (int i = 0; i < emu.visible_count; i++)
		if (emu.visible[i] + 1 == (int)bus) {
			*device = i;
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_INVALID_DEVICE;
}

GPUMAX_EXPORT CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
	CALL(cuDeviceCanAccessPeer);
	REFUSE_IF(can == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device) || !emu_ordinal(peer), CUDA_ERROR_INVALID_DEVICE);
	*can = device != peer;
	return CUDA_SUCCESS;
}
