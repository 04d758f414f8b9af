#include "emu/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

const uint64_t emu_shared_magic = 0x67706d6178656d33;

/* Locks belong to an open file: one holds ours, one looks at all. Behind those of the slots: one for who begins or ends,
 * one that all who only look on have together. */
static int own = -1, look = -1;
enum { BEGINS = EMU_SLOTS, LOOKS_ON, LOCKS };

static struct flock byte_lock(short type, off_t at)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	return lock;
}

static bool try_byte(int file, off_t at, bool wait)
{
	struct flock lock = byte_lock(F_WRLCK, at);
	int done;

	do
		done = fcntl(file, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
	while (done == -1 && errno == EINTR);
	return done == 0;
}

static void leave_byte(int file, off_t at)
{
	struct flock lock = byte_lock(F_UNLCK, at);

	fcntl(file, F_OFD_SETLK, &lock);
}

static bool lives(int slot)
{
	struct flock lock = byte_lock(F_WRLCK, slot);

	return fcntl(look, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Files of machines that nobody named and nobody is on any more: whoever was last there was killed. */
static void sweep(void)
{
	DIR *folder = opendir("/dev/shm");
	char prefix[40], path[sizeof(((struct dirent *)0)->d_name) + 16];
	struct dirent *each;

	snprintf(prefix, sizeof(prefix), "gpumax-emu-%u-", (unsigned)getuid());
	while (folder != NULL && (each = readdir(folder)) != NULL) {
		struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = LOCKS};
		int file;

		if (strncmp(each->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", each->d_name);
		file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (file >= 0 && fcntl(file, F_OFD_SETLK, &all) == 0)
			unlink(path);
		if (file >= 0)
			close(file);
	}
	if (folder != NULL)
		closedir(folder);
}

static uint64_t digest(const struct emu_config *config)
{
	const unsigned char *at = (const unsigned char *)config->device;
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < sizeof(config->device[0]) * (size_t)config->devices; i++)
		hash = (hash ^ at[i]) * 1099511628211u;
	return hash ^ (uint64_t)config->devices ^ (config->virtual_clock ? 1u << 20 : 0);
}

static void fresh(struct emu_shared *shared, uint64_t config)
{
	pthread_mutexattr_t attributes;

	memset(shared, 0, sizeof(*shared));
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&shared->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	for (int i = 0; i < EMU_DEVICES; i++)
		shared->device[i].slower = 1;
	shared->began = emu_monotonic();
	shared->now = 1000000;
	shared->config = config;
	shared->magic = emu_shared_magic;
}

static bool anyone(void)
{
	for (int i = 0; i < EMU_SLOTS; i++)
		if (lives(i))
			return true;
	return false;
}

static int open_ours(const char *path)
{
	struct stat status;
	int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (file < 0)
		return -1;
	if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == getuid())
		return file;
	close(file);
	errno = EPERM;
	return -1;
}

static struct emu_shared *mapped(int file)
{
	struct stat status;
	void *at;

	if (fstat(file, &status) != 0)
		return NULL;
	if (status.st_size != (off_t)sizeof(struct emu_shared) && ftruncate(file, (off_t)sizeof(struct emu_shared)) != 0)
		return NULL;
	at = mmap(NULL, sizeof(struct emu_shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	return at == MAP_FAILED ? NULL : at;
}

static bool still_there(void)
{
	struct stat one, other;

	return fstat(own, &one) == 0 && fstat(look, &other) == 0 && one.st_nlink > 0 && one.st_ino == other.st_ino;
}

/* Opens it and holds the lock of who begins. A file that its last process has just taken away is opened anew. */
static bool opened(const char *path)
{
	for (int attempt = 0; attempt < 100; attempt++) {
		own = open_ours(path);
		look = own >= 0 ? open_ours(path) : -1;
		if (look < 0 || !try_byte(own, BEGINS, true))
			return false;
		if (still_there())
			return true;
		emu_shared_forget();
	}
	return false;
}

static int slot_take(struct emu_shared *shared);

struct emu_shared *emu_shared_open(const struct emu_config *config, int *me, char *said, size_t said_size)
{
	struct flock looks_on = byte_lock(F_RDLCK, LOOKS_ON);
	struct emu_shared *shared;
	uint64_t wanted = digest(config);

	if (config->shared_by_default)
		sweep();
	if (!opened(config->shared)) {
		snprintf(said, said_size, "the file %s can't be used: %s", config->shared, strerror(errno));
		emu_shared_forget();
		return NULL;
	}
	/* A mapping keeps its file open, in children too: it is not the one whose locks say who lives. */
	shared = mapped(look);
	if (shared == NULL) {
		snprintf(said, said_size, "the file %s can't be mapped: %s", config->shared, strerror(errno));
		emu_shared_forget();
		return NULL;
	}
	if (shared->magic != emu_shared_magic || shared->config != wanted) {
		if (shared->magic != 0 && anyone()) {
			snprintf(said, said_size, "%s is in use by processes with other devices; wanted the same GPUMAX_EMU for all, or another \"shared\"",
				 config->shared);
			munmap(shared, sizeof(*shared));
			emu_shared_forget();
			return NULL;
		}
		fresh(shared, wanted);
	}
	if (me != NULL)
		*me = slot_take(shared);
	else
		fcntl(own, F_OFD_SETLK, &looks_on);
	leave_byte(own, BEGINS);
	return shared;
}

void emu_shared_leave(const struct emu_config *config, int me)
{
	if (!config->shared_by_default || own < 0 || !try_byte(own, BEGINS, false))
		return;
	for (int i = 0; i < LOCKS; i++)
		if (i != me && i != BEGINS && lives(i)) {
			leave_byte(own, BEGINS);
			return;
		}
	unlink(config->shared);
}

void emu_shared_forget(void)
{
	if (own >= 0)
		close(own);
	if (look >= 0)
		close(look);
	own = look = -1;
}

static void name_of(struct emu_slot *slot)
{
	int file = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
	ssize_t got = file >= 0 ? read(file, slot->name, sizeof(slot->name) - 1) : 0;

	if (file >= 0)
		close(file);
	slot->name[got > 0 ? got - 1 : 0] = '\0';
}

static int slot_take(struct emu_shared *shared)
{
	for (int i = 0; i < EMU_SLOTS; i++) {
		if (!try_byte(own, i, false))
			continue;
		emu_shared_lock(shared);
		memset(&shared->slot[i], 0, sizeof(shared->slot[i]));
		shared->slot[i].pid = (int32_t)getpid();
		name_of(&shared->slot[i]);
		emu_shared_unlock(shared);
		return i;
	}
	return -1;
}

void emu_shared_lock(struct emu_shared *shared)
{
	/* Numbers alone are changed under it, each on its own: whoever dies with it leaves nothing half done that matters. */
	if (pthread_mutex_lock(&shared->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&shared->lock);
}

void emu_shared_unlock(struct emu_shared *shared)
{
	pthread_mutex_unlock(&shared->lock);
}

void emu_reap(struct emu_shared *shared)
{
	for (int i = 0; i < EMU_SLOTS; i++) {
		struct emu_slot *slot = &shared->slot[i];

		if (slot->pid == 0 || lives(i))
			continue;
		memset(slot, 0, sizeof(*slot));
		for (int d = 0; d < EMU_DEVICES; d++)
			for (int e = 0; e < EMU_ENGINES; e++)
				shared->device[d].turn[e].waits[i] = 0;
	}
}

uint64_t emu_used(const struct emu_shared *shared, int device)
{
	uint64_t sum = 0;

	for (int i = 0; i < EMU_SLOTS; i++)
		sum += shared->slot[i].used[device];
	return sum;
}

void emu_futex_wake(uint32_t *word)
{
	__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void emu_futex_wait(uint32_t *word, uint32_t seen, uint64_t at_most_ns)
{
	struct timespec wait = {.tv_sec = (time_t)(at_most_ns / 1000000000), .tv_nsec = (long)(at_most_ns % 1000000000)};

	syscall(SYS_futex, word, FUTEX_WAIT, seen, &wait, NULL, 0);
}

uint64_t emu_monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
