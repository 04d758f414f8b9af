/*
 * Large memory that is mostly zero costs the host nothing: whoever copies zeros, or fills with them, leaves a hole where it can.
 * So devices together may hold more than the host has, as long as what is in them is mostly zero. What is zero is known
 * without a look (nothing was ever written there) or by one; a program sees the same bytes either way.
 */
#include "emu/emu.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, BLOCK = 64 << 10, WINDOW = 512, LEAST = 1 << 20 };

/* Where memory of the host lies, as far as one copy has looked it up. */
struct host {
	uint64_t from, to;
	int advice; /* by which madvise makes pages of it zero; -1: by none */
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* With emu.space held: where a byte of memory that is ours lies in a file; how much follows it there. */
static uint64_t in_file(uint64_t address, int *file, off_t *at)
{
	const struct emu_mapping *mapping = emu_mapping_at(address);
	const struct emu_range *range = mapping == NULL ? emu_range_at(address) : NULL;

	if (mapping != NULL) {
		*file = mapping->physical->file;
		*at = (off_t)(mapping->physical->offset + mapping->offset + (address - mapping->base));
		return mapping->base + mapping->size - address;
	}
	if (range == NULL || range->physical == NULL)
		return 0;
	*file = range->physical->file;
	*at = (off_t)(range->physical->offset + (address - range->base));
	return range->base + range->size - address;
}

/* Pages that aren't there were never written, unless the machine may have moved them out. */
static bool nothing_is_moved_out(void)
{
	static int known = -1; /* the same whoever finds it */
	int answer = __atomic_load_n(&known, __ATOMIC_RELAXED), file;
	char text[512];
	ssize_t got;

	if (answer >= 0)
		return answer != 0;
	file = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
	got = file >= 0 ? read(file, text, sizeof(text) - 1) : 0;
	if (file >= 0)
		close(file);
	text[got > 0 ? got : 0] = '\0';
	/* A line of titles, and one for each place that memory is moved to. */
	answer = got > 0 && strchr(text, '\n') == text + got - 1;
	__atomic_store_n(&known, answer, __ATOMIC_RELAXED);
	return answer != 0;
}

static void look_up(struct host *host, uint64_t address)
{
	FILE *maps;
	char line[512];

	if (address >= host->from && address < host->to)
		return;
	*host = (struct host){address, address + 1, -1};
	maps = fopen("/proc/self/maps", "re");
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		unsigned long long from, to, inode;
		char rights[5], name[16] = "";

		if (sscanf(line, "%llx-%llx %4s %*s %*s %llu %15s", &from, &to, rights, &inode, name) < 4 || address < from || address >= to)
			continue;
		*host = (struct host){from, to, -1};
		if (strncmp(rights, "rw", 2) == 0 && rights[3] == 'p' && inode == 0)
			host->advice = MADV_DONTNEED;
		else if (strncmp(rights, "rw", 2) == 0 && rights[3] == 's' && strncmp(name, "/memfd:", 7) == 0)
			host->advice = MADV_REMOVE;
		break;
	}
	if (maps != NULL)
		fclose(maps);
}

/* So many bytes from here on are zero without having been written; 0 where that isn't known. */
static uint64_t hole(struct host *host, uint64_t address, uint64_t bytes)
{
	unsigned char there[WINDOW];
	uint64_t known, pages, i = 0;
	off_t at, data;
	int file;

	known = least(in_file(address, &file, &at), bytes);
	if (known > 0) {
		data = lseek(file, at, SEEK_DATA);
		return data < 0 || data >= at + (off_t)known ? known : (uint64_t)(data - at);
	}
	look_up(host, address);
	if (address % PAGE != 0 || host->advice < 0 || !nothing_is_moved_out())
		return 0;
	pages = least(least(bytes, host->to - address) / PAGE, WINDOW);
	if (pages == 0 || mincore((void *)(uintptr_t)address, pages * PAGE, there) != 0)
		return 0;
	while (i < pages && (there[i] & 1) == 0)
		i++;
	return i * PAGE;
}

static bool all_zero(const void *from, size_t bytes)
{
	const unsigned char *at = from;

	return at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

static bool punched(struct host *host, uint64_t address, uint64_t bytes)
{
	off_t at;
	int file;

	if (in_file(address, &file, &at) >= bytes)
		return at % PAGE == 0 && fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)bytes) == 0;
	look_up(host, address);
	return host->advice >= 0 && address + bytes <= host->to && madvise((void *)(uintptr_t)address, bytes, host->advice) == 0;
}

static void zero(struct host *host, uint64_t to, uint64_t bytes)
{
	uint64_t first = least(emu_round(to, PAGE) - to, bytes), whole = (bytes - first) / PAGE * PAGE;

	if (whole < BLOCK / 2 || hole(host, to, bytes) >= bytes) {
		if (whole < BLOCK / 2)
			memset((void *)(uintptr_t)to, 0, bytes);
		return;
	}
	memset((void *)(uintptr_t)to, 0, first);
	if (!punched(host, to + first, whole))
		memset((void *)(uintptr_t)(to + first), 0, whole);
	memset((void *)(uintptr_t)(to + first + whole), 0, bytes - first - whole);
}

void emu_zero(uint64_t to, uint64_t bytes)
{
	struct host host = {0, 0, -1};

	for (uint64_t done = 0, part; done < bytes; done += part) {
		part = least(bytes - done, bytes >= LEAST ? LEAST : bytes);
		zero(&host, to + done, part);
	}
}

void emu_move(uint64_t to, uint64_t from, uint64_t bytes)
{
	struct host target = {0, 0, -1}, source = {0, 0, -1};
	uint64_t part;

	if (bytes < LEAST || (to < from + bytes && from < to + bytes)) {
		memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
		return;
	}
	for (uint64_t done = 0; done < bytes; done += part) {
		part = hole(&source, from + done, bytes - done);
		if (part > 0) {
			part = least(part, LEAST);
			zero(&target, to + done, part);
			continue;
		}
		part = least(bytes - done, BLOCK - (from + done) % BLOCK);
		if (all_zero((const void *)(uintptr_t)(from + done), part))
			zero(&target, to + done, part);
		else
			memcpy((void *)(uintptr_t)(to + done), (const void *)(uintptr_t)(from + done), part);
	}
}
