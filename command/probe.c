// SPDX-License-Identifier: MIT
// xsaveshim probe: finds out whether this host's KVM refuses leaked xfeatures, and whether it leaks
// some, by experiments with a VM of one page and one vCPU. The VM ends with this process.
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

#include "shared/probe_vm.h"
#include "host_helper.h"
#include "options.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/xstate.h"

// From arch/x86/include/uapi/asm/prctl.h, which some distributions have without it.
#define ARCH_GET_XCOMP_GUEST_PERM 0x1024

#define DEVICE "/dev/kvm"
#define LOAD_KVM \
	"load the module kvm_intel or kvm_amd, with virtualization enabled in the firmware (in a virtual machine: nested virtualization on its host)"

#define NOTHING_TO_SHOW \
	"KVM supports no xfeature beyond x87 and SSE on this host, so there is none to try it with"
#define KVM_GIVES "this KVM changes CPUID tables: a guest whose table enumerates no XCR0 has "

#define GUEST_PAGE 4096
// A processor fetches its first instruction from this page. KVM_SET_TSS_ADDR needs an address that
// the guest does not use.
#define RESET_PAGE 0xfffff000
#define TSS_ADDRESS 0xfffbd000
#define HLT 0xf4

// The exit status.
enum verdict { VERDICT_UNAFFECTED, VERDICT_AFFECTED, VERDICT_UNKNOWN };

static const char *const verdict_names[] = {[VERDICT_UNAFFECTED] = "unaffected",
					    [VERDICT_AFFECTED] = "affected",
					    [VERDICT_UNKNOWN] = "unknown"};

// STRICTLY: KVM refuses even x87 and SSE.
enum finding { PENDING, NO, YES, STRICTLY, UNKNOWN };

static const char *const refuses_names[] = {
	[NO] = "no", [YES] = "affected", [STRICTLY] = "affected-strict", [UNKNOWN] = "unknown"};
static const char *const leaks_names[] = {[NO] = "no", [YES] = "yes", [UNKNOWN] = "unknown"};

struct answer {
	enum finding finding;
	char reason[640]; // if KVM could not be probed, also says what to do
};

struct probe {
	struct utsname host;
	uint64_t host_xcr0;
	uint64_t kvm_xcr0;   // what KVM supports; 0: not known
	uint64_t permitted;  // what this process may give to guests; 0: not known
	size_t payload_size; // 0: not known
	uint64_t leaked;
	bool hidden; // the host mode clears xfeatures that KVM may leak
	bool cured;  // the host mode clears xfeatures that KVM would refuse
	struct answer refuses;
	struct answer leaks;
};

struct vm {
	struct probe_vm probe;
	struct kvm_run *run;
};

// The result of the control experiment: how KVM treats an xfeature that the guest has.
struct control {
	uint64_t xfeature; // 0: KVM supports none
	int error;	   // KVM_SET_XSAVE's errno, or 0
	bool returned;	   // KVM_GET_XSAVE returned it
};

struct names {
	char text[512];
};

// The first answer to a question stands.
__attribute__((format(printf, 3, 4))) static void
set_answer(struct answer *answer, enum finding finding, const char *format, ...)
{
	va_list arguments;

	if (answer->finding != PENDING)
		return;
	answer->finding = finding;
	va_start(arguments, format);
	vsnprintf(answer->reason, sizeof(answer->reason), format, arguments);
	va_end(arguments);
}

static void cannot_tell(struct probe *probe, const char *reason)
{
	set_answer(&probe->refuses, UNKNOWN, "%s", reason);
	set_answer(&probe->leaks, UNKNOWN, "%s", reason);
}

static bool failed(struct probe *probe, const char *call)
{
	char reason[128];

	snprintf(reason, sizeof(reason), "%s: %s: look in the kernel's log (dmesg)", call,
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
		used += (size_t)snprintf(
			names.text + used, sizeof(names.text) - used, "%s%s", used ? "," : "",
			xfeature_name(bit) ? xfeature_name(bit) : number);
	}
	return names;
}

static void explain_no_device(struct probe *probe)
{
	const struct group *group;
	struct stat device;
	char reason[256];

	if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
		cannot_tell(probe, "no " DEVICE ": " LOAD_KVM "; to a container, pass the device");
		return;
	}
	if (errno != EACCES || stat(DEVICE, &device)) {
		snprintf(reason, sizeof(reason),
			 DEVICE ": %s: run this as root, outside of any container",
			 strerror(errno));
		cannot_tell(probe, reason);
		return;
	}
	group = (device.st_mode & 060) == 060 ? getgrgid(device.st_gid) : NULL;
	snprintf(reason, sizeof(reason), "no permission to open " DEVICE ": run this as root%s%s",
		 group ? " or as a member of the group " : "", group ? group->gr_name : "");
	cannot_tell(probe, reason);
}

static bool open_device(struct probe *probe, struct probe_vm *vm)
{
	vm->kvm = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0) {
		explain_no_device(probe);
		return false;
	}
	if (probe_vm_ioctl(vm->kvm, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION) {
		cannot_tell(probe, DEVICE " is another device: remove it, " LOAD_KVM);
		return false;
	}
	return probe_vm_supported(vm, &probe->kvm_xcr0) || failed(probe, "KVM_GET_SUPPORTED_CPUID");
}

static void *map(size_t size, int fd)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0),
		    fd, 0);
}

// Creates a guest whose memory is full of HLT instructions.
static bool create_guest(struct probe *probe, struct vm *guest)
{
	struct kvm_userspace_memory_region memory = {
		.guest_phys_addr = RESET_PAGE, .memory_size = GUEST_PAGE};
	struct probe_vm *vm = &guest->probe;
	void *code = map(GUEST_PAGE, -1);
	int size;

	if (code == MAP_FAILED)
		return failed(probe, "mmap");
	memset(code, HLT, GUEST_PAGE);
	memory.userspace_addr = (uintptr_t)code;
	vm->vm = probe_vm_ioctl(vm->kvm, KVM_CREATE_VM, NULL);
	if (vm->vm < 0)
		return failed(probe, "KVM_CREATE_VM");
	if (probe_vm_ioctl(vm->vm, KVM_SET_TSS_ADDR, (const void *)TSS_ADDRESS))
		return failed(probe, "KVM_SET_TSS_ADDR");
	if (probe_vm_ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &memory))
		return failed(probe, "KVM_SET_USER_MEMORY_REGION");
	vm->vcpu = probe_vm_ioctl(vm->vm, KVM_CREATE_VCPU, NULL);
	if (vm->vcpu < 0)
		return failed(probe, "KVM_CREATE_VCPU");
	size = probe_vm_ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (size <= 0)
		return failed(probe, "KVM_GET_VCPU_MMAP_SIZE");
	guest->run = map((size_t)size, vm->vcpu);
	if (guest->run == MAP_FAILED)
		return failed(probe, "mmap of the vCPU");
	if (!probe_vm_make_payload(vm))
		return failed(probe, "mmap");
	probe->payload_size = vm->payload_size;
	return true;
}

// Returns the xfeatures that KVM should accept for a guest with this XCR0.
static uint64_t allowed_by(uint64_t guest_xcr0)
{
	return policy_allowed((struct vcpu){.knowledge = VCPU_XCR0, .guest_xcr0 = guest_xcr0});
}

// Loads a payload and returns 0 or KVM_SET_XSAVE's errno. The payload is read-only for that time,
// so that the host mode cannot trim it and the answer is KVM's.
static int set_xsave(const struct probe_vm *vm, uint64_t xstate_bv)
{
	int error;

	probe_vm_fill_payload(vm, xstate_bv);
	mprotect(vm->payload, vm->payload_size, PROT_READ);
	error = probe_vm_ioctl(vm->vcpu, KVM_SET_XSAVE, vm->payload) ? errno : 0;
	mprotect(vm->payload, vm->payload_size, PROT_READ | PROT_WRITE);
	return error;
}

// Loads and saves the lowest xfeature beyond x87 and SSE: on today's CPUs that is AVX, which unlike
// AMX needs no permission.
static bool probe_control(struct probe *probe, const struct probe_vm *vm, struct control *control)
{
	uint64_t beyond = probe->kvm_xcr0 & ~allowed_by(0);
	uint64_t bv;

	control->xfeature = beyond & -beyond;
	if (!probe_vm_set_guest_xcr0(vm, allowed_by(control->xfeature)))
		return failed(probe, "KVM_SET_CPUID2");
	control->error = set_xsave(vm, allowed_by(control->xfeature));
	if (!probe_vm_save(vm, &bv))
		return failed(probe, "KVM_GET_XSAVE");
	control->returned = bv & control->xfeature;
	return true;
}

// Runs the guest to its HLT: on some kernels a vCPU gets leaked xfeatures only when it runs.
static bool run_guest(const struct vm *vm, const char **problem)
{
	if (probe_vm_ioctl(vm->probe.vcpu, KVM_RUN, NULL))
		*problem = strerror(errno);
	else if (vm->run->exit_reason != KVM_EXIT_HLT)
		*problem = "the guest did not reach its HLT";
	else
		return true;
	return false;
}

static void judge_leaks(struct probe *probe, const struct vm *vm, struct control control,
			uint64_t guest_xcr0)
{
	struct names names = xfeature_names(control.xfeature);
	const char *problem;
	bool ran = run_guest(vm, &problem);
	uint64_t bv;

	if (!probe_vm_save(&vm->probe, &bv)) {
		failed(probe, "KVM_GET_XSAVE");
		return;
	}
	probe->leaked = bv & ~allowed_by(guest_xcr0);
	if (probe->leaked)
		set_answer(&probe->leaks, YES,
			   "KVM_GET_XSAVE returned %s, which the guest does not have",
			   xfeature_names(probe->leaked).text);
	else if (probe->hidden)
		set_answer(&probe->leaks, UNKNOWN, "not visible while `xsaveshim host` is active");
	else if (!ran)
		set_answer(&probe->leaks, UNKNOWN, "KVM_RUN: %s: look in the kernel's log (dmesg)",
			   problem);
	else if (!control.xfeature)
		set_answer(&probe->leaks, UNKNOWN, NOTHING_TO_SHOW);
	else if (!control.returned)
		set_answer(&probe->leaks, UNKNOWN,
			   "KVM_GET_XSAVE does not return %s even if the guest has it", names.text);
	else if (control.xfeature & guest_xcr0)
		set_answer(&probe->leaks, UNKNOWN, KVM_GIVES "%s", names.text);
	else
		set_answer(&probe->leaks, NO,
			   "KVM_GET_XSAVE leaves out %s, which the guest does not have",
			   names.text);
}

static void judge_refuses(struct probe *probe, const struct probe_vm *vm, struct control control,
			  uint64_t guest_xcr0)
{
	struct names names = xfeature_names(control.xfeature);
	int error = control.xfeature ? set_xsave(vm, control.xfeature) : 0;
	int fpsse_error = set_xsave(vm, allowed_by(0));

	if (control.error)
		set_answer(
			&probe->refuses, UNKNOWN,
			"KVM_SET_XSAVE fails even for a guest that has every xfeature of the payload: %s",
			strerror(control.error));
	else if (fpsse_error == EINVAL)
		set_answer(&probe->refuses, STRICTLY,
			   "KVM_SET_XSAVE refuses even %s to a guest without XSAVE",
			   xfeature_names(allowed_by(0)).text);
	else if (error == EINVAL)
		set_answer(&probe->refuses, YES,
			   "KVM_SET_XSAVE refuses %s to a guest that does not have it", names.text);
	else if (error || fpsse_error)
		set_answer(&probe->refuses, UNKNOWN, "KVM_SET_XSAVE: %s",
			   strerror(error ? error : fpsse_error));
	else if (!control.xfeature)
		set_answer(&probe->refuses, UNKNOWN, NOTHING_TO_SHOW);
	else if (control.xfeature & guest_xcr0)
		set_answer(&probe->refuses, UNKNOWN, KVM_GIVES "%s", names.text);
	else
		set_answer(&probe->refuses, NO,
			   "KVM_SET_XSAVE accepts %s, which the guest does not have", names.text);
}

// Reads which xfeatures this process may give to guests. Some, such as AMX, need a permission, and
// KVM does not report them as supported to a process without it. Linux has this call since 5.17.
static void query_permitted(struct probe *probe)
{
	if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_GUEST_PERM, &probe->permitted))
		probe->permitted = 0;
}

// Finds out whether the host mode trims. It shows its settings to root alone, so for other users
// the trim of a payload that is loaded is the sign.
static void probe_host_mode(struct probe *probe, const struct probe_vm *vm, uint64_t guest_xcr0)
{
	uint64_t allowed = allowed_by(guest_xcr0);
	uint64_t xfeature = ~allowed & (allowed + 1);
	struct settings settings;

	probe->cured = !(probe_vm_load(vm, allowed_by(0) | xfeature) & xfeature);
	probe->hidden = host_helper_query(&settings) ? policy_trims(settings.trim, XSAVE_SAVE)
						     : probe->cured;
}

static void probe_kvm(struct probe *probe)
{
	struct control control = {0};
	uint64_t guest_xcr0;
	struct vm vm;

	if (!open_device(probe, &vm.probe) || !create_guest(probe, &vm) ||
	    !probe_control(probe, &vm.probe, &control))
		return;
	if (!probe_vm_set_guest_xcr0(&vm.probe, 0))
		failed(probe, "KVM_SET_CPUID2");
	else if (!probe_vm_get_guest_xcr0(&vm.probe, &guest_xcr0))
		failed(probe, "KVM_GET_CPUID2");
	else {
		probe_host_mode(probe, &vm.probe, guest_xcr0);
		judge_leaks(probe, &vm, control, guest_xcr0);
		judge_refuses(probe, &vm.probe, control, guest_xcr0);
	}
}

static bool is_refusing(const struct probe *probe)
{
	return probe->refuses.finding == YES || probe->refuses.finding == STRICTLY;
}

static bool is_leaking(const struct probe *probe)
{
	return probe->leaks.finding == YES;
}

// The host mode keeps x87 and SSE, which a strict kernel refuses to a guest without XSAVE.
static bool is_cured(const struct probe *probe)
{
	return probe->cured && probe->refuses.finding == YES;
}

static enum verdict verdict(const struct probe *probe)
{
	if (is_refusing(probe) || is_leaking(probe))
		return VERDICT_AFFECTED;
	if (probe->refuses.finding == NO && probe->leaks.finding == NO)
		return VERDICT_UNAFFECTED;
	return VERDICT_UNKNOWN;
}

static json_t *hex(uint64_t value)
{
	return json_sprintf("0x%" PRIx64, value);
}

static void print_json(const struct probe *probe)
{
	json_t *json = json_pack(
		"{s:s, s:o, s:o?, s:o?, s:o?, s:s, s:b, s:s, s:o, s:{s:s, s:s}, s:s}", "kernel",
		probe->host.release, "host_xcr0", hex(probe->host_xcr0), "kvm_supported_xcr0",
		probe->kvm_xcr0 ? hex(probe->kvm_xcr0) : NULL, "permitted_xcr0",
		probe->permitted ? hex(probe->permitted) : NULL, "payload_size",
		probe->payload_size ? json_integer((json_int_t)probe->payload_size) : NULL,
		"refuses", refuses_names[probe->refuses.finding], "cured_by_host", is_cured(probe),
		"leaks", leaks_names[probe->leaks.finding], "leaked", hex(probe->leaked), "reason",
		"refuses", probe->refuses.reason, "leaks", probe->leaks.reason, "verdict",
		verdict_names[verdict(probe)]);

	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(json);
}

static const char *remedy(const struct probe *probe)
{
	switch (verdict(probe)) {
	case VERDICT_UNAFFECTED:
		return "; no kernel accepts xfeatures that its KVM does not support: for these xsaveshim helps here, too";
	case VERDICT_AFFECTED:
		if (is_cured(probe) && !is_leaking(probe))
			return "; VMMs need nothing else here while `xsaveshim host` is active";
		if (!is_refusing(probe))
			return ": start VMMs here with XSAVESHIM_TRIM=save, or with xsaveshim on the hosts that restore their guests";
		return is_leaking(probe) ? ": start VMMs with xsaveshim and XSAVESHIM_TRIM=both"
					 : ": start VMMs with xsaveshim";
	case VERDICT_UNKNOWN:
		break;
	}
	return "";
}

static void print_xfeatures(const char *title, uint64_t xfeatures)
{
	printf("%-12s  0x%" PRIx64 " (%s)\n", title, xfeatures, xfeature_names(xfeatures).text);
}

static void print_text(const struct probe *probe)
{
	bool same = !strcmp(probe->refuses.reason, probe->leaks.reason);

	printf("kernel        %s\n", probe->host.release);
	print_xfeatures("host XCR0", probe->host_xcr0);
	if (probe->kvm_xcr0)
		print_xfeatures("KVM supports", probe->kvm_xcr0);
	if (probe->permitted)
		print_xfeatures("permitted", probe->permitted);
	if (probe->payload_size)
		printf("payload       %zu bytes\n", probe->payload_size);
	printf("refuses       %s: %s%s\n", refuses_names[probe->refuses.finding],
	       probe->refuses.reason, is_cured(probe) ? "; cured by xsaveshim host" : "");
	printf("leaks         %s: %s\n", leaks_names[probe->leaks.finding],
	       same ? "for the same reason" : probe->leaks.reason);
	printf("verdict       %s%s\n", verdict_names[verdict(probe)], remedy(probe));
}

static const char help[] =
	"usage: xsaveshim probe [--json]\n"
	"\n"
	"Shows whether this host's KVM refuses xfeatures that a guest does not have, and\n"
	"whether it leaks some.\n"
	"\n"
	"Exit status: 0 it does neither; 1 it does one or both; 2 probe cannot tell.\n";

int probe_main(int argc, char **argv)
{
	struct probe probe = {.host_xcr0 = xstate_host_xcr0()};
	bool json;
	int ended = options_parse_json(argc, argv, help, &json);

	if (ended >= 0)
		return ended;
	uname(&probe.host);
	query_permitted(&probe);
	probe_kvm(&probe);
	if (json)
		print_json(&probe);
	else
		print_text(&probe);
	return verdict(&probe);
}
