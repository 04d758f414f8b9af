/* Handles: which pointers are ours, and of what kind. */
#include "emu/emu.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	const void *pointer; /* NULL: never used; FREED: used once */
	enum emu_kind kind;
};

static const char freed_mark;
#define FREED ((const void *)&freed_mark)

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct entry *table;
static size_t room, taken; /* taken: with those that were freed */

static size_t place(const void *pointer)
{
	return (size_t)(((uintptr_t)pointer >> 4) * 0x9E3779B97F4A7C15u) & (room - 1);
}

static struct entry *find(const void *pointer)
{
	if (room == 0)
		return NULL;
	for (size_t i = place(pointer);; i = (i + 1) & (room - 1)) {
		if (table[i].pointer == pointer)
			return &table[i];
		if (table[i].pointer == NULL)
			return NULL;
	}
}

static void put(const void *pointer, enum emu_kind kind)
{
	size_t i = place(pointer);

	while (table[i].pointer != NULL && table[i].pointer != FREED)
		i = (i + 1) & (room - 1);
	if (table[i].pointer == NULL)
		taken++;
	table[i] = (struct entry){pointer, kind};
}

static bool grown(void)
{
	struct entry *old = table;
	size_t old_room = room, live = 0;

	if (taken * 2 < room)
		return true;
	for (size_t i = 0; i < old_room; i++)
		live += old[i].pointer != NULL && old[i].pointer != FREED;
	room = 256;
	while (room < live * 4)
		room *= 2;
	table = calloc(room, sizeof(*table));
	if (table == NULL) {
		table = old;
		room = old_room;
		return false;
	}
	taken = 0;
	for (size_t i = 0; i < old_room; i++)
		if (old[i].pointer != NULL && old[i].pointer != FREED)
			put(old[i].pointer, old[i].kind);
	free(old);
	return true;
}

void *emu_new(enum emu_kind kind, size_t size)
{
	void *made = calloc(1, size);

	if (made == NULL)
		return NULL;
	pthread_rwlock_wrlock(&lock);
	if (grown()) {
		put(made, kind);
	} else {
		free(made);
		made = NULL;
	}
	pthread_rwlock_unlock(&lock);
	return made;
}

bool emu_is(enum emu_kind kind, const void *handle)
{
	const struct entry *found;
	bool is;

	if (handle == NULL || handle == FREED)
		return false;
	pthread_rwlock_rdlock(&lock);
	found = find(handle);
	is = found != NULL && found->kind == kind;
	pthread_rwlock_unlock(&lock);
	return is;
}

void emu_unlist(const void *handle)
{
	struct entry *found;

	pthread_rwlock_wrlock(&lock);
	found = find(handle);
	if (found != NULL)
		found->pointer = FREED;
	pthread_rwlock_unlock(&lock);
}

void emu_delete(enum emu_kind kind, void *handle)
{
	if (!emu_is(kind, handle))
		return;
	emu_unlist(handle);
	free(handle);
}
