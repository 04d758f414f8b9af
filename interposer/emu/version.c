/* The version of the driver, which may be asked before anything else. */
#include "gpumax/cuda_api.h"
#include "gpumax/export.h"

GPUMAX_EXPORT CUresult cuDriverGetVersion(int *version)
{
	if (version == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*version = 13000;
	return CUDA_SUCCESS;
}
