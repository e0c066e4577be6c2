// SPDX-License-Identifier: MIT
// The requirements of the BPF programs. Each function returns NULL, or one line that says what is
// missing and what to do. The next call overwrites the line.
#ifndef XSAVESHIM_HOST_REQUIREMENTS_H
#define XSAVESHIM_HOST_REQUIREMENTS_H

const char *missing_requirement(void);

// The requirements that can go missing while the programs are attached.
const char *missing_tracing(void);

#endif
