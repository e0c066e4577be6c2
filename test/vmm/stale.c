// SPDX-License-Identifier: MIT
// stale ROUNDS: checks that a save (KVM_GET_XSAVE) does not change the buffer of an earlier save.
// In each round, the program saves into a first buffer, sets AVX and PKRU in this buffer's
// XSTATE_BV, and saves into a second buffer. The guest lacks AVX and PKRU. At the start of a round,
// both buffers are absent pages. So each save causes a page fault, and waits for another thread,
// which maps the page after 20 ms. Prints "rounds=N changed=N". changed is the number of rounds in which the second save
// changed the first buffer's XSTATE_BV.
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvm.h"

#define PAGE 4096
#define OWN 0x207
#define WAIT_US 20000

static int faults;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void *bring_pages(void *unused)
{
	struct uffd_msg message;

	(void)unused;
	while (read(faults, &message, sizeof(message)) == sizeof(message)) {
		struct uffdio_zeropage page = {
			.range = {message.arg.pagefault.address & -(uint64_t)PAGE, PAGE}};

		usleep(WAIT_US);
		ioctl(faults, UFFDIO_ZEROPAGE, &page);
	}
	return NULL;
}

static unsigned char *absent_pages(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {
		.range.len = 2 * PAGE, .mode = UFFDIO_REGISTER_MODE_MISSING};
	void *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	range.range.start = (uintptr_t)pages;
	if (pages == MAP_FAILED || faults < 0 || ioctl(faults, UFFDIO_API, &api) ||
	    ioctl(faults, UFFDIO_REGISTER, &range))
		die("userfaultfd");
	return pages;
}

int main(int argc, char **argv)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	unsigned long rounds = argc == 2 ? strtoul(argv[1], NULL, 0) : 0;
	unsigned long changed = 0;
	int device = open(kvm_device(), O_RDWR | O_CLOEXEC);
	int vcpu = kvm_ioctl(kvm_ioctl(device, KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);
	unsigned char *first = absent_pages(), *second = first + PAGE;
	pthread_t thread;

	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	pthread_create(&thread, NULL, bring_pages, NULL);
	for (unsigned long round = 0; round < rounds; round++) {
		kvm_ioctl(vcpu, KVM_GET_XSAVE, first);
		set_xstate_bv(first, OWN);
		kvm_ioctl(vcpu, KVM_GET_XSAVE, second);
		changed += get_xstate_bv(first) != OWN;
		madvise(first, 2 * PAGE, MADV_DONTNEED);
	}
	printf("rounds=%lu changed=%lu\n", rounds, changed);
	return 0;
}
