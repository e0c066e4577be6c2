// SPDX-License-Identifier: MIT
#include "selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "shared.h"
#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/xstate.h"

#define DEVICE "/dev/kvm"

struct vm {
	int device;
	int vm;
	int vcpu;
	size_t payload_size;
	char *payload;
};

static int kvm_ioctl(int fd, unsigned long request, const void *argument)
{
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

static bool failed(struct selftest *selftest, const char *call)
{
	snprintf(selftest->problem, sizeof(selftest->problem), "%s: %s", call, strerror(errno));
	return false;
}

static bool open_vm(struct selftest *selftest, struct vm *vm)
{
	struct guest_cpuid supported = {.nent = GUEST_CPUID_MAX_ENTRIES};
	int size;

	vm->device = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (vm->device < 0)
		return failed(selftest, DEVICE);
	if (kvm_ioctl(vm->device, KVM_GET_SUPPORTED_CPUID, &supported))
		return failed(selftest, "KVM_GET_SUPPORTED_CPUID");
	selftest->supported = guest_cpuid_xcr0(supported.entries, supported.nent);
	vm->vm = kvm_ioctl(vm->device, KVM_CREATE_VM, NULL);
	if (vm->vm < 0)
		return failed(selftest, "KVM_CREATE_VM");
	vm->vcpu = kvm_ioctl(vm->vm, KVM_CREATE_VCPU, NULL);
	if (vm->vcpu < 0)
		return failed(selftest, "KVM_CREATE_VCPU");
	size = kvm_ioctl(vm->vm, KVM_CHECK_EXTENSION, (const void *)KVM_CAP_XSAVE2);
	vm->payload_size = size > (int)sizeof(struct kvm_xsave) ? (size_t)size : sizeof(struct kvm_xsave);
	vm->payload = malloc(vm->payload_size);
	return vm->payload || failed(selftest, "malloc");
}

static void close_vm(struct vm *vm)
{
	free(vm->payload);
	close(vm->vcpu);
	close(vm->vm);
	close(vm->device);
}

// A guest that has these xfeatures, in a table that tells the BPF programs who asks.
static bool set_guest_xcr0(struct selftest *selftest, const struct vm *vm, uint64_t xcr0)
{
	struct guest_cpuid table = {
		.nent = 2,
		.entries = {{.function = HOST_ASKING_LEAF,
			     .ebx = HOST_ASKING_EBX,
			     .ecx = HOST_ASKING_ECX,
			     .edx = HOST_ASKING_EDX},
			    {.function = 0xd,
			     .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			     .eax = (uint32_t)xcr0,
			     .edx = (uint32_t)(xcr0 >> 32)}}};

	return !kvm_ioctl(vm->vcpu, KVM_SET_CPUID2, &table) || failed(selftest, "KVM_SET_CPUID2");
}

// What the guest has according to KVM, which may have changed the table that it was given.
static bool get_guest_xcr0(struct selftest *selftest, const struct vm *vm, uint64_t *xcr0)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};

	if (kvm_ioctl(vm->vcpu, KVM_GET_CPUID2, &table))
		return failed(selftest, "KVM_GET_CPUID2");
	*xcr0 = guest_cpuid_xcr0(table.entries, guest_cpuid_count(&table));
	return true;
}

// Returns what the payload's XSTATE_BV has become. Whether KVM takes it does not matter. No component is all zeroes, so that each
// that is loaded is in use.
static uint64_t load(const struct vm *vm, uint64_t bv)
{
	const uint32_t mxcsr = 0x1f80;

	memset(vm->payload, 1, vm->payload_size);
	memset(vm->payload + XSTATE_BV_OFFSET, 0, XSTATE_HEAD_SIZE - XSTATE_BV_OFFSET);
	memcpy(vm->payload + XSTATE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	xstate_set_bv(vm->payload, bv);
	kvm_ioctl(vm->vcpu, KVM_SET_XSAVE, vm->payload);
	return xstate_bv(vm->payload);
}

static bool save(struct selftest *selftest, const struct vm *vm, uint64_t *bv)
{
	bool fits = vm->payload_size == sizeof(struct kvm_xsave);

	if (kvm_ioctl(vm->vcpu, fits ? KVM_GET_XSAVE : KVM_GET_XSAVE2, vm->payload))
		return failed(selftest, "KVM_GET_XSAVE");
	*bv = xstate_bv(vm->payload);
	return true;
}

// A guest that loses an xfeature once it is loaded: what a leaky kernel then still returns.
static bool ask(struct selftest *selftest, const struct vm *vm)
{
	uint64_t beyond = selftest->supported & ~XFEATURE_FPSSE;
	uint64_t guest_xcr0 = 0;
	uint64_t bv = 0;
	uint64_t loaded;

	if (!set_guest_xcr0(selftest, vm, XFEATURE_FPSSE | (beyond & -beyond)))
		return false;
	load(vm, XFEATURE_FPSSE | (beyond & -beyond));
	if (!set_guest_xcr0(selftest, vm, XFEATURE_FPSSE) || !get_guest_xcr0(selftest, vm, &guest_xcr0) ||
	    !save(selftest, vm, &bv))
		return false;
	guest_xcr0 |= XFEATURE_FPSSE;
	selftest->returned = bv & ~guest_xcr0;
	selftest->xfeature = ~guest_xcr0 & (guest_xcr0 + 1);
	loaded = load(vm, XFEATURE_FPSSE | selftest->xfeature);
	selftest->cleared = !(loaded & selftest->xfeature);
	return true;
}

bool selftest_run(struct selftest *selftest)
{
	struct vm vm = {-1, -1, -1, 0, NULL};
	bool asked;

	memset(selftest, 0, sizeof(*selftest));
	asked = open_vm(selftest, &vm) && ask(selftest, &vm);
	close_vm(&vm);
	return asked;
}
