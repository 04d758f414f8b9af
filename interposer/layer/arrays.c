/* Arrays and mipmapped arrays: a guess is charged before they are made, what the driver says they take afterwards. */
#include "api.h"
#include "layer.h"

#define SPARSE 0x40        /* has no memory of its own until some is mapped */
#define DEFERRED 0x80

static uint64_t element_size(CUarray_format format)
{
	switch ((unsigned)format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return 1;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4;
	default:
		return 1; /* compressed: the driver's answer corrects it */
	}
}

static uint64_t times(uint64_t size, uint64_t count)
{
	uint64_t product;

	return __builtin_mul_overflow(size, count ? count : 1, &product) ? UINT64_MAX : product;
}

static uint64_t guess(const CUDA_ARRAY3D_DESCRIPTOR *wish, unsigned int levels)
{
	uint64_t width = wish->Width, height = wish->Height, depth = wish->Depth, sum = 0;

	if (wish->Flags & (SPARSE | DEFERRED))
		return 0;
	for (; levels; levels--) {
		uint64_t level = times(element_size(wish->Format), wish->NumChannels);

		level = times(times(times(level, width), height), depth);
		if (__builtin_add_overflow(sum, level, &sum))
			return UINT64_MAX;
		if (width <= 1 && height <= 1 && depth <= 1)
			break;
		width /= 2;
		height /= 2;
		depth /= 2;
	}
	return sum;
}

static void enter(void *array, uint64_t charged, uint32_t device)
{
	struct block block = {.base = (uint64_t)(uintptr_t)array, .size = 1, .charged = charged, .device = device,
			      .kind = ARRAY, .context = context_current()};

	if (!index_add(&arrays, &block))
		count(&counters.unaccounted);
}

/* False: with what the driver says it takes, the array is beyond the limit. */
static bool settle(uint64_t *charged, const CUDA_ARRAY_MEMORY_REQUIREMENTS *said, uint32_t device)
{
	uint64_t more = 0;

	if (said->size > *charged && !charge(device, said->size - *charged, &more))
		return false;
	*charged += more;
	if (said->size && said->size < *charged) {
		discharge(device, *charged - said->size);
		*charged = said->size;
	}
	return true;
}

static CUresult keep_array(CUarray array, uint64_t charged, uint32_t device)
{
	CUDA_ARRAY_MEMORY_REQUIREMENTS said = {0};

	if (charged && REAL(cuArrayGetMemoryRequirements)(&said, array, device_ordinal(device)) == CUDA_SUCCESS &&
	    !settle(&charged, &said, device)) {
		REAL(cuArrayDestroy)(array);
		discharge(device, charged);
		return refuse();
	}
	enter(array, charged, device);
	return CUDA_SUCCESS;
}

typedef CUresult (*create_array)(CUarray *, const void *);

static CUresult make(CUarray *array, const void *wish, const CUDA_ARRAY3D_DESCRIPTOR *shape, create_array real)
{
	uint64_t charged;
	uint32_t device;
	CUresult result;

	if (idle() || !array || !wish || !device_current(&device))
		return real(array, wish);
	if (!charge(device, guess(shape, 1), &charged))
		return refuse();
	result = real(array, wish);
	if (result == CUDA_SUCCESS)
		return keep_array(*array, charged, device);
	discharge(device, charged);
	return result;
}

/* As they were when a size had 32 bits. */
struct narrow_2d {
	unsigned int width, height;
	CUarray_format format;
	unsigned int channels;
};

struct narrow_3d {
	unsigned int width, height, depth;
	CUarray_format format;
	unsigned int channels, flags;
};

static CUresult real_2d(CUarray *array, const void *wish)
{
	return REAL(cuArrayCreate_v2)(array, wish);
}

static CUresult real_3d(CUarray *array, const void *wish)
{
	return REAL(cuArray3DCreate_v2)(array, wish);
}

static CUresult real_narrow_2d(CUarray *array, const void *wish)
{
	return REAL(cuArrayCreate)(array, wish);
}

static CUresult real_narrow_3d(CUarray *array, const void *wish)
{
	return REAL(cuArray3DCreate)(array, wish);
}

EXPORT CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *wish)
{
	CUDA_ARRAY3D_DESCRIPTOR shape = {0};

	if (wish)
		shape = (CUDA_ARRAY3D_DESCRIPTOR){wish->Width, wish->Height, 0, wish->Format, wish->NumChannels, 0};
	return make(array, wish, &shape, real_2d);
}

EXPORT CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *wish)
{
	return make(array, wish, wish, real_3d);
}

EXPORT CUresult cuArrayCreate(CUarray *array, const void *wish)
{
	const struct narrow_2d *narrow = wish;
	CUDA_ARRAY3D_DESCRIPTOR shape = {0};

	if (narrow)
		shape = (CUDA_ARRAY3D_DESCRIPTOR){narrow->width, narrow->height, 0, narrow->format, narrow->channels, 0};
	return make(array, wish, &shape, real_narrow_2d);
}

EXPORT CUresult cuArray3DCreate(CUarray *array, const void *wish)
{
	const struct narrow_3d *narrow = wish;
	CUDA_ARRAY3D_DESCRIPTOR shape = {0};

	if (narrow)
		shape = (CUDA_ARRAY3D_DESCRIPTOR){narrow->width, narrow->height, narrow->depth, narrow->format,
						  narrow->channels, narrow->flags};
	return make(array, wish, &shape, real_narrow_3d);
}

static CUresult keep_mipmap(CUmipmappedArray array, uint64_t charged, uint32_t device)
{
	CUDA_ARRAY_MEMORY_REQUIREMENTS said = {0};

	if (charged && REAL(cuMipmappedArrayGetMemoryRequirements)(&said, array, device_ordinal(device)) == CUDA_SUCCESS &&
	    !settle(&charged, &said, device)) {
		REAL(cuMipmappedArrayDestroy)(array);
		discharge(device, charged);
		return refuse();
	}
	enter(array, charged, device);
	return CUDA_SUCCESS;
}

EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *wish, unsigned int levels)
{
	uint64_t charged;
	uint32_t device;
	CUresult result;

	if (idle() || !array || !wish || !device_current(&device))
		return REAL(cuMipmappedArrayCreate)(array, wish, levels);
	if (!charge(device, guess(wish, levels), &charged))
		return refuse();
	result = REAL(cuMipmappedArrayCreate)(array, wish, levels);
	if (result == CUDA_SUCCESS)
		return keep_mipmap(*array, charged, device);
	discharge(device, charged);
	return result;
}

static bool take(void *array, struct block *block)
{
	return !idle() && index_take(&arrays, (uint64_t)(uintptr_t)array, block);
}

static CUresult taken(CUresult result, const struct block *block)
{
	if (result == CUDA_SUCCESS)
		discharge(block->device, block->charged);
	else
		index_add(&arrays, block);
	return result;
}

EXPORT CUresult cuArrayDestroy(CUarray array)
{
	struct block block;

	return take(array, &block) ? taken(REAL(cuArrayDestroy)(array), &block) : REAL(cuArrayDestroy)(array);
}

EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
	struct block block;

	return take(array, &block) ? taken(REAL(cuMipmappedArrayDestroy)(array), &block)
				   : REAL(cuMipmappedArrayDestroy)(array);
}
