// SPDX-License-Identifier: MIT
// xsaveshim probe: does this host refuse leaked xfeatures, does it leak some? KVM itself is asked, through a VM
// of one page and one vCPU that is gone when the process ends.
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>
#include <linux/kvm.h>

#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/xstate.h"

#define DEVICE "/dev/kvm"
#define LOAD_KVM                                                                                             \
	"load the module kvm_intel or kvm_amd, with virtualization enabled in the firmware (in a virtual "   \
	"machine: nested virtualization on its host)"

#define NOTHING_TO_SHOW "KVM supports no xfeature beyond x87 and SSE here that could show it"
#define KVM_GIVES "this KVM changes CPUID tables: a guest whose table is empty has "

#define GUEST_PAGE 4096
// Where a processor fetches its first instruction, and room that a guest of one page does not use
// (KVM_SET_TSS_ADDR).
#define RESET_PAGE 0xfffff000
#define TSS_ADDRESS 0xfffbd000
#define HLT 0xf4

// The values of JSON's "verdict" and the exit status.
enum verdict { UNAFFECTED, AFFECTED, UNKNOWN };

struct answer {
	const char *text; // NULL until it is known
	char reason[640]; // why this is the answer, with the remedy where KVM could not be asked
};

struct probe {
	struct utsname host;
	uint64_t host_xcr0;
	uint64_t kvm_xcr0; // what KVM supports; 0: not known
	uint64_t leaked;
	struct answer refuses; // "no", "affected", "affected-strict", "unknown"
	struct answer leaks;   // "no", "yes", "unknown"
};

struct vm {
	int kvm;
	int vm;
	int vcpu;
	struct kvm_run *run;
	char *payload;
	size_t payload_size;
};

// What there was to learn from a guest that has an xfeature beyond x87 and SSE, before it was taken away.
struct control {
	uint64_t xfeature; // 0: KVM supports none
	int error;	   // of loading it
	bool shown;	   // KVM_GET_XSAVE returned it
};

struct names {
	char text[512];
};

// The first answer stands.
__attribute__((format(printf, 3, 4))) static void set_answer(struct answer *answer, const char *text,
							     const char *format, ...)
{
	va_list arguments;

	if (answer->text)
		return;
	answer->text = text;
	va_start(arguments, format);
	vsnprintf(answer->reason, sizeof(answer->reason), format, arguments);
	va_end(arguments);
}

static void cannot_tell(struct probe *probe, const char *reason)
{
	set_answer(&probe->refuses, "unknown", "%s", reason);
	set_answer(&probe->leaks, "unknown", "%s", reason);
}

static bool failed(struct probe *probe, const char *call)
{
	char reason[128];

	snprintf(reason, sizeof(reason), "%s: %s: see what the kernel's log says (dmesg)", call,
		 strerror(errno));
	cannot_tell(probe, reason);
	return false;
}

static struct names xfeature_names(uint64_t xfeatures)
{
	struct names names = {""};
	size_t used = 0;

	for (unsigned int bit = 0; bit < 64; bit++) {
		char number[8];

		if (!(xfeatures >> bit & 1))
			continue;
		snprintf(number, sizeof(number), "bit%u", bit);
		used += (size_t)snprintf(names.text + used, sizeof(names.text) - used, "%s%s",
					 used ? "," : "", xfeature_name(bit) ? xfeature_name(bit) : number);
	}
	return names;
}

// Past libc: where the shim is preloaded into every program, it must not answer in the kernel's place.
static int kvm_ioctl(int fd, unsigned long request, const void *argument)
{
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

static void explain_no_device(struct probe *probe)
{
	struct group *group;
	struct stat device;
	char reason[256];

	if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
		cannot_tell(probe, "no " DEVICE ": " LOAD_KVM "; a container has to be given the device");
		return;
	}
	if (errno != EACCES || stat(DEVICE, &device)) {
		snprintf(reason, sizeof(reason), DEVICE ": %s: run this as root, outside of any container",
			 strerror(errno));
		cannot_tell(probe, reason);
		return;
	}
	group = (device.st_mode & 060) == 060 ? getgrgid(device.st_gid) : NULL;
	snprintf(reason, sizeof(reason), "no permission to open " DEVICE ": run this as root%s%s",
		 group ? " or as a member of the group " : "", group ? group->gr_name : "");
	cannot_tell(probe, reason);
}

static bool open_device(struct probe *probe, struct vm *vm)
{
	static struct guest_cpuid table;

	vm->kvm = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0) {
		explain_no_device(probe);
		return false;
	}
	if (kvm_ioctl(vm->kvm, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION) {
		cannot_tell(probe, DEVICE " is not KVM's: remove it, " LOAD_KVM);
		return false;
	}
	table.nent = GUEST_CPUID_MAX_ENTRIES;
	if (kvm_ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &table))
		return failed(probe, "KVM_GET_SUPPORTED_CPUID");
	probe->kvm_xcr0 = guest_cpuid_xcr0(table.entries, table.nent);
	return true;
}

static void *map(size_t size, int fd)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
}

// A guest whose first instruction, and every other, is HLT.
static bool create_guest(struct probe *probe, struct vm *vm)
{
	struct kvm_userspace_memory_region memory = {.guest_phys_addr = RESET_PAGE,
						     .memory_size = GUEST_PAGE};
	void *code = map(GUEST_PAGE, -1);
	int size;

	if (code == MAP_FAILED)
		return failed(probe, "mmap");
	memset(code, HLT, GUEST_PAGE);
	memory.userspace_addr = (uintptr_t)code;
	vm->vm = kvm_ioctl(vm->kvm, KVM_CREATE_VM, NULL);
	if (vm->vm < 0)
		return failed(probe, "KVM_CREATE_VM");
	if (kvm_ioctl(vm->vm, KVM_SET_TSS_ADDR, (const void *)TSS_ADDRESS))
		return failed(probe, "KVM_SET_TSS_ADDR");
	if (kvm_ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &memory))
		return failed(probe, "KVM_SET_USER_MEMORY_REGION");
	vm->vcpu = kvm_ioctl(vm->vm, KVM_CREATE_VCPU, NULL);
	if (vm->vcpu < 0)
		return failed(probe, "KVM_CREATE_VCPU");
	size = kvm_ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (size <= 0)
		return failed(probe, "KVM_GET_VCPU_MMAP_SIZE");
	vm->run = map((size_t)size, vm->vcpu);
	if (vm->run == MAP_FAILED)
		return failed(probe, "mmap of the vCPU");
	return true;
}

static bool create_payload(struct probe *probe, struct vm *vm)
{
	int size = kvm_ioctl(vm->vm, KVM_CHECK_EXTENSION, (const void *)KVM_CAP_XSAVE2);

	vm->payload_size = size > (int)sizeof(struct kvm_xsave) ? (size_t)size : sizeof(struct kvm_xsave);
	vm->payload = map(vm->payload_size, -1);
	return vm->payload != MAP_FAILED || failed(probe, "mmap");
}

// A guest that has just these xfeatures; with none, its CPUID is empty.
static bool set_guest_xcr0(struct vm *vm, uint64_t xcr0)
{
	struct guest_cpuid table = {0};

	if (xcr0)
		guest_cpuid_widen(&table, xcr0);
	return !kvm_ioctl(vm->vcpu, KVM_SET_CPUID2, &table);
}

// What the guest has according to KVM, which may have changed the table that it was given.
static bool get_guest_xcr0(struct vm *vm, uint64_t *xcr0)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};

	if (kvm_ioctl(vm->vcpu, KVM_GET_CPUID2, &table))
		return false;
	*xcr0 = guest_cpuid_xcr0(table.entries, guest_cpuid_count(&table));
	return true;
}

// Returns 0 or an errno. No component is all zeroes, so that each that is loaded is in use.
static int set_xsave(struct vm *vm, uint64_t xstate_bv)
{
	const uint32_t mxcsr = 0x1f80;

	memset(vm->payload, 1, vm->payload_size);
	memset(vm->payload + XSTATE_BV_OFFSET, 0, XSTATE_HEAD_SIZE - XSTATE_BV_OFFSET);
	memcpy(vm->payload + XSTATE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	xstate_set_bv(vm->payload, xstate_bv);
	return kvm_ioctl(vm->vcpu, KVM_SET_XSAVE, vm->payload) ? errno : 0;
}

static bool get_xstate_bv(struct vm *vm, uint64_t *bv)
{
	bool fits = vm->payload_size == sizeof(struct kvm_xsave);

	if (kvm_ioctl(vm->vcpu, fits ? KVM_GET_XSAVE : KVM_GET_XSAVE2, vm->payload))
		return false;
	*bv = xstate_bv(vm->payload);
	return true;
}

// The lowest xfeature is AVX on any CPU of today, and needs no permission as AMX does.
static bool ask_control(struct probe *probe, struct vm *vm, struct control *control)
{
	uint64_t beyond = probe->kvm_xcr0 & ~XFEATURE_FPSSE;
	uint64_t bv;

	control->xfeature = beyond & -beyond;
	if (!set_guest_xcr0(vm, XFEATURE_FPSSE | control->xfeature))
		return failed(probe, "KVM_SET_CPUID2");
	control->error = set_xsave(vm, XFEATURE_FPSSE | control->xfeature);
	if (!get_xstate_bv(vm, &bv))
		return failed(probe, "KVM_GET_XSAVE");
	control->shown = bv & control->xfeature;
	return true;
}

// Runs the guest to its HLT, as what the kernel leaks may get into the vCPU's state only there.
static bool run_guest(struct vm *vm, const char **problem)
{
	if (kvm_ioctl(vm->vcpu, KVM_RUN, NULL))
		*problem = strerror(errno);
	else if (vm->run->exit_reason != KVM_EXIT_HLT)
		*problem = "the guest did not come to its HLT";
	else
		return true;
	return false;
}

static void judge_leaks(struct probe *probe, struct vm *vm, struct control control, uint64_t guest_xcr0)
{
	struct names names = xfeature_names(control.xfeature);
	const char *problem;
	bool ran = run_guest(vm, &problem);
	uint64_t bv;

	if (!get_xstate_bv(vm, &bv)) {
		failed(probe, "KVM_GET_XSAVE");
		return;
	}
	probe->leaked = bv & ~(guest_xcr0 | XFEATURE_FPSSE);
	if (probe->leaked)
		set_answer(&probe->leaks, "yes", "KVM_GET_XSAVE returned %s of a guest that has none of it",
			   xfeature_names(probe->leaked).text);
	else if (!ran)
		set_answer(&probe->leaks, "unknown", "KVM_RUN: %s: see what the kernel's log says (dmesg)",
			   problem);
	else if (!control.xfeature)
		set_answer(&probe->leaks, "unknown", NOTHING_TO_SHOW);
	else if (!control.shown)
		set_answer(&probe->leaks, "unknown", "KVM does not return %s of a guest that has it, either",
			   names.text);
	else if (control.xfeature & guest_xcr0)
		set_answer(&probe->leaks, "unknown", KVM_GIVES "%s", names.text);
	else
		set_answer(&probe->leaks, "no", "KVM_GET_XSAVE drops %s, which the guest does not have",
			   names.text);
}

static void judge_refuses(struct probe *probe, struct vm *vm, struct control control, uint64_t guest_xcr0)
{
	struct names names = xfeature_names(control.xfeature);
	int error = control.xfeature ? set_xsave(vm, control.xfeature) : 0;
	int fpsse_error = set_xsave(vm, XFEATURE_FPSSE);

	if (control.error)
		set_answer(&probe->refuses, "unknown",
			   "KVM_SET_XSAVE fails for a guest that has all of it, too: %s",
			   strerror(control.error));
	else if (fpsse_error == EINVAL)
		set_answer(&probe->refuses, "affected-strict",
			   "KVM_SET_XSAVE refuses even %s to a guest without XSAVE",
			   xfeature_names(XFEATURE_FPSSE).text);
	else if (error == EINVAL)
		set_answer(&probe->refuses, "affected",
			   "KVM_SET_XSAVE refuses %s to a guest that does not have it", names.text);
	else if (error || fpsse_error)
		set_answer(&probe->refuses, "unknown", "KVM_SET_XSAVE: %s",
			   strerror(error ? error : fpsse_error));
	else if (!control.xfeature)
		set_answer(&probe->refuses, "unknown", NOTHING_TO_SHOW);
	else if (control.xfeature & guest_xcr0)
		set_answer(&probe->refuses, "unknown", KVM_GIVES "%s", names.text);
	else
		set_answer(&probe->refuses, "no", "KVM_SET_XSAVE takes %s, which the guest does not have",
			   names.text);
}

static void ask_kvm(struct probe *probe)
{
	struct control control = {0};
	uint64_t guest_xcr0;
	struct vm vm;

	if (!open_device(probe, &vm) || !create_guest(probe, &vm) || !create_payload(probe, &vm) ||
	    !ask_control(probe, &vm, &control))
		return;
	if (!set_guest_xcr0(&vm, 0))
		failed(probe, "KVM_SET_CPUID2");
	else if (!get_guest_xcr0(&vm, &guest_xcr0))
		failed(probe, "KVM_GET_CPUID2");
	else {
		judge_leaks(probe, &vm, control, guest_xcr0);
		judge_refuses(probe, &vm, control, guest_xcr0);
	}
}

static bool is_refusing(const struct probe *probe)
{
	return !strncmp(probe->refuses.text, "affected", strlen("affected"));
}

static enum verdict verdict(const struct probe *probe)
{
	if (is_refusing(probe) || !strcmp(probe->leaks.text, "yes"))
		return AFFECTED;
	return strcmp(probe->refuses.text, "no") || strcmp(probe->leaks.text, "no") ? UNKNOWN : UNAFFECTED;
}

static const char *const verdict_names[] = {
	[UNAFFECTED] = "unaffected", [AFFECTED] = "affected", [UNKNOWN] = "unknown"};

static json_t *hex(uint64_t value)
{
	return json_sprintf("0x%" PRIx64, value);
}

static void print_json(const struct probe *probe)
{
	json_t *json = json_pack("{s:s, s:o, s:o?, s:s, s:s, s:o, s:{s:s, s:s}, s:s}",
				 "kernel", probe->host.release,
				 "host_xcr0", hex(probe->host_xcr0),
				 "kvm_supported_xcr0", probe->kvm_xcr0 ? hex(probe->kvm_xcr0) : NULL,
				 "refuses", probe->refuses.text,
				 "leaks", probe->leaks.text,
				 "leaked", hex(probe->leaked),
				 "reason", "refuses", probe->refuses.reason, "leaks", probe->leaks.reason,
				 "verdict", verdict_names[verdict(probe)]);

	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(json);
}

static const char *remedy(const struct probe *probe)
{
	bool leaks = !strcmp(probe->leaks.text, "yes");

	switch (verdict(probe)) {
	case UNAFFECTED:
		return "; what KVM does not support no kernel takes: there the shim helps here, too";
	case AFFECTED:
		if (!is_refusing(probe))
			return ": start VMMs here with XSAVESHIM_TRIM=save, or under the shim where their "
			       "guests go";
		return leaks ? ": start VMMs under the shim, with XSAVESHIM_TRIM=both"
			     : ": start VMMs under the shim";
	case UNKNOWN:
		break;
	}
	return "";
}

static void print_text(const struct probe *probe)
{
	bool same = !strcmp(probe->refuses.reason, probe->leaks.reason);

	printf("kernel        %s\n", probe->host.release);
	printf("host XCR0     0x%" PRIx64 " (%s)\n", probe->host_xcr0, xfeature_names(probe->host_xcr0).text);
	if (probe->kvm_xcr0)
		printf("KVM supports  0x%" PRIx64 " (%s)\n", probe->kvm_xcr0,
		       xfeature_names(probe->kvm_xcr0).text);
	printf("refuses       %s: %s\n", probe->refuses.text, probe->refuses.reason);
	printf("leaks         %s: %s\n", probe->leaks.text,
	       same ? "for the same reason" : probe->leaks.reason);
	printf("verdict       %s%s\n", verdict_names[verdict(probe)], remedy(probe));
}

static const char help[] =
	"usage: xsaveshim probe [--json]\n"
	"\n"
	"Asks this host's KVM whether it refuses xfeatures that a guest does not have,\n"
	"and whether it leaks some.\n"
	"\n"
	"Exit status: 0 it does neither, 1 it does one or both, 2 cannot tell.\n";

int probe_main(int argc, char **argv)
{
	struct probe probe = {.host_xcr0 = xstate_host_xcr0()};
	bool json;
	int ended = json_option(argc, argv, help, &json);

	if (ended >= 0)
		return ended;
	uname(&probe.host);
	ask_kvm(&probe);
	if (json)
		print_json(&probe);
	else
		print_text(&probe);
	return verdict(&probe);
}
