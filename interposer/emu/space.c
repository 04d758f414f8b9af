/* What is where in the addresses of this process: ranges that were given out, and what is mapped into reserved ones. */
#include "emu/emu.h"

#include <stdlib.h>
#include <string.h>

/* Both sorted by address; neither overlaps within itself. */
static struct emu_range **ranges;
static size_t ranges_count, ranges_room;
static struct emu_mapping *mappings;
static size_t mappings_count, mappings_room;
static uint64_t ids;

/* The first range that begins behind the address. */
static size_t range_behind(uint64_t address)
{
	size_t low = 0, high = ranges_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (ranges[middle]->base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct emu_range *emu_range_at(uint64_t address)
{
	size_t behind = range_behind(address);
	struct emu_range *range = behind > 0 ? ranges[behind - 1] : NULL;

	return range != NULL && address - range->base < range->size ? range : NULL;
}

static bool room_for_one(void **list, size_t count, size_t *room, size_t size)
{
	void *larger;

	if (count < *room)
		return true;
	larger = realloc(*list, (*room * 2 + 64) * size);
	if (larger == NULL)
		return false;
	*list = larger;
	*room = *room * 2 + 64;
	return true;
}

struct emu_range *emu_range_add(struct emu_range range)
{
	size_t at = range_behind(range.base);
	struct emu_range *made = malloc(sizeof(*made));

	if (made == NULL || !room_for_one((void **)&ranges, ranges_count, &ranges_room, sizeof(*ranges))) {
		free(made);
		return NULL;
	}
	*made = range;
	made->id = ++ids;
	memmove(ranges + at + 1, ranges + at, (ranges_count - at) * sizeof(*ranges));
	ranges[at] = made;
	ranges_count++;
	return made;
}

void emu_range_remove(uint64_t base)
{
	size_t behind = range_behind(base);

	if (behind == 0 || ranges[behind - 1]->base != base)
		return;
	free(ranges[behind - 1]);
	memmove(ranges + behind - 1, ranges + behind, (ranges_count - behind) * sizeof(*ranges));
	ranges_count--;
}

struct emu_range *emu_range_of(struct emu_context *context, enum emu_range_kind kind)
{
	for (size_t i = ranges_count; i > 0; i--)
		if (ranges[i - 1]->context == context && ranges[i - 1]->kind == kind)
			return ranges[i - 1];
	return NULL;
}

static size_t mapping_behind(uint64_t address)
{
	size_t low = 0, high = mappings_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (mappings[middle].base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct emu_mapping *emu_mapping_at(uint64_t address)
{
	size_t behind = mapping_behind(address);
	struct emu_mapping *mapping = behind > 0 ? &mappings[behind - 1] : NULL;

	return mapping != NULL && address - mapping->base < mapping->size ? mapping : NULL;
}

struct emu_mapping *emu_mapping_first(uint64_t from, uint64_t to)
{
	struct emu_mapping *at = emu_mapping_at(from);
	size_t behind;

	if (at != NULL)
		return at;
	behind = mapping_behind(from);
	return behind < mappings_count && mappings[behind].base < to ? &mappings[behind] : NULL;
}

bool emu_mapping_add(struct emu_mapping mapping)
{
	size_t at = mapping_behind(mapping.base);

	if (!room_for_one((void **)&mappings, mappings_count, &mappings_room, sizeof(*mappings)))
		return false;
	memmove(mappings + at + 1, mappings + at, (mappings_count - at) * sizeof(*mappings));
	mappings[at] = mapping;
	mappings_count++;
	return true;
}

void emu_mapping_remove(uint64_t base)
{
	size_t behind = mapping_behind(base);

	if (behind == 0 || mappings[behind - 1].base != base)
		return;
	memmove(mappings + behind - 1, mappings + behind, (mappings_count - behind) * sizeof(*mappings));
	mappings_count--;
}

/* Whether a device could touch all of these bytes. Memory that is mapped piece by piece counts as one. */
bool emu_reaches(uint64_t address, uint64_t bytes, bool write)
{
	const struct emu_range *range = emu_range_at(address);
	uint64_t end = address + bytes;

	if (bytes == 0)
		return true;
	if (range == NULL || end < address || end > range->base + range->size)
		return false;
	if (range->kind != EMU_RESERVED)
		return true;
	while (address < end) {
		const struct emu_mapping *mapping = emu_mapping_at(address);

		if (mapping == NULL || mapping->access == CU_MEM_ACCESS_FLAGS_PROT_NONE ||
		    (write && mapping->access != CU_MEM_ACCESS_FLAGS_PROT_READWRITE))
			return false;
		address = mapping->base + mapping->size;
	}
	return true;
}
