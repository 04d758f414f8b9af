/* Opening the vendor's library, and the programs' own dlopen. */
#include "open.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "search.h"

typedef void *(*dlopen_function)(const char *, int);

/* Both of our libraries export it, so that neither takes the other, or a copy of itself, for a vendor's. */
__attribute__((visibility("default"))) const char gpumax_layer[] = "gpumax";

static void *following(void **next, const char *name)
{
	void *found = __atomic_load_n(next, __ATOMIC_RELAXED);

	if (!found) {
		found = dlsym(RTLD_NEXT, name);
		__atomic_store_n(next, found, __ATOMIC_RELAXED);
	}
	return found;
}

void *gpumax_dlopen_next(void)
{
	static void *next;

	return following(&next, "dlopen");
}

void *gpumax_dlmopen_next(void)
{
	static void *next;

	return following(&next, "dlmopen");
}

/* Not through our own dlopen, nor through our twin's, which would give us back by our name. */
static void *open_path(const char *path)
{
	static const char *const homes[] = {"libc.so.6", "libdl.so.2"};
	dlopen_function next = NULL;

	for (size_t i = 0; i < 2 && !next; i++) {
		void *home = ((dlopen_function)gpumax_dlopen_next())(homes[i], RTLD_NOW | RTLD_NOLOAD);

		next = home ? (dlopen_function)dlsym(home, "dlopen") : NULL;
	}
	return next ? next(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static bool is_same_file(const char *path, const void *address)
{
	struct stat theirs, ours;
	Dl_info info;

	return dladdr(address, &info) && info.dli_fname && stat(info.dli_fname, &ours) == 0 && stat(path, &theirs) == 0 &&
	       ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static bool try_path(const char *path, void *context)
{
	void **found = context;
	void *library;

	if (is_same_file(path, gpumax_layer))
		return false;
	library = open_path(path);
	if (!library)
		return false;
	if (dlsym(library, "gpumax_layer")) {
		dlclose(library);
		return false;
	}
	*found = library;
	return true;
}

void *open_real_library(const char *variable, const char *soname)
{
	void *found = NULL;

	search_library(getenv(variable), soname, try_path, &found);
	return found;
}

/* libcuda.so, /a/path/libcuda.so.1, libcuda.so.580.65.06: all of them are the library that we stand for. */
static bool is_ours(const char *file)
{
	size_t length = strlen(gpumax_stands_for) - 2; /* without the ".1" */
	const char *slash, *name;

	if (!file)
		return false;
	slash = strrchr(file, '/');
	name = slash ? slash + 1 : file;
	return !strncmp(name, gpumax_stands_for, length) && (name[length] == '\0' || name[length] == '.') &&
	       gpumax_stands_in();
}

const char *gpumax_dlopen_name(const char *file)
{
	return is_ours(file) ? gpumax_stands_for : file;
}

/* In a namespace of its own our name means the vendor's library; our path means a second one of us, with the same share. */
const char *gpumax_dlmopen_name(const char *file)
{
	Dl_info ourselves;

	return is_ours(file) && dladdr(gpumax_layer, &ourselves) && ourselves.dli_fname ? ourselves.dli_fname : file;
}
