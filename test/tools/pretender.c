// SPDX-License-Identifier: MIT
// What looks like a supervisor from outside: `pretender PID...` has a seccomp listener, of a filter that stops
// nothing, and a pidfd of each PID. It says "ready" and waits for its standard input to end.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void check(long result, const char *call)
{
	if (result < 0) {
		perror(call);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = { 1, &allow };
	char c;

	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter),
	      "seccomp");
	for (int i = 1; i < argc; i++)
		check(syscall(SYS_pidfd_open, atoi(argv[i]), 0), "pidfd_open");
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}
