/*
 * The program that bench/sharing.py measures; it links with nothing of CUDA and asks the loader for libcuda.so.1.
 *
 *   sharing spin NS AT_ONCE         launches kernels of so many nanoseconds until it is killed, at most AT_ONCE of them unfinished
 *   sharing loop NS AT_ONCE COUNT   COUNT of them; prints the seconds that they took
 *   sharing work BYTES NS COUNT     the same beside so much memory, all of which it writes first; each byte that it looks at has to be right
 *   sharing canary CORE NS          wakes up each half of a millisecond on this core until it is killed; prints when it should have and when
 *                                   it could, in nanoseconds of the monotonic clock, where that was so much later
 *
 * Each says `ready` once it could begin, and begins with a line on its standard input.
 */
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpumax/cuda_abi.h"

#define CALL(name, ...)                                                                                                 \
	do {                                                                                                           \
		CUresult result_ = ((CUresult(*)())found(#name))(__VA_ARGS__);                                         \
		if (result_ != CUDA_SUCCESS) {                                                                         \
			fprintf(stderr, "%s: %d\n", #name, result_);                                                   \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

typedef CUresult launcher(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **);

static void *found(const char *name)
{
	static void *driver;
	void *symbol;

	if (driver == NULL)
		driver = dlopen("libcuda.so.1", RTLD_NOW);
	symbol = driver != NULL ? dlsym(driver, name) : NULL;
	if (symbol == NULL) {
		fprintf(stderr, "no %s in libcuda.so.1\n", name);
		exit(1);
	}
	return symbol;
}

static double now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static CUfunction function(const char *name)
{
	static CUmodule module;
	CUfunction out;

	if (module == NULL)
		CALL(cuModuleLoadData, &module, "gpumax-emu\n");
	CALL(cuModuleGetFunction, &out, module, name);
	return out;
}

static void wait_for_a_line(void)
{
	puts("ready");
	fflush(stdout);
	while (getchar() != '\n')
		if (feof(stdin))
			exit(0);
}

/* As a program with a queue of bounded length does it: two events take turns, so that the device always has something to do. */
static void launches(uint64_t ns, long at_once, long count)
{
	launcher *launch = (launcher *)found("cuLaunchKernel");
	CUresult (*record)(CUevent, CUstream) = found("cuEventRecord"), (*await)(CUevent) = found("cuEventSynchronize");
	CUfunction spin = function("spin");
	long half = at_once > 1 ? at_once / 2 : 1;
	CUevent event[2];
	void *words[] = {&ns};

	for (int i = 0; i < 2; i++)
		CALL(cuEventCreate, &event[i], 2);
	for (long i = 0; count == 0 || i < count; i++) {
		if (launch(spin, 1, 1, 1, 1, 1, 1, 0, NULL, words, NULL))
			exit(1);
		if ((i + 1) % half == 0) {
			long turn = (i + 1) / half % 2;

			record(event[turn], NULL);
			if (at_once == 1 || (i + 1) / half > 1)
				await(event[at_once == 1 ? turn : !turn]);
		}
	}
	CALL(cuCtxSynchronize);
}

static void work(uint64_t bytes, uint64_t ns, long count)
{
	enum { PARTS = 8 };
	launcher *launch = (launcher *)found("cuLaunchKernel");
	CUfunction spin = function("spin"), fill = function("fill");
	uint64_t part = bytes / PARTS / 4096 * 4096, words = part / 4;
	uint32_t seen[2];
	CUdeviceptr at[PARTS];

	for (uint32_t i = 0; i < PARTS; i++) {
		uint32_t value = i + 1;
		void *arguments[] = {&at[i], &value, &words};

		CALL(cuMemAlloc_v2, &at[i], part);
		launch(fill, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
	}
	for (long n = 0; n < count; n++) {
		void *arguments[] = {&ns};
		uint32_t i = (uint32_t)(n % PARTS);

		launch(spin, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL);
		CALL(cuMemcpyDtoH_v2, &seen[0], at[i], (size_t)4);
		CALL(cuMemcpyDtoH_v2, &seen[1], at[i] + part - 4, (size_t)4);
		if (seen[0] != i + 1 || seen[1] != i + 1) {
			fprintf(stderr, "part %u holds %u and %u\n", i, seen[0], seen[1]);
			exit(1);
		}
	}
	CALL(cuCtxSynchronize);
}

/* Whoever is ready to run and can't stands still as this one does, whatever keeps them: other programs, or other machines on this one. */
static void canary(int core, int64_t late)
{
	enum { STEP = 500000, SECOND = 1000000000 };
	struct timespec due, now;
	cpu_set_t cores;
	int64_t by;

	CPU_ZERO(&cores);
	CPU_SET(core, &cores);
	sched_setaffinity(0, sizeof cores, &cores);
	clock_gettime(CLOCK_MONOTONIC, &due);
	for (;;) {
		due.tv_nsec += STEP;
		due.tv_sec += due.tv_nsec / SECOND;
		due.tv_nsec %= SECOND;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		by = (now.tv_sec - due.tv_sec) * SECOND + now.tv_nsec - due.tv_nsec;
		if (by >= late) {
			printf("%lld %lld\n", (long long)due.tv_sec * SECOND + due.tv_nsec,
			       (long long)now.tv_sec * SECOND + now.tv_nsec);
			fflush(stdout);
			due = now;
		}
	}
}

int main(int count, char **words)
{
	CUcontext context;
	double begin;

	if (count < 4)
		return 2;
	if (strcmp(words[1], "canary") == 0) {
		wait_for_a_line();
		canary(atoi(words[2]), atoll(words[3]));
	}
	CALL(cuInit, 0);
	CALL(cuDevicePrimaryCtxRetain, &context, 0);
	CALL(cuCtxSetCurrent, context);
	function("spin");
	wait_for_a_line();
	begin = now();
	if (strcmp(words[1], "work") == 0)
		work(strtoull(words[2], NULL, 10), strtoull(words[3], NULL, 10), atol(words[4]));
	else
		launches(strtoull(words[2], NULL, 10), atol(words[3]), count > 4 ? atol(words[4]) : 0);
	printf("%.6f\n", now() - begin);
	return 0;
}
