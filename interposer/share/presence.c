/* Locks that say who is there. presence.h says what for. */
#include "presence.h"

#include <fcntl.h>
#include <unistd.h>

static struct flock byte(uint32_t place)
{
	return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)place, .l_len = 1};
}

/* Where the system has no such locks, nobody can tell, and all are taken to be there. */
void presence_take(int fd, uint32_t place)
{
	struct flock lock = byte(place);

	fcntl(fd, F_OFD_SETLK, &lock);
}

bool presence_taken(int fd, uint32_t place)
{
	struct flock lock = byte(place);

	return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}
