/* Older names of functions that are the same. */
#include "emu/emu.h"

GPUMAX_EXPORT CUresult cuCtxDestroy(CUcontext context)
{
	return cuCtxDestroy_v2(context);
}

GPUMAX_EXPORT CUresult cuCtxPushCurrent(CUcontext context)
{
	return cuCtxPushCurrent_v2(context);
}

GPUMAX_EXPORT CUresult cuCtxPopCurrent(CUcontext *context)
{
	return cuCtxPopCurrent_v2(context);
}

GPUMAX_EXPORT CUresult cuStreamDestroy(CUstream stream)
{
	return cuStreamDestroy_v2(stream);
}

GPUMAX_EXPORT CUresult cuEventDestroy(CUevent event)
{
	return cuEventDestroy_v2(event);
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	return cuDevicePrimaryCtxRelease_v2(device);
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	return cuDevicePrimaryCtxReset_v2(device);
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags)
{
	return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

GPUMAX_EXPORT CUresult cuMemHostRegister(void *pointer, size_t bytes, unsigned int flags)
{
	return cuMemHostRegister_v2(pointer, bytes, flags);
}

/* No profiler is there that could be started. */
GPUMAX_EXPORT CUresult cuProfilerStart(void)
{
	CALL(cuProfilerStart);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuProfilerStop(void)
{
	CALL(cuProfilerStop);
	return CUDA_SUCCESS;
}
