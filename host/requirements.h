// SPDX-License-Identifier: MIT
// Checks whether this kernel and this process meet the host mode's requirements. If nothing is
// missing, a function returns NULL. If something is missing, the function returns one line that
// says what is missing and what to do. The next call of either function may overwrite the line.
#ifndef XSAVESHIM_HOST_REQUIREMENTS_H
#define XSAVESHIM_HOST_REQUIREMENTS_H

#include <stdbool.h>

// Sets *is_final to true if every later call of missing_requirement would find the same requirement
// missing. If the module kvm is loaded, waits up to 10 seconds for the module kvm_intel or kvm_amd.
const char *missing_requirement(bool *is_final);

// Checks whether function tracing and kprobes are switched on. Root can switch them off even while
// the BPF programs are attached.
const char *missing_tracing(void);

#endif
