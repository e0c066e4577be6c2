// SPDX-License-Identifier: MIT
// Checks with random data how xsaveshim's core (core/) reads CPUID tables, and which xfeatures
// xsaveshim's library or host mode clears in a payload (the state that KVM_SET_XSAVE loads).
// Compares the core with KVM, and with an independent model in this file.
//
// oracle cpuid COUNT [SEED [FIRST]]
//	Sets COUNT random CPUID tables, one after the other, on a real vCPU. From each table, the
//	core computes the guest's XCR0 (the xfeatures that the guest may use), and the model must
//	compute the same XCR0. KVM must enforce this XCR0 in KVM_SET_XCRS. Some KVMs accept every
//	xfeature of the host in KVM_SET_XSAVE; every other KVM must enforce this XCR0 there too.
//	From the table that KVM_GET_CPUID2 returns, the core must compute the same XCR0 again.
// oracle kvm COUNT [SEED [FIRST]], oracle model COUNT [SEED [FIRST]]
//	"oracle kvm" compares the core only with KVM. "oracle model" compares the core only with the
//	model, and does not need KVM.
// oracle payload COUNT [SEED [FIRST]]
//	Passes COUNT payloads to KVM_SET_XSAVE. xsaveshim's library must be preloaded, or the host
//	mode must be enabled. In each XSTATE_BV, xsaveshim must clear the bits of the xfeatures that
//	the guest lacks, except FP and SSE. xsaveshim must not change any other bit of the payload.
//
// FIRST is the number of the first table or payload. Each table and each payload depends only on
// SEED and on its number, so "oracle cpuid 1 SEED NUMBER" checks one table again. If the check of a
// table fails, the program makes the table smaller as long as the check still fails, and then
// prints the table.
//
// The exit status is 0 if all checks pass, 1 after a mismatch, and 2 if KVM is not usable or the
// arguments are wrong. The exit status is 3 if KVM changes the CPUID tables that it gets, because
// the core cannot be compared with such a KVM.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/xstate.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define EXIT_MISMATCH 1
#define EXIT_NO_KVM 2
#define EXIT_NO_JUDGE 3

// Groups of xfeatures. A valid XCR0 has either all xfeatures of a group or none of them (Intel SDM
// vol. 1, 13.3).
#define XFEATURE_BND UINT64_C(0x18)
#define XFEATURE_AVX512 UINT64_C(0xe0)
#define XFEATURE_TILE UINT64_C(0x60000)

static _Noreturn void die(int status, const char *what)
{
	fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
	exit(status);
}

// ---- random numbers of splitmix64, which has a new seed for each table and each payload ----

static uint64_t random_state;

static uint64_t random64(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint32_t below(uint32_t limit)
{
	return (uint32_t)(random64() % limit);
}

static void random_start(uint64_t seed, uint64_t number)
{
	random_state = seed;
	random_state = random64() ^ number;
	random64();
}

// ---- tables ----

// A CPUID table. If v1 is false, the table goes to KVM_SET_CPUID2. If v1 is true, the table goes to
// KVM_SET_CPUID, without the index and the flags of each entry.
struct table {
	struct guest_cpuid v2;
	bool v1;
};

static uint32_t random_function(void)
{
	static const uint32_t near[] = {0xc, 0xe, 0x10d, 0x8000000d, 0x4000000d, 0xd0000000};
	static const uint32_t known[] = {
		0,    1,    2,	  4,	      7,	  0xa,	      0xb,
		0x12, 0x14, 0x1d, 0x40000000, 0x40000001, 0x80000000, 0x80000001};
	uint32_t kind = below(10);

	// KVM refuses most random values in leaf 0x80000008, so few tables have this leaf.
	if (!below(256))
		return 0x80000008;
	if (kind < 4)
		return 0xd;
	if (kind < 5)
		return near[below(COUNT(near))];
	return kind < 7 ? known[below(COUNT(known))] : (uint32_t)random64();
}

static struct kvm_cpuid_entry2 random_entry(void)
{
	static const uint32_t indices[] = {0, 0, 0, 1, 2, 9, 0x80000000, 0xffffffff};
	struct kvm_cpuid_entry2 entry = {
		.function = random_function(),
		.index = indices[below(COUNT(indices))],
		.flags = below(8) ? below(2) : (uint32_t)random64(),
		.eax = (uint32_t)(random64() & random64()),
		.ebx = (uint32_t)random64(),
		.ecx = (uint32_t)random64(),
		.edx = below(2) ? (uint32_t)random64() : 0,
	};

	// KVM refuses a CPUID table with XTILEDATA if the process lacks the permission for AMX, so
	// few entries have XTILEDATA.
	if (below(64))
		entry.eax &= ~(uint32_t)XFEATURE_TILE;
	return entry;
}

static uint32_t random_nent(void)
{
	uint32_t kind = below(16);

	if (kind < 1)
		return 0;
	if (kind < 2)
		return GUEST_CPUID_MAX_ENTRIES;
	return kind < 5 ? 9 + below(72) : 1 + below(8);
}

static struct table random_table(uint64_t seed, uint64_t number)
{
	struct table table = {.v1 = false};

	random_start(seed, number);
	table.v1 = !below(5);
	table.v2.nent = random_nent();
	for (uint32_t i = 0; i < table.v2.nent; i++)
		table.v2.entries[i] = random_entry();
	return table;
}

static void print_table(const struct table *table)
{
	printf("  KVM_SET_CPUID%s of %" PRIu32 " entries:\n", table->v1 ? "" : "2", table->v2.nent);
	for (uint32_t i = 0; i < table->v2.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->v2.entries[i];

		printf("    function=0x%" PRIx32 " index=0x%" PRIx32 " flags=0x%" PRIx32
		       " eax=0x%" PRIx32 " ebx=0x%" PRIx32 " ecx=0x%" PRIx32 " edx=0x%" PRIx32 "\n",
		       e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
	}
}

static struct kvm_cpuid *as_v1(const struct table *table)
{
	static struct {
		struct kvm_cpuid head;
		struct kvm_cpuid_entry entries[GUEST_CPUID_MAX_ENTRIES];
	} v1;

	v1.head.nent = table->v2.nent;
	for (uint32_t i = 0; i < table->v2.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->v2.entries[i];

		v1.entries[i] = (struct kvm_cpuid_entry){
			.function = e->function,
			.eax = e->eax,
			.ebx = e->ebx,
			.ecx = e->ecx,
			.edx = e->edx};
	}
	return &v1.head;
}

static uint64_t core_xcr0(const struct table *table)
{
	if (table->v1)
		return guest_cpuid_v1_xcr0(
			(const char *)as_v1(table) + sizeof(struct kvm_cpuid), table->v2.nent);
	return guest_cpuid_xcr0(table->v2.entries, table->v2.nent);
}

// The model computes the guest's XCR0 in another way than xsaveshim's core: it searches the table
// backwards, and adds up the XCR0 bit by bit. Only the model can check how the core reads EDX, the
// upper half of the XCR0, because KVM supports no xfeature above bit 31 yet.
static uint64_t model_xcr0(const struct table *table)
{
	uint64_t xcr0 = 0;

	for (uint32_t i = table->v2.nent; i-- > 0;) {
		struct kvm_cpuid_entry2 e = table->v2.entries[i];
		bool any_index = table->v1 || e.flags % 2 == 0;

		if (e.function != 13 || (e.index > 0 && !any_index))
			continue;
		xcr0 = 0;
		for (int bit = 31; bit >= 0; bit--) {
			xcr0 += (uint64_t)(e.edx >> bit & 1) * UINT64_C(0x100000000) << bit;
			xcr0 += (uint64_t)(e.eax >> bit & 1) << bit;
		}
	}
	return xcr0;
}

// ---- KVM ----

static struct {
	int device;
	int vm;
	int vcpu;
	uint64_t supported; // the xfeatures that this KVM supports
	bool affected;	    // KVM_SET_XSAVE refuses xfeatures outside the guest's XCR0
	bool strict;	    // KVM_SET_XSAVE refuses even FP and SSE outside the guest's XCR0
	uint64_t xcr0s[64]; // each valid XCR0 that consists of supported xfeatures without AMX
	unsigned int count;
} kvm;

// Makes the ioctl system call without libc's ioctl(), so that xsaveshim's preloaded library does
// not see the call.
static long kvm_ioctl(int fd, unsigned int request, const void *argument)
{
	return syscall(SYS_ioctl, fd, request, argument);
}

static bool set_table(const struct table *table)
{
	if (table->v1)
		return !kvm_ioctl(kvm.vcpu, KVM_SET_CPUID, as_v1(table));
	return !kvm_ioctl(kvm.vcpu, KVM_SET_CPUID2, &table->v2);
}

static bool takes_xcr0(uint64_t xcr0)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = xcr0}}};

	return !kvm_ioctl(kvm.vcpu, KVM_SET_XCRS, &xcrs);
}

static bool takes_xstate_bv(uint64_t bv)
{
	static unsigned char payload[65536];
	const uint32_t mxcsr = 0x1f80;

	memcpy(payload + XSTATE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	xstate_set_bv(payload, bv);
	return !kvm_ioctl(kvm.vcpu, KVM_SET_XSAVE, payload);
}

static bool all_or_none(uint64_t xcr0, uint64_t bits)
{
	return (xcr0 & bits) == bits || !(xcr0 & bits);
}

static bool is_well_formed(uint64_t xcr0)
{
	return xcr0 & XFEATURE_FP && (xcr0 & XFEATURE_SSE || !(xcr0 & XFEATURE_AVX)) &&
	       (xcr0 & XFEATURE_AVX || !(xcr0 & XFEATURE_AVX512)) &&
	       all_or_none(xcr0, XFEATURE_BND) && all_or_none(xcr0, XFEATURE_AVX512) &&
	       !(xcr0 & XFEATURE_TILE);
}

static void list_xcr0s(void)
{
	for (uint64_t xcr0 = kvm.supported;; xcr0 = (xcr0 - 1) & kvm.supported) {
		if (is_well_formed(xcr0) && kvm.count < COUNT(kvm.xcr0s))
			kvm.xcr0s[kvm.count++] = xcr0;
		if (!xcr0)
			break;
	}
}

static void new_vcpu(void)
{
	if (kvm.vcpu) {
		close(kvm.vcpu);
		close(kvm.vm);
	}
	kvm.vm = (int)kvm_ioctl(kvm.device, KVM_CREATE_VM, NULL);
	kvm.vcpu = (int)kvm_ioctl(kvm.vm, KVM_CREATE_VCPU, NULL);
	if (kvm.vcpu < 0)
		die(EXIT_NO_KVM, "KVM_CREATE_VCPU");
}

static void set_leaf(uint64_t xcr0)
{
	struct table table = {.v2 = {.nent = 1,
				     .entries = {{.function = 0xd,
						  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
						  .eax = (uint32_t)xcr0,
						  .edx = (uint32_t)(xcr0 >> 32)}}}};

	if (!set_table(&table))
		die(EXIT_NO_KVM, "KVM_SET_CPUID2");
}

static bool keeps_the_leaf(void)
{
	static struct guest_cpuid got;

	set_leaf(XFEATURE_FP);
	got.nent = GUEST_CPUID_MAX_ENTRIES;
	return !kvm_ioctl(kvm.vcpu, KVM_GET_CPUID2, &got) &&
	       guest_cpuid_xcr0(got.entries, 1) == XFEATURE_FP && takes_xcr0(XFEATURE_FP) &&
	       !takes_xcr0(XFEATURE_FPSSE);
}

static void open_kvm(void)
{
	static struct guest_cpuid supported;

	kvm.device = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm.device < 0)
		die(EXIT_NO_KVM, "/dev/kvm");
	supported.nent = GUEST_CPUID_MAX_ENTRIES;
	if (kvm_ioctl(kvm.device, KVM_GET_SUPPORTED_CPUID, &supported))
		die(EXIT_NO_KVM, "KVM_GET_SUPPORTED_CPUID");
	kvm.supported = model_xcr0(&(struct table){.v2 = supported});
	new_vcpu();
	list_xcr0s();
	if (!keeps_the_leaf()) {
		puts("this KVM changes leaf 0xD of CPUID tables: cannot compare the core with it");
		exit(EXIT_NO_JUDGE);
	}
	kvm.affected = !takes_xstate_bv(XFEATURE_AVX);
	kvm.strict = !takes_xstate_bv(XFEATURE_SSE);
	printf("KVM supports the xfeatures 0x%" PRIx64 "; the oracle tries %u values of XCR0\n",
	       kvm.supported, kvm.count);
	printf("KVM_SET_XSAVE accepts %s\n",
	       kvm.strict     ? "only xfeatures in the guest's XCR0"
	       : kvm.affected ? "only xfeatures in the guest's XCR0, and FP and SSE"
			      : "all xfeatures of the host");
}

// ---- comparisons ----

static char mismatch[160];
static bool by_model;

static bool use_kvm, use_model;

static bool disagree(const char *what, uint64_t value, const char *whose, uint64_t other)
{
	snprintf(mismatch, sizeof(mismatch), "%s 0x%" PRIx64 ", %s 0x%" PRIx64, what, value, whose,
		 other);
	by_model = strstr(whose, "model");
	return false;
}

static bool core_agrees_with_model(const struct table *table)
{
	uint64_t core = core_xcr0(table);
	uint64_t model = model_xcr0(table);

	return !use_model || core == model ||
	       disagree("the core computes XCR0", core, "the model computes XCR0", model);
}

static bool xsave_agrees(uint64_t xcr0, uint64_t bv)
{
	uint64_t accepted = kvm.supported;

	if (kvm.affected)
		accepted &= kvm.strict ? xcr0
				       : policy_allowed((struct vcpu){
						 .knowledge = VCPU_XCR0, .guest_xcr0 = xcr0});
	return takes_xstate_bv(bv) == !(bv & ~accepted) ||
	       disagree("the core computes XCR0", xcr0, "KVM_SET_XSAVE disagrees for XSTATE_BV",
			bv);
}

// Calls KVM_SET_XCRS and KVM_SET_XSAVE with many values. Returns true if KVM accepts exactly the
// values that it must accept for a guest whose XCR0 is xcr0.
static bool kvm_agrees(uint64_t xcr0)
{
	for (unsigned int i = 0; i < kvm.count; i++)
		if (takes_xcr0(kvm.xcr0s[i]) != !(kvm.xcr0s[i] & ~(xcr0 | XFEATURE_FP)))
			return disagree("the core computes XCR0", xcr0,
					"KVM_SET_XCRS disagrees for XCR0", kvm.xcr0s[i]);
	for (unsigned int bit = 0; bit < 64; bit++)
		if (kvm.supported >> bit & 1 && !xsave_agrees(xcr0, UINT64_C(1) << bit))
			return false;
	return xsave_agrees(xcr0, random64()) &&
	       xsave_agrees(xcr0, random64() & kvm.supported & (xcr0 | random64()));
}

static bool get_cpuid2_agrees(uint64_t xcr0)
{
	static struct guest_cpuid got;
	uint64_t answer;

	memset(&got, 0, sizeof(got));
	got.nent = GUEST_CPUID_MAX_ENTRIES;
	if (kvm_ioctl(kvm.vcpu, KVM_GET_CPUID2, &got))
		return disagree("KVM_GET_CPUID2: errno", (uint64_t)errno, "for guest XCR0", xcr0);
	answer = guest_cpuid_xcr0(got.entries, guest_cpuid_count(&got));
	return answer == xcr0 || disagree("the core computes XCR0", xcr0,
					  "from KVM_GET_CPUID2's table it computes XCR0", answer);
}

// Sets the CPUID table on the vCPU. Returns true if KVM and the model agree with the core. If KVM
// refuses the table, KVM must still enforce the vCPU's previous table.
static bool table_agrees(const struct table *table, bool *taken)
{
	static uint64_t xcr0;

	*taken = set_table(table);
	if (*taken)
		xcr0 = core_xcr0(table);
	return kvm_agrees(xcr0) && get_cpuid2_agrees(xcr0) && core_agrees_with_model(table);
}

// Returns true if the core disagrees with the model about this CPUID table, or with KVM on a new
// vCPU that gets this table.
static bool disagrees_alone(const struct table *table)
{
	bool taken;

	if (!use_kvm)
		return !core_agrees_with_model(table);
	new_vcpu();
	set_leaf(0);
	return set_table(table) ? !table_agrees(table, &taken) : !core_agrees_with_model(table);
}

// Makes a CPUID table smaller: tries to remove each entry, and then to set each value to 0. At the
// start, by_model says with whom the core disagrees: with the model (true) or with KVM (false).
// Keeps a change only if the core still disagrees with the same one about the table.
static void shrink(struct table *table)
{
	bool model = by_model;

	for (uint32_t i = table->v2.nent; i-- > 0;) {
		struct table without = *table;

		memmove(&without.v2.entries[i], &without.v2.entries[i + 1],
			(without.v2.nent - i - 1) * sizeof(without.v2.entries[0]));
		without.v2.nent--;
		if (disagrees_alone(&without) && by_model == model)
			*table = without;
	}
	for (uint32_t i = 0; i < table->v2.nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->v2.entries[i];
		uint32_t *const values[] = {
			&e->index, &e->flags, &e->ebx, &e->ecx, &e->eax, &e->edx};

		for (size_t j = 0; j < COUNT(values); j++) {
			uint32_t value = *values[j];

			*values[j] = 0;
			if (!disagrees_alone(table) || by_model != model)
				*values[j] = value;
		}
	}
}

static int run_tables(uint64_t count, uint64_t seed, uint64_t first)
{
	uint64_t refused = 0;

	if (use_kvm) {
		open_kvm();
		new_vcpu();
		set_leaf(0);
	}
	for (uint64_t number = first; number < first + count; number++) {
		struct table table = random_table(seed, number);
		bool taken = true;

		if (use_kvm ? table_agrees(&table, &taken) : core_agrees_with_model(&table)) {
			refused += !taken;
			continue;
		}
		printf("mismatch at table %" PRIu64 " of seed %" PRIu64 ": %s\n", number, seed,
		       mismatch);
		if (disagrees_alone(&table)) {
			shrink(&table);
			disagrees_alone(&table);
			printf("cut down: %s\n", mismatch);
		} else {
			puts("a new vCPU that gets only this table shows no mismatch:");
		}
		print_table(&table);
		return EXIT_MISMATCH;
	}
	printf("tables=%" PRIu64 " refused-by-kvm=%" PRIu64 " mismatches=0\n", count, refused);
	return 0;
}

// ---- payloads ----

static void set_random_cpuid(int vcpu, struct table *table)
{
	do {
		*table = random_table(random64(), 0);
		table->v1 = false;
	} while (ioctl(vcpu, KVM_SET_CPUID2, &table->v2));
}

// Creates a vCPU in a new VM. Before that, closes the vCPU and the VM of the previous call, so that
// the kernel reuses their descriptor numbers.
static int shimmed_vcpu(void)
{
	static int device, vm, vcpu;

	if (!device) {
		const char *path = getenv("DEVICE");

		device = open(path ? path : "/dev/kvm", O_RDWR | O_CLOEXEC);
	} else {
		close(vcpu);
		close(vm);
	}
	vm = ioctl(device, KVM_CREATE_VM, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		die(EXIT_NO_KVM, "KVM_CREATE_VCPU");
	return vcpu;
}

static bool payload_agrees(uint64_t seed, uint64_t number)
{
	static unsigned char given[65536 + 64], before[sizeof(given)];
	static int vcpu;
	static struct table table;
	unsigned char *payload = given + number % 64;
	uint64_t bv, expected;

	random_start(seed, number);
	if (!vcpu || number % 64 == 0)
		vcpu = shimmed_vcpu();
	set_random_cpuid(vcpu, &table);
	for (size_t i = 0; i < sizeof(given); i += 8) {
		uint64_t word = random64();

		memcpy(given + i, &word, sizeof(word));
	}
	if (below(2))
		xstate_set_bv(payload, random64() & 0x2ff);
	if (below(2))
		memset(payload + XSTATE_XCOMP_BV_OFFSET, 0,
		       XSTATE_HEAD_SIZE - XSTATE_XCOMP_BV_OFFSET);
	bv = xstate_bv(payload);
	expected = bv & (model_xcr0(&table) | XFEATURE_FPSSE);
	memcpy(before, given, sizeof(given));
	ioctl(vcpu, KVM_SET_XSAVE, payload);
	if (xstate_bv(payload) != expected)
		return disagree("after KVM_SET_XSAVE, XSTATE_BV is", xstate_bv(payload),
				"but should be", expected);
	xstate_set_bv(payload, bv);
	return !memcmp(before, given, sizeof(given)) ||
	       disagree("xsaveshim changed bytes outside XSTATE_BV; XSTATE_BV is correct: before",
			bv, "after", expected);
}

static int run_payloads(uint64_t count, uint64_t seed, uint64_t first)
{
	for (uint64_t number = first; number < first + count; number++) {
		if (payload_agrees(seed, number))
			continue;
		printf("mismatch at payload %" PRIu64 " of seed %" PRIu64 ": %s\n", number, seed,
		       mismatch);
		return EXIT_MISMATCH;
	}
	printf("payloads=%" PRIu64 " mismatches=0\n", count);
	return 0;
}

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise)
{
	return argc > i ? strtoull(argv[i], NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
	uint64_t count = argument(argc, argv, 2, 0);
	uint64_t seed = argument(argc, argv, 3, (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid());
	uint64_t first = argument(argc, argv, 4, 0);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (count) {
		printf("seed=%" PRIu64 " first=%" PRIu64 "\n", seed, first);
		use_kvm = !strcmp(argv[1], "cpuid") || !strcmp(argv[1], "kvm");
		use_model = !strcmp(argv[1], "cpuid") || !strcmp(argv[1], "model");
		if (use_kvm || use_model)
			return run_tables(count, seed, first);
		if (!strcmp(argv[1], "payload"))
			return run_payloads(count, seed, first);
	}
	fputs("usage: oracle cpuid|kvm|model|payload COUNT [SEED [FIRST]]\n", stderr);
	return EXIT_NO_KVM;
}
