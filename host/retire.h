// SPDX-License-Identifier: MIT
// Removes sets of BPF programs without a crash of the kernel.
//
// The kernel calls programs of types fentry and fexit from a trampoline's image. The image is code,
// which the kernel makes again each time a program is attached to the function or detached from it.
// The kernel can preempt a thread in an image, and the thread calls the program later. The kernel
// waits for such threads before it frees the image. Before Linux 7.2.10 the kernel does not wait
// for such threads before it frees the program, and a thread can call freed memory.
//
// Therefore xsaveshim pins the programs of types fentry and fexit, and not only their links. A
// program is pinned before it is attached, and stays pinned until no thread can be in an image that
// calls it. retire() moves a set of programs to a directory xsaveshim-retired-.... The set is
// released from there:
// - when the function has no image any more, which /proc/kallsyms shows, or
// - after 10 minutes, if the function still has images, because other programs are attached to it.
#ifndef XSAVESHIM_HOST_RETIRE_H
#define XSAVESHIM_HOST_RETIRE_H

// Detaches the programs of a set, and retires the set. Does nothing if the directory is missing.
// Can wait some seconds until the function has no images.
void retire(const char *directory);

// Releases the sets that were retired more than 10 minutes ago.
void retire_release(void);

#endif
