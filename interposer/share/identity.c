/* What /proc says of processes: who this one is, and whether another still is who it was. */
#include "identity.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads fields 3, 22 and 28 of /proc/PID/stat: state, moment of the start, where the stack begins. */
static bool read_stat(uint32_t pid, char *state, uint64_t *started, uint64_t *stack)
{
	char path[32], text[1024], *at;
	unsigned long long first = 0, second = 0;
	ssize_t length;
	int fd;

	snprintf(path, sizeof path, "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, text, sizeof text - 1);
	close(fd);
	if (length <= 0)
		return false;
	text[length] = '\0';
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1,
			  " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %*s %*s %*s "
			  "%*s %*s %llu",
			  state, &first, &second) < 2)
		return false;
	*started = first;
	*stack = second;
	return true;
}

struct identity identity_of_this(void)
{
	struct identity me = {.pid = (uint32_t)getpid()};
	struct stat namespace;
	char state;

	read_stat(me.pid, &state, &me.started, &me.stack);
	if (stat("/proc/self/ns/pid", &namespace) == 0)
		me.namespace = namespace.st_ino;
	return me;
}

bool identity_lives(const struct identity *who)
{
	struct identity now = {0};
	char state = 'R';

	if (!read_stat(who->pid, &state, &now.started, &now.stack))
		return kill((pid_t)who->pid, 0) == 0 || errno != ESRCH;
	if (state == 'Z' || state == 'X' || now.started != who->started)
		return false;
	return !now.stack || !who->stack || now.stack == who->stack;
}

bool identity_same(const struct identity *one, const struct identity *other)
{
	return one->pid == other->pid && one->started == other->started && one->namespace == other->namespace;
}

bool process_is_stopped(uint32_t pid)
{
	uint64_t started, stack;
	char state = 'R';

	return pid && read_stat(pid, &state, &started, &stack) && (state == 'T' || state == 't');
}
