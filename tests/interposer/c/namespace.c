/* A program that is not linked with the driver and opens it in a namespace of its own: "held" where the limit of 64 MiB is
 * there, too, together with what is held outside of it. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#define MIB ((size_t)1 << 20)

typedef int (*init)(unsigned);
typedef int (*retain)(void **, int);
typedef int (*set_current)(void *);
typedef int (*allocate)(uint64_t *, size_t);

static int begin(void *library)
{
	void *context;

	return ((init)dlsym(library, "cuInit"))(0) ||
	       ((retain)dlsym(library, "cuDevicePrimaryCtxRetain"))(&context, 0) ||
	       ((set_current)dlsym(library, "cuCtxSetCurrent"))(context);
}

int main(int count, char **words)
{
	void *outside = dlopen("libcuda.so.1", RTLD_NOW), *inside = dlmopen(LM_ID_NEWLM, words[count - 1], RTLD_NOW);
	uint64_t pointer;
	int held;

	if (!outside || !inside || begin(outside) || begin(inside)) {
		puts(dlerror());
		return 1;
	}
	held = outside != inside && ((allocate)dlsym(outside, "cuMemAlloc_v2"))(&pointer, 40 * MIB) == 0;
	held &= ((allocate)dlsym(inside, "cuMemAlloc_v2"))(&pointer, 25 * MIB) == 2;
	held &= ((allocate)dlsym(inside, "cuMemAlloc_v2"))(&pointer, 24 * MIB) == 0;
	held &= ((allocate)dlsym(outside, "cuMemAlloc_v2"))(&pointer, 1) == 2;
	puts(held ? "held" : "escaped");
	return 0;
}
