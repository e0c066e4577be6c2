// SPDX-License-Identifier: MIT
// A VMM that has vCPUs and does nothing: `idle VCPUS [ANYTHING...]`, with IDLE_MIB of memory. It says "ready" once
// they are there, and waits for its standard input to end.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm.h"

// In small pages, so that giving them back takes its time.
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
	struct kvm_cpuid2 none = { 0 };
	char c;

	for (long i = 0; i < vcpus; i++) {
		int vcpu = kvm_ioctl(vm, KVM_CREATE_VCPU, (void *)i);

		kvm_ioctl(vcpu, KVM_SET_CPUID2, &none);
	}
	if (mib)
		fill((size_t)atol(mib) << 20);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}
