/* Managed memory is where it is: advice is taken, and a prefetch takes its time. */
#include "emu/emu.h"

static bool is_managed(CUdeviceptr pointer, size_t bytes)
{
	const struct emu_range *range;
	bool is;

	pthread_rwlock_rdlock(&emu.space);
	range = emu_range_at(pointer);
	is = range != NULL && range->kind == EMU_MANAGED && bytes <= range->base + range->size - pointer;
	pthread_rwlock_unlock(&emu.space);
	return is;
}

GPUMAX_EXPORT CUresult cuMemAdvise(CUdeviceptr pointer, size_t bytes, CUmem_advise advice, CUdevice device)
{
	CALL(cuMemAdvise);
	REFUSE_IF(device != CU_DEVICE_CPU && !emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF((int)advice < 1 || (int)advice > 6 || bytes == 0 || !is_managed(pointer, bytes), CUDA_ERROR_INVALID_VALUE);
	return CUDA_SUCCESS;
}

static CUdevice place_of(CUmemLocation location)
{
	return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? location.id : CU_DEVICE_CPU;
}

GPUMAX_EXPORT CUresult cuMemAdvise_v2(CUdeviceptr pointer, size_t bytes, CUmem_advise advice, CUmemLocation location)
{
	return cuMemAdvise(pointer, bytes, advice, place_of(location));
}

GPUMAX_EXPORT CUresult cuMemPrefetchAsync(CUdeviceptr pointer, size_t bytes, CUdevice device, CUstream handle)
{
	struct emu_op op = {.engine = device == CU_DEVICE_CPU ? EMU_D2H : EMU_H2D};
	struct emu_stream *stream;
	CUresult result;

	CALL_IN_CONTEXT(cuMemPrefetchAsync, context);
	REFUSE_IF(device != CU_DEVICE_CPU && !emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF(bytes == 0 || !is_managed(pointer, bytes), CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	op.duration = (uint64_t)((double)bytes / (device == CU_DEVICE_CPU ? emu_model(context)->d2h : emu_model(context)->h2d));
	return emu_submit(stream, &op);
}

GPUMAX_EXPORT CUresult cuMemPrefetchAsync_v2(CUdeviceptr pointer, size_t bytes, CUmemLocation location, unsigned int flags, CUstream stream)
{
	REFUSE_IF(flags != 0, CUDA_ERROR_INVALID_VALUE);
	return cuMemPrefetchAsync(pointer, bytes, place_of(location), stream);
}
