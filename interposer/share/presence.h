/*
 * That somebody is there, told by a lock on a byte of a file. The system gives it up when its process ends, however it
 * does; so it tells the same to those that don't see each other's processes, as in two containers.
 */
#ifndef GPUMAX_PRESENCE_H
#define GPUMAX_PRESENCE_H

#include <stdbool.h>
#include <stdint.h>

void presence_take(int fd, uint32_t place);  /* for as long as the descriptor, and those made of it, are open */
bool presence_taken(int fd, uint32_t place); /* by anybody who opened the file by itself; true where we can't tell */

#endif
