// SPDX-License-Identifier: MIT
// The shared object's one symbol: ioctl(), and what happens at each request that matters.
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

static_assert(_IOC_SIZE(KVM_SET_XSAVE) == sizeof(struct kvm_xsave), "the kernel reads at least what the number says");
static_assert(_IOC_SIZE(KVM_SET_CPUID2) == sizeof(struct kvm_cpuid2), "the number counts the table's header alone");
static_assert(_IOC_SIZE(KVM_GET_CPUID2) == offsetof(struct guest_cpuid, entries), "guest_cpuid is what KVM fills in");

// Variadic, as libc's is: how arguments travel to a variadic function is part of its ABI.
typedef int ioctl_fn(int fd, unsigned long request, ...);

// What is seldom needed, and needs a large buffer, stays off the stack of what calls it.
#define OUT_OF_LINE __attribute__((noinline))

static ioctl_fn start_and_call;

// A library's constructor may call before ours has run; after ours, no signal handler ever runs dlsym.
// Not atomic, so that a call is one jump through memory: it is written before there are threads, always the same value.
static ioctl_fn *next_ioctl = start_and_call;

static struct vcpus vcpus;
static struct settings settings;
static struct log report_log = {.fd = -1, .fallback_fd = -1};
static struct xsaveshim_record record = {.mark = RECORD_MARK};

// The xfeatures that this host's KVM supports, as it told the VMM; until then, what the CPU has enabled.
static _Atomic uint64_t host_xfeatures;
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

static void open_log(void)
{
	int error = log_open(&report_log, settings.log, settings.log_path, settings.log_level);

	if (error)
		report_log_failure(&report_log, settings_text(&settings, SETTING_LOG), error);
	report_settings(&report_log, &settings);
}

// Once: at the first call, or in our constructor if none came before it.
__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	if (next_ioctl != start_and_call)
		return;
	// RTLD_NEXT and not libc by name: other interposers stay in the chain.
	next_ioctl = __extension__(ioctl_fn *) dlsym(RTLD_NEXT, "ioctl");
	if (!next_ioctl)
		next_ioctl = raw_ioctl;
	atomic_store_explicit(&host_xfeatures, xstate_host_xcr0(), memory_order_relaxed);
	host_mxcsr_reserved = xstate_host_mxcsr_reserved();
	settings_load(&settings);
	record_publish(&record, &settings);
	open_log();
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
	// In a program's .preinit_array libc has no environment yet: the settings are read again once it has.
	if (!environ)
		next_ioctl = start_and_call;
	return next(fd, request, argument);
}

static inline int real_ioctl(int fd, unsigned long request, void *argument)
{
	return next_ioctl(fd, request, argument);
}

static void learn(const char *ioctl, int fd, struct vcpu vcpu)
{
	record_vcpu(&record);
	vcpus_set(&vcpus, fd, vcpu);
	report_learn(&report_log, (struct vcpu_call){ioctl, fd, vcpu});
}

// The table that KVM has of a vCPU, in a buffer of our own: up to Linux 6.4 nent is not written back, and the tail of
// the caller's buffer may hold anything. False where KVM does not answer, as for anything that is not a vCPU.
static bool ask_cpuid(int fd, struct guest_cpuid *table)
{
	int saved = errno;
	int result;

	memset(table, 0, sizeof(*table));
	table->nent = GUEST_CPUID_MAX_ENTRIES;
	result = real_ioctl(fd, KVM_GET_CPUID2, table);
	errno = saved;
	table->nent = guest_cpuid_count(table);
	return !result;
}

// What the kernel says of a vCPU that the table does not know enough of.
OUT_OF_LINE static struct vcpu ask(int fd, struct vcpu vcpu)
{
	struct guest_cpuid table;

	if (!ask_cpuid(fd, &table))
		return vcpu;
	vcpu.knowledge = table.nent ? VCPU_XCR0 : VCPU_NO_CPUID;
	vcpu.guest_xcr0 = guest_cpuid_xcr0(table.entries, table.nent);
	return vcpu;
}

// An fd that was not seen to become a vCPU may be one all the same: a duplicate, or one that another process handed
// over. What it is will not be seen to change either, so it is asked each time and not remembered.
static struct vcpu look_up(int fd)
{
	struct vcpu vcpu = vcpus_get(&vcpus, fd);

	return vcpu.knowledge == VCPU_UNKNOWN ? ask(fd, vcpu) : vcpu;
}

// Memory that a payload may lie in: not the first page or the kernel's half, for which the kernel answers EFAULT.
static bool is_user_memory(const void *payload)
{
	return (uintptr_t)payload >= 4096 && !((uint64_t)(uintptr_t)payload >> 63);
}

static void trim_payload(const char *ioctl, enum xsave_direction direction, int fd, struct vcpu vcpu, void *payload)
{
	struct trim trim = policy_trim(settings.trim, direction, vcpu, xstate_bv(payload));

	if (trim.written != trim.xstate_bv)
		xstate_set_bv(payload, trim.written);
	report_trim(&report_log, (struct vcpu_call){ioctl, fd, vcpu}, trim);
}

static int create_vcpu(int fd, unsigned long request, void *argument)
{
	int vcpu_fd;

	// Before the call, so that from outside no vCPU is seen earlier than the note of it.
	record_vcpu(&record);
	vcpu_fd = real_ioctl(fd, request, argument);
	if (vcpu_fd >= 0)
		learn("KVM_CREATE_VCPU", vcpu_fd, (struct vcpu){VCPU_NO_CPUID, (int)(intptr_t)argument, 0});
	return vcpu_fd;
}

// The XCR0 of a table that KVM took or gave; it has been read or written by the kernel, so that it can be read here.
static uint64_t table_xcr0(const void *table, uint64_t (*xcr0)(const void *entries, uint32_t nent))
{
	uint32_t nent;

	memcpy(&nent, table, sizeof(nent));
	return xcr0((const char *)table + sizeof(struct kvm_cpuid2), nent);
}

static int set_cpuid(int fd, unsigned long request, void *argument)
{
	int result = real_ioctl(fd, request, argument);

	if (!result) {
		bool v1 = (unsigned int)request == KVM_SET_CPUID;
		struct vcpu vcpu = vcpus_get(&vcpus, fd);

		vcpu.knowledge = VCPU_XCR0;
		vcpu.guest_xcr0 = table_xcr0(argument, v1 ? guest_cpuid_v1_xcr0 : guest_cpuid_xcr0);
		learn(v1 ? "KVM_SET_CPUID" : "KVM_SET_CPUID2", fd, vcpu);
	}
	return result;
}

static int get_cpuid2(int fd, unsigned long request, void *argument)
{
	int result = real_ioctl(fd, request, argument);

	if (!result && vcpus_get(&vcpus, fd).knowledge != VCPU_XCR0) {
		struct vcpu vcpu = ask(fd, vcpus_get(&vcpus, fd));

		if (vcpu.knowledge == VCPU_XCR0)
			learn("KVM_GET_CPUID2", fd, vcpu);
	}
	return result;
}

static int get_supported_cpuid(int fd, unsigned long request, void *argument)
{
	int result = real_ioctl(fd, request, argument);

	if (!result)
		atomic_store_explicit(&host_xfeatures, table_xcr0(argument, guest_cpuid_xcr0), memory_order_relaxed);
	return result;
}

static int get_xsave(int fd, unsigned long request, void *payload)
{
	const char *ioctl = (unsigned int)request == KVM_GET_XSAVE ? "KVM_GET_XSAVE" : "KVM_GET_XSAVE2";
	int result = real_ioctl(fd, request, payload);

	if (!result && settings.trim != TRIM_RESTORE)
		trim_payload(ioctl, XSAVE_SAVE, fd, look_up(fd), payload);
	return result;
}

// Loads a payload that KVM accepts only while the guest's CPUID enumerates FP and SSE, then puts the table back. Before
// the vCPU's first KVM_RUN only: after it, KVM takes no other table, and the refusal stands.
OUT_OF_LINE static int load_widened(int fd, unsigned long request, void *payload, struct vcpu vcpu, uint64_t missing)
{
	struct vcpu_call call = {"KVM_SET_XSAVE", fd, vcpu};
	struct guest_cpuid table;
	struct guest_cpuid widened;
	struct report_line line;
	int result;

	if (!ask_cpuid(fd, &table))
		return -1;
	widened = table;
	if (!guest_cpuid_widen(&widened, missing) || real_ioctl(fd, KVM_SET_CPUID2, &widened))
		return -1;
	result = real_ioctl(fd, request, payload);
	if (real_ioctl(fd, KVM_SET_CPUID2, &table)) {
		report_begin(&line, &report_log, LOG_LEVEL_ERROR, "cpuid-left-widened");
		report_vcpu_call(&line, call);
		report_send(&line);
		return -1;
	}
	if (!result) {
		report_begin(&line, &report_log, LOG_LEVEL_NOTICE, "load-widened");
		report_vcpu_call(&line, call);
		report_hex(&line, "xstate_bv", xstate_bv(payload));
		report_hex(&line, "guest_xcr0", vcpu.guest_xcr0);
		report_send(&line);
	}
	return result;
}

static struct host host(void)
{
	return (struct host){
		.xfeatures = atomic_load_explicit(&host_xfeatures, memory_order_relaxed),
		.mxcsr_reserved = host_mxcsr_reserved,
	};
}

// A KVM_SET_XSAVE that failed: what can still be done, or what is to be told.
OUT_OF_LINE static int refused(int fd, unsigned long request, void *payload, struct vcpu vcpu, int result)
{
	struct refusal refusal = policy_diagnose(payload, vcpu, host());
	int error = errno;

	if (error == EINVAL && policy_refused_fpsse_alone(settings.trim, refusal) &&
	    !load_widened(fd, request, payload, vcpu, refusal.guest_lacks))
		return 0;
	report_refused(&report_log, (struct vcpu_call){"KVM_SET_XSAVE", fd, vcpu}, error, xstate_bv(payload), refusal);
	// Without atexit handlers, as the thread that restores may hold any lock; QEMU 8.2 and later end with 1 here, too.
	if (settings.refused == REFUSED_ABORT)
		_exit(1);
	errno = error;
	return result;
}

static int set_xsave(int fd, unsigned long request, void *payload)
{
	int saved = errno;
	struct vcpu vcpu;
	int result;

	if (!is_user_memory(payload))
		return real_ioctl(fd, request, payload);
	vcpu = look_up(fd);
	if (vcpu.knowledge == VCPU_UNKNOWN)
		return real_ioctl(fd, request, payload);
	trim_payload("KVM_SET_XSAVE", XSAVE_RESTORE, fd, vcpu, payload);
	result = real_ioctl(fd, request, payload);
	if (result)
		result = refused(fd, request, payload, vcpu, result);
	if (!result)
		errno = saved;
	return result;
}

// The requests that matter, by their number's last byte. A table, as the comparisons of a switch would cost every other
// request more than the handful of instructions that looking it up here does.
static const struct {
	unsigned int command;
	int (*handle)(int fd, unsigned long request, void *argument);
} watched[256] = {
	// A number that does not end in 0, so that request 0 finds nothing here.
	[0] = {UINT32_MAX, NULL},
	[_IOC_NR(KVM_CREATE_VCPU)] = {KVM_CREATE_VCPU, create_vcpu},
	[_IOC_NR(KVM_SET_CPUID)] = {KVM_SET_CPUID, set_cpuid},
	[_IOC_NR(KVM_SET_CPUID2)] = {KVM_SET_CPUID2, set_cpuid},
	[_IOC_NR(KVM_GET_CPUID2)] = {KVM_GET_CPUID2, get_cpuid2},
	[_IOC_NR(KVM_GET_SUPPORTED_CPUID)] = {KVM_GET_SUPPORTED_CPUID, get_supported_cpuid},
	[_IOC_NR(KVM_SET_XSAVE)] = {KVM_SET_XSAVE, set_xsave},
	[_IOC_NR(KVM_GET_XSAVE)] = {KVM_GET_XSAVE, get_xsave},
	[_IOC_NR(KVM_GET_XSAVE2)] = {KVM_GET_XSAVE2, get_xsave},
};

// The kernel takes 32 bits of the request; QEMU up to 8.2 passes an int, so that bit 31 arrives sign-extended.
// Under a name of its own: <sys/ioctl.h> declares ioctl() variadic, and a variadic function could not tail-call.
__attribute__((visibility("default"))) int
interposed_ioctl(int fd, unsigned long request, void *argument) __asm__("ioctl");

int interposed_ioctl(int fd, unsigned long request, void *argument)
{
	unsigned int command = (unsigned int)request;

	if (__builtin_expect(command == KVM_RUN, 1))
		return real_ioctl(fd, request, argument);
	if (__builtin_expect(watched[_IOC_NR(command)].command == command, 0))
		return watched[_IOC_NR(command)].handle(fd, request, argument);
	return real_ioctl(fd, request, argument);
}
