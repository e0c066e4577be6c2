// SPDX-License-Identifier: MIT
// A kretprobe on kvm_arch_vcpu_ioctl(), as an event of tracefs.
//
// The kernel has an instance of a kretprobe for each call that is running. If there are more calls
// than instances, it skips the program. Only an event of tracefs has as many instances as we want: by
// default there are 10 or two for each CPU, so that a dozen threads that hang in an ioctl would take
// the exit away from all others.
#ifndef XSAVESHIM_HOST_KRETPROBE_H
#define XSAVESHIM_HOST_KRETPROBE_H

#include <stdint.h>

#include <bpf/libbpf.h>

// Returns NULL, with errno, if the program cannot be attached. If there is no tracefs, the kretprobe
// has the default number of instances.
struct bpf_link *kretprobe_attach(const struct bpf_program *program);

// How many calls had no instance.
uint64_t kretprobe_misses(void);

// Removes the events whose link is gone.
void kretprobe_remove_unused(void);

#endif
