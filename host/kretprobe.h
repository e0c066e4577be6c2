// SPDX-License-Identifier: MIT
// Attaches a BPF program to a kretprobe at the exit of kvm_arch_vcpu_ioctl(). The kretprobe is an
// event of tracefs.
//
// Each running call of kvm_arch_vcpu_ioctl() uses one instance of the kretprobe. If no instance is
// free, the kernel skips the BPF program. By default a kretprobe has two instances for each CPU,
// and at least 10. A dozen threads that hang in an ioctl could use all instances, and no program
// would see the exits of other calls. User space can ask for more instances only with an event of
// tracefs.
#ifndef XSAVESHIM_HOST_KRETPROBE_H
#define XSAVESHIM_HOST_KRETPROBE_H

#include <stdint.h>

#include <bpf/libbpf.h>

// Returns NULL, with errno set, if the program cannot be attached. Without tracefs, the kretprobe
// has the default number of instances.
struct bpf_link *kretprobe_attach(const struct bpf_program *program);

// Returns how many calls found no free instance of the kretprobe.
uint64_t kretprobe_misses(void);

// Removes each tracefs event of xsaveshim that no BPF link uses any more.
void kretprobe_remove_unused(void);

#endif
