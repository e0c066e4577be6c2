// SPDX-License-Identifier: MIT
#include "filter.h"

#include <err.h>
#include <errno.h>
#include <seccomp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include "attach.h"
#include "handlers.h"

// The headers of some supported distributions do not define this flag yet.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define INSTRUCTIONS_MAX 256

static _Noreturn void fail(const char *what)
{
	err(EXIT_OWN_FAILURE, "cannot supervise: %s", what);
}

// Like the kernel, the filter looks only at the lower 32 bits of an ioctl's request. The upper 32
// bits may be copies of bit 31, because QEMU up to 8.2 passes the request as an int.
static void add_rules(scmp_filter_ctx context)
{
	int error = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);

	for (size_t i = 0; i < WATCHED && !error; i++)
		error = seccomp_rule_add(
			context, SCMP_ACT_NOTIFY, SCMP_SYS(ioctl), 1,
			SCMP_A1_64(SCMP_CMP_MASKED_EQ, 0xffffffff, watched[i].request));
	if (error) {
		errno = -error;
		fail("the seccomp filter cannot be made");
	}
}

struct sock_fprog filter_make(void)
{
	static struct sock_filter instructions[INSTRUCTIONS_MAX];
	scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
	int file = memfd_create("filter", MFD_CLOEXEC);
	ssize_t size;

	if (!context || file < 0)
		fail("the seccomp filter cannot be made");
	add_rules(context);
	if (seccomp_export_bpf(context, file))
		fail("the seccomp filter cannot be exported from libseccomp");
	seccomp_release(context);
	size = pread(file, instructions, sizeof(instructions), 0);
	if (size <= 0)
		fail("the exported seccomp filter cannot be read");
	if (size == sizeof(instructions))
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: the seccomp filter has more than %d instructions",
		     INSTRUCTIONS_MAX - 1);
	close(file);
	return (struct sock_fprog){
		(unsigned short)((size_t)size / sizeof(instructions[0])), instructions};
}

// filter_load does not use libseccomp, because libseccomp before 2.6 cannot set WAIT_KILLABLE_RECV.
// With this flag, only a fatal signal interrupts a call whose notification the supervisor has
// received. filter_load sets no_new_privs only if the kernel refuses the filter without it, because
// no_new_privs disables set-user-ID programs and may keep a security module from confining the VMM.
int filter_load(const struct sock_fprog *filter)
{
	// Without SPEC_ALLOW, Linux before 5.16 turns on mitigations against speculative execution
	// attacks. The mitigations slow the process down. They are for sandboxes, and this filter
	// is not a sandbox.
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
			      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

	do {
		int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, filter);

		if (listener >= 0)
			return listener;
		if (errno == EINVAL && flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
			flags &= ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; // new in Linux 5.19
		else if (errno != EACCES || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
			break;
		else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
			fail("no_new_privs");
	} while (true);
	if (errno == EBUSY)
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: this process already has a supervisor, of another xsaveshim run or of a container manager, and the kernel allows only one: start the VMM without that supervisor");
	fail("seccomp");
}
