/* What is true of every call: it is counted, may be told to fail, waits while the process is locked, and comes after cuInit. */
#include "emu/emu.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct emu_call *calls;
static pthread_mutex_t calls_lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local int emu_in_callback;

void emu_say(const char *format, ...)
{
	char line[1024] = "gpumax: emulated driver: ";
	size_t length = strlen(line);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, arguments);
	va_end(arguments);
	length = strlen(line);
	line[length] = '\n';
	if (write(STDERR_FILENO, line, length + 1) < 0)
		return;
}

static void list(struct emu_call *call)
{
	pthread_mutex_lock(&calls_lock);
	if (!call->listed) {
		call->next = calls;
		calls = call;
		for (int i = 0; i < emu.config.faults; i++)
			call->faulty |= strcmp(emu.config.fault[i].call, call->name) == 0;
		__atomic_store_n(&call->listed, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&calls_lock);
}

static CUresult injected(const struct emu_call *call, uint64_t nth)
{
	for (int i = 0; i < emu.config.faults; i++) {
		const struct emu_fault *fault = &emu.config.fault[i];
		struct emu_context *context;

		if (strcmp(fault->call, call->name) != 0 || nth < fault->nth || nth - fault->nth >= fault->times)
			continue;
		if (fault->kill)
			raise(SIGKILL);
		context = fault->sticky ? emu_current() : NULL;
		if (context != NULL) {
			context->broken = (CUresult)fault->result;
			if (context->broken == CUDA_ERROR_ECC_UNCORRECTABLE) /* which is the device's */
				__atomic_add_fetch(&emu.shared->device[context->device].ecc, 1, __ATOMIC_RELAXED);
		}
		return (CUresult)fault->result;
	}
	return CUDA_SUCCESS;
}

CUresult emu_enter_early(struct emu_call *call)
{
	uint64_t nth = __atomic_add_fetch(&call->count, 1, __ATOMIC_RELAXED);

	if (!__atomic_load_n(&call->listed, __ATOMIC_ACQUIRE))
		list(call);
	if (emu.config.log)
		emu_say("%s", call->name);
	return call->faulty ? injected(call, nth) : CUDA_SUCCESS;
}

/* A process that is locked or checkpointed waits with every call until it is unlocked; its callbacks don't. */
static void wait_while_locked(void)
{
	struct emu_slot *slot = emu.slot;

	while (__atomic_load_n(&slot->process_state, __ATOMIC_ACQUIRE) != CU_PROCESS_STATE_RUNNING) {
		uint32_t seen = __atomic_load_n(&slot->changed, __ATOMIC_ACQUIRE);

		if (__atomic_load_n(&slot->process_state, __ATOMIC_ACQUIRE) != CU_PROCESS_STATE_RUNNING)
			emu_futex_wait(&slot->changed, seen, 100000000);
	}
}

CUresult emu_enter(struct emu_call *call)
{
	CUresult result;

	/* As with the driver: what was initialised before a fork is of no use to the child. */
	if (emu.pid == 0 || emu.init != CUDA_SUCCESS || emu.pid != getpid())
		return CUDA_ERROR_NOT_INITIALIZED;
	if (emu_in_callback)
		return CUDA_ERROR_NOT_PERMITTED;
	if (__atomic_load_n(&emu.slot->process_state, __ATOMIC_RELAXED) != CU_PROCESS_STATE_RUNNING)
		wait_while_locked();
	result = emu_enter_early(call);
	return result;
}

GPUMAX_EXPORT unsigned long long gpumax_emu_calls(const char *name);

/* For tests: how often this process called a function (by its exported name); all of them without a name. */
unsigned long long gpumax_emu_calls(const char *name)
{
	unsigned long long sum = 0;

	pthread_mutex_lock(&calls_lock);
	for (const struct emu_call *each = calls; each != NULL; each = each->next)
		if (name == NULL || strcmp(each->name, name) == 0)
			sum += __atomic_load_n(&each->count, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&calls_lock);
	return sum;
}
