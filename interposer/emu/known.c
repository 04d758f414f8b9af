/* What a configuration may name: models of devices, and functions of the driver. */
#include "emu/config.h"

#include <stdio.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

struct known {
	const char *name;
	uint64_t memory;
	int major, minor, sms;
	double link, d2d, flops;
};

/* Figures of data sheets: memory, compute capability, multiprocessors, GB/s of the link and of memory, TFLOP/s (FP32). */
static const struct known models[] = {
    {"T4", 16 * GIB, 7, 5, 40, 12, 320, 8.1},
    {"V100-16GB", 16 * GIB, 7, 0, 80, 12, 900, 15.7},
    {"A10", 24 * GIB, 8, 6, 72, 25, 600, 31.2},
    {"A100-40GB", 40 * GIB, 8, 0, 108, 25, 1555, 19.5},
    {"A100-80GB", 80 * GIB, 8, 0, 108, 25, 2039, 19.5},
    {"L4", 24 * GIB, 8, 9, 58, 25, 300, 30.3},
    {"L40S", 48 * GIB, 8, 9, 142, 25, 864, 91.6},
    {"H100-80GB", 80 * GIB, 9, 0, 132, 55, 3350, 67},
    {"H200", 141 * GIB, 9, 0, 132, 55, 4800, 67},
    {"B200", 180 * GIB, 10, 0, 148, 55, 8000, 75},
};

static void from_model(struct emu_model *device, const struct known *model)
{
	snprintf(device->name, sizeof(device->name), "Emulated %s", model->name);
	device->memory = model->memory;
	device->major = model->major;
	device->minor = model->minor;
	device->sms = model->sms;
	device->h2d = device->d2h = model->link;
	device->d2d = model->d2d;
	device->flops = model->flops * 1000;
	device->pageable = 0.5;
	device->latency_ns = 5000;
	device->context_bytes = 256 * MIB;
	device->granularity = 2 * MIB;
	device->slice_ns = 2000000;
}

bool emu_model_named(const char *name, struct emu_model *device)
{
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		if (strcmp(models[i].name, name) != 0)
			continue;
		from_model(device, &models[i]);
		return true;
	}
	return false;
}

/* By the linker: the name of each function that can be told to fail (CALL). Whoever has none, as NVML, believes all of them. */
extern const char *const __start_emu_calls[] __attribute__((weak, visibility("hidden")));
extern const char *const __stop_emu_calls[] __attribute__((weak, visibility("hidden")));

/* How many letters have to be put in, left out or changed. */
static size_t distance(const char *one, const char *other)
{
	size_t row[EMU_NAME + 1], width = strlen(other);

	if (width > EMU_NAME)
		return SIZE_MAX;
	for (size_t i = 0; i <= width; i++)
		row[i] = i;
	for (; *one != '\0'; one++) {
		size_t before = row[0]++;

		for (size_t i = 1; i <= width; i++) {
			size_t best = before + (*one != other[i - 1]);

			before = row[i];
			if (row[i] + 1 < best)
				best = row[i] + 1;
			if (row[i - 1] + 1 < best)
				best = row[i - 1] + 1;
			row[i] = best;
		}
	}
	return row[width];
}

bool emu_call_known(const char *name, const char **nearest)
{
	size_t least = strlen(name) / 2 + 1;

	*nearest = NULL;
	if (__start_emu_calls == NULL)
		return true;
	for (const char *const *each = __start_emu_calls; each < __stop_emu_calls; each++) {
		size_t far = distance(name, *each);

		if (far == 0)
			return true;
		if (far < least || (far == least && *nearest != NULL && strcmp(*each, *nearest) < 0)) {
			least = far;
			*nearest = *each;
		}
	}
	return false;
}
