/* Contexts: the primary one of each device, others, and each thread's stack of them. */
#include "emu/emu.h"

#include <stdlib.h>
#include <string.h>

enum { DEEP = 64 };

static struct emu_context *contexts;
static struct emu_context *primary[EMU_DEVICES];
static unsigned int primary_flags[EMU_DEVICES];
static int alive_on[EMU_DEVICES];
static uint64_t ids;
static _Thread_local struct emu_context *stack[DEEP];
static _Thread_local int depth;

struct emu_context *emu_contexts(void)
{
	return contexts;
}

struct emu_context *emu_current(void)
{
	return depth > 0 ? stack[depth - 1] : NULL;
}

CUresult emu_usable(const struct emu_context *context)
{
	int32_t broken;

	if (context == NULL)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!emu_is(EMU_CONTEXT, context))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	broken = __atomic_load_n(&emu.shared->device[context->device].broken, __ATOMIC_RELAXED);
	return broken != 0 ? (CUresult)broken : __atomic_load_n(&context->broken, __ATOMIC_RELAXED);
}

const struct emu_model *emu_model(const struct emu_context *context)
{
	return &emu.config.device[context->device];
}

static CUresult opened(int ordinal, unsigned int flags, bool is_primary, struct emu_context **made)
{
	int device = emu.visible[ordinal];
	struct emu_context *context;

	/* The first context of a process takes its part of the device's memory. */
	if (alive_on[device] == 0 && !emu_charge(device, emu.config.device[device].context_bytes))
		return CUDA_ERROR_OUT_OF_MEMORY;
	context = emu_new(EMU_CONTEXT, sizeof(*context));
	if (context == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	alive_on[device]++;
	context->ordinal = ordinal;
	context->device = device;
	context->flags = flags;
	context->primary = is_primary;
	context->version = 13000;
	context->id = ++ids;
	context->limits[CU_LIMIT_STACK_SIZE] = 1024;
	context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
	context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
	context->legacy = emu_stream_new(context, 0, 0);
	context->next = contexts;
	contexts = context;
	*made = context;
	return CUDA_SUCCESS;
}

static void drop_memory(struct emu_context *context)
{
	static const enum emu_range_kind kinds[] = {EMU_PLAIN, EMU_HOST, EMU_REGISTERED, EMU_MANAGED, EMU_IPC, EMU_POOLED, EMU_GRAPHED};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (;;) {
			struct emu_range *range;
			uint64_t base;

			pthread_rwlock_rdlock(&emu.space);
			range = emu_range_of(context, kinds[i]);
			base = range != NULL ? range->base : 0;
			pthread_rwlock_unlock(&emu.space);
			if (range == NULL || emu_free_range(base) != CUDA_SUCCESS)
				break;
		}
}

static void closed(struct emu_context *context)
{
	struct emu_context **at = &contexts;

	while (context->streams != NULL)
		emu_stream_end(context->streams);
	emu_pools_drop(context);
	drop_memory(context);
	while (*at != context)
		at = &(*at)->next;
	*at = context->next;
	if (--alive_on[context->device] == 0)
		emu_uncharge(context->device, emu.config.device[context->device].context_bytes);
	emu_delete(EMU_CONTEXT, context);
}

static CUresult push(struct emu_context *context)
{
	if (depth == DEEP)
		return CUDA_ERROR_OUT_OF_MEMORY;
	stack[depth++] = context;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	struct emu_context *made = NULL;
	CUresult result;

	CALL(cuCtxCreate_v2);
	REFUSE_IF(context == NULL || (flags & ~(unsigned)CU_CTX_FLAGS_MASK) != 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	pthread_mutex_lock(&emu.lock);
	result = opened(device, flags, false, &made);
	pthread_mutex_unlock(&emu.lock);
	if (result == CUDA_SUCCESS)
		result = push(made);
	*context = (CUcontext)made;
	return result;
}

GPUMAX_EXPORT CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *affinity, int count, unsigned int flags,
				      CUdevice device)
{
	REFUSE_IF(count < 0 || (count > 0 && affinity == NULL), CUDA_ERROR_INVALID_VALUE);
	return cuCtxCreate_v2(context, flags, device);
}

GPUMAX_EXPORT CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *parameters, unsigned int flags, CUdevice device)
{
	(void)parameters; /* may be NULL; partitions of multiprocessors aren't emulated */
	return cuCtxCreate_v2(context, flags, device);
}

GPUMAX_EXPORT CUresult cuCtxDestroy_v2(CUcontext handle)
{
	struct emu_context *context = (struct emu_context *)handle;

	CALL(cuCtxDestroy_v2);
	REFUSE_IF(!emu_is(EMU_CONTEXT, context) || context->primary, CUDA_ERROR_INVALID_CONTEXT);
	if (depth > 0 && stack[depth - 1] == context)
		depth--;
	pthread_mutex_lock(&emu.lock);
	closed(context);
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	struct emu_context **held;
	CUresult result = CUDA_SUCCESS;

	CALL(cuDevicePrimaryCtxRetain);
	REFUSE_IF(context == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	held = &primary[device];
	pthread_mutex_lock(&emu.lock);
	if (*held == NULL)
		result = opened(device, primary_flags[device], true, held);
	if (result == CUDA_SUCCESS) {
		(*held)->retained++;
		*context = (CUcontext)*held;
	}
	pthread_mutex_unlock(&emu.lock);
	return result;
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	CUresult result = CUDA_SUCCESS;

	CALL(cuDevicePrimaryCtxRelease_v2);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	pthread_mutex_lock(&emu.lock);
	if (primary[device] == NULL) {
		result = CUDA_ERROR_INVALID_CONTEXT;
	} else if (--primary[device]->retained == 0) {
		closed(primary[device]);
		primary[device] = NULL;
	}
	pthread_mutex_unlock(&emu.lock);
	return result;
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	CALL(cuDevicePrimaryCtxReset_v2);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	pthread_mutex_lock(&emu.lock);
	if (primary[device] != NULL) {
		closed(primary[device]);
		primary[device] = NULL;
	}
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags)
{
	CALL(cuDevicePrimaryCtxSetFlags_v2);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	REFUSE_IF((flags & ~(unsigned)CU_CTX_FLAGS_MASK) != 0, CUDA_ERROR_INVALID_VALUE);
	pthread_mutex_lock(&emu.lock);
	primary_flags[device] = flags;
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
	CALL(cuDevicePrimaryCtxGetState);
	REFUSE_IF(!emu_ordinal(device), CUDA_ERROR_INVALID_DEVICE);
	pthread_mutex_lock(&emu.lock);
	if (flags != NULL)
		*flags = primary_flags[device];
	if (active != NULL)
		*active = primary[device] != NULL;
	pthread_mutex_unlock(&emu.lock);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext handle)
{
	CALL(cuCtxPushCurrent_v2);
	REFUSE_IF(!emu_is(EMU_CONTEXT, handle), CUDA_ERROR_INVALID_CONTEXT);
	return push((struct emu_context *)handle);
}

GPUMAX_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *handle)
{
	CALL(cuCtxPopCurrent_v2);
	REFUSE_IF(depth == 0, CUDA_ERROR_INVALID_CONTEXT);
	depth--;
	if (handle != NULL)
		*handle = (CUcontext)stack[depth];
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxSetCurrent(CUcontext handle)
{
	CALL(cuCtxSetCurrent);
	if (handle == NULL) {
		depth -= depth > 0;
		return CUDA_SUCCESS;
	}
	REFUSE_IF(!emu_is(EMU_CONTEXT, handle), CUDA_ERROR_INVALID_CONTEXT);
	if (depth == 0)
		depth = 1;
	stack[depth - 1] = (struct emu_context *)handle;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetCurrent(CUcontext *handle)
{
	CALL(cuCtxGetCurrent);
	REFUSE_IF(handle == NULL, CUDA_ERROR_INVALID_VALUE);
	*handle = (CUcontext)emu_current();
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetDevice(CUdevice *device)
{
	CALL(cuCtxGetDevice);
	REFUSE_IF(device == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, emu_current()), CUDA_ERROR_INVALID_CONTEXT);
	*device = emu_current()->ordinal;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext handle)
{
	CALL(cuCtxGetDevice_v2);
	REFUSE_IF(device == NULL, CUDA_ERROR_INVALID_VALUE);
	if (handle == NULL)
		handle = (CUcontext)emu_current();
	REFUSE_IF(!emu_is(EMU_CONTEXT, handle), CUDA_ERROR_INVALID_CONTEXT);
	*device = ((struct emu_context *)handle)->ordinal;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetFlags(unsigned int *flags)
{
	CALL_IN_CONTEXT(cuCtxGetFlags, context);
	REFUSE_IF(flags == NULL, CUDA_ERROR_INVALID_VALUE);
	*flags = context->flags;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetId(CUcontext handle, unsigned long long *id)
{
	struct emu_context *context = handle != NULL ? (struct emu_context *)handle : emu_current();

	CALL(cuCtxGetId);
	REFUSE_IF(id == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, context), CUDA_ERROR_INVALID_CONTEXT);
	*id = context->id;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int *version)
{
	CALL(cuCtxGetApiVersion);
	REFUSE_IF(version == NULL, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(handle != NULL && !emu_is(EMU_CONTEXT, handle), CUDA_ERROR_INVALID_CONTEXT);
	*version = 3020;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxSynchronize(void)
{
	CALL_IN_CONTEXT(cuCtxSynchronize, context);
	REFUSE_IF(emu_unsafe() != CUDA_SUCCESS, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	return emu_context_wait(context);
}

GPUMAX_EXPORT CUresult cuCtxSynchronize_v2(CUcontext handle)
{
	struct emu_context *context = handle != NULL ? (struct emu_context *)handle : emu_current();
	CUresult usable;

	CALL(cuCtxSynchronize_v2);
	usable = emu_usable(context);
	return usable != CUDA_SUCCESS ? usable : emu_context_wait(context);
}

GPUMAX_EXPORT CUresult cuCtxGetLimit(size_t *value, CUlimit limit)
{
	CALL_IN_CONTEXT(cuCtxGetLimit, context);
	REFUSE_IF(value == NULL || (unsigned)limit >= 16, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF((unsigned)limit > CU_LIMIT_MALLOC_HEAP_SIZE, CUDA_ERROR_UNSUPPORTED_LIMIT);
	*value = context->limits[limit];
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	CALL_IN_CONTEXT(cuCtxSetLimit, context);
	REFUSE_IF((unsigned)limit >= 16, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF((unsigned)limit > CU_LIMIT_MALLOC_HEAP_SIZE, CUDA_ERROR_UNSUPPORTED_LIMIT);
	context->limits[limit] = value;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	CALL_IN_CONTEXT(cuCtxGetStreamPriorityRange, context);
	(void)context;
	if (least != NULL)
		*least = 0;
	if (greatest != NULL)
		*greatest = -5;
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	CALL_IN_CONTEXT(cuCtxEnablePeerAccess, context);
	REFUSE_IF(flags != 0, CUDA_ERROR_INVALID_VALUE);
	REFUSE_IF(!emu_is(EMU_CONTEXT, peer), CUDA_ERROR_INVALID_CONTEXT);
	REFUSE_IF((struct emu_context *)peer == context, CUDA_ERROR_INVALID_DEVICE);
	return CUDA_SUCCESS;
}

GPUMAX_EXPORT CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
	CALL_IN_CONTEXT(cuCtxDisablePeerAccess, context);
	(void)context;
	REFUSE_IF(!emu_is(EMU_CONTEXT, peer), CUDA_ERROR_INVALID_CONTEXT);
	return CUDA_SUCCESS;
}
