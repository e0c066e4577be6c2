// SPDX-License-Identifier: MIT
#include "shared/probe_vm.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/xstate.h"

#define MXCSR_DEFAULT 0x1f80

int probe_vm_ioctl(int fd, unsigned long request, const void *argument)
{
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

bool probe_vm_supported(const struct probe_vm *vm, uint64_t *xcr0)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};

	if (probe_vm_ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &table))
		return false;
	*xcr0 = guest_cpuid_xcr0(table.entries, table.nent);
	return true;
}

bool probe_vm_make_payload(struct probe_vm *vm)
{
	int size = probe_vm_ioctl(vm->vm, KVM_CHECK_EXTENSION, (const void *)KVM_CAP_XSAVE2);
	void *payload;

	vm->payload_size =
		size > (int)sizeof(struct kvm_xsave) ? (size_t)size : sizeof(struct kvm_xsave);
	payload = mmap(NULL, vm->payload_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	if (payload == MAP_FAILED)
		return false;
	vm->payload = payload;
	return true;
}

bool probe_vm_set_guest_xcr0(const struct probe_vm *vm, uint64_t xcr0)
{
	struct guest_cpuid_change change;
	struct guest_cpuid table = {.nent = 1,
				    .entries = {{.function = PROBE_VM_LEAF,
						 .ebx = PROBE_VM_EBX,
						 .ecx = PROBE_VM_ECX,
						 .edx = PROBE_VM_EDX}}};

	if (xcr0)
		guest_cpuid_widen(&table, xcr0, &change);
	return !probe_vm_ioctl(vm->vcpu, KVM_SET_CPUID2, &table);
}

bool probe_vm_get_guest_xcr0(const struct probe_vm *vm, uint64_t *xcr0)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};

	if (probe_vm_ioctl(vm->vcpu, KVM_GET_CPUID2, &table))
		return false;
	*xcr0 = guest_cpuid_xcr0(table.entries, guest_cpuid_count(&table));
	return true;
}

void probe_vm_fill_payload(const struct probe_vm *vm, uint64_t xstate_bv)
{
	const uint32_t mxcsr = MXCSR_DEFAULT;

	memset(vm->payload, 1, vm->payload_size);
	memset(vm->payload + XSTATE_BV_OFFSET, 0, XSTATE_HEAD_SIZE - XSTATE_BV_OFFSET);
	memcpy(vm->payload + XSTATE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	xstate_set_bv(vm->payload, xstate_bv);
}

uint64_t probe_vm_load(const struct probe_vm *vm, uint64_t bv)
{
	probe_vm_fill_payload(vm, bv);
	probe_vm_ioctl(vm->vcpu, KVM_SET_XSAVE, vm->payload);
	return xstate_bv(vm->payload);
}

bool probe_vm_save(const struct probe_vm *vm, uint64_t *bv)
{
	bool fits = vm->payload_size == sizeof(struct kvm_xsave);

	if (probe_vm_ioctl(vm->vcpu, fits ? KVM_GET_XSAVE : KVM_GET_XSAVE2, vm->payload))
		return false;
	*bv = xstate_bv(vm->payload);
	return true;
}
