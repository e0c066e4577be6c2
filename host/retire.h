// SPDX-License-Identifier: MIT
// Removes sets of BPF programs in a way that does not crash the kernel.
//
// The kernel calls the fentry and fexit programs of a traced function from machine code that the
// kernel generates (an image of the function's trampoline). The kernel makes a new image each time
// it attaches or detaches a program. The kernel can preempt a thread inside an image before the
// thread calls the program. Before the kernel frees an image, it waits until no thread is inside
// the image. But Linux before 7.2.10 frees a program without this wait, so a preempted thread can
// call freed memory.
//
// Therefore xsaveshim pins its fentry and fexit programs, and not only their links. xsaveshim pins
// each program before it attaches the program, and keeps the pin until no thread can be in an image
// that calls the program. retire() moves the pins of a set of programs to a directory whose name
// begins with xsaveshim-retired-, and waits until /proc/kallsyms lists no image of the traced
// function's trampoline. Then retire() removes these pins. If an image stays listed, for example
// because another tool traces the same function, retire() leaves the pins to retire_release().
#ifndef XSAVESHIM_HOST_RETIRE_H
#define XSAVESHIM_HOST_RETIRE_H

// Detaches the BPF programs whose pins are in the directory, and retires the set of programs as
// described above. If the directory is missing, does nothing. Waits at most about 5 seconds.
void retire(const char *directory);

// Removes the pins of all sets of BPF programs that were retired at least 10 minutes ago.
void retire_release(void);

#endif
