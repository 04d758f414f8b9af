/* cuInit, and what is true before it. */
#include "emu/emu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct emu emu = {.init = CUDA_ERROR_NOT_INITIALIZED};
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static bool configured, usable;

/* Read once, and told once. */
static bool configure(void)
{
	char said[1024];

	if (configured)
		return usable;
	configured = true;
	usable = emu_config_read(getenv("GPUMAX_EMU"), &emu.config, said, sizeof(said)) == 0;
	if (!usable) {
		emu.config.devices = 0;
		emu.config.faults = 0;
		emu_say("GPUMAX_EMU: %s. There are no devices.", said);
	}
	return usable;
}

static int by_uuid(const char *text, size_t length)
{
	int found = -1;

	for (int i = 0; i < emu.config.devices; i++) {
		const unsigned char *u = emu.config.device[i].uuid;
		char name[48];

		snprintf(name, sizeof(name), "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
			 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
		if (length < 5 || strncasecmp(name, text, length) != 0)
			continue;
		if (found >= 0)
			return -1;
		found = i;
	}
	return found;
}

/* Numbers or beginnings of UUIDs; the first that is no device ends the list, as with the driver. */
static void see(void)
{
	const char *at = getenv("CUDA_VISIBLE_DEVICES");

	emu.visible_count = 0;
	for (int i = 0; at == NULL && i < emu.config.devices; i++)
		emu.visible[emu.visible_count++] = i;
	while (at != NULL && *at != '\0' && emu.visible_count < EMU_DEVICES) {
		size_t length = strcspn(at, ",");
		char *end;
		long number = strtol(at, &end, 10);
		int device = (end != at && (*end == ',' || *end == '\0')) ? (int)number : by_uuid(at, length);

		if (device < 0 || device >= emu.config.devices)
			return;
		for (int i = 0; i < emu.visible_count; i++)
			if (emu.visible[i] == device) {
				emu.visible_count = 0;
				return;
			}
		emu.visible[emu.visible_count++] = device;
		at += length + (at[length] == ',');
	}
}

static void in_child(void)
{
	emu_shared_forget();
}

__attribute__((destructor)) static void leave(void)
{
	if (emu.pid == getpid())
		emu_shared_leave(&emu.config, emu.me);
}

static void prepare(void)
{
	pthread_mutexattr_t recursive;
	pthread_rwlockattr_t writers;
	pthread_condattr_t clock;

	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&emu.lock, &recursive);
	pthread_mutex_init(&emu.work, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&emu.done, &clock);
	pthread_rwlockattr_init(&writers);
	pthread_rwlockattr_setkind_np(&writers, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&emu.space, &writers);
}

static CUresult begin(void)
{
	char said[512];

	if (!configure())
		return CUDA_ERROR_NO_DEVICE;
	see();
	if (emu.visible_count == 0)
		return CUDA_ERROR_NO_DEVICE;
	emu.shared = emu_shared_open(&emu.config, &emu.me, said, sizeof(said));
	if (emu.shared == NULL) {
		emu_say("%s", said);
		return CUDA_ERROR_SYSTEM_NOT_READY;
	}
	if (emu.me < 0)
		return CUDA_ERROR_DEVICE_UNAVAILABLE;
	emu.slot = &emu.shared->slot[emu.me];
	prepare();
	pthread_atfork(NULL, NULL, in_child);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuInit(unsigned int flags)
{
	CALL_NAMED(cuInit);
	static struct emu_call call = {.name = "cuInit"};
	CUresult result;

	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&starting);
	configure();
	result = emu_enter_early(&call);
	if (result == CUDA_SUCCESS && emu.pid != 0 && emu.pid != getpid())
		result = CUDA_ERROR_NOT_INITIALIZED;
	if (result == CUDA_SUCCESS && emu.pid == 0) {
		emu.init = begin();
		if (emu.init == CUDA_SUCCESS)
			emu.pid = getpid();
	}
	if (result == CUDA_SUCCESS)
		result = emu.init;
	pthread_mutex_unlock(&starting);
	return result;
}

GPUMAX_EXPORT CUresult cuDriverGetVersion(int *version)
{
	REFUSE_IF(version == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&starting);
	configure();
	*version = emu.config.driver_version;
	pthread_mutex_unlock(&starting);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuGetErrorName(CUresult result, const char **name)
{
	REFUSE_IF(name == NULL, CUDA_ERROR_INVALID_VALUE);
	*name = emu_result_name((int)result);
	return *name != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

GPUMAX_EXPORT CUresult cuGetErrorString(CUresult result, const char **text)
{
	REFUSE_IF(text == NULL, CUDA_ERROR_INVALID_VALUE);
	*text = emu_result_text((int)result);
	return *text != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
