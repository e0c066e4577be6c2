// SPDX-License-Identifier: MIT
#include "handlers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "remote.h"
#include "reports.h"
#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/report.h"
#include "xsaveshim/xstate.h"

// The headers of some supported distributions do not define this attribute yet.
#ifndef KVM_X86_XCOMP_GUEST_SUPP
#define KVM_X86_XCOMP_GUEST_SUPP 0
#endif

struct call {
	struct caller caller;
	unsigned int request;
	const char *ioctl_name;
	int fd;
	uint64_t argument;
	int vcpu_id;
	// The pid of the process that has created a vCPU and shares memory with the calling thread,
	// usually the thread's own process. 0 if not known.
	pid_t owner;
};

static int listener;
static const struct settings *settings;
static struct tracked *tracked;
static struct xsaveshim_record *record;

// host.xfeatures: the xfeatures that KVM supports; if the supervisor cannot query KVM, the CPU's
// XCR0. host.xcr0 stays 0: the supervisor cannot see whether a VMM has the permission to use AMX,
// and with 0, policy_diagnose never finds that a VMM lacks this permission. This does no harm,
// because KVM accepts a CPUID table with AMX only from a VMM that has this permission.
static struct host_caps host;

static struct vcpu_call vcpu_call(const struct call *call, struct vcpu vcpu)
{
	return (struct vcpu_call){.ioctl_name = call->ioctl_name, .fd = call->fd, .vcpu = vcpu};
}

// Returns the log for reports about the process that made the call. Call reports_end after the
// reports.
static struct log *begin_reports(const struct call *call)
{
	pid_t process = call->owner;
	pid_t parent;

	if (!process && !remote_process(call->caller.tid, &process, &parent))
		process = call->caller.tid;
	return reports_begin(process);
}

// Reports that the supervisor cannot access the process that made the call. errno is the reason.
// Does not report ENOENT (the descriptor is not a vCPU), ESRCH (the calling thread has exited), or
// EFAULT (the kernel will also fail the call with EFAULT).
static void report_not_readable(struct call *call)
{
	int error = errno;
	struct report_line line;
	uint32_t times;

	if (error == ENOENT || error == ESRCH || error == EFAULT)
		return;
	call->owner = tracked_owner(tracked, &call->caller);
	if (!caller_waits(&call->caller))
		return;
	// The rate limit allows every report with a new bit. So give each kind of ioctl its own
	// bit: the first failure of each kind is then reported.
	times = tracked_count_not_readable(
		tracked, call->owner, UINT64_C(1) << (_IOC_NR(call->request) & 63));
	if (!times)
		return;
	report_begin(&line, begin_reports(call), LOG_LEVEL_ERROR, "not-trimmed");
	report_vcpu_call(&line, vcpu_call(call, (struct vcpu){.id = call->vcpu_id}));
	report_text(&line, "reason", "memory-not-readable");
	report_text(&line, "error", strerror(error));
	report_count(&line, times);
	report_send(&line);
	reports_end();
}

// Takes the lock of the tracked vCPUs, and returns the vCPU that the call is for. Call lock_vcpu
// after reading the calling thread's memory. In two cases, returns NULL and does not take the lock.
// First, the thread shares no memory with a process that has created a vCPU, so KVM will fail the
// call with EIO. Second, the thread no longer waits for the answer to its call, so the memory that
// the supervisor has read may be another process's.
static struct tracked_vcpu *lock_vcpu(struct call *call)
{
	call->owner = tracked_owner(tracked, &call->caller);
	return call->owner ? tracked_lock_vcpu(tracked, call->owner, &call->caller, call->fd,
					       call->vcpu_id)
			   : NULL;
}

// Counts an event. Returns how often the event has happened, or 0 if the rate limit forbids a
// report.
static uint32_t count(struct tracked_vcpu *vcpu, enum tracked_event event, uint64_t bits)
{
	struct rate_limit *limit = &vcpu->rate_limits[event];

	return rate_limit_allows(limit, bits) ? limit->count : 0;
}

// ---- the end of a VMM ----

// Ends the VMM, because its guest would otherwise run on without the saved state. After opening the
// pidfd, checks that the VMM still waits in its ioctl. Without this check, the pidfd could refer to
// a later process with the same pid.
static void end_vmm(const struct call *call)
{
	pid_t tid = call->caller.tid;
	int pidfd = (int)syscall(SYS_pidfd_open, call->owner, 0);
	pid_t process, parent;

	if (pidfd < 0)
		return;
	if ((remote_shares_memory(tid, call->owner) ||
	     (remote_process(tid, &process, &parent) && process == call->owner)) &&
	    caller_waits(&call->caller))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	close(pidfd);
}

// ---- KVM_CREATE_VCPU ----

static void before_create_vcpu(struct call *call)
{
	call->owner = tracked_add_owner(tracked, &call->caller);
	if (call->owner)
		tracked_forget_closed(tracked, call->owner, &call->caller, (int)call->argument);
}

// ---- KVM_SET_CPUID, KVM_SET_CPUID2 ----

// Reads the CPUID table that the call passes. Returns false if the supervisor cannot read the
// table, or if the table has more entries than KVM accepts.
static bool read_table(const struct call *call, size_t entry_size, struct guest_cpuid *table)
{
	return remote_read(call->caller.tid, call->argument, table, sizeof(struct kvm_cpuid2)) &&
	       table->nent <= GUEST_CPUID_MAX_ENTRIES &&
	       remote_read(call->caller.tid, call->argument + sizeof(struct kvm_cpuid2),
			   table->entries, table->nent * entry_size);
}

static void learn_table(struct call *call, size_t entry_size,
			uint64_t (*xcr0)(const void *entries, uint32_t nent))
{
	struct guest_cpuid table = {0};
	struct tracked_vcpu *vcpu;
	struct vcpu known;

	errno = 0;
	if (!read_table(call, entry_size, &table)) {
		if (errno)
			report_not_readable(call);
		return;
	}
	vcpu = lock_vcpu(call);
	if (!vcpu)
		return;
	tracked_add_table(vcpu, xcr0(table.entries, table.nent));
	known = vcpu->vcpu;
	tracked_unlock(tracked);
	if (!reports_take(LOG_LEVEL_DEBUG))
		return;
	report_learn(begin_reports(call), vcpu_call(call, known));
	reports_end();
}

static void before_set_cpuid(struct call *call)
{
	learn_table(call, sizeof(struct kvm_cpuid_entry), guest_cpuid_v1_xcr0);
}

static void before_set_cpuid2(struct call *call)
{
	learn_table(call, sizeof(struct kvm_cpuid_entry2), guest_cpuid_xcr0);
}

// ---- KVM_SET_XSAVE ----

// Writes the trimmed XSTATE_BV into the VMM's payload. Returns 0 or an errno. After opening the
// memory of the VMM's thread, checks that the thread still waits in its ioctl. Without this check,
// the memory could belong to a later thread with the same tid.
static int write_payload(const struct call *call, struct trim_result trim)
{
	int memory = remote_memory_open(call->caller.tid);

	if (memory < 0)
		return errno;
	if (!caller_waits(&call->caller)) {
		close(memory);
		return ESRCH;
	}
	return remote_memory_write(memory, call->argument + XSTATE_BV_OFFSET, &trim.after,
				   sizeof(trim.after))
		       ? 0
		       : errno;
}

// The events of one KVM_SET_XSAVE. A count is 0 if the event did not happen, or if the rate limit
// forbids a report.
struct xsave_events {
	struct vcpu vcpu;
	struct trim_result trim;
	uint32_t trim_count;
	int write_error;
	uint32_t not_writable_count;
	struct refusal refusal; // the reasons for which KVM may refuse the payload
	uint32_t refused_count;
	bool ends_vmm;
	uint64_t lacking; // the payload's xfeatures that are only in earlier CPUID tables
	uint32_t lacking_count;
};

static void begin_not_trimmed(struct report_line *line, struct log *log, enum log_level level,
			      const struct call *call, const struct xsave_events *events)
{
	report_begin(line, log, level, "not-trimmed");
	report_vcpu_call(line, vcpu_call(call, events->vcpu));
	report_hex(line, "xstate_bv", events->trim.xstate_bv);
	report_hex(line, "allowed", events->trim.allowed);
}

static void report_not_writable(struct log *log, const struct call *call,
				const struct xsave_events *events)
{
	struct report_line line;

	begin_not_trimmed(&line, log, LOG_LEVEL_ERROR, call, events);
	report_text(&line, "reason", "memory-not-writable");
	report_text(&line, "error", strerror(events->write_error));
	report_count(&line, events->not_writable_count);
	report_send(&line);
}

static void report_earlier_cpuid(struct log *log, const struct call *call,
				 const struct xsave_events *events)
{
	struct report_line line;

	begin_not_trimmed(&line, log, LOG_LEVEL_NOTICE, call, events);
	report_text(&line, "reason", "earlier-cpuid");
	report_xfeatures(&line, "lacking", events->lacking);
	report_count(&line, events->lacking_count);
	report_send(&line);
}

static void report_xsave_events(const struct call *call, const struct xsave_events *events)
{
	struct log *log;

	if (!events->trim_count && !events->not_writable_count && !events->refused_count &&
	    !events->lacking_count)
		return;
	log = begin_reports(call);
	if (events->trim_count)
		report_trim(log, vcpu_call(call, events->vcpu), events->trim, events->trim_count);
	if (events->not_writable_count)
		report_not_writable(log, call, events);
	if (events->lacking_count)
		report_earlier_cpuid(log, call, events);
	if (events->refused_count) {
		struct vcpu_call about = vcpu_call(call, events->vcpu);

		about.ends_vmm = events->ends_vmm;
		report_refused(log, about, EINVAL, events->trim.after, events->refusal,
			       events->refused_count);
	}
	reports_end();
}

// Counts the events of a payload whose XSTATE_BV is now trim.after. Counts the payload as refused
// only if KVM refuses it whatever xfeatures the guest has. If a payload has xfeatures that are in
// an earlier CPUID table of the vCPU, but not in the latest, it does not count as refused: KVM may
// have refused the latest table. The earlier table then applies, and KVM accepts the payload.
static void note_xsave_events(struct xsave_events *events, struct tracked_vcpu *vcpu,
			      unsigned char *head)
{
	struct vcpu latest = {.knowledge = vcpu->vcpu.knowledge, .guest_xcr0 = vcpu->latest_xcr0};
	struct trim_result trim = events->trim;
	uint64_t excess = trim.xstate_bv & ~trim.allowed;

	vcpu->dropped = trim.xstate_bv & ~trim.after;
	if (excess && events->write_error) {
		events->not_writable_count = count(vcpu, TRACKED_NOT_WRITABLE, excess);
	} else if (excess) {
		record_event(record,
			     trim.after == trim.xstate_bv ? RECORD_WOULD_TRIM : RECORD_TRIMMED);
		events->trim_count = count(vcpu, TRACKED_TRIM, excess);
	}
	xstate_set_bv(head, trim.after);
	events->refusal = policy_diagnose(head, vcpu->vcpu, host);
	if (policy_always_refused(events->refusal)) {
		record_event(record, RECORD_REFUSED);
		events->refused_count =
			count(vcpu, TRACKED_REFUSED, policy_refused_xfeatures(events->refusal));
		// If no CPUID table of the vCPU is known, the supervisor does not end the VMM: the
		// vCPU may belong to a process that shares no memory with the calling thread, and
		// KVM then fails the call whatever the payload is.
		events->ends_vmm =
			settings->refused == REFUSED_ABORT && vcpu->vcpu.knowledge == VCPU_XCR0 &&
			policy_ends_vmm(settings->trim, vcpu->vcpu, events->refusal);
		if (events->ends_vmm) // report every end of a VMM, without a rate limit
			events->refused_count = vcpu->rate_limits[TRACKED_REFUSED].count;
		return;
	}
	events->lacking = trim.after & vcpu->vcpu.guest_xcr0 & ~policy_allowed(latest);
	if (events->lacking)
		events->lacking_count = count(vcpu, TRACKED_EARLIER_CPUID, events->lacking);
}

static void before_set_xsave(struct call *call)
{
	unsigned char head[XSTATE_HEAD_SIZE];
	struct xsave_events events = {0};
	struct tracked_vcpu *vcpu;

	if (!remote_read(call->caller.tid, call->argument, head, sizeof(head))) {
		report_not_readable(call);
		return;
	}
	vcpu = lock_vcpu(call);
	if (!vcpu)
		return;
	events.trim = policy_trim(settings->trim, XSAVE_RESTORE, vcpu->vcpu, xstate_bv(head));
	if (events.trim.after != events.trim.xstate_bv) {
		tracked_unlock(tracked);
		events.write_error = write_payload(call, events.trim);
		vcpu = lock_vcpu(call);
		if (!vcpu)
			return;
	}
	if (events.write_error)
		events.trim.after = events.trim.xstate_bv;
	events.vcpu = vcpu->vcpu;
	note_xsave_events(&events, vcpu, head);
	tracked_unlock(tracked);
	report_xsave_events(call, &events);
	if (events.ends_vmm)
		end_vmm(call);
}

// ---- KVM_SET_XCRS ----

// With KVM_SET_XCRS, the VMM passes the XCR0 of the saved guest. If the supervisor dropped an
// xfeature of this XCR0 from the vCPU's last payload, the xfeature's state is lost. In later
// payloads of the vCPU, the supervisor allows the xfeatures of this XCR0 that are not lost, even
// those that the guest's CPUID does not enumerate. The supervisor cannot see whether KVM_SET_XCRS
// succeeds, and assumes success.
static void before_set_xcrs(struct call *call)
{
	struct kvm_xcrs xcrs = {0};
	struct tracked_vcpu *vcpu;
	struct vcpu_call about;
	uint64_t xcr0, lost;
	uint32_t times;

	if (!remote_read(call->caller.tid, call->argument, &xcrs, sizeof(xcrs))) {
		report_not_readable(call);
		return;
	}
	if (!xstate_xcrs_xcr0(&xcrs, &xcr0))
		return;
	vcpu = lock_vcpu(call);
	if (!vcpu)
		return;
	lost = policy_lost(vcpu->dropped, xcr0);
	vcpu->vcpu.enabled_xcr0 |= policy_joins(vcpu->vcpu, xcr0) & ~lost;
	times = lost ? count(vcpu, TRACKED_LOST, lost) : 0;
	if (lost)
		record_event(record, RECORD_LOST);
	about = vcpu_call(call, vcpu->vcpu);
	about.ends_vmm = lost && settings->refused == REFUSED_ABORT;
	if (about.ends_vmm) // report every end of a VMM, without a rate limit
		times = vcpu->rate_limits[TRACKED_LOST].count;
	tracked_unlock(tracked);
	if (times) {
		report_lost(begin_reports(call), about, xcr0, lost, times);
		reports_end();
	}
	if (about.ends_vmm)
		end_vmm(call);
}

// ---- all watched ioctls ----

const struct watched_ioctl watched[WATCHED] = {
	{KVM_CREATE_VCPU, "KVM_CREATE_VCPU", before_create_vcpu},
	{KVM_SET_CPUID, "KVM_SET_CPUID", before_set_cpuid},
	{KVM_SET_CPUID2, "KVM_SET_CPUID2", before_set_cpuid2},
	{KVM_SET_XSAVE, "KVM_SET_XSAVE", before_set_xsave},
	{KVM_SET_XCRS, "KVM_SET_XCRS", before_set_xcrs},
};

// Handles a call for a vCPU. If the descriptor is not a vCPU, the supervisor does not read the
// calling thread's memory, because the read may block.
static void handle_vcpu_call(struct call *call, void (*handle)(struct call *call))
{
	call->vcpu_id = remote_vcpu_id(call->caller.tid, call->fd);
	if (call->vcpu_id >= 0)
		handle(call);
	else
		report_not_readable(call);
}

void handle_notification(const struct seccomp_notif *notification)
{
	struct call call = {
		.caller = {.tid = (pid_t)notification->pid,
			   .listener = listener,
			   .notification = notification->id},
		.request = (unsigned int)notification->data.args[1],
		.fd = (int)notification->data.args[0],
		.argument = notification->data.args[2],
		.vcpu_id = VCPU_ID_UNKNOWN,
	};

	tracked_forget_exited(tracked);
	for (size_t i = 0; i < WATCHED; i++) {
		if (watched[i].request != call.request)
			continue;
		call.ioctl_name = watched[i].name;
		if (call.request == KVM_CREATE_VCPU)
			before_create_vcpu(&call);
		else
			handle_vcpu_call(&call, watched[i].handle);
	}
}

// Returns the xfeatures that KVM supports. Queries KVM_X86_XCOMP_GUEST_SUPP, because
// KVM_GET_SUPPORTED_CPUID includes AMX only if this process has the permission to use AMX.
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

void handlers_init(int fd, const struct settings *loaded, struct tracked *owners,
		   struct xsaveshim_record *counting)
{
	listener = fd;
	settings = loaded;
	tracked = owners;
	record = counting;
	host.xfeatures = kvm_xfeatures();
	host.mxcsr_reserved = xstate_host_mxcsr_reserved();
}
