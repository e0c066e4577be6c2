// SPDX-License-Identifier: MIT
// Before `xsaveshim run` executes a VMM, it starts the VMM's supervisor in the following steps. The
// "VMM's process" is the process of `xsaveshim run`, which becomes the VMM in step 6. The filter is
// a seccomp filter. The listener is the descriptor at which the supervisor receives the filter's
// notifications.
//
//   VMM's process                                  supervisor
//   1. forks a child, which starts a new
//      session, forks the supervisor, and
//      exits                                  ->   closes most inherited descriptors
//   2.                                        <-   sends the supervisor's pid
//   3. lets the process with this pid trace
//      the VMM (PR_SET_PTRACER)
//   4. loads the filter, sends the number
//      of the listener                        ->   copies the listener by pidfd_getfd()
//   5.                                        <-   says that the supervisor is ready
//   6. executes the VMM; the kernel then
//      closes the VMM's copy of the
//      listener (close-on-exec)                    answers notifications until the last process
//                                                  with the filter has exited
//
// Step 1 comes before step 4, because the supervisor would otherwise inherit the filter. Step 1
// forks the supervisor from a child that exits, so that the VMM has no child that it did not fork.
#include "attach.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filter.h"
#include "supervise.h"

static _Noreturn void fail(const char *what)
{
	err(EXIT_OWN_FAILURE, "cannot supervise: %s", what);
}

static void send_number(int socket, int number)
{
	if (send(socket, &number, sizeof(number), MSG_NOSIGNAL) != sizeof(number))
		exit(EXIT_OWN_FAILURE);
}

// If the process at the socket's other end has ended, exits without a message, because that process
// has already printed the reason.
static int receive_number(int socket)
{
	int number;

	if (recv(socket, &number, sizeof(number), MSG_WAITALL) != sizeof(number))
		exit(EXIT_OWN_FAILURE);
	return number;
}

// Closes all inherited descriptors except the socket and standard error. Standard error stays open,
// because the supervisor may write its reports to standard error. Also leaves the VMM's working
// directory, because the supervisor would otherwise keep the directory's file system from being
// unmounted.
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
		fail("the supervisor cannot keep its socket to the VMM's process");
	// The supervisor needs a kernel whose seccomp listener reports POLLHUP when the last
	// process with the filter has exited. Linux 5.9 added this POLLHUP and close_range(). So
	// close_range() fails on a kernel without this POLLHUP.
	if (syscall(SYS_close_range, STDERR_FILENO + 2, ~0U, 0))
		fail("the supervisor needs Linux 5.9 or later");
	if (chdir("/"))
		fail("/");
}

// Ends the program if /proc belongs to another PID namespace. The supervisor reads /proc/PID for
// the pids in the kernel's notifications. In the /proc of another PID namespace, these pids belong
// to other processes.
static void check_proc(void)
{
	char self[16] = "";

	if (readlink("/proc/self", self, sizeof(self) - 1) < 0 || atoi(self) != getpid())
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: /proc belongs to another PID namespace: mount a /proc of this PID namespace");
}

// Copies the listener from the VMM's process. pidfd_getfd() needs the same permission as a write to
// the VMM's memory. So if pidfd_getfd() succeeds, the supervisor can also trim the VMM's payloads.
static int copy_listener(pid_t vmm, int number)
{
	int pidfd = (int)syscall(SYS_pidfd_open, vmm, 0);
	int listener = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (listener < 0 && errno == EPERM)
		errx(EXIT_OWN_FAILURE,
		     "cannot supervise: this user may not write to the VMM's memory (kernel.yama.ptrace_scope of 2 or 3, or a security module): start xsaveshim run as root with CAP_SYS_PTRACE; ptrace_scope 3 forbids a supervisor even to root");
	if (listener < 0)
		fail("the supervisor cannot copy the seccomp listener of the VMM's process");
	close(pidfd);
	return listener;
}

// Asks the kernel never to kill the supervisor for lack of memory. The supervisor needs little
// memory, and without a supervisor, the kernel would execute no further KVM_SET_XSAVE of the VMM.
// The kernel accepts this request (-1000) only from a process with CAP_SYS_RESOURCE.
static void escape_oom_killer(void)
{
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (file < 0)
		return;
	dprintf(file, "-1000");
	close(file);
}

static _Noreturn void be_supervisor(int socket, pid_t vmm, const struct settings *settings,
				    const char *program, const char *reason)
{
	close_inherited(&socket);
	check_proc();
	escape_oom_killer();
	send_number(socket, getpid());
	supervise_prepare(copy_listener(vmm, receive_number(socket)), socket, settings, vmm,
			  program, reason);
	send_number(socket, 0);
	close(socket);
	supervise();
}

// The supervisor must not end before the last supervised VMM ends. So the supervisor ignores every
// signal that can be ignored. A signal may come from the terminal, or from a service manager that
// stops the VMM.
static void leave_session(void)
{
	setsid();
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_IGN);
}

// Moves the socket fd to a number above those of the standard streams. If `xsaveshim run` was
// started without one of these streams, the socket may have got the stream's number. `xsaveshim
// run` and the supervisor would then treat the socket as the stream.
static int move_above_stdio(int fd)
{
	int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (above < 0)
		fail("no descriptor is left");
	close(fd);
	return above;
}

// Forks the supervisor from a child that exits at once. The kernel then makes the nearest ancestor
// that is a subreaper (prctl(2)) the supervisor's new parent. The VMM's process must not become the
// new parent. So if the VMM's process is a subreaper, it stops being one until the child has
// exited.
static void start_supervisor(int socket, const struct settings *settings, const char *program,
			     const char *reason)
{
	pid_t vmm = getpid();
	int is_subreaper = 0;
	pid_t child;

	prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	// Fork a child whose exit sends no SIGCHLD, because a SIGCHLD would stay pending in a VMM
	// that blocks SIGCHLD.
	child = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
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
	prctl(PR_SET_CHILD_SUBREAPER, is_subreaper, 0, 0, 0);
}

void attach_supervisor(const struct settings *settings, const char *program, const char *reason)
{
	struct sock_fprog filter = filter_make();
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		fail("socketpair");
	sockets[0] = move_above_stdio(sockets[0]);
	sockets[1] = move_above_stdio(sockets[1]);
	start_supervisor(sockets[1], settings, program, reason);
	close(sockets[1]);
	// With Yama, the supervisor may trace this process only after PR_SET_PTRACER has named the
	// supervisor. Without Yama, PR_SET_PTRACER fails with EINVAL, which does no harm.
	prctl(PR_SET_PTRACER, receive_number(sockets[0]), 0, 0, 0);
	send_number(sockets[0], filter_load(&filter));
	receive_number(sockets[0]);
	close(sockets[0]);
}
