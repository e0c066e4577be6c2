// SPDX-License-Identifier: MIT
// Eight threads, each with its own vCPU, set CPUID tables and load payloads (XSAVE buffers) at the
// same time. Before each load, the thread sets a CPUID table that changes its vCPU's XCR0. If a
// payload's XSTATE_BV after KVM_SET_XSAVE differs from the vCPU's XCR0, the program prints a line
// and exits with status 1.
#include <pthread.h>
#include <stdatomic.h>

#include "kvm.h"

#define THREADS 8
#define ROUNDS 200

static int vm;
static atomic_int failures;

static int set_xcr0(int vcpu, uint32_t xcr0)
{
	struct leaf_0xd cpuid = LEAF_0XD(xcr0);

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
	unsigned char payload[sizeof(struct kvm_xsave)] = {0};
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, id);

	if (vcpu == -1)
		fail(id, "KVM_CREATE_VCPU");
	for (int round = 0; round < ROUNDS && !failures; round++) {
		uint64_t xcr0 = XFEATURES_FP_SSE | (uint64_t)(id + round) % THREADS << 2,
			 sent = 0xff;

		if (set_xcr0(vcpu, (uint32_t)xcr0))
			fail(id, "KVM_SET_CPUID2");
		set_xstate_bv(payload, sent);
		// The result of KVM_SET_XSAVE does not matter: the call fails if the host lacks an
		// xfeature of the payload. The test checks the payload's XSTATE_BV.
		ioctl(vcpu, KVM_SET_XSAVE, payload);
		if (get_xstate_bv(payload) != (sent & xcr0))
			fail(id, "KVM_SET_XSAVE: the payload was not trimmed to the vCPU's XCR0");
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];

	vm = kvm_ioctl(open_kvm(), KVM_CREATE_VM, NULL);
	for (long id = 0; id < THREADS; id++)
		if (pthread_create(&threads[id], NULL, vcpu_main, (void *)(intptr_t)id))
			return 1;
	for (long id = 0; id < THREADS; id++)
		pthread_join(threads[id], NULL);
	return failures ? 1 : 0;
}
