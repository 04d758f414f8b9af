/* Messages on the broker's socket. Any thread may say something; one listens. Nobody is kept waiting by a broker that doesn't read. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "layer/client/client.h"

static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER;
static int sock = -1;
static uint64_t sequence;
static _Atomic uint64_t epoch;

/* The lengths that bodies have; a message of another type is left alone, one of another length is no broker's. */
static size_t length_of(unsigned type)
{
	switch (type) {
	case GPUMAX_WELCOME:
		return sizeof(struct gpumax_welcome);
	case GPUMAX_GRANT:
		return sizeof(struct gpumax_grant);
	case GPUMAX_REVOKE:
		return sizeof(struct gpumax_revoke);
	case GPUMAX_SWAP_OUT:
	case GPUMAX_SWAP_IN:
		return sizeof(struct gpumax_swap);
	case GPUMAX_MEM_GRANT:
	case GPUMAX_MEM_DENY:
	case GPUMAX_MEM_TRIM:
		return sizeof(struct gpumax_memory);
	case GPUMAX_CONFIG:
		return sizeof(struct gpumax_config);
	case GPUMAX_POOL:
		return sizeof(struct gpumax_pool);
	case GPUMAX_AWAY:
		return sizeof(struct gpumax_away);
	case GPUMAX_ERROR:
		return sizeof(struct gpumax_error);
	default:
		return 0;
	}
}

bool wire_open(const char *path, int *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int made;

	*error = ENAMETOOLONG;
	if (strlen(path) >= sizeof address.sun_path)
		return false;
	strcpy(address.sun_path, path);
	made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (made < 0 || connect(made, (struct sockaddr *)&address, sizeof address)) {
		*error = errno;
		if (made >= 0)
			close(made);
		return false;
	}
	pthread_mutex_lock(&saying);
	sock = made;
	sequence = 0;
	*error = 0;
	atomic_store(&epoch, 0);
	pthread_mutex_unlock(&saying);
	return true;
}

/* Who has not read so much that no more fits is gone as well as one who has closed. */
bool wire_ask(enum gpumax_type type, const void *body, size_t length, uint32_t request)
{
	struct gpumax_header header = {.magic = GPUMAX_PROTOCOL_MAGIC, .version = GPUMAX_PROTOCOL_VERSION,
				       .type = (uint16_t)type, .length = (uint32_t)length, .request = request};
	struct iovec parts[] = {{&header, sizeof header}, {(void *)(uintptr_t)body, length}};
	struct msghdr whole = {.msg_iov = parts, .msg_iovlen = length ? 2 : 1};
	bool said = false;

	pthread_mutex_lock(&saying);
	if (sock >= 0) {
		header.sequence = ++sequence;
		header.epoch = atomic_load(&epoch);
		said = sendmsg(sock, &whole, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
		if (!said)
			shutdown(sock, SHUT_RDWR);
	}
	pthread_mutex_unlock(&saying);
	return said;
}

bool wire_say(enum gpumax_type type, const void *body, size_t length)
{
	return wire_ask(type, body, length, 0);
}

static int descriptor_in(struct msghdr *whole)
{
	int found = -1;

	for (struct cmsghdr *each = CMSG_FIRSTHDR(whole); each; each = CMSG_NXTHDR(whole, each))
		if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_RIGHTS)
			memcpy(&found, CMSG_DATA(each), sizeof found);
	return found;
}

static bool is_right(const struct message *message, size_t got)
{
	size_t length = length_of(message->header.type);

	return got >= sizeof message->header && message->header.magic == GPUMAX_PROTOCOL_MAGIC &&
	       message->header.version == GPUMAX_PROTOCOL_VERSION && got == sizeof message->header + message->header.length &&
	       (!length || message->header.length == length);
}

int wire_hear(struct message *message)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(sizeof(struct cmsghdr))));
	struct iovec parts[] = {{&message->header, sizeof message->header}, {&message->body, sizeof message->body}};
	/* Not a byte more than one descriptor takes: there would be room for a second one, which nobody would close. */
	struct msghdr whole = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = room, .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t got = recvmsg(sock, &whole, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	message->fd = -1;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return -1;
	message->fd = descriptor_in(&whole);
	if (!is_right(message, (size_t)got)) {
		if (message->fd >= 0)
			close(message->fd);
		return -1;
	}
	atomic_store(&epoch, message->header.epoch);
	return 1;
}

bool wire_wait(int other, uint64_t patience_ns)
{
	struct pollfd both[] = {{.fd = other, .events = POLLIN}, {.fd = sock, .events = POLLIN}};
	struct timespec patience = {.tv_sec = (time_t)(patience_ns / 1000000000u), .tv_nsec = (long)(patience_ns % 1000000000u)};

	return ppoll(both, sock >= 0 ? 2 : 1, &patience, NULL) > 0;
}

bool wire_at_rest(void)
{
	if (pthread_mutex_trylock(&saying))
		return false;
	pthread_mutex_unlock(&saying);
	return true;
}

void wire_close(void)
{
	pthread_mutex_lock(&saying);
	if (sock >= 0)
		close(sock);
	sock = -1;
	pthread_mutex_unlock(&saying);
}

uint64_t wire_epoch(void)
{
	return atomic_load(&epoch);
}

/* What the parent says is not the child's to say. */
void wire_after_fork(void)
{
	pthread_mutex_init(&saying, NULL);
	if (sock >= 0)
		close(sock);
	sock = -1;
}
