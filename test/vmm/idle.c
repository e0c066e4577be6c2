// SPDX-License-Identifier: MIT
/*
 * A VMM that has vCPUs and does nothing: `idle VCPUS [ANYTHING...]`, with IDLE_MIB of memory. It says "ready" once
 * they are there, and waits for its standard input to end.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int check(int result, const char *call)
{
	if (result < 0) {
		perror(call);
		exit(2);
	}
	return result;
}

// In small pages, so that giving them back takes its time.
static void fill(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(memory == MAP_FAILED ? -1 : 0, "mmap");
	madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 1, size);
}

int main(int argc, char **argv)
{
	long vcpus = argc > 1 ? atol(argv[1]) : 0;
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = check(ioctl(kvm, KVM_CREATE_VM, NULL), "KVM_CREATE_VM");
	const char *mib = getenv("IDLE_MIB");
	struct kvm_cpuid2 none = { 0 };
	char c;

	for (long i = 0; i < vcpus; i++) {
		int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, (void *)(uintptr_t)i), "KVM_CREATE_VCPU");

		check(ioctl(vcpu, KVM_SET_CPUID2, &none), "KVM_SET_CPUID2");
	}
	if (mib)
		fill((size_t)atol(mib) << 20);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}
