// SPDX-License-Identifier: MIT
// Makes xsaveshim's supervisor handle ioctls of hostile processes, which can change their memory
// and descriptors at any time. The supervisor accesses other processes only through the functions
// of remote.h. This file replaces these functions. The fuzzer's input decides what the replacements
// return.
#include "../../supervise/tracked.c"
#include "../../supervise/handlers.c"

#include "fuzz.h"

static struct input input;
static const struct seccomp_notif *current;
static uint64_t last_bv;
static struct tracked owners;
static struct xsaveshim_record counting;
static struct log report_log;
static struct xsaveshim_record counting;

// In each simulated process, the descriptors n and n + 4 refer to the same file.
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

bool caller_waits(const struct caller *caller)
{
	(void)caller;
	return chance();
}

bool reports_take(enum log_level level)
{
	return log_takes(&report_log, level);
}

// Checks that the supervisor does not hold owners.lock, the lock of its list of processes and their
// vCPUs. The supervisor must not hold this lock while it accesses a process or a log, because the
// access can block.
static void must_not_be_locked(void)
{
	MUST(!pthread_mutex_trylock(&owners.lock));
	pthread_mutex_unlock(&owners.lock);
}

struct log *reports_begin(pid_t process)
{
	must_not_be_locked();
	report_log.pid = process;
	return &report_log;
}

void reports_end(void)
{
}

bool remote_read(pid_t tid, uint64_t address, void *to, size_t size)
{
	must_not_be_locked();
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
	must_not_be_locked();
	(void)tid;
	return fails() ? -1 : 12345;
}

// Returns true if the supervisor has stored a vCPU that meets two conditions: the current ioctl's
// descriptor can refer to this vCPU, and `written` is the payload's XSTATE_BV without the xfeatures
// that this vCPU may not use. A vCPU may use FP, SSE, the xfeatures of its CPUID tables, and the
// xfeatures that KVM_SET_XCRS set. The ioctl's descriptor number can differ from the stored one,
// because two descriptor numbers can refer to the same file.
static bool is_trimmed_for_a_vcpu(uint64_t written)
{
	for (size_t i = 0; i < owners.process_count; i++) {
		const struct tracked_process *process = owners.processes[i];

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

	must_not_be_locked();
	MUST(memory == 12345 && address == current->data.args[2] + XSTATE_BV_OFFSET &&
	     size == sizeof(written));
	memcpy(&written, from, size);
	MUST(is_trimmed_for_a_vcpu(written));
	MUST(settings->trim != TRIM_NONE && settings->trim != TRIM_SAVE);
	return !fails();
}

int remote_vcpu_id(pid_t tid, int fd)
{
	must_not_be_locked();
	(void)tid;
	if (fails())
		return -1;
	return fd % 3 + (chance() ? 0 : 1);
}

// In the simulation, the threads 2 and 3 belong to the fuzzer, and the threads 0, 1, 4 and 5 to the
// fuzzer's parent.
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
	must_not_be_locked();
	*process = process_of(tid);
	*parent = process_of(tid + 2);
	return !fails();
}

bool remote_shares_memory(pid_t tid, pid_t other)
{
	must_not_be_locked();
	return chance() && process_of(tid) == other;
}

bool remote_same_file(pid_t tid, int fd, int other_fd)
{
	must_not_be_locked();
	(void)tid;
	return chance() && is_same_file(fd, other_fd);
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
	} else if (owners.process_count) {
		forget(&owners, owners.processes[request.data.args[0] % owners.process_count]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings chosen;

	if (!owners.exits)
		tracked_init(&owners, 1024);
	tracked = &owners;
	record = &counting;
	input = (struct input){data, size};
	settings = &chosen;
	chosen.trim = (enum trim)(take(&input, 1) % 4);
	// With REFUSED_ABORT, the supervisor would kill the process whose payload KVM refuses. If
	// the input chooses a thread of the fuzzer's parent, the supervisor would kill the parent.
	chosen.refused = REFUSED_REPORT;
	host.xfeatures = take(&input, 2);
	report_log = checked_log();
	report_log.via = "supervisor";
	report_log.foresees = true;
	while (input.size)
		handle_one();
	while (owners.process_count)
		forget(&owners, owners.processes[0]);
	check_log();
	return 0;
}
