/* Prototypes of the driver API that gpumax defines or calls, as the public documentation gives them. */
#ifndef GPUMAX_CUDA_API_H
#define GPUMAX_CUDA_API_H

#include "gpumax/cuda_abi.h"

CUresult cuInit(unsigned int flags);
CUresult cuDriverGetVersion(int *version);

#endif
