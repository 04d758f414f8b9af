/* A cache of the loader that is whole, then the same with bytes changed, cut off and made up: whatever it says, what is read
 * of it lies within it. The compiler's checks watch; the cache lies at the very end of its memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "share/search.h"

static int visited;

static bool visit(const char *path, void *context)
{
	(void)context;
	visited += path[0] == '/' && strlen(path) > 0;
	return false;
}

static size_t make(unsigned char *cache)
{
	static const char strings[] = "libcuda.so.1\0/opt/driver/libcuda.so.1\0libm.so.6\0/lib/libm.so.6";
	unsigned entries[2][6] = {{0x303, 96, 96 + 13, 0, 0, 0}, {0x303, 96 + 38, 96 + 48, 0, 0, 0}};
	unsigned counts[7] = {2, sizeof strings};

	memcpy(cache, "glibc-ld.so.cache1.1", 20);
	memcpy(cache + 20, counts, sizeof counts);
	memcpy(cache + 48, entries, sizeof entries);
	memcpy(cache + 96, strings, sizeof strings);
	return 96 + sizeof strings;
}

int main(int count, char **words)
{
	unsigned state = count > 1 ? (unsigned)atoi(words[1]) : 1;
	unsigned char whole[256];
	size_t size = make(whole);

	search_cache(whole, size, "libcuda.so.1", visit, NULL);
	if (visited != 1)
		return 1;
	for (int round = 0; round < 200000; round++) {
		size_t kept = (state = state * 1664525u + 1013904223u) >> 8 & 1 ? size : (state >> 9) % (size + 1);
		unsigned char *cache = malloc(kept ? kept : 1);

		memcpy(cache, whole, kept);
		for (unsigned changes = state >> 28; changes && kept; changes--) {
			state = state * 1664525u + 1013904223u;
			cache[(state >> 8) % kept] = (state >> 30) ? (unsigned char)(state >> 20) : 0xff;
		}
		search_cache(cache, kept, "libcuda.so.1", visit, NULL);
		free(cache);
	}
	puts("read");
	return 0;
}
