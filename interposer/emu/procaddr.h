/* Which symbol each version of a name is: made from names/procaddress.txt when the library is built. */
#ifndef EMU_PROCADDR_H
#define EMU_PROCADDR_H

#include <stdbool.h>
#include <stddef.h>

struct emu_entry {
	const char *name;
	int version;
	bool twin; /* for programs whose default stream is one of each thread */
	int (*symbol)(void);
};
extern const struct emu_entry emu_entries[];
extern const size_t emu_entries_count;

#endif
