/*
 * Turns. The page says whether this process may submit, and the gate looks at it. Here is what goes with it: to ask when
 * a thread waits, to drain when the turn is over, and to give it back early when nothing is done with it.
 */
#include <unistd.h>

#include "layer/client/client.h"
#include "layer/swap.h"

#define LOOK_NS (2 * MILLISECOND)       /* how often a holder is looked at, and how long it may rest */
#define BUSY_NS (50 * 1000)             /* what takes longer to drain was at work */
#define AGAIN_NS (1000 * MILLISECOND)   /* who waits asks so often: what was said to a broker may be lost with it */
#define FENCED_NS (2000 * MILLISECOND)  /* who was fenced, and can't drain, asks again all the same */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* what was said last */
static uint64_t current, released; /* the same: nothing is held */
static bool asked;
static uint64_t asked_at;

static _Atomic(struct gpumax_page *) page;
static _Atomic uint32_t waiting;
static _Atomic bool wanted;                    /* by a call that doesn't wait at the gate, but with the driver */
static _Atomic bool resting;                   /* the worker looks whether it may give the lease back */
static _Atomic uint64_t calls_seen, calls_at;    /* at the last look, and when there were new ones */
static uint64_t fenced_at;                       /* of the listening thread alone */

void client_wait_begins(void)
{
	atomic_fetch_add(&waiting, 1);
	if (atomic_load(&page))
		client_poke();
}

void client_wait_ends(void)
{
	atomic_fetch_sub(&waiting, 1);
}

bool lease_waited_for(void)
{
	return atomic_load(&waiting) != 0 || atomic_load(&wanted);
}

static _Atomic uint32_t *word(void)
{
	struct gpumax_page *now = atomic_load(&page);

	return now ? (_Atomic uint32_t *)(void *)&now->lease_word : NULL;
}

static unsigned state(void)
{
	_Atomic uint32_t *now = word();

	return now ? GPUMAX_LEASE_STATE(atomic_load(now)) : GPUMAX_LEASE_NONE;
}

void lease_by(struct gpumax_page *now)
{
	atomic_store(&page, now);
	gate_lease(word());
}

uint64_t lease_held(void)
{
	unsigned now = state();
	uint64_t held;

	pthread_mutex_lock(&lock);
	held = (now == GPUMAX_LEASE_GRANTED || now == GPUMAX_LEASE_REVOKED) && current != released ? current : 0;
	pthread_mutex_unlock(&lock);
	return held;
}

void lease_granted(uint64_t lease)
{
	driver_watch(false);
	atomic_store(&wanted, false);
	pthread_mutex_lock(&lock);
	current = lease;
	released = GPUMAX_PROTOCOL_NO_LEASE;
	asked = false;
	pthread_mutex_unlock(&lock);
	calls_at = client_now();
	gate_open(GATE_RESTS);
	gate_wake();
}

/* What a new broker calls the lease that is still held may come with its end. */
void lease_revoked(uint64_t lease)
{
	const struct job job = {.task = TASK_DRAIN, .lease = lease};

	pthread_mutex_lock(&lock);
	if (lease != current) {
		current = lease;
		released = GPUMAX_PROTOCOL_NO_LEASE;
	}
	pthread_mutex_unlock(&lock);
	worker_do(&job);
}

/* Numbers of leases are those of a broker: the next one counts from 1 again. */
void lease_lost(void)
{
	pthread_mutex_lock(&lock);
	if (released == current)
		current = GPUMAX_PROTOCOL_NO_LEASE;
	released = GPUMAX_PROTOCOL_NO_LEASE;
	asked = false;
	pthread_mutex_unlock(&lock);
}

void lease_without(void)
{
	driver_watch(false);
	atomic_store(&wanted, false);
	count(&counters.without_broker);
	gate_lease(NULL);
	gate_open(GATE_RESTS);
}

/* With the lock. What is not heard was not said: the next broker is told that the lease is still held. */
static void say_release(uint64_t lease, bool goes_on)
{
	bool wants = goes_on || lease_waited_for();
	struct gpumax_release release = {.lease = lease,
					 .flags = GPUMAX_RELEASE_DRAINED | (wants ? GPUMAX_RELEASE_WANTS : 0u)};

	if (!wire_say(GPUMAX_RELEASE, &release, sizeof release))
		return;
	released = lease;
	asked = wants;
	asked_at = client_now();
}

/* Nobody submits any more, and all that was submitted has run. */
void lease_drain(uint64_t lease)
{
	uint64_t began;
	bool goes_on;

	pthread_mutex_lock(&lock);
	if (lease == released || lease != current) {
		pthread_mutex_unlock(&lock);
		return;
	}
	pthread_mutex_unlock(&lock);
	while (!gate_empty(100 * MILLISECOND))
		if (state() == GPUMAX_LEASE_GRANTED)
			return; /* a new broker has let it go on */
	began = client_now();
	contexts_wait();
	/* Whoever was at work when its turn ended will have more in a moment, and must not seem to rest until then. */
	goes_on = client_now() - began > BUSY_NS || gate_calls() != atomic_load(&calls_seen) ||
		  client_now() - atomic_load(&calls_at) < 2 * LOOK_NS;
	pthread_mutex_lock(&lock);
	if (lease == current && lease != released && state() != GPUMAX_LEASE_GRANTED)
		say_release(lease, goes_on);
	pthread_mutex_unlock(&lock);
}

/*
 * Nothing has been submitted for a while: if nothing runs either, and goes on not to, others may have the device. A turn
 * that ends meanwhile is not kept waiting for that.
 */
void lease_rest(void)
{
	uint64_t before = gate_calls();

	contexts_wait();
	if (worker_pause(LOOK_NS) && gate_calls() == before && lease_held() && gate_close(GATE_RESTS, 0)) {
		pthread_mutex_lock(&lock);
		if (gate_calls() == before && !lease_waited_for())
			say_release(current, false);
		before = released == current;
		pthread_mutex_unlock(&lock);
		if (!before)
			gate_open(GATE_RESTS);
	}
	atomic_store(&resting, false);
	client_poke();
}

/* The gate is closed to what submits while the page still grants, until the broker grants anew. */
void lease_give_up(void)
{
	struct gpumax_release release = {.flags = GPUMAX_RELEASE_DRAINED};

	if (!lease_held() || !gate_close(GATE_RESTS, 0))
		return;
	pthread_mutex_lock(&lock);
	release.lease = current;
	if (current != released && wire_say(GPUMAX_RELEASE, &release, sizeof release)) {
		released = current;
		asked = false;
	}
	pthread_mutex_unlock(&lock);
	if (lease_held())
		gate_open(GATE_RESTS);
}

static void ask(uint64_t now)
{
	const struct gpumax_acquire acquire = {0};
	unsigned at = state();

	pthread_mutex_lock(&lock);
	if (lease_waited_for() && !swap_paused() && (!asked || now - asked_at > AGAIN_NS) &&
	    (at == GPUMAX_LEASE_NONE || current == released)) {
		asked = wire_say(GPUMAX_ACQUIRE, &acquire, sizeof acquire);
		asked_at = now;
	}
	pthread_mutex_unlock(&lock);
}

/* The thread says so itself: it may hold what the listening one waits for, and is about to wait with the driver. */
void lease_wanted(void)
{
	if (!atomic_exchange(&wanted, true))
		ask(client_now());
}

/* It didn't answer in time and others have the device: nobody is waiting for it to drain any more. */
static void come_back(uint64_t now)
{
	const struct job job = {.task = TASK_DRAIN, .lease = current};

	if (!fenced_at) {
		fenced_at = now;
		worker_do(&job);
	} else if (now - fenced_at > FENCED_NS) {
		fenced_at = now;
		pthread_mutex_lock(&lock);
		say_release(current, false);
		pthread_mutex_unlock(&lock);
	}
}

static void look_at_holder(uint64_t now)
{
	const struct job job = {.task = TASK_REST};
	uint64_t calls = gate_calls();

	if (calls != calls_seen) {
		calls_seen = calls;
		calls_at = now;
	} else if (now - calls_at >= LOOK_NS && !atomic_load(&captures) && !atomic_exchange(&resting, true)) {
		worker_do(&job);
	}
}

bool lease_step(uint64_t *next_ns)
{
	uint64_t now = client_now();
	unsigned at = state();

	ask(now);
	*next_ns = LOOK_NS;
	if (at == GPUMAX_LEASE_FENCED) {
		come_back(now);
		*next_ns = FENCED_NS / 4;
		return true;
	}
	fenced_at = 0;
	if (at != GPUMAX_LEASE_GRANTED || !lease_held() || atomic_load(&resting))
		return false;
	look_at_holder(now);
	return !atomic_load(&resting);
}

void lease_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	atomic_store(&page, NULL);
	atomic_store(&waiting, 0);
	atomic_store(&wanted, false);
	driver_watch(false);
	atomic_store(&resting, false);
	current = released = fenced_at = 0;
	asked = false;
}
