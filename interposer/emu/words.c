/* Words in memory that a stream writes, or waits for. */
#include "emu/emu.h"

#include <time.h>

static CUresult write_word(struct emu_context *context, struct emu_op *op)
{
	size_t size = op->word.wide ? 8 : 4;
	CUresult result = CUDA_SUCCESS;

	(void)context;
	pthread_rwlock_rdlock(&emu.space);
	if (!emu_reaches(op->word.address, size, true))
		result = CUDA_ERROR_ILLEGAL_ADDRESS;
	else if (op->word.wide)
		__atomic_store_n((uint64_t *)(uintptr_t)op->word.address, op->word.value, __ATOMIC_RELEASE);
	else
		__atomic_store_n((uint32_t *)(uintptr_t)op->word.address, (uint32_t)op->word.value, __ATOMIC_RELEASE);
	pthread_rwlock_unlock(&emu.space);
	return result;
}

/* 1: it is so; 0: not yet; -1: the word isn't there any more. */
static int is_so(const struct emu_op *op)
{
	uint64_t value = op->word.value, found;
	int so = -1;

	pthread_rwlock_rdlock(&emu.space);
	if (emu_reaches(op->word.address, op->word.wide ? 8 : 4, false)) {
		found = op->word.wide ? __atomic_load_n((uint64_t *)(uintptr_t)op->word.address, __ATOMIC_ACQUIRE)
				      : __atomic_load_n((uint32_t *)(uintptr_t)op->word.address, __ATOMIC_ACQUIRE);
		switch (op->word.flags & 3) {
		case CU_STREAM_WAIT_VALUE_GEQ:
			so = op->word.wide ? (int64_t)(found - value) >= 0 : (int32_t)(found - value) >= 0;
			break;
		case CU_STREAM_WAIT_VALUE_EQ:
			so = found == value;
			break;
		case CU_STREAM_WAIT_VALUE_AND:
			so = (found & value) != 0;
			break;
		default:
			so = op->word.wide ? ~(found | value) != 0 : (uint32_t)~(found | value) != 0;
		}
	}
	pthread_rwlock_unlock(&emu.space);
	return so;
}

bool emu_word_waited(const struct emu_op *op, const bool *stop)
{
	struct timespec moment = {.tv_nsec = 100000};
	int so;

	while ((so = is_so(op)) == 0 && !__atomic_load_n(stop, __ATOMIC_RELAXED))
		nanosleep(&moment, NULL);
	return so == 1;
}

static CUresult given(CUstream handle, struct emu_op op, unsigned int most)
{
	struct emu_stream *stream;
	CUresult result;
	bool fine;

	REFUSE_IF(op.word.flags > most || op.word.address % (op.word.wide ? 8 : 4) != 0, CUDA_ERROR_INVALID_VALUE);
	stream = emu_stream(emu_current(), handle, &result);
	REFUSE_IF(stream == NULL, result);
	pthread_rwlock_rdlock(&emu.space);
	fine = emu_reaches(op.word.address, op.word.wide ? 8 : 4, !op.patient);
	pthread_rwlock_unlock(&emu.space);
	REFUSE_IF(!fine, CUDA_ERROR_INVALID_VALUE);
	/* With a clock that stands still nobody waits: it has to be so already. */
	REFUSE_IF(op.patient && emu.config.virtual_clock && is_so(&op) != 1, CUDA_ERROR_NOT_SUPPORTED);
	return emu_submit(stream, &op);
}

#define WORDS(bits, type)                                                                                              \
	GPUMAX_EXPORT CUresult cuStreamWriteValue##bits##_v2(CUstream stream, CUdeviceptr at, type value, unsigned int flags) \
	{                                                                                                              \
		struct emu_op op = {.engine = EMU_NO_ENGINE, .effect = write_word};                                    \
                                                                                                                       \
		CALL_IN_CONTEXT(cuStreamWriteValue##bits##_v2, context);                                               \
		(void)context;                                                                                         \
		op.word.address = at, op.word.value = value, op.word.flags = flags, op.word.wide = (bits) == 64;       \
		return given(stream, op, 1);                                                                           \
	}                                                                                                              \
	GPUMAX_EXPORT CUresult cuStreamWaitValue##bits##_v2(CUstream stream, CUdeviceptr at, type value, unsigned int flags) \
	{                                                                                                              \
		struct emu_op op = {.engine = EMU_NO_ENGINE, .patient = true};                                         \
                                                                                                                       \
		CALL_IN_CONTEXT(cuStreamWaitValue##bits##_v2, context);                                                \
		(void)context;                                                                                         \
		op.word.address = at, op.word.value = value, op.word.wide = (bits) == 64;                              \
		op.word.flags = flags & ~(unsigned)CU_STREAM_WAIT_VALUE_FLUSH;                                         \
		return given(stream, op, 3);                                                                           \
	}

WORDS(32, uint32_t)
WORDS(64, uint64_t)
