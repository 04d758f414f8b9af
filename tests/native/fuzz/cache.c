/* The loader's cache, in which the layer looks for the driver: a file of the system, but any file may be broken. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "share/search.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool visit(const char *path, void *context)
{
	*(size_t *)context += strlen(path);
	return path[0] != '/';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *cache = malloc(size ? size : 1);
	size_t seen = 0;

	memcpy(cache, data, size);
	search_cache(cache, size, "libcuda.so.1", visit, &seen);
	free(cache);
	return 0;
}
