// SPDX-License-Identifier: MIT
// What keeps this kernel from running the BPF programs, or from calling them.
#ifndef XSAVESHIM_HOST_REQUIREMENTS_H
#define XSAVESHIM_HOST_REQUIREMENTS_H

// One line that names the obstacle and what to do, or NULL: none is known. The line is overwritten
// by the next call. Loads KVM's module where that alone is missing.
const char *obstacle_to_enabling(void);

// The same, of what may have come up since the programs were attached.
const char *obstacle_to_calling(void);

#endif
