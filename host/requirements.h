// SPDX-License-Identifier: MIT
// The requirements of the BPF programs. Each function returns NULL, or one line, valid until the
// next call, that says what is missing and what to do.
#ifndef XSAVESHIM_HOST_REQUIREMENTS_H
#define XSAVESHIM_HOST_REQUIREMENTS_H

const char *missing_requirement(void);

// The requirements that can go missing while the programs are attached.
const char *missing_tracing(void);

#endif
