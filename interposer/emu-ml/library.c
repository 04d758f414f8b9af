/* NVML of an emulated machine: start, end, versions, errors. */
#include "emu-ml/ml.h"

#include "emu-ml/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ml ml = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Looking at a machine takes no slot of it. A child begins anew: what it holds of the file is its own. */
static nvmlReturn_t begin(void)
{
	char said[1024];
	ssize_t told;

	if (emu_config_read(getenv("GPUMAX_EMU"), &ml.config, said, sizeof(said)) == 0) {
		ml.shared = emu_shared_open(&ml.config, NULL, said, sizeof(said));
		if (ml.shared != NULL)
			return NVML_SUCCESS;
	}
	told = write(STDERR_FILENO, "gpumax: emulated NVML: GPUMAX_EMU: ", 35);
	told += write(STDERR_FILENO, said, strlen(said));
	told += write(STDERR_FILENO, "\n", 1);
	return told > 0 ? NVML_ERROR_DRIVER_NOT_LOADED : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t ml_started(void)
{
	return __atomic_load_n(&ml.starts, __ATOMIC_ACQUIRE) > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

GPUMAX_EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	nvmlReturn_t result = NVML_SUCCESS;

	if (flags > 7)
		return NVML_ERROR_INVALID_ARGUMENT;
	pthread_mutex_lock(&ml.lock);
	if (ml.shared == NULL)
		result = begin();
	if (result == NVML_SUCCESS)
		__atomic_add_fetch(&ml.starts, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ml.lock);
	return result;
}

GPUMAX_EXPORT nvmlReturn_t nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

GPUMAX_EXPORT nvmlReturn_t nvmlInit(void)
{
	return nvmlInitWithFlags(0);
}

GPUMAX_EXPORT nvmlReturn_t nvmlShutdown(void)
{
	STARTED();
	__atomic_sub_fetch(&ml.starts, 1, __ATOMIC_RELEASE);
	return NVML_SUCCESS;
}

GPUMAX_EXPORT const char *nvmlErrorString(nvmlReturn_t result)
{
	switch (result) {
	case NVML_SUCCESS:
		return "Success";
	case NVML_ERROR_UNINITIALIZED:
		return "Uninitialized";
	case NVML_ERROR_INVALID_ARGUMENT:
		return "Invalid Argument";
	case NVML_ERROR_NOT_SUPPORTED:
		return "Not Supported";
	case NVML_ERROR_NOT_FOUND:
		return "Not Found";
	case NVML_ERROR_INSUFFICIENT_SIZE:
		return "Insufficient Size";
	case NVML_ERROR_DRIVER_NOT_LOADED:
		return "Driver Not Loaded";
	case NVML_ERROR_FUNCTION_NOT_FOUND:
		return "Function Not Found";
	case NVML_ERROR_GPU_IS_LOST:
		return "GPU is lost";
	case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
		return "Argument version mismatch";
	default:
		return "Unknown Error";
	}
}

static nvmlReturn_t said(char *out, unsigned int room, const char *text)
{
	if (out == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (strlen(text) >= room)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(out, text, strlen(text) + 1);
	return NVML_SUCCESS;
}

/* The driver's own version goes with the CUDA version that it has. */
GPUMAX_EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	STARTED();
	return said(version, length, ml.config.driver_version >= 13000 ? "580.00.00" : ml.config.driver_version >= 12080 ? "570.00.00" : "535.00.00");
}

GPUMAX_EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
	char text[32];

	STARTED();
	snprintf(text, sizeof(text), "%d.0", ml.config.driver_version / 1000);
	return said(version, length, text);
}

GPUMAX_EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	STARTED();
	if (version == NULL)
		return NVML_ERROR_INVALID_ARGUMENT;
	*version = ml.config.driver_version;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
	return nvmlSystemGetCudaDriverVersion_v2(version);
}

GPUMAX_EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	char path[64], text[64] = "";
	FILE *file;
	size_t got;

	STARTED();
	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return NVML_ERROR_NOT_FOUND;
	got = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	if (got > 0)
		text[got - 1] = '\0';
	return said(name, length, text);
}
