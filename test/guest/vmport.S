# SPDX-License-Identifier: MIT
# A guest that reads VMware's I/O port (0x5658) for ever. At each read, QEMU gets the vCPU's whole state from KVM, and then sets the
# same state again. The guest prints T on COM1 after each 1,000 reads that QEMU answers, and X after a read without an answer.
#
# Like canary.S, the guest is a 64 KiB firmware image.
.code16

.globl start
# F000:0000: the reset vector jumps here
start:
	cli
more:
	mov	$1000, %si
read:
	mov	$0x564d5868, %eax	# "VMXh"
	xor	%ebx, %ebx
	mov	$10, %ecx		# command 10 reads the version: the answer has "VMXh" in EBX
	mov	$0x5658, %dx
	in	%dx, %eax
	cmp	$0x564d5868, %ebx
	mov	$'X', %al
	jne	print
	dec	%si
	jnz	read
	mov	$'T', %al
print:
	mov	$0x3f8, %dx
	out	%al, %dx
	jmp	more

.org start + 0xfff0
	ljmp	$0xf000, $0
.org start + 0x10000
