// SPDX-License-Identifier: MIT
// Attaches a BPF program to a kretprobe at the exit of kvm_arch_vcpu_ioctl().
//
// Each running call of kvm_arch_vcpu_ioctl() uses one instance of the kretprobe. If no instance is
// free, the kernel skips the BPF program for this call. By default, a kretprobe has two instances
// for each CPU, and at least 10; older kernels without CONFIG_PREEMPTION give it only one for each
// CPU. If there are only 10 instances, ten threads that hang in ioctls of vCPUs use all of them, and
// the BPF program misses the exits of all further calls. User space can choose the number of
// instances only for a kretprobe that is a tracefs event, so kretprobe_attach makes such an event.
#ifndef XSAVESHIM_HOST_KRETPROBE_H
#define XSAVESHIM_HOST_KRETPROBE_H

#include <stdint.h>

#include <bpf/libbpf.h>

// If the program cannot be attached, returns NULL and sets errno. If no tracefs event can be made,
// for example because tracefs is missing, the kretprobe has the default number of instances.
struct bpf_link *kretprobe_attach(const struct bpf_program *program);

// Returns for how many calls no instance of xsaveshim's kretprobe was free.
uint64_t kretprobe_misses(void);

// Removes the tracefs events of xsaveshim that no BPF link uses.
void kretprobe_remove_unused(void);

#endif
