/*
 * What this process has of a device by NVML's own account: the only one that knows what a context takes. NVML lists
 * processes by number, which in a container may be numbers of the machine; so whoever asks looks before and after, and
 * believes a process of this number that wasn't there and then is.
 */
#include "seen.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api.h"
#include "gpumax/nvml_abi.h"
#include "share/open.h"
#include "share/search.h"

#define UNKNOWN_BYTES (~0ull) /* as NVML says it, where the system has no such figure */
#define AT_ONCE 64u

static struct {
	nvmlReturn_t (*init)(void);
	nvmlReturn_t (*by_uuid)(const char *, nvmlDevice_t *);
	nvmlReturn_t (*processes)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_v2_t *);
} nvml;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

static void open_nvml(void)
{
	void *library = open_real_library("GPUMAX_REAL_LIBNVIDIA_ML", "libnvidia-ml.so.1");

	if (!library)
		return;
	*(void **)&nvml.by_uuid = dlsym(library, "nvmlDeviceGetHandleByUUID");
	*(void **)&nvml.processes = dlsym(library, "nvmlDeviceGetComputeRunningProcesses_v3");
	if (!nvml.processes)
		*(void **)&nvml.processes = dlsym(library, "nvmlDeviceGetComputeRunningProcesses_v2");
	*(void **)&nvml.init = dlsym(library, "nvmlInit_v2");
	if (!nvml.init || !nvml.by_uuid || !nvml.processes || nvml.init() != NVML_SUCCESS)
		nvml.processes = NULL;
}

/* A slice of a device has another kind of name, under which nothing is found. */
static bool device_of(uint32_t device, nvmlDevice_t *found)
{
	char name[NVML_DEVICE_UUID_BUFFER_SIZE] = "GPU-";
	size_t at = 4;
	CUuuid uuid;

	if (REAL(cuDeviceGetUuid_v2)(&uuid, device_ordinal(device)) && REAL(cuDeviceGetUuid)(&uuid, device_ordinal(device)))
		return false;
	for (int i = 0; i < 16; i++)
		at += (size_t)snprintf(name + at, sizeof(name) - at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
				       (unsigned char)uuid.bytes[i]);
	return nvml.by_uuid(name, found) == NVML_SUCCESS;
}

static bool own_among(nvmlProcessInfo_v2_t *rows, unsigned int count, uint64_t *bytes)
{
	*bytes = 0;
	for (unsigned int i = 0; i < count; i++)
		if (rows[i].pid == (unsigned int)getpid())
			*bytes = rows[i].usedGpuMemory;
	return *bytes != UNKNOWN_BYTES;
}

bool seen_own(uint32_t device, uint64_t *bytes)
{
	nvmlReturn_t result = NVML_ERROR_INSUFFICIENT_SIZE;
	nvmlProcessInfo_v2_t *rows = NULL;
	unsigned int count = 0;
	nvmlDevice_t handle;
	bool known = false;

	pthread_once(&opened, open_nvml);
	if (!nvml.processes || !device_of(device, &handle))
		return false;
	for (int attempt = 0; attempt < 3 && result == NVML_ERROR_INSUFFICIENT_SIZE; attempt++) {
		nvmlProcessInfo_v2_t *more = realloc(rows, (count += AT_ONCE) * sizeof *rows);

		if (!more)
			break;
		rows = more;
		result = nvml.processes(handle, &count, rows);
	}
	if (result == NVML_SUCCESS)
		known = own_among(rows, count, bytes);
	free(rows);
	return known;
}
