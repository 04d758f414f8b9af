/*
 * Memory that two processes use: of which a handle was given out, and such of others that was opened here. It counts
 * where it was made, so what is opened counts nothing here; both are counted, for whoever wonders what is on a device.
 */
#include <string.h>

#include "api.h"
#include "lend.h"

CUresult cuMemGetHandleForAddressRange(void *handle, CUdeviceptr pointer, size_t size, int type, unsigned long long flags);
CUresult cuMemPoolExportToShareableHandle(void *out, CUmemoryPool pool, int type, unsigned long long flags);
CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *given, int type, unsigned long long flags);
CUresult cuMemPoolImportPointer(CUdeviceptr *pointer, CUmemoryPool pool, void *given);
CUresult cuImportExternalMemory(void **memory, const void *wish);
CUresult cuIpcCloseMemHandle(CUdeviceptr pointer);
CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr pointer);
CUresult cuIpcOpenMemHandle(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags);
CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags);

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle object, size_t offset, CUdeviceptr pointer, size_t size,
			     unsigned long long flags);
CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle object, CUdevice device, size_t offset, CUdeviceptr pointer,
				size_t size, unsigned long long flags);

static _Atomic uint64_t given_out, opened;

EXPORT void gpumax_layer_elsewhere(uint64_t *handles_given_out, uint64_t *handles_opened);

void gpumax_layer_elsewhere(uint64_t *handles_given_out, uint64_t *handles_opened)
{
	*handles_given_out = atomic_load(&given_out);
	*handles_opened = atomic_load(&opened);
}

static CUresult counted(CUresult result, _Atomic uint64_t *counter)
{
	if (result == CUDA_SUCCESS && !idle())
		count(counter);
	return result;
}

/* The driver has no such handle for memory that is made of pieces, so that is one of ours. */
EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr pointer)
{
	struct block block;

	if (idle() || !handle || !index_find(&addresses, pointer, &block) || block.kind != BACKED)
		return counted(REAL(cuIpcGetMemHandle)(handle, pointer), &given_out);
	if (lend(&block, handle))
		return counted(CUDA_SUCCESS, &given_out);
	say_once(CAUSE_IPC, "memory that can be swapped can't be opened by other processes with this driver (cuIpcGetMemHandle); "
			    "without GPUMAX_SWAP it can");
	return REAL(cuIpcGetMemHandle)(handle, pointer);
}

static bool is_lent(const CUipcMemHandle *handle, struct ticket *ticket)
{
	memcpy(ticket, handle, sizeof *ticket);
	return !idle() && ticket->magic == LEND_TICKET;
}

EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags)
{
	struct ticket ticket;

	if (pointer && is_lent(&handle, &ticket))
		return counted(borrow_open(&ticket, pointer), &opened);
	return counted(REAL(cuIpcOpenMemHandle_v2)(pointer, handle, flags), &opened);
}

EXPORT CUresult cuIpcOpenMemHandle(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags)
{
	struct ticket ticket;

	if (pointer && is_lent(&handle, &ticket))
		return counted(borrow_open(&ticket, pointer), &opened);
	return counted(REAL(cuIpcOpenMemHandle)(pointer, handle, flags), &opened);
}

EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr pointer)
{
	CUresult result;

	if (!idle() && borrow_close(pointer, &result))
		return result;
	return REAL(cuIpcCloseMemHandle)(pointer);
}

EXPORT CUresult cuMemExportToShareableHandle(void *out, CUmemGenericAllocationHandle handle, int type,
					     unsigned long long flags)
{
	return counted(REAL(cuMemExportToShareableHandle)(out, handle, type, flags), &given_out);
}

EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *given, int type)
{
	return counted(REAL(cuMemImportFromShareableHandle)(handle, given, type), &opened);
}

EXPORT CUresult cuMemPoolExportToShareableHandle(void *out, CUmemoryPool pool, int type, unsigned long long flags)
{
	return counted(REAL(cuMemPoolExportToShareableHandle)(out, pool, type, flags), &given_out);
}

EXPORT CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *given, int type, unsigned long long flags)
{
	return counted(REAL(cuMemPoolImportFromShareableHandle)(pool, given, type, flags), &opened);
}

EXPORT CUresult cuMemPoolImportPointer(CUdeviceptr *pointer, CUmemoryPool pool, void *given)
{
	return counted(REAL(cuMemPoolImportPointer)(pointer, pool, given), &opened);
}

EXPORT CUresult cuImportExternalMemory(void **memory, const void *wish)
{
	return counted(REAL(cuImportExternalMemory)(memory, wish), &opened);
}

/* A descriptor for another device, as for RDMA. */
EXPORT CUresult cuMemGetHandleForAddressRange(void *handle, CUdeviceptr pointer, size_t size, int type,
					      unsigned long long flags)
{
	/* What another device reads stays where it is. */
	if (!idle() && settings()->swappable)
		backing_keep(pointer);
	return counted(REAL(cuMemGetHandleForAddressRange)(handle, pointer, size, type, flags), &given_out);
}

/* Who has its writes awaited is about to give the memory to another device, as for RDMA; that itself is no call of the driver. */
EXPORT CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr pointer)
{
	if (attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS && value && *(const unsigned int *)value && !idle() && settings()->swappable)
		backing_keep(pointer);
	return REAL(cuPointerSetAttribute)(value, attribute, pointer);
}

/* What is bound counts where it was made. From then on it's written to by other devices, where it is. */
static void bound(CUdeviceptr pointer)
{
	if (!idle() && settings()->swappable)
		backing_keep(pointer);
}

EXPORT CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle object, size_t offset, CUdeviceptr pointer, size_t size,
				    unsigned long long flags)
{
	bound(pointer);
	return counted(REAL(cuMulticastBindAddr)(object, offset, pointer, size, flags), &given_out);
}

EXPORT CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle object, CUdevice device, size_t offset, CUdeviceptr pointer,
				       size_t size, unsigned long long flags)
{
	bound(pointer);
	return counted(REAL(cuMulticastBindAddr_v2)(object, device, offset, pointer, size, flags), &given_out);
}
