/* The connection to the broker: begun with the first work, held for as long as the process lives, and made again when it ends. */
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layer/api.h"
#include "layer/client/client.h"
#include "layer/swap.h"

#define GREETING_NS (5000 * MILLISECOND) /* so long a broker may take to answer the first message */
#define SOONEST_NS (10 * MILLISECOND)    /* between two tries to connect: from so long */
#define LATEST_NS (1000 * MILLISECOND)   /* to so long */
#define SOONEST_BEAT_NS MILLISECOND      /* signs of life are given no more often, whatever a broker says, */
#define LATEST_BEAT_NS (60000 * MILLISECOND) /* and no less */
#define BEATS_ALONE 10                   /* so many heartbeats long threads wait for a broker that was there to come back */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static bool begun;
static _Atomic bool known; /* whether there is a broker */
static int poked = -1;

static struct gpumax_hello hello;
static bool welcomed;               /* by any broker */
static _Atomic uint32_t client;     /* the process that it was */
static uint64_t beat_ns = 1000 * MILLISECOND, beaten_at, lost_at, last_epoch;
static bool alone;                  /* so work goes on without it */
static bool turned_away;
static uint64_t begun_at;
static int unreachable; /* why, as errno has it; 0: it was reached, and said nothing */

static struct gpumax_page *pages; /* NULL: not yet */
static dev_t pages_device;
static ino_t pages_inode;
static size_t pages_size;
static _Atomic bool unseen;

_Static_assert(sizeof(struct gpumax_seat) == sizeof(struct gate_seat), "seats are those of the protocol");

bool client_thread(void *(*run)(void *))
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, run, NULL);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error == 0;
}

void client_poke(void)
{
	const uint64_t one = 1;
	ssize_t written = write(poked, &one, sizeof one);

	(void)written;
}

static void tell_unseen(void)
{
	if (pages && (atomic_load(&unseen) || !gate_seen()))
		__atomic_store_n(&pages->inflight, 1, __ATOMIC_SEQ_CST);
}

void client_unseen(void)
{
	if (!settings()->broker)
		return;
	pthread_mutex_lock(&lock);
	atomic_store(&unseen, true);
	tell_unseen();
	pthread_mutex_unlock(&lock);
}

static void become_known(void)
{
	pthread_mutex_lock(&lock);
	atomic_store(&known, true);
	pthread_cond_broadcast(&news);
	pthread_mutex_unlock(&lock);
}

/* The devices that this process sees, in its own order. */
static void list_devices(void)
{
	uint32_t numbers[GPUMAX_PROTOCOL_DEVICES];
	int number = 0, driver = 0;
	CUdevice device;
	CUuuid uuid;

	REAL(cuDriverGetVersion)(&driver);
	REAL(cuDeviceGetCount)(&number);
	memset(&hello, 0, sizeof hello);
	hello.pid = (uint32_t)getpid();
	hello.driver = (uint32_t)driver;
	hello.ranks = settings()->ranks;
	hello.rank = settings()->rank;
	for (int i = 0; i < number && hello.devices < GPUMAX_PROTOCOL_DEVICES; i++)
		if (REAL(cuDeviceGet)(&device, i) == CUDA_SUCCESS &&
		    (REAL(cuDeviceGetUuid_v2)(&uuid, device) == CUDA_SUCCESS ||
		     REAL(cuDeviceGetUuid)(&uuid, device) == CUDA_SUCCESS) &&
		    device_index(device, &numbers[hello.devices]))
			memcpy(hello.uuid[hello.devices++], uuid.bytes, 16);
	memory_devices(numbers, hello.devices);
}

/* The broker said that one of them isn't of this group; its turns are those of the others. It writes UUIDs with dashes. */
static bool leave_out(const char *said)
{
	char name[33], text[sizeof((struct gpumax_error *)0)->text];
	size_t length = 0;

	for (; *said; said++)
		if (*said != '-')
			text[length++] = *said;
	text[length] = '\0';
	for (uint32_t i = 0; i < hello.devices; i++) {
		for (int at = 0; at < 16; at++) {
			static const char digits[] = "0123456789abcdef";

			name[2 * at] = digits[hello.uuid[i][at] >> 4];
			name[2 * at + 1] = digits[hello.uuid[i][at] & 15];
		}
		name[32] = '\0';
		if (!strstr(text, name))
			continue;
		memory_leave_out(i);
		hello.devices--;
		memmove(hello.uuid[i], hello.uuid[i + 1], (hello.devices - i) * 16);
		memset(hello.uuid[hello.devices], 0, 16);
		return hello.devices > 0;
	}
	return false;
}

/* Whether the driver can take this process off its devices: from 570 on, which is CUDA 12.8. */
static bool can_be_away(void)
{
	static const char *const needed[] = {"cuCheckpointProcessGetState", "cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint",
					     "cuCheckpointProcessRestore", "cuCheckpointProcessUnlock"};

	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (!driver_symbol(needed[i]))
			return false;
	return hello.driver >= 12080;
}

static bool map(int fd, const struct stat *file)
{
	size_t size = hello.devices * GPUMAX_PAGE_BYTES + GPUMAX_SEATS_BYTES;
	struct gpumax_page *mapped;

	if ((size_t)file->st_size < size)
		return false;
	mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return false;
	pthread_mutex_lock(&lock);
	if (!pages)
		gate_seats((struct gate_seat *)(void *)((char *)mapped + hello.devices * GPUMAX_PAGE_BYTES), GPUMAX_SEATS);
	else
		atomic_store(&unseen, true); /* threads sit where they have sat down, which is not in these pages */
	pages = mapped; /* the former ones stay mapped: somebody may be reading them */
	pages_size = size;
	pages_device = file->st_dev;
	pages_inode = file->st_ino;
	tell_unseen();
	pthread_mutex_unlock(&lock);
	return true;
}

/* Who comes back is given the pages that it had, so most often there is nothing to do. */
static bool take_pages(int fd)
{
	struct stat file;
	bool fine = fd >= 0 && fstat(fd, &file) == 0;

	if (fine && (!pages || pages_device != file.st_dev || pages_inode != file.st_ino))
		fine = map(fd, &file);
	if (fd >= 0)
		close(fd);
	return fine;
}

static void say_inventory(void)
{
	struct gpumax_inventory inventory = {.epoch = last_epoch, .lease = lease_held(), .devices = hello.devices,
					     .flags = lease_waited_for() ? GPUMAX_RELEASE_WANTS : 0u};

	memory_inventory(inventory.holding);
	wire_say(GPUMAX_INVENTORY, &inventory, sizeof inventory);
}

static void say_beat(uint64_t now)
{
	struct gpumax_heartbeat beat = {.devices = hello.devices};

	beaten_at = now;
	memory_usage(beat.usage, pages);
	wire_say(GPUMAX_HEARTBEAT, &beat, sizeof beat);
}

static void forget_descriptor(const struct message *message)
{
	if (message->fd >= 0)
		close(message->fd);
}

static bool enter(const struct message *message)
{
	const struct gpumax_welcome *welcome = &message->body.welcome;

	if (!take_pages(message->fd) || welcome->devices != hello.devices) {
		say_once(CAUSE_TURNED_AWAY, "the broker at %.100s gave no pages that can be used: this program takes no turns",
			 settings()->broker);
		return false;
	}
	if (welcome->heartbeat_ns)
		beat_ns = welcome->heartbeat_ns < SOONEST_BEAT_NS ? SOONEST_BEAT_NS
			  : welcome->heartbeat_ns > LATEST_BEAT_NS ? LATEST_BEAT_NS : welcome->heartbeat_ns;
	memory_shares(welcome->share, welcome->devices);
	if (hello.flags & GPUMAX_HELLO_RECONNECTS)
		say_inventory();
	memory_welcomed();
	last_epoch = message->header.epoch;
	welcomed = true;
	atomic_store(&client, hello.pid);
	alone = false;
	lost_at = 0;
	say_beat(client_now());
	lease_by(pages);
	return true;
}

/* Whether the broker welcomes this process; `again`: it might if it were asked for fewer devices. */
static bool greet(bool *again)
{
	uint64_t until = client_now() + GREETING_NS, now;
	struct message message;
	int heard;

	hello.flags = (welcomed ? (uint32_t)GPUMAX_HELLO_RECONNECTS : 0u) |
		      (settings()->swappable ? (uint32_t)GPUMAX_HELLO_SWAPS : 0u) |
		      (can_be_away() ? (uint32_t)GPUMAX_HELLO_CHECKPOINTS : 0u);
	wire_say(GPUMAX_HELLO, &hello, sizeof hello);
	while ((now = client_now()) < until) {
		wire_wait(-1, until - now);
		heard = wire_hear(&message);
		if (heard < 0)
			return false;
		if (heard && message.header.type == GPUMAX_WELCOME)
			return enter(&message);
		if (heard)
			forget_descriptor(&message);
		if (heard && message.header.type == GPUMAX_ERROR) {
			message.body.error.text[sizeof message.body.error.text - 1] = '\0';
			*again = message.body.error.code == GPUMAX_ERROR_UNKNOWN_DEVICE && leave_out(message.body.error.text);
			turned_away = !*again;
			if (turned_away)
				say_once(CAUSE_TURNED_AWAY, "the broker at %.100s turns this program away: %s; it takes no turns",
					 settings()->broker, message.body.error.text);
			return false;
		}
	}
	return false;
}

static bool reach(void)
{
	bool again = true;

	while (again) {
		again = false;
		if (!wire_open(settings()->broker, &unreachable))
			return false;
		if (greet(&again))
			return true;
		wire_close();
	}
	return false;
}

/* First whoever comes is noticed, then it's looked who has come before: so nobody is missed who isn't within a call. */
static void agree_to_be_away(void)
{
	struct gpumax_away answer = {0};

	driver_watch(true);
	if (lease_held() || lease_waited_for() || memory_waited_for() || atomic_load(&captures)) {
		driver_watch(false);
		answer.flags = GPUMAX_AWAY_BUSY;
	}
	wire_say(GPUMAX_AWAY, &answer, sizeof answer);
}

/* A descriptor comes with POOL alone, of which the worker closes it. */
static void obey(const struct message *message)
{
	struct job job = {.fd = message->fd};

	if (message->header.type != GPUMAX_POOL)
		forget_descriptor(message);
	switch (message->header.type) {
	case GPUMAX_GRANT:
		lease_granted(message->body.grant.lease);
		break;
	case GPUMAX_REVOKE:
		lease_revoked(message->body.revoke.lease);
		break;
	case GPUMAX_SWAP_OUT:
	case GPUMAX_SWAP_IN:
		job.task = message->header.type == GPUMAX_SWAP_OUT ? TASK_OUT : TASK_IN;
		job.device = message->body.swap.device;
		job.bytes = message->body.swap.bytes;
		worker_do(&job);
		break;
	case GPUMAX_MEM_GRANT:
	case GPUMAX_MEM_DENY:
	case GPUMAX_MEM_TRIM:
		memory_answer(message);
		break;
	case GPUMAX_CONFIG:
		memory_shares(message->body.config.share, message->body.config.devices);
		break;
	case GPUMAX_POOL:
		job.task = TASK_POOL;
		job.bytes = message->body.pool.bytes;
		if (job.fd >= 0)
			worker_do(&job);
		break;
	case GPUMAX_AWAY:
		agree_to_be_away();
		break;
	default: /* newer brokers may say more */
		break;
	}
}

/* False: the connection has ended. */
static bool listen_once(void)
{
	struct message message;
	uint64_t now, next, beat_in, due, drained;
	int heard;

	while ((heard = wire_hear(&message)) > 0)
		obey(&message);
	if (heard < 0)
		return false;
	now = client_now();
	if (now - beaten_at >= beat_ns / 2)
		say_beat(now);
	beat_in = beaten_at + beat_ns / 2 - now;
	if (!lease_step(&next) || next > beat_in)
		next = beat_in;
	if (memory_step(&due) && due < next)
		next = due;
	wire_wait(poked, next);
	if (read(poked, &drained, sizeof drained) < 0 && errno != EAGAIN)
		return false;
	return true;
}

/*
 * Who never had a broker goes on at once; where there is a socket it's given a moment, since it may just be made anew. Who
 * had one waits for it to come back, but not for ever.
 */
static void be_without(uint64_t now)
{
	const struct job bring = {.task = TASK_BRING};

	if (alone) {
		if (welcomed && swap_anything_out() && !swap_paused())
			worker_do(&bring);
		return;
	}
	if (welcomed && (now - lost_at < BEATS_ALONE * beat_ns || !(lease_waited_for() || memory_waited_for())))
		return;
	if (!welcomed && !turned_away && now - begun_at < GREETING_NS && access(settings()->broker, F_OK) == 0)
		return;
	alone = true;
	lease_without();
	memory_without();
	if (!welcomed && !turned_away)
		say_once(CAUSE_BROKER, "no broker at %.200s (%s): work goes on without it, and it is looked for again",
			 settings()->broker, unreachable ? strerror(unreachable) : "it doesn't answer");
	if (welcomed)
		say_once(CAUSE_LEFT_ALONE, "the broker at %.200s has ended and doesn't come back: work goes on without it, "
					   "and it is looked for again", settings()->broker);
}

static void *talk(void *unused)
{
	uint64_t pause = SOONEST_NS, drained;

	(void)unused;
	own_thread = true;
	for (;;) {
		if (reach()) {
			become_known();
			while (listen_once())
				;
			wire_close();
			lease_lost();
			lost_at = client_now();
			pause = SOONEST_NS;
			continue;
		}
		be_without(client_now());
		if (alone)
			become_known();
		/* Not all processes at the same moment. */
		pause += pause * ((uint64_t)getpid() % 16) / 64;
		wire_wait(-1, pause);
		drained = read(poked, &drained, sizeof drained) > 0;
		pause = pause * 2 < LATEST_NS ? pause * 2 : LATEST_NS;
	}
	return NULL;
}

static bool start(void)
{
	begun_at = client_now();
	list_devices();
	poked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* So that the broker can have our threads pass a barrier. */
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	memory_begin();
	return hello.devices && poked >= 0 && worker_begin() && client_thread(talk);
}

void client_begin(void)
{
	struct timespec until;

	if (atomic_load(&known) || !settings()->broker)
		return;
	pthread_mutex_lock(&lock);
	if (!begun) {
		begun = true;
		atomic_store(&known, !start());
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(GREETING_NS / (1000 * MILLISECOND));
	while (!atomic_load(&known))
		if (pthread_cond_timedwait(&news, &lock, &until))
			break;
	pthread_mutex_unlock(&lock);
}

/*
 * The process ends in good order. Whatever the exit came upon, a thread that holds a lock, a broker that doesn't read, or a
 * child that never was a client of its own, it isn't held up: then nothing is said, and the broker sees the end.
 */
__attribute__((destructor)) static void leave(void)
{
	if (atomic_load(&client) != (uint32_t)getpid() || !wire_at_rest())
		return;
	memory_leave();
	wire_say(GPUMAX_BYE, NULL, 0);
}

/* The child is another client, or none. What it inherited of its parent's pages must not be written by it. */
void client_after_fork(void)
{
	if (pages)
		mmap(pages, pages_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	pages = NULL;
	if (poked >= 0)
		close(poked);
	poked = -1;
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&news, NULL);
	begun = welcomed = alone = turned_away = false;
	atomic_store(&known, false);
	atomic_store(&unseen, false);
	wire_after_fork();
	worker_after_fork();
	lease_after_fork();
	memory_after_fork();
	moving_after_fork();
	contexts_after_fork();
}
