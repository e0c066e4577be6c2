// SPDX-License-Identifier: MIT
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/kcmp.h>

#include "shared/helpers.h"

bool remote_read(pid_t tid, uint64_t address, void *to, size_t size)
{
	struct iovec local = {to, size};
	struct iovec remote = {(void *)(uintptr_t)address, size};
	ssize_t got = process_vm_readv(tid, &local, 1, &remote, 1, 0);

	if (got >= 0 && (size_t)got < size)
		errno = EFAULT;
	return got == (ssize_t)size;
}

int remote_memory_open(pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", tid);
	return open(path, O_WRONLY | O_CLOEXEC);
}

bool remote_memory_write(int memory, uint64_t address, const void *from, size_t size)
{
	ssize_t written = pwrite(memory, from, size, (off_t)address);
	int error = errno;

	close(memory);
	errno = error;
	return written == (ssize_t)size;
}

int remote_vcpu_id(pid_t tid, int fd)
{
	char path[64];
	char target[64];
	ssize_t length;
	int id;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", tid, fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -1;
	target[length] = '\0';
	if (sscanf(target, "anon_inode:kvm-vcpu:%d", &id) == 1)
		return id;
	errno = ENOENT;
	return -1;
}

bool remote_process(pid_t tid, pid_t *process, pid_t *parent)
{
	char path[64];
	char text[512]; // holds the lines of /proc/TID/status up to PPid:
	const char *pid_line, *parent_line;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (read_file(AT_FDCWD, path, text, sizeof(text)) < 0)
		return false;
	pid_line = strstr(text, "\nTgid:");
	parent_line = strstr(text, "\nPPid:");
	errno = ESRCH;
	return pid_line && parent_line && sscanf(pid_line, "\nTgid: %d", process) == 1 &&
	       sscanf(parent_line, "\nPPid: %d", parent) == 1;
}

bool remote_shares_memory(pid_t tid, pid_t other)
{
	return syscall(SYS_kcmp, tid, other, KCMP_VM, 0, 0) == 0;
}

bool remote_same_file(pid_t tid, int fd, int other_fd)
{
	return syscall(SYS_kcmp, tid, tid, KCMP_FILE, fd, other_fd) == 0;
}

bool remote_has_another_file(pid_t pid, int fd, int own_fd)
{
	long order = syscall(SYS_kcmp, pid, getpid(), KCMP_FILE, fd, own_fd);

	return order > 0 || (order < 0 && (errno == EBADF || errno == ESRCH));
}

bool caller_waits(const struct caller *caller)
{
	return !seccomp_notify_id_valid(caller->listener, caller->notification);
}
