/*
 * Whole processes taken off their devices, from outside:
 *
 *     RUNNING -lock-> LOCKED -checkpoint-> CHECKPOINTED -restore-> LOCKED -unlock-> RUNNING
 *
 * A locked process waits with its next call. Its memory isn't moved here, only counted away and back: it is host memory
 * anyway, and nobody can look at it meanwhile.
 */
#include "emu/emu.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* With the lock held, or -1. */
static int slot_of(int pid)
{
	emu_reap(emu.shared);
	for (int i = 0; i < EMU_SLOTS; i++)
		if (emu.shared->slot[i].pid == pid && pid > 0)
			return i;
	return -1;
}

static void turned(struct emu_slot *slot, CUprocessState state)
{
	__atomic_store_n(&slot->process_state, (int32_t)state, __ATOMIC_RELEASE);
	emu_futex_wake(&slot->changed);
}

/* From one state to another; `also` is done between, with the lock held. */
static CUresult moved(int pid, CUprocessState from, CUprocessState to, CUresult (*also)(struct emu_slot *))
{
	CUresult result = CUDA_SUCCESS;
	int found;

	emu_shared_lock(emu.shared);
	found = slot_of(pid);
	if (found < 0)
		result = CUDA_ERROR_INVALID_VALUE;
	else if (emu.shared->slot[found].process_state != (int32_t)from)
		result = CUDA_ERROR_ILLEGAL_STATE;
	else if (also != NULL)
		result = also(&emu.shared->slot[found]);
	if (result == CUDA_SUCCESS)
		turned(&emu.shared->slot[found], to);
	emu_shared_unlock(emu.shared);
	return result;
}

/* A driver has a thread in each process that does all of this: while the process is stopped, it doesn't. */
static bool stopped(int pid)
{
	char path[32], text[128];
	const char *state;
	ssize_t got;
	int file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	got = file >= 0 ? read(file, text, sizeof(text) - 1) : 0;
	if (file >= 0)
		close(file);
	text[got > 0 ? got : 0] = '\0';
	state = strrchr(text, ')');
	return state != NULL && (state[2] == 'T' || state[2] == 't');
}

static void moment(void)
{
	uint32_t never = 0;

	emu_futex_wait(&never, 0, 1000000);
}

static void wait_while_stopped(int pid)
{
	while (stopped(pid))
		moment();
}

GPUMAX_EXPORT CUresult cuCheckpointProcessGetState(int pid, CUprocessState *state)
{
	int found;

	CALL(cuCheckpointProcessGetState);
	REFUSE_IF(state == NULL, CUDA_ERROR_INVALID_VALUE);
	wait_while_stopped(pid);
	emu_shared_lock(emu.shared);
	found = slot_of(pid);
	if (found >= 0)
		*state = (CUprocessState)emu.shared->slot[found].process_state;
	emu_shared_unlock(emu.shared);
	return found >= 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

GPUMAX_EXPORT CUresult cuCheckpointProcessGetRestoreThreadId(int pid, int *thread)
{
	CUprocessState state;
	CUresult result = cuCheckpointProcessGetState(pid, &state);

	REFUSE_IF(thread == NULL, CUDA_ERROR_INVALID_VALUE);
	if (result == CUDA_SUCCESS)
		*thread = pid;
	return result;
}

/* What was given to the device before the lock is done first. */
static bool idle(int pid)
{
	int found;
	bool is;

	emu_shared_lock(emu.shared);
	found = slot_of(pid);
	is = found < 0 || __atomic_load_n(&emu.shared->slot[found].running, __ATOMIC_ACQUIRE) == 0;
	emu_shared_unlock(emu.shared);
	return is;
}

GPUMAX_EXPORT CUresult cuCheckpointProcessLock(int pid, CUcheckpointLockArgs *args)
{
	uint64_t until = emu_monotonic() + (args != NULL ? (uint64_t)args->timeoutMs * 1000000 : 0);
	bool limited = args != NULL && args->timeoutMs != 0;
	CUresult result;

	CALL(cuCheckpointProcessLock);
	REFUSE_IF(pid == emu.slot->pid, CUDA_ERROR_INVALID_VALUE);
	while (stopped(pid)) {
		if (limited && emu_monotonic() > until)
			return CUDA_ERROR_NOT_READY;
		moment();
	}
	result = moved(pid, CU_PROCESS_STATE_RUNNING, CU_PROCESS_STATE_LOCKED, NULL);
	REFUSE_IF(result != CUDA_SUCCESS, result);
	while (!idle(pid)) {
		if (limited && emu_monotonic() > until) {
			moved(pid, CU_PROCESS_STATE_LOCKED, CU_PROCESS_STATE_RUNNING, NULL);
			return CUDA_ERROR_NOT_READY;
		}
		moment();
	}
	return CUDA_SUCCESS;
}

static CUresult saved(struct emu_slot *slot)
{
	if (slot->managed > 0 || slot->ipc > 0 || (slot->blockers & EMU_BLOCKS_IPC) != 0)
		return CUDA_ERROR_NOT_SUPPORTED;
	for (int d = 0; d < EMU_DEVICES; d++) {
		slot->saved[d] = slot->used[d];
		slot->used[d] = 0;
	}
	return CUDA_SUCCESS;
}

static CUresult restored(struct emu_slot *slot)
{
	for (int d = 0; d < emu.config.devices; d++)
		if (emu_used(emu.shared, d) + slot->saved[d] > emu.config.device[d].memory)
			return CUDA_ERROR_OUT_OF_MEMORY;
	for (int d = 0; d < EMU_DEVICES; d++) {
		slot->used[d] = slot->saved[d];
		slot->saved[d] = 0;
	}
	return CUDA_SUCCESS;
}

/* As long as the link needs for what the process has on each device, one after the other; both ways it is there then. */
static void take_time(int pid, bool out)
{
	double ns = 0;
	int found;

	emu_shared_lock(emu.shared);
	found = slot_of(pid);
	for (int d = 0; found >= 0 && d < emu.config.devices; d++) {
		const struct emu_slot *slot = &emu.shared->slot[found];

		ns += (double)slot->used[d] / (out ? emu.config.device[d].d2h : emu.config.device[d].h2d);
	}
	emu_shared_unlock(emu.shared);
	emu_wait_until(emu_now() + (uint64_t)ns);
}

GPUMAX_EXPORT CUresult cuCheckpointProcessCheckpoint(int pid, CUcheckpointCheckpointArgs *args)
{
	CUprocessState state;

	CALL(cuCheckpointProcessCheckpoint);
	(void)args;
	wait_while_stopped(pid);
	if (cuCheckpointProcessGetState(pid, &state) == CUDA_SUCCESS && state == CU_PROCESS_STATE_LOCKED)
		take_time(pid, true);
	return moved(pid, CU_PROCESS_STATE_LOCKED, CU_PROCESS_STATE_CHECKPOINTED, saved);
}

GPUMAX_EXPORT CUresult cuCheckpointProcessRestore(int pid, CUcheckpointRestoreArgs *args)
{
	CUresult result;

	CALL(cuCheckpointProcessRestore);
	(void)args;
	wait_while_stopped(pid);
	result = moved(pid, CU_PROCESS_STATE_CHECKPOINTED, CU_PROCESS_STATE_LOCKED, restored);
	if (result == CUDA_SUCCESS)
		take_time(pid, false);
	return result;
}

GPUMAX_EXPORT CUresult cuCheckpointProcessUnlock(int pid, CUcheckpointUnlockArgs *args)
{
	CALL(cuCheckpointProcessUnlock);
	(void)args;
	wait_while_stopped(pid);
	return moved(pid, CU_PROCESS_STATE_LOCKED, CU_PROCESS_STATE_RUNNING, NULL);
}
