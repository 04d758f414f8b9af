/* A program as they are: linked with -lcuda. It says "held" where no way around a limit of 64 MiB is open. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpumax/cuda_abi.h"

#define MIB ((size_t)1 << 20)

CUresult cuInit(unsigned flags);
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuCtxSetCurrent(CUcontext context);
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size);
CUresult cuMemFree_v2(CUdeviceptr pointer);
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
			unsigned shared, CUstream stream, void **parameters, void **extra);

CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t size, CUstream stream);
CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream);
CUresult cuMemsetD8_v2(CUdeviceptr pointer, unsigned char value, size_t size);
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size);
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total);
CUresult cuCtxSynchronize(void);
CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status);

static CUcontext context;

static int begin(void)
{
	return cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context);
}

static int is_held(CUresult (*allocate)(CUdeviceptr *, size_t))
{
	CUdeviceptr small, large;

	if (allocate(&large, 65 * MIB) != CUDA_ERROR_OUT_OF_MEMORY || allocate(&small, 40 * MIB) != CUDA_SUCCESS)
		return 0;
	if (allocate(&large, 25 * MIB) != CUDA_ERROR_OUT_OF_MEMORY)
		return 0;
	return cuMemFree_v2(small) == CUDA_SUCCESS;
}

static int by_dlsym(void)
{
	void *library = dlopen("/usr/lib/nowhere/libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	CUresult (*found)(CUdeviceptr *, size_t);

	*(void **)&found = dlsym(RTLD_DEFAULT, "cuMemAlloc_v2");
	if (!library || (void *)found != dlsym(library, "cuMemAlloc_v2"))
		return 0;
	return is_held(found);
}

/* The parent has used nothing yet: its child is a process like any other. */
static int in_child(void)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(begin() || !is_held(cuMemAlloc_v2));
	waitpid(child, &status, 0);
	return status == 0 && !begin() && is_held(cuMemAlloc_v2);
}

static _Atomic int refused, allowed;

/* Each of eight wants 16 MiB, for which four have room, whoever comes first. */
static void *one_of_many(void *unused)
{
	CUdeviceptr pointer;

	(void)unused;
	cuCtxSetCurrent(context);
	if (cuMemAlloc_v2(&pointer, 16 * MIB) == CUDA_SUCCESS)
		allowed++;
	else
		refused++;
	return NULL;
}

static int threads(void)
{
	pthread_t all[8];

	for (int i = 0; i < 8; i++)
		pthread_create(&all[i], NULL, one_of_many, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(all[i], NULL);
	return allowed == 4 && refused == 4;
}

/* Eleven arguments, on registers and on the stack: what the driver got of them. */
static int arguments(void)
{
	static const uint64_t sent[] = {0x1111222233334444, 2, 3, 4, 5, 6, 7, 8, 0x99, 0xaaaabbbbcccc, 0xbb};
	uint64_t (*got)(int);
	void *found;

	if (cuLaunchKernel((CUfunction)sent[0], 2, 3, 4, 5, 6, 7, 8, (CUstream)sent[8], (void **)sent[9], (void **)sent[10]))
		return 0;
	if (cuGetProcAddress_v2("script_argument", &found, 12000, 0, NULL) || !found)
		return 0;
	*(void **)&got = found;
	for (int i = 0; i < 11; i++)
		if (got(i) != sent[i])
			return 0;
	return 1;
}

static _Atomic int enough;

static void *submit(void *unused)
{
	(void)unused;
	cuCtxSetCurrent(context);
	while (!enough)
		cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
	return NULL;
}

/* Threads submit as fast as they can. Between the closing of the gate and its opening the driver hears of nothing. */
static int gate(void)
{
	pthread_t all[4];
	uint64_t (*launched)(void), first;
	int (*hold)(int, unsigned);
	int right = 1;
	void *found;

	if (cuGetProcAddress_v2("script_launches", &found, 12000, 0, NULL) || !found)
		return 0;
	*(void **)&launched = found;
	*(void **)&hold = dlsym(RTLD_DEFAULT, "gpumax_layer_hold");
	for (int i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, submit, NULL);
	for (int round = 0; round < 100; round++) {
		while (hold(1, 10000))
			;
		first = launched();
		for (int i = 0; i < 1000; i++)
			right &= launched() == first;
		hold(0, 0);
	}
	enough = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(all[i], NULL);
	return right && launched() > 0;
}

/* Threads allocate, write, read and free all kinds, while all they have is taken off the device and given back. */
static _Atomic int broken;

static void *churn(void *seed)
{
	unsigned state = (unsigned)(uintptr_t)seed;
	CUdeviceptr held[8] = {0};
	unsigned char mark[8], seen[64];

	cuCtxSetCurrent(context);
	for (int turn = 0; turn < 400; turn++) {
		unsigned i = (state = state * 1103515245u + 12345u) >> 16 & 7;
		size_t size = (state >> 8 & 1) ? 5 * MIB / 2 : 700;

		if (held[i]) {
			broken |= cuMemcpyDtoH_v2(seen, held[i] + 600, 64) || seen[63] != mark[i];
			broken |= (i & 1 ? cuMemFreeAsync(held[i], NULL) : cuMemFree_v2(held[i])) != CUDA_SUCCESS;
			held[i] = 0;
		} else if ((i & 1 ? cuMemAllocAsync(&held[i], size, NULL) : cuMemAlloc_v2(&held[i], size)) == CUDA_SUCCESS) {
			mark[i] = (unsigned char)state;
			broken |= cuMemsetD8_v2(held[i], mark[i], 700) != CUDA_SUCCESS;
		} else {
			held[i] = 0;
		}
	}
	for (int i = 0; i < 8; i++)
		if (held[i])
			broken |= cuMemFree_v2(held[i]) != CUDA_SUCCESS;
	return NULL;
}

static int swap(void)
{
	int (*out)(unsigned), (*in)(void), done = 0;
	size_t free_bytes, total;
	pthread_t all[4];

	*(void **)&out = dlsym(RTLD_DEFAULT, "gpumax_layer_swap_out");
	*(void **)&in = dlsym(RTLD_DEFAULT, "gpumax_layer_swap_in");
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, churn, (void *)(i + 1));
	for (int round = 0; round < 50; round++) {
		done += out(10000) == CUDA_SUCCESS;
		broken |= in() != CUDA_SUCCESS;
	}
	for (int i = 0; i < 4; i++)
		pthread_join(all[i], NULL);
	cuCtxSynchronize();
	return !broken && done && cuMemAlloc_v2(&(CUdeviceptr){0}, 64 * MIB) == CUDA_SUCCESS &&
	       cuMemGetInfo_v2(&free_bytes, &total) == CUDA_SUCCESS && free_bytes == 0;
}

int main(int count, char **words)
{
	const char *way = count > 1 ? words[1] : "";
	int held;

	if (!strcmp(way, "exec")) {
		execl(words[0], words[0], "linked", NULL);
		return 1;
	}
	if (!strcmp(way, "fork"))
		held = in_child();
	else if (begin())
		return 1;
	else if (!strcmp(way, "dlsym"))
		held = by_dlsym();
	else if (!strcmp(way, "threads"))
		held = threads();
	else if (!strcmp(way, "swap"))
		held = swap();
	else if (!strcmp(way, "gate"))
		held = gate();
	else if (!strcmp(way, "arguments"))
		held = arguments();
	else
		held = is_held(cuMemAlloc_v2);
	puts(held ? "held" : "escaped");
	return 0;
}
