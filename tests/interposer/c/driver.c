/*
 * A driver of CUDA for tests of the layer alone: as little as a driver can be, on memory of the host, with two devices.
 * It counts what is called and does what a test asks of it, also what no real driver would do. For programs there is the
 * emulated driver; this one is for the corners.
 *
 *   SCRIPT_FAIL=cuMemCreate:3      the third call fails with CUDA_ERROR_OUT_OF_MEMORY
 *   SCRIPT_APART=1                 cuGetProcAddress gives other addresses than dlsym does
 *   SCRIPT_NO_MAPPING=1            memory can't be mapped by hand
 *   SCRIPT_VERSION=99000           of CUDA, as the driver tells it (13000)
 *   SCRIPT_MEMORY=bytes            of each device (8 GiB)
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpumax/cuda_abi.h"

#define API __attribute__((visibility("default")))
#define MOST 65536
#define GRANULE (UINT64_C(2) << 20)

static struct region {
	uint64_t base, size;
	int device;
	bool pooled;
} regions[MOST];

static struct memory {
	uint64_t size;
	int fd, device, holds;
} memories[MOST];

static struct mapping {
	uint64_t base, size;
	int memory;
} mappings[MOST];

struct CUctx_st {
	int device, retained;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUctx_st primary[2] = {{0, 0}, {1, 0}};
static _Thread_local struct CUctx_st *stack[16];
static _Thread_local int depth;
static uint64_t in_use[2], pooled_free[2], graph_bytes[2];
static _Atomic uint64_t launches;
static _Atomic int capturing;
static bool started;
static int pool_of[2];

API uint64_t script_launches(void)
{
	return atomic_load(&launches);
}

API uint64_t script_in_use(int device)
{
	return in_use[device];
}

static uint64_t total(void)
{
	const char *said = getenv("SCRIPT_MEMORY");

	return said ? strtoull(said, NULL, 0) : UINT64_C(8) << 30;
}

static bool fails(const char *name)
{
	static _Atomic long calls;
	const char *said = getenv("SCRIPT_FAIL");
	size_t length = strlen(name);

	if (!said || strncmp(said, name, length) || said[length] != ':')
		return false;
	return atomic_fetch_add(&calls, 1) + 1 == strtol(said + length + 1, NULL, 10);
}

static int here(void)
{
	return depth ? stack[depth - 1]->device : 0;
}

static bool take(int device, uint64_t size)
{
	if (in_use[device] + size > total())
		return false;
	in_use[device] += size;
	return true;
}

API CUresult cuInit(unsigned flags)
{
	(void)flags;
	started = true;
	return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int *version)
{
	const char *said = getenv("SCRIPT_VERSION");

	*version = said ? atoi(said) : 13000;
	return CUDA_SUCCESS;
}

API CUresult cuDeviceGetCount(int *count)
{
	*count = 2;
	return started ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

API CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	*device = ordinal;
	return ordinal < 2 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

API CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	memset(uuid->bytes, 0x10 + device, sizeof uuid->bytes);
	return CUDA_SUCCESS;
}

API CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	(void)device;
	*value = attribute == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED && !getenv("SCRIPT_NO_MAPPING");
	return CUDA_SUCCESS;
}

API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	(void)device;
	*bytes = total();
	return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	primary[device].retained++;
	*context = &primary[device];
	return CUDA_SUCCESS;
}

static void drop_all(int device)
{
	for (int i = 0; i < MOST; i++)
		if (regions[i].base && regions[i].device == device && !regions[i].pooled) {
			in_use[device] -= regions[i].size;
			munmap((void *)regions[i].base, regions[i].size);
			regions[i].base = 0;
		}
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	if (--primary[device].retained == 0)
		drop_all(device);
	return CUDA_SUCCESS;
}

API CUresult cuGreenCtxCreate(CUgreenCtx *green, void *resources, CUdevice device, unsigned flags)
{
	(void)resources;
	(void)flags;
	primary[device].retained++;
	*green = (CUgreenCtx)(void *)&primary[device];
	return CUDA_SUCCESS;
}

API CUresult cuGreenCtxDestroy(CUgreenCtx green)
{
	return cuDevicePrimaryCtxRelease_v2(((struct CUctx_st *)(void *)green)->device);
}

API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	drop_all(device);
	return CUDA_SUCCESS;
}

API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
	*flags = 0;
	*active = primary[device].retained > 0;
	return CUDA_SUCCESS;
}

API CUresult cuCtxSetCurrent(CUcontext context)
{
	depth = context ? 1 : 0;
	stack[0] = context;
	return CUDA_SUCCESS;
}

API CUresult cuCtxGetCurrent(CUcontext *context)
{
	*context = depth ? stack[depth - 1] : NULL;
	return CUDA_SUCCESS;
}

API CUresult cuCtxPushCurrent_v2(CUcontext context)
{
	if (!context)
		return CUDA_ERROR_INVALID_CONTEXT;
	stack[depth++] = context;
	return CUDA_SUCCESS;
}

API CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
	*context = stack[--depth];
	return CUDA_SUCCESS;
}

API CUresult cuCtxGetDevice(CUdevice *device)
{
	*device = here();
	return depth ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

API CUresult cuCtxSynchronize(void)
{
	return fails("cuCtxSynchronize") ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

API CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
	(void)flags;
	*context = calloc(1, sizeof **context);
	(*context)->device = device;
	return cuCtxPushCurrent_v2(*context);
}

API CUresult cuCtxDestroy_v2(CUcontext context)
{
	drop_all(context->device);
	free(context);
	depth = 0;
	return CUDA_SUCCESS;
}

API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *all)
{
	*all = total();
	*free_bytes = *all - in_use[here()];
	return CUDA_SUCCESS;
}

static CUresult allocate(CUdeviceptr *pointer, uint64_t size, bool pooled)
{
	CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
	void *place;
	int i = 0;

	if (!depth)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&lock);
	while (i < MOST && regions[i].base)
		i++;
	if (pooled && pooled_free[here()] >= size)
		pooled_free[here()] -= size;
	else if (!take(here(), size))
		i = MOST;
	place = i < MOST ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
	if (place != MAP_FAILED) {
		regions[i] = (struct region){(uint64_t)place, size, here(), pooled};
		*pointer = (CUdeviceptr)place;
		result = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

static CUresult release(CUdeviceptr pointer, bool *was_pooled)
{
	CUresult result = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < MOST; i++) {
		struct region *region = &regions[i];

		if (region->base != pointer || !pointer)
			continue;
		munmap((void *)region->base, region->size);
		if (region->pooled)
			pooled_free[region->device] += region->size;
		else
			in_use[region->device] -= region->size;
		*was_pooled = region->pooled;
		region->base = 0;
		result = CUDA_SUCCESS;
		break;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

API CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size)
{
	return fails("cuMemAlloc_v2") ? CUDA_ERROR_OUT_OF_MEMORY : allocate(pointer, size, false);
}

API CUresult cuMemFree_v2(CUdeviceptr pointer)
{
	bool pooled;

	return fails("cuMemFree_v2") ? CUDA_ERROR_INVALID_VALUE : release(pointer, &pooled);
}

API CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned element)
{
	(void)element;
	*pitch = (width + 511) / 512 * 512;
	return allocate(pointer, *pitch * height, false);
}

API CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t size, unsigned flags)
{
	(void)flags;
	return allocate(pointer, size, false);
}

/* One pool a device; it keeps all that is freed until it is trimmed. */
API CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
	*pool = (CUmemoryPool)(void *)&pool_of[device];
	return CUDA_SUCCESS;
}

static int device_of_pool(CUmemoryPool pool)
{
	return (int)((int *)(void *)pool - pool_of);
}

API CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value)
{
	uint64_t sum = pooled_free[device_of_pool(pool)];

	if (attribute != CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < MOST; i++)
		if (regions[i].base && regions[i].pooled && regions[i].device == device_of_pool(pool))
			sum += regions[i].size;
	*(uint64_t *)value = sum;
	return CUDA_SUCCESS;
}

API CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
	int device = device_of_pool(pool);

	(void)keep;
	in_use[device] -= pooled_free[device];
	pooled_free[device] = 0;
	return CUDA_SUCCESS;
}

API CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t size, CUmemoryPool pool, CUstream stream)
{
	(void)stream;
	(void)pool;
	return allocate(pointer, size, true);
}

API CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *pointer, size_t size, CUmemoryPool pool, CUstream stream)
{
	return cuMemAllocFromPoolAsync(pointer, size, pool, stream);
}

API CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t size, CUstream stream)
{
	(void)stream;
	return allocate(pointer, size, true);
}

API CUresult cuMemAllocAsync_ptsz(CUdeviceptr *pointer, size_t size, CUstream stream)
{
	(void)stream;
	return allocate(pointer, size, true);
}

API CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream)
{
	bool pooled;

	(void)stream;
	return release(pointer, &pooled);
}

API CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream)
{
	return cuMemFreeAsync(pointer, stream);
}

API CUresult cuMemGetAllocationGranularity(size_t *granule, const CUmemAllocationProp *wish,
					   CUmemAllocationGranularity_flags option)
{
	(void)wish;
	(void)option;
	*granule = GRANULE;
	return CUDA_SUCCESS;
}

API CUresult cuMemAddressReserve(CUdeviceptr *pointer, size_t size, size_t align, CUdeviceptr wish,
				 unsigned long long flags)
{
	void *place = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)align;
	(void)wish;
	(void)flags;
	*pointer = (CUdeviceptr)place;
	return place == MAP_FAILED ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

API CUresult cuMemAddressFree(CUdeviceptr pointer, size_t size)
{
	munmap((void *)pointer, size);
	return CUDA_SUCCESS;
}

API CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *wish,
			 unsigned long long flags)
{
	CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
	int i = 1;

	(void)flags;
	if (size % GRANULE)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	while (memories[i].holds)
		i++;
	if (!fails("cuMemCreate") && take(wish->location.id, size)) {
		memories[i] = (struct memory){size, memfd_create("memory", MFD_CLOEXEC), wish->location.id, 1};
		if (ftruncate(memories[i].fd, (off_t)size) == 0)
			result = CUDA_SUCCESS;
		*handle = (CUmemGenericAllocationHandle)i;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

static void let_go(int i)
{
	if (--memories[i].holds)
		return;
	close(memories[i].fd);
	in_use[memories[i].device] -= memories[i].size;
}

API CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	pthread_mutex_lock(&lock);
	let_go((int)handle);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

API CUresult cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
		      unsigned long long flags)
{
	int i = 0;

	(void)flags;
	if (fails("cuMemMap"))
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&lock);
	while (mappings[i].base)
		i++;
	mappings[i] = (struct mapping){pointer, size, (int)handle};
	memories[handle].holds++;
	mmap((void *)pointer, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memories[handle].fd, (off_t)offset);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

API CUresult cuMemUnmap(CUdeviceptr pointer, size_t size)
{
	bool found = false;

	if (fails("cuMemUnmap"))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < MOST; i++) {
		struct mapping *mapping = &mappings[i];

		if (!mapping->base || mapping->base < pointer || mapping->base >= pointer + size)
			continue;
		mmap((void *)mapping->base, mapping->size, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
		mapping->base = 0;
		let_go(mapping->memory);
		found = true;
	}
	pthread_mutex_unlock(&lock);
	return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuMemSetAccess(CUdeviceptr pointer, size_t size, const CUmemAccessDesc *access, size_t count)
{
	(void)pointer;
	(void)size;
	(void)access;
	(void)count;
	return CUDA_SUCCESS;
}

API CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	for (int i = 0; i < MOST; i++)
		if (mappings[i].base == (uint64_t)address) {
			memories[mappings[i].memory].holds++;
			*handle = (CUmemGenericAllocationHandle)mappings[i].memory;
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_INVALID_VALUE;
}

/* What comes from elsewhere is memory that is there already. */
API CUresult cuMemPoolExportToShareableHandle(void *out, CUmemoryPool pool, int type, unsigned long long flags)
{
	*(int *)out = 7;
	return CUDA_SUCCESS;
}

API CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *given, int type, unsigned long long flags)
{
	*pool = (CUmemoryPool)&pool_of[1];
	return given == (void *)7 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuMemPoolImportPointer(CUdeviceptr *pointer, CUmemoryPool pool, void *given)
{
	*pointer = UINT64_C(0x7000000000);
	return CUDA_SUCCESS;
}

/* Memory that is mapped can be bound, and nothing else. */
API CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle object, size_t offset, CUdeviceptr at, size_t size, unsigned long long flags)
{
	for (int i = 0; i < MOST; i++)
		if (mappings[i].size && mappings[i].base <= at && at - mappings[i].base < mappings[i].size)
			return CUDA_SUCCESS;
	return CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle object, CUdevice device, size_t offset, CUdeviceptr at, size_t size,
				    unsigned long long flags)
{
	return cuMulticastBindAddr(object, offset, at, size, flags);
}

API CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr at)
{
	return value && cuMulticastBindAddr(0, 0, at, 1, 0) == CUDA_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuMemGetHandleForAddressRange(void *handle, CUdeviceptr at, size_t size, int type, unsigned long long flags)
{
	return cuMulticastBindAddr(0, 0, at, size, 0);
}

API CUresult cuMemHostAlloc(void **host, size_t size, unsigned flags)
{
	(void)flags;
	*host = fails("cuMemHostAlloc") ? NULL : malloc(size);
	return *host ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

API CUresult cuMemFreeHost(void *host)
{
	free(host);
	return CUDA_SUCCESS;
}

API CUresult cuMemHostRegister_v2(void *host, size_t size, unsigned flags)
{
	(void)host;
	(void)size;
	(void)flags;
	return CUDA_SUCCESS;
}

API CUresult cuMemHostUnregister(void *host)
{
	(void)host;
	return CUDA_SUCCESS;
}

API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size)
{
	memcpy((void *)to, from, size);
	return CUDA_SUCCESS;
}

API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size)
{
	memcpy(to, (void *)from, size);
	return CUDA_SUCCESS;
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream)
{
	(void)stream;
	return fails("cuMemcpyHtoDAsync_v2") ? CUDA_ERROR_OUT_OF_MEMORY : cuMemcpyHtoD_v2(to, from, size);
}

API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream)
{
	(void)stream;
	return fails("cuMemcpyDtoHAsync_v2") ? CUDA_ERROR_OUT_OF_MEMORY : cuMemcpyDtoH_v2(to, from, size);
}

API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t size)
{
	memset((void *)to, value, size);
	return CUDA_SUCCESS;
}

API CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
	(void)flags;
	*stream = malloc(1);
	return CUDA_SUCCESS;
}

API CUresult cuStreamDestroy_v2(CUstream stream)
{
	free(stream);
	return CUDA_SUCCESS;
}

API CUresult cuStreamSynchronize(CUstream stream)
{
	(void)stream;
	return CUDA_SUCCESS;
}

API CUresult cuEventCreate(CUevent *event, unsigned flags)
{
	(void)flags;
	*event = malloc(1);
	return CUDA_SUCCESS;
}

API CUresult cuEventDestroy_v2(CUevent event)
{
	free(event);
	return CUDA_SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream stream)
{
	(void)event;
	(void)stream;
	return CUDA_SUCCESS;
}

API CUresult cuEventSynchronize(CUevent event)
{
	(void)event;
	return CUDA_SUCCESS;
}

API CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	(void)stream;
	(void)mode;
	atomic_store(&capturing, 1);
	return CUDA_SUCCESS;
}

API CUresult cuStreamBeginCaptureToCig(CUstream stream, void *wish)
{
	(void)wish;
	return cuStreamBeginCapture_v2(stream, 0);
}

API CUresult cuStreamEndCaptureToCig(CUstream stream)
{
	(void)stream;
	return atomic_exchange(&capturing, 0) ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_STATE;
}

API CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
	(void)stream;
	*graph = malloc(1);
	return atomic_exchange(&capturing, 0) ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_STATE;
}

/* The arguments of a launch, so that a test sees that they came through: eleven of them, on registers and stack. */
static uint64_t last_launch[11];

API uint64_t script_argument(int i)
{
	return last_launch[i];
}

API CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
			    unsigned shared, CUstream stream, void **parameters, void **extra)
{
	uint64_t all[] = {(uint64_t)f, gx, gy, gz, bx, by, bz, shared, (uint64_t)stream, (uint64_t)parameters,
			  (uint64_t)extra};

	memcpy(last_launch, all, sizeof all);
	atomic_fetch_add(&launches, 1);
	return CUDA_SUCCESS;
}

API CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
				 unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra)
{
	return cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}

API CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream)
{
	(void)graph;
	(void)stream;
	atomic_fetch_add(&launches, 1);
	return CUDA_SUCCESS;
}

API CUresult cuGraphCreate(CUgraph *graph, unsigned flags)
{
	(void)flags;
	*graph = malloc(1);
	return CUDA_SUCCESS;
}

API CUresult cuGraphDestroy(CUgraph graph)
{
	free(graph);
	return CUDA_SUCCESS;
}

API CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags)
{
	(void)graph;
	(void)flags;
	*executable = malloc(1);
	return CUDA_SUCCESS;
}

API CUresult cuGraphExecDestroy(CUgraphExec executable)
{
	free(executable);
	return CUDA_SUCCESS;
}

API CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count,
				    CUDA_MEM_ALLOC_NODE_PARAMS_v1 *wish)
{
	(void)graph;
	(void)after;
	(void)count;
	if (fails("cuGraphAddMemAllocNode"))
		return CUDA_ERROR_INVALID_VALUE;
	graph_bytes[wish->poolProps.location.id] += wish->bytesize;
	wish->dptr = 4096;
	*node = NULL;
	return CUDA_SUCCESS;
}

/* Nodes of any kind come this way, too; it is the layer that looks at what they wish. */
API CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count,
			       void *wish)
{
	(void)graph;
	(void)after;
	(void)edges;
	(void)count;
	(void)wish;
	*node = NULL;
	return fails("cuGraphAddNode_v2") ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

API CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	graph_bytes[device] = 0;
	return CUDA_SUCCESS;
}

API CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *wish)
{
	CUdeviceptr place;
	CUresult result = allocate(&place, wish->Width * (wish->Height ? wish->Height : 1) * 4, false);

	*array = (CUarray)place;
	return result;
}

API CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *said, CUarray array, CUdevice device)
{
	(void)device;
	for (int i = 0; i < MOST; i++)
		if (regions[i].base == (uint64_t)array)
			said->size = regions[i].size;
	return CUDA_SUCCESS;
}

API CUresult cuArrayDestroy(CUarray array)
{
	bool pooled;

	return release((CUdeviceptr)array, &pooled);
}

API CUresult cuGetErrorString(CUresult error, const char **text)
{
	*text = error ? "an error" : "no error";
	return CUDA_SUCCESS;
}

/* Another address for the same: a driver may give one by name and another by cuGetProcAddress. */
static CUresult apart(CUdeviceptr *pointer, size_t size)
{
	return cuMemAlloc_v2(pointer, size);
}

API CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
	static const char *const ends[2][4] = {{"_v3", "_v2", "", NULL}, {"_v2_ptsz", "_ptsz", "_v2_ptds", NULL}};
	char symbol[128];

	*function = NULL;
	if (getenv("SCRIPT_APART") && !strcmp(name, "cuMemAlloc"))
		*function = version > 14000 ? (void *)cuMemAllocPitch_v2 : (void *)apart;
	if (getenv("SCRIPT_APART") && !strcmp(name, "cuMemFree") && version > 14000)
		*function = (void *)apart;
	for (int kind = flags & 2 ? 1 : 0; kind >= 0; kind--)
		for (int i = 0; ends[kind][i] && !*function; i++) {
			if (version < (strcmp(name, "cuGetProcAddress") ? 3020 : 12000) && ends[kind][i][0])
				continue;
			snprintf(symbol, sizeof symbol, "%s%s", name, ends[kind][i]);
			*function = dlsym(dlopen(getenv("GPUMAX_REAL_LIBCUDA"), RTLD_NOLOAD | RTLD_NOW), symbol);
		}
	if (status)
		*status = *function ? 0 : 1;
	return CUDA_SUCCESS;
}

API CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
	CUresult result = cuGetProcAddress_v2(name, function, version, flags, NULL);

	return *function ? result : CUDA_ERROR_NOT_FOUND;
}
