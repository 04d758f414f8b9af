/* A driver of which one function looks at the registers with which it is called, and touches nothing else. */
#include <stdint.h>
#include <string.h>

__attribute__((visibility("default"))) struct {
	uint64_t general[9];
	unsigned char vector[8][32];
} seen;
__attribute__((visibility("default"))) int seen_wide; /* 1: vectors of 32 bytes, where the processor has them */

#if defined(__x86_64__)
__asm__(".text\n.globl cuMemAdvise\n.type cuMemAdvise, @function\ncuMemAdvise:\n"
	"	movq seen@GOTPCREL(%rip), %r11\n"
	"	movq %rdi, 0(%r11)\n	movq %rsi, 8(%r11)\n	movq %rdx, 16(%r11)\n	movq %rcx, 24(%r11)\n"
	"	movq %r8, 32(%r11)\n	movq %r9, 40(%r11)\n	movq %rax, 48(%r11)\n	movq %r10, 56(%r11)\n"
	"	movq 8(%rsp), %rax\n	movq %rax, 64(%r11)\n"
	"	movq seen_wide@GOTPCREL(%rip), %rax\n	cmpl $0, (%rax)\n	jne 1f\n"
	"	movups %xmm0, 72(%r11)\n	movups %xmm1, 104(%r11)\n	movups %xmm2, 136(%r11)\n"
	"	movups %xmm3, 168(%r11)\n	movups %xmm4, 200(%r11)\n	movups %xmm5, 232(%r11)\n"
	"	movups %xmm6, 264(%r11)\n	movups %xmm7, 296(%r11)\n	xorl %eax, %eax\n	ret\n"
	"1:	vmovups %ymm0, 72(%r11)\n	vmovups %ymm1, 104(%r11)\n	vmovups %ymm2, 136(%r11)\n"
	"	vmovups %ymm3, 168(%r11)\n	vmovups %ymm4, 200(%r11)\n	vmovups %ymm5, 232(%r11)\n"
	"	vmovups %ymm6, 264(%r11)\n	vmovups %ymm7, 296(%r11)\n	vzeroupper\n	xorl %eax, %eax\n	ret\n"
	".size cuMemAdvise, . - cuMemAdvise\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl cuMemAdvise\n.type cuMemAdvise, %function\ncuMemAdvise:\n"
	"	adrp x16, :got:seen\n	ldr x16, [x16, :got_lo12:seen]\n"
	"	stp x0, x1, [x16]\n	stp x2, x3, [x16, #16]\n	stp x4, x5, [x16, #32]\n	stp x6, x7, [x16, #48]\n"
	"	ldr x17, [sp]\n	str x17, [x16, #64]\n	add x16, x16, #72\n"
	"	str q0, [x16]\n	str q1, [x16, #32]\n	str q2, [x16, #64]\n	str q3, [x16, #96]\n"
	"	str q4, [x16, #128]\n	str q5, [x16, #160]\n	str q6, [x16, #192]\n	str q7, [x16, #224]\n"
	"	mov w0, #0\n	ret\n.size cuMemAdvise, . - cuMemAdvise\n");
#endif
