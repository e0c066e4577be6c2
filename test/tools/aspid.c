// SPDX-License-Identifier: MIT
// aspid PID COMMAND [ARG...]: runs COMMAND as a process with the process ID PID. Exits with 0 if
// COMMAND exits with 0, with 2 if aspid cannot create the process, and otherwise with 1. PID must
// be unused. aspid needs CAP_SYS_ADMIN in the user namespace that owns aspid's PID namespace.
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// The same fields as struct clone_args of Linux 5.5. This struct has another name, because
// linux/sched.h or a libc may define struct clone_args.
struct clone3_arguments {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
		set_tid_size;
};

int main(int argc, char **argv)
{
	pid_t pid = argc > 2 ? atoi(argv[1]) : 0;
	struct clone3_arguments arguments = {
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
	int status;
	long child;

	if (!pid) {
		fputs("usage: aspid PID COMMAND [ARG...]\n", stderr);
		return 2;
	}
	child = syscall(SYS_clone3, &arguments, sizeof(arguments));
	if (!child) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (child < 0) {
		perror("clone3");
		return 2;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status != 0;
}
