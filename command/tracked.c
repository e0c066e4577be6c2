// SPDX-License-Identifier: MIT
#include "tracked.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "remote.h"

static void *grow(void *items, size_t count, size_t size)
{
	void *grown = reallocarray(items, count + 1, size);

	if (!grown)
		err(EXIT_FAILURE, "the supervisor ends");
	return grown;
}

static pid_t known_process(const struct tracked *tracked, pid_t pid)
{
	for (size_t i = 0; i < tracked->process_count; i++)
		if (tracked->processes[i].pid == pid)
			return pid;
	return -1;
}

pid_t tracked_process(struct tracked *tracked, pid_t tid)
{
	pid_t pid;
	int pidfd;

	// Reading a thread's process from /proc takes ten times as long as kcmp. It is needed once for each process; more often
	// where the process's first thread has exited before the others, and where the kernel was built without kcmp.
	for (size_t i = 0; i < tracked->process_count; i++)
		if (remote_shares_descriptors(tid, tracked->processes[i].pid))
			return tracked->processes[i].pid;
	pid = remote_process(tid);
	if (pid < 0 || known_process(tracked, pid) == pid)
		return pid;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -1;
	tracked->processes = grow(tracked->processes, tracked->process_count, sizeof(*tracked->processes));
	tracked->processes[tracked->process_count++] = (struct tracked_process){pid, pidfd};
	return pid;
}

void tracked_kill_process(const struct tracked *tracked, pid_t pid)
{
	for (size_t i = 0; i < tracked->process_count; i++)
		if (tracked->processes[i].pid == pid)
			syscall(SYS_pidfd_send_signal, tracked->processes[i].pidfd, SIGKILL, NULL, 0);
}

static void forget_vcpu(struct tracked *tracked, size_t index)
{
	tracked->vcpus[index] = tracked->vcpus[--tracked->vcpu_count];
}

void tracked_forget_process(struct tracked *tracked, size_t index)
{
	struct tracked_process process = tracked->processes[index];

	for (size_t i = tracked->vcpu_count; i-- > 0;)
		if (tracked->vcpus[i].process == process.pid)
			forget_vcpu(tracked, i);
	close(process.pidfd);
	tracked->processes[index] = tracked->processes[--tracked->process_count];
}

void tracked_forget_closed(struct tracked *tracked, pid_t process, pid_t tid, int id)
{
	for (size_t i = tracked->vcpu_count; i-- > 0;) {
		const struct tracked_vcpu *vcpu = &tracked->vcpus[i];
		int now;

		if (vcpu->process != process || vcpu->vcpu.id != id)
			continue;
		now = remote_vcpu_id(tid, vcpu->fd);
		if (now >= 0 ? now != id : errno == ENOENT)
			forget_vcpu(tracked, i);
	}
}

struct tracked_vcpu *tracked_find(const struct tracked *tracked, pid_t process, pid_t tid, int fd, int id)
{
	for (size_t i = 0; i < tracked->vcpu_count; i++) {
		struct tracked_vcpu *vcpu = &tracked->vcpus[i];

		if (vcpu->process == process && vcpu->vcpu.id == id && vcpu->fd == fd)
			return vcpu;
	}
	for (size_t i = 0; i < tracked->vcpu_count; i++) {
		struct tracked_vcpu *vcpu = &tracked->vcpus[i];

		if (vcpu->process == process && vcpu->vcpu.id == id && remote_same_file(tid, fd, tid, vcpu->fd))
			return vcpu;
	}
	return NULL;
}

struct tracked_vcpu *tracked_add_table(struct tracked *tracked, pid_t process, pid_t tid, int fd, int id,
				       uint64_t guest_xcr0)
{
	struct tracked_vcpu *vcpu = tracked_find(tracked, process, tid, fd, id);

	if (!vcpu) {
		tracked->vcpus = grow(tracked->vcpus, tracked->vcpu_count, sizeof(*tracked->vcpus));
		vcpu = &tracked->vcpus[tracked->vcpu_count++];
		*vcpu = (struct tracked_vcpu){process, fd, {VCPU_XCR0, id, 0, 0}, 0};
	}
	vcpu->vcpu.guest_xcr0 |= guest_xcr0;
	vcpu->latest_xcr0 = guest_xcr0;
	return vcpu;
}

uint64_t tracked_common_xcr0(const struct tracked *tracked)
{
	uint64_t common = UINT64_MAX;

	for (size_t i = 0; i < tracked->vcpu_count; i++)
		common &= tracked->vcpus[i].latest_xcr0;
	return common;
}
