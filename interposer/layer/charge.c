/* What the share is charged with for this process. */
#include "layer.h"

static bool charge_once(uint32_t device, uint64_t bytes, uint64_t *charged)
{
	enum verdict verdict = share_charge(device, bytes, settings()->share.limit);

	*charged = verdict == WITHIN ? bytes : 0;
	if (verdict == UNKNOWN)
		count(&counters.unaccounted);
	return verdict != BEYOND;
}

/* Before anything is refused, pools give back what they keep without need. */
bool charge(uint32_t device, uint64_t bytes, uint64_t *charged)
{
	return charge_once(device, bytes, charged) || (pools_trim(device) && charge_once(device, bytes, charged));
}

void discharge(uint32_t device, uint64_t bytes)
{
	if (bytes)
		share_discharge(device, bytes);
}

CUresult refuse(void)
{
	count(&counters.refused);
	return CUDA_ERROR_OUT_OF_MEMORY;
}
