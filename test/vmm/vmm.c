// SPDX-License-Identifier: MIT
// A scriptable VMM: each argument names a step, or is the value for the step before it. The VMM
// runs the steps in order, and prints a line for each step. The line has the step's name and value,
// then what the step yields: usually an ioctl's result, or the errno's name if the ioctl fails.
//
// For example, this command creates vCPU 0, sets its CPUID table (only function 0xd, with EAX 7),
// and loads a payload whose XSTATE_BV is 0x207:
//
//	vmm create 0  cpuid 0xd=0x7  set-xsave 0x207
//
// `vmm` without arguments lists the steps. If vmm is built with -DRAW_IOCTL, it makes each
// ioctl with syscall(SYS_ioctl), never with libc's ioctl().
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "errnos.h"
#include "kvm.h"

#define PAGE 4096
#define MAX_VCPUS 1024
#define TOO_MANY_ENTRIES 100000 // of a CPUID table; KVM accepts at most 256
#define GUEST_CODE 0x1000

// Byte offsets in a payload (an XSAVE buffer: Intel SDM vol. 1, 13.4), and its maximum size.
#define FCW 0
#define ST0 32
#define LEGACY_END 416
#define MAX_PAYLOAD (64 * 1024)

// Before each ioctl, do_ioctl() sets errno to this value, which no system call sets. If errno still
// has this value after a call, the call did not touch errno.
#define ERRNO_UNTOUCHED 3999

static char **next_arg;
// If several steps share a function, this is the ioctl request that the function makes for the
// present step: step_at() makes KVM_SET_CPUID2 for the step cpuid-at, KVM_SET_XCRS for set-xcrs-at.
static uint32_t request;
static int kvm_fd = -1, vm_fd = -1, vcpu_fd = -1;
static int vcpus[MAX_VCPUS];
static size_t payload_size = sizeof(struct kvm_xsave);
static bool wide;
#ifdef RAW_IOCTL
static bool raw = true;
#else
static bool raw;
#endif

static struct kvm_cpuid2 *cpuid_table;
static unsigned char *payload_end;
static unsigned char payload_before[MAX_PAYLOAD];

// All step functions have the same type, so some of them do not use their parameter.
#pragma GCC diagnostic ignored "-Wunused-parameter"

static void *map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		err(2, "mmap");
	return at;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (end == text || *end)
		errx(2, "%s: not a number", text);
	return value;
}

// Ends the text at the first separator and returns the text behind the separator. Returns NULL if
// the text has no separator.
static char *cut(char *text, const char *separators)
{
	char *at = text ? strpbrk(text, separators) : NULL;

	if (at)
		*at++ = '\0';
	return at;
}

static long do_ioctl(int fd, uint32_t nr, void *arg)
{
	unsigned long sent = wide ? nr | ~0xffffffffUL : nr;

	errno = ERRNO_UNTOUCHED;
	if (raw)
		return syscall(SYS_ioctl, fd, sent, arg);
#ifdef RAW_IOCTL
	errx(2, "step libc: this vmm is built with RAW_IOCTL, without libc's ioctl()");
#else
	return ioctl(fd, sent, arg);
#endif
}

static void print_result(long result)
{
	int error = errno;

	if (result == -1)
		printf(" %s", errno_name(error));
	else
		printf(" %ld%s", result, error == ERRNO_UNTOUCHED ? "" : " errno-touched");
}

static void print_call(int fd, uint32_t nr, void *arg)
{
	print_result(do_ioctl(fd, nr, arg));
}

static void select_fd(int fd)
{
	if (fd == -1)
		err(2, "%s", next_arg[-1]);
	vcpu_fd = fd;
	printf(" %d", fd);
}

// ---- virtual machines ----

static void need_kvm(void)
{
	if (kvm_fd == -1)
		kvm_fd = open_kvm();
}

static void step_vm(char *arg)
{
	need_kvm();
	vm_fd = (int)do_ioctl(kvm_fd, KVM_CREATE_VM, NULL);
	if (vm_fd == -1)
		err(2, "KVM_CREATE_VM");
}

static void step_create(char *id)
{
	uint64_t i = number(id);

	if (vm_fd == -1)
		step_vm(NULL);
	vcpu_fd = (int)do_ioctl(vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)i);
	print_result(vcpu_fd);
	if (i < MAX_VCPUS)
		vcpus[i] = vcpu_fd;
}

static void step_vcpu(char *id)
{
	uint64_t i = number(id);

	vcpu_fd = i < MAX_VCPUS ? vcpus[i] : 0;
	if (vcpu_fd <= 0)
		errx(2, "%s: no such vCPU was created", id);
}

static void step_supported(char *arg)
{
	need_kvm();
	cpuid_table->nent = KVM_CPUID_ENTRIES_MAX;
	print_call(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid_table);
	for (uint32_t i = 0; i < cpuid_table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid_table->entries[i];

		if (e->function == 0xd && e->index == 0)
			printf(" xcr0=0x%" PRIx64, (uint64_t)e->edx << 32 | e->eax);
	}
}

static void step_size(char *arg)
{
	long size;

	if (vm_fd == -1)
		step_vm(NULL);
	size = do_ioctl(vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_XSAVE2);
	print_result(size);
	if (size > MAX_PAYLOAD)
		errx(2, "KVM_CAP_XSAVE2: payloads are larger than vmm's buffer");
	if (size > (long)payload_size)
		payload_size = (size_t)size;
}

static void prepare_run(struct kvm_run **run)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = GUEST_CODE, .memory_size = PAGE};
	struct kvm_regs regs = {.rip = GUEST_CODE, .rflags = 2};
	struct kvm_sregs sregs;
	unsigned char *code = map(PAGE);
	long size = do_ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

	if (size <= 0)
		err(2, "KVM_GET_VCPU_MMAP_SIZE");
	memset(code, 0xf4, PAGE); // hlt
	region.userspace_addr = (uintptr_t)code;
	if (do_ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
		err(2, "KVM_SET_USER_MEMORY_REGION");
	if (do_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs))
		err(2, "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (do_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) || do_ioctl(vcpu_fd, KVM_SET_REGS, &regs))
		err(2, "KVM_SET_REGS");
	*run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	if (*run == MAP_FAILED)
		err(2, "kvm_run");
}

// Runs the selected vCPU until its guest executes hlt. All `run` steps must run the same vCPU,
// because only the first `run` prepares its vCPU.
static void step_run(char *arg)
{
	static struct kvm_run *run;

	if (!run)
		prepare_run(&run);
	print_call(vcpu_fd, KVM_RUN, NULL);
	printf(" exit=%s", run->exit_reason == KVM_EXIT_HLT ? "hlt" : "other");
}

// ---- CPUID ----

// LIST is a CPUID table: entries FUNCTION[.INDEX|:INDEX][=EDX:EAX[/ECX]], separated by commas, or
// "none" for an empty table. EDX:EAX is one 64-bit number. An entry with `.INDEX` has the flag
// KVM_CPUID_FLAG_SIGNIFCANT_INDEX; an entry with `:INDEX` does not have the flag.
static uint32_t parse_entries(char *list, struct kvm_cpuid_entry2 *entries)
{
	uint32_t count = 0;
	char *save;

	if (!strcmp(list, "none"))
		return 0;
	for (char *text = strtok_r(list, ",", &save); text; text = strtok_r(NULL, ",", &save)) {
		struct kvm_cpuid_entry2 *e = &entries[count++];
		char *index = strpbrk(text, ".:"), *value = cut(text, "="), *ecx = cut(value, "/");

		if (count > KVM_CPUID_ENTRIES_MAX)
			errx(2, "%s: too many CPUID entries (at most 256)", text);
		memset(e, 0, sizeof(*e));
		if (index && *index == '.')
			e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		index = cut(text, ".:");
		e->function = (uint32_t)number(text);
		e->index = index ? (uint32_t)number(index) : 0;
		e->eax = value ? (uint32_t)number(value) : 0;
		e->edx = value ? (uint32_t)(number(value) >> 32) : 0;
		e->ecx = ecx ? (uint32_t)number(ecx) : 0;
	}
	return count;
}

static void step_cpuid(char *list)
{
	cpuid_table->nent = parse_entries(list, cpuid_table->entries);
	print_call(vcpu_fd, KVM_SET_CPUID2, cpuid_table);
}

// Calls KVM_SET_CPUID2 with a CPUID table that ends directly in front of unreadable memory.
static void step_cpuid_edge(char *list)
{
	size_t size = 16 << 10;
	char *memory = map(2 * size);
	uint32_t nent = parse_entries(list, cpuid_table->entries);
	size_t length = sizeof(*cpuid_table) + nent * sizeof(cpuid_table->entries[0]);

	if (mprotect(memory + size, size, PROT_NONE))
		err(2, "cpuid-edge");
	cpuid_table->nent = nent;
	memcpy(memory + size - length, cpuid_table, length);
	print_call(vcpu_fd, KVM_SET_CPUID2, memory + size - length);
}

static void step_cpuid_too_many(char *list)
{
	parse_entries(list, cpuid_table->entries);
	cpuid_table->nent = TOO_MANY_ENTRIES;
	print_call(vcpu_fd, KVM_SET_CPUID2, cpuid_table);
}

static bool has_returned;

static void *set_cpuid_cancelled(void *arg)
{
	pthread_cancel(pthread_self());
	do_ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid_table);
	has_returned = true;
	pthread_testcancel();
	return arg;
}

static void step_cpuid_cancelled(char *list)
{
	pthread_t thread;

	cpuid_table->nent = parse_entries(list, cpuid_table->entries);
	if (pthread_create(&thread, NULL, set_cpuid_cancelled, NULL) || pthread_join(thread, NULL))
		errx(1, "cpuid-cancelled: cannot start a thread");
	printf(has_returned ? " returned" : " cancelled in ioctl()");
}

static void step_cpuid_null(char *arg)
{
	print_call(vcpu_fd, KVM_SET_CPUID2, NULL);
}

static void step_cpuid_v1(char *list)
{
	static struct {
		uint32_t nent, padding;
		struct kvm_cpuid_entry entries[KVM_CPUID_ENTRIES_MAX];
	} v1;

	v1.nent = parse_entries(list, cpuid_table->entries);
	for (uint32_t i = 0; i < v1.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid_table->entries[i];

		v1.entries[i] = (struct kvm_cpuid_entry){
			.function = e->function, .eax = e->eax, .ecx = e->ecx, .edx = e->edx};
	}
	print_call(vcpu_fd, KVM_SET_CPUID, &v1);
}

// Fills KVM_GET_CPUID2's buffer with the CPUID table LIST before the call.
static void step_get_cpuid(char *list)
{
	parse_entries(list, cpuid_table->entries);
	cpuid_table->nent = KVM_CPUID_ENTRIES_MAX;
	print_call(vcpu_fd, KVM_GET_CPUID2, cpuid_table);
	printf(" nent=%u", cpuid_table->nent);
	for (uint32_t i = 0; i < cpuid_table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid_table->entries[i];

		if (e->function == 0xd)
			printf(" 0xd.%u=0x%" PRIx64, e->index, (uint64_t)e->edx << 32 | e->eax);
	}
}

// ---- XSAVE payloads ----

static void fill_payload(unsigned char *payload)
{
	memset(payload, 0, payload_size);
	payload[FCW] = 0x7f;
	payload[FCW + 1] = 0x03;
	set_mxcsr(payload, MXCSR_DEFAULT);
	for (size_t i = ST0; i < payload_size; i++)
		if (i < LEGACY_END || i >= XSAVE_EXTENDED)
			payload[i] = (unsigned char)(i * 7 + 1);
}

static void apply_option(unsigned char *payload, char *option)
{
	char *value = cut(option, "=");
	uint64_t xcomp_bv;

	if (!value)
		errx(2, "%s: no such payload option", option);
	if (!strcmp(option, "xcomp_bv")) {
		xcomp_bv = number(value);
		memcpy(payload + XCOMP_BV, &xcomp_bv, sizeof(xcomp_bv));
	} else if (!strcmp(option, "reserved") && number(value) < XSAVE_EXTENDED - XSAVE_RESERVED) {
		payload[XSAVE_RESERVED + number(value)] = 1;
	} else if (!strcmp(option, "mxcsr")) {
		set_mxcsr(payload, (uint32_t)number(value));
	} else {
		errx(2, "%s: no such payload option", option);
	}
}

static void protect_payload(int protection)
{
	unsigned char *start = payload_end - MAX_PAYLOAD - PAGE;

	if (mprotect(start, MAX_PAYLOAD + PAGE, protection))
		err(2, "mprotect");
}

// Prints the payload's XSTATE_BV, and whether the ioctl changed a byte outside XSTATE_BV.
// payload_before is a copy of the payload from before the ioctl.
static void print_payload(const unsigned char *payload)
{
	size_t i;

	for (i = 0; i < payload_size; i++)
		if (payload[i] != payload_before[i] && (i < XSTATE_BV || i >= XCOMP_BV))
			break;
	printf(" xstate_bv=0x%" PRIx64, get_xstate_bv(payload));
	if (i == payload_size)
		printf(" rest=same");
	else
		printf(" rest=changed-at-%zu", i);
}

// SPEC is XSTATE_BV[,xcomp_bv=N][,reserved=BYTE][,mxcsr=N][,shift=BYTES][,readonly]. Without
// `shift`, the payload ends directly in front of unreadable memory. `shift` makes the payload's
// address lower by BYTES, for example to make it unaligned.
static unsigned char *make_payload(char *spec, bool *readonly)
{
	unsigned char *payload = payload_end - payload_size;
	char *save, *option = strtok_r(spec, ",", &save);
	uint64_t xstate_bv = number(option);
	char *options[8] = {NULL};
	size_t count = 0;

	while ((option = strtok_r(NULL, ",", &save))) {
		if (!strcmp(option, "readonly"))
			*readonly = true;
		else if (!strncmp(option, "shift=", 6))
			payload -= number(option + 6) % PAGE;
		else if (count < sizeof(options) / sizeof(options[0]))
			options[count++] = option;
	}
	fill_payload(payload);
	set_xstate_bv(payload, xstate_bv);
	for (size_t i = 0; i < count; i++)
		apply_option(payload, options[i]);
	memcpy(payload_before, payload, payload_size);
	return payload;
}

static void step_payload(char *spec)
{
	bool readonly = false;
	unsigned char *payload = make_payload(spec, &readonly);

	if (readonly)
		protect_payload(PROT_READ);
	print_call(vcpu_fd, request, payload);
	print_payload(payload);
	if (readonly)
		protect_payload(PROT_READ | PROT_WRITE);
}

static void step_set_xcrs(char *value)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = number(value)}}};

	print_call(vcpu_fd, KVM_SET_XCRS, &xcrs);
}

// LIST is INDEX=VALUE,...
static void step_set_msrs(char *list)
{
	static struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[300];
	} msrs;
	char *save;

	memset(&msrs, 0, sizeof(msrs));
	for (char *text = strtok_r(list, ",", &save); text; text = strtok_r(NULL, ",", &save)) {
		struct kvm_msr_entry *entry = &msrs.entries[msrs.head.nmsrs++];
		char *value = cut(text, "=");

		if (msrs.head.nmsrs > sizeof(msrs.entries) / sizeof(msrs.entries[0]))
			errx(2, "%s: too many MSRs (at most 300)", text);
		entry->index = (uint32_t)number(text);
		entry->data = value ? number(value) : 0;
	}
	print_call(vcpu_fd, KVM_SET_MSRS, &msrs);
}

// LIST is CR0,CR4,EFER,APIC_BASE. Each field is a number or empty. An empty field keeps the vCPU's
// present value.
static void step_set_sregs(char *list)
{
	struct kvm_sregs sregs = {0};
	struct kvm_sregs2 sregs2 = {0};
	__u64 *values[] = {&sregs.cr0, &sregs.cr4, &sregs.efer, &sregs.apic_base};

	do_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
	for (size_t i = 0; list && i < 4; i++) {
		char *rest = cut(list, ",");

		if (*list)
			*values[i] = number(list);
		list = rest;
	}
	memcpy(&sregs2, &sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
	print_call(vcpu_fd, request, request == KVM_SET_SREGS ? (void *)&sregs : (void *)&sregs2);
}

static void step_pid(char *arg)
{
	printf(" %d", getpid());
}

// Makes an ioctl with the given request number and the address of a payload. Prints whether the
// call changed the payload.
static void step_ioctl(char *other_request)
{
	char spec[] = "0xffffffffffffffff";

	request = (uint32_t)number(other_request);
	step_payload(spec);
}

static void step_at(char *address)
{
	print_call(vcpu_fd, request, (void *)(uintptr_t)number(address));
}

static void step_get_payload(char *arg)
{
	unsigned char *payload = payload_end - payload_size;
	uint64_t hash = 14695981039346656037U; // FNV-1a

	memset(payload, 0xa5, payload_size);
	print_call(vcpu_fd, request, payload);
	for (size_t i = 0; i < payload_size; i++)
		if (i < XSTATE_BV || i >= XCOMP_BV)
			hash = (hash ^ payload[i]) * 1099511628211U;
	printf(" xstate_bv=0x%" PRIx64 " rest=%016" PRIx64, get_xstate_bv(payload), hash);
}

// ---- descriptors ----

static void step_fd(char *fd)
{
	vcpu_fd = (int)strtol(fd, NULL, 0);
}

static void step_file(char *path)
{
	select_fd(open(path, O_RDWR | O_CLOEXEC));
}

static void step_dup(char *arg)
{
	select_fd(fcntl(vcpu_fd, F_DUPFD_CLOEXEC, 0));
}

static void step_dup_to(char *fd)
{
	uint64_t wanted = number(fd);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		err(2, "getrlimit");
	if (limit.rlim_cur <= wanted) {
		limit.rlim_cur = wanted + 1;
		if (limit.rlim_max < limit.rlim_cur)
			limit.rlim_max = limit.rlim_cur;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			err(2, "setrlimit(RLIMIT_NOFILE)");
	}
	select_fd(dup3(vcpu_fd, (int)wanted, O_CLOEXEC));
}

static void step_close(char *arg)
{
	if (close(vcpu_fd))
		err(2, "close");
}

// ---- steps that change how later steps run ----

static void step_raw(char *arg)
{
	raw = true;
}

static void step_libc(char *arg)
{
	raw = false;
}

static void step_wide(char *arg)
{
	wide = true;
}

// Calls access(2) with the path /mark-NAME, which does not exist. In a trace of system calls, this
// call shows when the step ran.
static void step_mark(char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/mark-%s", name);
	(void)access(path, F_OK);
}

static void step_pause(char *arg)
{
	char byte;

	printf("\n");
	while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n')
		;
}

static void run_steps(void);

// Returns only in the child, which then runs the later steps. The parent waits for the child, and
// exits with the child's status.
static void go_on_in_child(pid_t pid)
{
	int status;

	if (pid == -1)
		err(2, "fork");
	if (!pid)
		return;
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		errx(2, "fork: %s", strsignal(WTERMSIG(status)));
	exit(WEXITSTATUS(status));
}

static void step_fork(char *arg)
{
	printf("\n");
	// Calls libc's fork() and not the system call, because only libc's fork() makes libc's
	// locks usable in the child.
	go_on_in_child(fork());
}

static void step_helper(char *arg)
{
	printf("\n");
	go_on_in_child((pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL));
}

static void step_vfork(char *arg)
{
	pid_t pid;

	printf("\n");
	pid = vfork();
	if (pid == -1)
		err(2, "vfork");
	if (pid)
		exit(0);
	run_steps();
	_exit(0);
}

static void step_exec(char *arg)
{
	char *args[256] = {"vmm", "fd"}, fd[16];
	size_t count = 2;

	printf("\n");
	snprintf(fd, sizeof(fd), "%d", vcpu_fd);
	args[count++] = fd;
	while (*next_arg && count < 255)
		args[count++] = *next_arg++;
	if (fcntl(vcpu_fd, F_SETFD, 0))
		err(2, "fcntl");
	execv("/proc/self/exe", args);
	err(2, "/proc/self/exe");
}

static void *thread_main(void *arg)
{
	run_steps();
	return arg;
}

static _Noreturn void run_in_thread(const pthread_attr_t *attributes)
{
	pthread_t thread;

	printf("\n");
	if (pthread_create(&thread, attributes, thread_main, NULL) || pthread_join(thread, NULL))
		errx(2, "cannot start a thread");
	exit(0);
}

static void step_thread(char *arg)
{
	run_in_thread(NULL);
}

static void step_small_thread(char *arg)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 16384);
	run_in_thread(&attributes);
}

static void on_signal(int number)
{
	(void)number;
	run_steps();
}

static void step_signal(char *arg)
{
	printf("\n");
	signal(SIGUSR1, on_signal);
	raise(SIGUSR1);
	exit(0);
}

// After this step, a seccomp filter allows only ioctl, write, writev, fstat (not newfstatat), exit
// and exit_group. Any other system call kills the process.
static void step_confine(char *arg)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fstat, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_writev, 3, 0), // musl's stdio needs writev
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		err(2, "confine");
}

// ---- the list ----

static const struct step {
	const char *name;
	const char *arg; // NULL: the step takes no argument
	void (*run)(char *arg);
	const char *what;
	uint32_t request;
} steps[] = {
	{"vm", NULL, step_vm, "create a VM; if none exists, `create` and `size` do so", 0},
	{"create", "ID", step_create, "create vCPU ID in the latest VM, and select this vCPU", 0},
	{"vcpu", "ID", step_vcpu, "select the vCPU that the latest `create ID` created", 0},
	{"supported", NULL, step_supported, "KVM_GET_SUPPORTED_CPUID", 0},
	{"size", NULL, step_size, "KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2); sets the size of payloads",
	 0},
	{"run", NULL, step_run, "KVM_RUN of a guest that executes hlt", 0},
	{"cpuid", "LIST", step_cpuid,
	 "KVM_SET_CPUID2; LIST is FUNCTION[.INDEX|:INDEX][=EDX:EAX[/ECX]],... or `none`", 0},
	{"cpuid-v1", "LIST", step_cpuid_v1, "KVM_SET_CPUID", 0},
	{"cpuid-too-many", "LIST", step_cpuid_too_many,
	 "KVM_SET_CPUID2 with an nent above KVM's limit of 256", 0},
	{"cpuid-edge", "LIST", step_cpuid_edge,
	 "KVM_SET_CPUID2 of a table at the end of readable memory", 0},
	{"cpuid-at", "ADDRESS", step_at, "KVM_SET_CPUID2(ADDRESS)", KVM_SET_CPUID2},
	{"cpuid-cancelled", "LIST", step_cpuid_cancelled,
	 "KVM_SET_CPUID2 on a thread that has a cancellation pending", 0},
	{"cpuid-null", NULL, step_cpuid_null, "KVM_SET_CPUID2(NULL)", 0},
	{"get-cpuid", "LIST", step_get_cpuid, "KVM_GET_CPUID2 into a buffer that holds LIST", 0},
	{"set-xsave", "SPEC", step_payload,
	 "KVM_SET_XSAVE: XSTATE_BV[,xcomp_bv=N][,reserved=BYTE][,mxcsr=N][,shift=BYTES][,readonly]",
	 KVM_SET_XSAVE},
	{"set-xsave-at", "ADDRESS", step_at, "KVM_SET_XSAVE(ADDRESS)", KVM_SET_XSAVE},
	{"get-xsave", NULL, step_get_payload, "KVM_GET_XSAVE", KVM_GET_XSAVE},
	{"get-xsave2", NULL, step_get_payload, "KVM_GET_XSAVE2", KVM_GET_XSAVE2},
	{"get-xsave-at", "ADDRESS", step_at, "KVM_GET_XSAVE(ADDRESS)", KVM_GET_XSAVE},
	{"set-xcrs", "XCR0", step_set_xcrs, "KVM_SET_XCRS with this XCR0", 0},
	{"set-xcrs-at", "ADDRESS", step_at, "KVM_SET_XCRS(ADDRESS)", KVM_SET_XCRS},
	{"set-msrs", "LIST", step_set_msrs, "KVM_SET_MSRS: INDEX=VALUE,...", 0},
	{"set-sregs", "LIST", step_set_sregs, "KVM_SET_SREGS: [CR0],[CR4],[EFER],[APIC_BASE]",
	 KVM_SET_SREGS},
	{"set-sregs2", "LIST", step_set_sregs, "KVM_SET_SREGS2; LIST as for set-sregs",
	 KVM_SET_SREGS2},
	{"pid", NULL, step_pid, "print the pid", 0},
	{"ioctl", "REQUEST", step_ioctl, "the ioctl REQUEST, with the address of a payload", 0},
	{"fd", "FD", step_fd, "select a descriptor by number", 0},
	{"file", "PATH", step_file, "open a file and select its descriptor", 0},
	{"dup", NULL, step_dup, "select a duplicate of the selected descriptor", 0},
	{"dup-to", "FD", step_dup_to, "like `dup`, but the duplicate gets the number FD", 0},
	{"close", NULL, step_close, "close the selected descriptor", 0},
	{"raw", NULL, step_raw, "from here on: syscall(SYS_ioctl), not libc's ioctl()", 0},
	{"libc", NULL, step_libc, "from here on: libc's ioctl(), not syscall(SYS_ioctl)", 0},
	{"wide", NULL, step_wide, "from here on: set the upper 32 bits of ioctl requests", 0},
	{"mark", "NAME", step_mark, "access(\"/mark-NAME\")", 0},
	{"pause", NULL, step_pause, "wait for a line on standard input", 0},
	{"fork", NULL, step_fork, "run the later steps in a child", 0},
	{"vfork", NULL, step_vfork, "like `fork`, but the child shares the memory", 0},
	{"helper", NULL, step_helper, "like `fork`, but the child shares the descriptors", 0},
	{"exec", NULL, step_exec, "exec vmm with the later steps and the selected descriptor", 0},
	{"thread", NULL, step_thread, "run the later steps on a new thread", 0},
	{"small-thread", NULL, step_small_thread, "like `thread`, with a stack of 16 KiB", 0},
	{"signal", NULL, step_signal, "run the later steps in a signal handler", 0},
	{"confine", NULL, step_confine,
	 "from here on: only ioctl, write, writev, fstat, exit, exit_group work", 0},
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

static void run_step(void)
{
	const char *name = *next_arg++;
	const struct step *step = steps;
	char *arg = NULL;

	while (strcmp(step->name, name))
		if (++step == steps + STEPS)
			errx(2, "%s: no such step (vmm without arguments lists the steps)", name);
	printf("%s", name);
	if (step->arg) {
		arg = *next_arg++;
		if (!arg)
			errx(2, "%s: its argument is missing", name);
		printf(" %s", arg);
	}
	printf(":");
	request = step->request;
	step->run(arg);
	printf("\n");
}

static void run_steps(void)
{
	while (*next_arg)
		run_step();
}

int main(int argc, char **argv)
{
	// With this buffer, stdio need not allocate memory after the step `confine`, whose filter
	// forbids the system calls of malloc().
	static char buffer[BUFSIZ];

	if (argc < 2) {
		for (const struct step *s = steps; s < steps + STEPS; s++)
			printf("%-14s %-8s %s\n", s->name, s->arg ? s->arg : "", s->what);
		return 2;
	}
	setvbuf(stdout, buffer, _IOLBF, sizeof(buffer));
	cpuid_table =
		map(sizeof(*cpuid_table) + TOO_MANY_ENTRIES * sizeof(cpuid_table->entries[0]));
	payload_end = (unsigned char *)map(MAX_PAYLOAD + 2 * PAGE) + MAX_PAYLOAD + PAGE;
	if (mprotect(payload_end, PAGE, PROT_NONE))
		err(2, "mprotect");
	next_arg = argv + 1;
	run_steps();
	return 0;
}
