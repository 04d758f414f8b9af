/* What the emulated machine is: devices, driver, clock, faults. Read once from GPUMAX_EMU. */
#ifndef EMU_CONFIG_H
#define EMU_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EMU_DEVICES = 16, EMU_FAULTS = 32, EMU_NAME = 64, EMU_PATH = 256 };

struct emu_model {
	char name[EMU_NAME];
	uint64_t memory; /* bytes */
	int major, minor;
	int sms;
	unsigned char uuid[16];
	double h2d, d2h, d2d; /* bytes a nanosecond, that is GB/s */
	double pageable;      /* what is left of them for memory that isn't pinned */
	double flops;	      /* operations a nanosecond */
	uint64_t latency_ns;  /* of each copy and launch */
	uint64_t context_bytes;
	uint64_t granularity;
	uint64_t slice_ns;
};

/* From the nth call of a function on, `times` times, it returns `result` instead of doing anything. */
struct emu_fault {
	char call[EMU_NAME];
	uint64_t nth, times;
	int result;
	bool sticky; /* the context is broken from then on */
	bool kill;   /* the process is killed there and then */
};

struct emu_config {
	int devices;
	struct emu_model device[EMU_DEVICES];
	int driver_version;
	bool virtual_clock;
	bool log;
	char shared[EMU_PATH];
	bool shared_by_default; /* nobody named the file: it goes with the last process */
	int faults;
	struct emu_fault fault[EMU_FAULTS];
};

/* 0, or -1 where the configuration has faults; `said` then has all of them, in one line. */
int emu_config_read(const char *source, struct emu_config *config, char *said, size_t said_size);
/* The figures of a model; false where there is none of this name. */
bool emu_model_named(const char *name, struct emu_model *device);
/* Whether a function can be told to fail; nearest: where not, what it may be meant to be, or NULL. */
bool emu_call_known(const char *name, const char **nearest);
/* "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" and the like; NULL where there is no such result. */
const char *emu_result_name(int result);
const char *emu_result_text(int result);
int emu_result_by_name(const char *name);

#endif
