/* The protocol between a process that uses GPUs and the broker of its node.
 *
 * One Unix socket (SOCK_SEQPACKET) a group of processes; one shared page a process and device. All integers are
 * little-endian and lie where they lie here; times are nanoseconds of CLOCK_MONOTONIC; sizes are bytes.
 * docs/reference/broker-protocol.md tells who says what when; gpumax/broker/wire.py is the same in Python, and a test
 * compares the two. A message of an unknown type is ignored; one whose length isn't that of its type is refused.
 */
#ifndef GPUMAX_PROTOCOL_H
#define GPUMAX_PROTOCOL_H

#include <stdint.h>

#define GPUMAX_PROTOCOL_MAGIC 0x31584d47u /* "GMX1" */
#define GPUMAX_PROTOCOL_VERSION 1
#define GPUMAX_PROTOCOL_DEVICES 16 /* at most so many devices a process */
#define GPUMAX_PROTOCOL_LONGEST 4096 /* header and payload together */
#define GPUMAX_PROTOCOL_NO_LEASE 0 /* leases count from 1 */

/* C: the client says it; B: the broker does. */
enum gpumax_type {
  GPUMAX_HELLO = 1,        /* C  the first message */
  GPUMAX_WELCOME = 2,      /* B  with one descriptor: the shared pages, in the order of HELLO's devices */
  GPUMAX_ACQUIRE = 3,      /* C  wants to submit work */
  GPUMAX_GRANT = 4,        /* B  may submit, on all devices of its group */
  GPUMAX_REVOKE = 5,       /* B  drain until the deadline, then RELEASE */
  GPUMAX_RELEASE = 6,      /* C  has drained (or is idle), and doesn't submit any more */
  GPUMAX_SWAP_OUT = 7,     /* B  move what can be moved to host memory */
  GPUMAX_SWAPPED_OUT = 8,  /* C  so much is left on the device */
  GPUMAX_SWAP_IN = 9,      /* B  may hold so much on the device again */
  GPUMAX_SWAPPED_IN = 10,  /* C  so much is on the device */
  GPUMAX_MEM_REQUEST = 11, /* C  wants to allocate */
  GPUMAX_MEM_GRANT = 12,   /* B  the budget has grown */
  GPUMAX_MEM_DENY = 13,    /* B  it can't grow: the allocation fails with CUDA_ERROR_OUT_OF_MEMORY */
  GPUMAX_MEM_RETURN = 14,  /* C  gives back a part of the budget that it doesn't use */
  GPUMAX_MEM_TRIM = 15,    /* B  give back what isn't used: answered by MEM_RETURN, of 0 bytes if need be */
  GPUMAX_HINT = 16,        /* C  so much is read-only, or may be thrown away */
  GPUMAX_HEARTBEAT = 17,   /* C  is alive, and uses so much */
  GPUMAX_INVENTORY = 18,   /* C  after a HELLO that reconnects: what it holds */
  GPUMAX_CONFIG = 19,      /* B  the share has changed */
  GPUMAX_POOL = 20,        /* B  with one descriptor: host memory to swap to */
  GPUMAX_ERROR = 21,       /* either: what was wrong; the sender closes if it can't go on */
  GPUMAX_BYE = 22,         /* C  is about to end, and has given back what it doesn't use; the connection stays until then */
  GPUMAX_AWAY = 23         /* B  the driver is about to take the process off its devices: say ACQUIRE with the next call
                              of any kind. C  the answer */
};

enum gpumax_lease_state {
  GPUMAX_LEASE_NONE = 0,    /* ask with ACQUIRE and wait */
  GPUMAX_LEASE_GRANTED = 1, /* submit */
  GPUMAX_LEASE_REVOKED = 2, /* submit no more; drain and RELEASE */
  GPUMAX_LEASE_FENCED = 3   /* taken back without an answer: drain, RELEASE, then ask again */
};

enum gpumax_mode { GPUMAX_MODE_FAIR = 0, GPUMAX_MODE_STRICT = 1 };

enum gpumax_hello_flags {
  GPUMAX_HELLO_RECONNECTS = 1, /* INVENTORY follows */
  GPUMAX_HELLO_SWAPS = 2,      /* its allocations can be moved (the driver maps virtual memory) */
  GPUMAX_HELLO_CHECKPOINTS = 4 /* the driver can take the whole process off the device */
};
enum gpumax_release_flags {
  GPUMAX_RELEASE_DRAINED = 1, /* nothing that was submitted is still at work */
  GPUMAX_RELEASE_WANTS = 2    /* more waits to be submitted: like ACQUIRE in the same breath */
};
enum gpumax_memory_flags { GPUMAX_MEMORY_PINNED = 1 /* can't be swapped */ };
enum gpumax_swap_status {
  GPUMAX_SWAP_DONE = 0,
  GPUMAX_SWAP_PROGRESS = 1, /* more to come; what is free already may be used */
  GPUMAX_SWAP_BUSY = 2,     /* not now: a capture is under way */
  GPUMAX_SWAP_FAILED = 3,
  GPUMAX_SWAP_PAUSED = 4 /* nobody ordered it: the program rests until it says ACQUIRE, and wants nothing on the device before */
};
enum gpumax_away_flags { GPUMAX_AWAY_BUSY = 1 /* it's at work, or waits for something: not now */ };
enum gpumax_hint_kind { GPUMAX_HINT_READ_ONLY = 1, GPUMAX_HINT_DISCARDABLE = 2 };
enum gpumax_reason {
  GPUMAX_REASON_NONE = 0,
  GPUMAX_REASON_TURN = 1,     /* its turn is over */
  GPUMAX_REASON_MEMORY = 2,   /* somebody else's memory has to come in */
  GPUMAX_REASON_LIMIT = 3,    /* beyond the limit of its group */
  GPUMAX_REASON_PINNED = 4,   /* memory that can't be swapped, beyond the guarantee */
  GPUMAX_REASON_ROOM = 5,     /* no room was to be had in time */
  GPUMAX_REASON_SHUTDOWN = 6
};
enum gpumax_error_code {
  GPUMAX_ERROR_GARBLED = 1,
  GPUMAX_ERROR_VERSION = 2,
  GPUMAX_ERROR_NOT_ALLOWED = 3,
  GPUMAX_ERROR_UNKNOWN_DEVICE = 4,
  GPUMAX_ERROR_STALE = 5,      /* of an epoch or a lease that is over */
  GPUMAX_ERROR_TOO_MANY = 6,   /* clients, or messages */
  GPUMAX_ERROR_STATE = 7       /* not what may be said now */
};

struct gpumax_header {
  uint32_t magic;
  uint16_t version;
  uint16_t type;
  uint32_t length;   /* of the payload */
  uint32_t request;  /* an answer carries the number of what it answers; 0 otherwise */
  uint64_t sequence; /* counts the sender's messages, from 1 */
  uint64_t epoch;    /* of the broker, as WELCOME gave it; 0 in HELLO */
};

struct gpumax_hello {
  uint32_t pid;
  uint32_t flags; /* gpumax_hello_flags */
  uint32_t driver; /* as cuDriverGetVersion has it: 12080 */
  uint32_t devices;
  uint32_t ranks; /* processes of the group that begin together: none is granted before all have come; 0: whoever is there */
  uint32_t rank;  /* which of them this is, from 1: processes of one rank count once; 0: it counts by itself */
  uint8_t uuid[GPUMAX_PROTOCOL_DEVICES][16];
};

struct gpumax_share {
  uint64_t limit;     /* of the group, on this device */
  uint64_t guarantee; /* of which so much is resident by right */
  uint32_t share;     /* of the device's time, in thousandths */
  uint32_t mode;      /* gpumax_mode */
};

struct gpumax_welcome {
  uint64_t heartbeat_ns; /* one HEARTBEAT at least so often */
  uint32_t client;
  uint32_t devices;
  struct gpumax_share share[GPUMAX_PROTOCOL_DEVICES];
};

struct gpumax_acquire {
  uint32_t flags; /* 0 */
  uint32_t zero;
};

struct gpumax_grant {
  uint64_t lease;
  uint64_t slice_ns; /* for about so long; 0: until somebody else asks */
  uint32_t generation; /* of the shared page's lease word */
  uint32_t flags;
};

struct gpumax_revoke {
  uint64_t lease;
  uint64_t deadline_ns;
  uint32_t generation;
  uint32_t reason; /* gpumax_reason */
};

struct gpumax_release {
  uint64_t lease;
  uint64_t busy_ns; /* for how long the devices were at work, as far as it knows; for information */
  uint32_t flags;   /* gpumax_release_flags */
  uint32_t zero;
};

struct gpumax_swap { /* SWAP_OUT, SWAP_IN. It takes as long as it takes: whether it goes on is seen by what is told of it, and by signs of life */
  uint64_t bytes;    /* on the device: at most so much afterwards (out), may be so much (in) */
  uint64_t zero;
  uint32_t device; /* the index in HELLO's list */
  uint32_t flags;
};

struct gpumax_swapped { /* SWAPPED_OUT, SWAPPED_IN */
  uint64_t resident;    /* on the device now */
  uint64_t copied;      /* bytes that went over the link; less than what moved where host copies were still good */
  uint64_t took_ns;
  uint32_t device;
  uint32_t status; /* gpumax_swap_status */
};

struct gpumax_memory { /* MEM_REQUEST, MEM_GRANT, MEM_DENY, MEM_RETURN, MEM_TRIM */
  uint64_t bytes;
  uint64_t budget; /* GRANT: all that it may use now */
  uint32_t device;
  uint32_t flags;  /* gpumax_memory_flags */
  uint32_t reason; /* DENY: gpumax_reason */
  uint32_t zero;
};

struct gpumax_hint {
  uint64_t bytes; /* all that is so marked now */
  uint32_t device;
  uint32_t kind; /* gpumax_hint_kind */
};

struct gpumax_usage {
  uint64_t used;   /* of the budget, pinned ones included */
  uint64_t pinned; /* can't be swapped */
};

struct gpumax_heartbeat {
  uint32_t devices;
  uint32_t flags;
  struct gpumax_usage usage[GPUMAX_PROTOCOL_DEVICES];
};

struct gpumax_holding {
  uint64_t budget;
  uint64_t pinned;
  uint64_t resident; /* the budget where all of it is on the device */
};

struct gpumax_inventory {
  uint64_t epoch; /* of the broker that it knew */
  uint64_t lease; /* that it holds, or 0 */
  uint32_t devices;
  uint32_t flags; /* gpumax_release_flags: WANTS */
  struct gpumax_holding holding[GPUMAX_PROTOCOL_DEVICES];
};

struct gpumax_config {
  uint32_t devices;
  uint32_t zero;
  struct gpumax_share share[GPUMAX_PROTOCOL_DEVICES];
};

struct gpumax_pool {
  uint64_t bytes;
  uint32_t device;
  uint32_t zero;
};

struct gpumax_away {
  uint32_t flags; /* gpumax_away_flags */
  uint32_t zero;
};

struct gpumax_error {
  uint32_t code;    /* gpumax_error_code */
  uint32_t about;   /* the type of what was wrong, if it could be read */
  char text[120];   /* UTF-8, zero-padded: for a person */
};

/* The shared pages: one a device, and behind them GPUMAX_SEATS seats, one for each thread that submits. The broker writes
 * the first 128 bytes of a page, the client the rest and the seats, so neither's writes disturb the other's reads.
 * lease_word is generation << 8 | gpumax_lease_state; its low byte alone says whether one may submit.
 *
 * To submit: add 1 to the call counter of the thread's own seat, THEN read lease_word and go on only if it is GRANTED;
 * subtract 1 once the driver's call has returned, or before waiting. Who revokes writes lease_word first, then has every
 * thread that runs pass a barrier (membarrier, for which the client registers), then looks at the seats: either the thread
 * sees the word, or the broker sees the thread. So the fast path needs no instruction that locks.
 *
 * inflight says what seats don't: calls of threads without one; and it stays 1 where a process submits from threads that
 * got theirs before there was a broker, or has too many of them, so that nobody takes it for one that can't submit.
 */
#define GPUMAX_PAGE_BYTES 4096
#define GPUMAX_SEATS 1024
#define GPUMAX_SEATS_BYTES 65536
#define GPUMAX_PAGE_MAGIC 0x50584d47u /* "GMXP" */

struct gpumax_page {
  uint32_t magic;
  uint32_t version;
  uint64_t lease_word;
  uint64_t epoch; /* of the broker that made this page */
  uint64_t lease;
  uint64_t slice_end_ns; /* 0: open */
  uint64_t limit;        /* of the group on this device */
  uint64_t budget;       /* of this process: an allocation within it asks nobody */
  uint64_t pid;          /* whose page this is */
  uint64_t allowed;      /* of the budget, so much may be on the device */
  uint64_t zero[7];
  /* from here on the client writes */
  uint64_t inflight;
  uint64_t used;
  uint64_t pinned;
  uint64_t resident;
  uint64_t submitted;
  uint64_t last_submit_ns;
  uint64_t passed_through; /* calls that went by unaccounted, with doubt */
  uint64_t reserved;
};

struct gpumax_seat {
  uint32_t calls; /* low byte: calls under way in this thread; above it: how many there have been */
  uint32_t own[15]; /* the client's own business */
};

#define GPUMAX_LEASE_WORD(generation, state) (((uint64_t)(generation) << 8) | (uint64_t)(state))
#define GPUMAX_LEASE_STATE(word) ((unsigned)((word) & 0xffu))
#define GPUMAX_LEASE_GENERATION(word) ((word) >> 8)

#endif
