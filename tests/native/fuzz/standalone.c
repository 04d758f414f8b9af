/*
 * Runs a fuzz target where the compiler has no libFuzzer. It changes inputs at random and keeps those that come to places
 * where none came before, which the compiler tells (-fsanitize-coverage=trace-pc): a small libFuzzer, with its words.
 *
 *   PROGRAM SECONDS LONGEST FOLDER     begins with what lies in FOLDER
 *
 * After a crash the file `running` holds what was read: its size, then its bytes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PLACES 65536
#define KEPT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_cov_trace_pc(void);

static unsigned char seen[PLACES];
static uintptr_t last;
static unsigned fresh;
static struct input {
	uint8_t *data;
	size_t size;
} kept[KEPT];
static size_t count;
static uint8_t *running;
static uint64_t state = 88172645463325252u;

__attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void)
{
	uintptr_t here = (uintptr_t)__builtin_return_address(0), edge = (here ^ (last >> 1)) * UINT64_C(0x9E3779B97F4A7C15) >> 48;

	last = here;
	if (!seen[edge])
		fresh++;
	seen[edge] = 1;
}

static uint64_t chance(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void keep(const uint8_t *data, size_t size)
{
	if (count == KEPT)
		return;
	kept[count].data = malloc(size + 1);
	memcpy(kept[count].data, data, size);
	kept[count++].size = size;
}

static void run(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);

	memcpy(running, &size, sizeof size);
	memcpy(running + sizeof size, data, size);
	memcpy(exact, data, size);
	last = fresh = 0;
	LLVMFuzzerTestOneInput(exact, size);
	if (fresh)
		keep(data, size);
	free(exact);
}

static size_t mutated(uint8_t *room, size_t longest)
{
	static const uint8_t odd[] = {0, 0xff, 0x7f, 0x80, 1, '"', '{', '[', '\\', '9', '-', '\n', '/', '.'};
	const struct input *base = &kept[chance(count)], *other = &kept[chance(count)];
	size_t size = base->size < longest ? base->size : longest, at, length;

	memcpy(room, base->data, size);
	for (uint64_t times = 1 + chance(6); times; times--) {
		at = size ? chance(size) : 0;
		switch (chance(6)) {
		case 0:
			if (size)
				room[at] ^= (uint8_t)(1u << chance(8));
			break;
		case 1:
			if (size)
				room[at] = odd[chance(sizeof odd)];
			break;
		case 2:
			if (size < longest) {
				memmove(room + at + 1, room + at, size++ - at);
				room[at] = chance(2) ? odd[chance(sizeof odd)] : (uint8_t)chance(256);
			}
			break;
		case 3:
			if (size)
				memmove(room + at, room + at + 1, --size - at);
			break;
		case 4:
			length = other->size ? chance(other->size) + 1 : 0;
			length = length < longest - at ? length : longest - at;
			memcpy(room + at, other->data, length);
			size = at + length > size ? at + length : size;
			break;
		default:
			size = at;
		}
	}
	return size;
}

static void read_folder(const char *folder, size_t longest)
{
	DIR *all = opendir(folder);
	struct dirent *each;
	uint8_t *room = malloc(longest);

	while (all && (each = readdir(all))) {
		char path[4096];
		FILE *file;

		snprintf(path, sizeof path, "%s/%s", folder, each->d_name);
		file = each->d_name[0] == '.' ? NULL : fopen(path, "rb");
		if (!file)
			continue;
		run(room, fread(room, 1, longest, file));
		fclose(file);
	}
	if (all)
		closedir(all);
	free(room);
}

int main(int words, char **word)
{
	size_t longest = words > 3 ? strtoul(word[2], NULL, 10) : 1;
	time_t until = time(NULL) + (words > 3 ? atol(word[1]) : 0);
	uint8_t *room = malloc(longest);
	unsigned long runs = 0;

	int file = open("running", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (words < 4 || file < 0 || ftruncate(file, (off_t)(longest + sizeof longest)))
		return 2;
	running = mmap(NULL, longest + sizeof longest, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (running == MAP_FAILED)
		return 2;
	keep((const uint8_t *)"", 0);
	read_folder(word[3], longest);
	while (time(NULL) < until)
		for (int i = 0; i < 500; i++, runs++)
			run(room, mutated(room, longest));
	printf("stat::number_of_executed_units: %lu\nkept: %zu\n", runs, count);
	return 0;
}
