// SPDX-License-Identifier: MIT
// `xsaveshim host watch`: prints the BPF programs' reports, and changes of the host mode's state.
#ifndef XSAVESHIM_HOST_WATCH_H
#define XSAVESHIM_HOST_WATCH_H

// Returns the exit status. Returns only on failure.
int watch(void);

#endif
