/* Functions by name: which symbol a version of a name is, for whichever default stream. Never the newest by guess. */
#include "emu/procaddr.h"

#include "emu/emu.h"

#include <string.h>

static CUresult looked_up(const char *name, void **function, int version, uint64_t flags, CUdriverProcAddressQueryResult *status)
{
	bool twins = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0, known = false;
	const struct emu_entry *best = NULL;

	for (size_t i = 0; i < emu_entries_count; i++) {
		const struct emu_entry *each = &emu_entries[i];

		if (strcmp(each->name, name) != 0 || each->version > emu.config.driver_version)
			continue;
		known = true;
		if (each->version > version || (each->twin && !twins))
			continue;
		/* The twin of the newest version comes before that version itself. */
		if (best == NULL || each->version > best->version || (each->version == best->version && each->twin) ||
		    (each->twin && !best->twin))
			best = each;
	}
	*function = best != NULL ? (void *)best->symbol : NULL;
	if (status != NULL)
		*status = best != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
			  : known      ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
				       : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	return best != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

GPUMAX_EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
					   CUdriverProcAddressQueryResult *status)
{
	int driver;

	REFUSE_IF(name == NULL || function == NULL || flags > 2 || cuDriverGetVersion(&driver) != CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE);
	return looked_up(name, function, version, flags, status);
}

GPUMAX_EXPORT CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
	return cuGetProcAddress_v2(name, function, version, flags, NULL);
}

/* Tables that no documentation names are none of ours. */
GPUMAX_EXPORT CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
	REFUSE_IF(table == NULL || id == NULL, CUDA_ERROR_INVALID_VALUE);
	*table = NULL;
	return CUDA_ERROR_NOT_FOUND;
}

/* What a driver has and this one doesn't do: told once each. */
CUresult emu_missing(const char *name);
CUresult emu_missing(const char *name)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static const char *told[1024];
	static int count;
	bool known = false;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < count; i++)
		known |= told[i] == name;
	if (!known && count < (int)(sizeof(told) / sizeof(told[0])))
		told[count++] = name;
	pthread_mutex_unlock(&lock);
	if (!known)
		emu_say("%s isn't emulated", name);
	return CUDA_ERROR_NOT_SUPPORTED;
}
