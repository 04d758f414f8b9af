/* Processes: those of the own workload. Lists are asked for as a whole, cut, and handed on as the caller asked. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share/share.h"
#include "twin.h"

typedef nvmlReturn_t (*list)(nvmlDevice_t, unsigned int *, void *);

static bool is_own(const char *row)
{
	unsigned int pid;

	memcpy(&pid, row, sizeof pid);
	return pid == (unsigned int)getpid() || share_has_process(pid);
}

/* Every kind of row begins with the process's id. The number of rows that stay, at the front. */
static unsigned int keep_own(char *rows, unsigned int count, size_t size)
{
	unsigned int kept = 0;

	look_begin();
	for (unsigned int i = 0; i < count; i++)
		if (is_own(rows + i * size))
			memmove(rows + kept++ * size, rows + i * size, size);
	look_end();
	return kept;
}

static nvmlReturn_t whole(list real, nvmlDevice_t device, char **rows, unsigned int *count, size_t size)
{
	nvmlReturn_t result = NVML_ERROR_INSUFFICIENT_SIZE;

	*rows = NULL;
	*count = 32;
	for (int attempt = 0; attempt < 5 && result == NVML_ERROR_INSUFFICIENT_SIZE; attempt++) {
		char *more = realloc(*rows, (*count += 32) * size);

		if (!more)
			return NVML_ERROR_MEMORY; /* what there is the caller frees */
		*rows = more;
		result = real(device, count, *rows);
	}
	return result;
}

static nvmlReturn_t own(list real, nvmlDevice_t device, unsigned int *room, void *into, size_t size)
{
	unsigned int count;
	nvmlReturn_t result;
	uint64_t limit;
	char *rows;

	if (!room || !under_limit(&limit))
		return real(device, room, into);
	result = whole(real, device, &rows, &count, size);
	if (result == NVML_SUCCESS) {
		count = keep_own(rows, count, size);
		if (count > *room || (count && !into))
			result = NVML_ERROR_INSUFFICIENT_SIZE;
		else if (count)
			memcpy(into, rows, count * size);
		*room = count;
	}
	free(rows);
	return result;
}

#define OWN(name, row)                                                                                                 \
	nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, row *rows);                                        \
	GPUMAX_EXPORT nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, row *rows)                           \
	{                                                                                                              \
		return own(REAL_AS(list, name), device, count, rows, sizeof(row));                                     \
	}

OWN(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t)
OWN(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
OWN(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_v2_t)
OWN(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
OWN(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
OWN(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_v2_t)
OWN(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
OWN(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
OWN(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_v2_t)

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
					     unsigned int *count, unsigned long long since);

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
							   unsigned int *count, unsigned long long since)
{
	nvmlReturn_t result = REAL_AS(__typeof__(&nvmlDeviceGetProcessUtilization), nvmlDeviceGetProcessUtilization)(
		device, samples, count, since);
	uint64_t limit;

	if (result == NVML_SUCCESS && samples && under_limit(&limit))
		*count = keep_own((char *)samples, *count, sizeof *samples);
	return result;
}
