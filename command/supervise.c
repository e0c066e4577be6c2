// SPDX-License-Identifier: MIT
// The supervisor: what it does when the kernel notifies it of a KVM call, before the kernel makes the call.
#include "supervise.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/seccomp.h>

#include "options.h"
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

// A call whose caller is blocked until the supervisor answers.
struct call {
	const char *ioctl;
	uint64_t id;
	pid_t tid;
	pid_t process;
	int fd;
	uint64_t argument;
};

static int listener;
static const struct settings *settings;
static struct log report_log;
static struct tracked tracked;

// What this host can load; its xfeatures are the host's XCR0 where KVM cannot be asked.
static struct host host;

static struct vcpu_call vcpu_call(const struct call *call, struct vcpu vcpu)
{
	return (struct vcpu_call){call->ioctl, call->fd, vcpu};
}

// True while the caller is still blocked in this call; checked after reading, as its tid may have been reused.
static bool still_waits(const struct call *call)
{
	return !seccomp_notify_id_valid(listener, call->id);
}

// Reports, with errno's text, that the supervisor cannot access the caller. Nothing is wrong where the descriptor is no vCPU
// (ENOENT), where the caller has exited (ESRCH), and where the kernel itself will fail the call with EFAULT.
static void report_no_access(const struct call *call, int id)
{
	const char *error = strerror(errno);
	struct report_line line;

	if (errno == ENOENT || errno == ESRCH || errno == EFAULT || !still_waits(call))
		return;
	report_begin(&line, &report_log, LOG_LEVEL_ERROR, "no-access");
	report_vcpu_call(&line, vcpu_call(call, (struct vcpu){.id = id}));
	report_text(&line, "error", error);
	report_send(&line);
}

// Returns the id of the vCPU that the call is for and sets call->process; -1 where either cannot be found out.
static int identify_vcpu(struct call *call)
{
	int id = remote_vcpu_id(call->tid, call->fd);

	call->process = id < 0 ? -1 : tracked_process(&tracked, call->tid);
	if (call->process >= 0)
		return id;
	report_no_access(call, VCPU_ID_UNKNOWN);
	return -1;
}

static void create_vcpu(struct call *call)
{
	call->process = tracked_process(&tracked, call->tid);
	if (call->process >= 0)
		tracked_forget_closed(&tracked, call->process, call->tid, (int)call->argument);
}

// Reads the CPUID table that the call passes. False where the kernel will refuse it, too.
static bool read_table(const struct call *call, size_t entry_size, struct guest_cpuid *table)
{
	return remote_read(call->tid, call->argument, table, sizeof(struct kvm_cpuid2)) &&
	       table->nent <= GUEST_CPUID_MAX_ENTRIES &&
	       remote_read(call->tid, call->argument + sizeof(struct kvm_cpuid2), table->entries,
			   table->nent * entry_size);
}

static void learn_table(struct call *call, size_t entry_size, uint64_t (*xcr0)(const void *entries, uint32_t nent))
{
	int id = identify_vcpu(call);
	struct guest_cpuid table = {0};

	if (id < 0)
		return;
	errno = 0;
	if (!read_table(call, entry_size, &table)) {
		if (errno)
			report_no_access(call, id);
		return;
	}
	if (still_waits(call)) {
		const struct tracked_vcpu *vcpu = tracked_add_table(
			&tracked, call->process, call->tid, call->fd, id, xcr0(table.entries, table.nent));

		report_learn(&report_log, vcpu_call(call, vcpu->vcpu));
	}
}

static void set_cpuid(struct call *call)
{
	learn_table(call, sizeof(struct kvm_cpuid_entry), guest_cpuid_v1_xcr0);
}

static void set_cpuid2(struct call *call)
{
	learn_table(call, sizeof(struct kvm_cpuid_entry2), guest_cpuid_xcr0);
}

// Writes the trimmed XSTATE_BV. It opens the memory before it checks that the caller still waits, so that the memory is the
// caller's even if the tid is reused later.
static bool write_payload(const struct call *call, struct trim trim)
{
	int memory = remote_memory_open(call->tid);

	if (memory < 0)
		return false;
	if (!still_waits(call)) {
		close(memory);
		errno = ESRCH;
		return false;
	}
	return remote_memory_write(memory, call->argument + XSTATE_BV_OFFSET, &trim.written, sizeof(trim.written));
}

static void begin_payload(struct report_line *line, enum log_level level, const char *event, const struct call *call,
			  struct vcpu vcpu, uint64_t xstate_bv)
{
	report_begin(line, &report_log, level, event);
	report_vcpu_call(line, vcpu_call(call, vcpu));
	report_hex(line, "xstate_bv", xstate_bv);
}

static void report_not_trimmed(const struct call *call, struct vcpu vcpu, struct trim trim)
{
	const char *error = strerror(errno);
	struct report_line line;

	if (!still_waits(call))
		return;
	begin_payload(&line, LOG_LEVEL_ERROR, "not-trimmed", call, vcpu, trim.xstate_bv);
	report_hex(&line, "allowed", trim.allowed);
	report_text(&line, "error", error);
	report_send(&line);
}

static uint64_t allowed_by(uint64_t guest_xcr0)
{
	return policy_allowed((struct vcpu){.knowledge = VCPU_XCR0, .guest_xcr0 = guest_xcr0});
}

// The supervisor does not see how a call ends, so it reports beforehand what KVM will refuse, and what KVM refuses if the vCPU
// has the last table that was set and not an earlier one. Returns whether KVM will refuse the payload.
static bool report_forecast(const struct call *call, const struct tracked_vcpu *vcpu, const void *head)
{
	struct refusal refusal = policy_diagnose(head, vcpu->vcpu, host);
	uint64_t doubtful = xstate_bv(head) & vcpu->vcpu.guest_xcr0 & ~allowed_by(vcpu->latest_xcr0);
	struct report_line line;

	if (policy_always_refused(refusal)) {
		begin_payload(&line, LOG_LEVEL_ERROR, "will-be-refused", call, vcpu->vcpu, xstate_bv(head));
		report_reason(&line, refusal);
		report_send(&line);
		return true;
	}
	if (doubtful) {
		begin_payload(&line, LOG_LEVEL_NOTICE, "may-be-refused", call, vcpu->vcpu, xstate_bv(head));
		report_reason(&line, (struct refusal){.guest_lacks = doubtful});
		report_send(&line);
	}
	return false;
}

static void trim_payload(const struct call *call, const struct tracked_vcpu *vcpu, void *head)
{
	enum trim_mode mode = settings->trim;
	struct trim trim = policy_trim(mode, XSAVE_RESTORE, vcpu->vcpu, xstate_bv(head));

	if (trim.written != trim.xstate_bv && !write_payload(call, trim)) {
		report_not_trimmed(call, vcpu->vcpu, trim);
		return;
	}
	report_trim(&report_log, vcpu_call(call, vcpu->vcpu), trim, 1);
	xstate_set_bv(head, trim.written);
	if (report_forecast(call, vcpu, head) && settings->refused == REFUSED_ABORT)
		tracked_kill_process(&tracked, call->process);
}

// True for a payload that every known vCPU may have as it is, as nearly all payloads are. The supervisor answers it without finding
// out which vCPU it is for, which would take longer than everything else.
static bool is_unremarkable(const void *head)
{
	struct refusal refusal = policy_diagnose(head, (struct vcpu){0}, host);

	return !policy_always_refused(refusal) && !(xstate_bv(head) & ~allowed_by(tracked_common_xcr0(&tracked)));
}

static void set_xsave(struct call *call)
{
	struct tracked_vcpu without_cpuid = {.vcpu = {.knowledge = VCPU_NO_CPUID}};
	unsigned char head[XSTATE_HEAD_SIZE];
	const struct tracked_vcpu *vcpu;

	if (!remote_read(call->tid, call->argument, head, sizeof(head))) {
		report_no_access(call, VCPU_ID_UNKNOWN);
		return;
	}
	if (is_unremarkable(head))
		return;
	without_cpuid.vcpu.id = identify_vcpu(call);
	if (without_cpuid.vcpu.id < 0)
		return;
	vcpu = tracked_find(&tracked, call->process, call->tid, call->fd, without_cpuid.vcpu.id);
	trim_payload(call, vcpu ? vcpu : &without_cpuid, head);
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
};

#define WATCHED (sizeof(watched) / sizeof(watched[0]))

// The filter compares the low 32 bits of the request, which is what the kernel takes: QEMU up to 8.2 passes an int, so that
// bit 31 arrives sign-extended.
scmp_filter_ctx supervise_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int error = filter ? seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW) : -ENOMEM;

	for (size_t i = 0; i < WATCHED && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(ioctl), 1,
					 SCMP_A1_64(SCMP_CMP_MASKED_EQ, 0xffffffff, watched[i].request));
	if (error) {
		errno = -error;
		err(EXIT_OWN_FAILURE, "cannot make the supervisor's filter");
	}
	return filter;
}

static void handle(const struct seccomp_notif *request)
{
	struct call call = {
		.id = request->id,
		.tid = (pid_t)request->pid,
		.fd = (int)request->data.args[0],
		.argument = request->data.args[2],
	};

	for (size_t i = 0; i < WATCHED; i++) {
		if (watched[i].request == (unsigned int)request->data.args[1]) {
			call.ioctl = watched[i].name;
			watched[i].handle(&call);
		}
	}
}

// Handles one notification. The kernel makes the call in any case.
static void answer(void)
{
	struct seccomp_notif request = {0};
	struct seccomp_notif_resp response = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	if (seccomp_notify_receive(listener, &request)) {
		// ENOENT: the caller was killed before the supervisor could receive its notification.
		if (errno != ENOENT && errno != EINTR)
			err(EXIT_FAILURE, "the supervisor ends");
		return;
	}
	handle(&request);
	response.id = request.id;
	seccomp_notify_respond(listener, &response);
}

// Asks KVM for KVM_X86_XCOMP_GUEST_SUPP, because KVM_GET_SUPPORTED_CPUID leaves out AMX where the process has not asked for
// permission to use it.
static uint64_t kvm_xfeatures(void)
{
	uint64_t xfeatures = xstate_host_xcr0();
	struct kvm_device_attr attribute = {.attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uint64_t)(uintptr_t)&xfeatures};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm >= 0) {
		ioctl(kvm, KVM_GET_DEVICE_ATTR, &attribute);
		close(kvm);
	}
	return xfeatures;
}

// Waits for notifications and for processes that exit. It forgets these before any notification is received, so that a new
// process which got the pid of an old one is not taken for it.
static short wait_for_events(void)
{
	static struct pollfd *polls;
	size_t count = tracked.process_count;

	polls = reallocarray(polls, count + 1, sizeof(*polls));
	if (!polls)
		err(EXIT_FAILURE, "the supervisor ends");
	polls[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	for (size_t i = 0; i < count; i++)
		polls[i + 1] = (struct pollfd){.fd = tracked.processes[i].pidfd, .events = POLLIN};
	if (poll(polls, count + 1, -1) < 0)
		return 0;
	for (size_t i = count; i-- > 0;)
		if (polls[i + 1].revents)
			tracked_forget_process(&tracked, i);
	return polls[0].revents;
}

void supervise_prepare(int fd, const struct settings *loaded, pid_t vmm, const char *program, const char *reason)
{
	struct report_line line;
	int error;

	listener = fd;
	settings = loaded;
	log_init(&report_log, settings->log, settings->log_path, settings->log_level);
	report_log.via = "supervisor";
	report_log.pid = vmm;
	error = log_open(&report_log);
	if (error > 0)
		report_log_failure(&report_log, settings_text(settings, SETTING_LOG), error);
	report_settings(&report_log, settings);
	report_begin(&line, &report_log, LOG_LEVEL_DEBUG, "run");
	report_text(&line, "mode", "supervise");
	report_text(&line, "reason", reason);
	report_text(&line, "program", program);
	report_send(&line);
	host.xfeatures = kvm_xfeatures();
	host.xcr0 = xstate_host_xcr0();
	host.mxcsr_reserved = xstate_host_mxcsr_reserved();
	// Since Linux 6.6, and a matter of speed alone.
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

void supervise(void)
{
	short events;

	do {
		events = wait_for_events();
		if (events & POLLIN)
			answer();
	} while (!(events & POLLHUP));
}
