/*
 * cuGetProcAddress: the driver answers first, and what it answers is exchanged for our function that stands before it.
 * Never by the name alone: one name is several functions, by version and by kind of default stream. Where an address is
 * not one that we know by, the table of versions says which function it must be; and where that doesn't say it either,
 * a function that has to be held back is not given out at all.
 */
#include <stdlib.h>
#include <string.h>

#include "layer.h"

#define HOOKED(name) void name(void);
#include "hooked.inc"
#undef HOOKED

#define NEWEST 13050 /* the version of CUDA whose names we know */
#define PER_THREAD 2 /* CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM */

struct pair {
	any_function real, ours;
};

struct version {
	const char *base;
	int since;
	bool per_thread;
	any_function ours;
};

static const struct {
	uint32_t slot;
	any_function ours;
} hooked[] = {
#define HOOKED(name) {SLOT_##name, name},
#include "hooked.inc"
#undef HOOKED
};

static const struct version versions[] = {
#define VERSION(base, since, per_thread, name) {#base, since, per_thread, name},
#include "versions.inc"
#undef VERSION
};

#define HOOKS (sizeof hooked / sizeof *hooked)
#define VERSIONS (sizeof versions / sizeof *versions)

static pthread_once_t paired = PTHREAD_ONCE_INIT, forwarded = PTHREAD_ONCE_INIT;
static struct pair pairs[HOOKS], forwards[SLOTS];
static size_t pair_count, forward_count;

static int by_address(const void *one, const void *other)
{
	uintptr_t a = (uintptr_t)((const struct pair *)one)->real, b = (uintptr_t)((const struct pair *)other)->real;

	return a < b ? -1 : a > b;
}

static void find_pairs(void)
{
	for (size_t i = 0; i < HOOKS; i++) {
		any_function real = driver_symbol(slot_name(hooked[i].slot));

		if (real)
			pairs[pair_count++] = (struct pair){real, hooked[i].ours};
	}
	qsort(pairs, pair_count, sizeof *pairs, by_address);
}

static any_function among(const struct pair *first, size_t number, any_function real)
{
	struct pair wanted = {.real = real};
	const struct pair *found = bsearch(&wanted, first, number, sizeof *first, by_address);

	return found ? found->ours : NULL;
}

static any_function ours_for(any_function real)
{
	pthread_once(&paired, find_pairs);
	return among(pairs, pair_count, real);
}

static void find_forwards(void)
{
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		any_function real = gpumax_forwards[slot] ? driver_symbol(slot_name(slot)) : NULL;

		if (real)
			forwards[forward_count++] = (struct pair){real, gpumax_forwards[slot]};
	}
	qsort(forwards, forward_count, sizeof *forwards, by_address);
}

/* A function that is only forwarded: where there is a broker, its calls have to be noticed all the same (driver_watch). */
static any_function forward_for(any_function real)
{
	any_function found = NULL;

	if (settings()->broker) {
		pthread_once(&forwarded, find_forwards);
		found = among(forwards, forward_count, real);
	}
	return found ? found : real;
}

/* Which of our functions a name is, of those that were there at a version; NULL: none. Sets whether the name is one of ours. */
static any_function by_version(const char *name, int version, bool per_thread, bool *known)
{
	const struct version *best = NULL;

	*known = false;
	for (size_t i = 0; i < VERSIONS; i++) {
		const struct version *each = &versions[i];

		if (strcmp(each->base, name))
			continue;
		*known = true;
		if (each->since > version || (each->per_thread && !per_thread))
			continue;
		if (!best || each->per_thread > best->per_thread ||
		    (each->per_thread == best->per_thread && each->since >= best->since))
			best = each;
	}
	return best ? best->ours : NULL;
}

typedef CUresult (*get_v1)(const char *, void **, int, uint64_t);
typedef CUresult (*get_v2)(const char *, void **, int, uint64_t, int *);

CUresult gpumax_get_v1(const char *name, void **function, int version, uint64_t flags) __asm__("cuGetProcAddress");
CUresult gpumax_get_v2(const char *name, void **function, int version, uint64_t flags,
		       int *status) __asm__("cuGetProcAddress_v2");

/* Whether what a newer version of CUDA means by a name is still what the newest that we know means by it. */
static bool unchanged(const char *name, int version, uint64_t flags, any_function function)
{
	void *known = NULL;
	int status = 0;

	if (version <= NEWEST)
		return true;
	if (driver_symbol("cuGetProcAddress_v2"))
		REAL_AS(gpumax_get_v2, SLOT_cuGetProcAddress_v2)(name, &known, NEWEST, flags, &status);
	else
		REAL_AS(gpumax_get_v1, SLOT_cuGetProcAddress)(name, &known, NEWEST, flags);
	return (any_function)known == function;
}

/* True: the program gets what stands in *function. False: there is nothing that it may have. */
static bool exchange(const char *name, int version, uint64_t flags, any_function *function)
{
	any_function ours = ours_for(*function);
	bool known = false;

	if (!ours)
		ours = by_version(name, version, flags & PER_THREAD, &known);
	if (!known && !ours) {
		if (!name_known(name))
			count(&counters.unknown_functions);
		*function = forward_for(*function);
		return true;
	}
	if (!ours || (known && !unchanged(name, version, flags, *function)))
		return false;
	*function = ours;
	return true;
}

static bool is_exchange(const char *name, void **function, CUresult result)
{
	return result == CUDA_SUCCESS && name && function && *function && !idle();
}

CUresult gpumax_get_v1(const char *name, void **function, int version, uint64_t flags) __asm__("cuGetProcAddress");
CUresult gpumax_get_v2(const char *name, void **function, int version, uint64_t flags,
		       int *status) __asm__("cuGetProcAddress_v2");

EXPORT CUresult gpumax_get_v1(const char *name, void **function, int version, uint64_t flags)
{
	CUresult result = REAL_AS(gpumax_get_v1, SLOT_cuGetProcAddress)(name, function, version, flags);

	if (!is_exchange(name, function, result) || exchange(name, version, flags, (any_function *)function))
		return result;
	*function = NULL;
	return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult gpumax_get_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
	CUresult result = REAL_AS(gpumax_get_v2, SLOT_cuGetProcAddress_v2)(name, function, version, flags, status);

	if (!is_exchange(name, function, result) || exchange(name, version, flags, (any_function *)function))
		return result;
	*function = NULL;
	if (status) {
		*status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_NOT_FOUND;
}
