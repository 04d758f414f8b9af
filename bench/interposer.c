/*
 * bench/interposer.py compiles this twice. With DRIVER it is a driver whose functions return at once. Without, it calls
 * the driver named in CALLS_LIBRARY so many times and prints nanoseconds of the processor a call, of the best of 20 parts,
 * since others use the machine too: a launch, a call that a layer forwards, an allocation with its free.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpumax/cuda_abi.h"

#ifdef DRIVER

CUresult cuInit(unsigned flags)
{
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
	*context = (CUcontext)8;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	memset(uuid, 1, sizeof *uuid);
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size)
{
	*pointer = 0x7f0000000000;
	return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer)
{
	return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream stream)
{
	return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
			unsigned shared, CUstream stream, void **parameters, void **extra)
{
	return CUDA_SUCCESS;
}

#else

#define BATCHES 20

static double now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(int count, char **words)
{
	void *driver = dlopen(getenv("CALLS_LIBRARY"), RTLD_NOW);
	CUresult (*init)(unsigned) = dlsym(driver, "cuInit");
	CUresult (*launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
			   void **, void **) = dlsym(driver, "cuLaunchKernel");
	CUresult (*query)(CUstream) = dlsym(driver, "cuStreamQuery");
	CUresult (*allocate)(CUdeviceptr *, size_t) = dlsym(driver, "cuMemAlloc_v2");
	CUresult (*release)(CUdeviceptr) = dlsym(driver, "cuMemFree_v2");
	long calls = atol(words[1]), kinds = count > 2 ? 1 : 3;
	double best;

	init(0);
	for (long kind = 0; kind < kinds; kind++) {
		best = 1e18;
		for (int batch = 0; batch < BATCHES; batch++) {
			double begin = now(), taken;

			for (long i = 0; i < calls / BATCHES; i++) {
				CUdeviceptr pointer;

				if (kind == 0)
					launch(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
				else if (kind == 1)
					query(NULL);
				else if (!allocate(&pointer, 4096))
					release(pointer);
			}
			taken = (now() - begin) / (double)(calls / BATCHES);
			best = taken < best ? taken : best;
		}
		printf("%.3f\n", best);
	}
	return 0;
}

#endif
