/* For tests and measurements: what the machine does from now on, for all processes on it, and what it has done. */
#include "emu/emu.h"

#include <string.h>

GPUMAX_EXPORT CUresult gpumax_emu_set(int device, const char *what, double value);
GPUMAX_EXPORT CUresult gpumax_emu_advance(unsigned long long nanoseconds);
GPUMAX_EXPORT unsigned long long gpumax_emu_busy(int pid, int device);

/* "slower": copies take so many times as long; "broken": every call on the device gives this CUresult (0: whole again);
 * "ecc": so many errors of its memory couldn't be corrected. */
CUresult gpumax_emu_set(int device, const char *what, double value)
{
	struct emu_shared_device *shared;

	REFUSE_IF(emu.init != CUDA_SUCCESS, CUDA_ERROR_NOT_INITIALIZED);
	REFUSE_IF(what == NULL || device < 0 || device >= emu.config.devices, CUDA_ERROR_INVALID_VALUE);
	shared = &emu.shared->device[device];
	if (strcmp(what, "slower") == 0 && value > 0)
		shared->slower = value;
	else if (strcmp(what, "broken") == 0 && value >= 0 && value <= 999)
		__atomic_store_n(&shared->broken, (int32_t)value, __ATOMIC_RELAXED);
	else if (strcmp(what, "ecc") == 0 && value >= 0 && value <= 1e9)
		__atomic_store_n(&shared->ecc, (uint32_t)value, __ATOMIC_RELAXED);
	else
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

/* Moves the virtual clock. */
CUresult gpumax_emu_advance(unsigned long long nanoseconds)
{
	REFUSE_IF(emu.init != CUDA_SUCCESS || !emu.config.virtual_clock, CUDA_ERROR_NOT_SUPPORTED);
	emu_wait_until(emu_now() + nanoseconds);
	return CUDA_SUCCESS;
}

/* For how many nanoseconds the device has computed for a process up to now; 0 for one that isn't there. */
unsigned long long gpumax_emu_busy(int pid, int device)
{
	uint64_t busy = 0, now = emu_now();

	if (emu.init != CUDA_SUCCESS || device < 0 || device >= emu.config.devices)
		return 0;
	emu_shared_lock(emu.shared);
	for (int i = 0; i < EMU_SLOTS; i++) {
		const struct emu_turn *turn = &emu.shared->device[device].turn[EMU_COMPUTE];

		if (emu.shared->slot[i].pid != pid)
			continue;
		busy = emu.shared->slot[i].busy_ns[device];
		if (turn->owner == i + 1 && turn->free_at > now) /* what is under way counts as far as it has come */
			busy -= turn->free_at - now < busy ? turn->free_at - now : busy;
	}
	emu_shared_unlock(emu.shared);
	return busy;
}
