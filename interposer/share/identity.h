/* Who a process is: its id alone would be another's one day, and a process that was exec'ed has let go of everything. */
#ifndef GPUMAX_IDENTITY_H
#define GPUMAX_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct identity {
	uint64_t started, stack, namespace;
	uint32_t pid;
};

struct identity identity_of_this(void);
/* Whether the process still holds what it held. Where we can't tell, it does. Only for those of our own namespace. */
bool identity_lives(const struct identity *who);
bool identity_same(const struct identity *one, const struct identity *other); /* exec'ed or not */
bool process_is_stopped(uint32_t pid);

#endif
