/* The real driver: opened at the first call that needs it; each of its functions found at its own first call. */
#include "layer.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "share/open.h"
#include "share/search.h"

const char gpumax_stands_for[] = "libcuda.so.1";

static const char *const names[SLOTS] = {
#include "names.inc"
};

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static void *driver;
static any_function stubs[SLOTS]; /* what slots hold before their functions are found */
static _Atomic bool watched;
_Thread_local bool own_thread;

static void open_driver(void)
{
	memcpy(stubs, gpumax_slots, sizeof stubs);
	driver = open_real_library("GPUMAX_REAL_LIBCUDA", gpumax_stands_for);
	if (!driver)
		say_once(CAUSE_DRIVER, "no libcuda.so.1 of a driver was found, so there is no device "
				       "(GPUMAX_REAL_LIBCUDA names one by its absolute path)");
}

static void *get_driver(void)
{
	pthread_once(&opened, open_driver);
	return driver;
}

bool driver_found(void)
{
	return get_driver() != NULL;
}

bool gpumax_stands_in(void)
{
	const char *disabled = getenv("GPUMAX_DISABLE");

	return !disabled || !*disabled || !strcmp(disabled, "0");
}

any_function driver_symbol(const char *name)
{
	void *library = get_driver();

	return library ? (any_function)dlsym(library, name) : NULL;
}

const char *slot_name(uint32_t slot)
{
	return names[slot];
}

static int by_name(const void *one, const void *other)
{
	return strcmp(one, *(const char *const *)other);
}

bool name_known(const char *name)
{
	return bsearch(name, names, SLOTS, sizeof *names, by_name) != NULL;
}

static CUresult not_there(void)
{
	return CUDA_ERROR_NOT_FOUND;
}

static CUresult no_driver(void)
{
	return CUDA_ERROR_NO_DEVICE;
}

/* Whoever is in a call already isn't noticed; each call that comes is, as if it were the first of its name. */
void driver_watch(bool on)
{
	if (!atomic_exchange(&watched, on) && on && driver_found())
		for (uint32_t slot = 0; slot < SLOTS; slot++)
			__atomic_store_n(&gpumax_slots[slot], stubs[slot], __ATOMIC_RELAXED);
}

/* Called by the stubs: where the call of this slot goes, from now on without us. */
any_function gpumax_resolve(uint32_t slot)
{
	any_function found = driver_symbol(names[slot]);

	if (!found)
		found = (any_function)(driver_found() ? not_there : no_driver);
	if (UNLIKELY(atomic_load(&watched))) {
		if (!own_thread)
			lease_wanted();
		return found;
	}
	__atomic_store_n(&gpumax_slots[slot], found, __ATOMIC_RELAXED);
	if (UNLIKELY(atomic_load(&watched)))
		__atomic_store_n(&gpumax_slots[slot], stubs[slot], __ATOMIC_RELAXED);
	return found;
}
