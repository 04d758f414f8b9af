/*
 * Modules and libraries. An image for the emulated driver is a text:
 *
 *     gpumax-emu
 *     kernel axpy
 *     kernel step as spin us 10
 *     global table 4096
 *
 * A kernel is one of kernels.c, under its own name or another, and takes the time that follows from what it does, or as
 * many microseconds as are said. An image without kernels has all of them. Code for a GPU is refused: none runs here.
 */
#include "emu/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static CUresult function_add(struct emu_module *module, const char *name, const struct emu_kernel *kernel, uint64_t duration)
{
	struct emu_function *function, **last = &module->functions;

	REFUSE_IF(strlen(name) >= EMU_NAME, CUDA_ERROR_INVALID_IMAGE);
	function = emu_new(EMU_FUNCTION, sizeof(*function));
	REFUSE_IF(function == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	memcpy(function->name, name, strlen(name) + 1);
	function->kernel = kernel;
	function->module = module;
	function->duration = duration;
	while (*last != NULL)
		last = &(*last)->next;
	*last = function;
	module->count++;
	return CUDA_SUCCESS;
}

static CUresult kernel_line(struct emu_module *module, const char *text)
{
	char name[EMU_NAME], other[EMU_NAME] = "";
	const struct emu_kernel *kernel;
	double microseconds = -1;
	int end = 0;

	if (sscanf(text, "kernel %63s%n", name, &end) != 1)
		return CUDA_ERROR_INVALID_IMAGE;
	text += end;
	if (sscanf(text, " as %63s%n", other, &end) == 1)
		text += end;
	end = 0;
	if (sscanf(text, " us %lf%n", &microseconds, &end) == 1)
		text += end;
	if (*text != '\0' || microseconds > 1e9)
		return CUDA_ERROR_INVALID_IMAGE;
	kernel = emu_kernel_named(other[0] != '\0' ? other : name, strlen(other[0] != '\0' ? other : name));
	if (kernel == NULL) {
		emu_say("image: no kernel %s here", other[0] != '\0' ? other : name);
		return CUDA_ERROR_INVALID_IMAGE;
	}
	return function_add(module, name, kernel, microseconds > 0 ? (uint64_t)(microseconds * 1000) : 0);
}

static CUresult global_line(struct emu_module *module, const char *text)
{
	struct emu_global *global = calloc(1, sizeof(*global));
	CUresult result = CUDA_ERROR_INVALID_IMAGE;

	REFUSE_IF(global == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	if (sscanf(text, "global %63s %zu", global->name, &global->size) == 2)
		result = cuMemAlloc_v2(&global->memory, global->size);
	if (result == CUDA_SUCCESS)
		result = cuMemsetD8_v2(global->memory, 0, global->size);
	if (result != CUDA_SUCCESS) {
		free(global);
		return result;
	}
	global->next = module->globals;
	module->globals = global;
	return CUDA_SUCCESS;
}

static CUresult one_line(struct emu_module *module, const char *text)
{
	if (strncmp(text, "kernel ", 7) == 0)
		return kernel_line(module, text);
	if (strncmp(text, "global ", 7) == 0)
		return global_line(module, text);
	return *text == '\0' || *text == '#' ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

static CUresult lines(struct emu_module *module, const char *text)
{
	CUresult result = CUDA_SUCCESS;

	while (*text != '\0' && result == CUDA_SUCCESS) {
		size_t length = strcspn(text, "\n");
		char line[256];

		REFUSE_IF(length >= sizeof(line), CUDA_ERROR_INVALID_IMAGE);
		memcpy(line, text, length);
		line[length] = '\0';
		result = one_line(module, line);
		text += length + (text[length] == '\n');
	}
	for (int i = 0; module->count == 0 && result == CUDA_SUCCESS && emu_kernel_number(i) != NULL; i++) {
		result = function_add(module, emu_kernel_number(i)->name, emu_kernel_number(i), 0);
		if (result == CUDA_SUCCESS)
			module->count--; /* all of them */
	}
	for (const struct emu_function *each = module->functions; module->count == 0 && each != NULL; each = each->next)
		module->count--;
	if (module->count < 0)
		module->count = -module->count;
	return result;
}

static void unloaded(struct emu_module *module)
{
	while (module->functions != NULL) {
		struct emu_function *next = module->functions->next;

		emu_delete(EMU_FUNCTION, module->functions);
		module->functions = next;
	}
	while (module->globals != NULL) {
		struct emu_global *next = module->globals->next;

		cuMemFree_v2(module->globals->memory);
		free(module->globals);
		module->globals = next;
	}
	emu_delete(module->library ? EMU_LIBRARY : EMU_MODULE, module);
}

static CUresult loaded(const void *image, bool library, struct emu_module **made)
{
	static const char head[] = "gpumax-emu\n";
	struct emu_module *module;
	CUresult result;

	REFUSE_IF(image == NULL, CUDA_ERROR_INVALID_VALUE);
	if (strncmp(image, head, strlen(head)) != 0) {
		static bool told;

		if (!told)
			emu_say("code for a GPU can't run here; an image has to begin with the line gpumax-emu");
		told = true;
		return strncmp(image, "\177ELF", 4) == 0 ? CUDA_ERROR_NO_BINARY_FOR_GPU : CUDA_ERROR_INVALID_IMAGE;
	}
	module = emu_new(library ? EMU_LIBRARY : EMU_MODULE, sizeof(*module));
	REFUSE_IF(module == NULL, CUDA_ERROR_OUT_OF_MEMORY);
	module->library = library;
	result = lines(module, (const char *)image + strlen(head));
	if (result != CUDA_SUCCESS)
		unloaded(module);
	else
		*made = module;
	return result;
}

static char *content(const char *path)
{
	FILE *file = path != NULL ? fopen(path, "re") : NULL;
	char *text = NULL;
	size_t got;

	if (file == NULL)
		return NULL;
	text = calloc(1, 1 << 16);
	got = text != NULL ? fread(text, 1, (1 << 16) - 1, file) : 0;
	(void)got;
	fclose(file);
	return text;
}

GPUMAX_EXPORT CUresult cuModuleLoadData(CUmodule *handle, const void *image)
{
	struct emu_module *module = NULL;
	CUresult result;

	CALL_IN_CONTEXT(cuModuleLoadData, context);
	(void)context;
	REFUSE_IF(handle == NULL, CUDA_ERROR_INVALID_VALUE);
	result = loaded(image, false, &module);
	*handle = (CUmodule)module;
	return result;
}

GPUMAX_EXPORT CUresult cuModuleLoadDataEx(CUmodule *handle, const void *image, unsigned int count, CUjit_option *options, void **values)
{
	REFUSE_IF(count > 0 && (options == NULL || values == NULL), CUDA_ERROR_INVALID_VALUE);
	return cuModuleLoadData(handle, image);
}

GPUMAX_EXPORT CUresult cuModuleLoadFatBinary(CUmodule *handle, const void *image)
{
	return cuModuleLoadData(handle, image);
}

GPUMAX_EXPORT CUresult cuModuleLoad(CUmodule *handle, const char *path)
{
	char *text = content(path);
	CUresult result;

	REFUSE_IF(text == NULL, CUDA_ERROR_FILE_NOT_FOUND);
	result = cuModuleLoadData(handle, text);
	free(text);
	return result;
}

GPUMAX_EXPORT CUresult cuModuleUnload(CUmodule handle)
{
	CALL(cuModuleUnload);
	REFUSE_IF(!emu_is(EMU_MODULE, handle), CUDA_ERROR_INVALID_HANDLE);
	unloaded((struct emu_module *)handle);
	return CUDA_SUCCESS;
}

static CUresult function_named(struct emu_module *module, const char *name, struct emu_function **out)
{
	REFUSE_IF(name == NULL || out == NULL, CUDA_ERROR_INVALID_VALUE);
	for (struct emu_function *each = module->functions; each != NULL; each = each->next)
		if (strcmp(each->name, name) == 0) {
			*out = each;
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_NOT_FOUND;
}

static CUresult global_named(struct emu_module *module, const char *name, CUdeviceptr *pointer, size_t *size)
{
	REFUSE_IF(name == NULL, CUDA_ERROR_INVALID_VALUE);
	for (struct emu_global *each = module->globals; each != NULL; each = each->next)
		if (strcmp(each->name, name) == 0) {
			if (pointer != NULL)
				*pointer = each->memory;
			if (size != NULL)
				*size = each->size;
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_NOT_FOUND;
}

GPUMAX_EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name)
{
	CALL(cuModuleGetFunction);
	REFUSE_IF(!emu_is(EMU_MODULE, handle), CUDA_ERROR_INVALID_HANDLE);
	return function_named((struct emu_module *)handle, name, (struct emu_function **)function);
}

GPUMAX_EXPORT CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule handle)
{
	CALL(cuModuleGetFunctionCount);
	REFUSE_IF(!emu_is(EMU_MODULE, handle), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(count == NULL, CUDA_ERROR_INVALID_VALUE);
	*count = (unsigned int)((struct emu_module *)handle)->count;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr *pointer, size_t *size, CUmodule handle, const char *name)
{
	CALL(cuModuleGetGlobal_v2);
	REFUSE_IF(!emu_is(EMU_MODULE, handle), CUDA_ERROR_INVALID_HANDLE);
	return global_named((struct emu_module *)handle, name, pointer, size);
}

GPUMAX_EXPORT CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
	CALL(cuModuleGetLoadingMode);
	REFUSE_IF(mode == NULL, CUDA_ERROR_INVALID_VALUE);
	*mode = CU_MODULE_LAZY_LOADING;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuLibraryLoadData(CUlibrary *handle, const void *image, CUjit_option *options, void **values, unsigned int count,
					 CUlibraryOption *library_options, void **library_values, unsigned int library_count)
{
	struct emu_module *module = NULL;
	CUresult result;

	CALL_IN_CONTEXT(cuLibraryLoadData, context);
	(void)context;
	REFUSE_IF(handle == NULL || (count > 0 && (options == NULL || values == NULL)), CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(library_count > 0 && (library_options == NULL || library_values == NULL), CUDA_ERROR_INVALID_VALUE);
	result = loaded(image, true, &module);
	*handle = (CUlibrary)module;
	return result;
}

GPUMAX_EXPORT CUresult cuLibraryUnload(CUlibrary handle)
{
	CALL(cuLibraryUnload);
	REFUSE_IF(!emu_is(EMU_LIBRARY, handle), CUDA_ERROR_INVALID_HANDLE);
	unloaded((struct emu_module *)handle);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary handle, const char *name)
{
	CALL(cuLibraryGetKernel);
	REFUSE_IF(!emu_is(EMU_LIBRARY, handle), CUDA_ERROR_INVALID_HANDLE);
	return function_named((struct emu_module *)handle, name, (struct emu_function **)kernel);
}

GPUMAX_EXPORT CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary handle)
{
	CALL(cuLibraryGetKernelCount);
	REFUSE_IF(!emu_is(EMU_LIBRARY, handle), CUDA_ERROR_INVALID_HANDLE);
	REFUSE_IF(count == NULL, CUDA_ERROR_INVALID_VALUE);
	*count = (unsigned int)((struct emu_module *)handle)->count;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr *pointer, size_t *size, CUlibrary handle, const char *name)
{
	CALL(cuLibraryGetGlobal);
	REFUSE_IF(!emu_is(EMU_LIBRARY, handle), CUDA_ERROR_INVALID_HANDLE);
	return global_named((struct emu_module *)handle, name, pointer, size);
}
