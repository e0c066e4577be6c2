// SPDX-License-Identifier: MIT
// A VM that is there to ask KVM: `xsaveshim probe` and the host mode's self-test learn with it what
// KVM, or whoever is between, does with xfeatures that a guest does not have. KVM is asked past
// libc: no shim that is preloaded into this process answers in its place. What the VM has in its
// CPUID table tells the host mode's BPF programs that its calls only ask (host/programs.h).
//
// Each function that returns bool returns false, with errno, where KVM or the kernel refuses. The
// VM ends with its descriptors.
#ifndef XSAVESHIM_PROBE_VM_H
#define XSAVESHIM_PROBE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first entry of the CPUID table of a vCPU that only asks what KVM does: nothing is reported of
// it and nobody is ended for it. The leaf is the one in which a hypervisor names itself.
#define PROBE_VM_LEAF 0x40000000
#define PROBE_VM_EBX 0x76617378 // "xsav"
#define PROBE_VM_ECX 0x69687365 // "eshi"
#define PROBE_VM_EDX 0x6d762d6d // "m-vm"

struct probe_vm {
	int kvm;
	int vm;
	int vcpu;
	char *payload; // pages of its own; NULL: none yet
	size_t payload_size;
};

int probe_vm_ioctl(int fd, unsigned long request, const void *argument);

// The xfeatures that KVM supports for this process's guests.
bool probe_vm_supported(const struct probe_vm *vm, uint64_t *xcr0);

// Makes the payload, as large as this VM's payloads are.
bool probe_vm_make_payload(struct probe_vm *vm);

// Gives the guest these xfeatures and no others; 0: a table that enumerates none.
bool probe_vm_set_guest_xcr0(const struct probe_vm *vm, uint64_t xcr0);

// What the guest has according to KVM, which may have changed the table that it was given.
bool probe_vm_get_guest_xcr0(const struct probe_vm *vm, uint64_t *xcr0);

// No component is all zeroes, so that each that is loaded is in use.
void probe_vm_fill_payload(const struct probe_vm *vm, uint64_t xstate_bv);

// Loads a payload with this XSTATE_BV and returns what it has become. Whether KVM takes it does not
// matter.
uint64_t probe_vm_load(const struct probe_vm *vm, uint64_t xstate_bv);

// The XSTATE_BV that KVM returns.
bool probe_vm_save(const struct probe_vm *vm, uint64_t *xstate_bv);

#endif
