/*
 * What a context takes of its device before anything is allocated in it. The driver takes it by itself and tells nobody
 * how much, so GPUMAX_CONTEXT says it; each context is charged with so much from before it is made until it has ended.
 */
#include "overhead.h"

#include <stdlib.h>

#include "api.h"

struct context {
	struct context *next;
	CUcontext handle;
	uint64_t charged;
	uint32_t device;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct context *contexts;

bool overhead_take(CUdevice ordinal, struct overhead *taken)
{
	*taken = (struct overhead){0};
	if (idle() || !settings()->context || !device_index(ordinal, &taken->device))
		return true;
	return charge(taken->device, settings()->context, &taken->charged);
}

void overhead_give(const struct overhead *taken)
{
	discharge(taken->device, taken->charged);
}

void overhead_keep(CUcontext handle, const struct overhead *taken)
{
	struct context *context;

	if (!taken->charged)
		return;
	pthread_mutex_lock(&lock);
	for (context = contexts; context && context->handle != handle;)
		context = context->next;
	if (context) { /* somebody else had made it meanwhile */
		overhead_give(taken);
	} else if ((context = malloc(sizeof *context))) {
		*context = (struct context){contexts, handle, taken->charged, taken->device};
		contexts = context;
	} else {
		count(&counters.unaccounted);
	}
	pthread_mutex_unlock(&lock);
}

void overhead_ends(CUcontext handle)
{
	struct context **place = &contexts, *context;

	pthread_mutex_lock(&lock);
	while (*place && (*place)->handle != handle)
		place = &(*place)->next;
	context = *place;
	if (context) {
		*place = context->next;
		discharge(context->device, context->charged);
		free(context);
	}
	pthread_mutex_unlock(&lock);
}

uint64_t overhead_charged(uint32_t device)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&lock);
	for (const struct context *context = contexts; context; context = context->next)
		sum += context->device == device ? context->charged : 0;
	pthread_mutex_unlock(&lock);
	return sum;
}

void overhead_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	contexts = NULL;
}
