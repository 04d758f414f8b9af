/*
 * Waiting for what was submitted, no longer than a deadline. The driver can only wait for ever, so a thread of our own
 * does that; work that never ends keeps that thread, and whoever asks again is told in time again.
 */
#include <signal.h>
#include <time.h>

#include "api.h"
#include "client/client.h"
#include "mover.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked, answered;
static bool running;
static uint64_t wanted, done;
static CUresult found;

uint64_t moment(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *waiter(void *unused)
{
	own_thread = true;
	pthread_mutex_lock(&lock);
	for (;;) {
		uint64_t mine;
		CUresult result;

		while (done == wanted)
			pthread_cond_wait(&asked, &lock);
		mine = wanted;
		pthread_mutex_unlock(&lock);
		result = contexts_wait();
		pthread_mutex_lock(&lock);
		done = mine;
		found = result;
		pthread_cond_broadcast(&answered);
	}
	return unused;
}

/* With the lock held. Signals are for the program's own threads. */
static bool started(void)
{
	pthread_condattr_t clock;
	pthread_attr_t detached;
	sigset_t all, before;
	pthread_t thread;

	if (running)
		return true;
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&asked, NULL);
	pthread_cond_init(&answered, &clock);
	pthread_condattr_destroy(&clock);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	running = pthread_create(&thread, &detached, waiter, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&detached);
	return running;
}

CUresult drain(uint64_t deadline_ns)
{
	struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u), .tv_nsec = (long)(deadline_ns % 1000000000u)};
	CUresult result = CUDA_ERROR_NOT_READY;
	uint64_t mine;

	pthread_mutex_lock(&lock);
	if (!started()) {
		pthread_mutex_unlock(&lock);
		return contexts_wait();
	}
	mine = ++wanted;
	pthread_cond_signal(&asked);
	while (done < mine && pthread_cond_timedwait(&answered, &lock, &until) == 0)
		;
	if (done >= mine)
		result = found;
	pthread_mutex_unlock(&lock);
	return result;
}

void drain_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	running = false;
	wanted = done = 0;
}
