/*
 * Time. Each engine of a device (compute, copies to it, copies from it) does one thing after another, for all processes.
 * Processes take turns, a slice at a time, as a GPU's do: nothing of two processes ever runs side by side. What something
 * takes follows from the configuration, and its end from when the engine was free: whoever wakes up late is behind with
 * telling, not with the work, so nothing adds up. Nobody computes meanwhile: device time costs the host none of its own.
 *
 * The virtual clock stands still but for work: nobody sleeps, and what is waited for is done.
 */
#include "emu/emu.h"

#include <sys/prctl.h>
#include <time.h>

/*
 * A sleep costs the host more than a short kernel takes. While more of the same stream follows, what is due this soon is
 * taken as done: a program may see it done so much too early, but the engine is never further than that, and what the
 * stream is waited for with is exact.
 */
static const uint64_t SOON_NS = 100000;

/* Whoever has not been heard of for so long behind the end of its turn is stopped or dead. */
static const uint64_t GRACE_NS = 200000000;

/* Threads of this process, in the order in which they came. */
struct queue {
	pthread_mutex_t lock;
	pthread_cond_t turn;
	uint64_t next, serving;
};
static struct queue queues[EMU_DEVICES][EMU_ENGINES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
	for (int d = 0; d < EMU_DEVICES; d++)
		for (int e = 0; e < EMU_ENGINES; e++) {
			pthread_mutex_init(&queues[d][e].lock, NULL);
			pthread_cond_init(&queues[d][e].turn, NULL);
		}
}

uint64_t emu_now(void)
{
	if (emu.config.virtual_clock)
		return __atomic_load_n(&emu.shared->now, __ATOMIC_ACQUIRE);
	return emu_monotonic();
}

void emu_wait_until(uint64_t when)
{
	if (emu.config.virtual_clock) {
		uint64_t now = __atomic_load_n(&emu.shared->now, __ATOMIC_ACQUIRE);

		while (now < when && !__atomic_compare_exchange_n(&emu.shared->now, &now, when, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			;
		return;
	}
	while (emu_monotonic() < when) {
		struct timespec until = {.tv_sec = (time_t)(when / 1000000000), .tv_nsec = (long)(when % 1000000000)};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
}

static bool others_wait(const struct emu_turn *turn)
{
	for (int i = 0; i < EMU_SLOTS; i++)
		if (turn->waits[i] && i != emu.me)
			return true;
	return false;
}

/* The next process that waits, counted from ours; 0 where there is none. */
static int32_t heir(const struct emu_turn *turn)
{
	for (int i = 1; i < EMU_SLOTS; i++)
		if (turn->waits[(emu.me + i) % EMU_SLOTS])
			return (emu.me + i) % EMU_SLOTS + 1;
	return 0;
}

static void take(int device, struct emu_turn *turn)
{
	uint64_t slice = emu.config.device[device].slice_ns;

	emu_shared_lock(emu.shared);
	for (;;) {
		uint64_t now = emu_monotonic();
		uint32_t seen = turn->changed;

		if (turn->owner == emu.me + 1 && turn->slice_end != 0)
			break; /* still ours */
		if (turn->owner == 0 || turn->owner == emu.me + 1 || now > turn->until + GRACE_NS) {
			turn->owner = emu.me + 1;
			turn->slice_end = (turn->free_at > now ? turn->free_at : now) + slice;
			turn->until = turn->slice_end;
			break;
		}
		turn->waits[emu.me] = 1;
		emu_shared_unlock(emu.shared);
		emu_futex_wait(&turn->changed, seen, 20000000);
		emu_shared_lock(emu.shared);
	}
	turn->waits[emu.me] = 0;
	emu_shared_unlock(emu.shared);
}

/* Keeps the turn where nobody else waits or the slice isn't over and there is more to do. */
static void give(struct emu_turn *turn, bool more)
{
	bool wake = false;

	emu_shared_lock(emu.shared);
	if (turn->owner == emu.me + 1) {
		bool others = others_wait(turn);

		if (others && (!more || turn->free_at >= turn->slice_end)) {
			turn->owner = heir(turn);
			turn->slice_end = 0; /* begins when it is taken */
			turn->until = emu_monotonic();
			wake = true;
		} else if (!more) {
			turn->owner = 0;
		} else if (turn->free_at >= turn->slice_end) {
			turn->slice_end = 0;
		}
	}
	emu_shared_unlock(emu.shared);
	if (wake)
		emu_futex_wake(&turn->changed);
}

/* A part of the work is put at the end of what the engine has; the result is when it is done. */
static uint64_t put(int device, enum emu_engine engine, uint64_t ready, uint64_t part)
{
	struct emu_turn *turn = &emu.shared->device[device].turn[engine];
	uint64_t end;

	emu_shared_lock(emu.shared);
	end = (ready > turn->free_at ? ready : turn->free_at) + part;
	turn->free_at = end;
	if (turn->owner == emu.me + 1)
		turn->until = end;
	if (engine == EMU_COMPUTE) {
		emu.slot->busy_ns[device] += part;
		emu.shared->device[device].busy_ns += part;
	}
	emu_shared_unlock(emu.shared);
	return end;
}

static void enter(struct queue *queue)
{
	uint64_t mine;

	pthread_once(&once, prepare);
	pthread_mutex_lock(&queue->lock);
	mine = queue->next++;
	while (queue->serving != mine)
		pthread_cond_wait(&queue->turn, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

static bool leave(struct queue *queue)
{
	bool more;

	pthread_mutex_lock(&queue->lock);
	queue->serving++;
	more = queue->serving != queue->next;
	pthread_cond_broadcast(&queue->turn);
	pthread_mutex_unlock(&queue->lock);
	return more;
}

uint64_t emu_engine_run(int device, enum emu_engine engine, uint64_t ready, uint64_t duration, bool more, const bool *stop)
{
	struct emu_turn *turn = &emu.shared->device[device].turn[engine];
	struct queue *queue = &queues[device][engine];
	uint64_t slice = emu.config.device[device].slice_ns, end = ready;

	if (emu.config.virtual_clock)
		return put(device, engine, ready, duration);
	prctl(PR_SET_TIMERSLACK, 1000);
	enter(queue);
	for (;;) {
		uint64_t part = duration < slice ? duration : slice;

		take(device, turn);
		end = put(device, engine, end, part);
		duration -= part;
		if (duration > 0 || !more || end > emu_monotonic() + SOON_NS)
			emu_wait_until(end);
		if (duration == 0 || __atomic_load_n(stop, __ATOMIC_RELAXED))
			break;
		give(turn, true);
	}
	more |= leave(queue);
	give(turn, more);
	return end;
}
