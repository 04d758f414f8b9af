/* Swappable memory of other processes, opened here. lend.h says how. It is mapped piece by piece, and looks like one allocation. */
#include "lend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "api.h"

struct borrowed {
	struct borrowed *next;
	struct ticket ticket;
	CUdeviceptr base;
	uint64_t mapped; /* bytes of it, from its beginning */
	CUcontext context;
	uint32_t uses;
	int socket;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct borrowed *all;

/* ---- the way to the lender ---- */

static int reach(const struct ticket *ticket)
{
	struct timeval patience = {.tv_sec = LEND_PATIENCE_SECONDS};
	int made = lend_socket(ticket->door, false);

	if (made < 0)
		return -1;
	if (lend_trusted(made) && setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0)
		return made;
	close(made);
	return -1;
}

static CUresult hear(int socket, struct lend_answer *heard, int *descriptor)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(sizeof(struct cmsghdr))));
	struct iovec part = {heard, sizeof *heard};
	/* Not a byte more than one descriptor takes: there would be room for a second one, which nobody would close. */
	struct msghdr whole = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_LEN(sizeof(int))};
	struct cmsghdr *came;
	ssize_t got;

	do
		got = recvmsg(socket, &whole, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	came = got >= 0 ? CMSG_FIRSTHDR(&whole) : NULL;
	if (came && came->cmsg_level == SOL_SOCKET && came->cmsg_type == SCM_RIGHTS && came->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(descriptor, CMSG_DATA(came), sizeof *descriptor);
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		say_once(CAUSE_IPC, "memory of another process can't be opened: it is off the device, and didn't come back in %d s",
			 LEND_PATIENCE_SECONDS);
		return CUDA_ERROR_MAP_FAILED;
	}
	if (got != (ssize_t)sizeof *heard || heard->magic != LEND_TICKET || whole.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return CUDA_ERROR_INVALID_VALUE;
	return heard->result == CUDA_SUCCESS && *descriptor < 0 ? CUDA_ERROR_INVALID_VALUE : (CUresult)heard->result;
}

static CUresult ask(const struct borrowed *borrowed, uint32_t piece, struct lend_answer *heard, int *descriptor)
{
	struct lend_ask wish = {.magic = LEND_TICKET, .id = borrowed->ticket.id, .device = borrowed->ticket.device, .piece = piece};

	if (send(borrowed->socket, &wish, sizeof wish, MSG_NOSIGNAL) != (ssize_t)sizeof wish)
		return CUDA_ERROR_INVALID_VALUE;
	return hear(borrowed->socket, heard, descriptor);
}

/* ---- addresses ---- */

static CUresult map(struct borrowed *borrowed, uint64_t size, int descriptor)
{
	CUmemGenericAllocationHandle handle;
	CUresult result;

	if (!size || size > borrowed->ticket.size - borrowed->mapped)
		return CUDA_ERROR_INVALID_VALUE;
	result = REAL(cuMemImportFromShareableHandle)(&handle, (void *)(intptr_t)descriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	if (result != CUDA_SUCCESS)
		return result;
	result = REAL(cuMemMap)(borrowed->base + borrowed->mapped, size, 0, handle, 0);
	REAL(cuMemRelease)(handle); /* what is mapped stays */
	if (result == CUDA_SUCCESS)
		borrowed->mapped += size;
	return result;
}

static CUresult fetch(struct borrowed *borrowed)
{
	struct lend_answer heard = {0};
	CUresult result = CUDA_SUCCESS;

	for (uint32_t piece = 0; borrowed->mapped < borrowed->ticket.size && result == CUDA_SUCCESS; piece++) {
		int descriptor = -1;

		result = ask(borrowed, piece, &heard, &descriptor);
		if (result == CUDA_SUCCESS)
			result = map(borrowed, heard.size, descriptor);
		if (descriptor >= 0)
			close(descriptor);
	}
	return result;
}

/* For the context's device; that the memory may be another one's is the driver's to judge. */
static CUresult let_in(const struct borrowed *borrowed)
{
	CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUdevice device;
	CUresult result = REAL(cuCtxGetDevice)(&device);

	access.location.id = device;
	return result == CUDA_SUCCESS ? REAL(cuMemSetAccess)(borrowed->base, borrowed->ticket.size, &access, 1) : result;
}

static void give_back(struct borrowed *borrowed)
{
	if (borrowed->mapped)
		REAL(cuMemUnmap)(borrowed->base, borrowed->mapped);
	if (borrowed->base)
		REAL(cuMemAddressFree)(borrowed->base, borrowed->ticket.size);
	if (borrowed->socket >= 0)
		close(borrowed->socket); /* from now on it may be moved */
	free(borrowed);
}

static CUresult bring(struct borrowed *borrowed)
{
	CUresult result;

	borrowed->socket = reach(&borrowed->ticket);
	if (borrowed->socket < 0)
		return CUDA_ERROR_INVALID_VALUE; /* its process has ended, or is another user's */
	result = REAL(cuMemAddressReserve)(&borrowed->base, borrowed->ticket.size, 0, 0, 0);
	if (result == CUDA_SUCCESS)
		result = fetch(borrowed);
	return result == CUDA_SUCCESS ? let_in(borrowed) : result;
}

static bool enter(struct borrowed *borrowed)
{
	struct block block = {.base = borrowed->base, .size = borrowed->ticket.size, .kind = BORROWED,
			      .context = borrowed->context, .owner = borrowed};

	return index_add(&addresses, &block);
}

/* ---- as the driver's functions ---- */

/* Who opens it again in the same context is given the same address, and closes it as often. */
static bool has_open(const struct ticket *ticket, CUcontext context, CUdeviceptr *pointer)
{
	struct borrowed *each;

	pthread_mutex_lock(&lock);
	for (each = all; each; each = each->next)
		if (each->context == context && !memcmp(&each->ticket, ticket, sizeof *ticket)) {
			each->uses++;
			*pointer = each->base;
			break;
		}
	pthread_mutex_unlock(&lock);
	return each != NULL;
}

CUresult borrow_open(const struct ticket *ticket, CUdeviceptr *pointer)
{
	CUcontext context = context_current();
	struct borrowed *borrowed;
	CUresult result;

	if (lend_is_own(ticket) || !context)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (has_open(ticket, context, pointer))
		return CUDA_SUCCESS;
	borrowed = malloc(sizeof *borrowed);
	if (!borrowed)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*borrowed = (struct borrowed){.ticket = *ticket, .context = context, .uses = 1, .socket = -1};
	result = bring(borrowed);
	if (result == CUDA_SUCCESS && !enter(borrowed))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	if (result != CUDA_SUCCESS) {
		give_back(borrowed);
		return result;
	}
	*pointer = borrowed->base;
	pthread_mutex_lock(&lock);
	borrowed->next = all;
	all = borrowed;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static struct borrowed *out_of_list(struct borrowed **place)
{
	struct borrowed *borrowed = *place;
	struct block unused;

	*place = borrowed->next;
	index_take(&addresses, borrowed->base, &unused);
	return borrowed;
}

/* What the context still has to do is awaited, as the driver does it. */
static CUresult end(struct borrowed *borrowed)
{
	CUcontext unused;
	CUresult result = REAL(cuCtxPushCurrent_v2)(borrowed->context);

	if (result == CUDA_SUCCESS) {
		result = REAL(cuCtxSynchronize)();
		REAL(cuCtxPopCurrent_v2)(&unused);
	}
	give_back(borrowed);
	return result;
}

bool borrow_close(CUdeviceptr pointer, CUresult *result)
{
	struct borrowed **place, *borrowed = NULL;
	bool found;

	pthread_mutex_lock(&lock);
	for (place = &all; *place && (*place)->base != pointer;)
		place = &(*place)->next;
	found = *place != NULL;
	if (found && !--(*place)->uses)
		borrowed = out_of_list(place);
	pthread_mutex_unlock(&lock);
	*result = borrowed ? end(borrowed) : CUDA_SUCCESS;
	return found;
}

void borrow_context_ends(CUcontext context)
{
	struct borrowed **place, *borrowed;

	pthread_mutex_lock(&lock);
	for (place = &all; *place;) {
		if ((*place)->context != context) {
			place = &(*place)->next;
			continue;
		}
		borrowed = out_of_list(place);
		end(borrowed);
	}
	pthread_mutex_unlock(&lock);
}

/* A child has none of it, and must not keep it from being moved. */
void borrow_after_fork(void)
{
	pthread_mutex_init(&lock, NULL);
	for (struct borrowed *each = all; each; each = each->next)
		close(each->socket);
	all = NULL;
}
