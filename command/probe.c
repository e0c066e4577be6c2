// SPDX-License-Identifier: MIT
// xsaveshim probe: makes experiments with a VM that has one page of memory and one vCPU. The
// experiments show which xfeatures KVM saves for a guest that does not have them (a leak), and
// which xfeatures KVM refuses to load for such a guest. The VM ends with this process.
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

#include "shared/output.h"
#include "shared/probe_vm.h"
#include "host_helper.h"
#include "options.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/xstate.h"

// Some distributions have an old <asm/prctl.h>, which does not define these constants.
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_GUEST_PERM 0x1024

#define DEVICE "/dev/kvm"
#define LOAD_KVM \
	"load the module kvm_intel or kvm_amd, with virtualization enabled in the firmware (if this is a virtual machine: with nested virtualization on its host)"

#define NOTHING_TO_SHOW \
	"KVM supports no xfeature beyond x87 and SSE on this host, so probe has none to test"
#define KVM_GIVES \
	"this host's KVM changes CPUID tables: even a guest whose table has no xfeatures gets "

// The experiments load all user-space xfeatures that the Intel SDM defines: x87 and SSE together,
// and every further xfeature alone.
#define XFEATURES_TRIED (XFEATURE_FPSSE | UINT64_C(0xe02fc))

#define GUEST_PAGE 4096
// After a reset, a processor fetches its first instruction from the page at RESET_PAGE. TSS_ADDRESS
// is for KVM_SET_TSS_ADDR, which needs an address that the guest does not use.
#define RESET_PAGE 0xfffff000
#define TSS_ADDRESS 0xfffbd000
#define HLT 0xf4

// The finding about this host as a source or as a destination of guests; PENDING: no finding yet.
// GOOD, BAD and UNKNOWN are also the exit statuses of `xsaveshim probe`.
enum finding { GOOD, BAD, UNKNOWN, PENDING };

static const char *const source_names[] = {
	[GOOD] = "clean", [BAD] = "leaks", [UNKNOWN] = "unknown"};
static const char *const destination_names[] = {
	[GOOD] = "accepts", [BAD] = "refuses", [UNKNOWN] = "unknown"};

struct answer {
	enum finding finding;
	char reason[640]; // if KVM could not be probed, the reason also says what to do
};

struct probe {
	struct utsname kernel;
	uint64_t host_xcr0;
	uint64_t kvm_xcr0;	// the xfeatures that KVM supports; 0: not known
	uint64_t permitted;	// the xfeatures that this process may give to guests; 0: not known
	uint64_t not_permitted; // xfeatures that need a permission that this process lacks
	size_t payload_size;	// the size of a payload; 0: not known
	bool saved;		// the members `leaked` and `lost` are known
	uint64_t leaked;
	uint64_t lost;		 // x87 or SSE, if KVM does not save it for a guest without XSAVE
	bool tried;		 // the next three members are known
	uint64_t accepts;	 // xfeatures that KVM loads even if the guest lacks them
	uint64_t refuses;	 // supported xfeatures that KVM refuses if the guest lacks them
	uint64_t always_refuses; // xfeatures that KVM refuses because it does not support them
	bool trims_saved;	 // the host mode trims the payloads that VMMs save
	bool trims_loaded;	 // the host mode trims the payloads that VMMs load
	struct answer source;
	struct answer destination;
};

struct vm {
	struct probe_vm probe;
	struct kvm_run *run;
};

// The result of the control experiment: how KVM treats an xfeature that the guest has.
struct control {
	uint64_t xfeature; // the xfeature of the experiment; 0: KVM supports only x87 and SSE
	int error;	   // KVM_SET_XSAVE's errno, or 0
	bool returned;	   // KVM_GET_XSAVE returned the xfeature
};

struct names {
	char text[512];
};

// Sets the answer's finding and reason, unless an earlier call has already set them.
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
	set_answer(&probe->destination, UNKNOWN, "%s", reason);
	set_answer(&probe->source, UNKNOWN, "%s", reason);
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
		cannot_tell(probe, "no " DEVICE ": " LOAD_KVM
				   "; if this is a container, pass the device to it");
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
		cannot_tell(probe, DEVICE " is not the device of KVM: remove it, " LOAD_KVM);
		return false;
	}
	return probe_vm_supported(vm, &probe->kvm_xcr0) || failed(probe, "KVM_GET_SUPPORTED_CPUID");
}

static void *map(size_t size, int fd)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0),
		    fd, 0);
}

// Creates a VM whose memory is full of HLT instructions.
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

// Returns the xfeatures of a guest with this XCR0: the XCR0's bits, and always x87 and SSE, which
// even a guest without XSAVE has.
static uint64_t allowed_by(uint64_t guest_xcr0)
{
	return policy_allowed((struct vcpu){.knowledge = VCPU_XCR0, .guest_xcr0 = guest_xcr0});
}

// Loads a payload with this XSTATE_BV, and returns 0 or KVM_SET_XSAVE's errno. The payload's memory
// is read-only during the call, so that the host mode cannot change the payload before KVM checks
// it.
static int set_xsave(const struct probe_vm *vm, uint64_t xstate_bv)
{
	int error;

	probe_vm_fill_payload(vm, xstate_bv);
	mprotect(vm->payload, vm->payload_size, PROT_READ);
	error = probe_vm_ioctl(vm->vcpu, KVM_SET_XSAVE, vm->payload) ? errno : 0;
	mprotect(vm->payload, vm->payload_size, PROT_READ | PROT_WRITE);
	return error;
}

// The control experiment: gives the guest the lowest xfeature that KVM supports beyond x87 and SSE,
// and then loads and saves this xfeature. On today's CPUs, it is AVX. Unlike AMX, AVX needs no
// permission from the kernel.
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

// Runs the guest until its HLT instruction, because some kernels leak xfeatures into a vCPU only
// when the vCPU runs.
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

static void judge_source(struct probe *probe, const struct vm *vm, struct control control,
			 uint64_t guest_xcr0)
{
	struct names names = xfeature_names(control.xfeature);
	struct answer *answer = &probe->source;
	const char *problem;
	bool ran = run_guest(vm, &problem);
	uint64_t bv;

	if (!probe_vm_save(&vm->probe, &bv)) {
		failed(probe, "KVM_GET_XSAVE");
		return;
	}
	probe->leaked = bv & ~allowed_by(guest_xcr0);
	// probe_control() has loaded x87 and SSE state that is not the initial state, so the
	// XSTATE_BV that KVM returns must have the bits of x87 and SSE.
	probe->lost = control.error ? 0 : XFEATURE_FPSSE & ~bv;
	if (probe->leaked)
		set_answer(answer, BAD, "KVM_GET_XSAVE returned %s, which the guest does not have",
			   xfeature_names(probe->leaked).text);
	else if (probe->trims_saved)
		set_answer(answer, UNKNOWN,
			   "a leak is not visible while `xsaveshim host` is active");
	else if (!ran)
		set_answer(answer, UNKNOWN, "KVM_RUN: %s: look in the kernel's log (dmesg)",
			   problem);
	else if (probe->lost)
		set_answer(answer, BAD,
			   "KVM_GET_XSAVE leaves out %s, which even a guest without XSAVE has",
			   xfeature_names(probe->lost).text);
	else if (!control.xfeature)
		set_answer(answer, UNKNOWN, NOTHING_TO_SHOW);
	else if (!control.returned)
		set_answer(answer, UNKNOWN,
			   "KVM_GET_XSAVE does not return %s even if the guest has it", names.text);
	else if (control.xfeature & guest_xcr0)
		set_answer(answer, UNKNOWN, KVM_GIVES "%s", names.text);
	else
		set_answer(answer, GOOD,
			   "KVM_GET_XSAVE leaves out %s, which the guest does not have",
			   names.text);
	probe->saved = answer->finding != UNKNOWN;
}

// Loads each xfeature of XFEATURES_TRIED alone, but x87 and SSE together. Skips an xfeature if this
// process lacks the permission for it and KVM does not report it as supported. For each other
// xfeature, notes whether KVM accepts it or refuses it with EINVAL. If a load fails with another
// errno, stops and returns that errno. Returns 0 after the last load.
static int try_xfeatures(struct probe *probe, const struct probe_vm *vm)
{
	uint64_t left = XFEATURES_TRIED & ~(probe->not_permitted & ~probe->kvm_xcr0);
	uint64_t supported = allowed_by(probe->kvm_xcr0);

	while (left) {
		uint64_t xfeature = (left & XFEATURE_FPSSE) ? XFEATURE_FPSSE : left & -left;
		int error = set_xsave(vm, xfeature);

		left &= ~xfeature;
		if (!error)
			probe->accepts |= xfeature;
		else if (error != EINVAL)
			return error;
		else if (xfeature & supported)
			probe->refuses |= xfeature;
		else
			probe->always_refuses |= xfeature;
	}
	probe->tried = true;
	return 0;
}

static void judge_destination(struct probe *probe, const struct probe_vm *vm,
			      struct control control, uint64_t guest_xcr0)
{
	struct answer *answer = &probe->destination;
	int error = control.error ? 0 : try_xfeatures(probe, vm);

	if (control.error)
		set_answer(
			answer, UNKNOWN,
			"KVM_SET_XSAVE fails even for a guest that has every xfeature of the payload: %s",
			strerror(control.error));
	else if (error)
		set_answer(answer, UNKNOWN, "KVM_SET_XSAVE: %s", strerror(error));
	else if (probe->refuses)
		set_answer(
			answer, BAD,
			"KVM supports %s, but KVM_SET_XSAVE refuses it in the payload of a guest that does not have it",
			xfeature_names(probe->refuses).text);
	else if (!control.xfeature)
		set_answer(answer, UNKNOWN, NOTHING_TO_SHOW);
	else if (control.xfeature & guest_xcr0)
		set_answer(answer, UNKNOWN, KVM_GIVES "%s", xfeature_names(control.xfeature).text);
	else
		set_answer(
			answer, GOOD,
			"KVM_SET_XSAVE accepts every xfeature that KVM supports, even if the guest does not have it");
	probe->tried = answer->finding != UNKNOWN;
}

// Reads which xfeatures this process may give to guests. For some xfeatures, such as AMX, a process
// needs the kernel's permission. Without the permission, KVM does not report AMX as supported.
// Linux before 5.17 does not have ARCH_GET_XCOMP_GUEST_PERM.
static void query_permitted(struct probe *probe)
{
	uint64_t available;

	if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_GUEST_PERM, &probe->permitted))
		probe->permitted = 0;
	else if (!syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &available))
		probe->not_permitted = available & ~probe->permitted & XFEATURES_TRIED;
}

// Finds out whether the host mode trims the payloads that VMMs load and save. Only root can read
// the host mode's settings. If this user is not root, the function assumes that a host mode that
// trims loaded payloads also trims saved payloads.
static void probe_host_mode(struct probe *probe, const struct probe_vm *vm, uint64_t guest_xcr0)
{
	uint64_t allowed = allowed_by(guest_xcr0);
	uint64_t xfeature = ~allowed & (allowed + 1);
	struct settings settings;

	probe->trims_loaded = !(probe_vm_load(vm, allowed_by(0) | xfeature) & xfeature);
	probe->trims_saved = host_helper_query(&settings) ? policy_trims(settings.trim, XSAVE_SAVE)
							  : probe->trims_loaded;
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
		judge_source(probe, &vm, control, guest_xcr0);
		judge_destination(probe, &vm.probe, control, guest_xcr0);
	}
}

static enum finding verdict(const struct probe *probe)
{
	if (probe->source.finding == BAD || probe->destination.finding == BAD)
		return BAD;
	return probe->source.finding == GOOD && probe->destination.finding == GOOD ? GOOD : UNKNOWN;
}

static json_t *json_xfeatures(bool known, uint64_t xfeatures)
{
	return known ? output_xfeatures(xfeatures) : json_null();
}

static const char *source_name(const struct probe *probe)
{
	bool loses = probe->source.finding == BAD && !probe->leaked;

	return loses ? "loses" : source_names[probe->source.finding];
}

static json_t *json_source(const struct probe *probe)
{
	return json_pack("{s:s, s:o, s:o, s:s}", "answer", source_name(probe), "leaks",
			 json_xfeatures(probe->saved, probe->leaked), "loses",
			 json_xfeatures(probe->saved, probe->lost), "reason", probe->source.reason);
}

static json_t *json_destination(const struct probe *probe)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:s}", "answer",
			 destination_names[probe->destination.finding], "accepts",
			 json_xfeatures(probe->tried, probe->accepts), "refuses",
			 json_xfeatures(probe->tried, probe->refuses), "always_refuses",
			 json_xfeatures(probe->tried, probe->always_refuses), "reason",
			 probe->destination.reason);
}

static void print_json(const struct probe *probe)
{
	enum finding affected = verdict(probe);
	json_t *json = output_head();

	json_object_update_new(
		json,
		json_pack(
			"{s:s, s:o, s:o, s:o, s:o, s:o?, s:o, s:o, s:{s:b, s:b}, s:o}", "kernel",
			probe->kernel.release, "host_xcr0", json_xfeatures(true, probe->host_xcr0),
			"kvm_supported_xcr0", json_xfeatures(probe->kvm_xcr0, probe->kvm_xcr0),
			"permitted_xcr0", json_xfeatures(probe->permitted, probe->permitted),
			"not_permitted", json_xfeatures(probe->permitted, probe->not_permitted),
			"payload_size",
			probe->payload_size ? json_integer((json_int_t)probe->payload_size) : NULL,
			"source", json_source(probe), "destination", json_destination(probe),
			"host_mode", "trims_saved", probe->trims_saved, "trims_loaded",
			probe->trims_loaded, "affected",
			affected == UNKNOWN ? json_null() : json_boolean(affected == BAD)));
	output_print(json);
}

static void print_xfeatures(const char *title, uint64_t xfeatures)
{
	if (xfeatures)
		printf("%-15s 0x%" PRIx64 " (%s)\n", title, xfeatures,
		       xfeature_names(xfeatures).text);
}

static const char *remedy(const struct probe *probe)
{
	bool refuses = probe->destination.finding == BAD, leaks = probe->leaked;

	if (refuses && !leaks && probe->trims_loaded && !(probe->refuses & XFEATURE_FPSSE))
		return "nothing: `xsaveshim host` is active and trims the payloads that VMMs load";
	if (refuses && leaks)
		return "start VMMs here with xsaveshim and XSAVESHIM_TRIM=both";
	if (refuses)
		return "start VMMs here with xsaveshim";
	if (leaks)
		return "start VMMs here with xsaveshim and XSAVESHIM_TRIM=save, or use xsaveshim on the hosts that load the guests saved here";
	return "use xsaveshim pair to compare this host with each host that its guests come from";
}

static void print_text(const struct probe *probe)
{
	bool same = !strcmp(probe->source.reason, probe->destination.reason);

	printf("%-15s %s\n", "kernel", probe->kernel.release);
	print_xfeatures("host XCR0", probe->host_xcr0);
	print_xfeatures("KVM supports", probe->kvm_xcr0);
	print_xfeatures("permitted", probe->permitted);
	print_xfeatures("not permitted", probe->not_permitted);
	if (probe->payload_size)
		printf("%-15s %zu bytes\n", "payload", probe->payload_size);
	printf("%-15s %s: %s\n", "as a source", source_name(probe), probe->source.reason);
	printf("%-15s %s: %s\n", "as destination", destination_names[probe->destination.finding],
	       same ? "for the same reason" : probe->destination.reason);
	if (probe->tried) {
		print_xfeatures("accepts", probe->accepts);
		print_xfeatures("refuses", probe->refuses);
		print_xfeatures("always refuses", probe->always_refuses);
	}
	if (verdict(probe) != UNKNOWN)
		printf("%-15s %s\n", "what to do", remedy(probe));
	if (probe->saved && probe->lost)
		puts("                shut down guests without XSAVE instead of saving or migrating them");
}

static const char help[] =
	"usage: xsaveshim probe [--json]\n"
	"\n"
	"Shows which xfeatures this host's KVM leaks (saves although the guest does not\n"
	"have them) or refuses (does not load if the guest does not have them), and\n"
	"whether KVM loses (does not save) the x87 and SSE of a guest without XSAVE.\n"
	"\n"
	"Exit status: 0 KVM leaks and loses no xfeature, and refuses none that it\n"
	"supports; 1 KVM leaks or loses an xfeature, or refuses one that it supports;\n"
	"2 probe cannot tell.\n";

int probe_main(int argc, char **argv)
{
	struct probe probe = {.host_xcr0 = xstate_host_xcr0(),
			      .source = {.finding = PENDING},
			      .destination = {.finding = PENDING}};
	bool json;
	int ended = options_parse_output(argc, argv, help, &json, NULL);

	if (ended >= 0)
		return ended;
	uname(&probe.kernel);
	query_permitted(&probe);
	probe_kvm(&probe);
	if (json)
		print_json(&probe);
	else
		print_text(&probe);
	return verdict(&probe);
}
