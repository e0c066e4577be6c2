// SPDX-License-Identifier: MIT
// The supervisor: what it does when the kernel notifies it of a KVM call, before the kernel makes
// the call.
#include "supervise.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/seccomp.h>

#include "attach.h"
#include "remote.h"
#include "tracked.h"
#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/report.h"
#include "xsaveshim/xstate.h"

// Newer than the headers of some distributions that this is built on.
#ifndef KVM_X86_XCOMP_GUEST_SUPP
#define KVM_X86_XCOMP_GUEST_SUPP 0
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

// A thread that waits for a notification needs little of this; one that learns a table, 10 KiB,
// needs most.
#define STACK_SIZE (256 << 10)

// How many threads may wait for notifications. More than one are left over where several calls came
// at once.
#define IDLE_MAX 4

// How long to wait, in milliseconds, before the first look at whether the VMM has kept its standard
// error. Each further look comes after twice the time, until the next notification.
#define FIRST_LOOK_MS 100
#define LAST_LOOK_MS (INT_MAX / 2)

// How long a report waits for somebody who reads standard error.
#define STDERR_WAIT_MS 1000

// A call whose caller is blocked until the supervisor answers.
struct call {
	unsigned int request;
	const char *ioctl_name;
	uint64_t id;
	pid_t tid;
	int fd;
	uint64_t argument;
	int vcpu_id;
	struct tracked_process *process; // NULL until it is looked for
};

static int listener;
static int events; // an epoll descriptor: the listener, and the exits of tracked processes
static pid_t first_process;
static const struct settings *settings;

// How many threads wait for a notification.
static atomic_int idle;

// Held while a call is handled, but not while the caller's memory is read or written, which may
// take as long as the caller wants: the memory may be a file of a FUSE server of the caller's, or
// wait for its userfaultfd. The rest of the static data belongs to who holds it.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct log report_log;
static struct tracked tracked;
static bool has_stderr;
static int look_after_ms; // how long to wait before the next look
static int64_t next_look; // when it is due

// Of callers whose process is not known.
static struct rate_limit no_access;

// What this host can load; its xfeatures are the host's XCR0 where KVM cannot be asked. Its xcr0
// stays 0: whether the VMM has the permission to use AMX cannot be seen from outside, and KVM takes
// no CPUID table with AMX from one that has not.
static struct host_caps host;

static struct vcpu_call vcpu_call(const struct call *call, struct vcpu vcpu)
{
	return (struct vcpu_call){call->ioctl_name, call->fd, vcpu};
}

// True while the caller is still blocked in this call; checked after reading, as its tid may have
// been reused.
static bool still_waits(const struct call *call)
{
	return !seccomp_notify_id_valid(listener, call->id);
}

// Whether a VMM, or the process that was started, still has the standard error that it was started
// with. Before there is a VMM, one may come that has.
static bool is_stderr_in_use(void)
{
	if (!tracked.process_count ||
	    !remote_has_another_file(first_process, STDERR_FILENO, STDERR_FILENO))
		return true;
	for (size_t i = 0; i < tracked.process_count; i++)
		if (!remote_has_another_file(tracked.processes[i]->pid, STDERR_FILENO,
					     STDERR_FILENO))
			return true;
	return false;
}

// A VMM that becomes a daemon lets go of its standard error, and so must the supervisor: somebody
// (ssh, a script) may wait for its end. The log's lines then go where they go without a standard
// error.
static void release_stderr(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDERR_FILENO);
	close(null);
	has_stderr = false;
}

static void look_after_stderr(void)
{
	if (has_stderr && !is_stderr_in_use())
		release_stderr();
}

// A pipe that somebody else has filled may be about to be read. Once nobody did in time, no report
// waits until somebody does.
static void wait_for_stderr(void)
{
	static bool is_stuck;
	struct pollfd target = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (has_stderr && settings->log == LOG_STDERR)
		is_stuck = !poll(&target, 1, is_stuck ? 0 : STDERR_WAIT_MS);
}

// To be called before a report: makes it be about the caller's process, and go where somebody
// reads.
static void report_about(const struct call *call)
{
	pid_t process, parent;

	if (call->process)
		process = call->process->pid;
	else if (!remote_process(call->tid, &process, &parent))
		process = call->tid;
	report_log.pid = process;
	look_after_stderr();
	wait_for_stderr();
}

// Reports, with errno's text, that the supervisor cannot access the caller. Nothing is wrong where
// the descriptor is no vCPU (ENOENT), where the caller has exited (ESRCH), and where the kernel
// itself will fail the call with EFAULT.
static void report_no_access(struct call *call)
{
	const char *error = strerror(errno);
	struct rate_limit *limit;
	struct report_line line;

	if (errno == ENOENT || errno == ESRCH || errno == EFAULT || !still_waits(call))
		return;
	call->process = tracked_find_process(&tracked, call->tid);
	limit = call->process ? &call->process->no_access : &no_access;
	// Each ioctl once: every request has a number of its own in its lowest bits.
	if (!rate_limit_allows(limit, UINT64_C(1) << (_IOC_NR(call->request) & 63)))
		return;
	report_about(call);
	report_begin(&line, &report_log, LOG_LEVEL_ERROR, "no-access");
	report_vcpu_call(&line, vcpu_call(call, (struct vcpu){.id = call->vcpu_id}));
	report_text(&line, "error", error);
	report_count(&line, limit->count);
	report_send(&line);
}

static bool read_memory(const struct call *call, uint64_t address, void *to, size_t size)
{
	bool is_read;

	pthread_mutex_unlock(&lock);
	is_read = remote_read(call->tid, address, to, size);
	pthread_mutex_lock(&lock);
	return is_read;
}

// The call's vCPU, once the caller's memory has been read; NULL where the caller's process has
// created none, so that KVM will say EIO, and where the caller waits no longer: then what was read
// may be another process's.
static struct tracked_vcpu *find_vcpu(struct call *call)
{
	struct tracked_vcpu *vcpu;

	call->process = tracked_find_process(&tracked, call->tid);
	if (!call->process)
		return NULL;
	vcpu = tracked_vcpu(call->process, call->tid, call->fd, call->vcpu_id);
	return still_waits(call) ? vcpu : NULL;
}

static void create_vcpu(struct call *call)
{
	bool is_known = tracked_find_process(&tracked, call->tid);

	call->process = tracked_add_process(&tracked, call->tid);
	if (!call->process)
		return;
	if (still_waits(call))
		tracked_forget_closed(call->process, call->tid, (int)call->argument);
	else if (!is_known)
		tracked_forget_process(&tracked, call->process);
}

// Reads the CPUID table that the call passes. False where the kernel will refuse it, too.
static bool read_table(const struct call *call, size_t entry_size, struct guest_cpuid *table)
{
	return read_memory(call, call->argument, table, sizeof(struct kvm_cpuid2)) &&
	       table->nent <= GUEST_CPUID_MAX_ENTRIES &&
	       read_memory(call, call->argument + sizeof(struct kvm_cpuid2), table->entries,
			   table->nent * entry_size);
}

static void learn_table(struct call *call, size_t entry_size,
			uint64_t (*xcr0)(const void *entries, uint32_t nent))
{
	struct guest_cpuid table = {0};
	struct tracked_vcpu *vcpu;

	errno = 0;
	if (!read_table(call, entry_size, &table)) {
		if (errno)
			report_no_access(call);
		return;
	}
	vcpu = find_vcpu(call);
	if (!vcpu)
		return;
	tracked_add_table(vcpu, xcr0(table.entries, table.nent));
	if (!log_takes(&report_log, LOG_LEVEL_DEBUG))
		return;
	report_about(call);
	report_learn(&report_log, vcpu_call(call, vcpu->vcpu));
}

static void set_cpuid(struct call *call)
{
	learn_table(call, sizeof(struct kvm_cpuid_entry), guest_cpuid_v1_xcr0);
}

static void set_cpuid2(struct call *call)
{
	learn_table(call, sizeof(struct kvm_cpuid_entry2), guest_cpuid_xcr0);
}

// Writes the trimmed XSTATE_BV. It opens the memory before it checks that the caller still waits,
// so that the memory is the caller's even if the tid is reused later.
static bool write_payload(const struct call *call, struct trim_result trim)
{
	int memory = remote_memory_open(call->tid);
	bool is_written;

	if (memory < 0)
		return false;
	if (!still_waits(call)) {
		close(memory);
		errno = ESRCH;
		return false;
	}
	pthread_mutex_unlock(&lock);
	is_written = remote_memory_write(
		memory, call->argument + XSTATE_BV_OFFSET, &trim.after, sizeof(trim.after));
	pthread_mutex_lock(&lock);
	return is_written;
}

// Ends the VMM, whose guest would run on without its state. A pidfd that is opened while the caller
// waits is its process's, and not another's that was given the pid.
static void end_vmm(const struct call *call)
{
	pid_t pid = call->process->pid;
	pid_t process, parent;
	int pidfd;

	if (settings->refused != REFUSED_ABORT)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return;
	if ((remote_shares_memory(call->tid, pid) ||
	     (remote_process(call->tid, &process, &parent) && process == pid)) &&
	    still_waits(call))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	close(pidfd);
}

// Returns which time of the event this is, or 0 where it is not to be reported.
static uint32_t count(struct tracked_vcpu *vcpu, enum tracked_event event, uint64_t bits)
{
	return rate_limit_allows(&vcpu->rate_limits[event], bits)
		       ? vcpu->rate_limits[event].count
		       : 0;
}

static void begin_payload(struct report_line *line, enum log_level level, const char *event,
			  const struct call *call, struct vcpu vcpu, uint64_t xstate_bv)
{
	report_about(call);
	report_begin(line, &report_log, level, event);
	report_vcpu_call(line, vcpu_call(call, vcpu));
	report_hex(line, "xstate_bv", xstate_bv);
}

static void report_not_trimmed(const struct call *call, struct tracked_vcpu *vcpu,
			       struct trim_result trim, int error)
{
	uint32_t times = count(vcpu, TRACKED_NOT_TRIMMED, trim.xstate_bv & ~trim.allowed);
	struct report_line line;

	if (!times)
		return;
	begin_payload(&line, LOG_LEVEL_ERROR, "not-trimmed", call, vcpu->vcpu, trim.xstate_bv);
	report_hex(&line, "allowed", trim.allowed);
	report_text(&line, "error", strerror(error));
	report_count(&line, times);
	report_send(&line);
}

static void tell_trim(const struct call *call, struct tracked_vcpu *vcpu, struct trim_result trim)
{
	uint64_t dropped = trim.xstate_bv & ~trim.allowed;
	uint32_t times = dropped ? count(vcpu, TRACKED_TRIM, dropped) : 0;

	vcpu->dropped = trim.xstate_bv & ~trim.after;
	if (!times)
		return;
	report_about(call);
	report_trim(&report_log, vcpu_call(call, vcpu->vcpu), trim, times);
}

// What KVM refuses if the vCPU has the last table that was set and not an earlier one.
static void report_doubtful(const struct call *call, struct tracked_vcpu *vcpu, uint64_t xstate_bv)
{
	struct vcpu latest = {.knowledge = vcpu->vcpu.knowledge, .guest_xcr0 = vcpu->latest_xcr0};
	uint64_t doubtful = xstate_bv & vcpu->vcpu.guest_xcr0 & ~policy_allowed(latest);
	uint32_t times = doubtful ? count(vcpu, TRACKED_MAY_BE_REFUSED, doubtful) : 0;
	struct report_line line;

	if (!times)
		return;
	begin_payload(&line, LOG_LEVEL_NOTICE, "may-be-refused", call, vcpu->vcpu, xstate_bv);
	report_reason(&line, (struct refusal){.guest_lacks = doubtful});
	report_count(&line, times);
	report_send(&line);
}

// The supervisor does not see how a call ends, so it reports beforehand what KVM will refuse. A
// vCPU of which no table was seen may be one that KVM serves to another process, so nothing ends
// over it.
static void forecast(const struct call *call, struct tracked_vcpu *vcpu, const void *head)
{
	struct refusal refusal = policy_diagnose(head, vcpu->vcpu, host);
	struct report_line line;
	uint32_t times;

	if (!policy_always_refused(refusal)) {
		report_doubtful(call, vcpu, xstate_bv(head));
		return;
	}
	times = count(vcpu, TRACKED_WILL_BE_REFUSED, policy_refused_xfeatures(refusal));
	if (times) {
		begin_payload(&line, LOG_LEVEL_ERROR, "will-be-refused", call, vcpu->vcpu,
			      xstate_bv(head));
		report_reason(&line, refusal);
		report_count(&line, times);
		report_send(&line);
	}
	if (vcpu->vcpu.knowledge == VCPU_XCR0)
		end_vmm(call);
}

static void set_xsave(struct call *call)
{
	unsigned char head[XSTATE_HEAD_SIZE];
	struct tracked_vcpu *vcpu;
	bool is_as_wanted = true;
	struct trim_result trim;
	int error = 0;

	if (!read_memory(call, call->argument, head, sizeof(head))) {
		report_no_access(call);
		return;
	}
	vcpu = find_vcpu(call);
	if (!vcpu)
		return;
	trim = policy_trim(settings->trim, XSAVE_RESTORE, vcpu->vcpu, xstate_bv(head));
	if (trim.after != trim.xstate_bv) {
		is_as_wanted = write_payload(call, trim);
		error = errno;
		vcpu = find_vcpu(call);
		if (!vcpu)
			return;
	}
	if (!is_as_wanted) {
		report_not_trimmed(call, vcpu, trim, error);
		return;
	}
	tell_trim(call, vcpu, trim);
	xstate_set_bv(head, trim.after);
	forecast(call, vcpu, head);
}

// The guest had enabled this XCR0 where it was saved. What of it was dropped from the payload
// before is lost. The rest the guest may have even if its CPUID does not enumerate it: a VMM that
// KVM refuses it never loads the payload.
static void set_xcrs(struct call *call)
{
	struct kvm_xcrs xcrs = {0};
	struct tracked_vcpu *vcpu;
	struct report_line line;
	uint64_t xcr0, lost;
	uint32_t times;

	if (!read_memory(call, call->argument, &xcrs, sizeof(xcrs))) {
		report_no_access(call);
		return;
	}
	vcpu = find_vcpu(call);
	if (!vcpu || !xstate_xcrs_xcr0(&xcrs, &xcr0))
		return;
	lost = policy_lost(vcpu->dropped, xcr0);
	vcpu->vcpu.enabled_xcr0 |= policy_joins(vcpu->vcpu, xcr0) & ~lost;
	if (!lost)
		return;
	times = count(vcpu, TRACKED_WILL_BE_LOST, lost);
	if (times) {
		report_about(call);
		report_begin(&line, &report_log, LOG_LEVEL_ERROR, "will-be-lost");
		report_vcpu_call(&line, vcpu_call(call, vcpu->vcpu));
		report_hex(&line, "xcr0", xcr0);
		report_xfeatures(&line, "lost", lost);
		report_count(&line, times);
		report_send(&line);
	}
	end_vmm(call);
}

// The requests that the filter notifies the supervisor of.
static const struct {
	unsigned int request;
	const char *name;
	void (*handle)(struct call *call);
} watched[] = {
	{KVM_CREATE_VCPU, "KVM_CREATE_VCPU", create_vcpu},
	{KVM_SET_CPUID, "KVM_SET_CPUID", set_cpuid},
	{KVM_SET_CPUID2, "KVM_SET_CPUID2", set_cpuid2},
	{KVM_SET_XSAVE, "KVM_SET_XSAVE", set_xsave},
	{KVM_SET_XCRS, "KVM_SET_XCRS", set_xcrs},
};

#define WATCHED (sizeof(watched) / sizeof(watched[0]))

// The filter compares the low 32 bits of the request, which is what the kernel takes: QEMU up
// to 8.2 passes an int, so that bit 31 arrives sign-extended.
scmp_filter_ctx supervise_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int error = filter ? seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW)
			   : -ENOMEM;

	for (size_t i = 0; i < WATCHED && !error; i++)
		error = seccomp_rule_add(
			filter, SCMP_ACT_NOTIFY, SCMP_SYS(ioctl), 1,
			SCMP_A1_64(SCMP_CMP_MASKED_EQ, 0xffffffff, watched[i].request));
	if (error) {
		errno = -error;
		err(EXIT_OWN_FAILURE, "cannot make the supervisor's filter");
	}
	return filter;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void plan_look(int after_ms)
{
	look_after_ms = after_ms;
	next_look = now_ms() + after_ms;
}

// What is no vCPU is never read from.
static void handle_vcpu_call(struct call *call, void (*handle)(struct call *call))
{
	call->vcpu_id = remote_vcpu_id(call->tid, call->fd);
	if (call->vcpu_id >= 0)
		handle(call);
	else
		report_no_access(call);
}

static void handle(const struct seccomp_notif *request)
{
	struct call call = {
		.request = (unsigned int)request->data.args[1],
		.id = request->id,
		.tid = (pid_t)request->pid,
		.fd = (int)request->data.args[0],
		.argument = request->data.args[2],
		.vcpu_id = VCPU_ID_UNKNOWN,
	};

	pthread_mutex_lock(&lock);
	tracked_forget_exited(&tracked);
	if (has_stderr)
		plan_look(FIRST_LOOK_MS);
	for (size_t i = 0; i < WATCHED; i++) {
		if (watched[i].request != call.request)
			continue;
		call.ioctl_name = watched[i].name;
		if (call.request == KVM_CREATE_VCPU)
			create_vcpu(&call);
		else
			handle_vcpu_call(&call, watched[i].handle);
	}
	pthread_mutex_unlock(&lock);
}

// Asks KVM for KVM_X86_XCOMP_GUEST_SUPP, because KVM_GET_SUPPORTED_CPUID leaves out AMX where the
// process has not asked for permission to use it.
static uint64_t kvm_xfeatures(void)
{
	uint64_t xfeatures = xstate_host_xcr0();
	struct kvm_device_attr attribute = {
		.attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uint64_t)(uintptr_t)&xfeatures};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm >= 0) {
		ioctl(kvm, KVM_GET_DEVICE_ATTR, &attribute);
		close(kvm);
	}
	return xfeatures;
}

static _Noreturn void fail(void)
{
	err(EXIT_FAILURE, "the supervisor ends");
}

static void look_at_stderr(void)
{
	pthread_mutex_lock(&lock);
	tracked_forget_exited(&tracked);
	if (has_stderr && now_ms() >= next_look) {
		look_after_stderr();
		if (look_after_ms < LAST_LOOK_MS)
			plan_look(2 * look_after_ms);
	}
	pthread_mutex_unlock(&lock);
}

// In milliseconds; -1: there will be none.
static int time_to_next_look(void)
{
	int64_t time = -1;

	pthread_mutex_lock(&lock);
	if (has_stderr)
		time = next_look > now_ms() ? next_look - now_ms() : 0;
	pthread_mutex_unlock(&lock);
	return (int)time;
}

static void watch(int fd, uint32_t flags, int operation)
{
	struct epoll_event event = {.events = EPOLLIN | flags, .data.fd = fd};

	if (epoll_ctl(events, operation, fd, &event))
		fail();
}

// Receives a notification, if there is one. The listener is watched for one event at a time, so
// that of the threads which wait here one receives; it has it watched again at once.
static bool receive(struct seccomp_notif *request)
{
	struct epoll_event event;
	int ready = epoll_wait(events, &event, 1, time_to_next_look());
	bool is_received;

	if (!ready)
		look_at_stderr();
	if (ready <= 0)
		return false;
	if (event.data.fd != listener) {
		pthread_mutex_lock(&lock);
		tracked_forget_exited(&tracked);
		pthread_mutex_unlock(&lock);
		return false;
	}
	if (event.events & EPOLLHUP)
		_exit(0); // the last process with the filter has exited
	memset(request, 0, sizeof(*request));
	is_received = !seccomp_notify_receive(listener, request);
	// ENOENT: the caller was killed before the supervisor could receive its notification.
	if (!is_received && errno != ENOENT && errno != EINTR)
		fail();
	watch(listener, EPOLLONESHOT, EPOLL_CTL_MOD);
	return is_received;
}

static void start_thread(void);

// Answers one notification. The kernel makes the call in any case. The last thread that waits for
// one starts another, as handling the call may take as long as the caller wants.
static void serve_one(void)
{
	struct seccomp_notif request;
	struct seccomp_notif_resp response = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	if (!receive(&request))
		return;
	if (atomic_fetch_sub(&idle, 1) == 1)
		start_thread();
	handle(&request);
	response.id = request.id;
	seccomp_notify_respond(listener, &response);
	atomic_fetch_add(&idle, 1);
}

static void *serve(void *nothing)
{
	do
		serve_one();
	while (atomic_load(&idle) <= IDLE_MAX);
	atomic_fetch_sub(&idle, 1);
	return nothing;
}

// Where there can be no further thread, the next call waits until a thread has answered another.
static void start_thread(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	atomic_fetch_add(&idle, 1);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (pthread_create(&thread, &attributes, serve, NULL))
		atomic_fetch_sub(&idle, 1);
	pthread_attr_destroy(&attributes);
}

// There is a descriptor for each process. Returns how many this process may have.
static unsigned long raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		fail();
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		fail();
	return limit.rlim_cur < INT_MAX ? limit.rlim_cur : INT_MAX;
}

void supervise_prepare(int fd, const struct settings *loaded, pid_t vmm, const char *program,
		       const char *reason)
{
	struct report_line line;

	listener = fd;
	settings = loaded;
	first_process = vmm;
	tracked_init(&tracked, raise_descriptor_limit());
	events = epoll_create1(EPOLL_CLOEXEC);
	if (events < 0)
		fail();
	watch(listener, EPOLLONESHOT, EPOLL_CTL_ADD);
	watch(tracked.exits, 0, EPOLL_CTL_ADD);
	log_init(&report_log, settings->log, settings->log_path, settings->log_level);
	has_stderr = report_log.standard_error.fd >= 0;
	plan_look(FIRST_LOOK_MS);
	report_log.via = "supervisor";
	report_log.polls = true;
	report_log.pid = vmm;
	report_open_log(&report_log, settings);
	report_begin(&line, &report_log, LOG_LEVEL_DEBUG, "run");
	report_text(&line, "mode", "supervisor");
	report_text(&line, "reason", reason);
	report_text(&line, "program", program);
	report_send(&line);
	host.xfeatures = kvm_xfeatures();
	host.mxcsr_reserved = xstate_host_mxcsr_reserved();
	// Since Linux 6.6, and a matter of speed alone.
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

void supervise(void)
{
	idle = 1;
	while (true)
		serve_one();
}
