/* What devices are. */
#include "emu-ml/api.h"
#include "emu-ml/ml.h"

#include <stdio.h>
#include <string.h>

static struct nvmlDevice_st devices[EMU_DEVICES];

static const struct emu_model *model_of(nvmlDevice_t device)
{
	return &ml.config.device[device->index];
}

nvmlReturn_t ml_device(nvmlDevice_t device)
{
	STARTED();
	if (device < devices || device >= devices + ml.config.devices)
		return NVML_ERROR_INVALID_ARGUMENT;
	return __atomic_load_n(&ml.shared->device[device->index].broken, __ATOMIC_RELAXED) != 0 ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
	STARTED();
	if (count == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = (unsigned int)ml.config.devices;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int *count)
{
	return nvmlDeviceGetCount_v2(count);
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	STARTED();
	if (device == NULL || index >= (unsigned int)ml.config.devices)
		return NVML_ERROR_INVALID_ARGUMENT;
	devices[index].index = (int)index;
	*device = &devices[index];
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static void uuid_of(int index, char *out)
{
	const unsigned char *u = ml.config.device[index].uuid;

	snprintf(out, 41, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6],
		 u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	char own[48];

	STARTED();
	if (uuid == NULL || device == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (int i = 0; i < ml.config.devices; i++) {
		uuid_of(i, own);
		if (strcmp(own, uuid) == 0)
			return nvmlDeviceGetHandleByIndex_v2((unsigned int)i, device);
	}
	return NVML_ERROR_NOT_FOUND;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *device)
{
	unsigned int domain, bus;

	STARTED();
	if (id == NULL || device == NULL || sscanf(id, "%x:%x:", &domain, &bus) != 2)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (bus == 0 || bus > (unsigned int)ml.config.devices)
		return NVML_ERROR_NOT_FOUND;
	return nvmlDeviceGetHandleByIndex_v2(bus - 1, device);
}

static nvmlReturn_t text(char *out, unsigned int room, const char *value)
{
	if (strlen(value) >= room)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(out, value, strlen(value) + 1);
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	OF_DEVICE(device, name != NULL);
	return text(name, length, model_of(device)->name);
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	char own[48];

	OF_DEVICE(device, uuid != NULL);
	uuid_of(device->index, own);
	return text(uuid, length, own);
}

/* Plain numbers, a function each. */
#define NUMBER(name, type, value)                                                                                      \
	GPUMAX_EXPORT nvmlReturn_t name(nvmlDevice_t device, type *out)                                                \
	{                                                                                                              \
		OF_DEVICE(device, out != NULL);                                                                        \
		*out = (type)(value);                                                                                  \
		return NVML_SUCCESS;                                                                                   \
	}

NUMBER(nvmlDeviceGetIndex, unsigned int, device->index)
NUMBER(nvmlDeviceGetMinorNumber, unsigned int, device->index)
NUMBER(nvmlDeviceGetPowerUsage, unsigned int, 50000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, 300000)
NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned int, 300000)
NUMBER(nvmlDeviceGetNumGpuCores, unsigned int, model_of(device)->sms * 64)
NUMBER(nvmlDeviceGetPersistenceMode, unsigned int, 1)
NUMBER(nvmlDeviceGetComputeMode, unsigned int, 0)

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *degrees)
{
	OF_DEVICE(device, degrees != NULL && sensor == 0);
	*degrees = 40;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *now, unsigned int *next)
{
	OF_DEVICE(device, now != NULL && next != NULL);
	*now = *next = 0;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	OF_DEVICE(device, major != NULL && minor != NULL);
	*major = model_of(device)->major;
	*minor = model_of(device)->minor;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	OF_DEVICE(device, pci != NULL);
	memset(pci, 0, sizeof(*pci));
	pci->bus = (unsigned int)device->index + 1;
	snprintf(pci->busId, sizeof(pci->busId), "00000000:%02X:00.0", pci->bus & 0xFFu);
	snprintf(pci->busIdLegacy, sizeof(pci->busIdLegacy), "0000:%02X:00.0", pci->bus & 0xFFu);
	return NVML_SUCCESS;
}
