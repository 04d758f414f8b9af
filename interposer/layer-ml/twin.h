/* NVML as a process under a share sees it: its own memory, its own processes. */
#ifndef GPUMAX_LAYER_ML_TWIN_H
#define GPUMAX_LAYER_ML_TWIN_H

#include <stdbool.h>
#include <stdint.h>

#include "gpumax/export.h"
#include "gpumax/nvml_abi.h"
#include "slots.h"

typedef void (*any_function)(void);
extern any_function gpumax_slots[SLOTS];

#define REAL_AS(type, name) ((type)__atomic_load_n(&gpumax_slots[SLOT_##name], __ATOMIC_RELAXED))

any_function gpumax_resolve(uint32_t slot);
bool library_found(void);

bool under_limit(uint64_t *limit); /* whether there is a limit to the share of this process */

/* From the one to the other its page is mapped, where one exists, and nobody takes it away. */
void look_begin(void);
void look_end(void);

#endif
