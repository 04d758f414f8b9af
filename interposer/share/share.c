/* The account that the processes of one workload share. share.h says what for. */
#include "share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "share/identity.h"
#include "share/presence.h"

#define SLOTS_IN_PAGE 1024
#define MAGIC UINT64_C(0x31656761702d7067)
#define LOOK_SECONDS 2
#define PATIENCE_LOOKS 30

struct slot {
	struct identity who; /* pid 0: free */
	uint64_t used[SHARE_DEVICES];
};

struct page {
	_Atomic uint64_t magic;
	pthread_mutex_t lock;
	uint32_t holder;  /* the process that had the lock last */
	uint32_t gone;    /* the last one out has unlinked it */
	uint32_t devices;
	struct {
		unsigned char uuid[16];
		uint64_t used; /* the sum over all slots */
	} device[SHARE_DEVICES];
	struct slot slots[SLOTS_IN_PAGE];
};

static struct page *page;      /* NULL until joined */
static struct slot *_Atomic own; /* NULL for whoever only watches */
static struct page *alone;     /* of this process, where no page can be shared */
static char page_path[192];
static int page_fd = -1;       /* with a lock on the byte that has the number of our slot */
static struct stat page_file;
static struct identity self;   /* who looks whether others live, with a slot or without */
static _Atomic uint64_t owed[SHARE_DEVICES]; /* given back while the lock was not to be had */
static _Atomic bool owes;

static bool lives(const struct page *in, int fd, uint32_t place)
{
	const struct identity *who = &in->slots[place].who;

	return who->namespace == self.namespace ? identity_lives(who) : presence_taken(fd, place);
}

/* A program may close descriptors that aren't its own, and the number is another file's then. */
static bool page_is_open(void)
{
	struct stat file;

	return page_fd >= 0 && fstat(page_fd, &file) == 0 && file.st_dev == page_file.st_dev && file.st_ino == page_file.st_ino;
}

static void close_page(void)
{
	if (page != alone)
		munmap(page, sizeof *page);
	if (page_is_open())
		close(page_fd);
	page = NULL;
	page_fd = -1;
}

static void add_up(void)
{
	for (unsigned device = 0; device < SHARE_DEVICES; device++) {
		uint64_t sum = 0;

		for (unsigned i = 0; i < SLOTS_IN_PAGE; i++)
			if (page->slots[i].who.pid)
				sum += page->slots[i].used[device];
		page->device[device].used = sum;
	}
}

static void give_back(uint32_t device, uint64_t bytes)
{
	uint64_t held = own->used[device] < bytes ? own->used[device] : bytes;

	__atomic_fetch_sub(&own->used[device], held, __ATOMIC_RELAXED);
	page->device[device].used -= held;
}

/* On a machine with much to do it may take long until it is our turn; only who has been stopped keeps it for ever. */
static int wait_for_lock(void)
{
	struct timespec until;
	int error = pthread_mutex_trylock(&page->lock);

	for (unsigned look = 0; (error == EBUSY || error == ETIMEDOUT) && look < PATIENCE_LOOKS; look++) {
		if (error == ETIMEDOUT && process_is_stopped(page->holder))
			break;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += LOOK_SECONDS;
		error = pthread_mutex_timedlock(&page->lock, &until);
	}
	return error;
}

/* Whoever was killed within these few lines leaves a sum that may be wrong, never a slot. */
static bool lock_page(void)
{
	int error = wait_for_lock();

	if (error == EOWNERDEAD) {
		add_up();
		error = pthread_mutex_consistent(&page->lock);
	}
	if (error)
		return false;
	page->holder = own ? own->who.pid : (uint32_t)getpid();
	if (own && atomic_exchange(&owes, false))
		for (unsigned device = 0; device < SHARE_DEVICES; device++)
			give_back(device, atomic_exchange(&owed[device], 0));
	return true;
}

static void unlock_page(void)
{
	pthread_mutex_unlock(&page->lock);
}

/* Takes back what processes held that have ended. True where there was any. */
static bool reclaim(void)
{
	int fd = page_is_open() ? page_fd : -1;
	bool found = false;

	for (unsigned i = 0; i < SLOTS_IN_PAGE; i++) {
		struct slot *slot = &page->slots[i];

		if (!slot->who.pid || slot == own || lives(page, fd, i))
			continue;
		memset(slot, 0, sizeof *slot);
		found = true;
	}
	if (found)
		add_up();
	return found;
}

static struct slot *take_slot(void)
{
	struct slot *free_slot = NULL;

	reclaim();
	for (unsigned i = 0; i < SLOTS_IN_PAGE && !free_slot; i++)
		if (!page->slots[i].who.pid)
			free_slot = &page->slots[i];
	if (free_slot) {
		memset(free_slot->used, 0, sizeof free_slot->used);
		free_slot->who = self;
		if (page_fd >= 0)
			presence_take(page_fd, (uint32_t)(free_slot - page->slots));
	}
	return free_slot;
}

static void prepare(struct page *fresh)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&fresh->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	atomic_store(&fresh->magic, MAGIC);
}

/* All of it has its memory before anybody writes there: where none was left, a signal would end whoever does. */
static bool make_room(int fd)
{
	return posix_fallocate(fd, 0, sizeof(struct page)) == 0;
}

/* Files that are too large for a process would end it, too. */
static bool may_make_page(void)
{
	struct rlimit most;

	return getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur >= sizeof(struct page);
}

static struct page *map_file(int fd, bool create)
{
	struct stat file;
	struct page *mapped;

	if (fstat(fd, &file) || !S_ISREG(file.st_mode) || file.st_uid != geteuid())
		return NULL;
	if (file.st_size && (size_t)file.st_size != sizeof(struct page))
		return NULL;
	if (create ? !make_room(fd) : !file.st_size)
		return NULL;
	mapped = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return NULL;
	if (create && atomic_load(&mapped->magic) == 0)
		prepare(mapped);
	if (atomic_load(&mapped->magic) == MAGIC)
		return mapped;
	munmap(mapped, sizeof(struct page));
	return NULL;
}

/* Only whoever makes the page ready, or takes it away, holds this lock, for no longer than that takes. */
static int open_locked(void)
{
	struct stat file;
	int fd;

	for (int attempt = 0; attempt < 100; attempt++) {
		fd = open(page_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT, 0600);
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX) == 0 && fstat(fd, &file) == 0 && file.st_nlink)
			return fd;
		close(fd); /* a signal came, or it was taken away before it was locked */
	}
	return -1;
}

static struct page *open_page(bool create)
{
	struct page *mapped;
	int fd;

	if (create && !may_make_page())
		return NULL;
	fd = create ? open_locked() : open(page_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	mapped = map_file(fd, create);
	if (create)
		flock(fd, LOCK_UN);
	if (mapped && fstat(fd, &page_file) == 0)
		page_fd = fd;
	else
		close(fd);
	return mapped;
}

static void begin(const struct share *share)
{
	self = identity_of_this();
	snprintf(page_path, sizeof page_path, "/dev/shm/gpumax-1-%u-%016llx", (unsigned)geteuid(),
		 (unsigned long long)share->group);
}

/* A page that its last user has just unlinked is of no use; whoever comes then makes a new one. */
static bool join_shared(void)
{
	for (int attempt = 0; attempt < 100; attempt++) {
		page = open_page(true);
		if (!page)
			return false;
		if (!lock_page())
			break;
		if (!page->gone) {
			own = take_slot();
			unlock_page();
			if (own)
				return true;
			break;
		}
		unlock_page();
		close_page();
	}
	if (page)
		close_page();
	return false;
}

/* Takes a page away where nobody lives of those who have held anything in it; whoever has it mapped already finds it gone. */
static void take_away(struct page *other, int fd, const char *path)
{
	bool anybody = other->gone;
	int error = pthread_mutex_trylock(&other->lock);

	if (error == EOWNERDEAD)
		error = pthread_mutex_consistent(&other->lock);
	if (error)
		return;
	for (unsigned i = 0; i < SLOTS_IN_PAGE && !anybody; i++)
		anybody = other->slots[i].who.pid && lives(other, fd, i);
	if (!anybody) {
		other->gone = 1;
		unlink(path);
	}
	pthread_mutex_unlock(&other->lock);
}

static void sweep_one(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct page *other = NULL;
	struct stat file;

	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		other = map_file(fd, false);
		if (other)
			take_away(other, fd, path);
		else if (fstat(fd, &file) == 0 && !file.st_size && file.st_nlink)
			unlink(path); /* whoever made it was killed before it was ready */
		flock(fd, LOCK_UN);
	}
	if (other)
		munmap(other, sizeof *other);
	close(fd);
}

/* Pages of groups whose last process was killed: nobody else would ever look at them. */
static void sweep(void)
{
	DIR *folder = opendir("/dev/shm");
	char prefix[40], path[sizeof page_path + 256];
	struct dirent *each;

	snprintf(prefix, sizeof prefix, "gpumax-1-%u-", (unsigned)geteuid());
	while (folder && (each = readdir(folder))) {
		snprintf(path, sizeof path, "/dev/shm/%s", each->d_name);
		if (!strncmp(each->d_name, prefix, strlen(prefix)) && strcmp(path, page_path))
			sweep_one(path);
	}
	if (folder)
		closedir(folder);
}

bool share_join(const struct share *share)
{
	if (page)
		return true;
	begin(share);
	if (join_shared()) {
		sweep();
		return true;
	}
	say_once(CAUSE_PAGE, "%s can't be used, so processes of this workload don't know of each other: "
			     "the limit holds for each of them by itself", page_path);
	if (!alone)
		alone = mmap(NULL, sizeof *alone, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (alone == MAP_FAILED) {
		alone = NULL;
		return false;
	}
	memset(alone, 0, sizeof *alone);
	prepare(alone);
	page = alone;
	own = take_slot();
	return true;
}

bool share_watch(const struct share *share)
{
	if (page) {
		if (!page->gone)
			return true;
		close_page();
	}
	begin(share);
	page = open_page(false);
	return page != NULL;
}

int share_device(const unsigned char uuid[16], bool add)
{
	int found = -1;

	if (!page || !lock_page())
		return -1;
	for (unsigned i = 0; i < page->devices && i < SHARE_DEVICES; i++)
		if (!memcmp(page->device[i].uuid, uuid, 16))
			found = (int)i;
	if (found < 0 && add && page->devices < SHARE_DEVICES) {
		found = (int)page->devices;
		memcpy(page->device[found].uuid, uuid, 16);
		page->devices++;
	}
	unlock_page();
	return found;
}

enum verdict share_charge(uint32_t device, uint64_t bytes, uint64_t limit)
{
	enum verdict verdict = WITHIN;
	uint64_t *sum;

	if (!own || device >= SHARE_DEVICES || !lock_page())
		return UNKNOWN;
	sum = &page->device[device].used;
	if (bytes > UINT64_MAX - *sum)
		verdict = BEYOND;
	else if (limit && (bytes > limit || *sum > limit - bytes)) {
		reclaim();
		if (bytes > limit || *sum > limit - bytes)
			verdict = BEYOND;
	}
	if (verdict == WITHIN) {
		__atomic_fetch_add(&own->used[device], bytes, __ATOMIC_RELAXED); /* read without the lock, too */
		*sum += bytes;
	}
	unlock_page();
	return verdict;
}

void share_discharge(uint32_t device, uint64_t bytes)
{
	if (!own || device >= SHARE_DEVICES)
		return;
	if (!lock_page()) {
		atomic_fetch_add(&owed[device], bytes);
		atomic_store(&owes, true);
		return;
	}
	give_back(device, bytes);
	unlock_page();
}

uint64_t share_used(uint32_t device)
{
	uint64_t used;

	if (!page || device >= SHARE_DEVICES || !lock_page())
		return 0;
	reclaim();
	used = page->device[device].used;
	unlock_page();
	return used;
}

/* Only this process changes it; whoever reads it meanwhile may be a call behind. */
uint64_t share_held(uint32_t device)
{
	return own && device < SHARE_DEVICES ? __atomic_load_n(&own->used[device], __ATOMIC_RELAXED) : 0;
}

bool share_has_process(uint32_t pid)
{
	bool found = false;

	if (!page || !pid || !lock_page())
		return false;
	for (unsigned i = 0; i < SLOTS_IN_PAGE && !found; i++)
		found = page->slots[i].who.pid == pid;
	unlock_page();
	return found;
}

/* What the parent holds is its own; the child joins by itself when it allocates. */
void share_after_fork(void)
{
	if (page)
		close_page();
	own = NULL;
	memset(owed, 0, sizeof owed);
	owes = false;
}

/*
 * The last one out takes the page away. What it holds ends with the process, a moment later. A process may have several
 * slots: one a namespace of the loader.
 */
__attribute__((destructor)) static void leave(void)
{
	bool others = false;

	if (!own || page == alone || own->who.pid != (uint32_t)getpid() || !lock_page())
		return;
	reclaim();
	for (unsigned i = 0; i < SLOTS_IN_PAGE; i++)
		others |= page->slots[i].who.pid && !identity_same(&page->slots[i].who, &own->who);
	if (!others && !page->gone) {
		page->gone = 1;
		unlink(page_path);
	}
	unlock_page();
}
