/* Copies and fills: linear, and in two and three dimensions. */
#include "emu/emu.h"


enum side { UNKNOWN, HOST, DEVICE };

static bool of_device(const struct emu_range *range)
{
	return range != NULL && range->kind != EMU_HOST && range->kind != EMU_REGISTERED;
}

static uint64_t extent(size_t width, size_t height, size_t depth, size_t pitch, size_t slice)
{
	return (depth - 1) * slice + (height - 1) * pitch + width;
}

static uint64_t to_extent(const struct emu_copy *c)
{
	return extent(c->width, c->height, c->depth, c->to_pitch, c->to_slice);
}

static uint64_t from_extent(const struct emu_copy *c)
{
	return extent(c->width, c->height, c->depth, c->from_pitch, c->from_slice);
}

/* With emu.space held: what is said to be of a device has to be, and to be reachable. */
static bool reached(const struct emu_copy *c)
{
	return (!c->to_device || emu_reaches(c->to, to_extent(c), true)) && (!c->from_device || emu_reaches(c->from, from_extent(c), false));
}

static CUresult do_copy(struct emu_context *context, struct emu_op *op)
{
	const struct emu_copy *c = &op->copy;
	CUresult result = CUDA_SUCCESS;

	(void)context;
	pthread_rwlock_rdlock(&emu.space);
	if (reached(c)) {
		for (size_t z = 0; z < c->depth; z++)
			for (size_t y = 0; y < c->height; y++)
				emu_move(c->to + z * c->to_slice + y * c->to_pitch, c->from + z * c->from_slice + y * c->from_pitch, c->width);
	} else {
		result = CUDA_ERROR_ILLEGAL_ADDRESS;
	}
	pthread_rwlock_unlock(&emu.space);
	return result;
}

CUresult emu_copy_checked(struct emu_context *context, struct emu_copy copy, struct emu_op *op, bool *pageable)
{
	const struct emu_model *model = emu_model(context);
	const struct emu_range *to, *from;
	double speed, bytes = (double)copy.width * (double)copy.height * (double)copy.depth;
	bool fine;

	pthread_rwlock_rdlock(&emu.space);
	to = emu_range_at(copy.to);
	from = emu_range_at(copy.from);
	copy.to_device |= of_device(to);
	copy.from_device |= of_device(from);
	*pageable = (!copy.to_device && to == NULL) || (!copy.from_device && from == NULL);
	fine = copy.to != 0 && copy.from != 0 && reached(&copy);
	pthread_rwlock_unlock(&emu.space);
	REFUSE_IF(!fine, CUDA_ERROR_INVALID_VALUE);
	op->engine = copy.to_device ? (copy.from_device ? EMU_COMPUTE : EMU_H2D) : copy.from_device ? EMU_D2H : EMU_NO_ENGINE;
	speed = op->engine == EMU_H2D ? model->h2d : op->engine == EMU_D2H ? model->d2h : model->d2d;
	if (*pageable && op->engine != EMU_NO_ENGINE)
		speed *= model->pageable;
	op->duration = model->latency_ns + (uint64_t)(bytes / speed * emu.shared->device[context->device].slower);
	op->effect = do_copy;
	op->copy = copy;
	return CUDA_SUCCESS;
}

/* A stream-ordered copy of memory that isn't pinned is done when the call comes back: the program may change it then. */
static CUresult copied(struct emu_context *context, struct emu_copy copy, CUstream handle, bool wait)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	struct emu_stream *stream;
	CUresult result;
	bool pageable;

	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	if (copy.width == 0 || copy.height == 0 || copy.depth == 0)
		return CUDA_SUCCESS;
	result = emu_copy_checked(context, copy, &op, &pageable);
	REFUSE_IF(result != CUDA_SUCCESS, result);
	return wait || (pageable && stream->capture == NULL) ? emu_submit_and_wait(stream, &op) : emu_submit(stream, &op);
}

static CUresult line(struct emu_context *context, uint64_t to, bool to_device, uint64_t from, bool from_device, size_t bytes,
		     CUstream stream, bool wait)
{
	return copied(context, (struct emu_copy){.to = to, .from = from, .width = bytes, .height = 1, .depth = 1,
						 .to_device = to_device, .from_device = from_device}, stream, wait);
}

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))

GPUMAX_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
	CALL_IN_CONTEXT(cuMemcpyHtoD_v2, context);
	return line(context, to, true, P(from), false, bytes, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
	CALL_IN_CONTEXT(cuMemcpyDtoH_v2, context);
	return line(context, P(to), false, from, true, bytes, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	CALL_IN_CONTEXT(cuMemcpyDtoD_v2, context);
	return line(context, to, true, from, true, bytes, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
	CALL_IN_CONTEXT(cuMemcpy, context);
	return line(context, to, false, from, false, bytes, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes)
{
	CALL_IN_CONTEXT(cuMemcpyPeer, context);
	REFUSE_IF(!emu_is(EMU_CONTEXT, to_context) || !emu_is(EMU_CONTEXT, from_context), CUDA_ERROR_INVALID_CONTEXT);
	return line(context, to, true, from, true, bytes, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpyHtoDAsync_v2, context);
	return line(context, to, true, P(from), false, bytes, stream, false);
}

GPUMAX_EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpyDtoHAsync_v2, context);
	return line(context, P(to), false, from, true, bytes, stream, false);
}

GPUMAX_EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpyDtoDAsync_v2, context);
	return line(context, to, true, from, true, bytes, stream, false);
}

GPUMAX_EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpyAsync, context);
	return line(context, to, false, from, false, bytes, stream, false);
}

GPUMAX_EXPORT CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
					 CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpyPeerAsync, context);
	REFUSE_IF(!emu_is(EMU_CONTEXT, to_context) || !emu_is(EMU_CONTEXT, from_context), CUDA_ERROR_INVALID_CONTEXT);
	return line(context, to, true, from, true, bytes, stream, false);
}

/* One side of a copy in two or three dimensions; arrays are memory with rows of their own width. */
struct corner {
	CUmemorytype type;
	const void *host;
	CUdeviceptr device;
	CUarray array;
	size_t x, y, z, pitch, height;
};

static bool resolved(const struct corner *c, size_t width, size_t height, uint64_t *at, size_t *pitch, size_t *slice, bool *of_a_device)
{
	size_t rows = c->height != 0 ? c->height : height;

	*pitch = c->pitch != 0 ? c->pitch : width;
	*of_a_device = c->type == CU_MEMORYTYPE_DEVICE;
	if (c->type == CU_MEMORYTYPE_HOST)
		*at = P(c->host);
	else if (c->type == CU_MEMORYTYPE_DEVICE || c->type == CU_MEMORYTYPE_UNIFIED)
		*at = c->device;
	else if (c->type != CU_MEMORYTYPE_ARRAY || !emu_array(c->array, at, pitch, &rows))
		return false;
	*of_a_device |= c->type == CU_MEMORYTYPE_ARRAY;
	*slice = *pitch * rows;
	*at += c->z * *slice + c->y * *pitch + c->x;
	return *pitch >= c->x + width;
}

static bool cuboid(const struct corner *to, const struct corner *from, size_t width, size_t height, size_t depth, struct emu_copy *copy)
{
	*copy = (struct emu_copy){.width = width, .height = height, .depth = depth};
	return resolved(to, width, height, &copy->to, &copy->to_pitch, &copy->to_slice, &copy->to_device) &&
	       resolved(from, width, height, &copy->from, &copy->from_pitch, &copy->from_slice, &copy->from_device);
}

static CUresult flat(struct emu_context *context, const CUDA_MEMCPY2D *c, CUstream stream, bool wait)
{
	struct corner to = {c->dstMemoryType, c->dstHost, c->dstDevice, c->dstArray, c->dstXInBytes, c->dstY, 0, c->dstPitch, 0};
	struct corner from = {c->srcMemoryType, c->srcHost, c->srcDevice, c->srcArray, c->srcXInBytes, c->srcY, 0, c->srcPitch, 0};
	struct emu_copy copy;

	REFUSE_IF(!cuboid(&to, &from, c->WidthInBytes, c->Height, 1, &copy), CUDA_ERROR_INVALID_VALUE);
	return copied(context, copy, stream, wait);
}

static bool solid_copy(const CUDA_MEMCPY3D *c, struct emu_copy *copy)
{
	struct corner to = {c->dstMemoryType, c->dstHost, c->dstDevice, c->dstArray, c->dstXInBytes, c->dstY, c->dstZ, c->dstPitch, c->dstHeight};
	struct corner from = {c->srcMemoryType, c->srcHost, c->srcDevice, c->srcArray, c->srcXInBytes, c->srcY, c->srcZ, c->srcPitch, c->srcHeight};

	return cuboid(&to, &from, c->WidthInBytes, c->Height, c->Depth, copy);
}

static CUresult solid(struct emu_context *context, const CUDA_MEMCPY3D *c, CUstream stream, bool wait)
{
	struct emu_copy copy;

	REFUSE_IF(!solid_copy(c, &copy), CUDA_ERROR_INVALID_VALUE);
	return copied(context, copy, stream, wait);
}

CUresult emu_solid_op(struct emu_context *context, const CUDA_MEMCPY3D *c, struct emu_op *op)
{
	struct emu_copy copy;
	bool pageable;

	REFUSE_IF(!solid_copy(c, &copy) || copy.width == 0 || copy.height == 0 || copy.depth == 0, CUDA_ERROR_INVALID_VALUE);
	return emu_copy_checked(context, copy, op, &pageable);
}

GPUMAX_EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy)
{
	CALL_IN_CONTEXT(cuMemcpy2D_v2, context);
	REFUSE_IF(copy == NULL, CUDA_ERROR_INVALID_VALUE);
	return flat(context, copy, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy)
{
	return cuMemcpy2D_v2(copy);
}

GPUMAX_EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpy2DAsync_v2, context);
	REFUSE_IF(copy == NULL, CUDA_ERROR_INVALID_VALUE);
	return flat(context, copy, stream, false);
}

GPUMAX_EXPORT CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *copy)
{
	CALL_IN_CONTEXT(cuMemcpy3D_v2, context);
	REFUSE_IF(copy == NULL, CUDA_ERROR_INVALID_VALUE);
	return solid(context, copy, NULL, true);
}

GPUMAX_EXPORT CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *copy, CUstream stream)
{
	CALL_IN_CONTEXT(cuMemcpy3DAsync_v2, context);
	REFUSE_IF(copy == NULL, CUDA_ERROR_INVALID_VALUE);
	return solid(context, copy, stream, false);
}
