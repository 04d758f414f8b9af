/* What the environment says of a share, and the names by which programs open libraries. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "share/open.h"
#include "share/share.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const char gpumax_stands_for[] = "libcuda.so.1";

bool gpumax_stands_in(void)
{
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct share share;
	uint64_t bytes = 0;
	const char *name;

	memcpy(text, data, size);
	text[size] = '\0';
	if (share_parse_bytes(text, &bytes) && !bytes)
		abort();
	name = gpumax_dlopen_name(text);
	if (name != text && name != gpumax_stands_for)
		abort();
	setenv("GPUMAX_LIMIT", text, 1);
	setenv("GPUMAX_GROUP", text, 1);
	setenv("GPUMAX_LOG", "quiet", 1);
	share_from_environment(&share);
	if (share.bad && share.limit)
		abort();
	free(text);
	return 0;
}
