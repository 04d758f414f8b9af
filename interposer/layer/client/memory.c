/*
 * Memory: of each device the broker grants this process a budget. What is within it asks nobody; for more it is asked, and
 * the allocation waits for the answer. What is freed goes back soon, but not with each call.
 */
#include <string.h>
#include <unistd.h>

#include "layer/client/client.h"
#include "layer/swap.h"

#define STEP (UINT64_C(4) << 20)        /* is asked for at once, and kept when it is free */
#define PAUSE_NS (50 * MILLISECOND)     /* between two times that budget goes back */

struct account {
	uint32_t device; /* the share's number of it */
	uint64_t budget;
	uint64_t coming; /* has room in the budget, and is about to be charged */
	struct gpumax_share share;
	bool asking;
	uint32_t request;
	enum { WAITING, GRANTED, DENIED } answer;
	bool due; /* something goes back as soon as it may */
	uint64_t returned_at;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static struct account accounts[GPUMAX_PROTOCOL_DEVICES];
static uint32_t count_of_accounts;
static bool counts;          /* a broker has welcomed this process */
static bool alone;           /* and there is none any more */
static uint32_t connections, requests;
static _Atomic uint64_t movable_on[SHARE_DEVICES];

static struct account *of(uint32_t device)
{
	for (uint32_t i = 0; i < count_of_accounts; i++)
		if (accounts[i].device == device)
			return &accounts[i];
	return NULL;
}

static uint32_t number_of(const struct account *account)
{
	return (uint32_t)(account - accounts);
}

static uint64_t spare(const struct account *account)
{
	uint64_t held = share_held(account->device) + account->coming;

	return account->budget > held ? account->budget - held : 0;
}

/* Connections: what is granted by the one is asked for anew by the next, where no answer came. */

static void say_wish(struct account *account, uint64_t bytes, bool movable)
{
	struct gpumax_memory wish = {.bytes = bytes, .device = number_of(account),
				     .flags = movable ? 0u : (uint32_t)GPUMAX_MEMORY_PINNED};

	account->request = ++requests;
	account->answer = WAITING;
	wire_ask(GPUMAX_MEM_REQUEST, &wish, sizeof wish, account->request);
}

/* With the lock. */
static void wait_a_moment(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_cond_timedwait(&answered, &lock, &until);
}

static bool asked_for(struct account *account, uint64_t bytes, bool movable)
{
	uint32_t by = connections;

	account->asking = true;
	say_wish(account, bytes, movable);
	while (account->answer == WAITING && !alone) {
		wait_a_moment();
		if (account->answer == WAITING && by != connections) {
			by = connections;
			say_wish(account, bytes, movable);
		}
	}
	account->asking = false;
	pthread_cond_broadcast(&answered);
	return account->answer == GRANTED || alone;
}

/* A little more than is needed, so that small allocations don't ask each time; where that is refused, what is needed. */
static bool have(struct account *account, uint64_t lack, bool movable)
{
	uint64_t more = (lack + STEP - 1) / STEP * STEP, guarantee = account->share.guarantee;

	if (account->budget + lack <= guarantee && account->budget + more > guarantee)
		more = guarantee - account->budget; /* more would be borrowed, which is another matter */
	if (account->budget + more > account->share.limit)
		more = lack;
	return asked_for(account, more, movable) || (more > lack && asked_for(account, lack, movable));
}

/* First the budget, then the charge: what is charged is on the device, or was moved from it, as far as swapping knows. */
bool memory_reserve(uint32_t device, uint64_t bytes, bool movable)
{
	struct account *account;
	uint64_t held;
	bool fine = true;

	if (!settings()->broker)
		return true;
	client_begin();
	pthread_mutex_lock(&lock);
	account = counts ? of(device) : NULL;
	while (account && fine && !alone && (held = share_held(device) + account->coming + bytes) > account->budget) {
		if (account->asking)
			wait_a_moment();
		else
			fine = have(account, held - account->budget, movable);
	}
	if (account && fine)
		account->coming += bytes;
	pthread_mutex_unlock(&lock);
	return fine;
}

void memory_charged(uint32_t device, uint64_t bytes)
{
	struct account *account;

	if (!settings()->broker)
		return;
	pthread_mutex_lock(&lock);
	account = counts ? of(device) : NULL;
	if (account) /* a broker may have come in between */
		account->coming -= account->coming < bytes ? account->coming : bytes;
	pthread_mutex_unlock(&lock);
}

void memory_movable(uint32_t device, uint64_t bytes, bool more)
{
	if (more)
		atomic_fetch_add(&movable_on[device], bytes);
	else
		atomic_fetch_sub(&movable_on[device], bytes);
}

/* As `swap_usage` has it, but never too much: what can't be moved has to fit into the guarantee. */
static uint64_t pinned_on(uint32_t device, const struct swap_usage *usage)
{
	uint64_t movable = atomic_load(&movable_on[device]), least = usage->used > movable ? usage->used - movable : 0;

	return least + usage->kept < usage->pinned ? least + usage->kept : usage->pinned;
}

static void give_back(struct account *account, uint64_t keep, bool always)
{
	uint64_t free_bytes = spare(account);
	struct gpumax_memory back = {.device = number_of(account), .bytes = free_bytes > keep ? free_bytes - keep : 0};

	account->due = false;
	if (!back.bytes && !always)
		return;
	if (!wire_ask(GPUMAX_MEM_RETURN, &back, sizeof back, 0))
		return;
	account->budget -= back.bytes;
	account->returned_at = client_now();
}

void memory_freed(uint32_t device)
{
	struct account *account;

	if (!settings()->broker)
		return;
	pthread_mutex_lock(&lock);
	account = counts ? of(device) : NULL;
	if (account && !account->due && spare(account) >= 2 * STEP) {
		account->due = client_now() - account->returned_at < PAUSE_NS;
		if (account->due)
			client_poke();
		else
			give_back(account, STEP, false);
	}
	pthread_mutex_unlock(&lock);
}

/* What is due goes back; false: nothing is. */
bool memory_step(uint64_t *next_ns)
{
	uint64_t now = client_now(), since;
	bool due = false;

	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < count_of_accounts; i++) {
		struct account *account = &accounts[i];

		since = now - account->returned_at;
		if (account->due && since >= PAUSE_NS)
			give_back(account, STEP, false);
		if (account->due && (!due || PAUSE_NS - since < *next_ns))
			*next_ns = PAUSE_NS - since;
		due |= account->due;
	}
	pthread_mutex_unlock(&lock);
	return due;
}

void memory_answer(const struct message *message)
{
	const struct gpumax_memory *said = &message->body.memory;
	struct account *account;

	pthread_mutex_lock(&lock);
	if (said->device < count_of_accounts) {
		account = &accounts[said->device];
		if (message->header.type == GPUMAX_MEM_TRIM) {
			give_back(account, 0, true);
		} else {
			if (message->header.type == GPUMAX_MEM_GRANT)
				account->budget += said->bytes;
			if (message->header.request == account->request)
				account->answer = message->header.type == GPUMAX_MEM_GRANT ? GRANTED : DENIED;
			pthread_cond_broadcast(&answered);
		}
	}
	pthread_mutex_unlock(&lock);
}

bool memory_waited_for(void)
{
	bool any = false;

	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < count_of_accounts; i++)
		any |= accounts[i].asking;
	pthread_mutex_unlock(&lock);
	return any;
}

void memory_devices(const uint32_t *devices, uint32_t number)
{
	pthread_mutex_lock(&lock);
	count_of_accounts = number;
	for (uint32_t i = 0; i < number; i++)
		accounts[i] = (struct account){.device = devices[i]};
	pthread_mutex_unlock(&lock);
}

void memory_leave_out(uint32_t which)
{
	pthread_mutex_lock(&lock);
	count_of_accounts--;
	memmove(&accounts[which], &accounts[which + 1], (count_of_accounts - which) * sizeof *accounts);
	pthread_mutex_unlock(&lock);
}

void memory_shares(const struct gpumax_share *shares, uint32_t number)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < number && i < count_of_accounts; i++)
		accounts[i].share = shares[i];
	pthread_mutex_unlock(&lock);
}

/* What it came to have while there was nobody to ask. Nobody waits for the answer: it's there, whatever that is. */
static void claim(const struct account *account)
{
	uint64_t held = share_held(account->device) + account->coming;
	struct gpumax_memory wish = {.device = number_of(account),
				     .flags = settings()->swappable ? 0u : (uint32_t)GPUMAX_MEMORY_PINNED};

	if (held <= account->budget)
		return;
	wish.bytes = held - account->budget;
	wire_ask(GPUMAX_MEM_REQUEST, &wish, sizeof wish, ++requests);
}

void memory_welcomed(void)
{
	pthread_mutex_lock(&lock);
	counts = true;
	alone = false;
	connections++;
	for (uint32_t i = 0; i < count_of_accounts; i++)
		claim(&accounts[i]);
	pthread_cond_broadcast(&answered);
	pthread_mutex_unlock(&lock);
}

void memory_without(void)
{
	pthread_mutex_lock(&lock);
	alone = true;
	pthread_cond_broadcast(&answered);
	pthread_mutex_unlock(&lock);
}

void memory_inventory(struct gpumax_holding *holding)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < count_of_accounts; i++) {
		struct swap_usage usage = swap_usage(accounts[i].device);
		uint64_t away = usage.used - usage.resident;

		holding[i].budget = accounts[i].budget;
		holding[i].pinned = pinned_on(accounts[i].device, &usage);
		holding[i].resident = accounts[i].budget > away ? accounts[i].budget - away : 0;
	}
	pthread_mutex_unlock(&lock);
}

void memory_usage(struct gpumax_usage *usage, struct gpumax_page *pages)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < count_of_accounts; i++) {
		struct swap_usage now = swap_usage(accounts[i].device);
		struct gpumax_page *page = (struct gpumax_page *)(void *)((char *)pages + i * GPUMAX_PAGE_BYTES);

		now.pinned = pinned_on(accounts[i].device, &now);
		usage[i] = (struct gpumax_usage){.used = now.used, .pinned = now.pinned};
		__atomic_store_n(&page->used, now.used, __ATOMIC_RELAXED);
		__atomic_store_n(&page->pinned, now.pinned, __ATOMIC_RELAXED);
		__atomic_store_n(&page->resident, now.resident, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&lock);
}

static struct gpumax_share share_of(uint32_t device)
{
	struct gpumax_share share = {0};
	struct account *account;

	if (!settings()->broker)
		return share;
	client_begin();
	pthread_mutex_lock(&lock);
	account = counts ? of(device) : NULL;
	if (account)
		share = account->share;
	pthread_mutex_unlock(&lock);
	return share;
}

uint64_t memory_limit(uint32_t device)
{
	return share_of(device).limit;
}

uint64_t memory_guarantee(uint32_t device)
{
	return share_of(device).guarantee;
}

uint32_t memory_device(uint32_t number, uint64_t *budget)
{
	uint32_t device = SHARE_DEVICES;

	pthread_mutex_lock(&lock);
	if (number < count_of_accounts) {
		device = accounts[number].device;
		*budget = accounts[number].budget;
	}
	pthread_mutex_unlock(&lock);
	return device;
}

bool memory_by_broker(void)
{
	bool by;

	pthread_mutex_lock(&lock);
	by = counts && !alone;
	pthread_mutex_unlock(&lock);
	return by;
}

void memory_leave(void)
{
	if (pthread_mutex_trylock(&lock))
		return;
	for (uint32_t i = 0; i < count_of_accounts; i++)
		give_back(&accounts[i], 0, false);
	pthread_mutex_unlock(&lock);
}

static void hinted(uint32_t device, int kind, uint64_t bytes)
{
	struct gpumax_hint hint = {.bytes = bytes, .kind = (uint32_t)kind};
	struct account *account;

	pthread_mutex_lock(&lock);
	account = counts ? of(device) : NULL;
	if (account && (kind == GPUMAX_HINT_READ_ONLY || kind == GPUMAX_HINT_DISCARDABLE)) {
		hint.device = number_of(account);
		wire_ask(GPUMAX_HINT, &hint, sizeof hint, 0);
	}
	pthread_mutex_unlock(&lock);
}

static bool shared(uint32_t device, uint64_t *limit, uint64_t *guarantee, uint32_t *milli, uint32_t *mode)
{
	struct account *account;

	pthread_mutex_lock(&lock);
	account = counts ? of(device) : NULL;
	if (account) {
		*limit = account->share.limit;
		*guarantee = account->share.guarantee;
		*milli = account->share.share;
		*mode = account->share.mode;
	}
	pthread_mutex_unlock(&lock);
	return account != NULL;
}

void memory_begin(void)
{
	static const struct swap_listener listener = {.orders = moving_by_orders, .paused = moving_paused, .resumed = client_poke,
						      .hinted = hinted, .share = shared};

	swap_listen(&listener);
}

void memory_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&answered, NULL);
	count_of_accounts = 0;
	counts = alone = false;
	for (uint32_t i = 0; i < SHARE_DEVICES; i++)
		atomic_store(&movable_on[i], 0);
}
