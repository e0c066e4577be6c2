// SPDX-License-Identifier: MIT
// `idle VCPUS [IGNORED...]` is a VMM that creates VCPUS vCPUs and then does nothing. It ignores its
// other arguments. The VMM prints "ready" when it has created the vCPUs, and ends when its standard
// input ends. These environment variables change what the VMM does:
//
//	IDLE_MIB	the VMM also fills this number of MiB of memory
//	IDLE_STATS	the VMM also opens each vCPU's statistics descriptor, as QEMU 10 and
//			Firecracker do
//	IDLE_RAW	the VMM makes its KVM calls after KVM_CREATE_VM without libc's ioctl(), as
//			Go programs do
//	IDLE_THREAD	a second thread, which has its own descriptor table, creates the vCPUs
//	IDLE_END	like IDLE_THREAD, but the main thread ends once the second thread runs
//	IDLE_CHILDREN	the VMM also starts this number of child processes, which end when the VMM
//			ends
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kvm.h"

// Debian 11's kernel headers lack KVM_GET_STATS_FD, which Linux 5.14 added.
#ifndef KVM_GET_STATS_FD
#define KVM_GET_STATS_FD _IO(KVMIO, 0xce)
#endif

#define call(fd, request, argument) call_named(fd, request, argument, #request)

static int call_named(int fd, unsigned int request, const void *argument, const char *name)
{
	int result = getenv("IDLE_RAW") ? raw_ioctl(fd, request, argument)
					: ioctl(fd, request, argument);

	if (result < 0) {
		perror(name);
		exit(2);
	}
	return result;
}

// Fills new memory. The memory has small pages instead of huge pages, so that the kernel needs more
// time to free it when the VMM ends.
static void fill(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 1, size);
}

static void start_children(long count)
{
	pid_t parent = getpid();

	while (count-- > 0) {
		pid_t child = fork();

		if (child < 0) {
			perror("fork");
			exit(2);
		}
		if (child)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
}

static long vcpus;

static void *be_vmm(void *argument)
{
	struct kvm_cpuid2 none = {0};
	const char *mib = getenv("IDLE_MIB");
	int vm;
	char c;

	if (argument && unshare(CLONE_FILES)) {
		perror("unshare");
		exit(2);
	}
	vm = kvm_ioctl(open_kvm(), KVM_CREATE_VM, NULL);
	for (long i = 0; i < vcpus; i++) {
		int vcpu = call(vm, KVM_CREATE_VCPU, (void *)i);

		call(vcpu, KVM_SET_CPUID2, &none);
		if (getenv("IDLE_STATS"))
			call(vcpu, KVM_GET_STATS_FD, NULL);
	}
	if (mib)
		fill((size_t)atol(mib) << 20);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	exit(0);
}

int main(int argc, char **argv)
{
	const char *children = getenv("IDLE_CHILDREN");
	pthread_t thread;

	vcpus = argc > 1 ? atol(argv[1]) : 0;
	if (children)
		start_children(atol(children));
	if (!getenv("IDLE_THREAD") && !getenv("IDLE_END"))
		be_vmm(NULL);
	if (pthread_create(&thread, NULL, be_vmm, argv)) {
		perror("pthread_create");
		return 2;
	}
	if (getenv("IDLE_END"))
		pthread_exit(NULL);
	pthread_join(thread, NULL);
	return 0;
}
