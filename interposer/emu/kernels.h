/* The kernels that an emulated device knows. */
#ifndef EMU_KERNELS_H
#define EMU_KERNELS_H

#include "emu/emu.h"

/* Parameters: p an address, q 64 bits, u 32 bits, f a float. */
struct emu_kernel {
	const char *name, *parameters;
	/* Bytes touched and operations done, from which the time follows; or a time. */
	void (*cost)(const struct emu_run *run, double *bytes, double *operations, double *nanoseconds);
	CUresult (*body)(const struct emu_run *run);
	bool forever, holds;
};

const struct emu_kernel *emu_kernel_named(const char *name, size_t length);
const struct emu_kernel *emu_kernel_number(int i);

#endif
