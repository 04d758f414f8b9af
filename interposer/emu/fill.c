/* Fills of 1, 2 and 4 bytes, in a line or in rows. */
#include "emu/emu.h"

#include <string.h>

static uint64_t extent(const struct emu_set *s)
{
	return (s->height - 1) * s->pitch + s->width * s->element;
}

static void fill(unsigned char *to, size_t count, uint32_t value, uint32_t element)
{
	if (value == 0) {
		emu_zero((uint64_t)(uintptr_t)to, count * element);
		return;
	}
	if (element == 1) {
		memset(to, (int)value, count);
		return;
	}
	for (size_t i = 0; i < count; i++)
		memcpy(to + i * element, &value, element);
}

static CUresult do_set(struct emu_context *context, struct emu_op *op)
{
	const struct emu_set *s = &op->set;
	CUresult result = CUDA_SUCCESS;

	(void)context;
	pthread_rwlock_rdlock(&emu.space);
	if (emu_reaches(s->to, extent(s), true))
		for (size_t y = 0; y < s->height; y++)
			fill((unsigned char *)(uintptr_t)(s->to + y * s->pitch), s->width, s->value, s->element);
	else
		result = CUDA_ERROR_ILLEGAL_ADDRESS;
	pthread_rwlock_unlock(&emu.space);
	return result;
}

CUresult emu_set_checked(struct emu_context *context, struct emu_set set, struct emu_op *op)
{
	const struct emu_model *model = emu_model(context);
	bool fine;

	REFUSE_IF(set.to % set.element != 0 || (set.element != 1 && set.element != 2 && set.element != 4), CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(set.width == 0 || set.height == 0, CUDA_ERROR_INVALID_VALUE);
	pthread_rwlock_rdlock(&emu.space);
	fine = emu_reaches(set.to, extent(&set), true);
	pthread_rwlock_unlock(&emu.space);
	REFUSE_IF(!fine, CUDA_ERROR_INVALID_VALUE);
	op->engine = EMU_COMPUTE;
	op->duration = model->latency_ns + (uint64_t)((double)set.width * (double)set.height * set.element / model->d2d);
	op->effect = do_set;
	op->set = set;
	return CUDA_SUCCESS;
}

static CUresult filled(struct emu_context *context, struct emu_set set, CUstream handle, bool wait)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	struct emu_stream *stream;
	CUresult result;

	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	if (set.width == 0 || set.height == 0)
		return CUDA_SUCCESS;
	result = emu_set_checked(context, set, &op);
	REFUSE_IF(result != CUDA_SUCCESS, result);
	return wait ? emu_submit_and_wait(stream, &op) : emu_submit(stream, &op);
}

#define FILL(bits, type)                                                                                                \
	GPUMAX_EXPORT CUresult cuMemsetD##bits##_v2(CUdeviceptr to, type value, size_t count)                          \
	{                                                                                                              \
		CALL_IN_CONTEXT(cuMemsetD##bits##_v2, context);                                                        \
		return filled(context, (struct emu_set){to, count, 1, 0, value, (bits) / 8}, NULL, true);                  \
	}                                                                                                              \
	GPUMAX_EXPORT CUresult cuMemsetD##bits##Async(CUdeviceptr to, type value, size_t count, CUstream stream)       \
	{                                                                                                              \
		CALL_IN_CONTEXT(cuMemsetD##bits##Async, context);                                                      \
		return filled(context, (struct emu_set){to, count, 1, 0, value, (bits) / 8}, stream, false);               \
	}                                                                                                              \
	GPUMAX_EXPORT CUresult cuMemsetD2D##bits##_v2(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height) \
	{                                                                                                              \
		CALL_IN_CONTEXT(cuMemsetD2D##bits##_v2, context);                                                      \
		return filled(context, (struct emu_set){to, width, height, pitch, value, (bits) / 8}, NULL, true);         \
	}                                                                                                              \
	GPUMAX_EXPORT CUresult cuMemsetD2D##bits##Async(CUdeviceptr to, size_t pitch, type value, size_t width,        \
							size_t height, CUstream stream)                                \
	{                                                                                                              \
		CALL_IN_CONTEXT(cuMemsetD2D##bits##Async, context);                                                    \
		return filled(context, (struct emu_set){to, width, height, pitch, value, (bits) / 8}, stream, false);      \
	}

FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned int)
