// SPDX-License-Identifier: MIT
// Lists of system calls and ioctls that the seccomp filters of three real VMMs allow. The lists are
// incomplete: for example, KVM_RUN is missing. Each list describes the filter of the thread that
// restores or saves a vCPU. The test program filtered.c installs one of these lists as its own
// seccomp filter.
//
// We made the lists in November 2026: we built each VMM from its sources, made calls inside the
// VMM, under the VMM's own filter, and listed the allowed calls. If we could not make a call inside
// the VMM, we copied the call's entry from the VMM's source.
#ifndef TEST_FILTERS_H
#define TEST_FILTERS_H

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kvm.h"

#define ANY_ARGUMENT (-1)

// A system call that a filter allows. If `argument` is ANY_ARGUMENT, the filter allows the call
// with any arguments. Otherwise, `argument` is the number of an argument (from 0) whose low 32 bits
// must be `value`.
struct allowed {
	int syscall;
	int argument;
	uint32_t value;
};

#define PASS(name) \
	{ \
		SYS_##name, ANY_ARGUMENT, 0 \
	}
#define PASS_ONLY(name, argument, value) \
	{ \
		SYS_##name, (argument), (value) \
	}
#define PASS_REQUEST(request) \
	{ \
		SYS_ioctl, 1, (request) \
	}

// Firecracker 1.17-dev, commit 81b38b9: the filter of the thread that runs and saves a vCPU. The
// filter allows fstat, but forbids newfstatat. The entries exit, exit_group and rt_sigreturn are
// copied from Firecracker's source.
static const struct allowed firecracker_allows[] = {
	PASS(exit),
	PASS(exit_group),
	PASS(rt_sigreturn),
	PASS(write),
	PASS(fstat),
	PASS(open),
	PASS(close),
	PASS(sendmsg),
	PASS(gettid),
	PASS(clock_gettime),
	PASS(rt_sigprocmask),
	PASS(munmap),
	PASS(eventfd2),
	PASS(sched_yield),
	PASS_REQUEST(KVM_GET_CPUID2),
	PASS_REQUEST(KVM_GET_XSAVE2),
	PASS_REQUEST(KVM_GET_XSAVE),
	PASS_REQUEST(KVM_GET_XCRS),
};

// Cloud Hypervisor, commit ae44c29: the filter of the thread "vmm", which restores guests and
// receives live migrations. The entries exit, exit_group, rt_sigreturn and brk are copied from
// Cloud Hypervisor's source.
static const struct allowed cloud_hypervisor_allows[] = {
	PASS(exit),
	PASS(exit_group),
	PASS(rt_sigreturn),
	PASS(brk),
	PASS(write),
	PASS(read),
	PASS(readv),
	PASS(writev),
	PASS(pread64),
	PASS(fstat),
	PASS(newfstatat),
	PASS(statx),
	PASS(readlink),
	PASS(getpid),
	PASS(gettid),
	PASS(getuid),
	PASS(fcntl),
	PASS(dup),
	PASS(open),
	PASS(openat),
	PASS(close),
	PASS_ONLY(socket, 0, AF_UNIX),
	PASS(connect),
	PASS(sendto),
	PASS(sendmsg),
	PASS(poll),
	PASS(clock_gettime),
	PASS(rt_sigprocmask),
	PASS(rt_sigaction),
	PASS(mmap),
	PASS(munmap),
	PASS(madvise),
	PASS(mprotect),
	PASS(prctl),
	PASS(futex),
	PASS(tkill),
	PASS(tgkill),
	PASS(kill),
	PASS(eventfd2),
	PASS(pipe2),
	PASS(nanosleep),
	PASS(clock_nanosleep),
	PASS(getrandom),
	PASS(sched_yield),
	PASS(memfd_create),
	PASS_REQUEST(KVM_CREATE_VM),
	PASS_REQUEST(KVM_CREATE_VCPU),
	PASS_REQUEST(KVM_GET_SUPPORTED_CPUID),
	PASS_REQUEST(KVM_GET_CPUID2),
	PASS_REQUEST(KVM_SET_CPUID2),
	PASS_REQUEST(KVM_SET_XSAVE),
	PASS_REQUEST(KVM_SET_XCRS),
	PASS_REQUEST(KVM_SET_SREGS),
	PASS_REQUEST(KVM_SET_MSRS),
	PASS_REQUEST(KVM_GET_XSAVE2),
	PASS_REQUEST(KVM_GET_XSAVE),
	PASS_REQUEST(KVM_GET_XCRS),
	PASS_REQUEST(KVM_CHECK_EXTENSION),
};

// StratoVirt 2.5, commit d5b3203: the filter that all threads of the VMM have. The entries exit,
// exit_group, rt_sigreturn and brk are copied from StratoVirt's source.
static const struct allowed stratovirt_allows[] = {
	PASS(exit),
	PASS(exit_group),
	PASS(rt_sigreturn),
	PASS(brk),
	PASS(read),
	PASS(write),
	PASS(readv),
	PASS(writev),
	PASS(pread64),
	PASS(fstat),
	PASS(newfstatat),
	PASS(statx),
	PASS(readlink),
	PASS(getpid),
	PASS(gettid),
	PASS(dup),
	PASS(open),
	PASS(openat),
	PASS(close),
	PASS(socket),
	PASS(connect),
	PASS(sendto),
	PASS(sendmsg),
	PASS(ppoll),
	PASS(clock_gettime),
	PASS(rt_sigprocmask),
	PASS(rt_sigaction),
	PASS(mmap),
	PASS(munmap),
	PASS(mprotect),
	PASS(prctl),
	PASS(tgkill),
	PASS(eventfd2),
	PASS(getrandom),
	PASS_ONLY(fcntl, 1, F_GETFD),
	PASS_ONLY(fcntl, 1, F_SETFD),
	PASS_ONLY(fcntl, 1, F_DUPFD_CLOEXEC),
	PASS_ONLY(futex, 1, FUTEX_WAIT_PRIVATE),
	PASS_ONLY(futex, 1, FUTEX_WAKE_PRIVATE),
	PASS_REQUEST(KVM_GET_API_VERSION),
	PASS_REQUEST(KVM_GET_SUPPORTED_CPUID),
	PASS_REQUEST(KVM_SET_CPUID2),
	PASS_REQUEST(KVM_SET_XSAVE),
	PASS_REQUEST(KVM_GET_XSAVE),
	PASS_REQUEST(KVM_SET_XCRS),
	PASS_REQUEST(KVM_SET_SREGS),
	PASS_REQUEST(KVM_SET_MSRS),
};

#endif
