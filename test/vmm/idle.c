// SPDX-License-Identifier: MIT
// A VMM that has vCPUs and does nothing: `idle VCPUS [ANYTHING...]`. It prints "ready" once it has
// the vCPUs, and ends when its standard input does. Variables change it:
//
//	IDLE_MIB	it has so much memory
//	IDLE_STATS	it holds the statistics of each vCPU, too, as QEMU 10 and Firecracker do
//	IDLE_RAW	it calls the kernel without libc's ioctl(), as Go programs do
#include <sys/mman.h>

#include "kvm.h"

// From Linux 5.14; the headers of Debian 11 are older.
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

// Fills memory in small pages, because the kernel takes longer to free these.
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

int main(int argc, char **argv)
{
	long vcpus = argc > 1 ? atol(argv[1]) : 0;
	int vm = kvm_ioctl(open_kvm(), KVM_CREATE_VM, NULL);
	const char *mib = getenv("IDLE_MIB");
	struct kvm_cpuid2 none = {0};
	char c;

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
	return 0;
}
