// SPDX-License-Identifier: MIT
// Changes the answers that `xsaveshim probe` gets from the real KVM. This library interposes
// syscall(), because `xsaveshim probe` calls syscall() and not ioctl().
//
//	QUIRK_FAIL=NUMBER:ERRNO	the ioctl with this number (0x80 for KVM_RUN) fails with ERRNO
//	QUIRK_SUPPORTED=XCR0	the XCR0 in the answer to KVM_GET_SUPPORTED_CPUID
//	QUIRK_GUEST=XCR0	the XCR0 in the answer to KVM_GET_CPUID2, as if KVM had changed the
//				vCPU's CPUID table
//	QUIRK_REFUSE=MASK	KVM_SET_XSAVE refuses these bits if the CPUID table has no leaf 0xD
//	QUIRK_ALWAYS_REFUSE=MASK	KVM_SET_XSAVE refuses these bits of XSTATE_BV
//	QUIRK_LEAK=MASK		KVM_GET_XSAVE and KVM_GET_XSAVE2 also set these bits of XSTATE_BV
//	QUIRK_HIDE=MASK		KVM_GET_XSAVE and KVM_GET_XSAVE2 clear these bits of XSTATE_BV
//	QUIRK_EXIT=REASON	the exit reason of KVM_RUN
//	QUIRK_PAYLOAD=BYTES	the answer to KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2)
//	QUIRK_PERMITTED=XCR0	the answer to ARCH_GET_XCOMP_GUEST_PERM. 0: the call fails, as
//				before Linux 5.17
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "kvm.h"

#define ARCH_GET_XCOMP_GUEST_PERM 0x1024

typedef long syscall_fn(long number, ...);

static bool has_no_xcr0;

static uint64_t mask(const char *variable)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 0) : 0;
}

static long fail(int error)
{
	errno = error;
	return -1;
}

static bool has_leaf_0xd(const struct kvm_cpuid2 *table)
{
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entries[i].function == 0xd)
			return true;
	return false;
}

// Replaces the table's leaf 0xD by one with this XCR0. If the table has no leaf 0xD, adds the new
// leaf behind the last used entry. The table may end with unused entries, because KVM_GET_CPUID2 up
// to Linux 6.4 does not write nent.
static void set_table(struct kvm_cpuid2 *table, uint64_t xcr0)
{
	uint32_t i = 0;

	while (i < table->nent && table->entries[i].function != 0xd &&
	       (table->entries[i].function || table->entries[i].eax))
		i++;
	if (i == table->nent)
		table->nent++;
	table->entries[i] = (struct kvm_cpuid_entry2){
		.function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = (uint32_t)xcr0};
}

static void change_answer(int fd, uint32_t request, void *argument)
{
	switch (request) {
	case KVM_GET_SUPPORTED_CPUID:
		if (mask("QUIRK_SUPPORTED"))
			set_table(argument, mask("QUIRK_SUPPORTED"));
		break;
	case KVM_SET_CPUID2:
		has_no_xcr0 = !has_leaf_0xd(argument);
		break;
	case KVM_GET_CPUID2:
		if (mask("QUIRK_GUEST"))
			set_table(argument, mask("QUIRK_GUEST"));
		break;
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
		set_xstate_bv(argument,
			      (get_xstate_bv(argument) | mask("QUIRK_LEAK")) & ~mask("QUIRK_HIDE"));
		break;
	case KVM_RUN:
		if (mask("QUIRK_EXIT")) {
			struct kvm_run *run =
				mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

			run->exit_reason = (uint32_t)mask("QUIRK_EXIT");
			munmap(run, 4096);
		}
		break;
	default:
		break;
	}
}

static bool refuses(const void *payload)
{
	uint64_t refused = mask("QUIRK_ALWAYS_REFUSE") | (has_no_xcr0 ? mask("QUIRK_REFUSE") : 0);

	return get_xstate_bv(payload) & refused;
}

static long permit(uint64_t *permitted)
{
	*permitted = mask("QUIRK_PERMITTED");
	return *permitted ? 0 : fail(EINVAL);
}

// The function's C name is not "syscall", because <unistd.h> declares syscall() with other
// attributes.
long quirk_syscall(long number, ...) __asm__("syscall");

__attribute__((visibility("default"))) long quirk_syscall(long number, ...)
{
	const char *failing = getenv("QUIRK_FAIL");
	unsigned int failing_request = 0;
	syscall_fn *next;
	int error = 0;
	long a[6], result;
	va_list arguments;

	*(void **)&next = dlsym(RTLD_NEXT, "syscall");
	va_start(arguments, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(arguments, long);
	va_end(arguments);
	if (number == SYS_arch_prctl && a[0] == ARCH_GET_XCOMP_GUEST_PERM &&
	    getenv("QUIRK_PERMITTED"))
		return permit((uint64_t *)a[1]);
	if (number != SYS_ioctl)
		return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (failing && sscanf(failing, "%i:%d", (int *)&failing_request, &error) == 2 &&
	    failing_request == _IOC_NR(a[1]))
		return fail(error);
	if ((uint32_t)a[1] == KVM_SET_XSAVE && refuses((const void *)a[2]))
		return fail(EINVAL);
	if ((uint32_t)a[1] == KVM_CHECK_EXTENSION && a[2] == KVM_CAP_XSAVE2 &&
	    mask("QUIRK_PAYLOAD"))
		return (long)mask("QUIRK_PAYLOAD");
	result = next(number, a[0], a[1], a[2]);
	if (result >= 0)
		change_answer((int)a[0], (uint32_t)a[1], (void *)a[2]);
	return result;
}
