/* The contexts of this process, from their beginning to their end: so that what runs in any of them can be awaited. */
#include <stdlib.h>

#include "layer/api.h"
#include "layer/client/client.h"

struct living {
	struct living *next;
	CUcontext context; /* NULL: free */
	bool waited_in;    /* the worker is in it right now */
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

	if (!settings()->broker)
		return;
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

	if (!settings()->broker)
		return;
	pthread_mutex_lock(&lock);
	while ((place = find(context)) && place->waited_in)
		pthread_cond_wait(&left, &lock);
	if (place)
		place->context = NULL;
	pthread_mutex_unlock(&lock);
}

static void wait_in(CUcontext context)
{
	CUcontext unused;

	if (REAL(cuCtxPushCurrent_v2)(context) != CUDA_SUCCESS)
		return;
	REAL(cuCtxSynchronize)();
	REAL(cuCtxPopCurrent_v2)(&unused);
}

/* Entries are never taken out of the list, so it can be gone through while others begin. */
void contexts_wait(void)
{
	pthread_mutex_lock(&lock);
	for (struct living *each = all; each; each = each->next) {
		if (!each->context)
			continue;
		each->waited_in = true;
		pthread_mutex_unlock(&lock);
		wait_in(each->context);
		pthread_mutex_lock(&lock);
		each->waited_in = false;
		pthread_cond_broadcast(&left);
	}
	pthread_mutex_unlock(&lock);
}

void contexts_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&left, NULL);
	all = NULL;
}
