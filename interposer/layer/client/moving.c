/*
 * Swapping: allocations that are made of pieces go to the host and come back when the broker says so, by the worker. A
 * program that pauses moves them by itself, and the broker is told.
 */
#include "layer/client/client.h"
#include "layer/swap.h"

#define PATIENCE_NS (60000 * MILLISECOND) /* of a swap: it ends by itself, unless the driver fails */

static _Atomic bool ordered_out; /* so it's the broker that says when memory comes in */

struct telling {
	enum gpumax_type type;
	uint32_t number;
	uint64_t began;
};

static void say_swapped(const struct telling *telling, uint64_t resident, uint64_t copied, uint32_t status)
{
	struct gpumax_swapped said = {.resident = resident, .copied = copied, .took_ns = client_now() - telling->began,
				      .device = telling->number, .status = status};

	wire_ask(telling->type, &said, sizeof said, 0);
}

static void tell_progress(void *who, uint32_t device, uint64_t resident, uint64_t copied)
{
	(void)device;
	say_swapped(who, resident, copied, GPUMAX_SWAP_PROGRESS);
}

/* What is just being allocated counts for a moment as if it were there; more than was to be left stays only if it can't go. */
static uint64_t left_on(uint32_t device, uint64_t wanted, uint64_t left)
{
	const struct timespec moment = {.tv_nsec = 5 * MILLISECOND};

	for (int i = 0; i < 20 && left > wanted; i++) {
		nanosleep(&moment, NULL);
		left = swap_usage(device).resident;
	}
	return left;
}

/* The budget that is there to be used counts as on the device: it's kept for this process, whether it uses it or not. */
void moving_swap(const struct job *job)
{
	bool out = job->task == TASK_OUT;
	struct telling telling = {.type = out ? GPUMAX_SWAPPED_OUT : GPUMAX_SWAPPED_IN, .number = job->device,
				  .began = client_now()};
	const struct swap_progress progress = {.tell = tell_progress, .who = &telling};
	uint64_t until = telling.began + PATIENCE_NS, budget;
	struct swap_report report;
	uint32_t device = memory_device(job->device, &budget);

	if (device >= SHARE_DEVICES)
		return;
	if (out) {
		atomic_store(&ordered_out, true);
		report = swap_out(device, job->bytes, until, &progress);
		report.resident = left_on(device, job->bytes, report.resident);
	} else {
		report = swap_in(device, job->bytes >= budget ? UINT64_MAX : job->bytes, until, NULL);
		if (report.status == SWAP_DONE && report.resident < job->bytes)
			report.resident = job->bytes;
	}
	if (!swap_anything_out())
		atomic_store(&ordered_out, false);
	say_swapped(&telling, report.resident, report.copied, (uint32_t)report.status);
}

/* Nobody says any more when memory may come in: as soon as there is room. */
void moving_bring(void)
{
	uint64_t unused;
	uint32_t device;

	if (memory_by_broker())
		return;
	atomic_store(&ordered_out, false);
	for (uint32_t i = 0; (device = memory_device(i, &unused)) < SHARE_DEVICES; i++)
		swap_in_now(device);
}

bool moving_by_orders(void)
{
	return atomic_load(&ordered_out);
}

/* Others have the room at once, and it's the broker's to say when memory comes back. */
void moving_paused(void)
{
	uint64_t unused;
	uint32_t device;

	if (!memory_by_broker())
		return;
	lease_give_up();
	atomic_store(&ordered_out, swap_anything_out());
	for (uint32_t i = 0; (device = memory_device(i, &unused)) < SHARE_DEVICES; i++) {
		struct telling telling = {.type = GPUMAX_SWAPPED_OUT, .number = i, .began = client_now()};

		say_swapped(&telling, swap_usage(device).resident, 0, GPUMAX_SWAP_PAUSED);
	}
}

void moving_after_fork(void)
{
	atomic_store(&ordered_out, false);
}
