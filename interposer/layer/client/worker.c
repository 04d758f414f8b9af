/* The thread that does what takes long, in the order in which it was asked to: the other one goes on giving signs of life. */
#include <unistd.h>

#include "layer/api.h"
#include "layer/client/client.h"
#include "layer/swap.h"

#define MOST_JOBS 256

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more;
static struct job jobs[MOST_JOBS];
static size_t first, count_of_jobs;

static struct job next(void)
{
	struct job job;

	pthread_mutex_lock(&lock);
	while (!count_of_jobs)
		pthread_cond_wait(&more, &lock);
	job = jobs[first];
	first = (first + 1) % MOST_JOBS;
	count_of_jobs--;
	pthread_mutex_unlock(&lock);
	return job;
}

static void carry_out(const struct job *job)
{
	switch (job->task) {
	case TASK_DRAIN:
		lease_drain(job->lease);
		break;
	case TASK_REST:
		lease_rest();
		break;
	case TASK_OUT:
	case TASK_IN:
		moving_swap(job);
		break;
	case TASK_BRING:
		moving_bring();
		break;
	case TASK_POOL:
		swap_pool(job->fd, job->bytes);
		close(job->fd);
		break;
	}
}

static void *work(void *unused)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED; /* what others capture is not disturbed by us */

	(void)unused;
	own_thread = true;
	REAL(cuThreadExchangeStreamCaptureMode)(&mode);
	for (;;) {
		struct job job = next();

		carry_out(&job);
	}
	return NULL;
}

/* The time of day may be set meanwhile. */
static void prepare(void)
{
	pthread_condattr_t clock;

	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&more, &clock);
	pthread_condattr_destroy(&clock);
}

bool worker_begin(void)
{
	prepare();
	return client_thread(work);
}

bool worker_pause(uint64_t nanoseconds)
{
	uint64_t end = client_now() + nanoseconds;
	const struct timespec until = {.tv_sec = (time_t)(end / 1000000000u), .tv_nsec = (long)(end % 1000000000u)};
	bool alone;

	pthread_mutex_lock(&lock);
	while (!count_of_jobs)
		if (pthread_cond_timedwait(&more, &lock, &until))
			break;
	alone = !count_of_jobs;
	pthread_mutex_unlock(&lock);
	return alone;
}

/* Who asks for more than fits into the queue, which no broker does, is not served. */
void worker_do(const struct job *job)
{
	pthread_mutex_lock(&lock);
	if (count_of_jobs < MOST_JOBS) {
		jobs[(first + count_of_jobs) % MOST_JOBS] = *job;
		count_of_jobs++;
		pthread_cond_signal(&more);
	} else if (job->task == TASK_POOL) {
		close(job->fd);
	}
	pthread_mutex_unlock(&lock);
}

void worker_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	count_of_jobs = 0;
}
