/* What modules and libraries hold. */
#ifndef EMU_MODULE_H
#define EMU_MODULE_H

#include "emu/kernels.h"

struct emu_module;
struct emu_function {
	const struct emu_kernel *kernel;
	struct emu_module *module;
	struct emu_function *next;
	uint64_t duration;
	char name[EMU_NAME];
};

struct emu_global {
	struct emu_global *next;
	CUdeviceptr memory;
	size_t size;
	char name[EMU_NAME];
};

struct emu_module {
	struct emu_function *functions;
	struct emu_global *globals;
	int count;
	bool library;
};

#endif
