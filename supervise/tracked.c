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

#include "shared/helpers.h"

#define EXITS_AT_ONCE 64

void tracked_init(struct tracked *tracked, unsigned long descriptors)
{
	memset(tracked, 0, sizeof(*tracked));
	pthread_mutex_init(&tracked->lock, NULL);
	tracked->exits = epoll_create1(EPOLL_CLOEXEC);
	if (tracked->exits < 0)
		err(EXIT_FAILURE, "the supervisor ends: epoll_create1");
	// Keep an eighth of the descriptors for uses other than pidfds. For example, each thread
	// that writes to a VMM's memory needs a descriptor.
	tracked->pidfd_limit = (int)(descriptors - descriptors / 8);
}

// ---- processes (call these functions with the lock held) ----

// Returns the index of the first tracked process whose pid is pid or higher. If there is none,
// returns process_count.
static size_t index_of(const struct tracked *tracked, pid_t pid)
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
	size_t index = index_of(tracked, pid);

	return index < tracked->process_count && tracked->processes[index]->pid == pid
		       ? tracked->processes[index]
		       : NULL;
}

// Returns true if the supervisor has a pidfd of the process with this pid. Without a pidfd, the
// supervisor cannot see whether the pid still belongs to the same process.
static bool has_pidfd(const struct tracked *tracked, pid_t pid)
{
	const struct tracked_process *process = with_pid(tracked, pid);

	return process && process->pidfd >= 0;
}

static void set_owner_bit(struct tracked *tracked, pid_t pid, bool is_owner)
{
	unsigned char bit = (unsigned char)(1 << pid % 8);

	if (!tracked->owner_bits)
		return;
	if (is_owner)
		tracked->owner_bits[pid / 8] |= bit;
	else
		tracked->owner_bits[pid / 8] &= (unsigned char)~bit;
}

static struct tracked_process *insert(struct tracked *tracked, pid_t pid)
{
	struct tracked_process *process = grow(NULL, 0, sizeof(*process));
	size_t index = index_of(tracked, pid);

	*process = (struct tracked_process){.pid = pid, .pidfd = -1};
	tracked->processes =
		grow(tracked->processes, tracked->process_count, sizeof(struct tracked_process *));
	memmove(&tracked->processes[index + 1], &tracked->processes[index],
		(tracked->process_count++ - index) * sizeof(struct tracked_process *));
	tracked->processes[index] = process;
	set_owner_bit(tracked, pid, true);
	return process;
}

static void forget(struct tracked *tracked, struct tracked_process *process)
{
	size_t index = index_of(tracked, process->pid);

	set_owner_bit(tracked, process->pid, false);
	memmove(&tracked->processes[index], &tracked->processes[index + 1],
		(--tracked->process_count - index) * sizeof(struct tracked_process *));
	// close() also removes the pidfd from the epoll descriptor.
	if (process->pidfd >= 0)
		close(process->pidfd);
	free(process->vcpus);
	free(process);
}

// Forgets each tracked process that has no pidfd and has exited, but keeps *except. The kernel
// tells the supervisor only of the exits of processes with a pidfd.
static void
forget_exited_without_pidfd(struct tracked *tracked, const struct tracked_process *except)
{
	for (size_t i = tracked->process_count; i-- > 0;) {
		struct tracked_process *process = tracked->processes[i];

		if (process != except && process->pidfd < 0 && kill(process->pid, 0) &&
		    errno == ESRCH)
			forget(tracked, process);
	}
}

// Stores pidfd, or -1 for none, as the process's pidfd. Closes pidfd instead if the process already
// has a pidfd, if pidfd is not below pidfd_limit, or if epoll_ctl(2) fails.
static void take_pidfd(struct tracked *tracked, struct tracked_process *process, int pidfd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = process};

	if (pidfd >= 0 && (process->pidfd >= 0 || pidfd >= tracked->pidfd_limit ||
			   epoll_ctl(tracked->exits, EPOLL_CTL_ADD, pidfd, &event))) {
		close(pidfd);
		pidfd = -1;
	}
	if (process->pidfd >= 0)
		return;
	process->pidfd = pidfd;
	if (pidfd < 0)
		forget_exited_without_pidfd(tracked, process);
}

// ---- owners ----

void tracked_forget_exited(struct tracked *tracked)
{
	struct epoll_event exited[EXITS_AT_ONCE];
	int count;

	pthread_mutex_lock(&tracked->lock);
	do {
		count = epoll_wait(tracked->exits, exited, EXITS_AT_ONCE, 0);
		for (int i = 0; i < count; i++)
			forget(tracked, exited[i].data.ptr);
	} while (count == EXITS_AT_ONCE);
	pthread_mutex_unlock(&tracked->lock);
}

// remote_process reads /proc, which takes ten times as long as kcmp(2). So tracked_owner stores
// each thread's owner, and usually reads /proc only once for each thread. tracked_owner reads /proc
// more often if the supervisor has no pidfd of the owner, if the owner's first thread has exited,
// or if the kernel was built without kcmp.
pid_t tracked_owner(struct tracked *tracked, const struct caller *caller)
{
	pid_t tid = caller->tid;
	size_t index = (size_t)tid % TRACKED_THREADS;
	pid_t pid, parent, owner;
	bool is_owner, is_parent_owner;

	pthread_mutex_lock(&tracked->lock);
	is_owner = has_pidfd(tracked, tid); // the tid of a process's first thread is the pid
	owner = tracked->threads[index].tid == tid ? tracked->threads[index].owner : 0;
	if (!has_pidfd(tracked, owner))
		owner = 0;
	pthread_mutex_unlock(&tracked->lock);
	if (is_owner)
		return tid;
	if (owner && remote_shares_memory(tid, owner))
		return owner;
	if (!remote_process(tid, &pid, &parent))
		return 0;
	pthread_mutex_lock(&tracked->lock);
	is_owner = with_pid(tracked, pid);
	is_parent_owner = with_pid(tracked, parent);
	pthread_mutex_unlock(&tracked->lock);
	if (!is_owner && !(is_parent_owner && remote_shares_memory(tid, parent)))
		return 0;
	owner = is_owner ? pid : parent;
	pthread_mutex_lock(&tracked->lock);
	tracked->threads[index].tid = tid;
	tracked->threads[index].owner = owner;
	pthread_mutex_unlock(&tracked->lock);
	return owner;
}

// Returns a pidfd of the process pid, or -1. tid: a thread that shares the process's memory. If the
// supervisor may not write to this memory, it cannot trim the process's payloads. open_pidfd then
// returns -1, because `xsaveshim status` concludes from a pidfd that the supervisor serves the
// process.
static int open_pidfd(pid_t tid, pid_t pid)
{
	int memory = remote_memory_open(tid);

	if (memory < 0)
		return -1;
	close(memory);
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

pid_t tracked_add_owner(struct tracked *tracked, const struct caller *caller)
{
	pid_t owner = tracked_owner(tracked, caller);
	struct tracked_process *process;
	bool is_complete;
	pid_t parent;
	int pidfd;

	pthread_mutex_lock(&tracked->lock);
	is_complete = has_pidfd(tracked, owner);
	pthread_mutex_unlock(&tracked->lock);
	if (is_complete)
		return owner;
	if (!owner && !remote_process(caller->tid, &owner, &parent))
		return 0;
	pidfd = open_pidfd(caller->tid, owner);
	if (!caller_waits(caller)) {
		if (pidfd >= 0)
			close(pidfd);
		return 0;
	}
	pthread_mutex_lock(&tracked->lock);
	process = with_pid(tracked, owner);
	take_pidfd(tracked, process ? process : insert(tracked, owner), pidfd);
	pthread_mutex_unlock(&tracked->lock);
	return owner;
}

size_t tracked_owners(struct tracked *tracked, pid_t **pids)
{
	size_t count;

	pthread_mutex_lock(&tracked->lock);
	count = tracked->process_count;
	*pids = grow(NULL, count, sizeof(**pids));
	for (size_t i = 0; i < count; i++)
		(*pids)[i] = tracked->processes[i]->pid;
	pthread_mutex_unlock(&tracked->lock);
	return count;
}

uint32_t tracked_count_not_readable(struct tracked *tracked, pid_t owner, uint64_t bits)
{
	struct tracked_process *process;
	struct rate_limit *limit;
	uint32_t times;

	pthread_mutex_lock(&tracked->lock);
	process = with_pid(tracked, owner);
	limit = process ? &process->not_readable : &tracked->not_readable;
	times = rate_limit_allows(limit, bits) ? limit->count : 0;
	pthread_mutex_unlock(&tracked->lock);
	return times;
}

// ---- vCPUs ----

// A vCPU whose descriptor a function checks without holding the lock. After the check, the function
// takes the lock and searches for the vCPU by the vCPU's serial, because another thread may have
// removed the vCPU.
struct candidate {
	uint64_t serial;
	int fd;
	bool matches; // the result of the check, for example: true if the VMM has closed fd
};

// Sets *candidates to the owner's vCPUs that have this id and a descriptor other than fd. Returns
// the number of candidates. The calling function must free *candidates.
static size_t list_candidates(struct tracked *tracked, pid_t owner, int id, int fd,
			      struct candidate **candidates)
{
	const struct tracked_process *process;
	size_t count = 0;

	*candidates = NULL;
	pthread_mutex_lock(&tracked->lock);
	process = with_pid(tracked, owner);
	for (size_t i = 0; process && i < process->vcpu_count; i++) {
		const struct tracked_vcpu *vcpu = &process->vcpus[i];

		if (vcpu->vcpu.id != id || vcpu->fd == fd)
			continue;
		*candidates = grow(*candidates, count, sizeof(**candidates));
		(*candidates)[count++] = (struct candidate){.serial = vcpu->serial, .fd = vcpu->fd};
	}
	pthread_mutex_unlock(&tracked->lock);
	return count;
}

static struct tracked_vcpu *with_serial(const struct tracked_process *process, uint64_t serial)
{
	for (size_t i = 0; i < process->vcpu_count; i++)
		if (process->vcpus[i].serial == serial)
			return &process->vcpus[i];
	return NULL;
}

static struct tracked_vcpu *with_number(const struct tracked_process *process, int fd, int id)
{
	for (size_t i = 0; i < process->vcpu_count; i++)
		if (process->vcpus[i].fd == fd && process->vcpus[i].vcpu.id == id)
			return &process->vcpus[i];
	return NULL;
}

void tracked_forget_closed(struct tracked *tracked, pid_t owner, const struct caller *caller,
			   int id)
{
	struct candidate *candidates;
	size_t count = list_candidates(tracked, owner, id, -1, &candidates);
	struct tracked_process *process;

	for (size_t i = 0; i < count; i++) {
		int now = remote_vcpu_id(caller->tid, candidates[i].fd);

		candidates[i].matches = now >= 0 ? now != id : errno == ENOENT;
	}
	pthread_mutex_lock(&tracked->lock);
	process = with_pid(tracked, owner);
	for (size_t i = 0; process && i < count && caller_waits(caller); i++) {
		struct tracked_vcpu *vcpu = with_serial(process, candidates[i].serial);

		if (vcpu && candidates[i].matches)
			*vcpu = process->vcpus[--process->vcpu_count];
	}
	pthread_mutex_unlock(&tracked->lock);
	free(candidates);
}

// Call join if vcpu->fd and other->fd refer to the same open file, because the VMM has made one a
// duplicate of the other. The supervisor cannot tell which of the two vCPUs this is. So join
// adds the xfeatures that the supervisor allows for other to those that it allows for vcpu.
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

static struct tracked_vcpu *add_vcpu(struct tracked *tracked, struct tracked_process *process,
				     int fd, int id)
{
	struct tracked_vcpu *vcpu;

	process->vcpus = grow(process->vcpus, process->vcpu_count, sizeof(*process->vcpus));
	vcpu = &process->vcpus[process->vcpu_count++];
	*vcpu = (struct tracked_vcpu){.serial = ++tracked->serials,
				      .fd = fd,
				      .vcpu = {.knowledge = VCPU_NO_CPUID, .id = id}};
	return vcpu;
}

struct tracked_vcpu *tracked_lock_vcpu(struct tracked *tracked, pid_t owner,
				       const struct caller *caller, int fd, int id)
{
	struct candidate *candidates;
	size_t count = list_candidates(tracked, owner, id, fd, &candidates);
	struct tracked_vcpu *found = NULL;
	struct tracked_process *process;

	for (size_t i = 0; i < count; i++)
		candidates[i].matches = remote_same_file(caller->tid, fd, candidates[i].fd);
	pthread_mutex_lock(&tracked->lock);
	process = with_pid(tracked, owner);
	if (process && caller_waits(caller)) {
		found = with_number(process, fd, id);
		for (size_t i = 0; i < count; i++) {
			struct tracked_vcpu *other = with_serial(process, candidates[i].serial);

			if (!other || !candidates[i].matches)
				continue;
			if (found)
				join(found, other);
			else
				found = other;
		}
		if (!found)
			found = add_vcpu(tracked, process, fd, id);
	}
	free(candidates);
	if (!found)
		pthread_mutex_unlock(&tracked->lock);
	return found;
}

void tracked_unlock(struct tracked *tracked)
{
	pthread_mutex_unlock(&tracked->lock);
}

void tracked_add_table(struct tracked_vcpu *vcpu, uint64_t guest_xcr0)
{
	vcpu->vcpu.knowledge = VCPU_XCR0;
	vcpu->vcpu.guest_xcr0 |= guest_xcr0;
	vcpu->latest_xcr0 = guest_xcr0;
}
