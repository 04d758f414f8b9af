/* Where a vendor's library is, and the loading of it. */
#ifndef GPUMAX_SEARCH_H
#define GPUMAX_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef bool (*visit_path)(const char *path, void *context); /* true ends the search */

bool search_cache(const unsigned char *cache, size_t size, const char *soname, visit_path visit, void *context);
bool search_library(const char *named, const char *soname, visit_path visit, void *context);

/* The first library found that isn't ours, opened; NULL: none. */
void *open_real_library(const char *variable, const char *soname);

#endif
