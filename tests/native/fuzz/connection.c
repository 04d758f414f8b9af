/*
 * A broker that lies: whatever it says, and however often, the client greets it, does as it's told as far as that can be
 * done, and is as it was when the connection ends: what it had swapped out is in again, and no descriptor is left.
 *
 * An input is a list of messages: a byte of how (below), one of the type, the payload's length in one, and the payload,
 * which is filled up with zeros to the length that its type has. The whole layer is there, on the driver that tests script.
 */
#include "layer/client/wire.c"
#define lock worker_lock
#include "layer/client/worker.c"
#undef lock
#include "layer/client/connection.c"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "layer/backing.h"
#include "layer/host.h"

enum { TRUE_SIZE = 1, PAGES = 2, SHORT_FILE = 4, NO_FILE = 8, WRONG_VERSION = 16, TWICE = 32, LATER = 64, SAME_EPOCH = 128 };

#define MOST_POOLS 1000 /* what is given is kept */

CUresult cuInit(unsigned int flags);
CUresult cuCtxSetCurrent(CUcontext context);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char words[] = "what was there before";
static int listening = -1, broker = -1, pools;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static CUdeviceptr memory;

static void must(bool fine)
{
	if (!fine)
		abort();
}

static void begin(void)
{
	CUcontext context;
	size_t size = sizeof words;

	snprintf(address.sun_path, sizeof address.sun_path, "connection-%d.sock", (int)getpid());
	unlink(address.sun_path);
	listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	must(!bind(listening, (struct sockaddr *)&address, sizeof address) && !listen(listening, 4));
	setenv("GPUMAX_SWAP", "1", 1);
	setenv("GPUMAX_LOG", "quiet", 1);
	setenv("GPUMAX_SOCKET", address.sun_path, 1);
	setenv("GPUMAX_GROUP", address.sun_path, 1);
	begun = true; /* so no thread is begun that would ask it */
	atomic_store(&known, true);
	must(settings()->swappable && REAL(cuInit)(0) == CUDA_SUCCESS);
	must(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS && REAL(cuCtxSetCurrent)(context) == CUDA_SUCCESS);
	must(cuMemAlloc_v2(&memory, 1 << 20) == CUDA_SUCCESS);
	must(REAL(cuMemcpyHtoDAsync_v2)(memory, words, size, NULL) == CUDA_SUCCESS);
	poked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static int file_of(uint8_t how, uint8_t lease)
{
	size_t size = hello.devices * GPUMAX_PAGE_BYTES + GPUMAX_SEATS_BYTES;
	int file;

	if (how & NO_FILE)
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	file = memfd_create("given", MFD_CLOEXEC);
	must(file >= 0 && pwrite(file, &lease, 1, offsetof(struct gpumax_page, lease_word)) == 1 && !ftruncate(file, how & SHORT_FILE ? 100 : (off_t)(size < (4 << 20) ? 4 << 20 : size)));
	return file;
}

static void send_with(const void *header, const void *body, size_t length, uint8_t how)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr header;
	} room = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec parts[] = {{(void *)(uintptr_t)header, sizeof(struct gpumax_header)}, {(void *)(uintptr_t)body, length}};
	struct msghdr whole = {.msg_iov = parts, .msg_iovlen = 2};
	int files[2];

	if (how & PAGES) {
		files[0] = files[1] = file_of(how, ((const uint8_t *)body)[1]);
		room.header.cmsg_len = CMSG_LEN((how & TWICE ? 2 : 1) * sizeof(int));
		memcpy(CMSG_DATA(&room.header), files, (how & TWICE ? 2 : 1) * sizeof(int));
		whole.msg_control = &room;
		whole.msg_controllen = CMSG_SPACE((how & TWICE ? 2 : 1) * sizeof(int));
	}
	sendmsg(broker, &whole, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (how & PAGES)
		close(files[0]);
}

static void say_one(const uint8_t *at, const uint8_t *end)
{
	static const size_t most = GPUMAX_PROTOCOL_LONGEST - sizeof(struct gpumax_header);
	uint8_t body[GPUMAX_PROTOCOL_LONGEST] = {0}, how = at[0], length = at[2];
	struct gpumax_header header = {.magic = GPUMAX_PROTOCOL_MAGIC, .version = GPUMAX_PROTOCOL_VERSION, .type = at[1]};
	size_t given;

	at += 3;
	given = length < end - at ? length : (size_t)(end - at);
	memcpy(body, at, given);
	header.length = (uint32_t)length_of(header.type);
	if (how & TRUE_SIZE || header.length > most)
		header.length = (uint32_t)given;
	header.version += (how & WRONG_VERSION) != 0;
	header.epoch = how & SAME_EPOCH ? 1 : given;
	header.request = given ? body[0] : 0;
	if (header.type == GPUMAX_POOL && how & PAGES && pools++ > MOST_POOLS)
		how &= (uint8_t)~PAGES;
	send_with(&header, body, header.length, how);
}

static void do_jobs(void)
{
	while (count_of_jobs) {
		struct job job = next();

		carry_out(&job);
	}
}

/* Those that are said at once, or those that come once the client has been greeted, and has looked around. */
static bool say(const uint8_t *data, const uint8_t *end, bool later)
{
	bool greets = false;

	while (end - data >= 3) {
		const uint8_t *next_one = data + 3 + (data[2] < end - data - 3 ? data[2] : end - data - 3);

		if (((data[0] & LATER) != 0) == later) {
			greets |= data[1] == GPUMAX_WELCOME || data[1] == GPUMAX_ERROR;
			say_one(data, end);
		}
		data = next_one;
	}
	return greets;
}

/* As `talk` does it, but for a thread of its own, and without waiting. */
static void talk_once(const uint8_t *data, const uint8_t *end)
{
	bool again = false;

	if (!say(data, end, false))
		shutdown(broker, SHUT_WR);
	if (greet(&again)) {
		become_known();
		client_poke();
		if (listen_once()) {
			do_jobs();
			say(data, end, true);
			shutdown(broker, SHUT_WR);
			while (listen_once())
				do_jobs();
		}
	}
	do_jobs();
	wire_close();
	lease_lost();
}

static int descriptors(void)
{
	DIR *all = opendir("/proc/self/fd");
	int number = 0;

	must(all != NULL);
	while (readdir(all))
		number++;
	closedir(all);
	return number;
}

static void as_it_was(void)
{
	char found[sizeof words];

	if (swap_paused())
		swap_resume();
	swap_in_now(0);
	must(!swap_anything_out() && !atomic_load(&backings[0].out));
	must(REAL(cuMemcpyDtoHAsync_v2)(found, memory, sizeof found, NULL) == CUDA_SUCCESS && !memcmp(found, words, sizeof words));
	lease_by(NULL);
	gate_after_fork();
	if (pages)
		munmap(pages, pages_size);
	pages = NULL;
	lease_after_fork();
	welcomed = alone = turned_away = false;
	lost_at = last_epoch = 0;
	atomic_store(&unseen, false);
	close(broker);
	broker = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int error, before;

	if (listening < 0)
		begin();
	before = descriptors();
	begun_at = client_now();
	list_devices();
	must(wire_open(address.sun_path, &error));
	broker = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	talk_once(data, data + size);
	as_it_was();
	must(descriptors() == before);
	return 0;
}
