/* A program that holds 40 MiB of 64 and starts another in each of the ways there are. "held" where the two share the
 * limit while both run, and the other's part is there again when it has ended. */
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
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

extern char **environ;
static char *const *own_words;

static int begin(void)
{
	CUcontext context;

	return cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context);
}

/* What the other finds: 24 MiB, and not a byte more. */
static int other(void)
{
	CUdeviceptr pointer, more;

	return begin() || cuMemAlloc_v2(&more, 25 * MIB) != CUDA_ERROR_OUT_OF_MEMORY ||
	       cuMemAlloc_v2(&pointer, 24 * MIB) != CUDA_SUCCESS || cuMemAlloc_v2(&more, 1) != CUDA_ERROR_OUT_OF_MEMORY;
}

static void exec_other(void)
{
	execl(own_words[0], own_words[0], "other", NULL);
	_exit(99);
}

static int by_exec(void *unused)
{
	(void)unused;
	exec_other();
	return 99;
}

static pid_t start(const char *way)
{
	static char stack[65536] __attribute__((aligned(16)));
	char *words[] = {own_words[0], "other", NULL};
	pid_t child = -1;

	if (!strcmp(way, "spawn"))
		return posix_spawn(&child, words[0], NULL, NULL, words, environ) ? -1 : child;
	if (!strcmp(way, "clone"))
		return clone(by_exec, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	child = !strcmp(way, "vfork") ? vfork() : fork();
	if (child == 0 && !strcmp(way, "fork"))
		_exit(other());
	if (child == 0)
		exec_other();
	return child;
}

int main(int count, char **words)
{
	const char *way = count > 1 ? words[1] : "";
	CUdeviceptr mine, rest;
	int status = 1;
	pid_t child;

	own_words = words;
	if (!strcmp(way, "other"))
		return other();
	if (begin() || cuMemAlloc_v2(&mine, 40 * MIB) != CUDA_SUCCESS)
		return 1;
	if (!strcmp(way, "system")) {
		char line[4096];

		snprintf(line, sizeof line, "%s other", words[0]);
		status = system(line);
	} else {
		child = start(way);
		if (child < 0 || waitpid(child, &status, 0) != child)
			return 1;
	}
	puts(status == 0 && cuMemAlloc_v2(&rest, 24 * MIB) == CUDA_SUCCESS && cuMemFree_v2(mine) == CUDA_SUCCESS
		     ? "held" : "escaped");
	return 0;
}
