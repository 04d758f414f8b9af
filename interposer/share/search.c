/*
 * Where a vendor's library is. Only absolute paths are tried: by its name alone the loader would answer with ourselves.
 * First what GPUMAX_REAL_LIBCUDA names, then where distributions, containers and WSL put it, then the loader's cache.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "search.h"

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#endif

static const char *const folders[] = {
	"/usr/lib/" MULTIARCH, "/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib",
	"/run/nvidia/driver/usr/lib/" MULTIARCH, "/run/nvidia/driver/usr/lib64", "/usr/lib/wsl/lib",
	"/run/opengl-driver/lib", "/usr/lib/" MULTIARCH "/nvidia/current", "/usr/lib64/nvidia",
};

struct cache_header {
	char magic[20]; /* "glibc-ld.so.cache1.1" */
	uint32_t count, length;
	uint32_t unused[5];
};

struct cache_entry {
	int32_t flags;
	uint32_t key, value, version;
	uint64_t hardware;
};

#define CACHE_MAGIC "glibc-ld.so.cache1.1"

/* A string of the cache that ends within it; NULL where it doesn't. */
static const char *cached_string(const unsigned char *table, size_t size, uint32_t offset)
{
	if (offset >= size || !memchr(table + offset, '\0', size - offset))
		return NULL;
	return (const char *)table + offset;
}

bool search_cache(const unsigned char *cache, size_t size, const char *soname, visit_path visit, void *context)
{
	const unsigned char *table = memmem(cache, size, CACHE_MAGIC, sizeof CACHE_MAGIC - 1);
	struct cache_header header;

	if (!table)
		return false;
	size -= (size_t)(table - cache);
	if (size < sizeof header)
		return false;
	memcpy(&header, table, sizeof header);
	for (uint32_t i = 0; i < header.count; i++) {
		size_t at = sizeof header + (size_t)i * sizeof(struct cache_entry);
		struct cache_entry entry;
		const char *key, *value;

		if (at + sizeof entry > size)
			return false;
		memcpy(&entry, table + at, sizeof entry);
		key = cached_string(table, size, entry.key);
		value = cached_string(table, size, entry.value);
		if (key && value && value[0] == '/' && !strcmp(key, soname) && visit(value, context))
			return true;
	}
	return false;
}

static bool search_cache_file(const char *path, const char *soname, visit_path visit, void *context)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat file;
	void *cache = MAP_FAILED;
	bool found;

	if (fd < 0)
		return false;
	if (fstat(fd, &file) == 0 && file.st_size > 0)
		cache = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (cache == MAP_FAILED)
		return false;
	found = search_cache(cache, (size_t)file.st_size, soname, visit, context);
	munmap(cache, (size_t)file.st_size);
	return found;
}

bool search_library(const char *named, const char *soname, visit_path visit, void *context)
{
	char path[PATH_MAX];

	if (named && *named)
		return named[0] == '/' && visit(named, context);
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		snprintf(path, sizeof path, "%s/%s", folders[i], soname);
		if (access(path, R_OK) == 0 && visit(path, context))
			return true;
	}
	return search_cache_file("/etc/ld.so.cache", soname, visit, context);
}
