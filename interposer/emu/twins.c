/* The twins of functions, for programs that are compiled with a default stream for each thread. */
#include "emu/emu.h"

#define OWN(stream) ((stream) == NULL ? CU_STREAM_PER_THREAD : (stream))

/* A call of its own: its type and parameters, and what is handed on. */
#define TWIN(name, parameters, arguments)                                                                              \
	GPUMAX_EXPORT CUresult name##_ptsz parameters;                                                                 \
	GPUMAX_EXPORT CUresult name##_ptsz parameters                                                                  \
	{                                                                                                              \
		return name arguments;                                                                                 \
	}

/* A copy that is waited for is one in the thread's stream, and a wait. */
#define TWIN_THAT_WAITS(name, async, parameters, arguments)                                                            \
	GPUMAX_EXPORT CUresult name##_ptds parameters;                                                                 \
	GPUMAX_EXPORT CUresult name##_ptds parameters                                                                  \
	{                                                                                                              \
		CUresult result = async arguments;                                                                     \
		return result != CUDA_SUCCESS ? result : cuStreamSynchronize(CU_STREAM_PER_THREAD);                    \
	}

TWIN_THAT_WAITS(cuMemcpyHtoD_v2, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t n), (to, from, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpyDtoH_v2, cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t n), (to, from, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpyDtoD_v2, cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t n), (to, from, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpy, cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t n), (to, from, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpy2D_v2, cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy), (copy, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpy2DUnaligned_v2, cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy), (copy, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpy3D_v2, cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *copy), (copy, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemcpyPeer, cuMemcpyPeerAsync, (CUdeviceptr to, CUcontext tc, CUdeviceptr from, CUcontext fc, size_t n),
		(to, tc, from, fc, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemsetD8_v2, cuMemsetD8Async, (CUdeviceptr to, unsigned char v, size_t n), (to, v, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemsetD16_v2, cuMemsetD16Async, (CUdeviceptr to, unsigned short v, size_t n), (to, v, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemsetD32_v2, cuMemsetD32Async, (CUdeviceptr to, unsigned int v, size_t n), (to, v, n, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemsetD2D8_v2, cuMemsetD2D8Async, (CUdeviceptr to, size_t p, unsigned char v, size_t w, size_t h),
		(to, p, v, w, h, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemsetD2D16_v2, cuMemsetD2D16Async, (CUdeviceptr to, size_t p, unsigned short v, size_t w, size_t h),
		(to, p, v, w, h, CU_STREAM_PER_THREAD))
TWIN_THAT_WAITS(cuMemsetD2D32_v2, cuMemsetD2D32Async, (CUdeviceptr to, size_t p, unsigned int v, size_t w, size_t h),
		(to, p, v, w, h, CU_STREAM_PER_THREAD))

TWIN(cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s), (to, from, n, OWN(s)))
TWIN(cuMemcpyPeerAsync, (CUdeviceptr to, CUcontext tc, CUdeviceptr from, CUcontext fc, size_t n, CUstream s), (to, tc, from, fc, n, OWN(s)))
TWIN(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t n, CUstream s), (to, from, n, OWN(s)))
TWIN(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t n, CUstream s), (to, from, n, OWN(s)))
TWIN(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s), (to, from, n, OWN(s)))
TWIN(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy, CUstream s), (copy, OWN(s)))
TWIN(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *copy, CUstream s), (copy, OWN(s)))
TWIN(cuMemsetD8Async, (CUdeviceptr to, unsigned char v, size_t n, CUstream s), (to, v, n, OWN(s)))
TWIN(cuMemsetD16Async, (CUdeviceptr to, unsigned short v, size_t n, CUstream s), (to, v, n, OWN(s)))
TWIN(cuMemsetD32Async, (CUdeviceptr to, unsigned int v, size_t n, CUstream s), (to, v, n, OWN(s)))
TWIN(cuMemsetD2D8Async, (CUdeviceptr to, size_t p, unsigned char v, size_t w, size_t h, CUstream s), (to, p, v, w, h, OWN(s)))
TWIN(cuMemsetD2D16Async, (CUdeviceptr to, size_t p, unsigned short v, size_t w, size_t h, CUstream s), (to, p, v, w, h, OWN(s)))
TWIN(cuMemsetD2D32Async, (CUdeviceptr to, size_t p, unsigned int v, size_t w, size_t h, CUstream s), (to, p, v, w, h, OWN(s)))
TWIN(cuLaunchKernel,
     (CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
      unsigned int shared, CUstream s, void **parameters, void **extra),
     (f, gx, gy, gz, bx, by, bz, shared, OWN(s), parameters, extra))
TWIN(cuLaunchCooperativeKernel,
     (CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
      unsigned int shared, CUstream s, void **parameters),
     (f, gx, gy, gz, bx, by, bz, shared, OWN(s), parameters))
TWIN(cuLaunchHostFunc, (CUstream s, CUhostFn function, void *data), (OWN(s), function, data))
TWIN(cuStreamAddCallback, (CUstream s, CUstreamCallback callback, void *data, unsigned int flags), (OWN(s), callback, data, flags))
TWIN(cuStreamSynchronize, (CUstream s), (OWN(s)))
TWIN(cuStreamQuery, (CUstream s), (OWN(s)))
TWIN(cuStreamGetFlags, (CUstream s, unsigned int *flags), (OWN(s), flags))
TWIN(cuStreamGetPriority, (CUstream s, int *priority), (OWN(s), priority))
TWIN(cuStreamGetId, (CUstream s, unsigned long long *id), (OWN(s), id))
TWIN(cuStreamGetCtx, (CUstream s, CUcontext *context), (OWN(s), context))
TWIN(cuStreamWaitEvent, (CUstream s, CUevent event, unsigned int flags), (OWN(s), event, flags))
TWIN(cuEventRecord, (CUevent event, CUstream s), (event, OWN(s)))
TWIN(cuEventRecordWithFlags, (CUevent event, CUstream s, unsigned int flags), (event, OWN(s), flags))

GPUMAX_EXPORT CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra);
GPUMAX_EXPORT CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
	CUlaunchConfig own;

	REFUSE_IF(config == NULL, CUDA_ERROR_INVALID_VALUE);
	own = *config;
	own.hStream = OWN(own.hStream);
	return cuLaunchKernelEx(&own, function, parameters, extra);
}

TWIN(cuMemAllocAsync, (CUdeviceptr * pointer, size_t n, CUstream s), (pointer, n, OWN(s)))
TWIN(cuMemAllocFromPoolAsync, (CUdeviceptr * pointer, size_t n, CUmemoryPool pool, CUstream s), (pointer, n, pool, OWN(s)))
TWIN(cuMemFreeAsync, (CUdeviceptr pointer, CUstream s), (pointer, OWN(s)))
TWIN(cuGraphLaunch, (CUgraphExec exec, CUstream s), (exec, OWN(s)))
TWIN(cuGraphUpload, (CUgraphExec exec, CUstream s), (exec, OWN(s)))
TWIN(cuStreamBeginCapture, (CUstream s), (OWN(s)))
TWIN(cuStreamBeginCapture_v2, (CUstream s, CUstreamCaptureMode mode), (OWN(s), mode))
TWIN(cuStreamEndCapture, (CUstream s, CUgraph *graph), (OWN(s), graph))
TWIN(cuStreamIsCapturing, (CUstream s, CUstreamCaptureStatus *status), (OWN(s), status))
TWIN(cuStreamGetCaptureInfo_v2,
     (CUstream s, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes, size_t *count),
     (OWN(s), status, id, graph, nodes, count))
TWIN(cuStreamGetCaptureInfo_v3,
     (CUstream s, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
      const CUgraphEdgeData **edges, size_t *count),
     (OWN(s), status, id, graph, nodes, edges, count))
TWIN(cuMemPrefetchAsync, (CUdeviceptr p, size_t n, CUdevice device, CUstream s), (p, n, device, OWN(s)))
TWIN(cuMemPrefetchAsync_v2, (CUdeviceptr p, size_t n, CUmemLocation to, unsigned int flags, CUstream s), (p, n, to, flags, OWN(s)))
TWIN(cuStreamWaitValue32_v2, (CUstream s, CUdeviceptr at, uint32_t value, unsigned int flags), (OWN(s), at, value, flags))
TWIN(cuStreamWaitValue64_v2, (CUstream s, CUdeviceptr at, uint64_t value, unsigned int flags), (OWN(s), at, value, flags))
TWIN(cuStreamWriteValue32_v2, (CUstream s, CUdeviceptr at, uint32_t value, unsigned int flags), (OWN(s), at, value, flags))
TWIN(cuStreamWriteValue64_v2, (CUstream s, CUdeviceptr at, uint64_t value, unsigned int flags), (OWN(s), at, value, flags))
TWIN(cuMemcpyBatchAsync,
     (CUdeviceptr * to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes, size_t *indexes,
      size_t attributes_count, size_t *failed, CUstream s),
     (to, from, sizes, count, attributes, indexes, attributes_count, failed, OWN(s)))
TWIN(cuMemcpyBatchAsync_v2,
     (CUdeviceptr * to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes, size_t *indexes,
      size_t attributes_count, CUstream s),
     (to, from, sizes, count, attributes, indexes, attributes_count, OWN(s)))
