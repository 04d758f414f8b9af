/* Memory of the host for what is off the device. host.h says whose; here it is cut up, and made ready piece by piece. */
#include "host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"

#define UNIT (UINT64_C(2) << 20)
#define LARGEST (UINT64_C(256) << 20) /* to pin more in one call holds everything up for long */
#define SMALLEST (UINT64_C(32) << 20)

struct segment {
	struct segment *next;
	char *base;
	uint64_t size;
	CUcontext context; /* in which it is pinned; NULL: it isn't */
	bool given;        /* by the broker */
	bool tried;        /* to pin it, in vain */
	uint32_t units, used;
	bool taken[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct segment *segments;
static uint64_t expected, own, pinned;

/* A quarter of the machine: pinned memory is taken from everybody on it. */
static uint64_t most_pinned(void)
{
	static _Atomic uint64_t found;
	const char *said;
	uint64_t bytes = atomic_load(&found);
	long pages, size;

	if (bytes)
		return bytes;
	said = getenv("GPUMAX_SWAP_PINNED");
	if (!said || !share_parse_bytes(said, &bytes) || !bytes) {
		pages = sysconf(_SC_PHYS_PAGES);
		size = sysconf(_SC_PAGESIZE);
		bytes = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : UINT64_C(1) << 30;
	}
	atomic_store(&found, bytes);
	return bytes;
}

static void pin(struct segment *segment)
{
	if (segment->context || segment->tried)
		return;
	if (!segment->given && pinned + segment->size > most_pinned())
		return;
	segment->tried = true;
	if (REAL(cuMemHostRegister_v2)(segment->base, segment->size, CU_MEMHOSTREGISTER_PORTABLE) != CUDA_SUCCESS)
		return;
	segment->context = context_current();
	pinned += segment->given ? 0 : segment->size;
}

/* In the context in which it was pinned; with one that has gone it isn't any more. */
static void unpin(struct segment *segment)
{
	CUcontext unused;

	if (!segment->context)
		return;
	if (REAL(cuCtxPushCurrent_v2)(segment->context) == CUDA_SUCCESS) {
		REAL(cuMemHostUnregister)(segment->base);
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	pinned -= segment->given ? 0 : segment->size;
	segment->context = NULL;
	segment->tried = false;
}

static struct segment *enter(char *base, uint64_t size, bool given)
{
	uint32_t units = (uint32_t)(size / UNIT);
	struct segment *segment = calloc(1, sizeof *segment + units * sizeof *segment->taken), **place = &segments;

	if (!segment)
		return NULL;
	segment->base = base;
	segment->size = units * UNIT;
	segment->units = units;
	segment->given = given;
	/* A child neither needs it nor may the driver's pages be shared with one. */
	madvise(base, size, MADV_DONTFORK);
	madvise(base, size, MADV_HUGEPAGE); /* fewer pages to make and to pin */
	while (!given && *place)
		place = &(*place)->next;
	segment->next = *place;
	*place = segment;
	return segment;
}

static struct segment *more(uint64_t bytes)
{
	uint64_t size = expected < LARGEST ? expected : LARGEST;
	struct segment *segment;
	void *base;

	size = size < SMALLEST ? SMALLEST : size;
	size = size < bytes ? bytes : size;
	size = (size + UNIT - 1) / UNIT * UNIT;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED && size > bytes) {
		size = (bytes + UNIT - 1) / UNIT * UNIT;
		base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (base == MAP_FAILED)
		return NULL;
	segment = enter(base, size, false);
	if (!segment)
		munmap(base, size);
	else
		own += size;
	return segment;
}

/* The first room of so many units in a row; `units` where there is none. */
static uint32_t room(const struct segment *segment, uint32_t wanted)
{
	uint32_t row = 0;

	if (segment->units - segment->used < wanted)
		return segment->units;
	for (uint32_t i = 0; i < segment->units; i++) {
		row = segment->taken[i] ? 0 : row + 1;
		if (row == wanted)
			return i + 1 - wanted;
	}
	return segment->units;
}

static char *cut(struct segment *segment, uint32_t first, uint32_t units)
{
	memset(segment->taken + first, true, units * sizeof *segment->taken);
	segment->used += units;
	return segment->base + first * UNIT;
}

static char *take(uint32_t units)
{
	struct segment *segment = segments;
	uint32_t first = 0;

	while (segment && (first = room(segment, units)) == segment->units)
		segment = segment->next;
	if (!segment && (segment = more(units * UNIT)))
		first = 0;
	if (!segment)
		return NULL;
	pin(segment);
	return cut(segment, first, units);
}

char *host_take(uint64_t bytes)
{
	char *at;

	pthread_mutex_lock(&lock);
	at = take((uint32_t)((bytes + UNIT - 1) / UNIT));
	expected -= bytes < expected ? bytes : expected;
	pthread_mutex_unlock(&lock);
	return at;
}

void host_expect(uint64_t bytes)
{
	pthread_mutex_lock(&lock);
	expected = bytes;
	pthread_mutex_unlock(&lock);
}

static struct segment *around(const char *at)
{
	struct segment *segment = segments;

	while (segment && (at < segment->base || at >= segment->base + segment->size))
		segment = segment->next;
	return segment;
}

void host_give(char *at, uint64_t bytes)
{
	struct segment *segment;
	uint32_t units = (uint32_t)((bytes + UNIT - 1) / UNIT);

	pthread_mutex_lock(&lock);
	segment = around(at);
	if (segment) {
		memset(segment->taken + (uint64_t)(at - segment->base) / UNIT, false, units * sizeof *segment->taken);
		segment->used -= units;
	}
	pthread_mutex_unlock(&lock);
}

bool host_pinned(const char *at)
{
	const struct segment *segment;
	bool answer;

	pthread_mutex_lock(&lock);
	segment = around(at);
	answer = segment && segment->context;
	pthread_mutex_unlock(&lock);
	return answer;
}

/* What is said to be there, and isn't, would end the program when it's written to. */
static bool is_as_large(int descriptor, uint64_t bytes)
{
	struct stat file;

	return bytes >= UNIT && fstat(descriptor, &file) == 0 && file.st_size > 0 && (uint64_t)file.st_size >= bytes;
}

bool host_add(int descriptor, uint64_t bytes)
{
	void *base = MAP_FAILED;
	bool added;

	if (is_as_large(descriptor, bytes))
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
	if (base == MAP_FAILED)
		return false;
	pthread_mutex_lock(&lock);
	added = enter(base, bytes, true) != NULL;
	pthread_mutex_unlock(&lock);
	if (!added)
		munmap(base, bytes);
	return added;
}

void host_shrink(uint64_t needed)
{
	struct segment **place, *segment;

	pthread_mutex_lock(&lock);
	for (place = &segments; (segment = *place);) {
		if (segment->given || segment->used || own < needed + segment->size) {
			place = &segment->next;
			continue;
		}
		*place = segment->next;
		unpin(segment);
		munmap(segment->base, segment->size);
		own -= segment->size;
		free(segment);
	}
	pthread_mutex_unlock(&lock);
}

/* What is pinned is so in a context; another one pins it again. */
void host_context_ends(CUcontext context)
{
	pthread_mutex_lock(&lock);
	for (struct segment *segment = segments; segment; segment = segment->next)
		if (segment->context == context)
			unpin(segment);
	pthread_mutex_unlock(&lock);
}

/* The child has none of it: it was mapped for the parent alone. */
void host_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	segments = NULL;
	expected = own = pinned = 0;
}
