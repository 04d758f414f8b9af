/* Memory: the share is the whole. */
#include <stdlib.h>
#include <string.h>

#include "share/share.h"
#include "twin.h"

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory);
const char *nvmlErrorString(nvmlReturn_t error);

typedef nvmlReturn_t (*get_uuid)(nvmlDevice_t, char *, unsigned int);

/* GPU-8f6d0eb8-6c5e-..., MIG-...: sixteen bytes in hexadecimal behind the first dash. */
static bool uuid_of(nvmlDevice_t device, unsigned char uuid[16])
{
	char text[NVML_DEVICE_UUID_BUFFER_SIZE] = "";
	unsigned int digits = 0;
	const char *at;

	if (REAL_AS(get_uuid, nvmlDeviceGetUUID)(device, text, sizeof text) != NVML_SUCCESS)
		return false;
	text[sizeof text - 1] = '\0';
	at = strchr(text, '-');
	for (memset(uuid, 0, 16); at && *at && digits < 32; at++) {
		static const char hexadecimal[] = "0123456789abcdef";
		const char *digit = strchr(hexadecimal, *at | ((*at >= 'A' && *at <= 'F') ? 0x20 : 0));

		if (*at == '-' || !digit)
			continue;
		uuid[digits / 2] = (unsigned char)(uuid[digits / 2] << 4 | (digit - hexadecimal));
		digits++;
	}
	return digits == 32;
}

static bool used_of(nvmlDevice_t device, uint64_t *used, uint64_t *limit)
{
	unsigned char uuid[16];
	int number;

	if (!under_limit(limit) || !uuid_of(device, uuid))
		return false;
	look_begin();
	number = share_device(uuid, false);
	*used = number < 0 ? 0 : share_used((uint32_t)number);
	look_end();
	return true;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	nvmlReturn_t result = REAL_AS(__typeof__(&nvmlDeviceGetMemoryInfo), nvmlDeviceGetMemoryInfo)(device, memory);
	uint64_t used, limit;

	if (result != NVML_SUCCESS || !used_of(device, &used, &limit))
		return result;
	memory->total = memory->total < limit ? memory->total : limit;
	memory->used = used < memory->total ? used : memory->total;
	memory->free = memory->total - memory->used;
	return result;
}

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	nvmlReturn_t result =
		REAL_AS(__typeof__(&nvmlDeviceGetMemoryInfo_v2), nvmlDeviceGetMemoryInfo_v2)(device, memory);
	uint64_t used, limit;

	if (result != NVML_SUCCESS || !used_of(device, &used, &limit))
		return result;
	memory->total = memory->total < limit ? memory->total : limit;
	memory->reserved = 0;
	memory->used = used < memory->total ? used : memory->total;
	memory->free = memory->total - memory->used;
	return result;
}

/* A text in any case: programs print it unasked. */
GPUMAX_EXPORT const char *nvmlErrorString(nvmlReturn_t error)
{
	if (library_found())
		return REAL_AS(__typeof__(&nvmlErrorString), nvmlErrorString)(error);
	return error == NVML_SUCCESS ? "Success" : "NVML Shared Library Not Found";
}
