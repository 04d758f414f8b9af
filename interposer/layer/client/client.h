/*
 * The layer's part of sharing a GPU: it asks the broker that GPUMAX_SOCKET names for turns, and does what the broker says.
 * docs/explanation/broker-protocol.md tells who says what. Two threads, begun when work is first submitted: one listens
 * and gives signs of life, the other does what takes long. Where there is no broker, work goes on without it.
 */
#ifndef GPUMAX_LAYER_CLIENT_H
#define GPUMAX_LAYER_CLIENT_H

#include <time.h>

#include "gpumax/protocol.h"
#include "layer/layer.h"

static inline uint64_t client_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#define MILLISECOND UINT64_C(1000000)

/* connection.c */

void client_begin(void);  /* returns once it is known whether there is a broker */
void client_poke(void);   /* the listening thread looks around */
void client_unseen(void); /* a thread submits that the broker can't see */
void client_after_fork(void);

/* lease.c */

void client_wait_begins(void); /* of a thread at the gate */
void client_wait_ends(void);

void lease_by(struct gpumax_page *page);    /* from now on this page says who may submit */
uint64_t lease_held(void);                  /* 0: none */
void lease_granted(uint64_t lease);
void lease_revoked(uint64_t lease);
bool lease_step(uint64_t *next_ns);         /* false: nothing to do until somebody pokes */
void lease_lost(void);                      /* there is nobody to ask any more */
void lease_without(void);                   /* so work goes on as if there were no turns */
bool lease_waited_for(void);
void lease_wanted(void);                    /* a call has come while the driver has this process off its devices */
void lease_drain(uint64_t lease);           /* called by the worker */
void lease_rest(void);
void lease_give_up(void);                   /* the program has paused: nothing of it runs */
void lease_after_fork(void);

/* memory.c */

struct message;
struct job;
bool memory_reserve(uint32_t device, uint64_t bytes, bool movable); /* waits for the broker's answer */
void memory_charged(uint32_t device, uint64_t bytes);               /* what was reserved, or was not to be charged after all */
void memory_movable(uint32_t device, uint64_t bytes, bool more);
void memory_freed(uint32_t device);
uint64_t memory_limit(uint32_t device); /* of the group; 0: none is known */
uint64_t memory_guarantee(uint32_t device); /* the same of what others make way for */
void memory_begin(void);
void memory_devices(const uint32_t *devices, uint32_t number); /* in the order of HELLO */
void memory_leave_out(uint32_t which);
void memory_shares(const struct gpumax_share *shares, uint32_t number);
void memory_welcomed(void);
void memory_without(void);
bool memory_waited_for(void);
void memory_answer(const struct message *message);
void memory_inventory(struct gpumax_holding *holding);
void memory_usage(struct gpumax_usage *usage, struct gpumax_page *pages);
bool memory_step(uint64_t *next_ns);
uint32_t memory_device(uint32_t number, uint64_t *budget); /* of HELLO's list; SHARE_DEVICES: it has no such */
bool memory_by_broker(void); /* there is one that counts it */
void memory_leave(void); /* the process ends: what it doesn't use goes back; waits for nobody */
void memory_after_fork(void);

/* moving.c */

void moving_swap(const struct job *job); /* called by the worker, as is the next */
void moving_bring(void);                 /* there is nobody to say when: as soon as there is room */
bool moving_by_orders(void);
void moving_paused(void);
void moving_after_fork(void);

/* living.c: the contexts of this process */

void context_begins(CUcontext context);
void context_ends(CUcontext context); /* before it does, or right after */
CUresult contexts_wait(void);         /* for all work in all of them, also such as began where nobody saw it */
void contexts_after_fork(void);

/* worker.c: what takes long, one after the other */

enum task { TASK_DRAIN, TASK_REST, TASK_OUT, TASK_IN, TASK_BRING, TASK_POOL };

struct job {
	enum task task;
	uint64_t lease, bytes;
	uint32_t device; /* its index in HELLO */
	int fd;          /* the worker closes it */
};

bool worker_begin(void);
void worker_do(const struct job *job);
bool worker_pause(uint64_t nanoseconds); /* called by the worker; false, and at once: there is more to do */
void worker_after_fork(void);

/* wire.c: messages on the socket */

struct message {
	struct gpumax_header header;
	union {
		struct gpumax_welcome welcome;
		struct gpumax_grant grant;
		struct gpumax_revoke revoke;
		struct gpumax_swap swap;
		struct gpumax_memory memory;
		struct gpumax_config config;
		struct gpumax_pool pool;
		struct gpumax_error error;
		char bytes[GPUMAX_PROTOCOL_LONGEST - sizeof(struct gpumax_header)];
	} body;
	int fd; /* that came along, or -1: whoever reads it closes it */
};

bool wire_open(const char *path, int *error);
bool wire_say(enum gpumax_type type, const void *body, size_t length); /* false: nobody hears it */
bool wire_ask(enum gpumax_type type, const void *body, size_t length, uint32_t request);
int wire_hear(struct message *message); /* 1: a message; 0: none now; -1: the connection has ended */
bool wire_wait(int other, uint64_t patience_ns); /* until something is to be heard, or to be read from the other descriptor */
void wire_close(void);
bool wire_at_rest(void); /* nobody is just saying something, this thread neither: it may have been interrupted in it */
uint64_t wire_epoch(void);
void wire_after_fork(void);

bool client_thread(void *(*run)(void *)); /* one that no signal of the program reaches */

#endif
