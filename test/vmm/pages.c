// SPDX-License-Identifier: MIT
// pages KIND: calls KVM_SET_XSAVE with a payload (an XSAVE buffer) that has AVX and PKRU. The
// vCPU's CPUID shows neither AVX nor PKRU. A write to the payload's XSTATE_BV causes a page fault.
// If KIND is `absent` or `userfaultfd`, a read of the payload causes a page fault, too. Prints
// KVM's result, and the XSTATE_BV after the call. KIND is:
// - readonly: the page is read-only
// - copied: the process shares the page copy-on-write with a child
// - absent: the page maps a file, and the process has not touched the page yet
// - split: a page boundary splits XSTATE_BV, and only the first byte of XSTATE_BV is writable
// - userfaultfd: another thread provides the page at the first read or write
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "errnos.h"
#include "kvm.h"

#define PAGE 4096
#define GIVEN 0x207

static unsigned char content[PAGE] __attribute__((aligned(PAGE)));

static void *check(void *address, const char *what)
{
	if (address == MAP_FAILED) {
		perror(what);
		exit(2);
	}
	return address;
}

static unsigned char *private_page(void)
{
	unsigned char *page =
		check(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      "mmap");

	memcpy(page, content, PAGE);
	return page;
}

static unsigned char *readonly_page(void)
{
	unsigned char *page = private_page();

	if (mprotect(page, PAGE, PROT_READ))
		check(MAP_FAILED, "mprotect");
	return page;
}

static unsigned char *copied_page(void)
{
	unsigned char *page = private_page();

	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
	}
	return page;
}

static unsigned char *absent_page(void)
{
	int file = memfd_create("payload", 0);

	if (write(file, content, PAGE) != PAGE)
		check(MAP_FAILED, "write");
	return check(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), "mmap");
}

// A page boundary splits XSTATE_BV after its first byte. The first byte has the bit of AVX and is
// writable. The second byte has the bit of PKRU and is read-only.
static unsigned char *split_page(void)
{
	unsigned char *pages = check(
		mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		"mmap");
	unsigned char *payload = pages + PAGE - XSTATE_BV - 1;

	memcpy(payload, content, PAGE);
	if (mprotect(pages + PAGE, PAGE, PROT_READ))
		check(MAP_FAILED, "mprotect");
	return payload;
}

static void *bring_page(void *userfaultfd)
{
	struct uffd_msg message;
	struct uffdio_copy copy = {.src = (uintptr_t)content, .len = PAGE};
	int fd = *(int *)userfaultfd;

	if (read(fd, &message, sizeof(message)) != sizeof(message))
		check(MAP_FAILED, "read");
	copy.dst = message.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
	if (ioctl(fd, UFFDIO_COPY, &copy))
		check(MAP_FAILED, "UFFDIO_COPY");
	return NULL;
}

static unsigned char *userfaultfd_page(void)
{
	static int fd;
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING, .range.len = PAGE};
	unsigned char *page =
		check(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      "mmap");
	pthread_t thread;

	fd = (int)syscall(SYS_userfaultfd, 0);
	range.range.start = (uintptr_t)page;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range) ||
	    pthread_create(&thread, NULL, bring_page, &fd))
		check(MAP_FAILED, "userfaultfd");
	return page;
}

static const struct {
	const char *name;
	unsigned char *(*make)(void);
} kinds[] = {{"readonly", readonly_page},
	     {"copied", copied_page},
	     {"absent", absent_page},
	     {"split", split_page},
	     {"userfaultfd", userfaultfd_page}};

int main(int argc, char **argv)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	unsigned char *page = NULL;
	int device, vcpu, result;

	set_xstate_bv(content, GIVEN);
	set_mxcsr(content, MXCSR_DEFAULT);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && argc == 2; i++)
		if (!strcmp(argv[1], kinds[i].name))
			page = kinds[i].make();
	if (!page) {
		fputs("usage: pages readonly|copied|absent|split|userfaultfd\n", stderr);
		return 2;
	}
	device = open(kvm_device(), O_RDWR | O_CLOEXEC);
	vcpu = kvm_ioctl(kvm_ioctl(device, KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);
	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	result = raw_ioctl(vcpu, KVM_SET_XSAVE, page);
	printf("%s: %s xstate_bv=0x%llx\n", argv[1], result ? errno_name(errno) : "0",
	       (unsigned long long)get_xstate_bv(page));
	return 0;
}
