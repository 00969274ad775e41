/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest without an operating system, for Firecracker's boot protocol (64 bit, the first GiB mapped one to one): it counts its rounds in RAM at 2 MiB + 16, and while there is a 1
 * at 2 MiB + 8 it goes through the 32 MiB from 64 MiB on, writing the count into 64 pages a round, at the page's beginning and end. It says "C" on the serial port now and then. A round
 * takes milliseconds where a pause leaves the processor: every few microseconds it counts at 2 MiB + 24.
 * Hosts run it natively that interpret a real guest's kernel. To be linked statically at 16 MiB. */
	.set counter, 0x200010
	.set pages, 0x4000000

	.globl _start
	.text
_start:
	mov $counter, %rbx
	xor %r8, %r8
round:
	incq (%rbx)
	cmpq $1, -8(%rbx)
	jne speak
	mov $64, %ecx
write:
	mov %r8, %rdi
	shl $12, %rdi
	add $pages, %rdi
	mov (%rbx), %rax
	mov %rax, (%rdi)
	mov %rax, 4088(%rdi)
	inc %r8
	and $8191, %r8
	incq 8(%rbx)
	dec %ecx
	jnz write
speak:
	testq $15, (%rbx)
	jnz rest
	mov $0x3f8, %dx
	mov $'C', %al
	out %al, %dx
	mov $'\n', %al
	out %al, %dx
rest:
	mov $2000, %ecx
1:	pause
	incq 8(%rbx)
	dec %ecx
	jnz 1b
	jmp round
