// SPDX-License-Identifier: MIT
// How a process comes to be supervised, before it is exec'ed into the VMM.
//
// The supervisor is a grandchild whose parent has ended, so that the VMM has no child that it did not make.
// It is there before the filter is, which makes it the one process that the filter does not reach, and then
// fetches the listener.
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "command.h"
#include "supervise.h"

// Newer than the headers of some distributions that this is built on.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define INSTRUCTIONS_MAX 256

static _Noreturn void fail(const char *what)
{
	err(EXIT_OWN_FAILURE, "cannot supervise: %s", what);
}

static void tell(int socket, int value)
{
	if (send(socket, &value, sizeof(value), MSG_NOSIGNAL) != sizeof(value))
		exit(EXIT_OWN_FAILURE);
}

// Where the other side has ended, it has said why.
static int hear(int socket)
{
	int value;

	if (recv(socket, &value, sizeof(value), MSG_WAITALL) != sizeof(value))
		exit(EXIT_OWN_FAILURE);
	return value;
}

// As root without no_new_privs, so that a jailer can still become another user and a confined domain can be
// entered. libseccomp would load the filter itself, but before 2.6 not so that a signal to a thread that
// waits for its answer waits, too.
static int load_filter(scmp_filter_ctx filter)
{
	struct sock_filter instructions[INSTRUCTIONS_MAX];
	struct sock_fprog program = {.filter = instructions};
	// It is no sandbox, and must not cost the VMM what kernels before 5.16 take from those in one
	// (SPEC_ALLOW).
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
			      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	int file = memfd_create("filter", MFD_CLOEXEC);
	ssize_t size;

	if (file < 0 || seccomp_export_bpf(filter, file))
		fail("the filter");
	size = pread(file, instructions, sizeof(instructions), 0);
	close(file);
	program.len = (unsigned short)((size_t)size / sizeof(instructions[0]));
	do {
		int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);

		if (listener >= 0)
			return listener;
		if (errno == EINVAL && flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
			flags &= ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; // before Linux 5.19
		else if (errno != EACCES || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))
			break;
		else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
			fail("no_new_privs");
	} while (true);
	if (errno == EBUSY)
		errx(EXIT_OWN_FAILURE, "cannot supervise: this process is supervised already, by another xsaveshim or a "
		     "container manager, and the kernel allows one supervisor: use --preload, or start it outside");
	fail("seccomp");
}

// The supervisor keeps nothing that the VMM has open but its standard error, where reports go; and no
// directory.
static void let_go_of_everything(int *socket)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0)
		fail("/dev/null");
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	*socket = dup2(*socket, STDERR_FILENO + 1);
	// As new as this call is what tells the supervisor of the end of the last VMM.
	if (syscall(SYS_close_range, STDERR_FILENO + 2, ~0U, 0))
		fail("this needs Linux 5.9 or later");
	if (chdir("/"))
		fail("/");
}

// Where /proc is missing, or shows another PID namespace, what it says of a number is not about the VMM.
static void check_proc(void)
{
	char self[16] = "";

	if (readlink("/proc/self", self, sizeof(self) - 1) < 0 || atoi(self) != getpid())
		errx(EXIT_OWN_FAILURE, "cannot supervise: /proc is not that of this PID namespace: mount it");
}

// What can be fetched from a process is a process whose memory can be written to: the kernel asks for the
// same permission.
static int fetch_listener(pid_t vmm, int number)
{
	int pidfd = (int)syscall(SYS_pidfd_open, vmm, 0);
	int listener = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (listener < 0 && errno == EPERM)
		errx(EXIT_OWN_FAILURE, "cannot supervise: this user may not write to the VMM's memory "
		     "(kernel.yama.ptrace_scope of 2 or 3, or a security module): as root it may, with CAP_SYS_PTRACE");
	if (listener < 0)
		fail("the listener");
	close(pidfd);
	return listener;
}

static _Noreturn void be_supervisor(int socket, pid_t vmm, const struct settings *settings,
				    const char *program, const char *reason)
{
	let_go_of_everything(&socket);
	check_proc();
	tell(socket, getpid());
	supervise_prepare(fetch_listener(vmm, hear(socket)), settings, vmm, program, reason);
	tell(socket, 0);
	close(socket);
	supervise();
	exit(0);
}

// A session of its own, for which the terminal's signals are not meant; nor are others': it ends with the
// VMM.
static void leave_session(void)
{
	setsid();
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_IGN);
}

// Clear of the descriptors that the VMM was started without, whose numbers mean something to it and to the
// supervisor.
static int above_stdio(int fd)
{
	int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (above < 0)
		fail("a descriptor");
	close(fd);
	return above;
}

void attach_supervisor(const struct settings *settings, const char *program, const char *reason)
{
	scmp_filter_ctx filter = supervise_filter();
	pid_t vmm = getpid();
	pid_t child;
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		fail("a socket");
	sockets[0] = above_stdio(sockets[0]);
	sockets[1] = above_stdio(sockets[1]);
	// fork() without SIGCHLD, which, were it blocked, would await the VMM.
	child = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
	if (!child) {
		leave_session();
		child = fork();
		if (child < 0)
			fail("fork");
		if (child)
			_exit(0);
		be_supervisor(sockets[1], vmm, settings, program, reason);
	}
	close(sockets[1]);
	if (child < 0 || waitpid(child, NULL, __WALL) < 0)
		fail("fork");
	// For Yama, which lets only those look at a process that it has named; EINVAL without Yama.
	prctl(PR_SET_PTRACER, hear(sockets[0]), 0, 0, 0);
	tell(sockets[0], load_filter(filter));
	hear(sockets[0]);
	close(sockets[0]);
	seccomp_release(filter);
}
