// SPDX-License-Identifier: MIT
// many COUNT: starts COUNT VMMs, one after the other. Each VMM is a process that calls
// KVM_SET_XSAVE five times, without libc's ioctl(), and then sleeps until `many` ends. The payload
// (the XSAVE buffer) has AVX, which the guest lacks. Prints "trimmed=N first-ns=N last-ns=N".
// trimmed is the number of VMMs in which xsaveshim cleared AVX in all five payloads. A VMM's time
// is the duration of its fastest KVM_SET_XSAVE. first-ns is the median of the first 100 VMMs'
// times, and last-ns is the median of the last 100 VMMs' times.
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <time.h>

#include "kvm.h"

#define RESTORES 5
#define COUNTED 100

struct result {
	long ns;
	bool trimmed;
};

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000 + time.tv_nsec;
}

static struct result restore(void)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	static unsigned char payload[sizeof(struct kvm_xsave)];
	int vcpu = raw_ioctl(raw_ioctl(open_kvm(), KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);
	struct result result = {-1, true};

	raw_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	set_mxcsr(payload, MXCSR_DEFAULT);
	for (int i = 0; i < RESTORES; i++) {
		long before = now();

		set_xstate_bv(payload, 7);
		if (raw_ioctl(vcpu, KVM_SET_XSAVE, payload) ||
		    get_xstate_bv(payload) != XFEATURES_FP_SSE)
			result.trimmed = false;
		if (result.ns < 0 || now() - before < result.ns)
			result.ns = now() - before;
	}
	return result;
}

static int compare(const void *a, const void *b)
{
	const struct result *one = a, *other = b;

	return (one->ns > other->ns) - (one->ns < other->ns);
}

static long median(struct result *results)
{
	qsort(results, COUNTED, sizeof(*results), compare);
	return results[COUNTED / 2].ns;
}

int main(int argc, char **argv)
{
	int count = argc == 2 ? atoi(argv[1]) : 0, trimmed = 0, ends[2];
	static struct result *results;

	if (count < COUNTED)
		errx(2, "usage: many COUNT    (COUNT is at least %d)", COUNTED);
	results = calloc((size_t)count, sizeof(*results));
	if (!results || pipe(ends))
		err(2, "pipe");
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			err(2, "fork");
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			results[i] = restore();
			if (write(ends[1], &results[i], sizeof(results[i])) == sizeof(results[i]))
				pause();
			_exit(2);
		}
		if (read(ends[0], &results[i], sizeof(results[i])) != sizeof(results[i]))
			return 2;
		trimmed += results[i].trimmed;
	}
	printf("trimmed=%d first-ns=%ld", trimmed, median(results));
	printf(" last-ns=%ld\n", median(results + count - COUNTED));
	return 0;
}
