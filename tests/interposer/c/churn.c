/*
 * Takes and gives back memory of a device as fast as it can, works on it, and checks what it reads. With a second
 * argument it is killed by a thread of its own after so many microseconds, in the middle of whatever it does.
 */
#include "gpumax/cuda_api.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OK(call)                                                                                                       \
	do {                                                                                                           \
		CUresult said_ = (call);                                                                               \
		if (said_ != CUDA_SUCCESS) {                                                                           \
			fprintf(stderr, "%d: %s: %d\n", __LINE__, #call, (int)said_);                                  \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

enum { HELD = 8 };

static void *killer(void *microseconds)
{
	usleep((useconds_t)(uintptr_t)microseconds);
	kill(getpid(), SIGKILL);
	return NULL;
}

int main(int count, char **words)
{
	unsigned int seed = (unsigned int)atoi(words[1]), refused = 0;
	CUdeviceptr held[HELD] = {0};
	CUcontext context;
	CUresult made;
	pthread_t thread;

	if (count > 2 && pthread_create(&thread, NULL, killer, (void *)(uintptr_t)atol(words[2])) != 0)
		return 1;
	OK(cuInit(0));
	do /* others may leave no room for a context, for a moment */
		made = cuDevicePrimaryCtxRetain(&context, 0);
	while (made == CUDA_ERROR_OUT_OF_MEMORY);
	OK(made);
	OK(cuCtxSetCurrent(context));
	for (unsigned int i = 0; count > 2 || i < 300; i++) {
		unsigned int at = (unsigned int)rand_r(&seed) % HELD, word = 0;
		size_t bytes = 4096u * (1 + (unsigned int)rand_r(&seed) % 2000);

		if (held[at] != 0)
			OK(cuMemFree_v2(held[at]));
		held[at] = 0;
		switch (cuMemAlloc_v2(&held[at], bytes)) {
		case CUDA_SUCCESS:
			OK(cuMemsetD32Async(held[at], i, bytes / 4, NULL));
			OK(cuMemcpyDtoH_v2(&word, held[at] + bytes - 4, 4));
			if (word != i)
				return 2;
			break;
		case CUDA_ERROR_OUT_OF_MEMORY:
			held[at] = 0;
			refused++;
			break;
		default:
			return 3;
		}
	}
	printf("%u\n", refused);
	return 0;
}
