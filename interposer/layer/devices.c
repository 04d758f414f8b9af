/* Which device a call concerns, and what the share calls it: devices are known by UUID, since each process numbers them anew. */
#include <string.h>

#include "api.h"
#include "layer.h"

static pthread_mutex_t naming = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint32_t numbers[MOST_DEVICES]; /* the share's number of a device, plus one */
static _Atomic uint32_t ordinals[SHARE_DEVICES];

/* Whoever expects more than there is should know, once. */
static void compare_limit(CUdevice ordinal)
{
	uint64_t limit = settings()->share.limit;
	size_t total = 0;

	if (limit && REAL(cuDeviceTotalMem_v2)(&total, ordinal) == CUDA_SUCCESS && limit > total)
		say_once(CAUSE_BIG, "GPUMAX_LIMIT is %llu bytes, and device %d has %zu: the limit limits nothing there",
			 (unsigned long long)limit, ordinal, total);
}

/* Joins the share with the first device; a device beyond those that a share can have is not accounted. */
static uint32_t find_number(CUdevice ordinal)
{
	CUuuid uuid;
	int number;

	if (!share_join(&settings()->share))
		return 0;
	if (REAL(cuDeviceGetUuid_v2)(&uuid, ordinal) && REAL(cuDeviceGetUuid)(&uuid, ordinal))
		return 0;
	number = share_device((const unsigned char *)uuid.bytes, true);
	if (number < 0)
		return 0;
	atomic_store(&ordinals[number], (uint32_t)ordinal);
	compare_limit(ordinal);
	return (uint32_t)number + 1;
}

bool device_index(CUdevice ordinal, uint32_t *device)
{
	uint32_t number;

	if (ordinal < 0 || ordinal >= MOST_DEVICES)
		return false;
	number = atomic_load_explicit(&numbers[ordinal], memory_order_acquire);
	if (!number) {
		pthread_mutex_lock(&naming);
		number = find_number(ordinal);
		atomic_store_explicit(&numbers[ordinal], number, memory_order_release);
		pthread_mutex_unlock(&naming);
	}
	*device = number - 1;
	return number != 0;
}

CUdevice device_ordinal(uint32_t device)
{
	return (CUdevice)atomic_load(&ordinals[device]);
}

bool device_current(uint32_t *device)
{
	CUdevice ordinal;

	return REAL(cuCtxGetDevice)(&ordinal) == CUDA_SUCCESS && device_index(ordinal, device);
}

CUcontext context_current(void)
{
	CUcontext context = NULL;

	return REAL(cuCtxGetCurrent)(&context) == CUDA_SUCCESS ? context : NULL;
}

/* A stream may belong to another context than the current one; the default streams never do. */
bool device_of_stream(CUstream stream, bool per_thread, uint32_t *device)
{
	CUcontext context, unused;
	bool found = false;

	if (!stream || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD)
		return device_current(device);
	if (per_thread ? REAL(cuStreamGetCtx_ptsz)(stream, &context) : REAL(cuStreamGetCtx)(stream, &context))
		return device_current(device);
	if (context == context_current())
		return device_current(device);
	if (REAL(cuCtxPushCurrent_v2)(context) == CUDA_SUCCESS) {
		found = device_current(device);
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	return found;
}

void devices_after_fork(void)
{
	pthread_mutex_init(&naming, NULL);
	memset(numbers, 0, sizeof numbers);
}
