/* The real NVML, opened at the first call, and what this process may see of it. */
#include "twin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "share/libc.h"
#include "share/open.h"
#include "share/search.h"
#include "share/share.h"

const char gpumax_stands_for[] = "libnvidia-ml.so.1";

static const char *const names[SLOTS] = {
#include "names.inc"
};

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
static void *library;
static struct share share;

static void in_child(void)
{
	pthread_mutex_init(&looking, NULL);
	share_after_fork();
}

static void open_library(void)
{
	library = open_real_library("GPUMAX_REAL_LIBNVIDIA_ML", gpumax_stands_for);
	if (gpumax_stands_in())
		share_from_environment(&share);
	gpumax_in_child(in_child);
}

bool library_found(void)
{
	pthread_once(&opened, open_library);
	return library != NULL;
}

bool gpumax_stands_in(void)
{
	const char *disabled = getenv("GPUMAX_DISABLE");

	return !disabled || !*disabled || !strcmp(disabled, "0");
}

bool under_limit(uint64_t *limit)
{
	if (!library_found() || !share.limit || share.bad)
		return false;
	*limit = share.limit;
	return true;
}

void look_begin(void)
{
	pthread_mutex_lock(&looking);
	share_watch(&share);
}

void look_end(void)
{
	pthread_mutex_unlock(&looking);
}

static nvmlReturn_t not_there(void)
{
	return NVML_ERROR_FUNCTION_NOT_FOUND;
}

static nvmlReturn_t no_library(void)
{
	return NVML_ERROR_LIBRARY_NOT_FOUND;
}

any_function gpumax_resolve(uint32_t slot)
{
	any_function found = NULL;

	if (library_found())
		found = (any_function)dlsym(library, names[slot]);
	if (!found)
		found = (any_function)(library ? not_there : no_library);
	__atomic_store_n(&gpumax_slots[slot], found, __ATOMIC_RELAXED);
	return found;
}
