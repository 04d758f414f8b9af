/*
 * Several threads use an emulated device at once, with all that it has: run under sanitizers, it finds what they find.
 * Each checks what it reads back.
 */
#include "gpumax/cuda_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		CUresult said_ = (call);                                                                               \
		if (said_ != CUDA_SUCCESS) {                                                                           \
			fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, (int)said_);                     \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)
#define IS(condition)                                                                                                  \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

enum { THREADS = 4, ROUNDS = 8, COUNT = 4096 };

static CUcontext context;
static CUmodule module;

static void launch(const char *name, CUstream stream, void **parameters)
{
	CUfunction function;

	OK(cuModuleGetFunction(&function, module, name));
	OK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void add_to(CUdeviceptr to, CUdeviceptr from, float factor, CUstream stream)
{
	unsigned long long count = COUNT;
	void *parameters[] = {&to, &from, &factor, &count};

	launch("axpy", stream, parameters);
}

static void is_all(CUdeviceptr memory, float wanted, CUstream stream)
{
	static _Thread_local float out[COUNT];

	OK(cuMemcpyDtoHAsync_v2(out, memory, sizeof(out), stream));
	OK(cuStreamSynchronize(stream));
	for (int i = 0; i < COUNT; i++)
		IS(out[i] == wanted);
}

static CUdeviceptr ones(CUstream stream)
{
	CUdeviceptr memory;
	float one = 1;
	unsigned int bits;

	memcpy(&bits, &one, sizeof(bits));
	OK(cuMemAlloc_v2(&memory, COUNT * sizeof(float)));
	OK(cuMemsetD32Async(memory, bits, COUNT, stream));
	return memory;
}

static void streams_and_events(void)
{
	CUstream one, two;
	CUevent event;
	CUdeviceptr x, y;
	float time;

	OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&two, CU_STREAM_DEFAULT));
	OK(cuEventCreate(&event, CU_EVENT_DEFAULT));
	x = ones(one);
	y = ones(one);
	for (int i = 0; i < 10; i++) {
		add_to(x, y, 1, i % 2 ? two : one);
		OK(cuEventRecord(event, i % 2 ? two : one));
		OK(cuStreamWaitEvent(i % 2 ? one : two, event, 0));
	}
	is_all(x, 11, one);
	OK(cuEventSynchronize(event));
	OK(cuEventElapsedTime(&time, event, event));
	IS(time == 0);
	OK(cuMemFree_v2(x));
	OK(cuMemFreeAsync(y, two));
	OK(cuEventDestroy_v2(event));
	OK(cuStreamDestroy_v2(one));
	OK(cuStreamDestroy_v2(two));
}

static void graphs(void)
{
	CUstream stream;
	CUgraph graph;
	CUgraphExec exec;
	CUdeviceptr x, y;

	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	x = ones(stream);
	y = ones(stream);
	OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
	add_to(x, y, 2, stream);
	add_to(x, y, 3, stream);
	OK(cuStreamEndCapture(stream, &graph));
	OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
	for (int i = 0; i < 3; i++)
		OK(cuGraphLaunch(exec, stream));
	is_all(x, 16, stream);
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
	OK(cuMemFree_v2(x));
	OK(cuMemFree_v2(y));
	OK(cuStreamDestroy_v2(stream));
}

static void virtual_memory(void)
{
	CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
	CUmemAccessDesc rights = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle handle;
	size_t size = 4 << 20;
	CUdeviceptr at;

	OK(cuMemAddressReserve(&at, size, 0, 0, 0));
	for (int i = 0; i < 3; i++) {
		OK(cuMemCreate(&handle, size, &properties, 0));
		OK(cuMemMap(at, size, 0, handle, 0));
		OK(cuMemRelease(handle));
		OK(cuMemSetAccess(at, size, &rights, 1));
		OK(cuMemsetD8_v2(at, (unsigned char)i, size));
		OK(cuMemUnmap(at, size));
	}
	IS(cuMemsetD8_v2(at, 0, size) == CUDA_ERROR_INVALID_VALUE);
	OK(cuMemAddressFree(at, size));
}

static void pools_and_hosts(void)
{
	CUdeviceptr memory;
	CUmemoryPool pool;
	void *host;

	OK(cuMemAllocAsync(&memory, 1 << 20, CU_STREAM_PER_THREAD));
	OK(cuMemHostAlloc(&host, 1 << 20, 0));
	memset(host, 5, 1 << 20);
	OK(cuMemcpyHtoDAsync_v2(memory, host, 1 << 20, CU_STREAM_PER_THREAD));
	memset(host, 0, 10);
	OK(cuMemcpyDtoHAsync_v2(host, memory + 100, 100, CU_STREAM_PER_THREAD));
	OK(cuMemFreeAsync(memory, CU_STREAM_PER_THREAD));
	OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
	IS(((char *)host)[50] == 5);
	OK(cuMemFreeHost(host));
	OK(cuDeviceGetDefaultMemPool(&pool, 0));
	OK(cuMemPoolTrimTo(pool, 0));
}

static void wrong_things(void)
{
	CUmemGenericAllocationHandle handle = 17;
	int dummy = 0;

	IS(cuMemFree_v2(12345) == CUDA_ERROR_INVALID_VALUE);
	IS(cuStreamSynchronize((CUstream)&dummy) == CUDA_ERROR_INVALID_HANDLE);
	IS(cuEventRecord((CUevent)&dummy, NULL) == CUDA_ERROR_INVALID_HANDLE);
	IS(cuMemRelease(handle) == CUDA_ERROR_INVALID_VALUE);
	IS(cuGraphLaunch((CUgraphExec)&dummy, NULL) == CUDA_ERROR_INVALID_VALUE);
}

static void *thread(void *argument)
{
	(void)argument;
	OK(cuCtxSetCurrent(context));
	for (int i = 0; i < ROUNDS; i++) {
		streams_and_events();
		graphs();
		virtual_memory();
		pools_and_hosts();
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	size_t before, after, total;

	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, "gpumax-emu\n"));
	OK(cuMemGetInfo_v2(&before, &total));
	for (int i = 0; i < THREADS; i++)
		IS(pthread_create(&threads[i], NULL, thread, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	OK(cuMemGetInfo_v2(&after, &total));
	IS(before == after);
	OK(cuModuleUnload(module));
	wrong_things();
	OK(cuDevicePrimaryCtxRelease_v2(0));
	puts("fine");
	return 0;
}
