/*
 * Threads that write, fill, copy and read back their own memory without pause, while another one takes parts of it off the
 * device and brings them back at random, hints at random, and pauses: `storm SEED ORDERS [kernels]`. Every buffer is
 * compared with what its thread knows of it. Says "whole" and how many orders moved something.
 *
 * `storm SEED SWAPS kernels broker`: a broker gives the orders. Says how often memory has come and gone when that is
 * so often, goes on until it hears a line, and says it again when every buffer was compared.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpumax/cuda_abi.h"
#include "gpumax/layer.h"

CUresult cuInit(unsigned flags);
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuCtxSetCurrent(CUcontext context);
CUresult cuCtxSynchronize(void);
CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size);
CUresult cuMemFree_v2(CUdeviceptr pointer);
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size);
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size);
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t size);
CUresult cuModuleLoadData(CUmodule *module, const void *image);
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name);
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
			unsigned shared, CUstream stream, void **parameters, void **extra);

struct report {
	int status, why;
	uint64_t resident, copied, took;
};
static int (*order)(int device, int out, unsigned long long resident, unsigned patience, struct report *report);
static int (*hint)(unsigned long long pointer, unsigned long long size, int kind);
static int (*pause_all)(unsigned patience);
static int (*resume)(void);
static size_t (*counters)(uint64_t *values, size_t count);

enum { THREADS = 3, BUFFERS = 3 };
#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)

struct buffer {
	CUdeviceptr at;
	uint64_t size;
	unsigned char *known;
	int hint;
};

static bool by_broker;
static CUcontext context;
static CUfunction checksum;
static _Atomic int over;
static _Atomic uint64_t turns;

static void fail(const char *what, int code)
{
	fprintf(stderr, "%s: %d\n", what, code);
	_Exit(1);
}
#define OK(call)                                                                                                       \
	do {                                                                                                           \
		int result_ = (int)(call);                                                                             \
		if (result_)                                                                                           \
			fail(#call, result_);                                                                          \
	} while (0)

static uint32_t draw(uint32_t *state, uint32_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % below;
}

static void make(struct buffer *buffer, uint32_t *state)
{
	static const uint64_t sizes[] = {64 * KIB, MIB, 2 * MIB + 4 * KIB, 33 * MIB, 5 * MIB};

	buffer->size = sizes[draw(state, 48) ? draw(state, 3) : by_broker ? 4 : 3];
	buffer->hint = GPUMAX_LAYER_NORMAL;
	buffer->known = calloc(1, buffer->size);
	OK(cuMemAlloc_v2(&buffer->at, buffer->size));
	OK(cuMemsetD8_v2(buffer->at, 0, buffer->size));
}

static void end(struct buffer *buffer)
{
	OK(cuMemFree_v2(buffer->at));
	free(buffer->known);
}

static void write_some(struct buffer *buffer, uint32_t *state)
{
	uint64_t from = draw(state, (uint32_t)buffer->size), size = buffer->size - from;

	size = size > 8 * KIB ? 8 * KIB : size;
	for (uint64_t i = 0; i < size; i++)
		buffer->known[from + i] = (unsigned char)draw(state, 256);
	OK(cuMemcpyHtoD_v2(buffer->at + from, buffer->known + from, size));
}

static uint64_t sum_of(const unsigned char *at, uint64_t size)
{
	uint64_t hash = UINT64_C(14695981039346656037), word;

	for (uint64_t i = 0; i + 8 <= size; i += 8) {
		memcpy(&word, at + i, 8);
		hash = (hash ^ word) * UINT64_C(1099511628211);
	}
	return hash;
}

/* By a kernel where there are any: then the device itself has read every byte. */
static void compare(struct buffer *buffer, CUdeviceptr result)
{
	unsigned char *read;
	uint64_t sum = 0;

	if (checksum) {
		void *parameters[] = {&result, &buffer->at, &buffer->size};

		OK(cuLaunchKernel(checksum, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
		OK(cuMemcpyDtoH_v2(&sum, result, sizeof sum));
		if (sum != sum_of(buffer->known, buffer->size))
			fail("another checksum", (int)buffer->size);
		return;
	}
	read = malloc(buffer->size);
	OK(cuMemcpyDtoH_v2(read, buffer->at, buffer->size));
	if (memcmp(read, buffer->known, buffer->size))
		fail("other bytes", (int)buffer->size);
	free(read);
}

/* What may be thrown away is written anew before it counts again; what is read-only is not written. */
static void change_hint(struct buffer *buffer, uint32_t *state)
{
	int was = buffer->hint, result;

	buffer->hint = (int)draw(state, 3);
	result = hint(buffer->at, 0, buffer->hint);
	if (result && result != CUDA_ERROR_NOT_SUPPORTED)
		fail("hint", result);
	if (was == GPUMAX_LAYER_DISCARDABLE && buffer->hint != GPUMAX_LAYER_DISCARDABLE) {
		OK(hint(buffer->at, 0, GPUMAX_LAYER_NORMAL) % CUDA_ERROR_NOT_SUPPORTED);
		buffer->hint = GPUMAX_LAYER_NORMAL;
		OK(cuMemcpyHtoD_v2(buffer->at, buffer->known, buffer->size));
	}
}

static void act(struct buffer *buffer, uint32_t *state, CUdeviceptr result)
{
	uint32_t what = draw(state, 60) ? 1 + draw(state, 19) : 0;

	if (what == 0) {
		end(buffer);
		make(buffer, state);
	} else if (what < 3) {
		change_hint(buffer, state);
	} else if (what < 10 && buffer->hint == GPUMAX_LAYER_NORMAL) {
		write_some(buffer, state);
	} else if (what == 10 && buffer->hint == GPUMAX_LAYER_NORMAL) {
		memset(buffer->known, (int)what, buffer->size);
		OK(cuMemsetD8_v2(buffer->at, (unsigned char)what, buffer->size));
	} else if (buffer->hint != GPUMAX_LAYER_DISCARDABLE) {
		compare(buffer, result);
	}
}

static void *work(void *seed)
{
	uint32_t state = (uint32_t)(uintptr_t)seed;
	struct buffer buffers[BUFFERS];
	CUdeviceptr result;

	OK(cuCtxSetCurrent(context));
	OK(cuMemAlloc_v2(&result, 8));
	for (int i = 0; i < BUFFERS; i++)
		make(&buffers[i], &state);
	while (!atomic_load(&over)) {
		act(&buffers[draw(&state, BUFFERS)], &state, result);
		atomic_fetch_add(&turns, 1);
	}
	for (int i = 0; i < BUFFERS; i++) {
		if (buffers[i].hint != GPUMAX_LAYER_DISCARDABLE)
			compare(&buffers[i], result);
		end(&buffers[i]);
	}
	OK(cuMemFree_v2(result));
	return NULL;
}

/* Between two orders somebody gets on, so that there is something new to lose. */
static void let_work(void)
{
	static const struct timespec moment = {.tv_nsec = 50 * 1000};
	uint64_t before = atomic_load(&turns);

	while (atomic_load(&turns) == before)
		nanosleep(&moment, NULL);
}

static bool stir(uint32_t *state)
{
	struct report report = {0};
	uint64_t copied;

	if (!draw(state, 40)) {
		OK(pause_all(60000));
		OK(resume());
		return true;
	}
	order(0, 1, draw(state, 4) ? draw(state, 8) * MIB : 0, 60000, &report);
	if (report.status)
		fail("out", report.why);
	copied = report.copied;
	if (draw(state, 2))
		order(0, draw(state, 2) != 0, draw(state, 8) * MIB, 60000, &report);
	order(0, 0, UINT64_MAX, 60000, &report);
	if (report.status)
		fail("in", report.why);
	return copied > 0;
}

static uint64_t swaps(void)
{
	uint64_t values[GPUMAX_LAYER_COUNTERS] = {0};

	counters(values, GPUMAX_LAYER_COUNTERS);
	return values[GPUMAX_LAYER_SWAPS_OUT] + values[GPUMAX_LAYER_SWAPS_IN];
}

static void say_swaps(void)
{
	printf("%llu\n", (unsigned long long)swaps());
	fflush(stdout);
}

static void be_swapped(uint64_t times, uint32_t *state)
{
	while (swaps() < times) {
		let_work();
		if (!draw(state, 2000)) {
			OK(pause_all(60000));
			OK(resume());
		}
	}
	say_swaps();
	(void)getchar();
}

int main(int count, char **arguments)
{
	uint32_t state = (uint32_t)atoi(arguments[1]) * 2654435761u + 1;
	pthread_t threads[THREADS];
	int orders = atoi(arguments[2]), moved = 0;
	CUmodule module;

	*(void **)&order = dlsym(RTLD_DEFAULT, "gpumax_layer_swap");
	*(void **)&hint = dlsym(RTLD_DEFAULT, "gpumax_layer_hint");
	*(void **)&pause_all = dlsym(RTLD_DEFAULT, "gpumax_layer_pause");
	*(void **)&resume = dlsym(RTLD_DEFAULT, "gpumax_layer_resume");
	*(void **)&counters = dlsym(RTLD_DEFAULT, "gpumax_layer_counters");
	by_broker = count > 4;
	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	OK(cuCtxSetCurrent(context));
	if (count > 3) {
		OK(cuModuleLoadData(&module, "gpumax-emu\n"));
		OK(cuModuleGetFunction(&checksum, module, "checksum"));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(draw(&state, 1u << 30) + 1));
	if (by_broker)
		be_swapped((uint64_t)orders, &state);
	for (int i = 0; i < orders && !by_broker; i++) {
		let_work();
		moved += stir(&state);
	}
	atomic_store(&over, 1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (by_broker)
		say_swaps();
	else
		printf("whole %d\n", moved);
	return 0;
}
