/*
 * One life under the layer: allocate, write, out, in, out by parts, in, compare, free. It begins by looking whether the
 * device is as free as it should be, so each run sees what the one before has left.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpumax/cuda_abi.h"

CUresult cuInit(unsigned flags);
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuCtxSetCurrent(CUcontext context);
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size);
CUresult cuMemFree_v2(CUdeviceptr pointer);
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total);
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size);
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size);

#define MIB (UINT64_C(1) << 20)
#define SIZE (34 * MIB)
#define OK(call)                                                                                                       \
	do {                                                                                                           \
		int result_ = (int)(call);                                                                             \
		if (result_) {                                                                                         \
			printf("%s: %d\n", #call, result_);                                                            \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

int main(void)
{
	int (*order)(int device, int out, unsigned long long resident, unsigned patience, uint64_t report[4]);
	unsigned char *data = malloc(SIZE), *read = malloc(SIZE);
	size_t free_bytes, total;
	uint64_t report[4];
	CUcontext context;
	CUdeviceptr at;

	*(void **)&order = dlsym(RTLD_DEFAULT, "gpumax_layer_swap");
	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	OK(cuCtxSetCurrent(context));
	OK(cuMemGetInfo_v2(&free_bytes, &total));
	if (free_bytes != total - 64 * MIB) {
		printf("others have left %zu MiB there\n", (total - free_bytes) / MIB);
		return 1;
	}
	for (uint64_t i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 2654435761u >> 13);
	OK(cuMemAlloc_v2(&at, SIZE));
	OK(cuMemcpyHtoD_v2(at, data, SIZE));
	OK(order(0, 1, 0, 60000, report));
	OK(order(0, 0, UINT64_MAX, 60000, report));
	OK(order(0, 1, 8 * MIB, 60000, report));
	OK(order(0, 0, 20 * MIB, 60000, report));
	OK(order(0, 0, UINT64_MAX, 60000, report));
	OK(cuMemcpyDtoH_v2(read, at, SIZE));
	if (memcmp(data, read, SIZE))
		return 1;
	OK(cuMemFree_v2(at));
	puts("whole");
	return 0;
}
