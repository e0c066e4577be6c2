// SPDX-License-Identifier: MIT
#include "handlers.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "attach.h"
#include "remote.h"
#include "stderr.h"
#include "supervise.h"
#include "tracked.h"
#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/report.h"
#include "xsaveshim/xstate.h"

// Newer than the headers of some distributions that this is built on.
#ifndef KVM_X86_XCOMP_GUEST_SUPP
#define KVM_X86_XCOMP_GUEST_SUPP 0
#endif

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
static const struct settings *settings;

// Not held while the caller's memory is read or written: that may take as long as the caller wants,
// if the memory belongs to its FUSE server or its userfaultfd.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct log report_log;
static struct tracked tracked;

// For callers whose process is not known.
static struct rate_limit no_access;

// The xcr0 stays 0: the supervisor cannot see the VMM's permission to use AMX, and KVM takes no
// CPUID table with AMX from a VMM without it.
static struct host_caps host;

static struct vcpu_call vcpu_call(const struct call *call, struct vcpu vcpu)
{
	return (struct vcpu_call){call->ioctl_name, call->fd, vcpu};
}

// Returns true if the caller is still blocked in this call. Else its tid may have been reused.
static bool still_waits(const struct call *call)
{
	return !seccomp_notify_id_valid(listener, call->id);
}

// Prepares the log for a report about the caller's process.
static void report_about(const struct call *call)
{
	pid_t process, parent;

	if (call->process)
		process = call->process->pid;
	else if (!remote_process(call->tid, &process, &parent))
		process = call->tid;
	report_log.pid = process;
	stderr_check_now();
	if (settings->log == LOG_STDERR)
		stderr_wait_writable();
}

// Reports, with errno's text, that the supervisor cannot access the caller. Nothing is wrong if the
// descriptor is no vCPU (ENOENT), the caller has exited (ESRCH), or the call will fail with EFAULT.
static void report_not_readable(struct call *call)
{
	const char *error = strerror(errno);
	struct rate_limit *limit;
	struct report_line line;

	if (errno == ENOENT || errno == ESRCH || errno == EFAULT || !still_waits(call))
		return;
	call->process = tracked_find_process(&tracked, call->tid);
	limit = call->process ? &call->process->no_access : &no_access;
	// Each ioctl once: each request has another number in its lowest bits.
	if (!rate_limit_allows(limit, UINT64_C(1) << (_IOC_NR(call->request) & 63)))
		return;
	report_about(call);
	report_begin(&line, &report_log, LOG_LEVEL_ERROR, "not-trimmed");
	report_vcpu_call(&line, vcpu_call(call, (struct vcpu){.id = call->vcpu_id}));
	report_text(&line, "reason", "memory-not-readable");
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

// Returns the call's vCPU; to be called after the caller's memory was read. NULL if the process has
// created no vCPU, or if the caller no longer waits: the memory may have been another process's.
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

// Returns false if the kernel cannot read the table, either, or will refuse it.
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
			report_not_readable(call);
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

// The caller still waits after the memory was opened, so it is the caller's even if tid is reused.
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
// waits stands for its process even if the pid is reused.
static void end_vmm(const struct call *call)
{
	pid_t pid = call->process->pid;
	pid_t process, parent;
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		return;
	if ((remote_shares_memory(call->tid, pid) ||
	     (remote_process(call->tid, &process, &parent) && process == pid)) &&
	    still_waits(call))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	close(pidfd);
}

// Returns the number of times that the event has happened, or 0 if it is not to be reported.
static uint32_t count(struct tracked_vcpu *vcpu, enum tracked_event event, uint64_t bits)
{
	struct rate_limit *limit = &vcpu->rate_limits[event];

	return rate_limit_allows(limit, bits) ? limit->count : 0;
}

static void begin_not_trimmed(struct report_line *line, enum log_level level,
			      const struct call *call, struct vcpu vcpu, struct trim_result trim,
			      const char *reason)
{
	report_about(call);
	report_begin(line, &report_log, level, "not-trimmed");
	report_vcpu_call(line, vcpu_call(call, vcpu));
	report_hex(line, "xstate_bv", trim.xstate_bv);
	report_hex(line, "allowed", trim.allowed);
	report_text(line, "reason", reason);
}

static void report_not_writable(const struct call *call, struct tracked_vcpu *vcpu,
				struct trim_result trim, int error)
{
	uint32_t times = count(vcpu, TRACKED_NOT_WRITABLE, trim.xstate_bv & ~trim.allowed);
	struct report_line line;

	if (!times)
		return;
	begin_not_trimmed(&line, LOG_LEVEL_ERROR, call, vcpu->vcpu, trim, "memory-not-writable");
	report_text(&line, "error", strerror(error));
	report_count(&line, times);
	report_send(&line);
}

static void note_trim(const struct call *call, struct tracked_vcpu *vcpu, struct trim_result trim)
{
	uint64_t dropped = trim.xstate_bv & ~trim.allowed;
	uint32_t times = dropped ? count(vcpu, TRACKED_TRIM, dropped) : 0;

	vcpu->dropped = trim.xstate_bv & ~trim.after;
	if (!times)
		return;
	report_about(call);
	report_trim(&report_log, vcpu_call(call, vcpu->vcpu), trim, times);
}

// Reports the xfeatures that KVM refuses if it accepted the latest table: an earlier one has them.
static void report_earlier_cpuid(const struct call *call, struct tracked_vcpu *vcpu,
				 struct trim_result trim)
{
	struct vcpu latest = {.knowledge = vcpu->vcpu.knowledge, .guest_xcr0 = vcpu->latest_xcr0};
	uint64_t lacking = trim.after & vcpu->vcpu.guest_xcr0 & ~policy_allowed(latest);
	uint32_t times = lacking ? count(vcpu, TRACKED_EARLIER_CPUID, lacking) : 0;
	struct report_line line;

	if (!times)
		return;
	begin_not_trimmed(&line, LOG_LEVEL_NOTICE, call, vcpu->vcpu, trim, "earlier-cpuid");
	report_xfeatures(&line, "lacking", lacking);
	report_count(&line, times);
	report_send(&line);
}

// Reports a payload that KVM will refuse. Nobody is ended if the vCPU has no known table: KVM may
// serve it to another process.
static void foresee_refusal(const struct call *call, struct tracked_vcpu *vcpu, const void *head,
			    struct trim_result trim)
{
	struct refusal refusal = policy_diagnose(head, vcpu->vcpu, host);
	uint32_t times;

	if (!policy_always_refused(refusal)) {
		report_earlier_cpuid(call, vcpu, trim);
		return;
	}
	times = count(vcpu, TRACKED_REFUSED, policy_refused_xfeatures(refusal));
	if (times) {
		report_about(call);
		report_refused(&report_log, vcpu_call(call, vcpu->vcpu), EINVAL, xstate_bv(head),
			       refusal, times);
	}
	if (vcpu->vcpu.knowledge == VCPU_XCR0 && settings->refused == REFUSED_ABORT)
		end_vmm(call);
}

static void set_xsave(struct call *call)
{
	unsigned char head[XSTATE_HEAD_SIZE];
	struct tracked_vcpu *vcpu;
	struct trim_result trim;

	if (!read_memory(call, call->argument, head, sizeof(head))) {
		report_not_readable(call);
		return;
	}
	vcpu = find_vcpu(call);
	if (!vcpu)
		return;
	trim = policy_trim(settings->trim, XSAVE_RESTORE, vcpu->vcpu, xstate_bv(head));
	if (trim.after != trim.xstate_bv) {
		bool is_written = write_payload(call, trim);
		int error = errno;

		vcpu = find_vcpu(call);
		if (!vcpu)
			return;
		if (!is_written) {
			report_not_writable(call, vcpu, trim, error);
			return;
		}
	}
	note_trim(call, vcpu, trim);
	xstate_set_bv(head, trim.after);
	foresee_refusal(call, vcpu, head, trim);
}

// The guest had enabled this XCR0 when it was saved, so the state of its dropped xfeatures is lost.
// The others are allowed from now on: a VMM whose KVM_SET_XCRS fails never loads the payload.
static void set_xcrs(struct call *call)
{
	struct kvm_xcrs xcrs = {0};
	struct tracked_vcpu *vcpu;
	uint64_t xcr0, lost;
	uint32_t times;

	if (!read_memory(call, call->argument, &xcrs, sizeof(xcrs))) {
		report_not_readable(call);
		return;
	}
	vcpu = find_vcpu(call);
	if (!vcpu || !xstate_xcrs_xcr0(&xcrs, &xcr0))
		return;
	lost = policy_lost(vcpu->dropped, xcr0);
	vcpu->vcpu.enabled_xcr0 |= policy_joins(vcpu->vcpu, xcr0) & ~lost;
	if (!lost)
		return;
	times = count(vcpu, TRACKED_LOST, lost);
	if (times) {
		report_about(call);
		report_lost(&report_log, vcpu_call(call, vcpu->vcpu), xcr0, lost, times);
	}
	if (settings->refused == REFUSED_ABORT)
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

// The filter compares 32 bits, as the kernel does: in QEMU up to 8.2 the request is sign-extended.
scmp_filter_ctx supervise_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int error = filter ? seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW)
			   : -ENOMEM;

	for (size_t i = 0; i < WATCHED && !error; i++)
		error = seccomp_rule_add(
			filter, SCMP_ACT_NOTIFY, SCMP_SYS(ioctl), 1,
			SCMP_A1_64(SCMP_CMP_MASKED_EQ, UINT32_MAX, watched[i].request));
	if (error) {
		errno = -error;
		err(EXIT_OWN_FAILURE, "cannot make the supervisor's filter");
	}
	return filter;
}

void handle_notification(const struct seccomp_notif *request)
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
	stderr_check_soon();
	for (size_t i = 0; i < WATCHED; i++) {
		if (watched[i].request != call.request)
			continue;
		call.ioctl_name = watched[i].name;
		// The caller's memory is not read if the descriptor is no vCPU.
		if (call.request != KVM_CREATE_VCPU)
			call.vcpu_id = remote_vcpu_id(call.tid, call.fd);
		if (call.request == KVM_CREATE_VCPU || call.vcpu_id >= 0)
			watched[i].handle(&call);
		else
			report_not_readable(&call);
	}
	pthread_mutex_unlock(&lock);
}

// KVM_GET_SUPPORTED_CPUID would leave out AMX. If KVM fails the call, returns the host's XCR0.
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

// Each VMM takes a descriptor. Returns the number that this process may have.
static unsigned long raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		err(EXIT_FAILURE, "the supervisor ends");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		err(EXIT_FAILURE, "the supervisor ends");
	return limit.rlim_cur < INT_MAX ? limit.rlim_cur : INT_MAX;
}

int handlers_init(int fd, const struct settings *loaded, pid_t vmm, const char *program,
		  const char *reason)
{
	struct report_line line;

	listener = fd;
	settings = loaded;
	tracked_init(&tracked, raise_descriptor_limit());
	log_init(&report_log, settings->log, settings->log_path, settings->log_level);
	stderr_init(&tracked, vmm, report_log.standard_error.fd >= 0);
	report_log.via = "supervisor";
	report_log.foresees = true;
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
	return tracked.exits;
}

void handlers_clean_up(void)
{
	pthread_mutex_lock(&lock);
	tracked_forget_exited(&tracked);
	stderr_check_if_due();
	pthread_mutex_unlock(&lock);
}

int handlers_timeout(void)
{
	int time;

	pthread_mutex_lock(&lock);
	time = stderr_time_to_check();
	pthread_mutex_unlock(&lock);
	return time;
}
