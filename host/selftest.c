// SPDX-License-Identifier: MIT
#include "selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "shared/probe_vm.h"
#include "xsaveshim/xstate.h"

#define DEVICE "/dev/kvm"

static bool failed(struct selftest *selftest, const char *call)
{
	snprintf(selftest->problem, sizeof(selftest->problem), "%s: %s", call, strerror(errno));
	return false;
}

static bool open_vm(struct selftest *selftest, struct probe_vm *vm)
{
	vm->kvm = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return failed(selftest, DEVICE);
	if (!probe_vm_supported(vm, &selftest->supported))
		return failed(selftest, "KVM_GET_SUPPORTED_CPUID");
	vm->vm = probe_vm_ioctl(vm->kvm, KVM_CREATE_VM, NULL);
	if (vm->vm < 0)
		return failed(selftest, "KVM_CREATE_VM");
	vm->vcpu = probe_vm_ioctl(vm->vm, KVM_CREATE_VCPU, NULL);
	if (vm->vcpu < 0)
		return failed(selftest, "KVM_CREATE_VCPU");
	return probe_vm_make_payload(vm) || failed(selftest, "mmap");
}

static void close_vm(struct probe_vm *vm)
{
	if (vm->payload)
		munmap(vm->payload, vm->payload_size);
	close(vm->vcpu);
	close(vm->vm);
	close(vm->kvm);
}

// Loads an xfeature into the guest, takes the xfeature out of the guest's CPUID, and saves the
// guest's XSAVE state (the payload). On a leaky kernel, the saved payload still has the xfeature.
// Finally, loads a payload whose XSTATE_BV has the bit of an xfeature that the guest lacks, to see
// whether the host mode clears this bit.
static bool probe(struct selftest *selftest, const struct probe_vm *vm)
{
	uint64_t optional = selftest->supported & ~XFEATURE_FPSSE;
	uint64_t enough = XFEATURE_FPSSE | (optional & -optional);
	uint64_t guest_xcr0, bv;

	if (!probe_vm_set_guest_xcr0(vm, enough))
		return failed(selftest, "KVM_SET_CPUID2");
	probe_vm_load(vm, enough);
	if (!probe_vm_set_guest_xcr0(vm, XFEATURE_FPSSE))
		return failed(selftest, "KVM_SET_CPUID2");
	if (!probe_vm_get_guest_xcr0(vm, &guest_xcr0))
		return failed(selftest, "KVM_GET_CPUID2");
	if (!probe_vm_save(vm, &bv))
		return failed(selftest, "KVM_GET_XSAVE");
	guest_xcr0 |= XFEATURE_FPSSE;
	selftest->returned = bv & ~guest_xcr0;
	selftest->xfeature = ~guest_xcr0 & (guest_xcr0 + 1);
	bv = probe_vm_load(vm, XFEATURE_FPSSE | selftest->xfeature);
	selftest->cleared = !(bv & selftest->xfeature);
	return true;
}

bool selftest_run(struct selftest *selftest)
{
	struct probe_vm vm = {-1, -1, -1, NULL, 0};
	bool done;

	memset(selftest, 0, sizeof(*selftest));
	done = open_vm(selftest, &vm) && probe(selftest, &vm);
	close_vm(&vm);
	return done;
}
