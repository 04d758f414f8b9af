/* Whether devices work: for programs of NVML, and for whoever looks at a machine from outside, without being on it. */
#include "emu-ml/api.h"
#include "emu-ml/ml.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOLATILE = 0, AGGREGATE = 1, UNCORRECTED = 1 };

GPUMAX_EXPORT int gpumax_emu_health(const char *source, unsigned char *works);

GPUMAX_EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned int kind, unsigned int since,
						       unsigned long long *count)
{
	OF_DEVICE(device, count != NULL && kind <= UNCORRECTED && (since == VOLATILE || since == AGGREGATE));
	*count = kind == UNCORRECTED ? __atomic_load_n(&ml.shared->device[device->index].ecc, __ATOMIC_RELAXED) : 0;
	return NVML_SUCCESS;
}

static void look(const struct emu_shared *shared, int devices, unsigned char *works)
{
	if (shared->magic != emu_shared_magic)
		return;
	for (int i = 0; i < devices; i++)
		works[i] = __atomic_load_n(&shared->device[i].broken, __ATOMIC_RELAXED) == 0 &&
			   __atomic_load_n(&shared->device[i].ecc, __ATOMIC_RELAXED) == 0;
}

/* By device of the machine that GPUMAX_EMU of `source` would be; how many it has, -1: none can be read. No NVML is begun. */
int gpumax_emu_health(const char *source, unsigned char *works)
{
	struct emu_config config;
	struct stat status;
	char said[1024];
	void *at;
	int file;

	if (emu_config_read(source, &config, said, sizeof(said)) != 0)
		return -1;
	memset(works, 1, (size_t)config.devices); /* as is one on which nobody has been */
	file = open(config.shared, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (file < 0)
		return config.devices;
	if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == (off_t)sizeof(struct emu_shared)) {
		at = mmap(NULL, sizeof(struct emu_shared), PROT_READ, MAP_SHARED, file, 0);
		if (at != MAP_FAILED) {
			look(at, config.devices, works);
			munmap(at, sizeof(struct emu_shared));
		}
	}
	close(file);
	return config.devices;
}
