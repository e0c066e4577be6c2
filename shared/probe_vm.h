// SPDX-License-Identifier: MIT
// A VM with which `xsaveshim probe` and the host mode's self-test query KVM: what does KVM, or the
// host mode before it, do with xfeatures that a guest does not have? The calls are system calls
// without libc, so that a preloaded library does not see them. The VM's CPUID table begins with an
// entry by which the host mode's BPF programs know it (host/programs.h).
//
// A function fails by returning false with errno set. The VM ends with its descriptors.
#ifndef XSAVESHIM_PROBE_VM_H
#define XSAVESHIM_PROBE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first entry of the CPUID table, in the leaf in which a hypervisor names itself. Of a vCPU
// with this entry the host mode reports nothing, and it ends nobody.
#define PROBE_VM_LEAF 0x40000000
#define PROBE_VM_EBX 0x76617378 // "xsav"
#define PROBE_VM_ECX 0x69687365 // "eshi"
#define PROBE_VM_EDX 0x6d762d6d // "m-vm"

struct probe_vm {
	int kvm;
	int vm;
	int vcpu;
	char *payload; // in pages of its own
	size_t payload_size;
};

int probe_vm_ioctl(int fd, unsigned long request, const void *argument);

// Reads the xfeatures that KVM supports for this process's guests.
bool probe_vm_supported(const struct probe_vm *vm, uint64_t *xcr0);

// Allocates a payload of the size that KVM uses.
bool probe_vm_make_payload(struct probe_vm *vm);

// Gives the guest these xfeatures and no others. With 0, its table has no leaf 0xD.
bool probe_vm_set_guest_xcr0(const struct probe_vm *vm, uint64_t xcr0);

// Reads the guest's xfeatures from KVM, which may have changed the table that it was given.
bool probe_vm_get_guest_xcr0(const struct probe_vm *vm, uint64_t *xcr0);

// Leaves no component all zeroes, because the kernel may take such a one for its initial state.
void probe_vm_fill_payload(const struct probe_vm *vm, uint64_t xstate_bv);

// Loads a payload with this XSTATE_BV, which KVM may refuse. Returns the XSTATE_BV after the call.
uint64_t probe_vm_load(const struct probe_vm *vm, uint64_t xstate_bv);

// Saves the vCPU's payload and reads its XSTATE_BV.
bool probe_vm_save(const struct probe_vm *vm, uint64_t *xstate_bv);

#endif
