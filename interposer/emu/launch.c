/* Functions: what they are, what they take, and their launches. */
#include "emu/module.h"

#include <string.h>

/* A kernel of a library is its function in whichever context. */
GPUMAX_EXPORT CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel)
{
	CALL(cuKernelGetFunction);
	REFUSE_IF(!emu_is(EMU_FUNCTION, kernel), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(function == NULL, CUDA_ERROR_INVALID_VALUE);
	*function = (CUfunction)(void *)kernel;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuFuncGetName(const char **name, CUfunction handle)
{
	CALL(cuFuncGetName);
	REFUSE_IF(!emu_is(EMU_FUNCTION, handle), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(name == NULL, CUDA_ERROR_INVALID_VALUE);
	*name = ((struct emu_function *)handle)->name;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuKernelGetName(const char **name, CUkernel handle)
{
	return cuFuncGetName(name, (CUfunction)(void *)handle);
}

GPUMAX_EXPORT CUresult cuFuncGetModule(CUmodule *module, CUfunction handle)
{
	CALL(cuFuncGetModule);
	REFUSE_IF(!emu_is(EMU_FUNCTION, handle), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(module == NULL, CUDA_ERROR_INVALID_VALUE);
	*module = (CUmodule)((struct emu_function *)handle)->module;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle)
{
	CALL(cuFuncGetAttribute);
	REFUSE_IF(!emu_is(EMU_FUNCTION, handle), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(value == NULL || (int)attribute < 0 || (int)attribute > 64, CUDA_ERROR_INVALID_VALUE);
	*value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
		 : attribute == CU_FUNC_ATTRIBUTE_NUM_REGS	      ? 32
		 : attribute == CU_FUNC_ATTRIBUTE_BINARY_VERSION      ? 80
								      : 0;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel handle, CUdevice device)
{
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	return cuFuncGetAttribute(value, attribute, (CUfunction)(void *)handle);
}

GPUMAX_EXPORT CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value)
{
	CALL(cuFuncSetAttribute);
	(void)attribute, (void)value;
	return emu_is(EMU_FUNCTION, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

GPUMAX_EXPORT CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config)
{
	CALL(cuFuncSetCacheConfig);
	(void)config;
	return emu_is(EMU_FUNCTION, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static size_t parameter_size(char kind)
{
	return kind == 'u' || kind == 'f' ? 4 : 8;
}

GPUMAX_EXPORT CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t *offset, size_t *size)
{
	const char *kinds;
	size_t at = 0;

	CALL(cuFuncGetParamInfo);
	REFUSE_IF(!emu_is(EMU_FUNCTION, handle), CUDA_ERROR_INVALID_HANDLE);
	kinds = ((struct emu_function *)handle)->kernel->parameters;
	REFUSE_IF(offset == NULL || index >= strlen(kinds), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < index; i++)
		at = emu_round(at, parameter_size(kinds[i])) + parameter_size(kinds[i]);
	*offset = emu_round(at, parameter_size(kinds[index]));
	if (size != NULL)
		*size = parameter_size(kinds[index]);
	return CUDA_SUCCESS;
}

static bool taken(const char *kinds, void **parameters, void **extra, struct emu_run *run)
{
	const unsigned char *packed = NULL;
	size_t room = SIZE_MAX, at = 0;

	for (void **each = extra; each != NULL && *each != CU_LAUNCH_PARAM_END; each += 2) {
		if (*each == CU_LAUNCH_PARAM_BUFFER_POINTER)
			packed = each[1];
		else if (*each == CU_LAUNCH_PARAM_BUFFER_SIZE)
			room = *(size_t *)each[1];
	}
	if (*kinds != '\0' && packed == NULL && parameters == NULL)
		return false;
	for (size_t i = 0; kinds[i] != '\0'; i++) {
		size_t size = parameter_size(kinds[i]);
		const void *from;

		at = emu_round(at, size);
		from = packed != NULL ? packed + at : parameters[i];
		at += size;
		if (from == NULL || at > room)
			return false;
		run->parameter.word[i] = 0;
		memcpy(&run->parameter.word[i], from, size);
	}
	return true;
}

static CUresult run_kernel(struct emu_context *context, struct emu_op *op)
{
	CUresult result;

	(void)context;
	pthread_rwlock_rdlock(&emu.space);
	result = op->run.kernel->body(&op->run);
	pthread_rwlock_unlock(&emu.space);
	return result;
}

CUresult emu_kernel_op(struct emu_context *context, CUfunction handle, const unsigned int *grid, const unsigned int *block,
		       void **parameters, void **extra, struct emu_op *op)
{
	const struct emu_function *function = (const struct emu_function *)handle;
	const struct emu_model *model = emu_model(context);
	double bytes = 0, operations = 0, ns = 0;

	REFUSE_IF(!emu_is(EMU_FUNCTION, function), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(parameters != NULL && extra != NULL, CUDA_ERROR_INVALID_VALUE);
	for (int i = 0; i < 3; i++) {
		REFUSE_IF(grid[i] == 0 || block[i] == 0 || block[i] > 1024, CUDA_ERROR_INVALID_VALUE);
		op->run.grid[i] = grid[i];
		op->run.block[i] = block[i];
	}
	REFUSE_IF((uint64_t)block[0] * block[1] * block[2] > 1024, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!taken(function->kernel->parameters, parameters, extra, &op->run), CUDA_ERROR_INVALID_VALUE);
	op->run.kernel = function->kernel;
	op->effect = run_kernel;
	op->engine = function->kernel->holds ? EMU_NO_ENGINE : EMU_COMPUTE;
	op->holds = function->kernel->holds;
	op->forever = function->kernel->forever;
	function->kernel->cost(&op->run, &bytes, &operations, &ns);
	bytes /= model->d2d;
	operations /= model->flops;
	op->duration = function->duration != 0 ? function->duration : (uint64_t)(bytes > operations ? bytes : operations) + (uint64_t)ns;
	if (function->duration == 0 && ns == 0)
		op->duration += model->latency_ns;
	return CUDA_SUCCESS;
}

static CUresult launched(struct emu_context *context, CUfunction function, const unsigned int *grid, const unsigned int *block,
			 CUstream handle, void **parameters, void **extra)
{
	struct emu_op op = {.engine = EMU_NO_ENGINE};
	struct emu_stream *stream;
	CUresult result;

	stream = emu_stream(context, handle, &result);
	REFUSE_IF(stream == NULL, result);
	result = emu_kernel_op(context, function, grid, block, parameters, extra, &op);
	return result != CUDA_SUCCESS ? result : emu_submit(stream, &op);
}

GPUMAX_EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
				      unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
				      CUstream stream, void **parameters, void **extra)
{
	unsigned int grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};

	CALL_IN_CONTEXT(cuLaunchKernel, context);
	REFUSE_IF(shared_bytes > 166912, CUDA_ERROR_INVALID_VALUE);
	return launched(context, function, grid, block, stream, parameters, extra);
}

GPUMAX_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **parameters, void **extra)
{
	CALL_IN_CONTEXT(cuLaunchKernelEx, context);
	REFUSE_IF(c == NULL || (c->numAttrs > 0 && c->attrs == NULL), CUDA_ERROR_INVALID_VALUE);
	{
		unsigned int grid[] = {c->gridDimX, c->gridDimY, c->gridDimZ}, block[] = {c->blockDimX, c->blockDimY, c->blockDimZ};

		return launched(context, function, grid, block, c->hStream, parameters, extra);
	}
}

GPUMAX_EXPORT CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
						 unsigned int block_x, unsigned int block_y, unsigned int block_z,
						 unsigned int shared_bytes, CUstream stream, void **parameters)
{
	unsigned int grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};

	CALL_IN_CONTEXT(cuLaunchCooperativeKernel, context);
	REFUSE_IF(shared_bytes > 166912, CUDA_ERROR_INVALID_VALUE);
	/* All blocks have to run at once. */
	REFUSE_IF((uint64_t)grid_x * grid_y * grid_z > (uint64_t)emu_model(context)->sms * 32, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
	return launched(context, function, grid, block, stream, parameters, NULL);
}

GPUMAX_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int block_size, size_t shared_bytes)
{
	CALL_IN_CONTEXT(cuOccupancyMaxActiveBlocksPerMultiprocessor, context);
	(void)context, (void)shared_bytes;
	REFUSE_IF(blocks == NULL || block_size <= 0 || block_size > 1024, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_FUNCTION, function), CUDA_ERROR_INVALID_HANDLE);
	*blocks = 2048 / block_size < 32 ? 2048 / block_size : 32;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, CUoccupancyB2DSize shared_bytes,
							size_t shared, int limit)
{
	CALL_IN_CONTEXT(cuOccupancyMaxPotentialBlockSize, context);
	(void)shared_bytes, (void)shared;
	REFUSE_IF(grid == NULL || block == NULL || limit < 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_FUNCTION, function), CUDA_ERROR_INVALID_HANDLE);
	*block = limit > 0 && limit < 1024 ? limit : 1024;
	*grid = emu_model(context)->sms * 2;
	return CUDA_SUCCESS;
}
