/* Who uses devices, and how much of them. */
#include "emu-ml/api.h"
#include "emu-ml/ml.h"

#include <string.h>

static uint64_t used_now(int index)
{
	uint64_t used;

	emu_shared_lock(ml.shared);
	emu_reap(ml.shared);
	used = emu_used(ml.shared, index);
	emu_shared_unlock(ml.shared);
	return used;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	OF_DEVICE(device, memory != NULL);
	memory->total = ml.config.device[device->index].memory;
	memory->used = used_now(device->index);
	memory->free = memory->total - memory->used;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	OF_DEVICE(device, memory != NULL);
	if (memory->version != (sizeof(*memory) | 2u << 24))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	memory->total = ml.config.device[device->index].memory;
	memory->reserved = 0;
	memory->used = used_now(device->index);
	memory->free = memory->total - memory->used;
	return NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory)
{
	OF_DEVICE(device, memory != NULL);
	memory->bar1Total = memory->bar1Free = (uint64_t)256 << 20;
	memory->bar1Used = 0;
	return NVML_SUCCESS;
}

/* All who have memory of the device; as many as there is room for are written, and the count is of all. */
static nvmlReturn_t listed(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *out, nvmlProcessInfo_v1_t *older)
{
	unsigned int room, found = 0;

	OF_DEVICE(device, count != NULL);
	room = out == NULL && older == NULL ? 0 : *count;
	emu_shared_lock(ml.shared);
	emu_reap(ml.shared);
	for (int i = 0; i < EMU_SLOTS; i++) {
		const struct emu_slot *slot = &ml.shared->slot[i];

		if (slot->pid == 0 || slot->used[device->index] == 0)
			continue;
		if (found < room && out != NULL)
			out[found] = (nvmlProcessInfo_v2_t){(unsigned int)slot->pid, slot->used[device->index], 0xFFFFFFFFu, 0xFFFFFFFFu};
		else if (found < room)
			older[found] = (nvmlProcessInfo_v1_t){(unsigned int)slot->pid, slot->used[device->index]};
		found++;
	}
	emu_shared_unlock(ml.shared);
	*count = found;
	return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *out)
{
	return listed(device, count, out, NULL);
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *out)
{
	return listed(device, count, out, NULL);
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *out)
{
	return listed(device, count, NULL, out);
}

/* Nothing draws on an emulated device, and no MPS is there. */
#define NOBODY(name)                                                                                                   \
	GPUMAX_EXPORT nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *out)           \
	{                                                                                                              \
		(void)out;                                                                                             \
		OF_DEVICE(device, count != NULL);                                                                      \
		*count = 0;                                                                                            \
		return NVML_SUCCESS;                                                                                   \
	}

NOBODY(nvmlDeviceGetGraphicsRunningProcesses_v3)
NOBODY(nvmlDeviceGetGraphicsRunningProcesses_v2)
NOBODY(nvmlDeviceGetMPSComputeRunningProcesses_v3)
NOBODY(nvmlDeviceGetMPSComputeRunningProcesses_v2)

struct sample {
	uint64_t when, busy;
};

static uint64_t clock_now(void)
{
	return ml.config.virtual_clock ? __atomic_load_n(&ml.shared->now, __ATOMIC_ACQUIRE) : emu_monotonic();
}

static uint64_t clock_begin(void)
{
	return ml.config.virtual_clock ? 0 : ml.shared->began;
}

static unsigned int percent(struct sample *last, struct sample now)
{
	uint64_t passed = now.when - last->when, busy = now.busy - last->busy;
	unsigned int result = passed != 0 ? (unsigned int)(busy * 100 / passed) : 0;

	*last = now;
	return result > 100 ? 100 : result;
}

/* Since this process asked the last time; the first time since the machine began. */
GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *use)
{
	static struct sample last[EMU_DEVICES];
	struct sample now;

	OF_DEVICE(device, use != NULL);
	emu_shared_lock(ml.shared);
	now = (struct sample){clock_now(), ml.shared->device[device->index].busy_ns};
	emu_shared_unlock(ml.shared);
	pthread_mutex_lock(&ml.lock);
	if (last[device->index].when == 0)
		last[device->index].when = clock_begin();
	use->gpu = percent(&last[device->index], now);
	use->memory = 0;
	pthread_mutex_unlock(&ml.lock);
	return NVML_SUCCESS;
}

/* How much of the time each process had the device, since the machine began or the time that is given (in microseconds). */
GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *out, unsigned int *count,
							   unsigned long long since)
{
	static struct sample last[EMU_DEVICES][EMU_SLOTS];
	static int32_t pids[EMU_SLOTS];
	unsigned int found = 0, room;

	(void)since;
	OF_DEVICE(device, count != NULL);
	room = out != NULL ? *count : 0;
	pthread_mutex_lock(&ml.lock);
	emu_shared_lock(ml.shared);
	emu_reap(ml.shared);
	for (int i = 0; i < EMU_SLOTS; i++) {
		const struct emu_slot *slot = &ml.shared->slot[i];
		struct sample *before = &last[device->index][i];

		if (slot->pid == 0 || slot->used[device->index] == 0)
			continue;
		if (pids[i] != slot->pid || before->when == 0)
			*before = (struct sample){clock_begin(), 0};
		pids[i] = slot->pid;
		if (found < room)
			out[found] = (nvmlProcessUtilizationSample_t){.pid = (unsigned int)slot->pid, .timeStamp = clock_now() / 1000,
								      .smUtil = percent(before, (struct sample){clock_now(), slot->busy_ns[device->index]})};
		found++;
	}
	emu_shared_unlock(ml.shared);
	pthread_mutex_unlock(&ml.lock);
	*count = found;
	return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
