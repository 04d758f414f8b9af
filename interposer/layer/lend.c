/* Swappable memory of this process, given to others. lend.h says how. A thread, begun with the first handle, answers them. */
#include "lend.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "client/client.h"

#define MOST_OPENERS 1024
#define REST_NS (50 * MILLISECOND) /* where this process has no descriptor left for one more */

/* Of an allocation whose handle was given out. With the lock of its device. */
struct loan {
	struct loan *next;
	struct backing *backing; /* NULL: freed */
	uint64_t id, charged;
	uint32_t device, openers;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the door */
static uint64_t door;
static int listening = -1;
static struct loan *loans[SHARE_DEVICES];
static _Atomic uint64_t outlive[SHARE_DEVICES];
static const struct timespec rest = {.tv_nsec = REST_NS};

/* Of the answering thread alone, and of a child that closes them. */
static struct opener {
	int socket;
	struct loan *loan; /* NULL: it has asked for nothing yet */
} openers[MOST_OPENERS];
static _Atomic size_t count_of_openers;

/* ---- the socket ---- */

int lend_socket(uint64_t name, bool listens)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "gpumax-lend-%016llx", (unsigned long long)name);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	static const struct timeval patience = {.tv_sec = LEND_PATIENCE_SECONDS};
	int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (made < 0)
		return -1;
	/* Whoever was stopped admits nobody. */
	setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (listens ? !bind(made, (struct sockaddr *)&address, size) && !listen(made, 64)
		    : !connect(made, (struct sockaddr *)&address, size))
		return made;
	close(made);
	return -1;
}

/* Memory is given to, and taken from, nobody but the own user. */
bool lend_trusted(int socket)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

/* ---- loans ---- */

static struct loan *loan_of(uint32_t device, uint64_t id)
{
	struct loan *loan = loans[device];

	while (loan && loan->id != id)
		loan = loan->next;
	return loan;
}

static void forget(struct loan *loan)
{
	struct loan **place = &loans[loan->device];

	while (*place != loan)
		place = &(*place)->next;
	*place = loan->next;
	free(loan);
}

bool lend_freed(struct backing *backing, uint64_t charged)
{
	struct loan *loan = backing->loan;

	if (!loan)
		return false;
	if (!loan->openers) {
		forget(loan);
		return false;
	}
	loan->backing = NULL;
	loan->charged = charged;
	atomic_fetch_add(&outlive[loan->device], charged);
	return true;
}

uint64_t lend_outlives(uint32_t device)
{
	return atomic_load(&outlive[device]);
}

static void returned(struct loan *loan)
{
	uint32_t device = loan->device;
	uint64_t charged = 0;

	pthread_mutex_lock(&backings[device].lock);
	if (!--loan->openers) {
		if (loan->backing) {
			backing_let_go(loan->backing);
		} else {
			charged = loan->charged;
			atomic_fetch_sub(&outlive[device], charged);
			forget(loan);
		}
	}
	pthread_mutex_unlock(&backings[device].lock);
	discharge(device, charged);
}

/* ---- answers ---- */

enum took { TOOK, ISNT_THERE, IS_OUT };

/* The first time it's pinned, so all of it has to be on the device. */
static enum took take(struct opener *opener, const struct lend_ask *ask)
{
	struct loan *loan;
	enum took took = ISNT_THERE;

	pthread_mutex_lock(&backings[ask->device].lock);
	loan = loan_of(ask->device, ask->id);
	if (loan && loan->backing && !loan->backing->lost) {
		took = loan->openers || backing_hold(loan->backing) ? TOOK : IS_OUT;
		if (took == TOOK) {
			loan->openers++;
			opener->loan = loan;
		}
	}
	pthread_mutex_unlock(&backings[ask->device].lock);
	return took;
}

/* Where it's off the device, this thread waits for it at the gate, as everybody does. */
static bool has_taken(struct opener *opener, const struct lend_ask *ask)
{
	enum took took;

	if (opener->loan)
		return opener->loan->id == ask->id && opener->loan->device == ask->device;
	if (ask->device >= SHARE_DEVICES)
		return false;
	while ((took = take(opener, ask)) == IS_OUT)
		gate_leave(gate_enter());
	return took == TOOK;
}

static struct lend_answer answer(const struct loan *loan, uint32_t piece, int *descriptor)
{
	struct lend_answer made = {.magic = LEND_TICKET, .result = CUDA_ERROR_INVALID_VALUE};
	const struct backing *backing;

	pthread_mutex_lock(&backings[loan->device].lock);
	backing = loan->backing;
	if (backing && piece < backing->count) {
		made.size = piece_size(backing, piece);
		made.result = REAL(cuMemExportToShareableHandle)(descriptor, backing->pieces[piece].handle,
								 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	}
	pthread_mutex_unlock(&backings[loan->device].lock);
	return made;
}

static bool say(int socket, const struct lend_answer *said, int descriptor)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} room = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec part = {(void *)(uintptr_t)said, sizeof *said};
	struct msghdr whole = {.msg_iov = &part, .msg_iovlen = 1};

	if (descriptor >= 0) {
		memcpy(CMSG_DATA(&room.header), &descriptor, sizeof descriptor);
		whole.msg_control = &room;
		whole.msg_controllen = sizeof room.bytes;
	}
	return sendmsg(socket, &whole, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof *said;
}

/* False: that was the last that is heard of it. */
static bool answers(struct opener *opener)
{
	struct lend_answer made = {.magic = LEND_TICKET, .result = CUDA_ERROR_INVALID_VALUE};
	struct lend_ask ask;
	int descriptor = -1;
	ssize_t got = recv(opener->socket, &ask, sizeof ask, MSG_DONTWAIT);
	bool said;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got != (ssize_t)sizeof ask || ask.magic != LEND_TICKET)
		return false;
	if (has_taken(opener, &ask))
		made = answer(opener->loan, ask.piece, &descriptor);
	said = say(opener->socket, &made, made.result == CUDA_SUCCESS ? descriptor : -1);
	if (made.result == CUDA_SUCCESS)
		close(descriptor);
	return said;
}

static void admit(void)
{
	size_t at = atomic_load(&count_of_openers);
	int came = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

	if (came < 0) {
		if (errno != ECONNABORTED && errno != EINTR)
			nanosleep(&rest, NULL);
		return;
	}
	if (at == MOST_OPENERS || !lend_trusted(came)) {
		close(came);
		return;
	}
	openers[at] = (struct opener){.socket = came};
	atomic_store(&count_of_openers, at + 1);
}

static void dismiss(size_t at)
{
	size_t last = atomic_load(&count_of_openers) - 1;
	struct opener gone = openers[at];

	openers[at] = openers[last];
	atomic_store(&count_of_openers, last);
	close(gone.socket);
	if (gone.loan)
		returned(gone.loan);
}

static void *attend(void *unused)
{
	static struct pollfd all[MOST_OPENERS + 1];

	(void)unused;
	for (;;) {
		size_t number = atomic_load(&count_of_openers);

		for (size_t i = 0; i < number; i++)
			all[i] = (struct pollfd){.fd = openers[i].socket, .events = POLLIN};
		all[number] = (struct pollfd){.fd = listening, .events = POLLIN};
		if (poll(all, number + 1, -1) < 0) {
			nanosleep(&rest, NULL);
			continue;
		}
		for (size_t i = number; i > 0; i--) /* from behind: whoever goes is replaced by the last */
			if (all[i - 1].revents && !answers(&openers[i - 1]))
				dismiss(i - 1);
		if (all[number].revents)
			admit();
	}
	return NULL;
}

/* ---- handles ---- */

static bool by_chance(uint64_t *number)
{
	return syscall(SYS_getrandom, number, sizeof *number, 0) == (long)sizeof *number;
}

static bool is_open(void)
{
	pthread_mutex_lock(&lock);
	if (listening < 0 && by_chance(&door)) {
		listening = lend_socket(door, true);
		if (listening >= 0 && !client_thread(attend)) {
			close(listening);
			listening = -1;
		}
	}
	pthread_mutex_unlock(&lock);
	return listening >= 0;
}

static struct loan *begin(struct backing *backing)
{
	struct loan *loan = backing->loan;
	uint64_t id;

	if (loan || !by_chance(&id) || !(loan = malloc(sizeof *loan)))
		return loan;
	*loan = (struct loan){.next = loans[backing->device], .backing = backing, .id = id, .device = backing->device};
	loans[backing->device] = loan;
	backing->loan = loan;
	return loan;
}

/* False: this driver's memory can't be given, or we can't give it. */
bool lend(const struct block *block, CUipcMemHandle *handle)
{
	struct ticket ticket = {.magic = LEND_TICKET, .device = block->device};
	struct backing *backing = block->owner;
	struct loan *loan = NULL;

	if (!backing_can_be_lent(block->device) || !is_open())
		return false;
	pthread_mutex_lock(&backings[block->device].lock);
	if (!backing->lost)
		loan = begin(backing);
	if (loan) {
		ticket.id = loan->id;
		ticket.size = backing->size;
	}
	pthread_mutex_unlock(&backings[block->device].lock);
	ticket.door = door;
	memcpy(handle, &ticket, sizeof ticket);
	return loan != NULL;
}

bool lend_is_own(const struct ticket *ticket)
{
	return listening >= 0 && ticket->door == door;
}

/* A child has none of it, and must keep nobody's connection open. */
void lend_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	for (size_t i = 0; i < atomic_load(&count_of_openers); i++)
		close(openers[i].socket);
	atomic_store(&count_of_openers, 0);
	if (listening >= 0)
		close(listening);
	listening = -1;
	for (uint32_t device = 0; device < SHARE_DEVICES; device++) {
		loans[device] = NULL;
		atomic_store(&outlive[device], 0);
	}
}
