/* Names of results. */
#include "emu/config.h"
#include "gpumax/cuda_abi.h"

#include <string.h>

struct result {
	int value;
	const char *name, *text;
};

#define R(name, text) {CUDA_##name, "CUDA_" #name, text}
static const struct result results[] = {
    R(SUCCESS, "no error"),
    R(ERROR_INVALID_VALUE, "invalid argument"),
    R(ERROR_OUT_OF_MEMORY, "out of memory"),
    R(ERROR_NOT_INITIALIZED, "initialization error"),
    R(ERROR_DEINITIALIZED, "driver shutting down"),
    R(ERROR_DEVICE_UNAVAILABLE, "device is busy or unavailable"),
    R(ERROR_NO_DEVICE, "no device is detected"),
    R(ERROR_INVALID_DEVICE, "invalid device ordinal"),
    R(ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    R(ERROR_INVALID_CONTEXT, "invalid device context"),
    R(ERROR_MAP_FAILED, "mapping failed"),
    R(ERROR_UNMAP_FAILED, "unmapping failed"),
    R(ERROR_ALREADY_MAPPED, "resource is already mapped"),
    R(ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    R(ERROR_NOT_MAPPED, "resource is not mapped"),
    R(ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    R(ERROR_UNSUPPORTED_LIMIT, "limit is not supported"),
    R(ERROR_CONTEXT_ALREADY_IN_USE, "context is in use by another thread"),
    R(ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these devices"),
    R(ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    R(ERROR_FILE_NOT_FOUND, "file not found"),
    R(ERROR_OPERATING_SYSTEM, "a call of the operating system failed"),
    R(ERROR_INVALID_HANDLE, "invalid resource handle"),
    R(ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    R(ERROR_NOT_FOUND, "named symbol not found"),
    R(ERROR_NOT_READY, "device not ready"),
    R(ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    R(ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    R(ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    R(ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled"),
    R(ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled"),
    R(ERROR_PRIMARY_CONTEXT_ACTIVE, "the primary context is active"),
    R(ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    R(ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped"),
    R(ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region"),
    R(ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    R(ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    R(ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch"),
    R(ERROR_NOT_PERMITTED, "operation not permitted"),
    R(ERROR_NOT_SUPPORTED, "operation not supported"),
    R(ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
    R(ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver"),
    R(ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    R(ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    R(ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences"),
    R(ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    R(ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    R(ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
    R(ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream"),
    R(ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    R(ERROR_STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a thread-local capture sequence from another thread"),
    R(ERROR_TIMEOUT, "wait operation timed out"),
    R(ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph update was not performed"),
    R(ERROR_UNKNOWN, "unknown error"),
};
#undef R

static const struct result *find(int value)
{
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
		if (results[i].value == value)
			return &results[i];
	return NULL;
}

const char *emu_result_name(int value)
{
	const struct result *found = find(value);

	return found != NULL ? found->name : NULL;
}

const char *emu_result_text(int value)
{
	const struct result *found = find(value);

	return found != NULL ? found->text : NULL;
}

int emu_result_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
		if (strcmp(results[i].name, name) == 0 || strcmp(results[i].name + strlen("CUDA_ERROR_"), name) == 0)
			return results[i].value;
	return -1;
}
