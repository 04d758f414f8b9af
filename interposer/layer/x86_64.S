/*
 * Trampolines for x86-64. Each name has a slot that holds where the call goes: at first a stub that finds the real
 * function, from then on the function itself. A call that is forwarded costs one indirect jump and touches no register
 * that carries an argument. dlopen is jumped to as well, so that its caller stays its caller (RUNPATH, namespaces).
 */
	.section .note.GNU-stack, "", %progbits
#if defined(__x86_64__)


	.macro SLOT name, index
	.section .data.rel.gpumax_slots, "aw", @progbits
	.quad	.Lstub_\index
	.text
	.p2align 3
.Lstub_\index:
	endbr64
	movl	$\index, %r11d
	jmp	gpumax_resolve_stub
	.endm

	.macro FORWARD name, index
	SLOT	\name, \index
	.section .data.rel.ro.gpumax_forwards, "aw", @progbits
	.quad	.Lforward_\index
	.text
	.p2align 4
	.globl	\name
	.type	\name, @function
\name:
.Lforward_\index:
	endbr64
	jmp	*gpumax_slots+8*\index(%rip)
	.size	\name, . - \name
	.endm

	.macro HOOKED name, index
	SLOT	\name, \index
	.section .data.rel.ro.gpumax_forwards, "aw", @progbits
	.quad	0
	.text
	.endm

	.section .data.rel.gpumax_slots, "aw", @progbits
	.p2align 3
	.globl	gpumax_slots
	.hidden	gpumax_slots
	.type	gpumax_slots, @object
gpumax_slots:
	.section .data.rel.ro.gpumax_forwards, "aw", @progbits
	.p2align 3
	.globl	gpumax_forwards
	.hidden	gpumax_forwards
	.type	gpumax_forwards, @object
gpumax_forwards:
	.text

	.macro SAVE
	.cfi_startproc
	pushq	%rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	andq	$-16, %rsp
	subq	$192, %rsp
	movq	%rdi, 0(%rsp)
	movq	%rsi, 8(%rsp)
	movq	%rdx, 16(%rsp)
	movq	%rcx, 24(%rsp)
	movq	%r8, 32(%rsp)
	movq	%r9, 40(%rsp)
	movq	%rax, 48(%rsp)
	movq	%r10, 56(%rsp)
	movaps	%xmm0, 64(%rsp)
	movaps	%xmm1, 80(%rsp)
	movaps	%xmm2, 96(%rsp)
	movaps	%xmm3, 112(%rsp)
	movaps	%xmm4, 128(%rsp)
	movaps	%xmm5, 144(%rsp)
	movaps	%xmm6, 160(%rsp)
	movaps	%xmm7, 176(%rsp)
	.endm

	.macro RESTORE
	movq	0(%rsp), %rdi
	movq	8(%rsp), %rsi
	movq	16(%rsp), %rdx
	movq	24(%rsp), %rcx
	movq	32(%rsp), %r8
	movq	40(%rsp), %r9
	movq	48(%rsp), %rax
	movq	56(%rsp), %r10
	movaps	64(%rsp), %xmm0
	movaps	80(%rsp), %xmm1
	movaps	96(%rsp), %xmm2
	movaps	112(%rsp), %xmm3
	movaps	128(%rsp), %xmm4
	movaps	144(%rsp), %xmm5
	movaps	160(%rsp), %xmm6
	movaps	176(%rsp), %xmm7
	leave
	.cfi_def_cfa %rsp, 8
	.endm

	.p2align 4
	.type	gpumax_resolve_stub, @function
gpumax_resolve_stub:
	SAVE
	movl	%r11d, %edi
	call	gpumax_resolve
	movq	%rax, %r11
	RESTORE
	jmp	*%r11
	.cfi_endproc
	.size	gpumax_resolve_stub, . - gpumax_resolve_stub

/* void *dlopen(const char *file, int mode) */
	.p2align 4
	.globl	dlopen
	.type	dlopen, @function
dlopen:
	endbr64
	SAVE
	call	gpumax_dlopen_name
	movq	%rax, 0(%rsp)
	call	gpumax_dlopen_next
	movq	%rax, %r11
	RESTORE
	jmp	*%r11
	.cfi_endproc
	.size	dlopen, . - dlopen

/* void *dlmopen(Lmid_t namespace, const char *file, int mode) */
	.p2align 4
	.globl	dlmopen
	.type	dlmopen, @function
dlmopen:
	endbr64
	SAVE
	movq	%rsi, %rdi
	call	gpumax_dlmopen_name
	movq	%rax, 8(%rsp)
	call	gpumax_dlmopen_next
	movq	%rax, %r11
	RESTORE
	jmp	*%r11
	.cfi_endproc
	.size	dlmopen, . - dlmopen

#include "trampolines.inc"

#endif
