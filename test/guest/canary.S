# SPDX-License-Identifier: MIT
# A guest that checks an SSE register of each vCPU. Every vCPU loads a known value, the canary, into xmm7, and then compares xmm7
# with the canary for ever. After each comparison, the vCPU prints T (equal) or X (different) on its own COM port (COM1 for vCPU 0
# ... COM4 for vCPU 3). Each vCPU sets CR4.SMEP if its CPUID has SMEP.
#
# The guest is a 64 KiB firmware image for QEMU's -bios, because a real BIOS would take seconds to boot the guest.
.code16

.globl start
# F000:0000: the boot vCPU's reset vector jumps here. The other vCPUs start here, because the start-up IPI has the vector 0xf0.
start:
	cli
	mov	$0xf000, %ax		# DS: this image, ES: RAM
	mov	%ax, %ds
	xor	%ax, %ax
	mov	%ax, %es

	mov	$0x1b, %ecx		# only the boot vCPU (IA32_APIC_BASE.BSP is set) starts the other vCPUs
	rdmsr
	test	$0x100, %ax
	jz	sse
	or	$0x400, %ax		# enable x2APIC, which sends IPIs through MSRs, not through memory above 1 MiB
	wrmsr
	mov	$0x830, %ecx
	xor	%edx, %edx
	mov	$0xc4500, %eax		# send INIT to all other vCPUs
	wrmsr
	mov	$0xc46f0, %eax		# send a start-up IPI with the address F000:0000 to all other vCPUs
	wrmsr

sse:
	mov	%cr0, %eax		# CR0.EM=0, CR0.MP=1
	and	$0xfffb, %ax
	or	$2, %ax
	mov	%eax, %cr0
	mov	$7, %eax		# EBX: CR4.SMEP if this vCPU has SMEP
	xor	%ecx, %ecx
	cpuid
	and	$0x80, %ebx
	shl	$13, %ebx
	mov	%cr4, %eax		# also set CR4.OSFXSR and CR4.OSXMMEXCPT
	or	$0x600, %ax
	or	%ebx, %eax
	mov	%eax, %cr4

	mov	$1, %eax		# DX: this vCPU's COM port, BX: the address of this vCPU's 16 bytes of RAM
	cpuid
	shr	$24, %ebx
	shl	$1, %bx
	mov	(ports - start)(%bx), %dx
	shl	$3, %bx
	add	$0x1000, %bx
	movups	canary - start, %xmm7

check:
	movups	%xmm7, %es:(%bx)
	mov	$(canary - start), %si
	mov	%bx, %di
	mov	$16, %cx
	cld
	mov	$'T', %al
	repe cmpsb
	je	print
	mov	$'X', %al
print:
	out	%al, %dx
	mov	$0x4000, %ecx		# a short delay, because hosts that emulate real mode are slow
delay:
	dec	%ecx
	jnz	delay
	jmp	check

canary:	.byte 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
ports:	.word 0x3f8, 0x2f8, 0x3e8, 0x2e8

.org start + 0xfff0
	ljmp	$0xf000, $0
.org start + 0x10000
