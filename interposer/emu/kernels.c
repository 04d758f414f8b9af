/*
 * The kernels that an emulated device knows, by name: what their parameters are, what they take and what they do.
 * Each checks that a device could touch what it touches; where it couldn't, the context is broken as with a device.
 */
#include "emu/kernels.h"

#include <string.h>

#define A(i) (run->parameter.word[i])

static float as_float(uint64_t word)
{
	uint32_t bits = (uint32_t)word;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static float *floats(uint64_t address)
{
	return (float *)(uintptr_t)address;
}

/* 0 for addresses that a device can't reach or that aren't a float's. */
static bool reach(uint64_t address, uint64_t count, uint64_t size, bool write)
{
	return count <= UINT64_MAX / size && address % (size > 8 ? 1 : size) == 0 && emu_reaches(address, count * size, write);
}

static CUresult bad(uint64_t address, uint64_t size)
{
	return address % size != 0 ? CUDA_ERROR_MISALIGNED_ADDRESS : CUDA_ERROR_ILLEGAL_ADDRESS;
}

static void fill_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)operations, (void)ns;
	*bytes = 4.0 * (double)A(2);
}

static CUresult fill(const struct emu_run *run)
{
	uint32_t *to = (uint32_t *)(uintptr_t)A(0);

	if (!reach(A(0), A(2), 4, true))
		return bad(A(0), 4);
	for (uint64_t i = 0; i < A(2); i++)
		to[i] = (uint32_t)A(1);
	return CUDA_SUCCESS;
}

static void copy_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)operations, (void)ns;
	*bytes = 2.0 * (double)A(2);
}

static CUresult copy(const struct emu_run *run)
{
	if (!reach(A(0), A(2), 1, true) || !reach(A(1), A(2), 1, false))
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	memmove((void *)(uintptr_t)A(0), (const void *)(uintptr_t)A(1), A(2));
	return CUDA_SUCCESS;
}

static void axpy_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)ns;
	*bytes = 12.0 * (double)A(3);
	*operations = 2.0 * (double)A(3);
}

static CUresult axpy(const struct emu_run *run)
{
	float *y = floats(A(0)), a = as_float(A(2));
	const float *x = floats(A(1));

	if (!reach(A(0), A(3), 4, true) || !reach(A(1), A(3), 4, false))
		return bad(A(0) | A(1), 4);
	for (uint64_t i = 0; i < A(3); i++)
		y[i] = a * x[i] + y[i];
	return CUDA_SUCCESS;
}

static CUresult add(const struct emu_run *run)
{
	float *to = floats(A(0));
	const float *x = floats(A(1)), *y = floats(A(2));

	if (!reach(A(0), A(3), 4, true) || !reach(A(1), A(3), 4, false) || !reach(A(2), A(3), 4, false))
		return bad(A(0) | A(1) | A(2), 4);
	for (uint64_t i = 0; i < A(3); i++)
		to[i] = x[i] + y[i];
	return CUDA_SUCCESS;
}

static void relu_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)operations, (void)ns;
	*bytes = 8.0 * (double)A(1);
}

static CUresult relu(const struct emu_run *run)
{
	float *x = floats(A(0));

	if (!reach(A(0), A(1), 4, true))
		return bad(A(0), 4);
	for (uint64_t i = 0; i < A(1); i++)
		x[i] = x[i] > 0 ? x[i] : 0;
	return CUDA_SUCCESS;
}

static void gemm_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	double m = (double)A(3), n = (double)A(4), k = (double)A(5);

	(void)ns;
	*bytes = 4 * (m * n + m * k + k * n);
	*operations = 2 * m * n * k;
}

/* C[m,n] = A[m,k] B[k,n], row after row. Always in the same order, so results are the same to the last bit. */
static CUresult gemm(const struct emu_run *run)
{
	uint64_t m = A(3), n = A(4), k = A(5);
	float *c = floats(A(0));
	const float *a = floats(A(1)), *b = floats(A(2));

	if (!reach(A(0), m * n, 4, true) || !reach(A(1), m * k, 4, false) || !reach(A(2), k * n, 4, false))
		return bad(A(0) | A(1) | A(2), 4);
	for (uint64_t i = 0; i < m; i++) {
		memset(c + i * n, 0, n * sizeof(float));
		for (uint64_t l = 0; l < k; l++) {
			float factor = a[i * k + l];

			for (uint64_t j = 0; j < n; j++)
				c[i * n + j] += factor * b[l * n + j];
		}
	}
	return CUDA_SUCCESS;
}

static void touch_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)operations, (void)ns;
	*bytes = A(2) != 0 ? 64.0 * (double)(A(1) / A(2)) : 0;
}

/* One byte in each step is raised by one: all of it has to be there. */
static CUresult touch(const struct emu_run *run)
{
	unsigned char *at = (unsigned char *)(uintptr_t)A(0);

	if (A(2) == 0 || !reach(A(0), A(1), 1, true))
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	for (uint64_t i = 0; i < A(1); i += A(2))
		at[i]++;
	return CUDA_SUCCESS;
}

static void checksum_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)operations, (void)ns;
	*bytes = (double)A(2);
}

/* FNV-1a of the bytes, eight at a time where there are eight. */
static CUresult checksum(const struct emu_run *run)
{
	const unsigned char *from = (const unsigned char *)(uintptr_t)A(1);
	uint64_t hash = 14695981039346656037u, word, i = 0;

	if (!reach(A(0), 1, 8, true) || !reach(A(1), A(2), 1, false))
		return bad(A(0), 8);
	for (; i + 8 <= A(2); i += 8) {
		memcpy(&word, from + i, 8);
		hash = (hash ^ word) * 1099511628211u;
	}
	for (; i < A(2); i++)
		hash = (hash ^ from[i]) * 1099511628211u;
	memcpy((void *)(uintptr_t)A(0), &hash, sizeof(hash));
	return CUDA_SUCCESS;
}

static void time_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)bytes, (void)operations;
	*ns = (double)A(0);
}

static CUresult nothing(const struct emu_run *run)
{
	(void)run;
	return CUDA_SUCCESS;
}

static void no_cost(const struct emu_run *run, double *bytes, double *operations, double *ns)
{
	(void)run, (void)bytes, (void)operations, (void)ns;
}

static CUresult fault(const struct emu_run *run)
{
	(void)run;
	return CUDA_ERROR_ILLEGAL_ADDRESS;
}

static const struct emu_kernel kernels[] = {
    {"fill", "puq", fill_cost, fill, false, false},
    {"memset", "puq", fill_cost, fill, false, false},
    {"copy", "ppq", copy_cost, copy, false, false},
    {"axpy", "ppfq", axpy_cost, axpy, false, false},
    {"add", "pppq", axpy_cost, add, false, false},
    {"relu", "pq", relu_cost, relu, false, false},
    {"gemm", "pppuuu", gemm_cost, gemm, false, false},
    {"touch", "pqu", touch_cost, touch, false, false},
    {"checksum", "ppq", checksum_cost, checksum, false, false},
    {"spin", "q", time_cost, nothing, false, false}, /* nanoseconds of the device */
    {"sleep", "q", time_cost, nothing, false, true}, /* nanoseconds of its stream, the device is free */
    {"empty", "", no_cost, nothing, false, false},
    {"fault", "", no_cost, fault, false, false},
    {"hang", "", no_cost, nothing, true, false},
};

const struct emu_kernel *emu_kernel_number(int i)
{
	return i >= 0 && (size_t)i < sizeof(kernels) / sizeof(kernels[0]) ? &kernels[i] : NULL;
}

const struct emu_kernel *emu_kernel_named(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
		if (strlen(kernels[i].name) == length && strncmp(kernels[i].name, name, length) == 0)
			return &kernels[i];
	return NULL;
}
