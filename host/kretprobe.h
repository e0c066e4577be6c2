// SPDX-License-Identifier: MIT
// A kretprobe on kvm_arch_vcpu_ioctl(), as an event of tracefs.
//
// Each running call uses one instance of the kretprobe. If no instance is free, the kernel skips
// the program. By default the kernel makes 10 instances, or two for each CPU. A dozen threads that
// hang in an ioctl could use all instances, and no program would see the exit of other calls. Only
// an event of tracefs can have more instances.
#ifndef XSAVESHIM_HOST_KRETPROBE_H
#define XSAVESHIM_HOST_KRETPROBE_H

#include <stdint.h>

#include <bpf/libbpf.h>

// Returns NULL, with errno set, if the program cannot be attached. Without tracefs, the kretprobe
// has the default number of instances.
struct bpf_link *kretprobe_attach(const struct bpf_program *program);

// Returns how many calls found no free instance.
uint64_t kretprobe_misses(void);

// Removes each of our events whose link is gone.
void kretprobe_remove_unused(void);

#endif
