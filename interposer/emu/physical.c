/* Memory of devices, which is memory of this machine: a part of a file without a name, and how much of a device is taken. */
#include "emu/emu.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All that need not be given to others lies in one file that is never filled: a hole a piece, so there is one open file a process. */
static int arena = -1;
static uint64_t arena_end;

uint64_t emu_round(uint64_t bytes, uint64_t to)
{
	return (bytes + to - 1) / to * to;
}

bool emu_charge(int device, uint64_t bytes)
{
	struct emu_shared *shared = emu.shared;
	struct emu_slot *slot = emu.slot;
	uint64_t memory = emu.config.device[device].memory, used;
	bool fits;

	emu_shared_lock(shared);
	used = emu_used(shared, device);
	fits = bytes <= memory && used <= memory - bytes;
	if (!fits) {
		emu_reap(shared);
		used = emu_used(shared, device);
		fits = bytes <= memory && used <= memory - bytes;
	}
	if (fits) {
		slot->used[device] += bytes;
		if (slot->used[device] > slot->peak[device])
			slot->peak[device] = slot->used[device];
	}
	emu_shared_unlock(shared);
	return fits;
}

void emu_uncharge(int device, uint64_t bytes)
{
	emu_shared_lock(emu.shared);
	emu.slot->used[device] -= bytes < emu.slot->used[device] ? bytes : emu.slot->used[device];
	emu_shared_unlock(emu.shared);
}

static int file_of(int device, uint64_t size)
{
	char name[64];
	int file;

	snprintf(name, sizeof(name), "gpumax-emu:%d:%llu", device, (unsigned long long)size);
	file = (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC; C libraries know it by name since 2.27 */);
	if (file >= 0 && size > 0 && ftruncate(file, (off_t)size) != 0) {
		close(file);
		file = -1;
	}
	return file;
}

/* With emu.lock held. */
static bool in_arena(struct emu_physical *physical)
{
	uint64_t size = emu_round(physical->size, 4096);

	if (arena < 0)
		arena = file_of(-1, 0);
	if (arena < 0 || ftruncate(arena, (off_t)(arena_end + size)) != 0)
		return false;
	physical->file = arena;
	physical->offset = arena_end;
	arena_end += size;
	return true;
}

struct emu_physical *emu_physical_new(int device, uint64_t size, bool charged)
{
	struct emu_physical *physical;
	bool fine;

	if (charged && device >= 0 && !emu_charge(device, size))
		return NULL;
	physical = emu_new(EMU_PHYSICAL, sizeof(*physical));
	if (physical != NULL) {
		physical->references = 1;
		physical->device = device;
		physical->size = size;
		physical->charged = charged;
		pthread_mutex_lock(&emu.lock);
		fine = in_arena(physical);
		pthread_mutex_unlock(&emu.lock);
		if (fine)
			return physical;
		emu_delete(EMU_PHYSICAL, physical);
	}
	if (charged && device >= 0)
		emu_uncharge(device, size);
	return NULL;
}

/* Its place in a file is nobody's any more. */
static void leave(int file, bool own_file, uint64_t offset, uint64_t size)
{
	if (own_file)
		close(file);
	else
		fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)emu_round(size, 4096));
}

/* What was ever written there. */
static bool copied(int to, const struct emu_physical *from)
{
	off_t end = (off_t)(from->offset + from->size), at = lseek(from->file, (off_t)from->offset, SEEK_DATA), hole;
	static const size_t most = (size_t)1 << 20;
	char *room = malloc(most);
	bool fine = room != NULL;

	while (fine && at >= 0 && at < end) {
		hole = lseek(from->file, at, SEEK_HOLE);
		hole = hole < end ? hole : end;
		while (fine && at < hole) {
			ssize_t got = pread(from->file, room, (size_t)(hole - at) < most ? (size_t)(hole - at) : most, at);

			fine = got > 0 && pwrite(to, room, (size_t)got, at - (off_t)from->offset) == got;
			at += got;
		}
		at = lseek(from->file, at, SEEK_DATA);
	}
	free(room);
	return fine;
}

/*
 * A file of its own for what is given to others, made when it first is: a process has few open files, and what could be
 * given mostly isn't. With `space` held for writing, so that nothing writes there meanwhile.
 */
bool emu_physical_apart(struct emu_physical *physical)
{
	struct emu_physical before = *physical;
	int file;

	if (physical->own_file)
		return true;
	file = file_of(physical->device, physical->size);
	if (file < 0 || !copied(file, physical)) {
		if (file >= 0)
			close(file);
		return false;
	}
	physical->file = file;
	physical->offset = 0;
	physical->own_file = true;
	if (!emu_mappings_again(physical)) {
		*physical = before;
		emu_mappings_again(physical);
		close(file);
		return false;
	}
	leave(before.file, false, before.offset, before.size);
	return true;
}

void emu_physical_release(struct emu_physical *physical)
{
	if (__atomic_sub_fetch(&physical->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	leave(physical->file, physical->own_file, physical->offset, physical->size);
	if (physical->charged && physical->device >= 0)
		emu_uncharge(physical->device, physical->size);
	emu_delete(EMU_PHYSICAL, physical);
}

/* Aligned room: more is reserved, and what is too much given back. */
void *emu_map(struct emu_physical *physical, uint64_t offset, uint64_t size, uint64_t alignment)
{
	uint64_t length = emu_round(size, 4096), more = length + alignment, start, first;
	void *room = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return NULL;
	start = (uint64_t)(uintptr_t)room;
	first = emu_round(start, alignment);
	if (first > start)
		munmap(room, first - start);
	if (start + more > first + length)
		munmap((void *)(uintptr_t)(first + length), start + more - first - length);
	if (physical != NULL && mmap((void *)(uintptr_t)first, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, physical->file,
				     (off_t)(physical->offset + offset)) == MAP_FAILED) {
		munmap((void *)(uintptr_t)first, length);
		return NULL;
	}
	return (void *)(uintptr_t)first;
}
