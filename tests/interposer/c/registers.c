/* Calls a function of the driver that is forwarded with something in every register that may carry an argument, and on
 * the stack: "all there" where the driver found it. At the first call, for which the function has yet to be found, and later. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct registers {
	uint64_t general[9]; /* the last one on the stack */
	unsigned char vector[8][32];
};

static struct registers sent;
int call_with(struct registers *registers, int wide) __asm__("call_with");

#if defined(__x86_64__)
__asm__(".text\n.globl call_with\n.type call_with, @function\ncall_with:\n"
	"	pushq %rbx\n	movq %rdi, %rbx\n	testl %esi, %esi\n	jne 1f\n"
	"	movups 72(%rbx), %xmm0\n	movups 104(%rbx), %xmm1\n	movups 136(%rbx), %xmm2\n"
	"	movups 168(%rbx), %xmm3\n	movups 200(%rbx), %xmm4\n	movups 232(%rbx), %xmm5\n"
	"	movups 264(%rbx), %xmm6\n	movups 296(%rbx), %xmm7\n	jmp 2f\n"
	"1:	vmovups 72(%rbx), %ymm0\n	vmovups 104(%rbx), %ymm1\n	vmovups 136(%rbx), %ymm2\n"
	"	vmovups 168(%rbx), %ymm3\n	vmovups 200(%rbx), %ymm4\n	vmovups 232(%rbx), %ymm5\n"
	"	vmovups 264(%rbx), %ymm6\n	vmovups 296(%rbx), %ymm7\n"
	"2:	subq $8, %rsp\n	pushq 64(%rbx)\n"
	"	movq 0(%rbx), %rdi\n	movq 8(%rbx), %rsi\n	movq 16(%rbx), %rdx\n	movq 24(%rbx), %rcx\n"
	"	movq 32(%rbx), %r8\n	movq 40(%rbx), %r9\n	movq 48(%rbx), %rax\n	movq 56(%rbx), %r10\n"
	"	call *cuMemAdvise@GOTPCREL(%rip)\n"
	"	addq $16, %rsp\n	popq %rbx\n	ret\n.size call_with, . - call_with\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl call_with\n.type call_with, %function\ncall_with:\n"
	"	stp x29, x30, [sp, #-32]!\n	str x19, [sp, #16]\n	mov x19, x0\n	add x16, x19, #72\n"
	"	ldr q0, [x16]\n	ldr q1, [x16, #32]\n	ldr q2, [x16, #64]\n	ldr q3, [x16, #96]\n"
	"	ldr q4, [x16, #128]\n	ldr q5, [x16, #160]\n	ldr q6, [x16, #192]\n	ldr q7, [x16, #224]\n"
	"	sub sp, sp, #16\n	ldr x17, [x19, #64]\n	str x17, [sp]\n"
	"	ldp x0, x1, [x19]\n	ldp x2, x3, [x19, #16]\n	ldp x4, x5, [x19, #32]\n	ldp x6, x7, [x19, #48]\n"
	"	adrp x16, :got:cuMemAdvise\n	ldr x16, [x16, :got_lo12:cuMemAdvise]\n	blr x16\n"
	"	add sp, sp, #16\n	ldr x19, [sp, #16]\n	ldp x29, x30, [sp], #32\n	ret\n"
	".size call_with, . - call_with\n");
#endif

static int compare(const struct registers *seen, int wide)
{
	int right = !memcmp(seen->general, sent.general, sizeof sent.general);

	for (int i = 0; i < 8; i++)
		right &= !memcmp(seen->vector[i], sent.vector[i], wide ? 32 : 16);
	return right;
}

int main(void)
{
	struct registers *seen;
	int *seen_wide, first, later, wide = 0;
	void *driver;

#if defined(__x86_64__)
	wide = __builtin_cpu_supports("avx") != 0;
#endif
	for (size_t i = 0; i < sizeof sent; i++)
		((unsigned char *)&sent)[i] = (unsigned char)(i * 7 + 1);
	/* The driver is not opened before the first call. */
	call_with(&sent, 0);
	driver = dlopen(getenv("GPUMAX_REAL_LIBCUDA"), RTLD_NOW | RTLD_NOLOAD);
	if (!driver)
		return 1;
	seen = dlsym(driver, "seen");
	seen_wide = dlsym(driver, "seen_wide");
	first = compare(seen, 0);
	memset(seen, 0, sizeof *seen);
	*seen_wide = wide;
	call_with(&sent, wide);
	later = compare(seen, wide);
	puts(first && later ? "all there" : first ? "lost at a later call" : "lost at the first call");
	return 0;
}
