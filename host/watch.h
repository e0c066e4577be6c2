// SPDX-License-Identifier: MIT
// `xsaveshim host watch` prints the BPF programs' reports, and each change of the host mode's
// state.
#ifndef XSAVESHIM_HOST_WATCH_H
#define XSAVESHIM_HOST_WATCH_H

// Returns only if `xsaveshim host watch` fails. The returned value is the exit status.
int watch(void);

#endif
