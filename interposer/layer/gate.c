/*
 * The gate: whatever submits work to the device passes here. While nothing is asked of this process that costs two loads
 * and two stores to memory of the thread's own; no lock, no system call.
 *
 * It is closed for reasons of our own, or because a lease is over that a broker gave. Of the two words that say so threads
 * look at one: at our own while there is a reason, else at that of the lease.
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

#include "client/client.h"

static _Atomic uint32_t our_word = GATE_OPEN; /* open, or our reasons above its low byte */
static _Atomic(_Atomic uint32_t *) lease_word;
_Atomic(_Atomic uint32_t *) gate_word = &our_word;
_Atomic uint32_t captures;

static pthread_mutex_t turning = PTHREAD_MUTEX_INITIALIZER; /* which word counts */

_Thread_local struct gate_seat *gate_seat;
static _Atomic(struct gate_seat *) seats; /* of our own */
static _Atomic(struct gate_seat *) shared_seats;
static _Atomic size_t shared_count, shared_used;
static struct gate_seat crowd;       /* for threads for which there was no memory: */
static _Atomic bool uncounted;       /* from then on nobody can say that nobody is inside */

static pthread_key_t seat_key;
static pthread_once_t with_key = PTHREAD_ONCE_INIT;

static void leave_seat(void *seat)
{
	struct gate_seat *left = seat;

	captures_thread_ends();
	gate_seat = NULL;
	atomic_store(&left->calls, atomic_load(&left->calls) & ~GATE_UNDER_WAY);
	atomic_store(&left->taken, 0);
}

static void make_key(void)
{
	if (pthread_key_create(&seat_key, leave_seat))
		atomic_store(&uncounted, true);
}

static bool take(struct gate_seat *seat)
{
	uint32_t taken = 0;

	return atomic_compare_exchange_strong(&seat->taken, &taken, 1);
}

static struct gate_seat *shared_seat(void)
{
	struct gate_seat *first = atomic_load(&shared_seats);
	size_t count = first ? atomic_load(&shared_count) : 0, used;

	for (size_t i = 0; i < count; i++) {
		if (!take(&first[i]))
			continue;
		used = atomic_load(&shared_used);
		while (used <= i && !atomic_compare_exchange_weak(&shared_used, &used, i + 1))
			;
		return &first[i];
	}
	return NULL;
}

static struct gate_seat *free_seat(void)
{
	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next)
		if (take(seat))
			return seat;
	return NULL;
}

static struct gate_seat *new_seat(void)
{
	struct gate_seat *seat = NULL, *first;

	if (posix_memalign((void **)&seat, sizeof *seat, sizeof *seat))
		return NULL;
	atomic_init(&seat->calls, 0);
	atomic_init(&seat->taken, 1);
	first = atomic_load(&seats);
	do
		seat->next = first;
	while (!atomic_compare_exchange_weak(&seats, &first, seat));
	return seat;
}

struct gate_seat *gate_take_seat(void)
{
	struct gate_seat *seat;

	client_begin();
	seat = shared_seat();
	if (!seat)
		seat = free_seat();
	pthread_once(&with_key, make_key);
	if (!seat) {
		seat = new_seat();
		client_unseen();
	}
	if (!seat) {
		atomic_store(&uncounted, true);
		return &crowd;
	}
	pthread_setspecific(seat_key, seat);
	gate_seat = seat;
	return seat;
}

void gate_seats(struct gate_seat *first, size_t count_of_them)
{
	atomic_store(&shared_count, count_of_them);
	atomic_store(&shared_seats, first);
}

bool gate_seen(void)
{
	return !atomic_load(&seats) && !atomic_load(&uncounted);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *patience)
{
	return syscall(SYS_futex, word, operation, value, patience, NULL, 0);
}

static bool is_open(uint32_t word)
{
	return (uint8_t)word == GATE_OPEN;
}

/* Who waits for this process itself to go on wants nothing of a broker. */
static void wait_at(_Atomic uint32_t *word, uint32_t value, const struct timespec *moment)
{
	uint32_t why = word == &our_word ? value >> 8 : 0;
	bool wants = !(why & (GATE_PAUSED | GATE_HELD));

	if (wants)
		client_wait_begins();
	if (why & GATE_SWAPPED)
		swap_waited();
	futex(word, FUTEX_WAIT, value, moment);
	if (wants)
		client_wait_ends();
}

/*
 * Waits until the gate is open, out of everybody's way meanwhile. Not a call within another: whoever closes the gate
 * waits for that one. Not while a stream is captured: nothing runs of what is captured, and others must end it.
 */
void gate_wait(struct gate_seat *seat)
{
	static const struct timespec moment = {.tv_nsec = 200 * 1000 * 1000};
	_Atomic uint32_t *word;
	uint32_t value;

	if (seat == &crowd || (atomic_load(&seat->calls) & GATE_UNDER_WAY) > 1)
		return;
	count(&counters.gate_waits);
	while (word = atomic_load(&gate_word), value = atomic_load(word), !is_open(value) && !atomic_load(&captures)) {
		atomic_store(&seat->calls, atomic_load(&seat->calls) - 1);
		wait_at(word, value, &moment);
		atomic_store(&seat->calls, atomic_load(&seat->calls) + 1);
	}
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

static bool is_inside(const struct gate_seat *seat)
{
	return atomic_load_explicit(&seat->calls, memory_order_acquire) & GATE_UNDER_WAY;
}

static bool anybody_inside(void)
{
	struct gate_seat *shared = atomic_load(&shared_seats);

	if (atomic_load(&captures) || atomic_load(&uncounted))
		return true;
	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next)
		if (is_inside(seat))
			return true;
	for (size_t i = 0; shared && i < atomic_load(&shared_used); i++)
		if (is_inside(&shared[i]))
			return true;
	return false;
}

uint64_t gate_calls(void)
{
	struct gate_seat *shared = atomic_load(&shared_seats);
	uint64_t sum = 0;

	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next)
		sum += atomic_load(&seat->calls) >> 8;
	for (size_t i = 0; shared && i < atomic_load(&shared_used); i++)
		sum += atomic_load(&shared[i].calls) >> 8;
	return sum;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool gate_empty(uint64_t patience_ns)
{
	uint64_t until = now_ns() + patience_ns;
	struct timespec moment = {.tv_nsec = 20 * 1000};

	if (!barrier()) {
		say_once(CAUSE_GATE, "this kernel has no membarrier, so work can't be held up: memory is not swapped and time "
				     "is not shared");
		nanosleep(&moment, NULL); /* whoever asks again and again has something else to do in between */
		return false;
	}
	while (anybody_inside() && now_ns() < until) {
		nanosleep(&moment, NULL);
		if (moment.tv_nsec < 1000 * 1000)
			moment.tv_nsec *= 2;
	}
	return !anybody_inside();
}

/* Threads look at our own word while we have a reason, or no lease counts. */
static void turn(uint32_t added, uint32_t removed)
{
	_Atomic uint32_t *lease;
	uint32_t why;

	pthread_mutex_lock(&turning);
	lease = atomic_load(&lease_word);
	why = ((atomic_load(&our_word) >> 8) | added) & ~removed;
	atomic_store(&our_word, why ? why << 8 : GATE_OPEN);
	atomic_store(&gate_word, why || !lease ? &our_word : lease);
	pthread_mutex_unlock(&turning);
}

bool gate_close(uint32_t why, uint64_t patience_ns)
{
	turn(why, 0);
	if (gate_empty(patience_ns))
		return true;
	gate_open(why);
	return false;
}

void gate_wake(void)
{
	_Atomic uint32_t *lease = atomic_load(&lease_word);

	futex(&our_word, FUTEX_WAKE, INT32_MAX, NULL);
	if (lease)
		futex(lease, FUTEX_WAKE, INT32_MAX, NULL);
}

void gate_open(uint32_t why)
{
	turn(0, why);
	gate_wake();
}

void gate_lease(_Atomic uint32_t *word)
{
	pthread_mutex_lock(&turning);
	atomic_store(&lease_word, word);
	pthread_mutex_unlock(&turning);
	gate_open(0);
}

/* Of the threads only one is left, and no other process holds anything against it. */
void gate_after_fork(void)
{
	pthread_mutex_init(&turning, NULL);
	for (struct gate_seat *seat = atomic_load(&seats); seat; seat = seat->next)
		if (seat != gate_seat) {
			atomic_store(&seat->calls, 0);
			atomic_store(&seat->taken, 0);
		}
	if (atomic_load(&shared_seats)) { /* its parent's; a call that it is in now ends where it began */
		gate_seat = NULL;
		pthread_setspecific(seat_key, NULL);
	}
	atomic_store(&shared_seats, NULL);
	atomic_store(&shared_used, 0);
	atomic_store(&our_word, GATE_OPEN);
	atomic_store(&lease_word, NULL);
	atomic_store(&gate_word, &our_word);
	atomic_store(&captures, 0);
}
