// SPDX-License-Identifier: MIT
// `xsaveshim probe` and the host mode's self-test create a probe VM to see how KVM and the host
// mode treat xfeatures that a guest lacks. The functions below bypass libc's ioctl(), so that a
// preloaded libxsaveshim.so does not see the VM. The VM's CPUID table begins with an entry by which
// the host mode's BPF programs recognise the VM (host/programs.bpf.c).
//
// A payload is the buffer that KVM_SET_XSAVE loads and KVM_GET_XSAVE saves. On failure, a function
// that returns bool returns false and sets errno. KVM destroys the VM when its descriptors are
// closed.
#ifndef XSAVESHIM_PROBE_VM_H
#define XSAVESHIM_PROBE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first entry of the VM's CPUID table. The entry is for leaf 0x40000000, in which a hypervisor
// names itself. If a vCPU's CPUID table begins with this entry, the host mode reports no events of
// the vCPU, and never kills the vCPU's VMM.
#define PROBE_VM_LEAF 0x40000000
#define PROBE_VM_EBX 0x76617378 // "xsav"
#define PROBE_VM_ECX 0x69687365 // "eshi"
#define PROBE_VM_EDX 0x6d762d6d // "m-vm"

struct probe_vm {
	int kvm;
	int vm;
	int vcpu;
	char *payload; // in memory pages that hold nothing else
	size_t payload_size;
};

int probe_vm_ioctl(int fd, unsigned long request, const void *argument);

// Reads which xfeatures KVM supports for the guests of this process.
bool probe_vm_supported(const struct probe_vm *vm, uint64_t *xcr0);

// Allocates the VM's payload with the size that KVM uses.
bool probe_vm_make_payload(struct probe_vm *vm);

// Sets the vCPU's CPUID table so that the guest has only the xfeatures in xcr0. If xcr0 is 0, the
// table has no leaf 0xD.
bool probe_vm_set_guest_xcr0(const struct probe_vm *vm, uint64_t xcr0);

// Computes the guest's xfeatures from the CPUID table that KVM returns, because KVM may have
// changed the table that probe_vm_set_guest_xcr0() set.
bool probe_vm_get_guest_xcr0(const struct probe_vm *vm, uint64_t *xcr0);

// Sets the payload's XSTATE_BV. Fills the payload's components with bytes other than zero, because
// the kernel may take a component of zeroes for the initial state.
void probe_vm_fill_payload(const struct probe_vm *vm, uint64_t xstate_bv);

// Loads a payload with this XSTATE_BV into the vCPU, and ignores a refusal by KVM. Returns the
// payload's XSTATE_BV after the load, because the host mode may have cleared bits.
uint64_t probe_vm_load(const struct probe_vm *vm, uint64_t xstate_bv);

// Saves the vCPU's XSAVE state into the payload. Sets *xstate_bv to the payload's XSTATE_BV.
bool probe_vm_save(const struct probe_vm *vm, uint64_t *xstate_bv);

#endif
