/* The inside of the emulated NVML. */
#ifndef EMU_ML_H
#define EMU_ML_H

#include "emu/config.h"
#include "emu/shared.h"
#include "gpumax/export.h"
#include "gpumax/nvml_abi.h"

struct nvmlDevice_st {
	int index;
};

struct ml {
	pthread_mutex_t lock;
	int starts;
	struct emu_config config;
	struct emu_shared *shared;
};
extern struct ml ml;

/* SUCCESS where NVML was started and the device is one, and works. */
nvmlReturn_t ml_device(nvmlDevice_t device);
nvmlReturn_t ml_started(void);

#define STARTED()                                                                                                      \
	do {                                                                                                           \
		nvmlReturn_t started_ = ml_started();                                                                  \
		if (started_ != NVML_SUCCESS)                                                                          \
			return started_;                                                                               \
	} while (0)
#define OF_DEVICE(device, condition)                                                                                   \
	do {                                                                                                           \
		nvmlReturn_t known_ = ml_device(device);                                                               \
		if (known_ != NVML_SUCCESS)                                                                            \
			return known_;                                                                                 \
		if (!(condition))                                                                                      \
			return NVML_ERROR_INVALID_ARGUMENT;                                                            \
	} while (0)

#endif
