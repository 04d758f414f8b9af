/* The loading of libraries: by us, and by the program through us. Both of our libraries have it. */
#ifndef GPUMAX_OPEN_H
#define GPUMAX_OPEN_H

#include <stdbool.h>

extern const char gpumax_stands_for[]; /* the SONAME that we have, as libcuda.so.1 */
bool gpumax_stands_in(void);           /* whether we do at all: GPUMAX_DISABLE */

extern const char gpumax_layer[];
void *gpumax_dlopen_next(void);
const char *gpumax_dlopen_name(const char *file);
void *gpumax_dlmopen_next(void);
const char *gpumax_dlmopen_name(const char *file);

#endif
