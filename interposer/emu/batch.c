/* Many copies in one call, one behind the other. */
#include "emu/emu.h"

GPUMAX_EXPORT CUresult cuMemcpyBatchAsync_v2(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes,
					     size_t *indexes, size_t attributes_count, CUstream stream)
{
	CUresult result = CUDA_SUCCESS;

	CALL_IN_CONTEXT(cuMemcpyBatchAsync_v2, context);
	(void)context;
	REFUSE_IF(to == NULL || from == NULL || sizes == NULL || count == 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(attributes == NULL || indexes == NULL || attributes_count == 0 || attributes_count > count || indexes[0] != 0,
		  CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < attributes_count; i++)
		REFUSE_IF((unsigned)attributes[i].srcAccessOrder - 1u > 2u || (i > 0 && indexes[i] <= indexes[i - 1]), CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(stream == NULL || stream == CU_STREAM_LEGACY, CUDA_ERROR_INVALID_HANDLE); /* the driver wants one of its own */
	for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
		result = cuMemcpyAsync(to[i], from[i], sizes[i], stream);
	return result;
}

GPUMAX_EXPORT CUresult cuMemcpyBatchAsync(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes,
					  size_t *indexes, size_t attributes_count, size_t *failed, CUstream stream)
{
	if (failed != NULL)
		*failed = SIZE_MAX; /* not of one copy, as far as is known */
	return cuMemcpyBatchAsync_v2(to, from, sizes, count, attributes, indexes, attributes_count, stream);
}
