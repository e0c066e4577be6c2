// SPDX-License-Identifier: MIT
#include "tracked.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "remote.h"
#include "shared/helpers.h"

#define EXITS_AT_ONCE 64

static _Noreturn void fail(void)
{
	err(EXIT_FAILURE, "the supervisor ends");
}

void tracked_init(struct tracked *tracked, unsigned long descriptors)
{
	memset(tracked, 0, sizeof(*tracked));
	tracked->exits = epoll_create1(EPOLL_CLOEXEC);
	if (tracked->exits < 0)
		fail();
	// An eighth is left for the threads that write to a VMM's memory.
	tracked->pidfd_limit = (int)(descriptors - descriptors / 8);
}

// Returns the index of the first process whose pid is not below this one.
static size_t place_of(const struct tracked *tracked, pid_t pid)
{
	size_t low = 0;
	size_t high = tracked->process_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (tracked->processes[middle]->pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct tracked_process *with_pid(const struct tracked *tracked, pid_t pid)
{
	size_t place = place_of(tracked, pid);

	return place < tracked->process_count && tracked->processes[place]->pid == pid
		       ? tracked->processes[place]
		       : NULL;
}

void tracked_forget_exited(struct tracked *tracked)
{
	struct epoll_event exited[EXITS_AT_ONCE];
	int count;

	do {
		count = epoll_wait(tracked->exits, exited, EXITS_AT_ONCE, 0);
		for (int i = 0; i < count; i++)
			tracked_forget_process(tracked, exited[i].data.ptr);
	} while (count == EXITS_AT_ONCE);
}

// Reading a thread's process from /proc takes ten times as long as kcmp. It is needed once for each
// thread; more often if the process's first thread has exited or the kernel lacks kcmp.
struct tracked_process *tracked_find_process(struct tracked *tracked, pid_t tid)
{
	struct tracked_process *process = with_pid(tracked, tid); // if it is the first thread
	size_t place = (size_t)tid % TRACKED_THREADS;
	pid_t pid, parent;

	// Without a pidfd this may be another process that was given the same pid.
	if (process && process->pidfd >= 0)
		return process;
	if (tracked->threads[place].tid == tid) {
		process = with_pid(tracked, tracked->threads[place].process);
		if (process && process->pidfd >= 0 && remote_shares_memory(tid, process->pid))
			return process;
	}
	if (!remote_process(tid, &pid, &parent))
		return NULL;
	process = with_pid(tracked, pid);
	if (!process && remote_shares_memory(tid, parent))
		process = with_pid(tracked, parent);
	if (process) {
		tracked->threads[place].tid = tid;
		tracked->threads[place].process = process->pid;
	}
	return process;
}

static bool has_exited(const struct tracked_process *process)
{
	return process->pidfd < 0 && kill(process->pid, 0) && errno == ESRCH;
}

// Opens a pidfd of the process. If there is none left, forgets exited processes without one.
static void watch(struct tracked *tracked, struct tracked_process *process, pid_t tid)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = process};
	int memory = remote_memory_open(tid);
	int pidfd = memory < 0 ? -1 : (int)syscall(SYS_pidfd_open, process->pid, 0);

	if (memory >= 0)
		close(memory);
	if (pidfd >= 0 && (pidfd >= tracked->pidfd_limit ||
			   epoll_ctl(tracked->exits, EPOLL_CTL_ADD, pidfd, &event))) {
		close(pidfd);
		pidfd = -1;
	}
	process->pidfd = pidfd;
	for (size_t i = tracked->process_count; pidfd < 0 && i-- > 0;)
		if (tracked->processes[i] != process && has_exited(tracked->processes[i]))
			tracked_forget_process(tracked, tracked->processes[i]);
}

static struct tracked_process *insert(struct tracked *tracked, pid_t pid)
{
	struct tracked_process *process = grow(NULL, 0, sizeof(*process));
	size_t place = place_of(tracked, pid);

	*process = (struct tracked_process){.pid = pid, .pidfd = -1};
	tracked->processes =
		grow(tracked->processes, tracked->process_count, sizeof(struct tracked_process *));
	memmove(&tracked->processes[place + 1], &tracked->processes[place],
		(tracked->process_count++ - place) * sizeof(struct tracked_process *));
	tracked->processes[place] = process;
	return process;
}

struct tracked_process *tracked_add_process(struct tracked *tracked, pid_t tid)
{
	struct tracked_process *process = tracked_find_process(tracked, tid);
	pid_t pid, parent;

	if (!process) {
		if (!remote_process(tid, &pid, &parent))
			return NULL;
		process = with_pid(tracked, pid);
	}
	if (!process)
		process = insert(tracked, pid);
	if (process->pidfd < 0)
		watch(tracked, process, tid);
	return process;
}

void tracked_forget_process(struct tracked *tracked, struct tracked_process *process)
{
	size_t place = place_of(tracked, process->pid);

	memmove(&tracked->processes[place], &tracked->processes[place + 1],
		(--tracked->process_count - place) * sizeof(struct tracked_process *));
	// A pidfd leaves the epoll descriptor by itself when it is closed.
	if (process->pidfd >= 0)
		close(process->pidfd);
	free(process->vcpus);
	free(process);
}

void tracked_forget_closed(struct tracked_process *process, pid_t tid, int id)
{
	for (size_t i = process->vcpu_count; i-- > 0;) {
		const struct tracked_vcpu *vcpu = &process->vcpus[i];
		int now;

		if (vcpu->vcpu.id != id)
			continue;
		now = remote_vcpu_id(tid, vcpu->fd);
		if (now >= 0 ? now != id : errno == ENOENT)
			process->vcpus[i] = process->vcpus[--process->vcpu_count];
	}
}

static void join(struct tracked_vcpu *vcpu, const struct tracked_vcpu *other)
{
	if (other->vcpu.knowledge != VCPU_XCR0)
		return;
	vcpu->latest_xcr0 = vcpu->vcpu.knowledge == VCPU_XCR0
				    ? vcpu->latest_xcr0 & other->latest_xcr0
				    : other->latest_xcr0;
	vcpu->vcpu.knowledge = VCPU_XCR0;
	vcpu->vcpu.guest_xcr0 |= other->vcpu.guest_xcr0;
	vcpu->vcpu.enabled_xcr0 |= other->vcpu.enabled_xcr0;
}

static struct tracked_vcpu *with_number(const struct tracked_process *process, int fd, int id)
{
	for (size_t i = 0; i < process->vcpu_count; i++)
		if (process->vcpus[i].fd == fd && process->vcpus[i].vcpu.id == id)
			return &process->vcpus[i];
	return NULL;
}

struct tracked_vcpu *tracked_vcpu(struct tracked_process *process, pid_t tid, int fd, int id)
{
	struct tracked_vcpu *found = with_number(process, fd, id);

	for (size_t i = 0; i < process->vcpu_count; i++) {
		struct tracked_vcpu *other = &process->vcpus[i];

		if (other == found || other->vcpu.id != id || !remote_same_file(tid, fd, other->fd))
			continue;
		if (found)
			join(found, other);
		else
			found = other;
	}
	if (found)
		return found;
	process->vcpus = grow(process->vcpus, process->vcpu_count, sizeof(*process->vcpus));
	found = &process->vcpus[process->vcpu_count++];
	*found = (struct tracked_vcpu){.fd = fd, .vcpu = {.knowledge = VCPU_NO_CPUID, .id = id}};
	return found;
}

void tracked_add_table(struct tracked_vcpu *vcpu, uint64_t guest_xcr0)
{
	vcpu->vcpu.knowledge = VCPU_XCR0;
	vcpu->vcpu.guest_xcr0 |= guest_xcr0;
	vcpu->latest_xcr0 = guest_xcr0;
}
