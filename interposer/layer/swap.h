/*
 * Taking what a process has on its devices away, and giving it back. Devices are numbers of the share (device_index).
 *
 * Whoever gives orders (a thread of the layer's own that speaks with the broker, or the program by gpumax/layer.h) may
 * give one a device at a time; orders for different devices may come from different threads at once and run at once.
 * While anything of any device is out the gate is closed (GATE_SWAPPED), since nobody can tell what a kernel will touch.
 */
#ifndef GPUMAX_LAYER_SWAP_H
#define GPUMAX_LAYER_SWAP_H

#include "layer.h"

/* The numbers are those of gpumax_swap_status. */
enum swap_status {
	SWAP_DONE = 0,   /* as asked; or as far as it can be: what is left on the device can't be swapped */
	SWAP_BUSY = 2,   /* nothing was moved: work did not end by the deadline, or a stream is being captured */
	SWAP_FAILED = 3  /* a part was moved; `why` says what kept the rest, CUDA_ERROR_NOT_READY being the deadline */
};

struct swap_report {
	enum swap_status status;
	CUresult why;
	uint64_t resident; /* of this process, on the device now, what can't be swapped included */
	uint64_t copied;   /* over the link by this order */
	uint64_t took_ns;
};

/* Called as pieces go or come, by the thread that gave the order. It must neither allocate nor give orders. */
struct swap_progress {
	void (*tell)(void *who, uint32_t device, uint64_t resident, uint64_t copied);
	void *who;
};

/*
 * Out: the gate closes, what runs is awaited, then pieces go until at most `keep` bytes of the process are on the device.
 * Their room can be used by others as soon as `progress` tells. `deadline_ns` is a moment of CLOCK_MONOTONIC. What has
 * gone stays out whatever the status is, and the gate closed; with SWAP_BUSY the gate is as it was. Nothing is ever lost:
 * a piece leaves the device only once its bytes are on the host.
 */
struct swap_report swap_out(uint32_t device, uint64_t keep, uint64_t deadline_ns, const struct swap_progress *progress);

/*
 * In: pieces come until `upto` bytes of the process are on the device, or all of it. Where the device has no room yet it's
 * tried again until the deadline (somebody else is leaving). When nothing of any device is out any more the gate opens.
 * What fails can be ordered again; the host's bytes are given up only when the device has them.
 */
struct swap_report swap_in(uint32_t device, uint64_t upto, uint64_t deadline_ns, const struct swap_progress *progress);

/* All of it, without waiting for room; for where no broker says when. */
struct swap_report swap_in_now(uint32_t device);

/* What this process has on a device. Never waits for an order. */
struct swap_usage {
	uint64_t used;        /* wherever it is: what the share is charged with */
	uint64_t pinned;      /* of used, can't be swapped */
	uint64_t kept;        /* of pinned, could be if others didn't see it */
	uint64_t resident;    /* of used, on the device */
	uint64_t read_only;   /* of used, so marked by the program, as is ... */
	uint64_t discardable;
};
struct swap_usage swap_usage(uint32_t device);
bool swap_anything_out(void);
void swap_settle(uint32_t device); /* something was freed: the gate opens where nothing is out any more */

/* pause: all devices out, and the gate closed until resume. As in gpumax/layer.h. */
CUresult swap_pause(uint64_t deadline_ns);
CUresult swap_resume(void);
bool swap_paused(void);

/* A call that waits at the gate may bring everything in itself, where no broker orders it. Called by the gate. */
void swap_waited(void);

/*
 * Host memory that the broker has made ready for this process to swap to (POOL): used before any of our own, and counted
 * as the broker's. The descriptor stays the caller's, who may close it. False: it can't be mapped.
 */
bool swap_pool(int descriptor, uint64_t bytes);

/*
 * Whoever speaks with a broker hears of what concerns it; all members may be NULL. They are called by threads of the
 * program, with nothing locked but against another pause, and must not give orders themselves. While `orders` is true the broker says when memory
 * comes in: neither resume nor a call that waits brings it in.
 */
struct swap_listener {
	bool (*orders)(void);
	void (*paused)(void);  /* everything is out: give up the lease */
	void (*resumed)(void); /* the next call may want it again: swap_in is the broker's to order */
	void (*hinted)(uint32_t device, int kind, uint64_t bytes); /* all that is marked so on the device now */
	bool (*share)(uint32_t device, uint64_t *limit, uint64_t *guarantee, uint32_t *milli, uint32_t *mode);
};
void swap_listen(const struct swap_listener *listener); /* must stay where it is; NULL: nobody */

void swap_after_fork(void);
void pause_after_fork(void);

/* usage.c, pause.c: what the functions of gpumax/layer.h need of them */
const struct swap_listener *swap_listener(void);
CUresult swap_all_in(void);                      /* the first error; what fits is in */
CUresult swap_all_out(uint64_t deadline_ns);     /* on an error everything comes back in */

#endif
