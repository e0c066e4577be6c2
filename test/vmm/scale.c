// SPDX-License-Identifier: MIT
// scale vcpus N [XSTATE_BV]	creates one VM with N vCPUs
// scale vms N			creates and closes N VMs with two vCPUs each, one VM after the other
//
// For each vCPU, the program sets a CPUID table and calls KVM_SET_XSAVE with a payload (an XSAVE
// buffer) that has XSTATE_BV (default: 7). Then it prints "count=N first-ns=N last-ns=N shim-kib=N
// process-kib=N". first-ns is the median CPU time of KVM_SET_XSAVE in the first quarter of the run,
// and last-ns is the median CPU time in the last quarter. shim-kib is the growth of the resident
// memory of xsaveshim's library in KiB, and process-kib is the growth of the whole process's
// resident memory. With vms, the times of each VM's first vCPU do not count, and neither does the
// growth in the first quarter of the run.
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>

#include "kvm.h"

static long *times;

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000 + time.tv_nsec;
}

// The XSTATE_BV of each payload. The default, 7, has AVX, which the guest lacks.
static uint64_t restored_bv = 7;

static int make_vcpu(int vm, long id, long *time)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	static unsigned char payload[sizeof(struct kvm_xsave)];
	int vcpu = kvm_ioctl(vm, KVM_CREATE_VCPU, (void *)(intptr_t)id);

	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	set_xstate_bv(payload, restored_bv);
	*time = now();
	kvm_ioctl(vcpu, KVM_SET_XSAVE, payload);
	*time = now() - *time;
	return vcpu;
}

// Returns the number of resident KiB of xsaveshim's library (if `shim` is true) or of the whole
// process. The library's memory is all mappings of the library's file, and the library's .bss: the
// anonymous mapping that starts where a mapping of the file ends.
static long resident(bool shim)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[512];
	unsigned long start, end, last_end = 0;
	bool counts = false;
	long sum = 0, kib;

	if (!smaps)
		err(2, "smaps");
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			bool named = strstr(line, "/libxsaveshim.so");

			counts = !shim || named ||
				 (counts && start == last_end && !strchr(line, '/') &&
				  !strchr(line, '['));
			last_end = end;
		} else if (counts && sscanf(line, "Rss: %ld kB", &kib) == 1) {
			sum += kib;
		}
	}
	fclose(smaps);
	return sum;
}

static int compare(const void *a, const void *b)
{
	const long *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static long median(long *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

static void many_vcpus(int kvm, long count)
{
	int vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);

	for (long i = 0; i < count; i++)
		make_vcpu(vm, i, &times[i]);
}

static void one_vm(int kvm, long *time)
{
	int vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);
	int other = make_vcpu(vm, 1, time), vcpu = make_vcpu(vm, 0, time);

	close(other);
	close(vcpu);
	close(vm);
}

int main(int argc, char **argv)
{
	struct rlimit limit = {4096, 4096};
	long count = argc >= 3 ? atol(argv[2]) : 0;
	int kvm = open_kvm();
	long shim, process;

	times = calloc((size_t)count, sizeof(*times));
	if (count < 8 || !times)
		err(2, "scale");
	if (argc == 4)
		restored_bv = strtoull(argv[3], NULL, 0);
	setrlimit(RLIMIT_NOFILE, &limit);
	memset(times, 1, (size_t)count * sizeof(*times));
	shim = resident(true);
	process = resident(false);
	if (!strcmp(argv[1], "vcpus")) {
		many_vcpus(kvm, count);
	} else {
		for (long i = 0; i < count; i++) {
			if (i == count / 4) {
				shim = resident(true);
				process = resident(false);
			}
			one_vm(kvm, &times[i]);
		}
	}
	shim = resident(true) - shim;
	process = resident(false) - process;
	printf("count=%ld first-ns=%ld last-ns=%ld shim-kib=%ld process-kib=%ld\n", count,
	       median(times, (size_t)count / 4),
	       median(times + count - count / 4, (size_t)count / 4), shim, process);
	return 0;
}
