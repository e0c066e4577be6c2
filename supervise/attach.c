// SPDX-License-Identifier: MIT
// How a process gets its supervisor before it execs the VMM:
//
//   VMM's process                                  supervisor
//   1. forks it by way of a child that exits  ->   leaves the session, closes inherited descriptors
//   2.                                        <-   sends its pid
//   3. allows that pid to trace it (Yama)
//   4. loads the filter, sends the number
//      of the listener                        ->   takes a copy of the listener by pidfd_getfd()
//   5.                                        <-   says that it is ready
//   6. closes the listener with its exec           ends when the last filtered process has exited
//
// The supervisor is forked before the filter is loaded, so that the filter does not apply to it.
// Its parent has exited, so that the VMM has no unexpected child.
#include "attach.h"

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

#include "supervise.h"
#include "xsaveshim/record.h"

// Newer than the headers of some distributions that this is built on.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static struct xsaveshim_record record = {.magic = RECORD_MAGIC};

static _Noreturn void fail(const char *what)
{
	err(EXIT_OWN_FAILURE, "cannot supervise: %s", what);
}

static void send_number(int socket, int number)
{
	if (send(socket, &number, sizeof(number), MSG_NOSIGNAL) != sizeof(number))
		exit(EXIT_OWN_FAILURE);
}

// If the other side has ended, it has already printed why.
static int receive_number(int socket)
{
	int number;

	if (recv(socket, &number, sizeof(number), MSG_WAITALL) != sizeof(number))
		exit(EXIT_OWN_FAILURE);
	return number;
}

static struct sock_fprog export_filter(scmp_filter_ctx filter)
{
	static struct sock_filter instructions[BPF_MAXINSNS];
	int file = memfd_create("filter", MFD_CLOEXEC);
	ssize_t size = -1;

	if (file >= 0 && !seccomp_export_bpf(filter, file))
		size = pread(file, instructions, sizeof(instructions), 0);
	if (size <= 0)
		fail("the filter cannot be exported");
	close(file);
	return (struct sock_fprog){
		(unsigned short)(size / (ssize_t)sizeof(*instructions)), instructions};
}

// Returns the listener. Sets no_new_privs only if the kernel demands it: without it a jailer can
// still become another user, and a security module can still confine the VMM. libseccomp before 2.6
// cannot set WAIT_KILLABLE_RECV, which keeps signals from interrupting a call that waits.
static int load_filter(scmp_filter_ctx filter)
{
	struct sock_fprog program = export_filter(filter);
	// SPEC_ALLOW: without it kernels before 5.16 slow down the process.
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
			      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

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
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: this process has a supervisor already, of another xsaveshim or of a container manager, and the kernel allows one: start the VMM outside");
	fail("seccomp");
}

// Keeps the socket and standard error, where reports go, and no other open file or directory.
static void close_inherited(int *socket)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0)
		fail("/dev/null");
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (fcntl(STDERR_FILENO, F_GETFD) < 0)
		dup2(null, STDERR_FILENO);
	*socket = dup2(*socket, STDERR_FILENO + 1);
	if (*socket < 0)
		fail("the socket cannot be kept");
	// Linux 5.9 also brought the POLLHUP that says that the last VMM has exited.
	if (syscall(SYS_close_range, STDERR_FILENO + 2, ~0U, 0))
		fail("this needs Linux 5.9 or later");
	if (chdir("/"))
		fail("/");
}

// Notifications have pids, which would be other processes in the /proc of another PID namespace.
static void check_proc(void)
{
	char self[16] = "";

	if (readlink("/proc/self", self, sizeof(self) - 1) < 0 || atoi(self) != getpid())
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: /proc is not that of this PID namespace: mount it");
}

// pidfd_getfd() needs the same permission as writing the VMM's memory: if it works, trimming will.
static int copy_listener(pid_t vmm, int number)
{
	int pidfd = (int)syscall(SYS_pidfd_open, vmm, 0);
	int listener = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (listener < 0 && errno == EPERM)
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: this user may not write to the VMM's memory (kernel.yama.ptrace_scope of 2 or 3, or a security module): start it as root, with CAP_SYS_PTRACE");
	if (listener < 0)
		fail("the listener cannot be copied");
	close(pidfd);
	return listener;
}

static _Noreturn void be_supervisor(int socket, pid_t vmm, const struct settings *settings,
				    const char *program, const char *reason)
{
	close_inherited(&socket);
	check_proc();
	send_number(socket, getpid());
	supervise_prepare(copy_listener(vmm, receive_number(socket)), settings, vmm, program,
			  reason);
	record_publish(&record, settings);
	send_number(socket, 0);
	close(socket);
	supervise();
}

// No signal, from the terminal or a process, may end the supervisor before the last VMM ends.
static void leave_session(void)
{
	setsid();
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_IGN);
}

// Moves fd above the numbers of the standard streams. If the VMM was started without one of these,
// its number must stay free: neither the VMM nor the supervisor may take our socket for it.
static int move_above_stdio(int fd)
{
	int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (above < 0)
		fail("there is no descriptor left");
	close(fd);
	return above;
}

// Forks the supervisor, by way of a child that exits at once.
static void start_supervisor(int socket, const struct settings *settings, const char *program,
			     const char *reason)
{
	pid_t vmm = getpid();
	// A fork() without SIGCHLD: the VMM might have it blocked, and would find it pending.
	pid_t child = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);

	if (!child) {
		leave_session();
		child = fork();
		if (child < 0)
			fail("fork");
		if (child)
			_exit(0);
		be_supervisor(socket, vmm, settings, program, reason);
	}
	if (child < 0 || waitpid(child, NULL, __WALL) < 0)
		fail("fork");
}

void attach_supervisor(const struct settings *settings, const char *program, const char *reason)
{
	scmp_filter_ctx filter = supervise_filter();
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		fail("socketpair");
	sockets[0] = move_above_stdio(sockets[0]);
	sockets[1] = move_above_stdio(sockets[1]);
	start_supervisor(sockets[1], settings, program, reason);
	close(sockets[1]);
	// Yama lets only this process trace us. Without Yama the call fails with EINVAL.
	prctl(PR_SET_PTRACER, receive_number(sockets[0]), 0, 0, 0);
	send_number(sockets[0], load_filter(filter));
	receive_number(sockets[0]);
	close(sockets[0]);
	seccomp_release(filter);
}
