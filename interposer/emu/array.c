/* Arrays: memory with a shape. No textures are emulated, so copies are all that reach them. */
#include "emu/emu.h"

#include <string.h>

struct emu_array {
	CUDA_ARRAY3D_DESCRIPTOR shape;
	CUdeviceptr memory;
	size_t pitch, rows, bytes;
};

static size_t element_bytes(CUarray_format format, unsigned int channels)
{
	switch (format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return channels;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2u * channels;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4u * channels;
	default:
		return 0;
	}
}

bool emu_array(CUarray handle, uint64_t *at, size_t *pitch, size_t *rows)
{
	const struct emu_array *array = (const struct emu_array *)handle;

	if (!emu_is(EMU_ARRAY, array))
		return false;
	*at = array->memory;
	*pitch = array->pitch;
	*rows = array->rows;
	return true;
}

GPUMAX_EXPORT CUresult cuArray3DCreate_v2(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *shape)
{
	struct emu_array *array;
	size_t element;
	CUresult result;

	CALL_IN_CONTEXT(cuArray3DCreate_v2, context);
	(void)context;
	REFUSE_IF(handle == NULL || shape == NULL || shape->Width == 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(shape->NumChannels != 1 && shape->NumChannels != 2 && shape->NumChannels != 4, CUDA_ERROR_INVALID_VALUE);
	element = element_bytes(shape->Format, shape->NumChannels);
	REFUSE_IF(element == 0 || shape->Width > 1 << 20 || shape->Height > 1 << 20 || shape->Depth > 1 << 16, CUDA_ERROR_INVALID_VALUE);
	array = emu_new(EMU_ARRAY, sizeof(*array));
	REFUSE_IF(array == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	array->shape = *shape;
	array->pitch = emu_round(shape->Width * element, 512);
	array->rows = shape->Height != 0 ? shape->Height : 1;
	array->bytes = array->pitch * array->rows * (shape->Depth != 0 ? shape->Depth : 1);
	result = cuMemAlloc_v2(&array->memory, array->bytes);
	if (result != CUDA_SUCCESS) {
		emu_delete(EMU_ARRAY, array);
		return result;
	}
	*handle = (CUarray)array;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuArrayCreate_v2(CUarray *handle, const CUDA_ARRAY_DESCRIPTOR *shape)
{
	CUDA_ARRAY3D_DESCRIPTOR solid = {0};

	REFUSE_IF(shape == NULL, CUDA_ERROR_INVALID_VALUE);
	solid.Width = shape->Width;
	solid.Height = shape->Height;
	solid.Format = shape->Format;
	solid.NumChannels = shape->NumChannels;
	return cuArray3DCreate_v2(handle, &solid);
}

GPUMAX_EXPORT CUresult cuArrayDestroy(CUarray handle)
{
	CUresult result;

	CALL(cuArrayDestroy);
	REFUSE_IF(!emu_is(EMU_ARRAY, handle), CUDA_ERROR_INVALID_HANDLE);
	result = cuMemFree_v2(((struct emu_array *)handle)->memory);
	emu_delete(EMU_ARRAY, handle);
	return result;
}

GPUMAX_EXPORT CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *shape, CUarray handle)
{
	CALL(cuArray3DGetDescriptor_v2);
	REFUSE_IF(shape == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_ARRAY, handle), CUDA_ERROR_INVALID_HANDLE);
	*shape = ((struct emu_array *)handle)->shape;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *shape, CUarray handle)
{
	const struct emu_array *array = (const struct emu_array *)handle;

	CALL(cuArrayGetDescriptor_v2);
	REFUSE_IF(shape == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_ARRAY, handle), CUDA_ERROR_INVALID_HANDLE);
	*shape = (CUDA_ARRAY_DESCRIPTOR){array->shape.Width, array->shape.Height, array->shape.Format, array->shape.NumChannels};
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *needs, CUarray handle, CUdevice device)
{
	CALL(cuArrayGetMemoryRequirements);
	REFUSE_IF(needs == NULL || !emu_is(EMU_ARRAY, handle) || !emu_ordinal(device), CUDA_ERROR_INVALID_VALUE);
	memset(needs, 0, sizeof(*needs));
	needs->size = ((struct emu_array *)handle)->bytes;
	needs->alignment = 512;
	return CUDA_SUCCESS;
}

/* Arrays at several scales: one for each, half as large as the one before. */
struct emu_mipmap {
	unsigned int count;
	CUarray level[24];
};

GPUMAX_EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray *handle, const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned int levels)
{
	CUDA_ARRAY3D_DESCRIPTOR each;
	struct emu_mipmap *mipmap;
	CUresult result = CUDA_SUCCESS;

	CALL(cuMipmappedArrayCreate);
	REFUSE_IF(handle == NULL || shape == NULL || levels == 0 || levels > 24, CUDA_ERROR_INVALID_VALUE);
	mipmap = emu_new(EMU_MIPMAP, sizeof(*mipmap));
	REFUSE_IF(mipmap == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	each = *shape;
	for (; mipmap->count < levels && result == CUDA_SUCCESS; mipmap->count += result == CUDA_SUCCESS) {
		result = cuArray3DCreate_v2(&mipmap->level[mipmap->count], &each);
		each.Width = each.Width > 1 ? each.Width / 2 : 1;
		each.Height = each.Height > 1 ? each.Height / 2 : each.Height;
		each.Depth = each.Depth > 1 ? each.Depth / 2 : each.Depth;
	}
	*handle = (CUmipmappedArray)mipmap;
	if (result != CUDA_SUCCESS) {
		*handle = NULL;
		cuMipmappedArrayDestroy((CUmipmappedArray)mipmap);
	}
	return result;
}

GPUMAX_EXPORT CUresult cuMipmappedArrayGetLevel(CUarray *level, CUmipmappedArray handle, unsigned int number)
{
	const struct emu_mipmap *mipmap = (const struct emu_mipmap *)handle;

	CALL(cuMipmappedArrayGetLevel);
	REFUSE_IF(!emu_is(EMU_MIPMAP, mipmap), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(level == NULL || number >= mipmap->count, CUDA_ERROR_INVALID_VALUE);
	*level = mipmap->level[number];
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray handle)
{
	struct emu_mipmap *mipmap = (struct emu_mipmap *)handle;
	CUresult result = CUDA_SUCCESS;

	CALL(cuMipmappedArrayDestroy);
	REFUSE_IF(!emu_is(EMU_MIPMAP, mipmap), CUDA_ERROR_INVALID_HANDLE);
	for (unsigned int i = 0; i < mipmap->count && result == CUDA_SUCCESS; i++)
		result = cuArrayDestroy(mipmap->level[i]);
	emu_delete(EMU_MIPMAP, mipmap);
	return result;
}

GPUMAX_EXPORT CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *needs, CUmipmappedArray handle, CUdevice device)
{
	const struct emu_mipmap *mipmap = (const struct emu_mipmap *)handle;

	CALL(cuMipmappedArrayGetMemoryRequirements);
	REFUSE_IF(needs == NULL || !emu_is(EMU_MIPMAP, mipmap) || !emu_ordinal(device), CUDA_ERROR_INVALID_VALUE);
	memset(needs, 0, sizeof(*needs));
	needs->alignment = 512;
	for (unsigned int i = 0; i < mipmap->count; i++)
		needs->size += ((struct emu_array *)mipmap->level[i])->bytes;
	return CUDA_SUCCESS;
}
