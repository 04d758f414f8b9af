/* The contexts of this process, from their beginning to their end: so that what runs in any of them can be awaited. */
#include <stdlib.h>

#include "layer/api.h"
#include "layer/client/client.h"

struct living {
	struct living *next;
	CUcontext context; /* NULL: free */
	uint32_t waiters;  /* threads of ours that are in it right now */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static struct living *all;

static struct living *find(CUcontext context)
{
	struct living *each = all;

	while (each && each->context != context)
		each = each->next;
	return each;
}

void context_begins(CUcontext context)
{
	struct living *place;

	pthread_mutex_lock(&lock);
	if (!find(context)) {
		place = find(NULL);
		if (!place) {
			place = calloc(1, sizeof *place);
			if (place) {
				place->next = all;
				all = place;
			}
		}
		if (place)
			place->context = context;
	}
	pthread_mutex_unlock(&lock);
}

void context_ends(CUcontext context)
{
	struct living *place;

	pthread_mutex_lock(&lock);
	while ((place = find(context)) && place->waiters)
		pthread_cond_wait(&left, &lock);
	if (place)
		place->context = NULL;
	pthread_mutex_unlock(&lock);
}

static CUresult wait_in(CUcontext context)
{
	CUcontext unused;
	CUresult result = REAL(cuCtxPushCurrent_v2)(context);

	if (result == CUDA_SUCCESS) {
		result = REAL(cuCtxSynchronize)();
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	/* One that ends meanwhile has nothing to wait for. */
	return result == CUDA_ERROR_INVALID_CONTEXT || result == CUDA_ERROR_CONTEXT_IS_DESTROYED ? CUDA_SUCCESS : result;
}

/* Entries are never taken out of the list, so it can be gone through while others begin. */
static CUresult wait_in_known(void)
{
	CUresult result = CUDA_SUCCESS, one;

	pthread_mutex_lock(&lock);
	for (struct living *each = all; each; each = each->next) {
		if (!each->context)
			continue;
		each->waiters++;
		pthread_mutex_unlock(&lock);
		one = wait_in(each->context);
		pthread_mutex_lock(&lock);
		if (one != CUDA_SUCCESS)
			result = one;
		each->waiters--;
		pthread_cond_broadcast(&left);
	}
	pthread_mutex_unlock(&lock);
	return result;
}

static bool is_known(CUcontext context)
{
	bool known;

	pthread_mutex_lock(&lock);
	known = find(context) != NULL;
	pthread_mutex_unlock(&lock);
	return known;
}

/*
 * Primary contexts that the vendor's own libraries began, by tables of functions in which nobody sees what is called.
 * They are held meanwhile, since nobody sees their end either.
 */
static CUresult wait_in_unseen(void)
{
	CUresult result = CUDA_SUCCESS, one;
	CUcontext context;
	unsigned int flags;
	int number = 0, active;

	REAL(cuDeviceGetCount)(&number);
	for (CUdevice device = 0; device < number; device++) {
		active = 0;
		if (REAL(cuDevicePrimaryCtxGetState)(device, &flags, &active) || !active ||
		    REAL(cuDevicePrimaryCtxRetain)(&context, device))
			continue;
		one = is_known(context) ? CUDA_SUCCESS : wait_in(context);
		if (one != CUDA_SUCCESS)
			result = one;
		REAL(cuDevicePrimaryCtxRelease_v2)(device);
	}
	return result;
}

/* All of them, also behind one that fails: that one is broken, the others may be at work. */
CUresult contexts_wait(void)
{
	CUresult known = wait_in_known(), unseen = wait_in_unseen();

	return known != CUDA_SUCCESS ? known : unseen;
}

void contexts_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&left, NULL);
	all = NULL;
}
