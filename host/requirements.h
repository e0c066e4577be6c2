// SPDX-License-Identifier: MIT
// The requirements of the BPF programs. Each function returns NULL if this kernel and this process
// meet the requirements. Otherwise it returns one line that says what is missing and what to do.
// The next call overwrites that line.
#ifndef XSAVESHIM_HOST_REQUIREMENTS_H
#define XSAVESHIM_HOST_REQUIREMENTS_H

#include <stdbool.h>

// Sets *is_final if waiting does not help. If the module kvm is loaded, waits some seconds for the
// module of the CPU's vendor.
const char *missing_requirement(bool *is_final);

// Checks the requirements that can go missing while the programs are attached.
const char *missing_tracing(void);

#endif
