// SPDX-License-Identifier: MIT
/*
 * Eight threads, each with a vCPU whose guest XCR0 is unlike the others', change its CPUID and load payloads
 * into it, all at once. Exit status 1, and a line, where a payload was not trimmed to its own vCPU's mask.
 * DEVICE in the environment stands in for /dev/kvm.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS 200
#define XSTATE_BV 512
#define FP_SSE 3u

static int vm;
static atomic_int failures;

static int set_xcr0(int vcpu, uint32_t xcr0)
{
	struct {
		uint32_t nent, padding;
		struct kvm_cpuid_entry2 leaf;
	} cpuid = { .nent = 1, .leaf = { .function = 0xd, .eax = xcr0 } };

	return ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
}

static void fail(long id, const char *what)
{
	printf("vCPU %ld: %s: %s\n", id, what, strerror(errno));
	failures++;
}

static void *vcpu_main(void *arg)
{
	long id = (long)(intptr_t)arg;
	unsigned char payload[sizeof(struct kvm_xsave)] = { 0 };
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, id);

	if (vcpu == -1)
		fail(id, "KVM_CREATE_VCPU");
	for (int round = 0; round < ROUNDS && !failures; round++) {
		uint64_t xcr0 = FP_SSE | (uint64_t)(id + round) % THREADS << 2, sent = 0xff, seen;

		if (set_xcr0(vcpu, (uint32_t)xcr0))
			fail(id, "KVM_SET_CPUID2");
		memcpy(payload + XSTATE_BV, &sent, sizeof(sent));
		/* KVM refuses what this host lacks; what the payload has become is the matter here. */
		ioctl(vcpu, KVM_SET_XSAVE, payload);
		memcpy(&seen, payload + XSTATE_BV, sizeof(seen));
		if (seen != (sent & xcr0))
			fail(id, "a payload was not trimmed to this vCPU's own mask");
	}
	return NULL;
}

int main(void)
{
	const char *device = getenv("DEVICE");
	int kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
	pthread_t threads[THREADS];

	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm == -1) {
		perror("KVM_CREATE_VM");
		return 1;
	}
	for (long id = 0; id < THREADS; id++)
		if (pthread_create(&threads[id], NULL, vcpu_main, (void *)(intptr_t)id))
			return 1;
	for (long id = 0; id < THREADS; id++)
		pthread_join(threads[id], NULL);
	return failures ? 1 : 0;
}
