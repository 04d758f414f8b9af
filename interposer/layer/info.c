/* What a program asks about its device: it sees its share as the whole. */
#include "api.h"
#include "backing.h"
#include "client/client.h"
#include "swap.h"

static uint64_t least(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

static uint64_t most(uint64_t one, uint64_t other)
{
	return one > other ? one : other;
}

static uint64_t left(uint64_t whole, uint64_t used)
{
	return used < whole ? whole - used : 0;
}

/* What is guaranteed is there for whoever asks: who has borrowed it makes way then. */
static void shrink(uint32_t device, size_t *free_bytes, size_t *total)
{
	uint64_t limit = limit_of(device), used;

	if (!limit)
		return;
	pools_settle();
	used = share_used(device);
	*total = least(*total, limit);
	*free_bytes = least(most(*free_bytes, left(memory_guarantee(device), used)), left(*total, used));
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
	CUresult result = REAL(cuMemGetInfo_v2)(free_bytes, total);
	uint32_t device;

	if (result == CUDA_SUCCESS && !idle() && device_current(&device))
		shrink(device, free_bytes, total);
	return result;
}

EXPORT CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total)
{
	CUresult result = REAL(cuMemGetInfo)(free_bytes, total);
	size_t wide_free, wide_total;
	uint32_t device;

	if (result != CUDA_SUCCESS || idle() || !device_current(&device))
		return result;
	wide_free = *free_bytes;
	wide_total = *total;
	shrink(device, &wide_free, &wide_total);
	*free_bytes = (unsigned int)wide_free;
	*total = (unsigned int)wide_total;
	return result;
}

static uint64_t limit_on(CUdevice ordinal)
{
	uint32_t device;

	return device_index(ordinal, &device) ? limit_of(device) : settings()->share.limit;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	CUresult result = REAL(cuDeviceTotalMem_v2)(bytes, device);
	uint64_t limit = result == CUDA_SUCCESS && !idle() ? limit_on(device) : 0;

	if (limit)
		*bytes = least(*bytes, limit);
	return result;
}

EXPORT CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device)
{
	CUresult result = REAL(cuDeviceTotalMem)(bytes, device);
	uint64_t limit = result == CUDA_SUCCESS && !idle() ? limit_on(device) : 0;

	if (limit)
		*bytes = (unsigned int)least(*bytes, limit);
	return result;
}

/* What we have mapped piece by piece answers as the one allocation that it was asked for as. */
static bool is_one(CUdeviceptr pointer, struct block *block)
{
	return !idle() && index_find(&addresses, pointer, block) && (block->kind == BACKED || block->kind == BORROWED);
}

EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr pointer)
{
	struct block block;

	if (!is_one(pointer, &block))
		return REAL(cuMemGetAddressRange_v2)(base, size, pointer);
	if (base)
		*base = block.base;
	if (size)
		*size = block.size;
	return CUDA_SUCCESS;
}

static void as_one(CUpointer_attribute attribute, const struct block *block, void *value)
{
	if (!value)
		return;
	if (attribute == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR)
		*(CUdeviceptr *)value = block->base;
	else if (attribute == CU_POINTER_ATTRIBUTE_RANGE_SIZE)
		*(size_t *)value = block->size;
}

/*
 * What the driver says of memory that is off the device is true at no other time: whoever asks waits, as if it submitted
 * work. Not while the program itself has paused, which may be what the same thread ends.
 */
static bool is_out(CUdeviceptr pointer)
{
	struct block block;

	return !idle() && settings()->swappable && index_find(&addresses, pointer, &block) && block.kind == BACKED &&
	       atomic_load(&backings[block.device].out) && !swap_paused();
}

EXPORT CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr pointer)
{
	CUresult result = REAL(cuPointerGetAttribute)(value, attribute, pointer);
	struct gate_seat *seat;
	struct block block;

	if (is_out(pointer)) {
		seat = gate_enter();
		result = REAL(cuPointerGetAttribute)(value, attribute, pointer);
		gate_leave(seat);
	}
	if (result == CUDA_SUCCESS && is_one(pointer, &block))
		as_one(attribute, &block, value);
	return result;
}

EXPORT CUresult cuPointerGetAttributes(unsigned int count_asked, CUpointer_attribute *asked, void **values,
				       CUdeviceptr pointer)
{
	CUresult result = REAL(cuPointerGetAttributes)(count_asked, asked, values, pointer);
	struct gate_seat *seat;
	struct block block;

	if (is_out(pointer)) {
		seat = gate_enter();
		result = REAL(cuPointerGetAttributes)(count_asked, asked, values, pointer);
		gate_leave(seat);
	}
	if (result == CUDA_SUCCESS && is_one(pointer, &block))
		for (unsigned int i = 0; i < count_asked; i++)
			as_one(asked[i], &block, values[i]);
	return result;
}

/* Without a driver the answer has to be a text all the same: programs print it unasked. */
EXPORT CUresult cuGetErrorString(CUresult error, const char **text)
{
	if (!text || driver_found())
		return REAL(cuGetErrorString)(error, text);
	*text = error == CUDA_SUCCESS ? "no error" : "no CUDA-capable device is detected";
	return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **text)
{
	if (!text || driver_found())
		return REAL(cuGetErrorName)(error, text);
	*text = error == CUDA_SUCCESS ? "CUDA_SUCCESS" : "CUDA_ERROR_NO_DEVICE";
	return CUDA_SUCCESS;
}

/* Tables that the vendor's own libraries ask for. What happens behind them we don't see; it is counted that they were given. */
EXPORT CUresult cuGetExportTable(const void **exported, const CUuuid *name)
{
	CUresult result = REAL(cuGetExportTable)(exported, name);

	if (result == CUDA_SUCCESS && !idle())
		count(&counters.export_tables);
	return result;
}
