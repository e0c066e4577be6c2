// SPDX-License-Identifier: MIT
// Restores and then saves a vCPU as one of three real VMMs does. The program makes each KVM call on
// the same thread as the VMM, and installs the VMM's seccomp filter at the same point between these
// calls. If the program makes a system call that the installed filter does not allow, the kernel
// kills the program.
//
//	filtered firecracker|cloud-hypervisor|stratovirt XCR0 STEP...
//
// XCR0 is the mask of xfeatures that leaf 0xD of the vCPU's CPUID table shows. If XCR0 is "none",
// the table is empty, so the guest has no XSAVE. The program sets this table with KVM_SET_CPUID2,
// then runs the steps in the given order, and prints the result of each step:
//
//	start			ends the steps that run on the main thread before the VM exists and
//				the filter is installed. "start" prints no result
//	set-xsave=XSTATE_BV	calls KVM_SET_XSAVE with a payload that has this XSTATE_BV
//	set-xsave-compacted=XSTATE_BV	like set-xsave, but with XCOMP_BV 1, which KVM refuses
//	set-xcrs=XCR0		calls KVM_SET_XCRS
//	set-cr4=CR4		calls KVM_SET_SREGS
//	set-msr=INDEX		calls KVM_SET_MSRS with one MSR
//	save			saves the vCPU: calls KVM_GET_XSAVE if the VMM is StratoVirt, and
//				KVM_GET_XSAVE2 if the VMM is Firecracker or Cloud Hypervisor.
//				Firecracker saves on the vCPU's thread, StratoVirt on the main
//				thread, and Cloud Hypervisor on the thread that also restores. The
//				steps after "save" run on the thread that saves
//	call=NAME[,NUMBER]...	makes the system call NAME with the NUMBERs as arguments
//	get-cpuid2		calls KVM_GET_CPUID2
//	close=FD		closes descriptor FD
//	open=FILE		opens FILE, which gets the lowest free descriptor number
//	meet=FIFO		waits until another process opens the FIFO for reading
#include <errno.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdbool.h>

#include "errnos.h"
#include "filters.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define MAX_PAYLOAD (64 * 1024)

struct vmm {
	const char *name;
	const struct allowed *allows;
	size_t allowances;
	bool all_threads; // the filter also applies to threads that started before its installation
	void *(*thread)(void *nothing);
	void (*main)(void);
};

static const struct vmm *vmm;
static const char *guest_xcr0;
static char **next_step;
static int kvm, vm, vcpu;
// The program's two threads wait for each other at this barrier, which uses private futexes.
// pthread_join() would use a shared futex, which StratoVirt's filter forbids.
static pthread_barrier_t turn;

// Uses write(2), which the filters of all three VMMs allow. printf() may call mmap(2), which
// Firecracker's filter forbids.
static void say(const char *format, ...)
{
	char line[256];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (length < 0 || write(STDOUT_FILENO, line, (size_t)length) != length)
		_exit(3);
}

static _Noreturn void die(const char *what, int error)
{
	say("filtered: %s: %s\n", what, errno_name(error));
	_exit(2);
}

static void say_result(const char *step, long result)
{
	say("%s: %s\n", step, result < 0 ? errno_name(errno) : "0");
}

// Installs the imitated VMM's seccomp filter.
static void enter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int error = filter ? 0 : -ENOMEM;

	for (size_t i = 0; !error && i < vmm->allowances; i++) {
		const struct allowed *a = &vmm->allows[i];

		if (a->argument == ANY_ARGUMENT)
			error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, a->syscall, 0);
		else
			error = seccomp_rule_add(
				filter, SCMP_ACT_ALLOW, a->syscall, 1,
				SCMP_CMP((unsigned int)a->argument, SCMP_CMP_MASKED_EQ, UINT32_MAX,
					 a->value));
	}
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, vmm->all_threads);
	if (!error)
		error = seccomp_load(filter);
	if (error)
		die("seccomp", -error);
}

// ---- steps ----

static void get_supported_cpuid(void)
{
	static struct cpuid_table table = {.head = {.nent = KVM_CPUID_ENTRIES_MAX}};

	kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &table);
}

static void set_cpuid2(void)
{
	static struct leaf_0xd table = LEAF_0XD(0);

	table.entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	if (strcmp(guest_xcr0, "none"))
		table.entry.eax = (uint32_t)strtoul(guest_xcr0, NULL, 0);
	else
		table.nent = 0;
	kvm_ioctl(vcpu, KVM_SET_CPUID2, &table);
}

static void set_xsave(const char *step, const char *xstate_bv, uint64_t xcomp_bv)
{
	static unsigned char payload[MAX_PAYLOAD];
	long result;

	set_mxcsr(payload, MXCSR_DEFAULT);
	set_xstate_bv(payload, strtoull(xstate_bv, NULL, 0));
	memcpy(payload + XCOMP_BV, &xcomp_bv, sizeof(xcomp_bv));
	result = ioctl(vcpu, KVM_SET_XSAVE, payload);
	say("%s: %s xstate_bv=%#llx\n", step, result ? errno_name(errno) : "0",
	    (unsigned long long)get_xstate_bv(payload));
}

static void set_xcrs(const char *step, const char *xcr0)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = strtoull(xcr0, NULL, 0)};

	say_result(step, ioctl(vcpu, KVM_SET_XCRS, &xcrs));
}

static void set_cr4(const char *step, const char *cr4)
{
	struct kvm_sregs sregs = {.cr4 = strtoull(cr4, NULL, 0)};

	say_result(step, ioctl(vcpu, KVM_SET_SREGS, &sregs));
}

static void set_msr(const char *step, const char *index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {.head.nmsrs = 1, .entry.index = (uint32_t)strtoul(index, NULL, 0)};

	say_result(step, ioctl(vcpu, KVM_SET_MSRS, &msrs));
}

static void get_cpuid2(const char *step)
{
	static struct cpuid_table table = {.head = {.nent = KVM_CPUID_ENTRIES_MAX}};

	say_result(step, ioctl(vcpu, KVM_GET_CPUID2, &table));
}

static void save(const char *step)
{
	static unsigned char payload[MAX_PAYLOAD];
	uint32_t request = strcmp(vmm->name, "stratovirt") ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
	long result;

	if (!strcmp(vmm->name, "firecracker"))
		get_cpuid2("get-cpuid2");
	result = ioctl(vcpu, request, payload);
	say("%s: %s xstate_bv=%#llx\n", step, result ? errno_name(errno) : "0",
	    (unsigned long long)get_xstate_bv(payload));
}

static void call(const char *step, char *name_and_arguments)
{
	char *rest = name_and_arguments;
	const char *name = strsep(&rest, ",");
	int number = seccomp_syscall_resolve_name(name);
	long arguments[6] = {0};

	if (number < 0)
		die(name, ENOSYS);
	for (size_t i = 0; rest && i < LENGTH(arguments); i++)
		arguments[i] = strtol(strsep(&rest, ","), NULL, 0);
	say_result(step, syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
				 arguments[4], arguments[5]));
}

// Makes the system call open(2), which the filters of all three VMMs allow. libc's open() makes
// the system call openat(2), which Firecracker's filter forbids.
static int open_as_every_filter_allows(const char *path, int flags)
{
	int fd = (int)syscall(SYS_open, path, flags, 0600);

	if (fd < 0)
		die(path, errno);
	return fd;
}

static void take(const char *step)
{
	char copy[256], *value = copy;
	const char *name;

	snprintf(copy, sizeof(copy), "%s", step);
	name = strsep(&value, "=");
	if (!strcmp(name, "get-cpuid2"))
		get_cpuid2(step);
	else if (!value)
		die(step, EINVAL);
	else if (!strcmp(name, "set-xsave"))
		set_xsave(step, value, 0);
	else if (!strcmp(name, "set-xsave-compacted"))
		set_xsave(step, value, 1);
	else if (!strcmp(name, "set-xcrs"))
		set_xcrs(step, value);
	else if (!strcmp(name, "set-cr4"))
		set_cr4(step, value);
	else if (!strcmp(name, "set-msr"))
		set_msr(step, value);
	else if (!strcmp(name, "call"))
		call(step, value);
	else if (!strcmp(name, "close"))
		say_result(step, close(atoi(value)));
	else if (!strcmp(name, "open"))
		say("%s: %d\n", step,
		    open_as_every_filter_allows(value, O_WRONLY | O_CREAT | O_APPEND));
	else if (!strcmp(name, "meet"))
		say_result(step, close(open_as_every_filter_allows(value, O_WRONLY)));
	else
		die(step, EINVAL);
}

static void first_steps(void)
{
	char **start = next_step;

	while (*start && strcmp(*start, "start"))
		start++;
	if (!*start)
		return;
	while (next_step < start)
		take(*next_step++);
	next_step++;
}

static void restore_steps(void)
{
	while (*next_step && strcmp(*next_step, "save"))
		take(*next_step++);
}

static void save_steps(void)
{
	if (*next_step)
		save(*next_step++);
	while (*next_step)
		take(*next_step++);
}

// Ends the process without pthread_join() and exit(), because a VMM's filter may forbid system
// calls that these functions make.
static _Noreturn void end(void)
{
	say("end\n");
	_exit(0);
}

// ---- the VMMs ----

static void start_thread(void)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, vmm->thread, NULL);

	if (error)
		die("pthread_create", error);
}

static _Noreturn void wait_for_the_end(void)
{
	for (;;)
		pause();
}

static void create_vcpu(void)
{
	vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);
	vcpu = kvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
}

static void *firecracker_vcpu(void *nothing)
{
	pthread_barrier_wait(&turn);
	enter();
	save_steps();
	end();
	return nothing;
}

static void firecracker(void)
{
	start_thread();
	kvm_ioctl(kvm, KVM_GET_API_VERSION, NULL);
	get_supported_cpuid();
	create_vcpu();
	set_cpuid2();
	restore_steps();
	pthread_barrier_wait(&turn);
	wait_for_the_end();
}

static void *cloud_hypervisor_vmm(void *nothing)
{
	enter();
	create_vcpu();
	get_supported_cpuid();
	set_cpuid2();
	restore_steps();
	save_steps();
	end();
	return nothing;
}

static void cloud_hypervisor(void)
{
	kvm_ioctl(kvm, KVM_GET_API_VERSION, NULL);
	start_thread();
	wait_for_the_end();
}

static void *stratovirt_vcpu(void *nothing)
{
	// The main thread installs the filter between these two waits. When the first wait ends,
	// libc has already made the system calls that start this thread, so the filter need not
	// allow them.
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	get_supported_cpuid();
	set_cpuid2();
	restore_steps();
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	return nothing;
}

static void stratovirt(void)
{
	create_vcpu();
	start_thread();
	pthread_barrier_wait(&turn);
	enter();
	kvm_ioctl(kvm, KVM_GET_API_VERSION, NULL);
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	save_steps();
	end();
}

#define VMM(text, name, all_threads, thread) \
	{ \
		text, name##_allows, LENGTH(name##_allows), all_threads, thread, name \
	}

static const struct vmm vmms[] = {
	VMM("firecracker", firecracker, false, firecracker_vcpu),
	VMM("cloud-hypervisor", cloud_hypervisor, false, cloud_hypervisor_vmm),
	VMM("stratovirt", stratovirt, true, stratovirt_vcpu),
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < LENGTH(vmms); i++)
		if (argc > 2 && !strcmp(argv[1], vmms[i].name))
			vmm = &vmms[i];
	if (!vmm) {
		fprintf(stderr,
			"usage: filtered firecracker|cloud-hypervisor|stratovirt XCR0|none STEP...\n");
		return 2;
	}
	guest_xcr0 = argv[2];
	next_step = argv + 3;
	kvm = open_kvm();
	pthread_barrier_init(&turn, NULL, 2);
	first_steps();
	vmm->main();
	return 0;
}
