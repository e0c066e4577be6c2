// SPDX-License-Identifier: MIT
// A process that has the same kinds of descriptors as xsaveshim's supervisor. The tests check
// whether `xsaveshim status` mistakes this process for a supervisor.
//
//	pretender PID... [-- PROGRAM ARGUMENT...]
//
// pretender holds a pidfd of each process PID and a seccomp listener, whose filter allows every
// system call. If PROGRAM is given, a child of pretender inherits the listener and the pidfds,
// executes PROGRAM, and stops before PROGRAM's first instruction. Then pretender prints "ready" and
// waits until standard input ends.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long check(long result, const char *call)
{
	if (result < 0) {
		perror(call);
		exit(2);
	}
	return result;
}

// Clears close-on-exec, so that the child still has the descriptor after the exec. The kernel sets
// close-on-exec for listeners and pidfds.
static void keep_over_exec(long fd)
{
	check(fcntl((int)fd, F_SETFD, 0), "fcntl");
}

static pid_t start_stopped(char **program)
{
	pid_t child = (pid_t)check(fork(), "fork");

	if (!child) {
		check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG");
		check(ptrace(PTRACE_TRACEME, 0, NULL, NULL), "PTRACE_TRACEME");
		execv(program[0], program);
		check(-1, program[0]);
	}
	check(waitpid(child, NULL, 0), "waitpid");
	return child;
}

int main(int argc, char **argv)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = {1, &allow};
	pid_t child = 0;
	char c;
	int i;

	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	keep_over_exec(check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				     SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter),
			     "seccomp"));
	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		keep_over_exec(check(syscall(SYS_pidfd_open, atoi(argv[i]), 0), "pidfd_open"));
	if (i + 1 < argc)
		child = start_stopped(argv + i + 1);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	if (child)
		kill(child, SIGKILL);
	return 0;
}
