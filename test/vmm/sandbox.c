// SPDX-License-Identifier: MIT
// A restore under an allow-list, as VMMs in Rust make it: "sandbox firecracker" on the main thread, where anything
// else kills the process; "sandbox cloud-hypervisor" on a thread with a filter of its own, where anything else is
// trapped. Both lists are shaped like those VMMs' own. With "break-out" behind it, one system call more.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "story.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

struct sandbox {
	const char *name;
	unsigned int otherwise;
	unsigned int calls[32];
};

static const struct sandbox sandboxes[] = {
	{"firecracker",
	 SECCOMP_RET_KILL_PROCESS,
	 {SYS_read,  SYS_write,	 SYS_openat,  SYS_close,     SYS_fstat,	       SYS_newfstatat,	SYS_lseek, SYS_brk,
	  SYS_mmap,  SYS_munmap, SYS_futex,   SYS_getrandom, SYS_rt_sigreturn, SYS_sigaltstack, SYS_tkill, SYS_getpid,
	  SYS_fcntl, SYS_socket, SYS_connect, SYS_sendmsg,   SYS_exit,	       SYS_exit_group}},
	{"cloud-hypervisor",
	 SECCOMP_RET_TRAP,
	 {SYS_read,	  SYS_write,	 SYS_writev,	SYS_openat,	    SYS_close,	      SYS_fstat,
	  SYS_newfstatat, SYS_lseek,	 SYS_brk,	SYS_mmap,	    SYS_munmap,	      SYS_mprotect,
	  SYS_madvise,	  SYS_futex,	 SYS_getrandom, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack,
	  SYS_tgkill,	  SYS_getpid,	 SYS_fcntl,	SYS_socket,	    SYS_connect,      SYS_sendmsg,
	  SYS_exit,	  SYS_exit_group}},
};

static const unsigned int requests[] = {KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_SET_CPUID2, KVM_GET_CPUID2, KVM_SET_XSAVE};

static struct sock_filter program[128];
static unsigned short length;

static void add(struct sock_filter instruction)
{
	program[length++] = instruction;
}

static void allow_if(unsigned int value)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

static void enter(const struct sandbox *sandbox)
{
	struct sock_fprog filter = {.filter = program};

	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	for (size_t i = 0; i < LENGTH(sandbox->calls) && (sandbox->calls[i] || !i); i++)
		allow_if(sandbox->calls[i]);
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0));
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, sandbox->otherwise));
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])));
	for (size_t i = 0; i < LENGTH(requests); i++)
		allow_if(requests[i]);
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, sandbox->otherwise));
	filter.len = length;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
		perror("seccomp");
		_exit(2);
	}
}

static const struct sandbox *chosen;
static int breaks_out;

static void *restore(void *nothing)
{
	enter(chosen);
	story(chosen->name, ioctl);
	if (breaks_out)
		syscall(SYS_getppid);
	return nothing;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	for (size_t i = 0; i < LENGTH(sandboxes); i++)
		if (argc > 1 && !strcmp(argv[1], sandboxes[i].name))
			chosen = &sandboxes[i];
	if (!chosen) {
		fprintf(stderr, "usage: sandbox firecracker|cloud-hypervisor [break-out]\n");
		return 2;
	}
	breaks_out = argc > 2;
	if (chosen->otherwise == SECCOMP_RET_TRAP) {
		if (pthread_create(&thread, NULL, restore, NULL) || pthread_join(thread, NULL))
			return 2;
	} else {
		restore(NULL);
	}
	return 0;
}
