/* The thread of the layer that does what takes long: who looks whether the program rests makes way for whatever is to be done. */
#include <stdio.h>

#include "layer/client/worker.c"

#define HOUR 3600000000000u

any_function gpumax_slots[SLOTS];
_Thread_local bool own_thread;
static _Atomic int rests, drained;
static _Atomic bool alone = true;

bool client_thread(void *(*run)(void *))
{
	pthread_t thread;

	return pthread_create(&thread, NULL, run, NULL) == 0;
}

void lease_rest(void)
{
	atomic_fetch_add(&rests, 1);
	atomic_store(&alone, worker_pause(HOUR));
}

void lease_drain(uint64_t lease)
{
	atomic_store(&drained, (int)lease);
}

void moving_swap(const struct job *job)
{
	(void)job;
}

void moving_bring(void)
{
}

bool swap_pool(int descriptor, uint64_t bytes)
{
	return descriptor < 0 && bytes;
}

static CUresult exchange(CUstreamCaptureMode *mode)
{
	(void)mode;
	return CUDA_SUCCESS;
}

int main(void)
{
	const struct job rest = {.task = TASK_REST}, drain = {.task = TASK_DRAIN, .lease = 7};

	gpumax_slots[SLOT_cuThreadExchangeStreamCaptureMode] = (any_function)exchange;
	if (!worker_begin())
		return 1;
	worker_do(&rest);
	while (!atomic_load(&rests)) /* it has begun to look */
		sched_yield();
	worker_do(&drain);
	while (!atomic_load(&drained)) /* within the hour */
		sched_yield();
	printf("%d %s", atomic_load(&drained), atomic_load(&alone) ? "rested" : "made way");
	return 0;
}
