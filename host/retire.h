// SPDX-License-Identifier: MIT
// Removes sets of BPF programs in a way that does not crash the kernel.
//
// The kernel calls fentry and fexit programs from the image of a trampoline. The image is machine
// code. The kernel makes a new image each time a program is attached to the traced function or
// detached from it. The kernel can preempt a thread inside an image, and the thread calls the
// program later. The kernel waits for such threads before it frees the image. Linux 7.2.10 and
// later wait for such threads also before they free the program. Earlier kernels do not wait then,
// so such a thread can call freed memory.
//
// Therefore xsaveshim pins its fentry and fexit programs, and not only their links. Each program is
// pinned before it is attached, and stays pinned until no thread can be in an image that calls the
// program. retire() moves the pins of a set of programs to a directory xsaveshim-retired-....
// xsaveshim removes the pins from that directory:
// - when /proc/kallsyms shows that the function has no image any more, or
// - otherwise after 10 minutes, for example if other programs are attached to the function.
#ifndef XSAVESHIM_HOST_RETIRE_H
#define XSAVESHIM_HOST_RETIRE_H

// Detaches the BPF programs whose pins are in the directory, and retires the set of programs. Does
// nothing if the directory is missing. May wait some seconds until the traced function has no
// images.
void retire(const char *directory);

// Releases the sets of BPF programs that were retired more than 10 minutes ago.
void retire_release(void);

#endif
