/* Allocations made of pieces. backing.h says what for; swap.c moves them. */
#include "backing.h"

#include <stdlib.h>

#include "api.h"
#include "client/client.h"
#include "gpumax/layer.h"
#include "hints.h"
#include "host.h"
#include "lend.h"
#include "mover.h"
#include "swap.h"

#define SMALLEST (UINT64_C(1) << 20) /* below that, pieces cost more than they give */

struct backings backings[SHARE_DEVICES] = {[0 ... SHARE_DEVICES - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static _Atomic uint64_t granularities[SHARE_DEVICES]; /* 0: not asked yet; 1: this device can't */

static _Atomic uint32_t peers_of[SHARE_DEVICES];      /* a bit for each device that may use another's memory */

static CUmemAllocationProp wish_for(uint32_t device)
{
	CUmemAllocationProp wish = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
				    .location = {CU_MEM_LOCATION_TYPE_DEVICE, device_ordinal(device)}};
	int direct = 0, descriptors = 0;

	REAL(cuDeviceGetAttribute)(&direct, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
				   wish.location.id);
	REAL(cuDeviceGetAttribute)(&descriptors, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
				   wish.location.id);
	wish.allocFlags.gpuDirectRDMACapable = direct != 0;
	if (descriptors)
		wish.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	return wish;
}

bool backing_can_be_lent(uint32_t device)
{
	return wish_for(device).requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE;
}

static uint64_t ask_granularity(uint32_t device)
{
	CUmemAllocationProp wish = wish_for(device);
	size_t granularity = 0;
	int able = 0;

	if (REAL(cuDeviceGetAttribute)(&able, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
				       wish.location.id) ||
	    !able)
		return 1;
	if (REAL(cuMemGetAllocationGranularity)(&granularity, &wish, CU_MEM_ALLOC_GRANULARITY_MINIMUM) ||
	    granularity < 2 || PIECE % granularity)
		return 1;
	return granularity;
}

static uint64_t granularity_of(uint32_t device)
{
	uint64_t granularity = atomic_load_explicit(&granularities[device], memory_order_relaxed);

	if (!granularity) {
		granularity = ask_granularity(device);
		if (granularity == 1)
			say_once(CAUSE_VMM, "the driver can't map memory by hand on device %d, so its memory isn't swapped",
				 device_ordinal(device));
		atomic_store(&granularities[device], granularity);
	}
	return granularity;
}

bool backing_wanted(uint64_t size, uint32_t device)
{
	return settings()->swappable && size >= SMALLEST && granularity_of(device) > 1;
}

uint64_t piece_size(const struct backing *backing, uint32_t i)
{
	uint64_t rest = backing->size - i * PIECE;

	return rest < PIECE ? rest : PIECE;
}

/* The device that has the memory, and those whose contexts were given peer access to it. */
static CUresult let_in(uint64_t at, uint64_t size, uint32_t device)
{
	uint32_t peers = atomic_load(&peers_of[device]) | UINT32_C(1) << device;
	CUmemAccessDesc access[SHARE_DEVICES];
	size_t count = 0;

	for (uint32_t i = 0; i < SHARE_DEVICES; i++)
		if (peers >> i & 1)
			access[count++] = (CUmemAccessDesc){{CU_MEM_LOCATION_TYPE_DEVICE, device_ordinal(i)},
							    CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	return REAL(cuMemSetAccess)(at, size, access, count);
}

CUresult piece_bring(struct backing *backing, uint32_t i)
{
	CUmemAllocationProp wish = wish_for(backing->device);
	uint64_t at = backing->base + i * PIECE, size = piece_size(backing, i);
	struct piece *piece = &backing->pieces[i];
	CUresult result = REAL(cuMemCreate)(&piece->handle, size, &wish, 0);

	if (result != CUDA_SUCCESS)
		return result;
	result = REAL(cuMemMap)(at, size, 0, piece->handle, 0);
	if (result == CUDA_SUCCESS) {
		result = let_in(at, size, backing->device);
		if (result != CUDA_SUCCESS)
			REAL(cuMemUnmap)(at, size);
	}
	if (result != CUDA_SUCCESS)
		REAL(cuMemRelease)(piece->handle);
	piece->resident = result == CUDA_SUCCESS;
	if (piece->resident)
		atomic_fetch_sub(&backings[backing->device].out, size);
	return result;
}

CUresult piece_drop(struct backing *backing, uint32_t i)
{
	struct piece *piece = &backing->pieces[i];
	CUresult result;

	if (!piece->resident)
		return CUDA_SUCCESS;
	result = REAL(cuMemUnmap)(backing->base + i * PIECE, piece_size(backing, i));
	if (result != CUDA_SUCCESS)
		return result;
	piece->resident = false;
	atomic_fetch_add(&backings[backing->device].out, piece_size(backing, i));
	return REAL(cuMemRelease)(piece->handle);
}

void piece_forget_host(struct backing *backing, uint32_t i)
{
	struct piece *piece = &backing->pieces[i];

	if (piece->host)
		host_give(piece->host, piece_size(backing, i));
	piece->host = NULL;
	piece->host_true = false;
}

static void counted_by_hint(struct backing *backing, uint32_t i, bool more)
{
	struct backings *all = &backings[backing->device];
	uint8_t hint = backing->pieces[i].hint;
	_Atomic uint64_t *sum = hint == GPUMAX_LAYER_READ_ONLY ? &all->read_only : &all->discardable;

	if (hint == GPUMAX_LAYER_NORMAL)
		return;
	if (more)
		atomic_fetch_add(sum, piece_size(backing, i));
	else
		atomic_fetch_sub(sum, piece_size(backing, i));
}

/* What is off the device and not to be thrown away stands on the host alone. */
void piece_hint(struct backing *backing, uint32_t i, uint8_t hint)
{
	struct piece *piece = &backing->pieces[i];

	counted_by_hint(backing, i, false);
	piece->hint = hint;
	counted_by_hint(backing, i, true);
	if (hint == GPUMAX_LAYER_DISCARDABLE || (piece->resident && hint == GPUMAX_LAYER_NORMAL))
		piece_forget_host(backing, i);
}

/* With the device's lock held. */
static void link_in(struct backing *backing)
{
	struct backings *all = &backings[backing->device];

	backing->next = all->first;
	if (all->first)
		all->first->previous = backing;
	all->first = backing;
}

static void link_out(struct backing *backing)
{
	if (backing->previous)
		backing->previous->next = backing->next;
	else
		backings[backing->device].first = backing->next;
	if (backing->next)
		backing->next->previous = backing->previous;
}

/* What it had is neither here nor out any more. */
static void end(struct backing *backing)
{
	struct backings *all = &backings[backing->device];

	for (uint32_t i = 0; i < backing->count; i++) {
		bool counted_out = !backing->pieces[i].resident && !backing->lost;

		counted_by_hint(backing, i, false);
		piece_forget_host(backing, i);
		if (!backing->pieces[i].resident)
			atomic_fetch_sub(&all->out, counted_out ? piece_size(backing, i) : 0);
		else if (piece_drop(backing, i) == CUDA_SUCCESS || !backing->pieces[i].resident)
			atomic_fetch_sub(&all->out, piece_size(backing, i));
	}
	atomic_fetch_sub(&all->bytes, backing->size);
	if (backing->holds)
		atomic_fetch_sub(&all->kept, backing->size);
	if (backing->base)
		REAL(cuMemAddressFree)(backing->base, backing->size);
	free(backing);
}

/* All of it is out until its pieces are brought. */
static CUresult fill(struct backing *backing)
{
	CUdeviceptr base = 0;
	CUresult result = REAL(cuMemAddressReserve)(&base, backing->size, 0, 0, 0);

	if (result != CUDA_SUCCESS)
		return result;
	backing->base = base;
	for (uint32_t i = 0; i < backing->count && result == CUDA_SUCCESS; i++)
		result = piece_bring(backing, i);
	return result;
}

static struct backing *make(uint64_t size, uint32_t device, uint64_t charged)
{
	uint64_t count = (size + PIECE - 1) / PIECE;
	struct backing *backing = calloc(1, sizeof *backing + count * sizeof *backing->pieces);

	if (!backing)
		return NULL;
	backing->size = size;
	backing->count = (uint32_t)count;
	backing->device = device;
	backing->charged = charged;
	backing->context = context_current();
	hint_new(backing);
	context_begins(backing->context); /* also one that began where we didn't see it */
	return backing;
}

static CUresult enter(struct backing *backing, uint64_t asked)
{
	struct block block = {.base = backing->base, .size = asked, .charged = backing->charged, .device = backing->device,
			      .kind = BACKED, .context = backing->context, .owner = backing};

	if (!index_add(&addresses, &block))
		return CUDA_ERROR_OUT_OF_MEMORY;
	link_in(backing);
	return CUDA_SUCCESS;
}

static CUresult build(CUdeviceptr *pointer, uint64_t asked, uint64_t size, uint32_t device, uint64_t charged)
{
	struct backing *backing = make(size, device, charged);
	struct gate_seat *seat;
	CUresult result;

	if (!backing) {
		atomic_fetch_sub(&backings[device].coming, size);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	seat = gate_enter();
	pthread_mutex_lock(&backings[device].lock);
	atomic_fetch_add(&backings[device].bytes, size);
	atomic_fetch_add(&backings[device].out, size);
	atomic_fetch_sub(&backings[device].coming, size);
	result = fill(backing);
	if (result == CUDA_SUCCESS)
		result = enter(backing, asked);
	if (result == CUDA_SUCCESS)
		*pointer = backing->base;
	else
		end(backing);
	pthread_mutex_unlock(&backings[device].lock);
	gate_leave(seat);
	return result;
}

CUresult backing_allocate(CUdeviceptr *pointer, uint64_t asked, uint32_t device)
{
	uint64_t granularity = granularity_of(device), size, charged;
	CUresult result;

	if (__builtin_add_overflow(asked, granularity - 1, &size))
		return refuse();
	size -= size % granularity;
	if (!charge_movable(device, size, &charged))
		return refuse();
	result = build(pointer, asked, size, device, charged);
	if (result != CUDA_SUCCESS)
		discharge_movable(device, charged);
	return result;
}

void backing_end(const struct block *block)
{
	struct backing *backing = block->owner;
	bool outlives;

	pthread_mutex_lock(&backings[block->device].lock);
	link_out(backing);
	outlives = lend_freed(backing, block->charged);
	end(backing);
	host_shrink(atomic_load(&backings[block->device].bytes));
	pthread_mutex_unlock(&backings[block->device].lock);
	if (outlives)
		memory_movable(block->device, block->charged, false);
	else
		discharge_movable(block->device, block->charged);
	swap_settle(block->device);
}

/* As cuMemFree does, it waits for what the context still has to do. The block has left the index already. */
CUresult backing_free(struct block *block)
{
	struct backing *backing = block->owner;
	CUcontext unused;
	CUresult result = REAL(cuCtxPushCurrent_v2)(backing->context);

	if (result == CUDA_SUCCESS) {
		result = REAL(cuCtxSynchronize)();
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	if (result != CUDA_SUCCESS && result != CUDA_ERROR_INVALID_CONTEXT && result != CUDA_ERROR_CONTEXT_IS_DESTROYED) {
		index_add(&addresses, block);
		return result;
	}
	backing_end(block);
	return CUDA_SUCCESS;
}

/* While any order moves pieces, memory of the host that it uses stays pinned. */
void backings_context_ends(CUcontext context, bool alive)
{
	for (uint32_t device = 0; device < SHARE_DEVICES; device++)
		pthread_mutex_lock(&backings[device].lock);
	mover_context_ends(context, alive);
	host_context_ends(context);
	for (uint32_t device = 0; device < SHARE_DEVICES; device++)
		pthread_mutex_unlock(&backings[device].lock);
}

/* Others may see it where it is: what was mapped anew behind its address they would not see. */
bool backing_hold(struct backing *backing)
{
	for (uint32_t i = 0; i < backing->count; i++)
		if (!backing->pieces[i].resident)
			return false;
	if (!backing->holds++)
		atomic_fetch_add(&backings[backing->device].kept, backing->size);
	return true;
}

void backing_let_go(struct backing *backing)
{
	if (!--backing->holds)
		atomic_fetch_sub(&backings[backing->device].kept, backing->size);
}

bool backing_keep(uint64_t address)
{
	struct backing *backing;
	struct block block;
	bool given = false, lost = false;

	while (!given && !lost && index_find(&addresses, address, &block) && block.kind == BACKED) {
		backing = block.owner;
		pthread_mutex_lock(&backings[block.device].lock);
		lost = backing->lost;
		given = backing->given = backing->given || backing_hold(backing);
		pthread_mutex_unlock(&backings[block.device].lock);
		if (!given && !lost)
			gate_leave(gate_enter()); /* it's off the device, and is waited for, as by whoever submits work */
	}
	return given;
}

static bool device_of(CUcontext context, uint32_t *device)
{
	CUcontext unused;
	bool found;

	if (REAL(cuCtxPushCurrent_v2)(context) != CUDA_SUCCESS)
		return false;
	found = device_current(device);
	REAL(cuCtxPopCurrent_v2)(&unused);
	return found;
}

/* Peer access between contexts says nothing of memory that is mapped by hand, so we say it for each piece. */
EXPORT CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	CUresult result = REAL(cuCtxEnablePeerAccess)(peer, flags);
	uint32_t owner, user;

	if (result != CUDA_SUCCESS || idle() || !settings()->swappable || !device_of(peer, &owner) || !device_current(&user))
		return result;
	pthread_mutex_lock(&backings[owner].lock);
	atomic_fetch_or(&peers_of[owner], UINT32_C(1) << user);
	for (struct backing *backing = backings[owner].first; backing; backing = backing->next)
		for (uint32_t i = 0; i < backing->count; i++)
			if (backing->pieces[i].resident)
				let_in(backing->base + i * PIECE, piece_size(backing, i), owner);
	pthread_mutex_unlock(&backings[owner].lock);
	return result;
}
