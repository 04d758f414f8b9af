/* What the share is charged with for this process. */
#include "client/client.h"
#include "layer.h"

uint64_t limit_of(uint32_t device)
{
	uint64_t own = settings()->share.limit, of_group = memory_limit(device);

	return own && (!of_group || own < of_group) ? own : of_group;
}

static bool charge_once(uint32_t device, uint64_t bytes, uint64_t *charged, bool movable)
{
	enum verdict verdict = share_charge(device, bytes, limit_of(device));

	*charged = verdict == WITHIN ? bytes : 0;
	if (verdict == UNKNOWN)
		count(&counters.unaccounted);
	if (verdict != WITHIN || memory_within(device, movable))
		return verdict != BEYOND;
	discharge(device, bytes);
	return false;
}

/* Before anything is refused, pools give back what they keep without need. */
static bool charge_as(uint32_t device, uint64_t bytes, uint64_t *charged, bool movable)
{
	return charge_once(device, bytes, charged, movable) ||
	       (pools_trim(device) && charge_once(device, bytes, charged, movable));
}

bool charge(uint32_t device, uint64_t bytes, uint64_t *charged)
{
	return charge_as(device, bytes, charged, false);
}

bool charge_movable(uint32_t device, uint64_t bytes, uint64_t *charged)
{
	return charge_as(device, bytes, charged, true);
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
