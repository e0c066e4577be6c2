// SPDX-License-Identifier: MIT
// Defines ioctl(), the only symbol that the preloaded library exports, and the handlers of the
// ioctl requests that the library watches. Read interposed_ioctl() and watched[] at the end of this
// file first.
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/record.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"
#include "xsaveshim/vcpus.h"
#include "xsaveshim/xstate.h"

static_assert(_IOC_SIZE(KVM_SET_XSAVE) == sizeof(struct kvm_xsave),
	      "the request number KVM_SET_XSAVE contains the smallest size of a payload");
static_assert(_IOC_SIZE(KVM_SET_CPUID2) == sizeof(struct kvm_cpuid2),
	      "the request number KVM_SET_CPUID2 contains the size of a CPUID table's header");
static_assert(_IOC_SIZE(KVM_GET_CPUID2) == offsetof(struct guest_cpuid, entries),
	      "struct guest_cpuid has the layout of KVM_GET_CPUID2's argument");

// ioctl_fn is variadic like libc's ioctl(). Thus the compiler sets %al before each call of an
// ioctl_fn, as the ABI requires of the callers of variadic functions.
typedef int ioctl_fn(int fd, unsigned long request, ...);

// MAX_IO_MSRS in arch/x86/kvm/x86.c: KVM fails a KVM_SET_MSRS that passes this many MSRs or more.
#define KVM_MSRS_MAX 256

// Marks a function that is rarely called. The compiler optimises the function for size and does not
// inline it. So the function's local variables, often large buffers, take no space in the stack
// frames of its callers.
#define OUT_OF_LINE __attribute__((noinline, cold))

static ioctl_fn start_and_call;

// The ioctl() that this library's ioctl() calls: usually libc's, or that of another interposing
// library. At first, next_ioctl is start_and_call, which initialises the library: another library's
// constructor may call ioctl() before this library's constructor has run. After this library's
// constructor, ioctl() is safe in a signal handler, because ioctl() then no longer calls dlsym(),
// which is not async-signal-safe. next_ioctl need not be atomic, because the library writes
// next_ioctl before there are threads.
__attribute__((used)) static ioctl_fn *next_ioctl = start_and_call;

static struct vcpus vcpus;
static struct settings settings;
static struct log report_log;
static struct xsaveshim_record record = {.magic = RECORD_MAGIC};

// The xfeatures that this host's KVM supports, according to KVM's answer to the VMM's
// KVM_GET_SUPPORTED_CPUID. Before this answer, kvm_xfeatures is host_xcr0.
static _Atomic uint64_t kvm_xfeatures;
static uint64_t host_xcr0;
static uint32_t host_mxcsr_reserved;

static int raw_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

// Not only VMMs load the library, but also processes such as libvirtd and shells, which the library
// must not disturb. So the library opens its log only when the process sets a vCPU's CPUID table or
// causes a report.
static void open_log(void)
{
	int saved = errno;

	if (log_is_open(&report_log))
		return;
	atomic_store_explicit(&report_log.pid, getpid(), memory_order_relaxed);
	report_open_log(&report_log, &settings);
	errno = saved;
}

// Initialises the library. Runs as a constructor, or earlier if other code calls ioctl() earlier.
__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	if (next_ioctl != start_and_call)
		return;
	next_ioctl = __extension__(ioctl_fn *) dlsym(RTLD_NEXT, "ioctl");
	if (!next_ioctl)
		next_ioctl = raw_ioctl;
	host_xcr0 = xstate_host_xcr0();
	host_mxcsr_reserved = xstate_host_mxcsr_reserved();
	atomic_store_explicit(&kvm_xfeatures, host_xcr0, memory_order_relaxed);
	settings_load(&settings);
	record_publish(&record, &settings);
	// If a program calls ioctl() from its .preinit_array, start_and_call() makes start() run
	// again. So close the log, which may have been opened since an earlier start().
	log_close(&report_log);
	log_init(&report_log, settings.log, settings.log_path, settings.log_level);
	report_log.in_use = &record.log_in_use;
	errno = saved;
}

static int start_and_call(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;
	ioctl_fn *next;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	start();
	next = next_ioctl;
	// While a program's .preinit_array runs, environ is NULL, so start() cannot read the
	// settings in the environment. So the next call of ioctl() must run start() again.
	if (!environ)
		next_ioctl = start_and_call;
	return next(fd, request, argument);
}

static void learn(const char *ioctl_name, int fd, struct vcpu vcpu)
{
	record_vcpu(&record);
	vcpus_set(&vcpus, fd, vcpu);
	open_log();
	report_learn(&report_log,
		     (struct vcpu_call){.ioctl_name = ioctl_name, .fd = fd, .vcpu = vcpu});
}

// Reads the vCPU's CPUID table from KVM. Linux up to 6.4 does not store the number of entries in
// nent, so the function first fills the table with zeroes: guest_cpuid_count() then finds the last
// entry that KVM wrote.
// Returns false if KVM fails the call, for example because fd is not a vCPU's descriptor.
static bool query_cpuid(int fd, struct guest_cpuid *table)
{
	int saved = errno;
	int result;

	memset(table, 0, sizeof(*table));
	table->nent = GUEST_CPUID_MAX_ENTRIES;
	result = next_ioctl(fd, KVM_GET_CPUID2, table);
	errno = saved;
	table->nent = guest_cpuid_count(table);
	return !result;
}

// Queries KVM for the vCPU's CPUID table. Returns vcpu with the fields knowledge and guest_xcr0 set
// from this table. If KVM fails the query, returns vcpu unchanged.
OUT_OF_LINE static struct vcpu query_vcpu(int fd, struct vcpu vcpu)
{
	struct guest_cpuid table;

	if (!query_cpuid(fd, &table))
		return vcpu;
	vcpu.knowledge = table.nent ? VCPU_XCR0 : VCPU_NO_CPUID;
	vcpu.guest_xcr0 = guest_cpuid_xcr0(table.entries, table.nent);
	return vcpu;
}

// The library may not know that a descriptor refers to a vCPU: the descriptor may be a duplicate,
// or come from another process. If the VMM sets a vCPU's CPUID table through a duplicate, the
// library does not learn the table for the vCPU's other descriptors. So if the library knows no
// table for a descriptor, each call of this function queries KVM. The library does not store KVM's
// answer, because the VMM may later change the table through a duplicate.
static struct vcpu vcpu_of_fd(int fd)
{
	struct vcpu vcpu = vcpus_get(&vcpus, fd);

	return vcpu.knowledge != VCPU_XCR0 ? query_vcpu(fd, vcpu) : vcpu;
}

// Returns false if argument points into the first page or into the kernel's half of the address
// space. With such a pointer as an ioctl's argument, KVM fails the ioctl with EFAULT.
static bool is_user_memory(const void *argument)
{
	return (uintptr_t)argument >= 4096 && !((uint64_t)(uintptr_t)argument >> 63);
}

static void trim_payload(void *payload, struct trim_result trim)
{
	if (trim.after != trim.xstate_bv)
		xstate_set_bv(payload, trim.after);
}

static void report_trimmed(struct vcpu_call call, enum vcpu_event event, struct trim_result trim)
{
	uint64_t dropped = trim.xstate_bv & ~trim.allowed;
	uint32_t count;

	if (!dropped)
		return;
	record_event(&record, trim.after == trim.xstate_bv ? RECORD_WOULD_TRIM : RECORD_TRIMMED);
	count = vcpus_count(&vcpus, call.fd, event, dropped);
	if (!count)
		return;
	open_log();
	report_trim(&report_log, call, trim, count);
}

// These ioctls load vCPU state or set the vCPU's CPUID table. The library reports when KVM refuses
// one of these ioctls, but never changes the ioctl's argument.
static const struct {
	unsigned int command;
	// ioctl_name is an array, because a pointer would need a relocation.
	char ioctl_name[sizeof("KVM_SET_NESTED_STATE")];
} state_calls[] = {
	{KVM_SET_MSRS, "KVM_SET_MSRS"},
	{KVM_SET_SREGS, "KVM_SET_SREGS"},
	{KVM_SET_SREGS2, "KVM_SET_SREGS2"},
	{KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS"},
	{KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS"},
	{KVM_SET_LAPIC, "KVM_SET_LAPIC"},
	{KVM_SET_NESTED_STATE, "KVM_SET_NESTED_STATE"},
	{KVM_SET_CPUID, "KVM_SET_CPUID"},
	{KVM_SET_CPUID2, "KVM_SET_CPUID2"},
};

#define STATE_CALLS (sizeof(state_calls) / sizeof(state_calls[0]))

struct state_refusal {
	unsigned int command;
	const void *argument;
	int error;
	uint32_t msrs_set; // how many MSRs KVM has set before the refused MSR
	uint32_t msrs;	   // how many MSRs the call passes, or 0 if KVM refused the whole call
};

static struct kvm_msr_entry refused_msr(struct state_refusal refusal)
{
	const char *entries = (const char *)refusal.argument + sizeof(struct kvm_msrs);
	struct kvm_msr_entry entry;

	memcpy(&entry, entries + refusal.msrs_set * sizeof(entry), sizeof(entry));
	return entry;
}

static void report_msr(struct report_line *line, struct state_refusal refusal)
{
	struct kvm_msr_entry entry = refused_msr(refusal);

	report_hex(line, "msr", entry.index);
	report_hex(line, "value", entry.data);
	report_int(line, "set", (int)refusal.msrs_set);
	report_int(line, "of", (int)refusal.msrs);
}

static_assert(offsetof(struct kvm_sregs, cr0) == offsetof(struct kvm_sregs2, cr0) &&
		      offsetof(struct kvm_sregs, apic_base) ==
			      offsetof(struct kvm_sregs2, apic_base),
	      "cr0 to apic_base have the same offsets in kvm_sregs and kvm_sregs2");

static void report_registers(struct report_line *line, const void *argument)
{
	struct kvm_sregs sregs;

	memcpy(&sregs, argument, offsetof(struct kvm_sregs, interrupt_bitmap));
	report_hex(line, "cr0", sregs.cr0);
	report_hex(line, "cr4", sregs.cr4);
	report_hex(line, "efer", sregs.efer);
	report_hex(line, "apic_base", sregs.apic_base);
}

// If KVM refused one MSR, returns a bit for this MSR; if KVM refused the whole call, a bit for the
// ioctl. vcpus_count(), which limits how often the library reports, always allows a report of a
// bit that is new for the vCPU.
static uint64_t state_bit(size_t call, struct state_refusal refusal)
{
	if (!refusal.msrs)
		return UINT64_C(1) << call;
	return UINT64_C(1) << (STATE_CALLS + refused_msr(refusal).index % (64 - STATE_CALLS));
}

// The function reads the call's argument only if KVM failed the call with EINVAL, or set only some
// of the MSRs. In these two cases, KVM has read the argument, so the argument is readable. The
// function reports nothing as long as the log is not open. The log is opened at the latest when the
// VMM first calls KVM_SET_CPUID or KVM_SET_CPUID2.
OUT_OF_LINE static void handle_refused_state(int fd, struct state_refusal refusal)
{
	struct vcpu_call call = {.fd = fd, .vcpu = vcpus_get(&vcpus, fd)};
	struct report_line line;
	uint32_t count;
	size_t i = 0;

	while (state_calls[i].command != refusal.command)
		i++;
	call.ioctl_name = state_calls[i].ioctl_name;
	record_event(&record, RECORD_REFUSED_STATE);
	count = vcpus_count(&vcpus, fd, VCPU_EVENT_REFUSED_STATE, state_bit(i, refusal));
	if (!count || !log_is_open(&report_log))
		return;
	report_begin(&line, &report_log, LOG_LEVEL_NOTICE, "refused-state");
	report_vcpu_call(&line, call);
	if (refusal.msrs)
		report_msr(&line, refusal);
	else
		report_errno(&line, refusal.error);
	if (refusal.error == EINVAL &&
	    (refusal.command == KVM_SET_SREGS || refusal.command == KVM_SET_SREGS2))
		report_registers(&line, refusal.argument);
	report_count(&line, count);
	report_send(&line);
}

static int set_state(int fd, unsigned long request, void *argument)
{
	int result = next_ioctl(fd, request, argument);
	int error = errno;

	if (result < 0 && !policy_is_no_vcpu(error)) {
		handle_refused_state(fd, (struct state_refusal){.command = (unsigned int)request,
								.argument = argument,
								.error = error});
		errno = error;
	}
	return result;
}

// KVM sets the MSRs one after the other, stops at the first MSR that KVM refuses, and returns the
// number of MSRs that it has set. Another thread of the VMM may have changed the argument's field
// nmsrs after KVM read nmsrs, so the function reports nothing if nmsrs exceeds KVM_MSRS_MAX.
static int set_msrs(int fd, unsigned long request, void *argument)
{
	int result = set_state(fd, request, argument);
	int error = errno;
	uint32_t msrs;

	if (result < 0)
		return result;
	memcpy(&msrs, argument, sizeof(msrs));
	if ((uint32_t)result < msrs && msrs <= KVM_MSRS_MAX)
		handle_refused_state(fd, (struct state_refusal){.command = KVM_SET_MSRS,
								.argument = argument,
								.msrs_set = (uint32_t)result,
								.msrs = msrs});
	errno = error;
	return result;
}

static int create_vcpu(int fd, unsigned long request, void *argument)
{
	int vcpu_fd;

	// `xsaveshim status` reads from the record whether the VMM has a vCPU. Update the record
	// before KVM creates the vCPU, so that `xsaveshim status` never finds a vCPU that is not
	// yet in the record.
	record_vcpu(&record);
	vcpu_fd = next_ioctl(fd, request, argument);
	if (vcpu_fd >= 0)
		vcpus_create(&vcpus, vcpu_fd, (int)(intptr_t)argument);
	return vcpu_fd;
}

// Returns the number of entries of a CPUID table. Call table_nent only after KVM has accepted or
// written the table, because the table's memory may not be readable before. Another thread of the
// VMM may change the table's field nent at any time, so the function reads the field only once.
static uint32_t table_nent(const void *table)
{
	uint32_t nent;

	memcpy(&nent, table, sizeof(nent));
	return nent < GUEST_CPUID_MAX_ENTRIES ? nent : GUEST_CPUID_MAX_ENTRIES;
}

static const void *table_entries(const void *table)
{
	return (const char *)table + sizeof(struct kvm_cpuid2);
}

static int set_cpuid(int fd, unsigned long request, void *argument)
{
	bool v1 = (unsigned int)request == KVM_SET_CPUID;
	struct vcpu vcpu;
	int result;

	open_log();
	result = set_state(fd, request, argument);
	if (!result) {
		vcpu = vcpus_get(&vcpus, fd);
		vcpu.knowledge = VCPU_XCR0;
		vcpu.guest_xcr0 = (v1 ? guest_cpuid_v1_xcr0 : guest_cpuid_xcr0)(
			table_entries(argument), table_nent(argument));
		learn(v1 ? "KVM_SET_CPUID" : "KVM_SET_CPUID2", fd, vcpu);
	}
	return result;
}

static int get_cpuid2(int fd, unsigned long request, void *argument)
{
	int result = next_ioctl(fd, request, argument);

	if (!result && vcpus_get(&vcpus, fd).knowledge != VCPU_XCR0) {
		struct vcpu vcpu = query_vcpu(fd, vcpus_get(&vcpus, fd));

		if (vcpu.knowledge == VCPU_XCR0)
			learn("KVM_GET_CPUID2", fd, vcpu);
	}
	return result;
}

static int get_supported_cpuid(int fd, unsigned long request, void *argument)
{
	int result = next_ioctl(fd, request, argument);

	if (!result)
		atomic_store_explicit(
			&kvm_xfeatures,
			guest_cpuid_xcr0(table_entries(argument), table_nent(argument)),
			memory_order_relaxed);
	return result;
}

static int get_xsave(int fd, unsigned long request, void *payload)
{
	const char *ioctl_name =
		(unsigned int)request == KVM_GET_XSAVE ? "KVM_GET_XSAVE" : "KVM_GET_XSAVE2";
	int result = next_ioctl(fd, request, payload);

	if (!result && settings.trim != TRIM_RESTORE) {
		struct vcpu vcpu = vcpu_of_fd(fd);
		struct trim_result trim =
			policy_trim(settings.trim, XSAVE_SAVE, vcpu, xstate_bv(payload));

		trim_payload(payload, trim);
		report_trimmed((struct vcpu_call){.ioctl_name = ioctl_name, .fd = fd, .vcpu = vcpu},
			       VCPU_EVENT_TRIM_SAVED, trim);
	}
	return result;
}

enum widened { WIDENED_NOT, WIDENED_LOADED, WIDENED_STUCK };

// Adds the missing xfeatures to the vCPU's CPUID table, loads the payload, and sets the vCPU's
// original table again. After the vCPU's first KVM_RUN, KVM refuses a changed table, and the
// function returns WIDENED_NOT. The function is out of line, so that its table of 10 KiB is no
// longer on the stack when the library writes a report.
OUT_OF_LINE static enum widened
load_with_table_widened(int fd, unsigned long request, void *payload, uint64_t missing)
{
	struct guest_cpuid_change change;
	struct guest_cpuid table;
	int result;

	if (!query_cpuid(fd, &table) || !guest_cpuid_widen(&table, missing, &change) ||
	    next_ioctl(fd, KVM_SET_CPUID2, &table))
		return WIDENED_NOT;
	result = next_ioctl(fd, request, payload);
	guest_cpuid_put_back(&table, &change);
	if (next_ioctl(fd, KVM_SET_CPUID2, &table))
		return WIDENED_STUCK;
	return result ? WIDENED_NOT : WIDENED_LOADED;
}

OUT_OF_LINE static void report_widened(struct vcpu_call call, enum widened widened,
				       const void *payload)
{
	struct report_line line;

	open_log();
	if (widened == WIDENED_STUCK) {
		report_begin(&line, &report_log, LOG_LEVEL_ERROR, "cpuid-left-widened");
		report_vcpu_call(&line, call);
	} else {
		report_begin(&line, &report_log, LOG_LEVEL_NOTICE, "load-widened");
		report_vcpu_call(&line, call);
		report_hex(&line, "xstate_bv", xstate_bv(payload));
		report_hex(&line, "guest_xcr0", call.vcpu.guest_xcr0);
	}
	report_send(&line);
}

// Loads a payload that KVM refuses because the guest's CPUID does not enumerate FP or SSE. missing:
// those of FP and SSE that the guest's CPUID lacks. Returns true if KVM has loaded the payload,
// and then accepted the vCPU's original CPUID table again.
static bool load_widened(struct vcpu_call call, unsigned long request, void *payload,
			 uint64_t missing)
{
	enum widened widened = load_with_table_widened(call.fd, request, payload, missing);

	if (widened != WIDENED_NOT)
		report_widened(call, widened, payload);
	return widened == WIDENED_LOADED;
}

static struct host_caps host_caps(void)
{
	return (struct host_caps){
		.xfeatures = atomic_load_explicit(&kvm_xfeatures, memory_order_relaxed),
		.xcr0 = host_xcr0,
		.mxcsr_reserved = host_mxcsr_reserved,
	};
}

static bool ends_vmm(struct vcpu vcpu, struct refusal refusal)
{
	return settings.refused == REFUSED_ABORT && policy_ends_vmm(settings.trim, vcpu, refusal);
}

// Ends the VMM, so that its guest does not run on without a part of its saved state. The exit
// status is 1, as when QEMU 8.2 or later ends by itself because KVM refused a payload. The library
// does not call exit(), because an atexit handler may need a lock that this thread holds.
static _Noreturn void end_vmm(void)
{
	_exit(1);
}

// Handles a payload that KVM refused. If KVM refused only FP and SSE, and the settings let the
// library trim, loads the payload again with a CPUID table that enumerates FP and SSE. Unless
// this succeeds, reports the refusal, and ends the VMM if ends_vmm() returns true. Returns the
// result that the VMM gets from KVM_SET_XSAVE.
OUT_OF_LINE static int handle_refusal(struct vcpu_call call, unsigned long request, void *payload,
				      int result)
{
	int error = errno;
	struct refusal refusal = policy_diagnose(payload, call.vcpu, host_caps());
	uint32_t count;

	if (error == EINVAL && policy_refused_fpsse_alone(settings.trim, refusal) &&
	    load_widened(call, request, payload, refusal.guest_lacks))
		return 0;
	record_event(&record, RECORD_REFUSED);
	count = vcpus_count(&vcpus, call.fd, VCPU_EVENT_REFUSED, policy_refused_xfeatures(refusal));
	call.ends_vmm = error == EINVAL && ends_vmm(call.vcpu, refusal);
	if (count || call.ends_vmm) {
		open_log();
		report_refused(&report_log, call, error, xstate_bv(payload), refusal, count);
	}
	if (call.ends_vmm)
		end_vmm();
	errno = error;
	return result;
}

static int set_xsave(int fd, unsigned long request, void *payload)
{
	int saved = errno;
	struct vcpu_call call = {.ioctl_name = "KVM_SET_XSAVE", .fd = fd};
	struct trim_result trim;
	int result;

	if (!is_user_memory(payload))
		return next_ioctl(fd, request, payload);
	call.vcpu = vcpu_of_fd(fd);
	if (call.vcpu.knowledge == VCPU_UNKNOWN)
		return next_ioctl(fd, request, payload);
	trim = policy_trim(settings.trim, XSAVE_RESTORE, call.vcpu, xstate_bv(payload));
	trim_payload(payload, trim);
	result = next_ioctl(fd, request, payload);
	if (result && policy_is_no_vcpu(errno)) {
		if (trim.after != trim.xstate_bv)
			xstate_set_bv(payload, trim.xstate_bv);
		return result;
	}
	report_trimmed(call, VCPU_EVENT_TRIM, trim);
	vcpus_set_dropped(&vcpus, fd, trim.xstate_bv & ~trim.after);
	if (result)
		result = handle_refusal(call, request, payload, result);
	if (!result)
		errno = saved;
	return result;
}

// Handles an XCR0 that the VMM has set with KVM_SET_XCRS. The guest had this XCR0 when the VMM
// saved the guest. If the library dropped an xfeature of this XCR0 from the payload that the VMM
// loaded before KVM_SET_XCRS, the xfeature's state is lost. In later payloads of the vCPU, the
// library keeps all xfeatures of this XCR0, even those that the guest's CPUID does not enumerate.
OUT_OF_LINE static void handle_xcr0_taken(struct vcpu_call call, uint64_t xcr0)
{
	uint64_t lost = policy_lost(vcpus_dropped(&vcpus, call.fd), xcr0);
	uint64_t joins = policy_joins(call.vcpu, xcr0);
	uint32_t count = lost ? vcpus_count(&vcpus, call.fd, VCPU_EVENT_LOST, lost) : 0;

	if (lost)
		record_event(&record, RECORD_LOST);
	if (joins) {
		call.vcpu.enabled_xcr0 |= joins;
		vcpus_set(&vcpus, call.fd, call.vcpu);
	}
	call.ends_vmm = lost && settings.refused == REFUSED_ABORT;
	if (count || call.ends_vmm) {
		open_log();
		report_lost(&report_log, call, xcr0, lost, count);
	}
	if (call.ends_vmm)
		end_vmm();
}

OUT_OF_LINE static void handle_xcr0_refused(struct vcpu_call call, uint64_t xcr0, int error)
{
	struct refusal refusal = policy_diagnose_xcr0(xcr0, call.vcpu, host_caps());
	uint32_t count = vcpus_count(
		&vcpus, call.fd, VCPU_EVENT_XCR0_REFUSED, policy_refused_xfeatures(refusal));

	record_event(&record, RECORD_REFUSED);
	call.ends_vmm = ends_vmm(call.vcpu, refusal);
	if (count || call.ends_vmm) {
		open_log();
		report_xcr0_refused(&report_log, call, error, xcr0, refusal, count);
	}
	if (call.ends_vmm)
		end_vmm();
}

// Only the errno EINVAL means that KVM refused the XCR0. EFAULT, for example, means that KVM could
// not read the argument, so the library must not read the argument either.
static int set_xcrs(int fd, unsigned long request, void *argument)
{
	struct vcpu_call call = {.ioctl_name = "KVM_SET_XCRS", .fd = fd};
	int result = next_ioctl(fd, request, argument);
	int error = errno;
	uint64_t xcr0;

	if ((result && error != EINVAL) || !is_user_memory(argument) ||
	    !xstate_xcrs_xcr0(argument, &xcr0))
		return result;
	call.vcpu = result ? vcpu_of_fd(fd) : vcpus_get(&vcpus, fd);
	if (call.vcpu.knowledge == VCPU_UNKNOWN)
		return result;
	if (result)
		handle_xcr0_refused(call, xcr0, error);
	else
		handle_xcr0_taken(call, xcr0);
	errno = error;
	return result;
}

// The requests that the library watches. The index is the lowest byte of a request's number. The
// library uses a table because a switch would need more instructions for the requests that the
// library does not watch.
static const struct {
	unsigned int command;
	int (*handle)(int fd, unsigned long request, void *argument);
} watched[256] = {
	// Without this row, watched[0].command would be 0, and the request 0 would match. This row
	// matches no request, because the lowest byte of UINT32_MAX is not 0.
	[0] = {UINT32_MAX, NULL},
	[_IOC_NR(KVM_CREATE_VCPU)] = {KVM_CREATE_VCPU, create_vcpu},
	[_IOC_NR(KVM_SET_CPUID)] = {KVM_SET_CPUID, set_cpuid},
	[_IOC_NR(KVM_SET_CPUID2)] = {KVM_SET_CPUID2, set_cpuid},
	[_IOC_NR(KVM_GET_CPUID2)] = {KVM_GET_CPUID2, get_cpuid2},
	[_IOC_NR(KVM_GET_SUPPORTED_CPUID)] = {KVM_GET_SUPPORTED_CPUID, get_supported_cpuid},
	[_IOC_NR(KVM_SET_XSAVE)] = {KVM_SET_XSAVE, set_xsave},
	[_IOC_NR(KVM_GET_XSAVE)] = {KVM_GET_XSAVE, get_xsave},
	[_IOC_NR(KVM_GET_XSAVE2)] = {KVM_GET_XSAVE2, get_xsave},
	[_IOC_NR(KVM_SET_XCRS)] = {KVM_SET_XCRS, set_xcrs},
	[_IOC_NR(KVM_SET_MSRS)] = {KVM_SET_MSRS, set_msrs},
	[_IOC_NR(KVM_SET_SREGS)] = {KVM_SET_SREGS, set_state},
	[_IOC_NR(KVM_SET_SREGS2)] = {KVM_SET_SREGS2, set_state},
	[_IOC_NR(KVM_SET_VCPU_EVENTS)] = {KVM_SET_VCPU_EVENTS, set_state},
	[_IOC_NR(KVM_SET_DEBUGREGS)] = {KVM_SET_DEBUGREGS, set_state},
	[_IOC_NR(KVM_SET_LAPIC)] = {KVM_SET_LAPIC, set_state},
	[_IOC_NR(KVM_SET_NESTED_STATE)] = {KVM_SET_NESTED_STATE, set_state},
};

// Handles every request except KVM_RUN. Like the kernel, the function uses only the lower 32 bits
// of the request. The upper 32 bits may be copies of bit 31, because QEMU up to 8.2 passes the
// request as an int.
__attribute__((used)) static int other_ioctl(int fd, unsigned long request, void *argument)
{
	unsigned int command = (unsigned int)request;

	if (__builtin_expect(watched[_IOC_NR(command)].command == command, 0))
		return watched[_IOC_NR(command)].handle(fd, request, argument);
	return next_ioctl(fd, request, argument);
}

// VMMs call this function as ioctl(). This assembly code needs four instructions for KVM_RUN;
// clang's code for a C function would need five. The xor sets %al to 0: the caller of a variadic
// function passes in %al how many vector registers hold arguments. The function's C name is not
// ioctl(), because <sys/ioctl.h> declares ioctl() with other parameters.
static_assert(KVM_RUN == 0xae80, "ioctl() compares each request with 0xae80");

__attribute__((naked, visibility("default"))) int
interposed_ioctl(int fd, unsigned long request, void *argument) __asm__("ioctl");

int interposed_ioctl(int fd __attribute__((unused)), unsigned long request __attribute__((unused)),
		     void *argument __attribute__((unused)))
{
	__asm__("cmp $0xae80, %esi\n\t"
		"jne other_ioctl\n\t"
		"xor %eax, %eax\n\t"
		"jmp *next_ioctl(%rip)");
}
