/* What the share is charged with for this process. */
#include "backing.h"
#include "client/client.h"
#include "layer.h"

uint64_t limit_of(uint32_t device)
{
	uint64_t own = settings()->share.limit, of_group = memory_limit(device);

	return own && (!of_group || own < of_group) ? own : of_group;
}

/*
 * What is beyond the limit anyway is not asked for. What can be moved, and then waits at the gate until it is made, is
 * charged already, but takes no room, and isn't what can't be moved.
 */
enum verdict reserve_and_charge(uint32_t device, uint64_t bytes, bool movable)
{
	uint64_t limit = limit_of(device);
	enum verdict verdict;

	if ((limit && bytes > limit) || !memory_reserve(device, bytes, movable))
		return BEYOND;
	if (movable)
		atomic_fetch_add(&backings[device].coming, bytes);
	verdict = share_charge(device, bytes, limit);
	if (movable && verdict == BEYOND)
		atomic_fetch_sub(&backings[device].coming, bytes);
	memory_charged(device, bytes);
	return verdict;
}

static bool charge_once(uint32_t device, uint64_t bytes, uint64_t *charged, bool movable)
{
	enum verdict verdict = reserve_and_charge(device, bytes, movable);

	*charged = verdict == WITHIN ? bytes : 0;
	if (verdict == UNKNOWN)
		count(&counters.unaccounted);
	return verdict != BEYOND;
}

/* Before anything is refused, pools give back what they keep without need. */
static bool charge_as(uint32_t device, uint64_t bytes, uint64_t *charged, bool movable)
{
	*charged = 0;
	if (bytes >= MORE_THAN_ANY) /* others would find no room beside it meanwhile */
		return false;
	return charge_once(device, bytes, charged, movable) ||
	       (pools_trim(device) && charge_once(device, bytes, charged, movable));
}

bool charge(uint32_t device, uint64_t bytes, uint64_t *charged)
{
	return charge_as(device, bytes, charged, false);
}

/* What can be swapped is known for it before it is charged, and until it is no more: never taken for what can't. */
bool charge_movable(uint32_t device, uint64_t bytes, uint64_t *charged)
{
	memory_movable(device, bytes, true);
	if (charge_as(device, bytes, charged, true)) {
		memory_movable(device, bytes - *charged, false);
		return true;
	}
	memory_movable(device, bytes, false);
	return false;
}

void discharge_movable(uint32_t device, uint64_t bytes)
{
	discharge(device, bytes);
	memory_movable(device, bytes, false);
}

void discharge(uint32_t device, uint64_t bytes)
{
	if (!bytes)
		return;
	share_discharge(device, bytes);
	memory_freed(device);
}

CUresult refuse(void)
{
	count(&counters.refused);
	return CUDA_ERROR_OUT_OF_MEMORY;
}
