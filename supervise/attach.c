// SPDX-License-Identifier: MIT
// How a process gets its supervisor before it execs the VMM:
//
//   VMM's process                                  supervisor
//   1. forks it by way of a child that exits  ->   leaves the session, closes what it does not need
//   2.                                        <-   sends its pid
//   3. allows that pid to trace it (Yama)
//   4. loads the filter, sends the number
//      of the listener                        ->   copies the listener by pidfd_getfd()
//   5.                                        <-   says that it is ready
//   6. closes the listener with its exec           answers until the last process with the filter
//                                                  has exited
//
// The supervisor is forked before the filter is loaded, so that the filter does not apply to it.
// Its parent has exited, so that the VMM has no child that it did not make.
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

// If the other side has ended, it has already printed why.
static int receive_number(int socket)
{
	int number;

	if (recv(socket, &number, sizeof(number), MSG_WAITALL) != sizeof(number))
		exit(EXIT_OWN_FAILURE);
	return number;
}

// Closes all that the supervisor has inherited from the VMM, except its socket and standard error,
// where its reports go. Leaves the VMM's directory, whose file system could not be unmounted.
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
	// Linux 5.9 brought close_range(), and the POLLHUP that says that the last process has
	// exited: older kernels are refused here.
	if (syscall(SYS_close_range, STDERR_FILENO + 2, ~0U, 0))
		fail("this needs Linux 5.9 or later");
	if (chdir("/"))
		fail("/");
}

// The supervisor reads /proc by the pids in the kernel's notifications. In the /proc of another PID
// namespace these would be other processes.
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

// Every later restore would fail without the supervisor, which needs little memory. Only root may
// ask for this.
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

// The supervisor ends when the last VMM does. No signal from the terminal, or from a service
// manager that stops the VMM, may end it earlier.
static void leave_session(void)
{
	setsid();
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_IGN);
}

// Moves fd above the numbers of the standard streams. If the VMM was started without one of these,
// its number must stay free, or the VMM or the supervisor would take our socket for the stream.
static int move_above_stdio(int fd)
{
	int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (above < 0)
		fail("no descriptor is left");
	close(fd);
	return above;
}

// Forks the supervisor, by way of a child that exits at once. The kernel makes an orphan the child
// of its next ancestor that is a subreaper, which must not be the VMM.
static void start_supervisor(int socket, const struct settings *settings, const char *program,
			     const char *reason)
{
	pid_t vmm = getpid();
	int is_subreaper = 0;
	pid_t child;

	prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	// A fork() without SIGCHLD, which would stay pending in a VMM that blocks it.
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
	// Yama lets only the process named here trace this one. Without Yama the call fails with
	// EINVAL.
	prctl(PR_SET_PTRACER, receive_number(sockets[0]), 0, 0, 0);
	send_number(sockets[0], filter_load(&filter));
	receive_number(sockets[0]);
	close(sockets[0]);
}
