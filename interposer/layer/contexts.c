/* The end of a context ends what was allocated in it; and waits for a device, after which pools may hold less. */
#include "api.h"
#include "client/client.h"
#include "layer.h"
#include "lend.h"
#include "overhead.h"

/*
 * What we have mapped outlives a context unless we end it, and must before its context has gone, once that has done what
 * it had to do: also one that is broken, of which nothing is awaited.
 */
static void end_backed(CUcontext context)
{
	CUcontext unused;
	struct block block;
	bool alive = REAL(cuCtxPushCurrent_v2)(context) == CUDA_SUCCESS;

	if (alive && settings()->swappable)
		REAL(cuCtxSynchronize)();
	for (uint64_t from = 0; index_next(&addresses, from, &block); from = block.base + 1)
		if (block.kind == BACKED && block.context == context && index_take(&addresses, block.base, &block))
			backing_end(&block);
	borrow_context_ends(context);
	if (settings()->swappable)
		backings_context_ends(context, alive);
	if (alive)
		REAL(cuCtxPopCurrent_v2)(&unused);
}

static void forget(CUcontext context)
{
	struct block block;

	while (index_take_of(&addresses, context, &block))
		discharge(block.device, block.charged);
	while (index_take_of(&arrays, context, &block))
		discharge(block.device, block.charged);
	captures_context_ends(context);
	overhead_ends(context);
}

CUcontext context_primary(CUdevice device)
{
	CUcontext context = NULL;
	unsigned int flags;
	int active = 0;

	if (REAL(cuDevicePrimaryCtxGetState)(device, &flags, &active) || !active)
		return NULL;
	if (REAL(cuDevicePrimaryCtxRetain)(&context, device))
		return NULL;
	REAL(cuDevicePrimaryCtxRelease_v2)(device);
	return context;
}

/* Of those that were made for the program alone, which it may destroy. */
static bool is_own(CUcontext context)
{
	CUcontext unused;
	CUdevice device;
	bool own;

	if (REAL(cuCtxPushCurrent_v2)(context) != CUDA_SUCCESS)
		return false;
	own = REAL(cuCtxGetDevice)(&device) != CUDA_SUCCESS || context_primary(device) != context;
	REAL(cuCtxPopCurrent_v2)(&unused);
	return own;
}

static void gone(CUcontext context)
{
	context_ends(context);
	end_backed(context);
	forget(context);
}

static CUresult destroy(CUcontext context, CUresult (*real)(CUcontext))
{
	CUresult result;
	bool own;

	if (idle() || !context)
		return real(context);
	own = is_own(context);
	if (own) {
		end_backed(context);
		context_ends(context);
	}
	result = real(context);
	if (result == CUDA_SUCCESS && own)
		forget(context);
	else if (result == CUDA_SUCCESS)
		gone(context);
	return result;
}

/*
 * Contexts are known from their beginning, so that work in all of them can be awaited. What they take was charged before,
 * as far as it was known; one that turns out to be beyond the limit ends at once.
 */
static CUresult begun(CUresult result, CUcontext *context, struct overhead *taken)
{
	if (result != CUDA_SUCCESS || idle() || !context) {
		overhead_give(taken);
		return result;
	}
	if (!overhead_keep(*context, taken))
		return CUDA_ERROR_OUT_OF_MEMORY;
	context_begins(*context);
	return result;
}

static CUresult created(CUresult result, CUcontext *context, struct overhead *taken)
{
	bool made = result == CUDA_SUCCESS;

	result = begun(result, context, taken);
	if (!made || result == CUDA_SUCCESS)
		return result;
	REAL(cuCtxDestroy_v2)(*context);
	overhead_give(taken);
	return refuse();
}

EXPORT CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device)
{
	struct overhead taken;

	if (!overhead_take(device, false, &taken))
		return refuse();
	return created(REAL(cuCtxCreate)(context, flags, device), context, &taken);
}

EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	struct overhead taken;

	if (!overhead_take(device, false, &taken))
		return refuse();
	return created(REAL(cuCtxCreate_v2)(context, flags, device), context, &taken);
}

EXPORT CUresult cuCtxCreate_v3(CUcontext *context, void *affinity, int count_asked, unsigned int flags, CUdevice device)
{
	struct overhead taken;

	if (!overhead_take(device, false, &taken))
		return refuse();
	return created(REAL(cuCtxCreate_v3)(context, affinity, count_asked, flags, device), context, &taken);
}

EXPORT CUresult cuCtxCreate_v4(CUcontext *context, void *wish, unsigned int flags, CUdevice device)
{
	struct overhead taken;

	if (!overhead_take(device, false, &taken))
		return refuse();
	return created(REAL(cuCtxCreate_v4)(context, wish, flags, device), context, &taken);
}

EXPORT CUresult cuCtxDestroy_v2(CUcontext context)
{
	return destroy(context, REAL(cuCtxDestroy_v2));
}

EXPORT CUresult cuCtxDestroy(CUcontext context)
{
	return destroy(context, REAL(cuCtxDestroy));
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	struct overhead taken;
	CUresult result;
	bool made;

	if (!overhead_take(device, true, &taken))
		return refuse();
	result = REAL(cuDevicePrimaryCtxRetain)(context, device);
	made = result == CUDA_SUCCESS;
	result = begun(result, context, &taken);
	if (!made || result == CUDA_SUCCESS)
		return result;
	REAL(cuDevicePrimaryCtxRelease_v2)(device);
	overhead_give(&taken);
	return refuse();
}

static CUresult reset(CUdevice device, CUresult (*real)(CUdevice))
{
	CUcontext context = idle() ? NULL : context_primary(device);
	CUresult result;

	if (context) {
		end_backed(context);
		context_ends(context);
	}
	result = real(device);
	if (result == CUDA_SUCCESS && context)
		forget(context);
	return result;
}

/* Only the last release ends the context; whether this was it shows afterwards. */
static CUresult release(CUdevice device, CUresult (*real)(CUdevice))
{
	CUcontext context = idle() ? NULL : context_primary(device);
	CUresult result = real(device);
	unsigned int flags;
	int active = 1;

	if (result == CUDA_SUCCESS && context &&
	    REAL(cuDevicePrimaryCtxGetState)(device, &flags, &active) == CUDA_SUCCESS && !active)
		gone(context);
	return result;
}

/*
 * A green context is a part of its device's primary context, which lives as long as it does. What is allocated in it and
 * the work that is submitted there are the primary one's, and are awaited with it.
 */
static _Atomic(CUcontext) of_green[MOST_DEVICES];

CUresult cuGreenCtxCreate(CUgreenCtx *green, void *resources, CUdevice device, unsigned int flags);
CUresult cuGreenCtxDestroy(CUgreenCtx green);

EXPORT CUresult cuGreenCtxCreate(CUgreenCtx *green, void *resources, CUdevice device, unsigned int flags)
{
	struct overhead taken;
	CUcontext context;
	CUresult result;

	if (!overhead_take(device, true, &taken))
		return refuse();
	result = REAL(cuGreenCtxCreate)(green, resources, device, flags);
	context = result == CUDA_SUCCESS && !idle() ? context_primary(device) : NULL;
	if (context && begun(CUDA_SUCCESS, &context, &taken) != CUDA_SUCCESS) {
		REAL(cuGreenCtxDestroy)(*green);
		overhead_give(&taken);
		return refuse();
	}
	if (!context)
		overhead_give(&taken);
	else if (device >= 0 && device < MOST_DEVICES)
		atomic_store(&of_green[device], context);
	return result;
}

EXPORT CUresult cuGreenCtxDestroy(CUgreenCtx green)
{
	CUresult result = REAL(cuGreenCtxDestroy)(green);

	for (CUdevice device = 0; device < MOST_DEVICES && result == CUDA_SUCCESS; device++) {
		CUcontext context = atomic_load(&of_green[device]);

		if (!context || context_primary(device))
			continue;
		atomic_store(&of_green[device], NULL);
		gone(context);
	}
	return result;
}

EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	return reset(device, REAL(cuDevicePrimaryCtxReset_v2));
}

EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	return reset(device, REAL(cuDevicePrimaryCtxReset));
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	return release(device, REAL(cuDevicePrimaryCtxRelease_v2));
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	return release(device, REAL(cuDevicePrimaryCtxRelease));
}

static CUresult stream_ended(CUresult result, CUstream stream)
{
	if (result == CUDA_SUCCESS)
		capture_stream_ends(stream);
	return result;
}

EXPORT CUresult cuStreamDestroy_v2(CUstream stream)
{
	return stream_ended(REAL(cuStreamDestroy_v2)(stream), stream);
}

EXPORT CUresult cuStreamDestroy(CUstream stream)
{
	return stream_ended(REAL(cuStreamDestroy)(stream), stream);
}

static CUresult waited(CUresult result)
{
	pools_settle();
	return result;
}

EXPORT CUresult cuCtxSynchronize(void)
{
	return waited(REAL(cuCtxSynchronize)());
}

EXPORT CUresult cuCtxSynchronize_v2(CUcontext context)
{
	return waited(REAL(cuCtxSynchronize_v2)(context));
}

EXPORT CUresult cuStreamSynchronize(CUstream stream)
{
	return waited(REAL(cuStreamSynchronize)(stream));
}

EXPORT CUresult cuStreamSynchronize_ptsz(CUstream stream)
{
	return waited(REAL(cuStreamSynchronize_ptsz)(stream));
}

EXPORT CUresult cuEventSynchronize(CUevent event)
{
	return waited(REAL(cuEventSynchronize)(event));
}
