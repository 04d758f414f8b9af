/*
 * A share of the devices of a machine, held by all processes of one workload together. How much of it is in use stands
 * in a page that these processes map, in one slot a process, so that what a process held is found and taken back when
 * it has ended, however it did.
 */
#ifndef GPUMAX_SHARE_H
#define GPUMAX_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARE_DEVICES 16

struct share {
	uint64_t limit;   /* bytes a device; 0: no limit */
	uint64_t group;   /* who shares it: a hash of the name */
	bool bad;         /* the limit can't be read: nothing is enforced */
};

enum verdict { WITHIN, BEYOND, UNKNOWN };

void share_from_environment(struct share *share);
bool share_parse_bytes(const char *text, uint64_t *bytes);

bool share_join(const struct share *share); /* take a slot; false: only this process is counted */
bool share_watch(const struct share *share); /* map it to look at alone */
int share_device(const unsigned char uuid[16], bool add); /* its number in the page, -1: none, or no room */
enum verdict share_charge(uint32_t device, uint64_t bytes, uint64_t limit);
void share_discharge(uint32_t device, uint64_t bytes);
uint64_t share_used(uint32_t device);
uint64_t share_held(uint32_t device); /* by this process alone */
bool share_has_process(uint32_t pid);
void share_after_fork(void);

void say_once(unsigned cause, const char *format, ...) __attribute__((format(printf, 2, 3)));
enum cause { CAUSE_LIMIT, CAUSE_DRIVER, CAUSE_PAGE, CAUSE_FULL, CAUSE_GATE, CAUSE_ML, CAUSE_BIG, CAUSE_IPC, CAUSE_VMM,
	CAUSE_BROKER, CAUSE_TURNED_AWAY, CAUSE_LEFT_ALONE, CAUSE_CONTEXT, CAUSE_SMALL, CAUSE_RANKS, CAUSES };

#endif
