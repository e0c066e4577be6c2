// SPDX-License-Identifier: MIT
// Removes sets of BPF programs without a crash of the kernel.
//
// The kernel calls programs of types fentry and fexit from a trampoline's image: code that it makes
// again each time a program is attached to the function or detached from it. A thread can be
// preempted in an image and call the program later. The kernel waits for such threads before it
// frees the image. But before Linux 7.2.10 it does not wait before it frees the program, and the
// thread then calls freed memory.
//
// So these programs are pinned, not only their links: before they are attached, until no thread can
// be in an image that names them. Removal moves a set of programs to a directory
// xsaveshim-retired-..., from which it is released later:
// - when the function has no image any more, which /proc/kallsyms shows, or
// - after 10 minutes, if the function still has images, because other programs are attached to it.
#ifndef XSAVESHIM_HOST_RETIRE_H
#define XSAVESHIM_HOST_RETIRE_H

// Detaches the programs of a set, and retires the set. Does nothing if the directory is missing.
// Can wait for some seconds for the end of the images.
void retire(const char *directory);

// Releases the sets that were retired more than 10 minutes ago.
void retire_release(void);

#endif
