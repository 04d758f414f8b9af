/* Plain, pitched and managed memory. What is freed leaves the index first: its address may be given out again at once. */
#include "api.h"
#include "layer.h"

/* Enters what was allocated; a block that can't be entered stays charged until the process ends. */
static void enter_as(enum kind kind, uint64_t base, uint64_t size, uint64_t charged, uint32_t device)
{
	struct block block = {.base = base, .size = size, .charged = charged, .device = device, .kind = kind,
			      .context = context_current()};

	if (!index_add(&addresses, &block))
		count(&counters.unaccounted);
}

static void enter(uint64_t base, uint64_t size, uint64_t charged, uint32_t device)
{
	enter_as(PLAIN, base, size, charged, device);
}

static CUresult allocate(CUdeviceptr *pointer, size_t size)
{
	struct gate_seat *seat;
	uint64_t charged;
	uint32_t device;
	CUresult result;

	if (idle() || !pointer || !size || !device_current(&device))
		return REAL(cuMemAlloc_v2)(pointer, size);
	if (backing_wanted(size, device))
		return backing_allocate(pointer, size, device);
	if (!charge(device, size, &charged))
		return refuse();
	seat = gate_enter();
	result = REAL(cuMemAlloc_v2)(pointer, size);
	gate_leave(seat);
	if (result == CUDA_SUCCESS)
		enter(*pointer, size, charged, device);
	else
		discharge(device, charged);
	return result;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size)
{
	return allocate(pointer, size);
}

/* Programs of the time when addresses had 32 bits. Where an address is larger, the driver has its own answer. */
EXPORT CUresult cuMemAlloc(unsigned int *pointer, unsigned int size)
{
	uint64_t charged;
	uint32_t device;
	CUresult result;

	if (idle() || !pointer || !size || !device_current(&device))
		return REAL(cuMemAlloc)(pointer, size);
	if (!charge(device, size, &charged))
		return refuse();
	result = REAL(cuMemAlloc)(pointer, size);
	if (result == CUDA_SUCCESS)
		enter(*pointer, size, charged, device);
	else
		discharge(device, charged);
	return result;
}

/* The driver decides how far rows are apart; what that comes to beyond the rows themselves is charged afterwards. */
static CUresult settle_pitch(CUdeviceptr pointer, uint64_t size, uint64_t rows, uint64_t charged, uint32_t device)
{
	uint64_t more = 0;

	if (charged && size > rows && !charge(device, size - rows, &more)) {
		REAL(cuMemFree_v2)(pointer);
		discharge(device, charged);
		return refuse();
	}
	enter(pointer, size, charged + more, device);
	return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned int element)
{
	uint64_t charged, rows;
	struct gate_seat *seat;
	uint32_t device;
	CUresult result;

	if (idle() || !pointer || !pitch || !device_current(&device))
		return REAL(cuMemAllocPitch_v2)(pointer, pitch, width, height, element);
	if (__builtin_mul_overflow(width, height, &rows) || !charge(device, rows, &charged))
		return refuse();
	seat = gate_enter();
	result = REAL(cuMemAllocPitch_v2)(pointer, pitch, width, height, element);
	gate_leave(seat);
	if (result == CUDA_SUCCESS)
		return settle_pitch(*pointer, *pitch * height, rows, charged, device);
	discharge(device, charged);
	return result;
}

EXPORT CUresult cuMemAllocPitch(unsigned int *pointer, unsigned int *pitch, unsigned int width, unsigned int height,
				unsigned int element)
{
	uint64_t charged, rows = (uint64_t)width * height;
	uint32_t device;
	CUresult result;

	if (idle() || !pointer || !pitch || !device_current(&device))
		return REAL(cuMemAllocPitch)(pointer, pitch, width, height, element);
	if (!charge(device, rows, &charged))
		return refuse();
	result = REAL(cuMemAllocPitch)(pointer, pitch, width, height, element);
	if (result == CUDA_SUCCESS)
		return settle_pitch(*pointer, (uint64_t)*pitch * height, rows, charged, device);
	discharge(device, charged);
	return result;
}

/* The driver moves managed memory as it is used, to the host too. It counts in full: it may all be on the device. */
EXPORT CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t size, unsigned int flags)
{
	uint64_t charged;
	uint32_t device;
	CUresult result;

	if (idle() || !pointer || !size || !device_current(&device))
		return REAL(cuMemAllocManaged)(pointer, size, flags);
	if (!charge(device, size, &charged))
		return refuse();
	result = REAL(cuMemAllocManaged)(pointer, size, flags);
	if (result == CUDA_SUCCESS)
		enter_as(MANAGED, *pointer, size, charged, device);
	else
		discharge(device, charged);
	return result;
}

static CUresult release(CUdeviceptr pointer, CUresult (*real)(CUdeviceptr))
{
	struct block block;
	CUresult result;

	if (idle() || !index_take(&addresses, pointer, &block))
		return real(pointer);
	if (block.kind == BACKED)
		return backing_free(&block);
	if (block.kind == MAPPED || block.kind == BORROWED) { /* not to be freed so: the driver says that better */
		index_add(&addresses, &block);
		return real(pointer);
	}
	result = real(pointer);
	if (result != CUDA_SUCCESS)
		index_add(&addresses, &block);
	else if (block.kind == POOLED)
		pool_freed(&block);
	else
		discharge(block.device, block.charged);
	return result;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer)
{
	return release(pointer, REAL(cuMemFree_v2));
}

static CUresult free_narrow(CUdeviceptr pointer)
{
	return REAL(cuMemFree)((unsigned int)pointer);
}

EXPORT CUresult cuMemFree(unsigned int pointer)
{
	return release(pointer, free_narrow);
}
