/* Trampolines for aarch64; x86_64.S says what they are. x16 and x17 are what a call may lose on its way. */
	.section .note.GNU-stack, "", %progbits
#if defined(__aarch64__)


	.macro SLOT name, index
	.section .data.rel.gpumax_slots, "aw", %progbits
	.quad	.Lstub_\index
	.text
	.p2align 3
.Lstub_\index:
	hint	#34
	mov	w17, #\index
	b	gpumax_resolve_stub
	.endm

	.macro FORWARD name, index
	SLOT	\name, \index
	.section .data.rel.ro.gpumax_forwards, "aw", %progbits
	.quad	.Lforward_\index
	.text
	.p2align 4
	.globl	\name
	.type	\name, %function
\name:
.Lforward_\index:
	hint	#34
	adrp	x16, gpumax_slots+8*\index
	ldr	x16, [x16, :lo12:gpumax_slots+8*\index]
	br	x16
	.size	\name, . - \name
	.endm

	.macro HOOKED name, index
	SLOT	\name, \index
	.section .data.rel.ro.gpumax_forwards, "aw", %progbits
	.quad	0
	.text
	.endm

	.section .data.rel.gpumax_slots, "aw", %progbits
	.p2align 3
	.globl	gpumax_slots
	.hidden	gpumax_slots
	.type	gpumax_slots, %object
gpumax_slots:
	.section .data.rel.ro.gpumax_forwards, "aw", %progbits
	.p2align 3
	.globl	gpumax_forwards
	.hidden	gpumax_forwards
	.type	gpumax_forwards, %object
gpumax_forwards:
	.text

	.macro SAVE
	.cfi_startproc
	stp	x29, x30, [sp, #-224]!
	.cfi_def_cfa_offset 224
	.cfi_offset x29, -224
	.cfi_offset x30, -216
	mov	x29, sp
	stp	x0, x1, [sp, #16]
	stp	x2, x3, [sp, #32]
	stp	x4, x5, [sp, #48]
	stp	x6, x7, [sp, #64]
	str	x8, [sp, #80]
	stp	q0, q1, [sp, #96]
	stp	q2, q3, [sp, #128]
	stp	q4, q5, [sp, #160]
	stp	q6, q7, [sp, #192]
	.endm

	.macro RESTORE
	ldp	x0, x1, [sp, #16]
	ldp	x2, x3, [sp, #32]
	ldp	x4, x5, [sp, #48]
	ldp	x6, x7, [sp, #64]
	ldr	x8, [sp, #80]
	ldp	q0, q1, [sp, #96]
	ldp	q2, q3, [sp, #128]
	ldp	q4, q5, [sp, #160]
	ldp	q6, q7, [sp, #192]
	ldp	x29, x30, [sp], #224
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	.endm

	.p2align 4
	.type	gpumax_resolve_stub, %function
gpumax_resolve_stub:
	SAVE
	mov	w0, w17
	bl	gpumax_resolve
	mov	x16, x0
	RESTORE
	br	x16
	.cfi_endproc
	.size	gpumax_resolve_stub, . - gpumax_resolve_stub

/* void *dlopen(const char *file, int mode) */
	.p2align 4
	.globl	dlopen
	.type	dlopen, %function
dlopen:
	hint	#34
	SAVE
	bl	gpumax_dlopen_name
	str	x0, [sp, #16]
	bl	gpumax_dlopen_next
	mov	x16, x0
	RESTORE
	br	x16
	.cfi_endproc
	.size	dlopen, . - dlopen

/* void *dlmopen(Lmid_t namespace, const char *file, int mode) */
	.p2align 4
	.globl	dlmopen
	.type	dlmopen, %function
dlmopen:
	hint	#34
	SAVE
	mov	x0, x1
	bl	gpumax_dlmopen_name
	str	x0, [sp, #24]
	bl	gpumax_dlmopen_next
	mov	x16, x0
	RESTORE
	br	x16
	.cfi_endproc
	.size	dlmopen, . - dlmopen

#include "trampolines.inc"

#endif
