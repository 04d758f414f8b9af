/*
 * The parts of the layer that can be looked at by themselves: the index of what is where against a list that is searched
 * from end to end; the share under many threads and processes; what the environment may say. It says "right".
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layer/layer.h"

#define PLACES 64
#define THREADS 4

_Thread_local struct gate_seat *gate_seat;

static int wrong;

static void check(int right, const char *what)
{
	if (!right) {
		printf("wrong: %s\n", what);
		wrong = 1;
	}
}

static uint64_t chance(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

/* Ranges of 10 addresses with gaps of 10; which of them are there is known beforehand. */
static void one_step(uint64_t *state, struct index *index, int there[PLACES])
{
	uint64_t i = chance(state, PLACES), at = 1000 + i * 20;
	struct block block = {.base = at, .size = 10, .charged = i, .kind = i % 2 ? PLAIN : MAPPED}, found = {0};

	switch (chance(state, 4)) {
	case 0:
		check(index_add(index, &block) == !there[i], "added");
		there[i] = 1;
		break;
	case 1:
		check(index_take(index, at, &found) == there[i] && (!there[i] || found.charged == i), "taken");
		there[i] = 0;
		break;
	case 2:
		check(index_find(index, at + chance(state, 10), &found) == there[i], "found within");
		check(!index_find(index, at + 10 + chance(state, 10), &found), "not found in a gap");
		break;
	default:
		while (i < PLACES && !there[i])
			i++;
		check(index_next(index, at, &found) == (i < PLACES) && (i == PLACES || found.charged == i), "the next one");
	}
}

static void look_at_index(void)
{
	struct index index = {.lock = PTHREAD_MUTEX_INITIALIZER};
	uint64_t state = 88172645463325252u;
	int there[PLACES] = {0};
	struct block found;

	for (int step = 0; step < 20000; step++)
		one_step(&state, &index, there);
	for (uint64_t from = 0; index_take_within(&index, from, UINT64_MAX, MAPPED, &found); from = found.base)
		check(found.kind == MAPPED && there[found.charged], "taken by its kind");
	while (index_take_of(&index, NULL, &found))
		check(found.kind == PLAIN, "taken by its context");
	check(index.root == NULL, "empty in the end");
}

static struct share share = {.limit = 1000};

static void *take_and_give(void *seed)
{
	uint64_t state = (uint64_t)(uintptr_t)seed * 7919, mine = 0;

	for (int turn = 0; turn < 500; turn++) {
		uint64_t bytes = 1 + chance(&state, 300);

		if (share_charge(0, bytes, share.limit) == WITHIN)
			mine += bytes;
		if (share_used(0) > share.limit)
			return (void *)1;
		if (mine && chance(&state, 2)) {
			bytes = 1 + chance(&state, mine);
			share_discharge(0, bytes);
			mine -= bytes;
		}
	}
	share_discharge(0, mine);
	return NULL;
}

static int take_in_threads(void)
{
	pthread_t all[THREADS];
	void *over;
	int right = 1;

	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&all[i], NULL, take_and_give, (void *)(i + 1 + (uintptr_t)getpid()));
	for (int i = 0; i < THREADS; i++) {
		pthread_join(all[i], &over);
		right &= !over;
	}
	return right;
}

static void look_at_share(void)
{
	static const unsigned char uuid[16] = "a device";
	pid_t children[2];
	int status;

	share.group = UINT64_C(0x70726f6f66) << 24 | (uint64_t)getpid();
	check(share_join(&share) && share_device(uuid, true) == 0 && share_device(uuid, true) == 0, "joined");
	for (int i = 0; i < 2; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			share_after_fork();
			exit(!share_join(&share) || share_device(uuid, false) != 0 || !take_in_threads());
		}
	}
	check(take_in_threads(), "never more than the limit");
	for (int i = 0; i < 2; i++)
		check(waitpid(children[i], &status, 0) == children[i] && status == 0, "nor in a child");
	check(share_used(0) == 0, "all given back");
	check(share_charge(0, 1001, share.limit) == BEYOND && share_charge(0, 1000, share.limit) == WITHIN, "exactly the limit");
	check(share_charge(0, UINT64_MAX, 0) == BEYOND, "more than can be counted");
	check(share_has_process((uint32_t)getpid()) && !share_has_process(0), "who is in it");
	share_discharge(0, UINT64_MAX);
	check(share_used(0) == 0, "never less than nothing");
}

static void look_at_words(void)
{
	uint64_t bytes = 0;

	check(share_parse_bytes("10Gi", &bytes) && bytes == UINT64_C(10) << 30, "a unit");
	check(share_parse_bytes("18446744073709551615", &bytes) && bytes == UINT64_MAX, "the largest");
	check(!share_parse_bytes("18446744073709551616", &bytes) && !share_parse_bytes("16384Pi", &bytes) &&
		      !share_parse_bytes("", &bytes) && !share_parse_bytes("1G", &bytes) && !share_parse_bytes("-1", &bytes),
	      "nonsense");
}

int main(void)
{
	look_at_index();
	look_at_words();
	look_at_share();
	if (!wrong)
		puts("right");
	return wrong;
}
