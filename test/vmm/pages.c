// SPDX-License-Identifier: MIT
// pages KIND: loads a payload with AVX and PKRU, which the guest does not have, from memory that the
// process cannot write, or read, without a page fault. KIND: readonly, copied (shared with a child
// until one of them writes), absent (a page of a file that was not touched yet), userfaultfd (a page
// that another thread provides when it is touched). Prints KVM's result, and the XSTATE_BV after it.
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

static unsigned char *map_page(int flags, int file)
{
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, file, 0);

	if (page == MAP_FAILED)
		err(2, "mmap");
	return page;
}

static unsigned char *private_page(void)
{
	return memcpy(map_page(MAP_PRIVATE | MAP_ANONYMOUS, -1), content, PAGE);
}

static unsigned char *readonly_page(void)
{
	unsigned char *page = private_page();

	if (mprotect(page, PAGE, PROT_READ))
		err(2, "mprotect");
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
		err(2, "write");
	return map_page(MAP_SHARED, file);
}

static void *bring_page(void *userfaultfd)
{
	struct uffd_msg message;
	struct uffdio_copy copy = {.src = (uintptr_t)content, .len = PAGE};
	int fd = *(int *)userfaultfd;

	if (read(fd, &message, sizeof(message)) != sizeof(message))
		err(2, "read");
	copy.dst = message.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
	if (ioctl(fd, UFFDIO_COPY, &copy))
		err(2, "UFFDIO_COPY");
	return NULL;
}

static unsigned char *userfaultfd_page(void)
{
	static int fd;
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING, .range.len = PAGE};
	unsigned char *page = map_page(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pthread_t thread;

	fd = (int)syscall(SYS_userfaultfd, 0);
	range.range.start = (uintptr_t)page;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range) ||
	    pthread_create(&thread, NULL, bring_page, &fd))
		err(2, "userfaultfd");
	return page;
}

static const struct {
	const char *name;
	unsigned char *(*make)(void);
} kinds[] = {{"readonly", readonly_page},
	     {"copied", copied_page},
	     {"absent", absent_page},
	     {"userfaultfd", userfaultfd_page}};

int main(int argc, char **argv)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	unsigned char *page = NULL;
	int vcpu, result;

	set_xstate_bv(content, GIVEN);
	set_mxcsr(content, MXCSR_DEFAULT);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && argc == 2; i++)
		if (!strcmp(argv[1], kinds[i].name))
			page = kinds[i].make();
	if (!page)
		errx(2, "usage: pages readonly|copied|absent|userfaultfd");
	vcpu = kvm_ioctl(kvm_ioctl(open_kvm(), KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);
	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	result = raw_ioctl(vcpu, KVM_SET_XSAVE, page);
	printf("%s: %s xstate_bv=0x%llx\n", argv[1], result ? errno_name(errno) : "0",
	       (unsigned long long)get_xstate_bv(page));
	return 0;
}
