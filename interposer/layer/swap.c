/*
 * Out: the gate closes, what runs is awaited, each piece is copied to the host and let go of while the next is copied.
 * In: each piece is made anew at its address and filled; then the gate opens. Pointers stay what they are, so nobody
 * notices. A piece leaves the device only once the host has its bytes, and the host's only once the device has them.
 *
 * Which pieces go first: those that cost nothing (what may be thrown away, what the host still has), then those of the
 * largest allocations, since few calls then make much room. When an allocation was last used can't be told: kernels get
 * addresses inside of structures, so every one of them may touch anything.
 */
#include "swap.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "backing.h"
#include "gpumax/layer.h"
#include "host.h"
#include "mover.h"

struct order {
	uint32_t device;
	uint64_t began, deadline, room_until; /* moments; the last: until when it's waited for room on the device */
	const struct swap_progress *progress;
	struct mover mover;
	struct swap_report report;
	uint64_t bound; /* bytes of pieces that may be on the device */
	bool again;     /* there was no room, but there may be */
	struct backing **sorted; /* largest first */
	size_t count;
};

static pthread_mutex_t orders[SHARE_DEVICES] = {[0 ... SHARE_DEVICES - 1] = PTHREAD_MUTEX_INITIALIZER};
static pthread_mutex_t gating = PTHREAD_MUTEX_INITIALIZER;
static uint32_t shut_for, moving; /* a bit a device: for which the gate is closed; of which an order moves pieces */

/* ---- the gate: closed while anything of any device is out ---- */

static bool shut(const struct order *order)
{
	uint64_t now = moment();
	bool fine;

	pthread_mutex_lock(&gating);
	fine = shut_for || gate_close(GATE_SWAPPED, order->deadline > now ? order->deadline - now : 0);
	if (fine)
		shut_for |= UINT32_C(1) << order->device;
	pthread_mutex_unlock(&gating);
	return fine;
}

static void set_moving(uint32_t device, bool now)
{
	pthread_mutex_lock(&gating);
	moving = now ? moving | UINT32_C(1) << device : moving & ~(UINT32_C(1) << device);
	pthread_mutex_unlock(&gating);
}

/* While an order moves pieces, that nothing is out may be so for a moment only. */
void swap_settle(uint32_t device)
{
	uint32_t bit = UINT32_C(1) << device;

	pthread_mutex_lock(&gating);
	if (!(moving & bit) && !atomic_load(&backings[device].out)) {
		if (shut_for == bit)
			gate_open(GATE_SWAPPED);
		shut_for &= ~bit;
	}
	pthread_mutex_unlock(&gating);
}

bool swap_anything_out(void)
{
	bool answer;

	pthread_mutex_lock(&gating);
	answer = shut_for != 0;
	pthread_mutex_unlock(&gating);
	return answer;
}

/* ---- an order ---- */

static struct order *begin(uint32_t device, uint64_t deadline_ns, const struct swap_progress *progress, enum direction direction)
{
	struct order *order = calloc(1, sizeof *order);

	if (!order)
		return NULL;
	pthread_mutex_lock(&orders[device]);
	set_moving(device, true);
	order->device = device;
	order->began = moment();
	order->deadline = deadline_ns;
	order->progress = progress;
	order->mover.direction = direction;
	return order;
}

static struct swap_report end(struct order *order)
{
	struct swap_report report = order->report;

	set_moving(order->device, false);
	swap_settle(order->device);
	if (report.why != CUDA_SUCCESS && report.status == SWAP_DONE)
		report.status = SWAP_FAILED;
	report.resident = swap_usage(order->device).resident;
	report.copied = order->mover.copied;
	report.took_ns = moment() - order->began;
	if (report.status != SWAP_DONE)
		count(&counters.swaps_failed);
	pthread_mutex_unlock(&orders[order->device]);
	free(order->sorted);
	free(order);
	return report;
}

static struct swap_report no_memory(uint32_t device)
{
	return (struct swap_report){SWAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY, swap_usage(device).resident, 0, 0};
}

static int by_size(const void *one, const void *other)
{
	const struct backing *a = *(struct backing *const *)one, *b = *(struct backing *const *)other;

	return a->size == b->size ? (a->base > b->base) - (a->base < b->base) : a->size < b->size ? 1 : -1;
}

/* With the device's lock held, as all that follows. */
static bool sort(struct order *order)
{
	size_t all = 0;

	for (struct backing *backing = backings[order->device].first; backing; backing = backing->next)
		all++;
	order->sorted = calloc(all + 1, sizeof *order->sorted);
	if (!order->sorted)
		return false;
	for (struct backing *backing = backings[order->device].first; backing; backing = backing->next)
		if (!backing->lost)
			order->sorted[order->count++] = backing;
	qsort(order->sorted, order->count, sizeof *order->sorted, by_size);
	return true;
}

/* Bytes of pieces that are on the device, or on their way there. */
static uint64_t here(const struct order *order)
{
	const struct backings *all = &backings[order->device];

	return atomic_load(&all->bytes) - atomic_load(&all->out);
}

static void tell(const struct order *order)
{
	uint64_t resident;

	if (!order->progress || !order->progress->tell)
		return;
	resident = swap_usage(order->device).resident;
	if (order->mover.direction == TO_DEVICE)
		resident -= order->mover.under_way < resident ? order->mover.under_way : resident;
	order->progress->tell(order->progress->who, order->device, resident, order->mover.copied);
}

static bool late(struct order *order)
{
	if (moment() < order->deadline)
		return false;
	order->report.why = CUDA_ERROR_NOT_READY;
	return true;
}

static void failed(struct order *order, CUresult why)
{
	if (order->report.why == CUDA_SUCCESS || order->report.why == CUDA_ERROR_NOT_READY)
		order->report.why = why;
}

/* ---- out ---- */

static bool costs_nothing(const struct piece *piece)
{
	return piece->hint == GPUMAX_LAYER_DISCARDABLE || piece->host_true;
}

static void drop(struct order *order, struct backing *backing, uint32_t i)
{
	CUresult result = piece_drop(backing, i);

	if (result != CUDA_SUCCESS)
		failed(order, result);
	else
		tell(order);
}

static void end_out(struct order *order)
{
	struct backing *backing;
	uint32_t i;
	CUresult result = mover_end(&order->mover, &backing, &i);

	if (result != CUDA_SUCCESS) {
		failed(order, result);
		return;
	}
	backing->pieces[i].host_true = true;
	drop(order, backing, i);
	if (backing->pieces[i].resident && backing->pieces[i].hint != GPUMAX_LAYER_READ_ONLY)
		piece_forget_host(backing, i); /* it stays, and may be written to */
}

static bool out_enough(const struct order *order)
{
	return here(order) <= order->bound + order->mover.under_way;
}

static void piece_out(struct order *order, struct backing *backing, uint32_t i)
{
	struct piece *piece = &backing->pieces[i];
	CUresult result;

	if (costs_nothing(piece)) {
		count_bytes(&counters.spared, piece_size(backing, i));
		drop(order, backing, i);
		return;
	}
	if (mover_full(&order->mover))
		end_out(order);
	if (order->report.why != CUDA_SUCCESS)
		return;
	result = mover_start(&order->mover, backing, i);
	if (result != CUDA_SUCCESS)
		failed(order, result);
}

static bool out_goes_on(struct order *order)
{
	return !out_enough(order) && order->report.why == CUDA_SUCCESS && !late(order);
}

static void pieces_out(struct order *order, bool free_ones)
{
	for (size_t at = 0; at < order->count && out_goes_on(order); at++) {
		struct backing *backing = order->sorted[at];

		for (uint32_t i = 0; i < backing->count && out_goes_on(order); i++)
			if (!backing->holds && backing->pieces[i].resident && costs_nothing(&backing->pieces[i]) == free_ones)
				piece_out(order, backing, i);
	}
}

static void all_out(struct order *order)
{
	uint64_t total = here(order);

	host_expect(total > order->bound ? total - order->bound : 0);
	if (!sort(order)) {
		failed(order, CUDA_ERROR_OUT_OF_MEMORY);
		return;
	}
	pieces_out(order, true);
	pieces_out(order, false);
	while (order->mover.count)
		end_out(order);
	if (out_enough(order))
		order->report.why = CUDA_SUCCESS;
}

static void go_out(struct order *order)
{
	CUresult drained;

	if (!shut(order)) {
		order->report = (struct swap_report){.status = SWAP_BUSY, .why = CUDA_ERROR_NOT_READY};
		return;
	}
	drained = drain(order->deadline);
	if (drained == CUDA_SUCCESS) {
		pthread_mutex_lock(&backings[order->device].lock);
		all_out(order);
		pthread_mutex_unlock(&backings[order->device].lock);
		count(&counters.swaps_out);
	} else {
		order->report = (struct swap_report){.status = drained == CUDA_ERROR_NOT_READY ? SWAP_BUSY : SWAP_FAILED,
						     .why = drained};
	}
}

struct swap_report swap_out(uint32_t device, uint64_t keep, uint64_t deadline_ns, const struct swap_progress *progress)
{
	struct order *order = begin(device, deadline_ns, progress, TO_HOST);
	struct swap_usage usage;

	if (!order)
		return no_memory(device);
	usage = swap_usage(device);
	order->bound = keep > usage.pinned ? keep - usage.pinned : 0;
	order->bound += atomic_load(&backings[device].kept);
	if (here(order) > order->bound)
		go_out(order);
	return end(order);
}

/* ---- in ---- */

/* Errors after which nothing works in a context any more: what it had is lost, whoever asks. */
static bool breaks(CUresult result)
{
	return result == CUDA_ERROR_ECC_UNCORRECTABLE || result == CUDA_ERROR_DEVICE_UNAVAILABLE ||
	       result == CUDA_ERROR_CONTEXT_IS_DESTROYED || result == CUDA_ERROR_INVALID_CONTEXT ||
	       (result >= CUDA_ERROR_ILLEGAL_ADDRESS && result <= CUDA_ERROR_LAUNCH_FAILED) || result == CUDA_ERROR_UNKNOWN;
}

static bool broken(CUcontext context)
{
	CUcontext unused;
	CUresult result = REAL(cuCtxPushCurrent_v2)(context);

	if (result == CUDA_SUCCESS) {
		result = REAL(cuCtxSynchronize)();
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	return breaks(result);
}

/* The program finds the error itself once it is let go on, as it would have without us. */
static void lose(struct backing *backing)
{
	for (uint32_t i = 0; i < backing->count; i++)
		if (!backing->pieces[i].resident) {
			piece_forget_host(backing, i);
			atomic_fetch_sub(&backings[backing->device].out, piece_size(backing, i));
		}
	backing->lost = true;
}

static void in_failed(struct order *order, struct backing *backing, CUresult result)
{
	if (breaks(result) && broken(backing->context))
		lose(backing);
	else
		failed(order, result);
}

static void end_in(struct order *order)
{
	struct backing *backing;
	uint32_t i;
	CUresult result = mover_end(&order->mover, &backing, &i);

	if (backing->lost)
		return;
	if (result != CUDA_SUCCESS) {
		piece_drop(backing, i);
		in_failed(order, backing, result);
		return;
	}
	if (backing->pieces[i].hint != GPUMAX_LAYER_READ_ONLY)
		piece_forget_host(backing, i);
	tell(order);
}

static void piece_in(struct order *order, struct backing *backing, uint32_t i)
{
	CUresult result = piece_bring(backing, i);

	if (result == CUDA_ERROR_OUT_OF_MEMORY && moment() < order->room_until) {
		order->again = true;
		return;
	}
	if (result == CUDA_SUCCESS && backing->pieces[i].host_true) {
		if (mover_full(&order->mover))
			end_in(order);
		if (backing->lost)
			return;
		result = mover_start(&order->mover, backing, i);
		if (result != CUDA_SUCCESS)
			piece_drop(backing, i);
	} else if (result == CUDA_SUCCESS) {
		tell(order);
	}
	if (result != CUDA_SUCCESS)
		in_failed(order, backing, result);
}

static bool fits(const struct order *order, uint64_t size)
{
	return here(order) + size <= order->bound;
}

static void pieces_in(struct order *order, bool with_content)
{
	for (size_t at = 0; at < order->count; at++) {
		struct backing *backing = order->sorted[at];

		for (uint32_t i = 0; i < backing->count && !backing->lost; i++) {
			if (backing->pieces[i].resident || backing->pieces[i].host_true != with_content ||
			    !fits(order, piece_size(backing, i)))
				continue;
			if (order->again || order->report.why != CUDA_SUCCESS || late(order))
				return;
			piece_in(order, backing, i);
		}
	}
}

static void all_in(struct order *order)
{
	if (!sort(order)) {
		failed(order, CUDA_ERROR_OUT_OF_MEMORY);
		return;
	}
	pieces_in(order, true);
	pieces_in(order, false);
	while (order->mover.count)
		end_in(order);
	free(order->sorted);
	order->sorted = NULL;
	order->count = 0;
}

/* Where there is no room somebody else may be leaving. Meanwhile the program may free what it has, which makes room, too. */
static void come_in(struct order *order)
{
	static const struct timespec while_others_leave = {.tv_nsec = 500 * 1000};

	do {
		if (order->again)
			nanosleep(&while_others_leave, NULL);
		order->again = false;
		pthread_mutex_lock(&backings[order->device].lock);
		all_in(order);
		pthread_mutex_unlock(&backings[order->device].lock);
	} while (order->again && order->report.why == CUDA_SUCCESS);
}

static struct swap_report bring_in(uint32_t device, uint64_t upto, uint64_t deadline_ns, uint64_t room_until,
				   const struct swap_progress *progress)
{
	struct order *order = begin(device, deadline_ns, progress, TO_DEVICE);
	struct swap_usage usage;
	uint64_t beside;

	if (!order)
		return no_memory(device);
	if (atomic_load(&backings[device].out)) {
		order->room_until = room_until;
		usage = swap_usage(device);
		beside = usage.pinned - usage.kept;
		order->bound = upto > beside ? upto - beside : 0;
		come_in(order);
		count(&counters.swaps_in);
	}
	return end(order);
}

struct swap_report swap_in(uint32_t device, uint64_t upto, uint64_t deadline_ns, const struct swap_progress *progress)
{
	return bring_in(device, upto, deadline_ns, deadline_ns, progress);
}

struct swap_report swap_in_now(uint32_t device)
{
	return bring_in(device, UINT64_MAX, UINT64_MAX, 0, NULL);
}

/* A child has none of its parent's allocations, and no thread that moves any. */
void swap_after_fork(void)
{
	for (uint32_t device = 0; device < SHARE_DEVICES; device++) {
		pthread_mutex_init(&orders[device], NULL);
		pthread_mutex_init(&backings[device].lock, NULL);
		backings[device].first = NULL;
		atomic_store(&backings[device].bytes, 0);
		atomic_store(&backings[device].out, 0);
		atomic_store(&backings[device].kept, 0);
		atomic_store(&backings[device].read_only, 0);
		atomic_store(&backings[device].discardable, 0);
		atomic_store(&backings[device].coming, 0);
	}
	pthread_mutex_init(&gating, NULL);
	shut_for = moving = 0;
	host_after_fork();
	mover_after_fork();
	drain_after_fork();
	pause_after_fork();
}
