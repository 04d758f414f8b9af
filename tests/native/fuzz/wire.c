/* What a broker says on its socket, as the layer reads it: whatever comes is a whole message of the protocol, or the end. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "layer/client/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

_Thread_local struct gate_seat *gate_seat;
static int listening = -1, broker = -1;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void connect_anew(void)
{
	int error;

	if (listening < 0) {
		snprintf(address.sun_path, sizeof address.sun_path, "wire-%d.sock", (int)getpid());
		unlink(address.sun_path);
		listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 4))
			abort();
	}
	wire_close();
	if (broker >= 0)
		close(broker);
	if (!wire_open(address.sun_path, &error))
		abort();
	broker = accept(listening, NULL, NULL);
}

static void say(const uint8_t *data, size_t size, int with_descriptors)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr header;
	} room = {.header = {CMSG_LEN(sizeof(int) * (size_t)with_descriptors), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec part = {(void *)(uintptr_t)data, size};
	struct msghdr whole = {.msg_iov = &part, .msg_iovlen = 1};
	int descriptors[] = {0, 0};

	memcpy(CMSG_DATA(&room.header), descriptors, sizeof(int) * (size_t)with_descriptors);
	if (with_descriptors) {
		whole.msg_control = &room;
		whole.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)with_descriptors);
	}
	sendmsg(broker, &whole, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message;
	int heard;

	if (size < 2)
		return -1;
	if (broker < 0)
		connect_anew();
	say(data + 1, size - 1, data[0] % 3);
	memset(&message, 0xee, sizeof message);
	heard = wire_hear(&message);
	if (heard > 0) {
		if (size - 1 != sizeof message.header + message.header.length || wire_epoch() != message.header.epoch)
			abort();
		if (message.fd >= 0)
			close(message.fd);
	} else if (heard < 0) {
		connect_anew();
	} else {
		abort();
	}
	return 0;
}
