/* Memory of devices, which is memory of this machine: a part of a file without a name, and how much of a device is taken. */
#include "emu/emu.h"

#include <fcntl.h>
#include <stdio.h>
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

struct emu_physical *emu_physical_new(int device, uint64_t size, bool exportable, bool charged)
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
		physical->own_file = exportable;
		pthread_mutex_lock(&emu.lock);
		if (exportable) {
			physical->file = file_of(device, size);
			fine = physical->file >= 0;
		} else {
			fine = in_arena(physical);
		}
		pthread_mutex_unlock(&emu.lock);
		if (fine)
			return physical;
		emu_delete(EMU_PHYSICAL, physical);
	}
	if (charged && device >= 0)
		emu_uncharge(device, size);
	return NULL;
}

void emu_physical_release(struct emu_physical *physical)
{
	if (__atomic_sub_fetch(&physical->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (physical->own_file)
		close(physical->file);
	else
		fallocate(physical->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)physical->offset,
			  (off_t)emu_round(physical->size, 4096));
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
