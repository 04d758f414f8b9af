/* Images of modules, as a program gives them to the emulated driver. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpumax/cuda_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t before;

static size_t free_bytes(void)
{
	size_t left = 0, total;

	if (cuMemGetInfo_v2(&left, &total) != CUDA_SUCCESS)
		abort();
	return left;
}

static void begin(void)
{
	CUcontext context;
	char said[256];

	snprintf(said, sizeof said, "{\"clock\": \"virtual\", \"log\": false, \"devices\": [{\"memory\": \"64Mi\", \"context\": 0}]}");
	setenv("GPUMAX_EMU", said, 1);
	if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context))
		abort();
	before = free_bytes();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CUmodule module = NULL;
	char *text;

	if (!before)
		begin();
	text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	if (cuModuleLoadData(&module, text) == CUDA_SUCCESS && cuModuleUnload(module) != CUDA_SUCCESS)
		abort();
	if (free_bytes() != before) /* of globals */
		abort();
	free(text);
	return 0;
}
