// SPDX-License-Identifier: MIT
// hang vcpu|nothing|child XSTATE_BV: calls KVM_SET_XSAVE without libc's ioctl(). The payload (an
// XSAVE buffer) is in a userfaultfd page without contents, so the call hangs if KVM or xsaveshim
// reads the payload. When a line arrives on standard input, a helper process fills the page with a
// payload that has XSTATE_BV. The helper may outlive the process that makes the call, but ends
// after five minutes. The process that makes the call prints "calls PID" before the call, with its
// own PID. After the call, it prints the result.
//	vcpu	makes the call on a vCPU whose CPUID shows FP, SSE and AVX. The program also prints
//		the XSTATE_BV after the call
//	nothing	makes the call on descriptor 0, which is not a vCPU. So KVM reads no payload
//	child	like vcpu, but a child of the process that created the vCPU makes the call. So KVM
//		fails the call with EIO, and reads no payload
// The program handles SIGUSR1, so that a test can try to interrupt the call with this signal.
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "errnos.h"
#include "kvm.h"

#define PAGE 4096
#define SERVE_SECONDS 300

static unsigned char source[sizeof(struct kvm_xsave)] __attribute__((aligned(PAGE)));

static void ignore(int number)
{
	(void)number;
}

static int create_vcpu(void)
{
	struct leaf_0xd cpuid = LEAF_0XD(7);
	int vcpu = raw_ioctl(raw_ioctl(open_kvm(), KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);

	if (raw_ioctl(vcpu, KVM_SET_CPUID2, &cpuid))
		err(2, "KVM_SET_CPUID2");
	return vcpu;
}

// Maps a page without contents for the payload. A read of the page hangs until a process fills the
// page through the returned userfaultfd.
static int make_payload(unsigned char **payload)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range.len = PAGE, .mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	*payload = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (uintptr_t)*payload;
	if (fd < 0 || *payload == MAP_FAILED || raw_ioctl(fd, UFFDIO_API, &api) ||
	    raw_ioctl(fd, UFFDIO_REGISTER, &range))
		err(2, "userfaultfd");
	return fd;
}

static _Noreturn void serve(int fd, const unsigned char *payload)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)payload, .src = (uintptr_t)source, .len = PAGE};
	char byte;

	alarm(SERVE_SECONDS);
	while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n')
		;
	raw_ioctl(fd, UFFDIO_COPY, &copy);
	exit(0);
}

static void restore(int vcpu)
{
	unsigned char *payload;
	int fd = make_payload(&payload);
	pid_t server = fork();
	int result;

	if (server < 0)
		err(2, "fork");
	if (!server)
		serve(fd, payload);
	printf("calls %d\n", getpid());
	result = raw_ioctl(vcpu, KVM_SET_XSAVE, payload);
	printf("%s", result ? errno_name(errno) : "0");
	if (vcpu)
		printf(" xstate_bv=%#llx", (unsigned long long)get_xstate_bv(payload));
	kill(server, SIGKILL);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = ignore};
	int vcpu, status = 0;

	if (argc != 3)
		errx(2, "usage: hang vcpu|nothing|child XSTATE_BV");
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGUSR1, &action, NULL);
	set_xstate_bv(source, strtoull(argv[2], NULL, 0));
	set_mxcsr(source, MXCSR_DEFAULT);
	vcpu = strcmp(argv[1], "nothing") ? create_vcpu() : STDIN_FILENO;
	if (!strcmp(argv[1], "child") && fork()) {
		wait(&status);
		return 0;
	}
	restore(vcpu);
	return 0;
}
