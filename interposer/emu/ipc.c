/* Memory of one process in another, by a handle of 64 bytes. */
#include "emu/emu.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct ticket {
	uint64_t magic;
	int32_t pid, file, device;
	uint64_t offset, size;
};
static const uint64_t MAGIC = 0x67706d6178697063;
_Static_assert(sizeof(struct ticket) <= CU_IPC_HANDLE_SIZE, "fits into a handle");

static void count(int change)
{
	emu_shared_lock(emu.shared);
	emu.slot->ipc += (uint32_t)change;
	emu_shared_unlock(emu.shared);
}

GPUMAX_EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr pointer)
{
	struct ticket ticket = {.magic = MAGIC, .pid = (int32_t)getpid()};
	const struct emu_range *range;
	bool fine;

	CALL_IN_CONTEXT(cuIpcGetMemHandle, context);
	(void)context;
	REFUSE_IF(handle == NULL, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(pointer);
	fine = range != NULL && range->kind == EMU_PLAIN;
	if (fine) {
		ticket.file = range->physical->file;
		ticket.device = range->device;
		ticket.offset = range->physical->offset;
		ticket.size = range->size;
	}
	pthread_rwlock_unlock(&emu.space);
	REFUSE_IF(!fine, CUDA_ERROR_INVALID_VALUE);
	memset(handle, 0, sizeof(*handle));
	memcpy(handle, &ticket, sizeof(ticket));
	__atomic_or_fetch(&emu.slot->blockers, EMU_BLOCKS_IPC, __ATOMIC_RELAXED);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags)
{
	struct emu_physical *physical;
	struct ticket ticket;
	char path[64];
	void *at;
	int file;

	CALL_IN_CONTEXT(cuIpcOpenMemHandle_v2, context);
	memcpy(&ticket, &handle, sizeof(ticket));
	REFUSE_IF(pointer == NULL || flags > 1 || ticket.magic != MAGIC, CUDA_ERROR_INVALID_VALUE);
	/* A process can't open what is its own. */
	REFUSE_IF(ticket.pid == (int32_t)getpid(), CUDA_ERROR_INVALID_CONTEXT);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", ticket.pid, ticket.file);
	file = open(path, O_RDWR | O_CLOEXEC);
	REFUSE_IF(file < 0, CUDA_ERROR_INVALID_VALUE);
	physical = emu_new(EMU_PHYSICAL, sizeof(*physical));
	if (physical == NULL) {
		close(file);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*physical = (struct emu_physical){.references = 1, .device = ticket.device, .file = file, .offset = ticket.offset,
					  .size = ticket.size, .own_file = true};
	at = emu_map(physical, 0, ticket.size, 4096);
	if (at == NULL) {
		emu_physical_release(physical);
		return CUDA_ERROR_MAP_FAILED;
	}
	pthread_rwlock_wrlock(&emu.space);
	emu_range_add((struct emu_range){.base = (uintptr_t)at, .size = ticket.size, .kind = EMU_IPC, .device = ticket.device,
					 .context = context, .physical = physical, .wanted = ticket.size});
	pthread_rwlock_unlock(&emu.space);
	count(1);
	*pointer = (uintptr_t)at;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuIpcOpenMemHandle(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags)
{
	return cuIpcOpenMemHandle_v2(pointer, handle, flags);
}

GPUMAX_EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr pointer)
{
	const struct emu_range *range;
	CUresult waited;
	bool fine;

	CALL_IN_CONTEXT(cuIpcCloseMemHandle, context);
	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(pointer);
	fine = range != NULL && range->base == pointer && range->kind == EMU_IPC;
	pthread_rwlock_unlock(&emu.space);
	REFUSE_IF(!fine, CUDA_ERROR_INVALID_VALUE);
	waited = emu_context_wait(context);
	return waited != CUDA_SUCCESS ? waited : emu_free_range(pointer);
}
