/* What this process is held to, found out at its first call of CUDA. */
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "layer.h"
#include "lend.h"
#include "overhead.h"
#include "share/libc.h"
#include "swap.h"

#define MOST_RANKS 4096

struct counters counters;

static struct settings found;
static _Atomic(const struct settings *) ready;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value && strcmp(value, "0");
}

static uint64_t bytes_of_contexts(void)
{
	const char *said = getenv("GPUMAX_CONTEXT");
	uint64_t bytes = 0;

	if (is_set("GPUMAX_CONTEXT") && !share_parse_bytes(said, &bytes))
		say_once(CAUSE_CONTEXT, "GPUMAX_CONTEXT=%.60s: not a whole number of bytes, as 536870912 or 512Mi; "
					"contexts count nothing", said);
	return bytes;
}

/* A whole number up to `most`, in digits. */
static bool read_number(const char *text, uint32_t most, uint32_t *number)
{
	unsigned long long read;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	read = strtoull(text, &end, 10);
	if (*end || read > most)
		return false;
	*number = (uint32_t)read;
	return true;
}

/* RANK is what torchrun, and gpumax for its tasks, call which of them a process is; its children have it, too. */
static void read_ranks(void)
{
	uint32_t rank;

	if (!is_set("GPUMAX_RANKS"))
		return;
	if (!read_number(getenv("GPUMAX_RANKS"), MOST_RANKS, &found.ranks))
		say_once(CAUSE_RANKS, "GPUMAX_RANKS=%.60s: not a number of processes up to %d; this one waits for no others",
			 getenv("GPUMAX_RANKS"), MOST_RANKS);
	else if (read_number(getenv("RANK"), UINT32_MAX - 1, &rank))
		found.rank = rank + 1;
}

static void read_environment(void)
{
	if (is_set("GPUMAX_DISABLE"))
		return;
	share_from_environment(&found.share);
	if (found.share.bad)
		return;
	found.swappable = is_set("GPUMAX_SWAP");
	found.context = bytes_of_contexts();
	found.broker = is_set("GPUMAX_SOCKET") ? strdup(getenv("GPUMAX_SOCKET")) : NULL;
	read_ranks();
	found.active = found.share.limit || found.swappable || found.broker;
}

/* The child has threads, locks and devices of its own, or none yet. */
static void in_child(void)
{
	pthread_mutex_init(&reading, NULL);
	share_after_fork();
	devices_after_fork();
	indexes_after_fork();
	physical_after_fork();
	graphs_after_fork();
	pools_after_fork();
	captures_after_fork();
	overhead_after_fork();
	swap_after_fork();
	lend_after_fork();
	borrow_after_fork();
	client_after_fork();
	gate_after_fork();
}

const struct settings *settings(void)
{
	const struct settings *now = atomic_load_explicit(&ready, memory_order_acquire);

	if (now)
		return now;
	pthread_mutex_lock(&reading);
	now = atomic_load_explicit(&ready, memory_order_relaxed);
	if (!now) {
		read_environment();
		gpumax_in_child(in_child);
		now = &found;
		atomic_store_explicit(&ready, now, memory_order_release);
	}
	pthread_mutex_unlock(&reading);
	return now;
}
