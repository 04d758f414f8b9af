/* What the environment says of a share, and what is said to the user: one line, once for each cause. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "share.h"

/* Whoever closed its stderr, or doesn't read it, or may write no more wants no words: they neither end it nor hold it up. */
static void put(const char *line, size_t length)
{
	static const struct timespec at_once;
	struct pollfd door = {.fd = STDERR_FILENO, .events = POLLOUT};
	sigset_t ours, theirs, pending;
	int error = errno;

	if (poll(&door, 1, 0) == 1 && door.revents == POLLOUT) {
		sigemptyset(&ours);
		sigemptyset(&pending);
		sigaddset(&ours, SIGPIPE);
		sigaddset(&ours, SIGXFSZ);
		sigpending(&pending);
		pthread_sigmask(SIG_BLOCK, &ours, &theirs);
		if (write(STDERR_FILENO, line, length) < 0 && (errno == EPIPE || errno == EFBIG) &&
		    !sigismember(&pending, errno == EPIPE ? SIGPIPE : SIGXFSZ))
			sigtimedwait(&ours, NULL, &at_once);
		pthread_sigmask(SIG_SETMASK, &theirs, NULL);
	}
	errno = error;
}

void say_once(unsigned cause, const char *format, ...)
{
	static atomic_flag said[CAUSES];
	const char *wish = getenv("GPUMAX_LOG");
	char line[512] = "gpumax: ";
	va_list arguments;
	int length;

	if (cause >= CAUSES || atomic_flag_test_and_set(&said[cause]) || (wish && !strcmp(wish, "quiet")))
		return;
	va_start(arguments, format);
	length = vsnprintf(line + 8, sizeof line - 9, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	length = length > (int)sizeof line - 10 ? (int)sizeof line - 10 : length;
	line[8 + length] = '\n';
	put(line, (size_t)length + 9);
}

/* 1073741824, 512Mi, 40Gi: a whole number above zero, with a binary unit or none. */
bool share_parse_bytes(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGTP";
	unsigned long long number;
	unsigned shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		const char *unit = strchr(units, *end);

		if (!unit || strcmp(end + 1, "i"))
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (!number || number > UINT64_MAX >> shift)
		return false;
	*bytes = (uint64_t)number << shift;
	return true;
}

static uint64_t hash(uint64_t begin, const char *text)
{
	uint64_t value = begin ? begin : UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return value;
}

/*
 * Processes share a limit where GPUMAX_GROUP says the same. gpumax sets it for everything that it starts. Without it,
 * processes of one process group do: what a shell calls a job.
 */
void share_from_environment(struct share *share)
{
	const char *limit = getenv("GPUMAX_LIMIT");
	const char *group = getenv("GPUMAX_GROUP");
	char job[16];

	memset(share, 0, sizeof *share);
	snprintf(job, sizeof job, "%d", (int)getpgrp());
	if (group && *group)
		share->group = hash(hash(0, "group"), group);
	else
		share->group = hash(hash(0, "process group"), job);
	if (!limit || !*limit)
		return;
	if (!share_parse_bytes(limit, &share->limit)) {
		share->bad = true;
		say_once(CAUSE_LIMIT, "GPUMAX_LIMIT=%.60s: not a whole number of bytes above zero, as 10737418240 or 10Gi; "
				      "nothing is enforced", limit);
	}
}
