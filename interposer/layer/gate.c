/*
 * The gate: whatever submits work to the device passes here. While nothing is asked of this process that costs two loads
 * and two stores to memory of the thread's own; no lock, no system call.
 */
#include "layer.h"
#include "swap.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint32_t always_here; /* the word of a process that nobody has given another one */
_Atomic(_Atomic uint32_t *) gate_word = &always_here;
_Atomic uint32_t captures;

_Thread_local struct gate_seat *gate_seat;
static _Atomic(struct gate_seat *) seats;
static struct gate_seat crowd;       /* for threads for which there was no memory: */
static _Atomic bool uncounted;       /* from then on nobody can say that nobody is inside */

static pthread_key_t seat_key;
static pthread_once_t with_key = PTHREAD_ONCE_INIT;

static void leave_seat(void *seat)
{
	struct gate_seat *left = seat;

	gate_seat = NULL;
	atomic_store(&left->inside, 0);
	atomic_store(&left->taken, false);
}

static void make_key(void)
{
	if (pthread_key_create(&seat_key, leave_seat))
		atomic_store(&uncounted, true);
}

static struct gate_seat *free_seat(void)
{
	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next) {
		bool taken = false;

		if (atomic_compare_exchange_strong(&seat->taken, &taken, true))
			return seat;
	}
	return NULL;
}

static struct gate_seat *new_seat(void)
{
	struct gate_seat *seat = NULL, *first;

	if (posix_memalign((void **)&seat, sizeof *seat, sizeof *seat))
		return NULL;
	atomic_init(&seat->inside, 0);
	atomic_init(&seat->taken, true);
	first = atomic_load(&seats);
	do
		seat->next = first;
	while (!atomic_compare_exchange_weak(&seats, &first, seat));
	return seat;
}

struct gate_seat *gate_take_seat(void)
{
	struct gate_seat *seat = free_seat();

	pthread_once(&with_key, make_key);
	if (!seat)
		seat = new_seat();
	if (!seat) {
		atomic_store(&uncounted, true);
		return &crowd;
	}
	pthread_setspecific(seat_key, seat);
	gate_seat = seat;
	return seat;
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *patience)
{
	return syscall(SYS_futex, word, operation, value, patience, NULL, 0);
}

static void inside_by(struct gate_seat *seat, uint32_t change)
{
	atomic_store(&seat->inside, atomic_load(&seat->inside) + change);
}

/*
 * Waits until the gate is open, out of everybody's way meanwhile. Not a call within another: whoever closes the gate
 * waits for that one. Not while a stream is captured: nothing runs of what is captured, and others must end it.
 */
void gate_wait(struct gate_seat *seat)
{
	static const struct timespec moment = {.tv_nsec = 200 * 1000 * 1000};
	_Atomic uint32_t *word = atomic_load(&gate_word);
	uint32_t why;

	if (seat == &crowd || atomic_load(&seat->inside) > 1)
		return;
	count(&counters.gate_waits);
	while ((why = atomic_load(word)) && !atomic_load(&captures)) {
		inside_by(seat, (uint32_t)-1);
		if (why & GATE_SWAPPED)
			swap_waited();
		futex(word, FUTEX_WAIT, why, &moment);
		inside_by(seat, 1);
	}
}

void capture_over(void)
{
	uint32_t before = atomic_load(&captures);

	while (before && !atomic_compare_exchange_weak(&captures, &before, before - 1))
		;
}

static bool barrier(void)
{
	static _Atomic bool registered;

	if (!atomic_load(&registered) &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
		atomic_store(&registered, true);
	if (atomic_load(&registered) && syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0)
		return true;
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

static bool anybody_inside(void)
{
	if (atomic_load(&captures) || atomic_load(&uncounted))
		return true;
	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next)
		if (atomic_load_explicit(&seat->inside, memory_order_acquire))
			return true;
	return false;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool gate_close(uint32_t why, uint64_t patience_ns)
{
	static const struct timespec moment = {.tv_nsec = 20 * 1000};
	uint64_t until = now_ns() + patience_ns;

	atomic_fetch_or(atomic_load(&gate_word), why);
	if (barrier()) {
		while (anybody_inside() && now_ns() < until)
			nanosleep(&moment, NULL);
		if (!anybody_inside())
			return true;
	} else {
		say_once(CAUSE_GATE, "this kernel has no membarrier, so work can't be held up: memory is not swapped and time "
				     "is not shared");
	}
	gate_open(why);
	return false;
}

void gate_open(uint32_t why)
{
	_Atomic uint32_t *word = atomic_load(&gate_word);

	atomic_fetch_and(word, ~why);
	futex(word, FUTEX_WAKE, INT32_MAX, NULL);
}

/* Of the threads only one is left, and no other process holds anything against it. */
void gate_after_fork(void)
{
	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next)
		if (seat != gate_seat) {
			atomic_store(&seat->inside, 0);
			atomic_store(&seat->taken, false);
		}
	atomic_store(&always_here, 0);
	atomic_store(&gate_word, &always_here);
	atomic_store(&captures, 0);
}
