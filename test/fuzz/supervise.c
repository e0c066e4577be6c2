// SPDX-License-Identifier: MIT
// The supervisor's handling of calls from processes whose memory and descriptors say anything, and
// something else each time they are looked at. The kernel's part (remote.h, and whether a caller
// waits still) is played by the input.
#include "../../supervise/handlers.c"

#include "fuzz.h"

static struct input input;
static const struct seccomp_notif *current;
static uint64_t last_bv;

// Descriptors n and n + 4 of a process are duplicates.
static bool is_same_file(int fd, int other)
{
	return fd % 4 == other % 4;
}

static bool chance(void)
{
	return take(&input, 1) % 8 != 0;
}

static bool fails(void)
{
	static const int errors[] = {ESRCH, EPERM, EACCES, EFAULT, ENOENT, EIO};

	if (chance())
		return false;
	errno = errors[take(&input, 1) % (sizeof(errors) / sizeof(errors[0]))];
	return true;
}

int seccomp_notify_id_valid(int fd, uint64_t id)
{
	(void)fd;
	(void)id;
	return chance() ? 0 : -ENOENT;
}

bool remote_read(pid_t tid, uint64_t address, void *to, size_t size)
{
	(void)tid;
	(void)address;
	if (fails())
		return false;
	memset(to, 0, size);
	memcpy(to, input.data, size < input.size ? size : input.size);
	take(&input, 8);
	if (size > 8)
		take(&input, 8);
	if (size == XSTATE_HEAD_SIZE)
		last_bv = xstate_bv(to);
	return true;
}

int remote_memory_open(pid_t tid)
{
	(void)tid;
	return fails() ? -1 : 12345;
}

// Whether this is what is left of the payload for a vCPU of the caller, under its own descriptor or
// a duplicate of it: what any of its tables enumerates, what KVM_SET_XCRS added, FP and SSE.
static bool is_trimmed_for_a_vcpu(uint64_t written)
{
	for (size_t i = 0; i < tracked.process_count; i++) {
		const struct tracked_process *process = tracked.processes[i];

		for (size_t j = 0; j < process->vcpu_count; j++) {
			const struct tracked_vcpu *vcpu = &process->vcpus[j];

			if (vcpu->vcpu.knowledge == VCPU_XCR0 &&
			    is_same_file(vcpu->fd, (int)current->data.args[0]) &&
			    written == (last_bv & policy_allowed(vcpu->vcpu)))
				return true;
		}
	}
	return false;
}

bool remote_memory_write(int memory, uint64_t address, const void *from, size_t size)
{
	uint64_t written;

	MUST(memory == 12345 && address == current->data.args[2] + XSTATE_BV_OFFSET &&
	     size == sizeof(written));
	memcpy(&written, from, size);
	MUST(is_trimmed_for_a_vcpu(written));
	MUST(settings->trim != TRIM_NONE && settings->trim != TRIM_SAVE);
	return !fails();
}

int remote_vcpu_id(pid_t tid, int fd)
{
	(void)tid;
	if (fails())
		return -1;
	return fd % 3 + (chance() ? 0 : 1);
}

// Threads 2n and 2n + 1 are of one process, this one or its parent.
static pid_t process_of(pid_t tid)
{
	static pid_t own, parent;

	if (!own) {
		own = getpid();
		parent = getppid();
	}
	return tid / 2 % 2 ? own : parent;
}

bool remote_process(pid_t tid, pid_t *process, pid_t *parent)
{
	*process = process_of(tid);
	*parent = process_of(tid + 2);
	return !fails();
}

bool remote_shares_memory(pid_t tid, pid_t other)
{
	return chance() && process_of(tid) == other;
}

bool remote_same_file(pid_t tid, int fd, int other_fd)
{
	return chance() && tid && is_same_file(fd, other_fd);
}

bool remote_has_another_file(pid_t pid, int fd)
{
	return pid && fd >= 0 && chance();
}

static void handle_one(void)
{
	size_t which = take(&input, 1) % (WATCHED + 1);
	struct seccomp_notif request = {.id = 1, .pid = (uint32_t)(take(&input, 1) % 4)};

	request.data.args[0] = take(&input, 1) % 8;
	request.data.args[2] = take(&input, 1) % 4 ? 0x10000 : take(&input, 8);
	if (which < WATCHED) {
		request.data.args[1] = watched[which].request;
		current = &request;
		handle_notification(&request);
		current = NULL;
	} else if (tracked.process_count) {
		tracked_forget_process(
			&tracked, tracked.processes[request.data.args[0] % tracked.process_count]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings chosen;

	if (!tracked.exits)
		tracked_init(&tracked, 1024);
	input = (struct input){data, size};
	settings = &chosen;
	chosen.trim = (enum trim)(take(&input, 1) % 4);
	host.xfeatures = take(&input, 2);
	report_log = checked_log();
	report_log.via = "supervisor";
	while (input.size)
		handle_one();
	while (tracked.process_count)
		tracked_forget_process(&tracked, tracked.processes[0]);
	check_log();
	return 0;
}
