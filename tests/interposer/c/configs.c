/* The reader of configurations on what nobody would write: it answers, and touches nothing that isn't its own. */
#include "common/json.h"
#include "emu/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const seeds[] = {
    "{\"devices\": [{\"model\": \"A100-40GB\", \"count\": 3}, {\"memory\": \"1.5Gi\", \"cc\": \"8.6\", \"sms\": 4}], \"clock\": \"virtual\"}",
    "{\"faults\": [{\"call\": \"cuMemAlloc_v2\", \"nth\": 3, \"result\": \"CUDA_ERROR_OUT_OF_MEMORY\", \"sticky\": true}], \"driver\": \"12.4\"}",
    "{\"a\": [1, -2.5e-3, true, false, null, \"\\u00e9\\n\\\"\", [[[{}]]]], \"shared\": \"/x\", \"log\": false}",
    "{\"devices\": [{\"uuid\": \"GPU-01234567-89ab-cdef-0123-456789abcdef\", \"granularity\": 4096, \"h2d\": 1e3}]}",
};

static uint64_t state = 88172645463325252u;

static uint64_t chance(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void changed(char *text)
{
	static const char likely[] = "{}[]\",:\\u0123456789eE+-.tfn \n/GMK";
	size_t length = strlen(text), at;

	for (uint64_t times = chance(6); times > 0 && length > 1; times--) {
		at = chance(length);
		switch (chance(4)) {
		case 0:
			text[at] = likely[chance(sizeof(likely) - 1)];
			break;
		case 1:
			text[at] = (char)(1 + chance(255));
			break;
		case 2:
			memmove(text + at, text + at + 1, length - at);
			length--;
			break;
		default:
			text[at] = '\0';
			length = at;
		}
	}
}

int main(void)
{
	static struct emu_config config;
	int fine = 0;

	for (int i = 0; i < 100000; i++) {
		const char *seed = seeds[chance(sizeof(seeds) / sizeof(seeds[0]))];
		size_t room = 1 + chance(300);
		char *text = strdup(seed), *said = malloc(room), *exact;

		changed(text);
		exact = strdup(text); /* no byte more than needed: reading on is found */
		if (*exact == '{' && emu_config_read(exact, &config, said, room) == 0)
			fine++;
		if (config.devices < 0 || config.devices > EMU_DEVICES || config.faults > EMU_FAULTS)
			abort();
		free(exact);
		free(said);
		free(text);
	}
	printf("%s\n", fine > 1000 ? "fine" : "too few were read");
	return 0;
}
