/*
 * What a context takes of its device before anything is allocated in it. The driver takes it by itself and tells nobody
 * how much: GPUMAX_CONTEXT says what is charged for one before it is made. Then NVML is asked what this process has come
 * to have, and so much is charged until the context has ended; where NVML can't say it stays at what was said.
 */
#include "overhead.h"

#include <stdlib.h>

#include "api.h"
#include "seen.h"

struct context {
	struct context *next;
	CUcontext handle;
	uint64_t charged;
	uint32_t device;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t watch = PTHREAD_MUTEX_INITIALIZER; /* of one beginning at a time */
static struct context *contexts;
static bool is_us[SHARE_DEVICES]; /* by `watch`: who NVML lists under our number is this process */

/* What somebody else allocated meanwhile can't be told from what the context takes. */
static bool measured(struct overhead *taken, uint64_t *bytes)
{
	uint64_t now;

	if (!taken->seen || !seen_own(taken->device, &now) || !now || now < taken->before ||
	    share_held(taken->device) != taken->held)
		return false;
	is_us[taken->device] = true;
	*bytes = now - taken->before;
	return true;
}

static bool is_there(CUdevice ordinal)
{
	unsigned int flags;
	int active = 0;

	return REAL(cuDevicePrimaryCtxGetState)(ordinal, &flags, &active) == CUDA_SUCCESS && active;
}

static void end_watch(struct overhead *taken)
{
	taken->watched = false;
	pthread_mutex_unlock(&watch);
}

/* Out of memory before anything was allocated is no error that anybody could make sense of. */
static void say_if_never(uint64_t limit)
{
	if (limit && limit < settings()->context)
		say_once(CAUSE_SMALL, "a part of %llu MiB can't hold a context, which counts %llu MiB (GPUMAX_CONTEXT): "
				      "CUDA_ERROR_OUT_OF_MEMORY; ask for more memory",
			 (unsigned long long)(limit >> 20), (unsigned long long)(settings()->context >> 20));
}

/* Looked at again when nobody else makes one any more: who comes second finds it made, and has nothing to pay. */
bool overhead_take(CUdevice ordinal, bool primary, struct overhead *taken)
{
	*taken = (struct overhead){0};
	if (idle() || !settings()->context || (primary && is_there(ordinal)) || !device_index(ordinal, &taken->device))
		return true;
	pthread_mutex_lock(&watch);
	taken->watched = true;
	if (primary && is_there(ordinal)) {
		end_watch(taken);
		return true;
	}
	if (!charge(taken->device, settings()->context, &taken->charged)) {
		end_watch(taken);
		say_if_never(limit_of(taken->device));
		return false;
	}
	taken->held = share_held(taken->device);
	taken->seen = seen_own(taken->device, &taken->before) && (!taken->before || is_us[taken->device]);
	return true;
}

void overhead_give(struct overhead *taken)
{
	if (!taken->watched)
		return;
	discharge(taken->device, taken->charged);
	end_watch(taken);
}

static bool settle(struct overhead *taken, uint64_t bytes)
{
	uint64_t more = 0;

	if (bytes > taken->charged && !charge(taken->device, bytes - taken->charged, &more))
		return false;
	if (bytes < taken->charged)
		discharge(taken->device, taken->charged - bytes);
	taken->charged = bytes < taken->charged ? bytes : taken->charged + more;
	return true;
}

static void enter(CUcontext handle, const struct overhead *taken)
{
	struct context *context = malloc(sizeof *context);

	if (!context) {
		count(&counters.unaccounted);
		return;
	}
	pthread_mutex_lock(&lock);
	*context = (struct context){contexts, handle, taken->charged, taken->device};
	contexts = context;
	pthread_mutex_unlock(&lock);
}

bool overhead_keep(CUcontext handle, struct overhead *taken)
{
	uint64_t bytes;

	if (!taken->watched)
		return true;
	if (taken->charged && measured(taken, &bytes) && !settle(taken, bytes))
		return false;
	enter(handle, taken);
	end_watch(taken);
	return true;
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
	pthread_mutex_init(&watch, NULL);
	contexts = NULL;
	for (uint32_t device = 0; device < SHARE_DEVICES; device++)
		is_us[device] = false;
}
