/* The layer is preloaded into whatever a program starts, so it has to load under another C library (musl), too. */
#ifndef GPUMAX_LIBC_H
#define GPUMAX_LIBC_H

void gpumax_in_child(void (*handler)(void)); /* called in the child of each fork from now on */

#endif
