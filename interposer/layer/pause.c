/*
 * Giving up the devices of one's own will, and getting them back; and who brings memory in where no broker orders it:
 * whoever needs it next.
 */
#include "backing.h"
#include "gpumax/layer.h"
#include "host.h"
#include "mover.h"
#include "swap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool paused;
static _Atomic bool wanted; /* what is out may come in as soon as somebody waits for it */
static _Atomic(const struct swap_listener *) listening;

void swap_listen(const struct swap_listener *listener)
{
	atomic_store(&listening, listener);
}

const struct swap_listener *swap_listener(void)
{
	return atomic_load(&listening);
}

bool swap_pool(int descriptor, uint64_t bytes)
{
	return host_add(descriptor, bytes);
}

bool swap_paused(void)
{
	return atomic_load(&paused);
}

static bool by_orders(void)
{
	const struct swap_listener *listener = swap_listener();

	return listener && listener->orders && listener->orders();
}

/* The first error, or success: everything that can be is on the devices. */
CUresult swap_all_in(void)
{
	CUresult result = CUDA_SUCCESS;

	for (uint32_t device = 0; device < SHARE_DEVICES; device++) {
		struct swap_report report = swap_in_now(device);

		if (report.status != SWAP_DONE && result == CUDA_SUCCESS)
			result = report.why;
	}
	return result;
}

/* As far as it could; or back to where it was. */
CUresult swap_all_out(uint64_t deadline_ns)
{
	CUresult result = CUDA_SUCCESS;

	for (uint32_t device = 0; device < SHARE_DEVICES && result == CUDA_SUCCESS; device++) {
		struct swap_report report = swap_out(device, 0, deadline_ns, NULL);

		if (report.status != SWAP_DONE)
			result = report.why;
	}
	if (result != CUDA_SUCCESS && swap_all_in() != CUDA_SUCCESS)
		atomic_store(&wanted, true);
	return result;
}

CUresult swap_pause(uint64_t deadline_ns)
{
	const struct swap_listener *listener = swap_listener();
	uint64_t now = moment();
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&lock);
	if (!atomic_load(&paused)) {
		if (!gate_close(GATE_PAUSED, deadline_ns > now ? deadline_ns - now : 0))
			result = CUDA_ERROR_NOT_READY;
		else if ((result = swap_all_out(deadline_ns)) != CUDA_SUCCESS)
			gate_open(GATE_PAUSED);
		else
			atomic_store(&paused, true);
		if (result == CUDA_SUCCESS && listener && listener->paused)
			listener->paused(); /* before anybody can resume */
	}
	pthread_mutex_unlock(&lock);
	return result;
}

CUresult swap_resume(void)
{
	const struct swap_listener *listener = swap_listener();
	bool was;

	pthread_mutex_lock(&lock);
	was = atomic_exchange(&paused, false);
	if (was) {
		if (!by_orders() && swap_all_in() != CUDA_SUCCESS)
			atomic_store(&wanted, true);
		gate_open(GATE_PAUSED);
	}
	pthread_mutex_unlock(&lock);
	if (was && listener && listener->resumed)
		listener->resumed();
	return was ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

void swap_waited(void)
{
	if (!atomic_load(&wanted) || atomic_load(&paused) || by_orders())
		return;
	if (swap_all_in() == CUDA_SUCCESS)
		atomic_store(&wanted, false);
}

void pause_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	atomic_store(&paused, false);
	atomic_store(&wanted, false);
	atomic_store(&listening, NULL);
}
