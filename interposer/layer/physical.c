/*
 * Physical memory that a program maps by itself (cuMemCreate). It lives until the last handle is released and the last
 * range unmapped, and so long it is charged. What comes from another process is charged there.
 */
#include <stdlib.h>

#include "api.h"
#include "backing.h"

struct physical {
	uint64_t charged;
	uint32_t device;
	uint32_t references; /* handles and mappings */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;     /* of references */
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER; /* of how often a handle was given */

static void hold(struct physical *physical)
{
	pthread_mutex_lock(&lock);
	physical->references++;
	pthread_mutex_unlock(&lock);
}

static void let_go(struct physical *physical)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = --physical->references == 0;
	pthread_mutex_unlock(&lock);
	if (last) {
		discharge(physical->device, physical->charged);
		free(physical);
	}
}

/* A handle that the driver gives twice is entered once, and how often is what it's `charged` with. */
static bool enter_handle(CUmemGenericAllocationHandle handle, struct physical *physical)
{
	struct block block = {.base = handle, .size = 1, .device = physical->device, .kind = HANDLE, .owner = physical};
	struct block before = {0};
	bool entered;

	pthread_mutex_lock(&counting);
	index_take(&handles, handle, &before);
	block.charged = before.charged + 1;
	entered = index_add(&handles, &block);
	pthread_mutex_unlock(&counting);
	return entered;
}

/* One time less. The last time it leaves before the driver is told, who may give the same number out again at once. */
static bool leave_handle(CUmemGenericAllocationHandle handle, struct block *left)
{
	bool found;

	pthread_mutex_lock(&counting);
	found = index_take(&handles, handle, left);
	if (found && --left->charged)
		index_add(&handles, left);
	pthread_mutex_unlock(&counting);
	return found;
}

static void enter_created(CUmemGenericAllocationHandle handle, uint64_t charged, uint32_t device)
{
	struct physical *physical = malloc(sizeof *physical);

	if (physical) {
		*physical = (struct physical){.charged = charged, .device = device, .references = 1};
		if (enter_handle(handle, physical))
			return;
		free(physical);
	}
	count(&counters.unaccounted);
}

EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *wish,
			    unsigned long long flags)
{
	struct gate_seat *seat;
	uint64_t charged;
	uint32_t device;
	CUresult result;

	if (idle() || !handle || !wish || wish->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
	    !device_index(wish->location.id, &device))
		return REAL(cuMemCreate)(handle, size, wish, flags);
	if (!charge(device, size, &charged))
		return refuse();
	seat = gate_enter();
	result = REAL(cuMemCreate)(handle, size, wish, flags);
	gate_leave(seat);
	if (result == CUDA_SUCCESS)
		enter_created(*handle, charged, device);
	else
		discharge(device, charged);
	return result;
}

EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct block block;
	CUresult result;

	if (idle() || !leave_handle(handle, &block))
		return REAL(cuMemRelease)(handle);
	result = REAL(cuMemRelease)(handle);
	if (result == CUDA_SUCCESS)
		let_go(block.owner);
	else if (!enter_handle(handle, block.owner))
		count(&counters.unaccounted);
	return result;
}

EXPORT CUresult cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
			 unsigned long long flags)
{
	CUresult result = REAL(cuMemMap)(pointer, size, offset, handle, flags);
	struct block block, mapped = {.base = pointer, .size = size, .kind = MAPPED};

	if (result != CUDA_SUCCESS || idle() || !index_find(&handles, handle, &block))
		return result;
	mapped.owner = block.owner;
	mapped.device = block.device;
	hold(mapped.owner);
	if (!index_add(&addresses, &mapped)) {
		let_go(mapped.owner);
		count(&counters.unaccounted);
	}
	return result;
}

/* A range may hold many mappings. They leave the index before the call, since the range may be mapped anew at once. */
struct taken {
	struct taken *next;
	struct block block;
};

static struct taken *take_mappings(CUdeviceptr pointer, size_t size)
{
	struct taken *all = NULL, *one;
	struct block block;

	while (index_take_within(&addresses, pointer, size, MAPPED, &block)) {
		one = malloc(sizeof *one);
		if (!one) {
			index_add(&addresses, &block);
			count(&counters.unaccounted);
			break;
		}
		*one = (struct taken){.next = all, .block = block};
		all = one;
	}
	return all;
}

EXPORT CUresult cuMemUnmap(CUdeviceptr pointer, size_t size)
{
	struct taken *all = idle() ? NULL : take_mappings(pointer, size), *next;
	CUresult result = REAL(cuMemUnmap)(pointer, size);

	for (; all; all = next) {
		next = all->next;
		if (result == CUDA_SUCCESS)
			let_go(all->block.owner);
		else
			index_add(&addresses, &all->block);
		free(all);
	}
	return result;
}

void physical_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_mutex_init(&counting, NULL);
}

EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	struct block block;
	CUresult result;

	/* What a handle was given of can't be moved any more. */
	if (!idle() && index_find(&addresses, (uint64_t)(uintptr_t)address, &block) && block.kind == BACKED)
		backing_keep((uint64_t)(uintptr_t)address);
	result = REAL(cuMemRetainAllocationHandle)(handle, address);
	if (result != CUDA_SUCCESS || idle() || !index_find(&addresses, (uint64_t)(uintptr_t)address, &block) ||
	    block.kind != MAPPED)
		return result;
	hold(block.owner);
	if (!enter_handle(*handle, block.owner)) {
		let_go(block.owner);
		count(&counters.unaccounted);
	}
	return result;
}
