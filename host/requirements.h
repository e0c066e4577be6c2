// SPDX-License-Identifier: MIT
// The requirements of the BPF programs. Each function returns NULL if this kernel and this process
// meet them, else one line that says what is missing and what to do. The next call overwrites it.
#ifndef XSAVESHIM_HOST_REQUIREMENTS_H
#define XSAVESHIM_HOST_REQUIREMENTS_H

#include <stdbool.h>

// *is_final: waiting does not help. Waits for some seconds for the vendor's module of KVM if the module
// kvm is loaded.
const char *missing_requirement(bool *is_final);

// The requirements that can go missing while the programs are attached.
const char *missing_tracing(void);

#endif
