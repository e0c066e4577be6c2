// SPDX-License-Identifier: MIT
// A fake KVM, the "stand-in". The tests list the stand-in behind xsaveshim's library in LD_PRELOAD
// ("libxsaveshim.so standin.so"). The stand-in's KVM_SET_XSAVE refuses xfeatures that the guest
// lacks. The descriptor of each VM and vCPU is a memfd with the state of this VM or vCPU. So
// duplicated descriptors, inherited descriptors and reused descriptor numbers work as with KVM.
// KVM_CREATE_VM and KVM_GET_SUPPORTED_CPUID work on any descriptor. So the tests can set $DEVICE,
// the file that the test programs open, to /dev/null. Environment variables change the stand-in's
// answers:
//
//	STANDIN_LOG=PATH	the stand-in appends a line for each ioctl to this file
//	STANDIN_ANSWER=REQUEST=ANSWER,...	REQUEST only returns ANSWER, an errno or number
//	STANDIN_SUPPORTED=MASK	the xfeatures that this host's KVM supports; default 0x207
//	STANDIN_LEAK=MASK	KVM_GET_XSAVE and KVM_GET_XSAVE2 also set these bits of XSTATE_BV
//	STANDIN_KEEPS_NENT=1	KVM_GET_CPUID2 does not write nent, like Linux up to 6.4
//	STANDIN_STRICT=1	KVM_SET_XSAVE refuses FP and SSE if the guest's CPUID does not
//				enumerate them, like Linux from 5.17 to 5.19.11
//	STANDIN_XCR0=MASK	KVM_SET_XCRS accepts these bits even if the guest's CPUID lacks
//				them, as if KVM had added them to the guest's CPUID table
//	STANDIN_HIGH_FDS=N	vCPUs have descriptor numbers higher by N, even beyond RLIMIT_NOFILE
#include <inttypes.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "errnos.h"
#include "interposer.h"
#include "kvm.h"

#define MAGIC 0x6d766b2d646e6174u
#define PAYLOAD_SIZE 4096

struct object {
	uint64_t magic;
	enum { VM, VCPU } kind;
	uint32_t id;
	bool has_cpuid;
	uint32_t nent;
	struct kvm_cpuid_entry2 entries[KVM_CPUID_ENTRIES_MAX];
	unsigned char payload[PAYLOAD_SIZE];
};

static const struct {
	const char *name;
	uint32_t number;
} requests[] = {
	{"KVM_CREATE_VM", KVM_CREATE_VM},
	{"KVM_CREATE_VCPU", KVM_CREATE_VCPU},
	{"KVM_CHECK_EXTENSION", KVM_CHECK_EXTENSION},
	{"KVM_GET_SUPPORTED_CPUID", KVM_GET_SUPPORTED_CPUID},
	{"KVM_SET_CPUID", KVM_SET_CPUID},
	{"KVM_SET_CPUID2", KVM_SET_CPUID2},
	{"KVM_GET_CPUID2", KVM_GET_CPUID2},
	{"KVM_SET_XSAVE", KVM_SET_XSAVE},
	{"KVM_GET_XSAVE", KVM_GET_XSAVE},
	{"KVM_GET_XSAVE2", KVM_GET_XSAVE2},
	{"KVM_SET_XCRS", KVM_SET_XCRS},
	{"KVM_SET_MSRS", KVM_SET_MSRS},
	{"KVM_SET_SREGS", KVM_SET_SREGS},
	{"KVM_SET_SREGS2", KVM_SET_SREGS2},
	{"KVM_SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS},
	{"KVM_SET_DEBUGREGS", KVM_SET_DEBUGREGS},
	{"KVM_SET_LAPIC", KVM_SET_LAPIC},
	{"KVM_SET_NESTED_STATE", KVM_SET_NESTED_STATE},
	{"KVM_RUN", KVM_RUN},
};

static const char *request_name(uint32_t request)
{
	static __thread char other[16];

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		if (requests[i].number == request)
			return requests[i].name;
	snprintf(other, sizeof(other), "0x%" PRIx32, request);
	return other;
}

static uint64_t mask_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static int high_fds(void)
{
	return (int)mask_from("STANDIN_HIGH_FDS", 0);
}

static int real_fd(int fd)
{
	return fd >= high_fds() ? fd - high_fds() : fd;
}

static bool load(int fd, struct object *object)
{
	ssize_t size = pread(real_fd(fd), object, sizeof(*object), 0);

	return size == (ssize_t)sizeof(*object) && object->magic == MAGIC;
}

static int store(int fd, const struct object *object)
{
	return pwrite(real_fd(fd), object, sizeof(*object), 0) == (ssize_t)sizeof(*object)
		       ? 0
		       : -EIO;
}

static int create(int kind, uint32_t id)
{
	struct object object = {.magic = MAGIC, .kind = kind, .id = id};
	int fd = memfd_create(kind == VM ? "kvm-vm" : "kvm-vcpu", MFD_CLOEXEC);

	if (fd == -1 || store(fd, &object))
		return -EMFILE;
	return kind == VCPU ? fd + high_fds() : fd;
}

// Returns true if the page at the pointer is mapped. msync(2) with MS_ASYNC does nothing for a
// mapped page, and fails for an unmapped page. Returns false without msync(2) for kernel addresses,
// and also for the first page of memory, because Valgrind would complain about this page.
static bool is_readable(const void *pointer)
{
	uintptr_t page = (uintptr_t)pointer & ~(uintptr_t)4095;

	return (intptr_t)pointer >= 4096 && syscall(SYS_msync, page, 1, MS_ASYNC) == 0;
}

static int set_cpuid2(int fd, struct object *vcpu, struct kvm_cpuid2 *table)
{
	if (!is_readable(table))
		return -EFAULT;
	if (table->nent > KVM_CPUID_ENTRIES_MAX)
		return -E2BIG;
	vcpu->has_cpuid = true;
	vcpu->nent = table->nent;
	memcpy(vcpu->entries, table->entries, table->nent * sizeof(table->entries[0]));
	return store(fd, vcpu);
}

static int set_cpuid(int fd, struct object *vcpu, const struct kvm_cpuid *table)
{
	if (!is_readable(table))
		return -EFAULT;
	if (table->nent > KVM_CPUID_ENTRIES_MAX)
		return -E2BIG;
	vcpu->has_cpuid = true;
	vcpu->nent = table->nent;
	for (uint32_t i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry *e = &table->entries[i];

		vcpu->entries[i] = (struct kvm_cpuid_entry2){
			.function = e->function, .eax = e->eax, .edx = e->edx};
	}
	return store(fd, vcpu);
}

static int get_cpuid2(const struct object *vcpu, struct kvm_cpuid2 *table)
{
	if (!table)
		return -EFAULT;
	if (table->nent < vcpu->nent)
		return -E2BIG;
	memcpy(table->entries, vcpu->entries, vcpu->nent * sizeof(table->entries[0]));
	if (!getenv("STANDIN_KEEPS_NENT"))
		table->nent = vcpu->nent;
	return 0;
}

static int get_supported_cpuid(struct kvm_cpuid2 *table)
{
	uint64_t mask = mask_from("STANDIN_SUPPORTED", 0x207);

	if (!table)
		return -EFAULT;
	if (table->nent < 2)
		return -E2BIG;
	table->nent = 2;
	table->entries[0] = (struct kvm_cpuid_entry2){.function = 1};
	table->entries[1] = (struct kvm_cpuid_entry2){
		.function = 0xd,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = (uint32_t)mask,
		.edx = (uint32_t)(mask >> 32)};
	return 0;
}

static int set_xsave(int fd, struct object *vcpu, const unsigned char *payload)
{
	uint64_t accepted = mask_from("STANDIN_SUPPORTED", 0x207);

	if (!is_readable(payload))
		return -EFAULT;
	if (vcpu->has_cpuid)
		accepted &= guest_xcr0_of(vcpu->entries, vcpu->nent) |
			    (getenv("STANDIN_STRICT") ? 0 : XFEATURES_FP_SSE);
	if (get_xstate_bv(payload) & ~accepted || (get_mxcsr(payload) & 0xffff0000))
		return -EINVAL;
	for (size_t i = XCOMP_BV; i < XSAVE_EXTENDED; i++)
		if (payload[i])
			return -EINVAL;
	memcpy(vcpu->payload, payload, PAYLOAD_SIZE);
	return store(fd, vcpu);
}

static int set_xcrs(const struct object *vcpu, const struct kvm_xcrs *xcrs)
{
	uint64_t accepted =
		guest_xcr0_of(vcpu->entries, vcpu->nent) | 1 | mask_from("STANDIN_XCR0", 0);

	if (!is_readable(xcrs))
		return -EFAULT;
	return xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->xcrs[0].value & ~accepted ? -EINVAL : 0;
}

static int get_xsave(const struct object *vcpu, unsigned char *payload)
{
	uint64_t xstate_bv = get_xstate_bv(vcpu->payload) | mask_from("STANDIN_LEAK", 0);

	if (!is_readable(payload))
		return -EFAULT;
	memcpy(payload, vcpu->payload, PAYLOAD_SIZE);
	set_xstate_bv(payload, xstate_bv);
	return 0;
}

// Returns true if STANDIN_ANSWER has an answer for this request.
static bool canned_answer(const char *name, int *answer)
{
	const char *text = getenv("STANDIN_ANSWER");
	size_t length = strlen(name);
	char value[16];

	while (text && (strncmp(text, name, length) || text[length] != '=')) {
		text = strchr(text, ',');
		text = text ? text + 1 : NULL;
	}
	if (!text)
		return false;
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(text + length + 1, ","),
		 text + length + 1);
	*answer = errno_number(value) ? -errno_number(value) : atoi(value);
	return true;
}

static void log_call(unsigned long request, const struct object *object, const void *arg)
{
	const char *path = getenv("STANDIN_LOG");
	bool vcpu = object && object->kind == VCPU;
	const struct kvm_cpuid2 *table = arg;
	char id[24] = "", detail[40] = "";
	int fd;

	if (!path)
		return;
	if (vcpu)
		snprintf(id, sizeof(id), " vcpu=%" PRIu32, object->id);
	if (vcpu && (uint32_t)request == KVM_SET_XSAVE && is_readable(arg))
		snprintf(detail, sizeof(detail), " xstate_bv=0x%" PRIx64, get_xstate_bv(arg));
	if (vcpu && (uint32_t)request == KVM_SET_CPUID2 && is_readable(arg))
		snprintf(detail, sizeof(detail), " xcr0=0x%" PRIx64,
			 guest_xcr0_of(table->entries, table->nent));
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1)
		abort();
	dprintf(fd, "%s%s%s%s\n", request_name((uint32_t)request), id, detail,
		request == (uint32_t)request ? "" : " wide");
	close(fd);
}

static int answer_vcpu(int fd, uint32_t request, struct object *vcpu, void *arg)
{
	switch (request) {
	case KVM_SET_CPUID2:
		return set_cpuid2(fd, vcpu, arg);
	case KVM_SET_CPUID:
		return set_cpuid(fd, vcpu, arg);
	case KVM_GET_CPUID2:
		return get_cpuid2(vcpu, arg);
	case KVM_SET_XSAVE:
		return set_xsave(fd, vcpu, arg);
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
		return get_xsave(vcpu, arg);
	case KVM_SET_XCRS:
		return set_xcrs(vcpu, arg);
	case KVM_RUN:
		return 0;
	default:
		return -ENOTTY;
	}
}

static int answer(int fd, uint32_t request, struct object *object, void *arg)
{
	int canned;

	if (canned_answer(request_name(request), &canned))
		return canned;
	if (object && object->kind == VCPU)
		return answer_vcpu(fd, request, object, arg);
	switch (request) {
	case KVM_CREATE_VM:
		return create(VM, 0);
	case KVM_CREATE_VCPU:
		return object ? create(VCPU, (uint32_t)(uintptr_t)arg) : -ENOTTY;
	case KVM_CHECK_EXTENSION:
		return PAYLOAD_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		return get_supported_cpuid(arg);
	default:
		return (int)syscall(SYS_ioctl, fd, request, arg) == -1 ? -errno : 0;
	}
}

static int on_ioctl(int fd, unsigned long request, void *arg)
{
	struct object object, *known = NULL;
	int saved = errno, result;

	if (load(fd, &object))
		known = &object;
	log_call(request, known, arg);
	result = answer(fd, (uint32_t)request, known, arg);
	errno = result < 0 ? -result : saved;
	return result < 0 ? -1 : result;
}
