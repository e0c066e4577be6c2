// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The host mode: BPF programs at the entry and the exit of kvm_arch_vcpu_ioctl(), which every vCPU
// ioctl but KVM_RUN goes through, whichever process makes it and however. KVM holds the vCPU's
// mutex there: nothing else happens to this vCPU meanwhile.
//
// What the guest has is read from KVM itself at each call, so no vCPU has to be tracked. Where
// programs of this kind are attached twice, the second find nothing left to trim.
#include <linux/bpf.h>
#include <linux/kvm.h>
#include <linux/ptrace.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "programs.h"
#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/rate_limit.h"
#include "xsaveshim/xstate.h"
#include "shared/probe_vm.h"

#define EFAULT 14
#define SIGKILL 9

#define MAX_VCPUS 16384
#define MAX_CALLS 8192
#define MAX_XCRS 16

// The kernel's structures, as far as they are used; libbpf finds where this kernel has the members.
struct file {
	void *private_data;
} __attribute__((preserve_access_index));

struct kvm_vcpu_arch {
	uint64_t xcr0;
	int cpuid_nent;
	struct kvm_cpuid_entry2 *cpuid_entries;
} __attribute__((preserve_access_index));

struct kvm_vcpu {
	int vcpu_id;
	struct kvm_vcpu_arch arch;
} __attribute__((preserve_access_index));

struct call {
	struct kvm_vcpu *vcpu;
	unsigned long arg;
	uint32_t ioctl;
};

// What is kept of a vCPU that there was something to tell of.
struct vcpu_state {
	struct rate_limit rate_limits[HOST_EVENT_KINDS];
	uint64_t dropped; // from the last payload that it loaded
	bool reported;	  // that this call's payload could not be written
	bool empty_table; // its CPUID table has no entries
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

// These two are mapped, and not read by bpf(2): where the kernel preempts a bpf(2) call for a map,
// it calls no program of a kprobe on that CPU meanwhile.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HOST_COUNTS);
	__type(key, uint32_t);
	__type(value, uint64_t);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct host_settings);
} settings SEC(".maps");

// By the address of its struct kvm_vcpu; removed with the vCPU.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VCPUS);
	__type(key, struct kvm_vcpu *);
	__type(value, struct vcpu_state);
} vcpu_states SEC(".maps");

// By thread: what a kretprobe, which does not see the arguments, has to know of the call.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CALLS);
	__type(key, uint64_t);
	__type(value, struct call);
} calls SEC(".maps");

// How many of them there are. While there are none, a call that is not watched looks for none.
uint64_t calls_kept;

// The exit is watched by a kretprobe.
const volatile bool keeps_calls;

static __always_inline void count(enum host_count what)
{
	uint32_t key = what;
	uint64_t *value = bpf_map_lookup_elem(&counts, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline struct host_settings get_settings(void)
{
	uint32_t zero = 0;
	const struct host_settings *found = bpf_map_lookup_elem(&settings, &zero);

	return found ? *found : (struct host_settings){.trim = TRIM_NONE};
}

static __always_inline bool is_watched(uint32_t ioctl)
{
	return ioctl == KVM_SET_XSAVE || ioctl == KVM_GET_XSAVE || ioctl == KVM_GET_XSAVE2 ||
	       ioctl == KVM_SET_XCRS;
}

static __always_inline bool sets_cpuid(uint32_t ioctl)
{
	return ioctl == KVM_SET_CPUID2 || ioctl == KVM_SET_CPUID;
}

static __always_inline bool is_probe(struct kvm_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *entries = BPF_CORE_READ(vcpu, arch.cpuid_entries);
	struct kvm_cpuid_entry2 first;

	return entries && !bpf_probe_read_kernel(&first, sizeof(first), entries) &&
	       first.function == PROBE_VM_LEAF && first.ebx == PROBE_VM_EBX &&
	       first.ecx == PROBE_VM_ECX && first.edx == PROBE_VM_EDX;
}

// The guest's XCR0, as guest_cpuid_xcr0 has it; KVM keeps what KVM_SET_CPUID sets in the same form.
// It does not keep apart a table without entries from none.
//
// Not static: the kernel checks such a function once, and not at each call. It may have no pointer
// to a struct kvm_vcpu then.
int vcpu_of_fd(uint64_t address, struct vcpu *vcpu);

__noinline int vcpu_of_fd(uint64_t address, struct vcpu *vcpu)
{
	struct kvm_vcpu *kvm_vcpu = (struct kvm_vcpu *)address;
	const struct kvm_cpuid_entry2 *entries;
	struct vcpu_state *state;
	int nent;

	if (!vcpu)
		return 0;
	*vcpu = (struct vcpu){.knowledge = VCPU_NO_CPUID, .id = BPF_CORE_READ(kvm_vcpu, vcpu_id)};
	nent = BPF_CORE_READ(kvm_vcpu, arch.cpuid_nent);
	entries = BPF_CORE_READ(kvm_vcpu, arch.cpuid_entries);
	if (nent <= 0 || !entries) {
		state = bpf_map_lookup_elem(&vcpu_states, &address);
		if (state && state->empty_table)
			vcpu->knowledge = VCPU_XCR0;
		return 0;
	}
	vcpu->knowledge = VCPU_XCR0;
	vcpu->enabled_xcr0 = BPF_CORE_READ(kvm_vcpu, arch.xcr0);
	for (int i = 0; i < GUEST_CPUID_MAX_ENTRIES && i < nent; i++) {
		struct kvm_cpuid_entry2 entry;

		if (bpf_probe_read_kernel(&entry, sizeof(entry), &entries[i])) {
			vcpu->knowledge = VCPU_UNKNOWN;
			return 0;
		}
		if (guest_cpuid_enumerates_xcr0(&entry)) {
			vcpu->guest_xcr0 = (uint64_t)entry.edx << 32 | entry.eax;
			return 0;
		}
	}
	return 0;
}

static __always_inline struct vcpu_state *get_state(struct kvm_vcpu *vcpu)
{
	return bpf_map_lookup_elem(&vcpu_states, &vcpu);
}

// NULL on a host with more such vCPUs than there is room for: what happens to them is told each
// time.
static __always_inline struct vcpu_state *make_state(struct kvm_vcpu *vcpu)
{
	struct vcpu_state *state = get_state(vcpu);

	if (!state) {
		struct vcpu_state none = {0};

		bpf_map_update_elem(&vcpu_states, &vcpu, &none, BPF_NOEXIST);
		state = get_state(vcpu);
	}
	return state;
}

// NULL where it is not to be told again yet, or cannot be told.
static __always_inline struct host_event *
begin_event(enum host_event_kind kind, const struct call *call, struct vcpu vcpu,
	    struct vcpu_state *state, uint64_t bits)
{
	struct host_event *event;

	if (state && !rate_limit_allows(&state->rate_limits[kind], bits))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(HOST_COUNT_LOST_REPORTS);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = kind;
	event->ioctl = call->ioctl;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->cgroup = bpf_get_current_cgroup_id();
	event->count = state ? state->rate_limits[kind].count : 1;
	event->vcpu = vcpu;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	return event;
}

static __always_inline void *at(const struct call *call, unsigned int offset)
{
	return (void *)(call->arg + offset);
}

static __always_inline bool read_bv(const struct call *call, uint64_t *bv)
{
	return !bpf_probe_read_user(bv, sizeof(*bv), at(call, XSTATE_BV_OFFSET));
}

static __always_inline void
tell_trim(enum host_event_kind kind, const struct call *call, struct vcpu vcpu,
	  struct vcpu_state *state, struct trim_result trim)
{
	struct host_event *event =
		begin_event(kind, call, vcpu, state, trim.xstate_bv & ~trim.allowed);

	if (event) {
		event->trim = trim;
		bpf_ringbuf_submit(event, 0);
	}
}

static __always_inline void
trim_payload(enum xsave_direction direction, const struct call *call, bool asks)
{
	struct vcpu_state *state = asks ? 0 : get_state(call->vcpu);
	struct vcpu vcpu = {0};
	struct trim_result trim;
	uint64_t bv;
	int error = 0;

	if (state && direction == XSAVE_RESTORE) {
		state->dropped = 0;
		state->reported = false;
	}
	if (!read_bv(call, &bv) || !(bv & ~XFEATURE_FPSSE))
		return;
	vcpu_of_fd((uint64_t)call->vcpu, &vcpu);
	trim = policy_trim(get_settings().trim, direction, vcpu, bv);
	if (!(trim.xstate_bv & ~trim.allowed))
		return;
	if (trim.after != trim.xstate_bv)
		error = bpf_probe_write_user(
			at(call, XSTATE_BV_OFFSET), &trim.after, sizeof(trim.after));
	if (asks)
		return;
	state = make_state(call->vcpu);
	if (error) {
		count(HOST_COUNT_NOT_TRIMMED);
		if (state)
			state->reported = true;
		tell_trim(HOST_EVENT_NOT_TRIMMED, call, vcpu, state, trim);
		return;
	}
	count(trim.after == trim.xstate_bv ? HOST_COUNT_WOULD_TRIM : HOST_COUNT_TRIMMED);
	if (state && direction == XSAVE_RESTORE)
		state->dropped = trim.xstate_bv & ~trim.after;
	tell_trim(HOST_EVENT_TRIM, call, vcpu, state, trim);
}

// A payload that KVM took: what the entry could not read, as its page was not there, is there now.
static __always_inline void loaded(const struct call *call)
{
	struct vcpu_state *state = get_state(call->vcpu);
	struct vcpu vcpu = {0};
	struct trim_result trim;
	uint64_t bv;

	if ((state && state->reported) || !read_bv(call, &bv) || !(bv & ~XFEATURE_FPSSE))
		return;
	vcpu_of_fd((uint64_t)call->vcpu, &vcpu);
	trim = policy_trim(get_settings().trim, XSAVE_RESTORE, vcpu, bv);
	if (trim.after == trim.xstate_bv)
		return;
	count(HOST_COUNT_NOT_TRIMMED);
	tell_trim(HOST_EVENT_NOT_TRIMMED, call, vcpu, make_state(call->vcpu), trim);
}

// Ends the VMM, where the settings say so.
static __always_inline void end_vmm(void)
{
	if (get_settings().abort && !bpf_send_signal(SIGKILL))
		count(HOST_COUNT_KILLED);
}

static __always_inline void refused_payload(const struct call *call, int error)
{
	struct host_event *event;
	struct vcpu vcpu = {0};
	uint64_t bv = 0;

	count(HOST_COUNT_REFUSED);
	vcpu_of_fd((uint64_t)call->vcpu, &vcpu);
	read_bv(call, &bv);
	end_vmm();
	event = begin_event(HOST_EVENT_REFUSED, call, vcpu, make_state(call->vcpu), bv);
	if (event) {
		event->error = error;
		event->trim.xstate_bv = bv;
		bpf_probe_read_user(event->header, sizeof(event->header),
				    at(call, XSTATE_BV_OFFSET));
		bpf_probe_read_user(&event->mxcsr, sizeof(event->mxcsr),
				    at(call, XSTATE_MXCSR_OFFSET));
		bpf_ringbuf_submit(event, 0);
	}
}

// The XCR0 that KVM_SET_XCRS was given: KVM looks at the first entry for it.
static __always_inline uint64_t given_xcr0(const struct call *call)
{
	const struct kvm_xcrs *xcrs = at(call, 0);
	uint32_t nr = 0;

	bpf_probe_read_user(&nr, sizeof(nr), &xcrs->nr_xcrs);
	for (uint32_t i = 0; i < MAX_XCRS && i < nr; i++) {
		struct kvm_xcr xcr;

		if (bpf_probe_read_user(&xcr, sizeof(xcr), &xcrs->xcrs[i]))
			break;
		if (!xcr.xcr)
			return xcr.value;
	}
	return 0;
}

static __always_inline void refused_xcrs(const struct call *call, int error)
{
	uint64_t xcr0 = given_xcr0(call);
	struct host_event *event;
	struct vcpu vcpu = {0};

	count(HOST_COUNT_REFUSED);
	vcpu_of_fd((uint64_t)call->vcpu, &vcpu);
	end_vmm();
	event = begin_event(HOST_EVENT_XCR0_REFUSED, call, vcpu, make_state(call->vcpu), xcr0);
	if (event) {
		event->error = error;
		event->xcr0 = xcr0;
		bpf_ringbuf_submit(event, 0);
	}
}

// An XCR0 that KVM took. From here on vcpu_of_fd() has it; what was dropped before is lost.
static __always_inline void took_xcrs(const struct call *call)
{
	struct kvm_vcpu *kvm_vcpu = call->vcpu;
	struct vcpu_state *state = get_state(kvm_vcpu);
	uint64_t xcr0 = BPF_CORE_READ(kvm_vcpu, arch.xcr0);
	uint64_t lost = state ? policy_lost(state->dropped, xcr0) : 0;
	struct host_event *event;
	struct vcpu vcpu = {0};

	if (!lost)
		return;
	count(HOST_COUNT_LOST);
	vcpu_of_fd((uint64_t)call->vcpu, &vcpu);
	end_vmm();
	event = begin_event(HOST_EVENT_LOST, call, vcpu, state, lost);
	if (event) {
		event->xcr0 = xcr0;
		event->lost = lost;
		bpf_ringbuf_submit(event, 0);
	}
}

static __always_inline void took_cpuid(struct kvm_vcpu *vcpu)
{
	bool is_empty = BPF_CORE_READ(vcpu, arch.cpuid_nent) == 0;
	struct vcpu_state *state = is_empty ? make_state(vcpu) : get_state(vcpu);

	if (state)
		state->empty_table = is_empty;
}

static __always_inline void enter(const struct call *call)
{
	bool asks = is_probe(call->vcpu);

	count(asks ? HOST_COUNT_PROBE_ENTRIES : HOST_COUNT_ENTRIES);
	if (call->ioctl == KVM_SET_XSAVE)
		trim_payload(XSAVE_RESTORE, call, asks);
}

static __always_inline void leave(const struct call *call, int result)
{
	bool asks;

	if (sets_cpuid(call->ioctl)) {
		if (!result)
			took_cpuid(call->vcpu);
		return;
	}
	asks = is_probe(call->vcpu);
	count(asks ? HOST_COUNT_PROBE_EXITS : HOST_COUNT_EXITS);
	if (call->ioctl == KVM_GET_XSAVE || call->ioctl == KVM_GET_XSAVE2) {
		if (!result && get_settings().trim != TRIM_RESTORE)
			trim_payload(XSAVE_SAVE, call, asks);
		return;
	}
	// With EFAULT there is no payload.
	if (asks || result == -EFAULT)
		return;
	if (call->ioctl == KVM_SET_XSAVE) {
		if (result)
			refused_payload(call, -result);
		else
			loaded(call);
	} else {
		if (result)
			refused_xcrs(call, -result);
		else
			took_xcrs(call);
	}
}

// What a thread left behind whose exit was missed.
static __always_inline void forget_call(void)
{
	uint64_t thread = bpf_get_current_pid_tgid();

	if (!bpf_map_delete_elem(&calls, &thread))
		__sync_fetch_and_add(&calls_kept, -1);
}

static __always_inline void keep_call(const struct call *call)
{
	uint64_t thread = bpf_get_current_pid_tgid();

	if (!bpf_map_update_elem(&calls, &thread, call, BPF_NOEXIST))
		__sync_fetch_and_add(&calls_kept, 1);
}

// Each time a program runs, it saves the registers that it uses. Most calls are not watched: they
// end in xsaveshim_entry, which uses few.
static __noinline int enter_watched(struct pt_regs *ctx)
{
	struct file *file = (struct file *)PT_REGS_PARM1(ctx);
	struct call call = {.arg = PT_REGS_PARM3(ctx), .ioctl = PT_REGS_PARM2(ctx)};

	if (keeps_calls && calls_kept)
		forget_call();
	if (!is_watched(call.ioctl) && !sets_cpuid(call.ioctl))
		return 0;
	call.vcpu = BPF_CORE_READ(file, private_data);
	if (is_watched(call.ioctl))
		enter(&call);
	if (keeps_calls)
		keep_call(&call);
	return 0;
}

// A kprobe, as the kernel never preempts it. Where it preempts programs of the fentry kind
// (preempt=full), it skips them for every other thread that comes to this CPU meanwhile; and it
// frees one while a thread that it has preempted is about to call it.
SEC("kprobe/kvm_arch_vcpu_ioctl")
int BPF_KPROBE(xsaveshim_entry, struct file *file, unsigned int ioctl)
{
	if (is_watched(ioctl) || (keeps_calls && (sets_cpuid(ioctl) || calls_kept)))
		return enter_watched(ctx);
	return 0;
}

SEC("fexit/kvm_arch_vcpu_ioctl")
int BPF_PROG(xsaveshim_exit, struct file *file, unsigned int ioctl, unsigned long arg, long result)
{
	struct call call = {.arg = arg, .ioctl = ioctl};

	if (!is_watched(ioctl) && !sets_cpuid(ioctl))
		return 0;
	call.vcpu = BPF_CORE_READ(file, private_data);
	leave(&call, (int)result);
	return 0;
}

// Apart from xsaveshim_ret for the same reason.
static __noinline int leave_kept(int result)
{
	uint64_t thread = bpf_get_current_pid_tgid();
	struct call *found = bpf_map_lookup_elem(&calls, &thread);
	struct call call;

	if (!found)
		return 0;
	call = *found;
	forget_call();
	leave(&call, result);
	return 0;
}

SEC("kretprobe/kvm_arch_vcpu_ioctl")
int BPF_KRETPROBE(xsaveshim_ret, int result)
{
	return calls_kept ? leave_kept(result) : 0;
}

// A vCPU that is made at the same address later starts anew.
SEC("kprobe/kvm_arch_vcpu_destroy")
int BPF_KPROBE(xsaveshim_gone, struct kvm_vcpu *vcpu)
{
	bpf_map_delete_elem(&vcpu_states, &vcpu);
	return 0;
}

// The kernel lets programs under the GPL alone write a process's memory.
char LICENSE[] SEC("license") = "Dual MIT/GPL";
