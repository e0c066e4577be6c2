// SPDX-License-Identifier: MIT
// `xsaveshim host watch`: prints what the BPF programs report, and that they have stopped to be
// active.
#ifndef XSAVESHIM_HOST_WATCH_H
#define XSAVESHIM_HOST_WATCH_H

// Returns only where it cannot go on: the exit status.
int watch(void);

#endif
