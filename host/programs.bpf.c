// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The host mode's BPF programs run at the entry and the exit of kvm_arch_vcpu_ioctl(), and when KVM
// creates or destroys a vCPU. Every ioctl by which a VMM loads or saves a vCPU's XSAVE state (a
// payload) goes through kvm_arch_vcpu_ioctl(). KVM_RUN does not. KVM holds the vCPU's mutex while
// kvm_arch_vcpu_ioctl() runs.
//
// The programs trim a payload: in its XSTATE_BV, they clear the bits of xfeatures that the guest
// does not have. The programs read the guest's CPUID table from KVM's memory, so they keep no copy
// of the table. While a new set of programs replaces an old set, both are attached: one set trims a
// payload, and the other finds nothing left to trim.
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
#define EINVAL 22
#define SIGKILL 9
#define PAGE_SIZE 4096UL

// The initial sizes of the BPF maps below. On a host with many CPUs, host/loader.c enlarges the
// maps vcpu_states and marks.
#define MAX_VCPUS 16384
#define MAX_MARKS 65536
#define MAX_GROUPS 8192

// systemd gives each user, service and VM a cgroup at this level of the cgroup hierarchy. Only root
// can create cgroups at this level.
#define GROUP_LEVEL 2

// In rate_limit_allows(), this one bit stands for all xfeatures that this host does not support.
// If each of these xfeatures had its own bit, a VMM could cause dozens of reports by setting one
// bit of XSTATE_BV after another.
#define OTHER_XFEATURES (UINT64_C(1) << 63)

// The programs use these members of the kernel's structures. When libbpf loads the programs, libbpf
// fills in each member's offset in the running kernel.
struct file {
	void *private_data;
	void *f_op;
} __attribute__((preserve_access_index));

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} __attribute__((preserve_access_index));

struct files_struct {
	struct fdtable *fdt;
} __attribute__((preserve_access_index));

struct thread_info {
	uint32_t status;
} __attribute__((preserve_access_index));

struct mm_struct {
	unsigned long arg_start, arg_end;
} __attribute__((preserve_access_index));

struct task_struct {
	struct thread_info thread_info;
	struct files_struct *files;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	uint64_t start_boottime;
} __attribute__((preserve_access_index));

// The kernel's struct pt_regs. The suffix ___kernel distinguishes it from the struct pt_regs of
// <linux/ptrace.h>, in which the registers have other names. When libbpf looks for the struct in
// the kernel, libbpf ignores the suffix.
struct pt_regs___kernel {
	unsigned long bx, cx, dx, si, di;
} __attribute__((preserve_access_index));

// This flag in thread_info.status says that the thread is in a 32-bit system call
// (arch/x86/include/asm/thread_info.h).
#define TS_COMPAT 2

struct kvm_vcpu_arch {
	uint64_t xcr0;
	int cpuid_nent;
	struct kvm_cpuid_entry2 *cpuid_entries;
} __attribute__((preserve_access_index));

struct inode {
	unsigned long i_ino;
} __attribute__((preserve_access_index));

struct dentry {
	struct inode *d_inode;
} __attribute__((preserve_access_index));

struct kvm {
	int userspace_pid;
	struct dentry *debugfs_dentry;
} __attribute__((preserve_access_index));

struct kvm_vcpu {
	int vcpu_id;
	struct kvm *kvm;
	struct kvm_vcpu_arch arch;
} __attribute__((preserve_access_index));

struct call {
	struct kvm_vcpu *vcpu;
	unsigned long arg;
	uint32_t ioctl;
};

// The programs keep a vcpu_state for each vCPU that has caused an event (such as a trimmed
// payload), or that has an empty CPUID table.
struct vcpu_state {
	uint64_t vm;	// the number of the vCPU's VM: see vm_of()
	uint64_t group; // the group whose budget (see below) counts this vCPU
	struct rate_limit rate_limits[HOST_EVENT_KINDS];
	uint64_t dropped; // the xfeatures dropped from the payload that KVM loaded last
	bool empty_table; // the vCPU's CPUID table has no entries
	bool to_end;	  // the VMM may have to be killed: see end_unrescued_vmm()
};

// Counts how much of the map vcpu_states and of the ring buffer a group of processes uses. A group
// is all processes of one user, service or VM.
struct budget {
	uint32_t vcpus;
	uint32_t reports; // the group's reports; restarts at 0 when user space has read them all
	uint64_t last;	  // the position in the ring buffer at which the group's last report ends
};

// The bits of the member `programs` of struct mark: one for each BPF program that sees calls.
enum program {
	BY_ENTRY = 1,
	BY_AGAIN = 2,
	BY_AGAIN2 = 4,
	BY_AGAIN3 = 8,
	BY_EXIT = 16,
	BY_EXIT2 = 32
};

// A mark describes a watched call (see is_watched()) that has entered KVM. If no program sees the
// call's exit, the mark stays until the vCPU's next watched call, or until KVM destroys the vCPU.
struct mark {
	uint64_t thread;
	unsigned long arg;
	uint32_t ioctl;
	uint32_t programs; // enum program: the programs that have seen the call
	uint64_t dropped;  // KVM_SET_XSAVE: the xfeatures that a program dropped from the payload
	bool reported;	   // a program has reported that the payload could not be trimmed
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} events SEC(".maps");

// While a thread is preempted in a bpf(2) call for a map, the kernel skips all kprobe programs on
// the thread's CPU. So user space reads the maps `counts` and `settings` through mmap(2) instead of
// bpf(2).
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

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_GROUPS);
	__type(key, uint64_t);
	__type(value, struct budget);
} budgets SEC(".maps");

// The table of vCPUs. The key is the address of a vCPU's struct kvm_vcpu. When KVM destroys the
// vCPU, the program xsaveshim_gone removes the entry. If the kernel skips xsaveshim_gone, the entry
// stays. If a vCPU of a later VM has the same address, get_state() ignores the old entry, because
// the entry's `vm` does not identify the later VM.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VCPUS);
	__type(key, struct kvm_vcpu *);
	__type(value, struct vcpu_state);
} vcpu_states SEC(".maps");

// The table of marks. The key is the address of a vCPU's struct kvm_vcpu. One mark for each vCPU is
// enough, because the vCPU's mutex in KVM admits only one call at a time.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_MARKS);
	__type(key, struct kvm_vcpu *);
	__type(value, struct mark);
} marks SEC(".maps");

// True if two programs watch the exit of kvm_arch_vcpu_ioctl(): xsaveshim_exit and xsaveshim_exit2.
const volatile bool exits_twice;

// KVM's struct file_operations for vCPUs. The f_op of each vCPU's struct file points to it.
void *vcpu_operations;

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

// Returns true if this set of BPF programs counts and reports. If two attached sets share their
// maps, only one of the two sets does so: see HOST_COUNT_GENERATION.
static __always_inline bool is_newest(void)
{
	uint32_t key = HOST_COUNT_GENERATION;
	const uint64_t *newest = bpf_map_lookup_elem(&counts, &key);

	return newest && *newest == get_settings().generation;
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

static __always_inline bool is_watched_at_exit(uint32_t ioctl)
{
	return is_watched(ioctl) || sets_cpuid(ioctl);
}

static __always_inline bool belongs_to_probe(struct kvm_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *entries = BPF_CORE_READ(vcpu, arch.cpuid_entries);
	struct kvm_cpuid_entry2 first;

	return entries && !bpf_probe_read_kernel(&first, sizeof(first), entries) &&
	       first.function == PROBE_VM_LEAF && first.ebx == PROBE_VM_EBX &&
	       first.ecx == PROBE_VM_ECX && first.edx == PROBE_VM_EDX;
}

// Returns a number that identifies the vCPU's VM. The upper half is the inode number of the VM's
// directory in debugfs, and no later directory gets the same inode number. The lower half is the
// pid of the process that created the VM. On kernels without debugfs, the upper half is 0, and only
// the pid distinguishes VMs. Two vCPUs of the same VM never have the same address, so the VM's
// number and a vCPU's address together identify the vCPU.
static __always_inline uint64_t vm_of(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = BPF_CORE_READ(vcpu, kvm);

	return (uint64_t)BPF_CORE_READ(kvm, debugfs_dentry, d_inode, i_ino) << 32 |
	       (uint32_t)BPF_CORE_READ(kvm, userspace_pid);
}

// ---- the state of vCPUs ----

static __always_inline uint64_t current_group(void)
{
	uint64_t cgroup = bpf_get_current_ancestor_cgroup_id(GROUP_LEVEL);

	return cgroup ? cgroup : UINT64_C(1) << 63 | (uint32_t)bpf_get_current_uid_gid();
}

// Finds or creates the budget of a group of processes. Returns NULL if the kernel cannot create the
// budget. If the map `budgets` is full, the kernel replaces budgets that the programs have not used
// for a long time.
static __always_inline struct budget *get_budget(uint64_t group)
{
	struct budget *budget = bpf_map_lookup_elem(&budgets, &group);

	if (!budget) {
		struct budget none = {0};

		bpf_map_update_elem(&budgets, &group, &none, BPF_NOEXIST);
		budget = bpf_map_lookup_elem(&budgets, &group);
	}
	return budget;
}

static __always_inline void forget_state(struct kvm_vcpu *vcpu)
{
	const struct vcpu_state *state = bpf_map_lookup_elem(&vcpu_states, &vcpu);
	struct budget *budget;

	if (!state)
		return;
	budget = bpf_map_lookup_elem(&budgets, &state->group);
	if (budget && budget->vcpus)
		__sync_fetch_and_sub(&budget->vcpus, 1);
	bpf_map_delete_elem(&vcpu_states, &vcpu);
}

static __always_inline struct vcpu_state *get_state(struct kvm_vcpu *vcpu)
{
	struct vcpu_state *state = bpf_map_lookup_elem(&vcpu_states, &vcpu);

	return state && state->vm == vm_of(vcpu) ? state : 0;
}

// Finds or creates the vCPU's entry in the table of vCPUs. Returns NULL if the table is full, or if
// the calling process's group (see struct budget) has used up its share of the table. A vCPU
// without an entry has no rate limit: only the group's share of the ring buffer limits the reports
// of this vCPU.
static __always_inline struct vcpu_state *make_state(struct kvm_vcpu *vcpu)
{
	struct vcpu_state *state = get_state(vcpu);
	struct vcpu_state new = {0};
	struct budget *budget;

	if (state)
		return state;
	new.vm = vm_of(vcpu);
	new.group = current_group();
	forget_state(vcpu);
	budget = get_budget(new.group);
	if (!budget || budget->vcpus >= get_settings().group_vcpus ||
	    bpf_map_update_elem(&vcpu_states, &vcpu, &new, BPF_NOEXIST)) {
		count(HOST_COUNT_UNTRACKED);
		return 0;
	}
	__sync_fetch_and_add(&budget->vcpus, 1);
	return bpf_map_lookup_elem(&vcpu_states, &vcpu);
}

// Fills *vcpu from KVM's memory. Takes the guest's xfeatures from the first CPUID entry that lists
// xfeatures, as KVM does. KVM stores the CPUID tables of KVM_SET_CPUID and of KVM_SET_CPUID2 in the
// same form. In KVM's memory, an empty CPUID table looks like a missing table. So on_cpuid_taken()
// notes empty tables.
//
// read_vcpu is a global function, because the BPF verifier checks a global function only once, but
// a static function at each call. A global function must not take a pointer to struct kvm_vcpu, so
// read_vcpu takes the address as a number.
int read_vcpu(uint64_t address, struct vcpu *vcpu);

__noinline int read_vcpu(uint64_t address, struct vcpu *vcpu)
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
		state = get_state(kvm_vcpu);
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

// ---- reports ----

// Reserves a place in the ring buffer for a report. Returns NULL if the ring buffer is full, or if
// the calling process's group has used up its share of the ring buffer. If the ring buffer is more
// than three quarters full, accepts only a vCPU's first report of each kind.
static __always_inline struct host_event *reserve_event(bool is_first)
{
	uint64_t waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	uint64_t size = bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
	struct budget *budget = get_budget(current_group());
	struct host_event *event;

	// If user space has read the group's last report, no report of the group is waiting.
	if (budget && bpf_ringbuf_query(&events, BPF_RB_CONS_POS) >= budget->last)
		budget->reports = 0;
	if (!budget || budget->reports >= get_settings().group_reports ||
	    (!is_first && waiting > size / 4 * 3))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		__sync_fetch_and_add(&budget->reports, 1);
		budget->last = bpf_ringbuf_query(&events, BPF_RB_PROD_POS);
	}
	return event;
}

// Describes the VMM in the report, because another process may have the VMM's pid when `xsaveshim
// host watch` reads the report. If a page of the VMM's command line is not in memory,
// bpf_probe_read_user() fails instead of waiting for the page, so no VMM can delay this program.
static __always_inline void read_process(struct host_event *event)
{
	struct task_struct *task = bpf_get_current_task_btf();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long size = BPF_CORE_READ(task, mm, arg_end) - start;
	unsigned long in_page = PAGE_SIZE - (start & (PAGE_SIZE - 1));

	event->time = bpf_ktime_get_boot_ns();
	event->started = BPF_CORE_READ(task, group_leader, start_boottime);
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (size > sizeof(event->command_line))
		size = sizeof(event->command_line);
	if (bpf_probe_read_user(event->command_line, size, (void *)start)) {
		// Tries the first page of the command line alone, because perhaps only the second
		// page is absent.
		if (size > in_page)
			size = in_page;
		// The mask below shows the BPF verifier an upper bound of the size. barrier_var()
		// keeps the compiler from removing the mask.
		barrier_var(size);
		size &= sizeof(event->command_line) - 1;
		if (bpf_probe_read_user(event->command_line, size, (void *)start))
			size = 0;
	}
	event->command_line_size = size;
}

// Reserves a report, and sets the members that reports of all kinds use. Returns NULL if the vCPU's
// rate limit forbids the report, or if reserve_event() finds no place in the ring buffer.
static __always_inline struct host_event *
begin_event(enum host_event_kind kind, const struct call *call, struct vcpu vcpu,
	    struct vcpu_state *state, uint64_t bits)
{
	uint64_t known = get_settings().caps.xfeatures;
	struct host_event *event;

	bits = (bits & known) | (bits & ~known ? OTHER_XFEATURES : 0);
	if (state && !rate_limit_allows(&state->rate_limits[kind], bits))
		return 0;
	event = reserve_event(state && state->rate_limits[kind].count == 1);
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
	read_process(event);
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

// Writes either all bytes of the payload's XSTATE_BV or none. XSTATE_BV can cross a page boundary,
// and perhaps only one of the two pages is writable. So write_bv writes to each page separately,
// and undoes the first write if the second write fails.
static __always_inline int write_bv(const struct call *call, uint64_t old, uint64_t bv)
{
	unsigned long address = call->arg + XSTATE_BV_OFFSET;
	unsigned long in_page = address & (PAGE_SIZE - 1);
	unsigned long second, first;
	uint64_t high, old_high;

	if (in_page <= PAGE_SIZE - sizeof(bv))
		return bpf_probe_write_user((void *)address, &bv, sizeof(bv));
	second = in_page - (PAGE_SIZE - sizeof(bv));
	first = sizeof(bv) - second;
	high = bv >> first * 8;
	old_high = old >> first * 8;
	if (bpf_probe_write_user((void *)(address + first), &high, second))
		return -EFAULT;
	if (!bpf_probe_write_user((void *)address, &bv, first))
		return 0;
	bpf_probe_write_user((void *)(address + first), &old_high, second);
	return -EFAULT;
}

static __always_inline void
report_trim(enum host_event_kind kind, const struct call *call, struct vcpu vcpu,
	    struct vcpu_state *state, struct trim_result trim)
{
	struct host_event *event =
		begin_event(kind, call, vcpu, state, trim.xstate_bv & ~trim.allowed);

	if (event) {
		event->trim = trim;
		bpf_ringbuf_submit(event, 0);
	}
}

static __always_inline void trim_payload(enum xsave_direction direction, const struct call *call,
					 bool is_silent, struct mark *mark)
{
	struct vcpu_state *state;
	struct vcpu vcpu = {0};
	struct trim_result trim;
	uint64_t bv;
	int error = 0;

	if (!read_bv(call, &bv) || !(bv & ~XFEATURE_FPSSE))
		return;
	read_vcpu((uint64_t)call->vcpu, &vcpu);
	trim = policy_trim(get_settings().trim, direction, vcpu, bv);
	if (!(trim.xstate_bv & ~trim.allowed))
		return;
	if (trim.after != trim.xstate_bv)
		error = write_bv(call, trim.xstate_bv, trim.after);
	if (is_silent)
		return;
	state = make_state(call->vcpu);
	if (error) {
		count(HOST_COUNT_NOT_TRIMMED);
		if (mark)
			mark->reported = true;
		report_trim(HOST_EVENT_NOT_TRIMMED, call, vcpu, state, trim);
		return;
	}
	count(trim.after == trim.xstate_bv ? HOST_COUNT_WOULD_TRIM : HOST_COUNT_TRIMMED);
	if (mark)
		mark->dropped = trim.xstate_bv & ~trim.after;
	report_trim(HOST_EVENT_TRIM, call, vcpu, state, trim);
}

// Returns true if the payload of this KVM_SET_XSAVE has xfeatures that the programs must trim.
static __always_inline bool
is_untrimmed(const struct call *call, struct vcpu *vcpu, struct trim_result *trim)
{
	uint64_t bv;

	if (!read_bv(call, &bv) || !(bv & ~XFEATURE_FPSSE))
		return false;
	read_vcpu((uint64_t)call->vcpu, vcpu);
	*trim = policy_trim(get_settings().trim, XSAVE_RESTORE, *vcpu, bv);
	return trim->after != trim->xstate_bv;
}

// Runs after KVM has loaded a payload. Reports a payload that the programs should have trimmed at
// the call's entry, but could not: for example, because the payload's page was not in memory then.
static __always_inline void on_xsave_loaded(const struct call *call, const struct mark *mark)
{
	struct vcpu_state *state = get_state(call->vcpu);
	struct vcpu vcpu = {0};
	struct trim_result trim;

	if (state)
		state->dropped = mark->dropped;
	if (mark->reported || !is_untrimmed(call, &vcpu, &trim))
		return;
	count(HOST_COUNT_NOT_TRIMMED);
	report_trim(HOST_EVENT_NOT_TRIMMED, call, vcpu, make_state(call->vcpu), trim);
}

static __always_inline void end_vmm(void)
{
	if (!bpf_send_signal(SIGKILL))
		count(HOST_COUNT_KILLED);
}

struct header {
	uint64_t xstate_bv;
	uint64_t xcomp_bv;
	uint64_t reserved[6];
};

static __always_inline struct payload_parts read_parts(const struct call *call)
{
	struct payload_parts parts = {0};
	struct header header = {0};

	bpf_probe_read_user(&header, sizeof(header), at(call, XSTATE_BV_OFFSET));
	bpf_probe_read_user(&parts.mxcsr, sizeof(parts.mxcsr), at(call, XSTATE_MXCSR_OFFSET));
	parts.xstate_bv = header.xstate_bv;
	parts.xcomp_bv = header.xcomp_bv;
	parts.reserved_bytes = header.reserved[0] | header.reserved[1] | header.reserved[2] |
			       header.reserved[3] | header.reserved[4] | header.reserved[5];
	return parts;
}

// With --refused=abort, kills the VMM if the reason why KVM refused the call is known. If KVM
// refused a payload only because of FP or SSE, spares the VMM until the vCPU's next watched call,
// because libxsaveshim.so in the VMM may make KVM accept FP and SSE: see end_unrescued_vmm().
static __always_inline void
end_refused_vmm(int error, struct refusal refusal, struct vcpu_state *state)
{
	if (!get_settings().abort || error != EINVAL || !policy_is_diagnosed(refusal))
		return;
	if (state && policy_refused_fpsse_alone(TRIM_RESTORE, refusal))
		state->to_end = true;
	else
		end_vmm();
}

static __always_inline void on_xsave_refused(const struct call *call, int error)
{
	struct payload_parts parts = read_parts(call);
	struct vcpu_state *state = make_state(call->vcpu);
	struct host_event *event;
	struct vcpu vcpu = {0};

	count(HOST_COUNT_REFUSED);
	read_vcpu((uint64_t)call->vcpu, &vcpu);
	end_refused_vmm(error, policy_diagnose_parts(parts, vcpu, get_settings().caps), state);
	event = begin_event(HOST_EVENT_REFUSED, call, vcpu, state, parts.xstate_bv);
	if (event) {
		event->error = error;
		event->trim.xstate_bv = parts.xstate_bv;
		event->mxcsr = parts.mxcsr;
		bpf_probe_read_user(event->header, sizeof(event->header),
				    at(call, XSTATE_BV_OFFSET));
		bpf_ringbuf_submit(event, 0);
	}
}

// Returns the XCR0 in the argument of KVM_SET_XCRS. Like KVM, given_xcr0 uses the first entry for
// XCR0. Returns 0 if there is no such entry, or if KVM refuses the argument's flags or number of
// entries.
static __always_inline uint64_t given_xcr0(const struct call *call)
{
	const struct kvm_xcrs *xcrs = at(call, 0);
	struct {
		uint32_t nr, flags;
	} head;

	if (bpf_probe_read_user(&head, sizeof(head), xcrs) || head.nr > KVM_MAX_XCRS || head.flags)
		return 0;
	for (uint32_t i = 0; i < KVM_MAX_XCRS && i < head.nr; i++) {
		struct kvm_xcr xcr;

		if (bpf_probe_read_user(&xcr, sizeof(xcr), &xcrs->xcrs[i]))
			break;
		if (!xcr.xcr)
			return xcr.value;
	}
	return 0;
}

static __always_inline void on_xcrs_refused(const struct call *call, int error)
{
	uint64_t xcr0 = given_xcr0(call);
	struct host_event *event;
	struct vcpu vcpu = {0};

	count(HOST_COUNT_REFUSED);
	read_vcpu((uint64_t)call->vcpu, &vcpu);
	end_refused_vmm(error, policy_diagnose_xcr0(xcr0, vcpu, get_settings().caps), 0);
	event = begin_event(HOST_EVENT_XCR0_REFUSED, call, vcpu, make_state(call->vcpu), xcr0);
	if (event) {
		event->error = error;
		event->xcr0 = xcr0;
		bpf_ringbuf_submit(event, 0);
	}
}

// Runs after KVM_SET_XCRS has set the guest's XCR0. If the XCR0 enables an xfeature that the
// programs dropped from the vCPU's payload, the guest has lost the state of this xfeature.
static __always_inline void on_xcrs_taken(const struct call *call)
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
	read_vcpu((uint64_t)call->vcpu, &vcpu);
	if (get_settings().abort)
		end_vmm();
	event = begin_event(HOST_EVENT_LOST, call, vcpu, state, lost);
	if (event) {
		event->xcr0 = xcr0;
		event->lost = lost;
		bpf_ringbuf_submit(event, 0);
	}
}

static __always_inline void on_cpuid_taken(struct kvm_vcpu *vcpu)
{
	bool is_empty = BPF_CORE_READ(vcpu, arch.cpuid_nent) == 0;
	struct vcpu_state *state = is_empty ? make_state(vcpu) : get_state(vcpu);

	if (state) {
		state->empty_table = is_empty;
		state->to_end = false;
	}
}

static __always_inline bool is_of(const struct mark *mark, const struct call *call)
{
	return mark->thread == bpf_get_current_pid_tgid() && mark->ioctl == call->ioctl &&
	       mark->arg == call->arg;
}

// Counts a call whose exit no program saw. If the call was KVM_SET_XSAVE, it is unknown whether KVM
// loaded the payload, so on_exit_missed clears the member `dropped` of the vCPU's state.
static __always_inline void on_exit_missed(struct kvm_vcpu *vcpu, const struct mark *mark)
{
	struct vcpu_state *state = get_state(vcpu);

	count(HOST_COUNT_MISSED_EXITS);
	if (state && mark->ioctl == KVM_SET_XSAVE)
		state->dropped = 0;
}

// Returns true if a program has seen the marked call's exit. If two programs watch exits, the mark
// stays after the first program has seen the exit, so that the second program recognises the exit.
static __always_inline bool has_left(const struct mark *mark)
{
	return mark->programs & (BY_EXIT | BY_EXIT2);
}

// If another program has seen this call's entry, returns the call's mark, and notes in the mark that
// `program` has seen the entry, too. The mark may also be left over from an earlier call with the
// same argument. Returns NULL for xsaveshim_entry, because it runs before the other programs.
static __always_inline struct mark *join_mark(const struct call *call, enum program program)
{
	struct kvm_vcpu *vcpu = call->vcpu;
	struct mark *mark = program == BY_ENTRY ? 0 : bpf_map_lookup_elem(&marks, &vcpu);

	if (!mark || has_left(mark) || mark->programs & program || !is_of(mark, call))
		return 0;
	mark->programs |= program;
	return mark;
}

// Makes the mark of a call that enters KVM. Returns NULL if the table of marks is full.
static __always_inline struct mark *make_mark(const struct call *call, enum program program)
{
	struct kvm_vcpu *vcpu = call->vcpu;
	const struct mark *earlier = bpf_map_lookup_elem(&marks, &vcpu);
	struct mark new = {.thread = bpf_get_current_pid_tgid(),
			   .arg = call->arg,
			   .ioctl = call->ioctl,
			   .programs = program};

	if (earlier && !has_left(earlier))
		on_exit_missed(vcpu, earlier);
	count(HOST_COUNT_ENTRIES);
	if (bpf_map_update_elem(&marks, &vcpu, &new, BPF_ANY))
		count(HOST_COUNT_UNMARKED);
	return bpf_map_lookup_elem(&marks, &vcpu);
}

// Runs at a call's exit, and copies the call's mark if there is one. Returns false if two programs
// watch exits, and the other program has already handled this exit.
static __always_inline bool take_mark(const struct call *call, enum program program,
				      struct mark *copy)
{
	struct kvm_vcpu *vcpu = call->vcpu;
	struct mark *mark = bpf_map_lookup_elem(&marks, &vcpu);
	bool is_same = mark && is_of(mark, call);

	if (is_same && has_left(mark) && !(mark->programs & program)) {
		bpf_map_delete_elem(&marks, &vcpu);
		return false;
	}
	if (is_same && !has_left(mark))
		*copy = *mark;
	else
		count(HOST_COUNT_MISSED_ENTRIES);
	if (mark && !is_same && !has_left(mark))
		on_exit_missed(vcpu, mark);
	count(HOST_COUNT_EXITS);
	if (!exits_twice) {
		bpf_map_delete_elem(&marks, &vcpu);
	} else if (is_same) {
		mark->programs |= program;
	} else {
		struct mark left = {.thread = bpf_get_current_pid_tgid(),
				    .arg = call->arg,
				    .ioctl = call->ioctl,
				    .programs = program};

		bpf_map_update_elem(&marks, &vcpu, &left, BPF_ANY);
	}
	return true;
}

// If KVM refuses a payload only because of FP or SSE, libxsaveshim.so in the VMM adds FP and SSE to
// the guest's CPUID table with KVM_SET_CPUID2, and then repeats KVM_SET_XSAVE. So at the vCPU's
// first watched call (see is_watched()) after the refusal, end_unrescued_vmm kills the VMM, unless
// this call is KVM_SET_XSAVE or the VMM has set the vCPU's CPUID table since the refusal.
static __always_inline void end_unrescued_vmm(const struct call *call)
{
	struct kvm_vcpu *vcpu = call->vcpu;
	struct vcpu_state *state = bpf_map_lookup_elem(&vcpu_states, &vcpu);

	// get_state() is slow, so end_unrescued_vmm calls get_state() last.
	if (!state || !state->to_end || !get_state(vcpu))
		return;
	state->to_end = false;
	if (call->ioctl != KVM_SET_XSAVE)
		end_vmm();
}

// Returns true if this set of programs must trim this vCPU's payloads without marks and reports:
// either because the vCPU belongs to a probe VM (shared/probe_vm.h), or because another set counts
// and reports (is_newest() is false). If counts_probe and is_newest() are true, counts the call of
// a probe VM in counts[what].
static __always_inline bool is_quiet(struct kvm_vcpu *vcpu, bool counts_probe, enum host_count what)
{
	bool is_old = !is_newest();
	bool is_probe = belongs_to_probe(vcpu);

	if (is_probe && !is_old && counts_probe)
		count(what);
	return is_probe || is_old;
}

static __always_inline void enter(const struct call *call, enum program program)
{
	struct mark *mark = is_newest() ? join_mark(call, program) : 0;
	struct vcpu vcpu = {0};
	struct trim_result trim;
	bool is_silent = false;

	if (mark) {
		// Another program has trimmed the payload, unless the mark is left over from an
		// earlier call. So is_untrimmed() reads the payload.
		if (call->ioctl != KVM_SET_XSAVE || mark->reported ||
		    !is_untrimmed(call, &vcpu, &trim))
			return;
	} else {
		is_silent = is_quiet(call->vcpu, program == BY_ENTRY, HOST_COUNT_PROBE_ENTRIES);
		if (!is_silent) {
			mark = make_mark(call, program);
			end_unrescued_vmm(call);
		}
	}
	if (call->ioctl == KVM_SET_XSAVE)
		trim_payload(XSAVE_RESTORE, call, is_silent, mark);
}

static __always_inline void leave(const struct call *call, int result, enum program program)
{
	struct mark mark = {0};
	bool is_silent;

	if (sets_cpuid(call->ioctl)) {
		if (!result)
			on_cpuid_taken(call->vcpu);
		return;
	}
	is_silent = is_quiet(call->vcpu, program == BY_EXIT, HOST_COUNT_PROBE_EXITS);
	if (!is_silent && !take_mark(call, program, &mark))
		return;
	if (call->ioctl == KVM_GET_XSAVE || call->ioctl == KVM_GET_XSAVE2) {
		if (!result && get_settings().trim != TRIM_RESTORE)
			trim_payload(XSAVE_SAVE, call, is_silent, 0);
		return;
	}
	// EFAULT means that KVM could not read the memory that the call's argument points to.
	if (is_silent || result == -EFAULT)
		return;
	if (call->ioctl == KVM_SET_XSAVE) {
		if (result)
			on_xsave_refused(call, -result);
		else
			on_xsave_loaded(call, &mark);
	} else {
		if (result)
			on_xcrs_refused(call, -result);
		else
			on_xcrs_taken(call);
	}
}

// ---- the programs ----

// Each program saves the registers that it uses. For a call that is not watched, a program spends
// most of its time on these saves. So the functions that handle watched calls are not inlined, and
// the programs themselves use few registers.

static __always_inline struct call
call_of(const struct file *file, uint32_t ioctl, unsigned long arg)
{
	return (struct call){.vcpu = BPF_CORE_READ(file, private_data), .arg = arg, .ioctl = ioctl};
}

static __noinline int enter_watched(struct pt_regs *ctx)
{
	struct file *file = (struct file *)PT_REGS_PARM1(ctx);
	struct call call = call_of(file, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx));

	vcpu_operations = BPF_CORE_READ(file, f_op);
	enter(&call, BY_ENTRY);
	return 0;
}

// This program is attached to a kprobe, because the kernel never preempts a kprobe's program. With
// preempt=full, the kernel can preempt a thread in an fentry program. Until the thread continues,
// the kernel skips the fentry program for all other threads on the same CPU.
SEC("kprobe/kvm_arch_vcpu_ioctl")
int BPF_KPROBE(xsaveshim_entry, struct file *file, unsigned int ioctl)
{
	return is_watched(ioctl) ? enter_watched(ctx) : 0;
}

// An fentry or fexit program gets the arguments of kvm_arch_vcpu_ioctl() in ctx, each in 64 bits. An
// fexit program gets the function's result behind them.
static __noinline int enter_again(unsigned long long *ctx, enum program program)
{
	struct call call = call_of((struct file *)ctx[0], ctx[1], ctx[2]);

	enter(&call, program);
	return 0;
}

// While a thread is preempted in a bpf(2) call for a map, the kernel skips xsaveshim_entry on the
// thread's CPU, and xsaveshim_again does the work of xsaveshim_entry there.
SEC("fentry/kvm_arch_vcpu_ioctl")
int BPF_PROG(xsaveshim_again, struct file *file, unsigned int ioctl)
{
	return is_watched(ioctl) ? enter_again(ctx, BY_AGAIN) : 0;
}

// While a thread is preempted in xsaveshim_again, the kernel skips xsaveshim_again for all other
// threads on the same CPU, and xsaveshim_again2 does the work of xsaveshim_again there.
SEC("fentry/kvm_arch_vcpu_ioctl")
int BPF_PROG(xsaveshim_again2, struct file *file, unsigned int ioctl)
{
	return is_watched(ioctl) ? enter_again(ctx, BY_AGAIN2) : 0;
}

// xsaveshim_again3 does the same while threads are preempted in both xsaveshim_again and
// xsaveshim_again2. Only some kernels need this program: see choose_programs() in host/loader.c.
SEC("fentry/kvm_arch_vcpu_ioctl")
int BPF_PROG(xsaveshim_again3, struct file *file, unsigned int ioctl)
{
	return is_watched(ioctl) ? enter_again(ctx, BY_AGAIN3) : 0;
}

static __noinline int leave_traced(unsigned long long *ctx, enum program program)
{
	struct call call = call_of((struct file *)ctx[0], ctx[1], ctx[2]);

	leave(&call, (int)ctx[3], program);
	return 0;
}

SEC("fexit/kvm_arch_vcpu_ioctl")
int BPF_PROG(xsaveshim_exit, struct file *file, unsigned int ioctl)
{
	return is_watched_at_exit(ioctl) ? leave_traced(ctx, BY_EXIT) : 0;
}

// While a thread is preempted in xsaveshim_exit, the kernel skips xsaveshim_exit for all other
// threads on the same CPU. xsaveshim_exit2 sees the exits of these other threads' calls, unless one
// of these threads is preempted in xsaveshim_exit2.
SEC("fexit/kvm_arch_vcpu_ioctl")
int BPF_PROG(xsaveshim_exit2, struct file *file, unsigned int ioctl)
{
	return is_watched_at_exit(ioctl) ? leave_traced(ctx, BY_EXIT2) : 0;
}

// Returns the struct file of this process's descriptor fd. Returns NULL if fd is no longer a vCPU's
// descriptor: another thread may have closed fd during the ioctl.
static __always_inline struct file *vcpu_file(struct task_struct *task, uint32_t fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = 0;

	if (fd < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file && vcpu_operations && BPF_CORE_READ(file, f_op) == vcpu_operations ? file : 0;
}

static __noinline int leave_fd(uint32_t fd, uint32_t ioctl, uint64_t arg, int result)
{
	struct file *file = vcpu_file(bpf_get_current_task_btf(), fd);
	struct call call;

	if (!file)
		return 0;
	call = call_of(file, ioctl, arg);
	leave(&call, result, BY_EXIT);
	return 0;
}

// Watches the exit of kvm_arch_vcpu_ioctl() if KVM's module has no BTF. A kretprobe's program does
// not get the function's arguments, so this program reads the arguments of the thread's ioctl(2)
// system call.
SEC("kretprobe/kvm_arch_vcpu_ioctl")
int BPF_KRETPROBE(xsaveshim_ret, int result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs___kernel *regs = (struct pt_regs___kernel *)bpf_task_pt_regs(task);
	bool is_compat = task->thread_info.status & TS_COMPAT;
	uint32_t ioctl = is_compat ? regs->cx : regs->si;

	if (!is_watched_at_exit(ioctl))
		return 0;
	return is_compat ? leave_fd(regs->bx, ioctl, (uint32_t)regs->dx, result)
			 : leave_fd(regs->di, ioctl, regs->dx, result);
}

static __always_inline int forget(struct kvm_vcpu *vcpu)
{
	const struct mark *mark = bpf_map_lookup_elem(&marks, &vcpu);

	if (mark && !has_left(mark))
		count(HOST_COUNT_MISSED_EXITS);
	bpf_map_delete_elem(&marks, &vcpu);
	forget_state(vcpu);
	return 0;
}

SEC("kprobe/kvm_arch_vcpu_destroy")
int BPF_KPROBE(xsaveshim_gone, struct kvm_vcpu *vcpu)
{
	return forget(vcpu);
}

// When KVM creates a vCPU, forgets an earlier vCPU at the same address, because the kernel may have
// skipped xsaveshim_gone for the earlier vCPU.
SEC("kprobe/kvm_arch_vcpu_create")
int BPF_KPROBE(xsaveshim_made, struct kvm_vcpu *vcpu)
{
	return forget(vcpu);
}

// The kernel lets a BPF program write to a process's memory only if the program's licence is
// compatible with the GPL.
char LICENSE[] SEC("license") = "Dual MIT/GPL";
