/* The emulator's configuration, as GPUMAX_EMU has it: JSON that anybody may write. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "emu/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct emu_config config;
	size_t room = size ? 1 + data[0] * 2u : 1;
	char *text, *said;

	if (size < 2 || data[1] != '{') /* otherwise it names a file */
		return -1;
	text = malloc(size);
	said = malloc(room);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	memset(&config, 0xff, sizeof config);
	if (emu_config_read(text, &config, said, room) == 0) {
		if (config.devices < 0 || config.devices > EMU_DEVICES || config.faults < 0 || config.faults > EMU_FAULTS)
			abort();
	} else if (!memchr(said, '\0', room)) {
		abort();
	}
	free(said);
	free(text);
	return 0;
}
