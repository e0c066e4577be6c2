// SPDX-License-Identifier: MIT
// Tests xstate.h, which accesses the fields of a payload (the state that KVM_SET_XSAVE loads),
// names the xfeatures, and reads this host's XCR0 and reserved MXCSR bits.
#include <stdio.h>
#include <string.h>

#include <linux/kvm.h>

#include "check.h"
#include "kvm.h"
#include "xsaveshim/xstate.h"

// Returns a payload at an odd address. The value of each byte depends on the byte's offset.
static unsigned char *odd_payload(void)
{
	static _Alignas(8) unsigned char memory[4096 + 5];
	unsigned char *payload = memory + 5;

	for (size_t i = 0; i < 4096; i++)
		payload[i] = (unsigned char)(i * 7 + i / 256 + 1);
	return payload;
}

static uint64_t bytes_at(const unsigned char *payload, size_t offset, size_t size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | payload[offset + size];
	return value;
}

static void payload_words(void)
{
	unsigned char *payload = odd_payload();

	same("XSTATE_BV", xstate_bv(payload), bytes_at(payload, 512, 8));
	same("XCOMP_BV", xstate_xcomp_bv(payload), bytes_at(payload, 520, 8));
	same("MXCSR", xstate_mxcsr(payload), bytes_at(payload, 24, 4));
}

static void payload_set_bv(void)
{
	unsigned char *payload = odd_payload();
	unsigned char before[4096];

	memcpy(before, payload, sizeof(before));
	xstate_set_bv(payload, UINT64_C(0x8877665544332211));
	for (size_t i = 0; i < sizeof(before); i++) {
		char what[32];

		snprintf(what, sizeof(what), "byte %zu", i);
		same(what, payload[i], i >= 512 && i < 520 ? (i - 511) * 0x11 : before[i]);
	}
}

static void payload_reserved(void)
{
	unsigned char payload[XSTATE_HEAD_SIZE] = {0};

	same("nonzero reserved byte found, all bytes are 0", xstate_reserved_used(payload), false);
	memset(payload, 0xff, 528);
	same("nonzero reserved byte found, bytes 0 to 527 are 0xff", xstate_reserved_used(payload),
	     false);
	for (size_t i = 528; i < 576; i++) {
		payload[i] = 0x80;
		same("nonzero reserved byte found, it is 0x80", xstate_reserved_used(payload),
		     true);
		payload[i] = 0;
	}
}

static void xfeature_names(void)
{
	static const char *const expected[] = {
		"x87",	    "sse", "avx",  "bndregs",  "bndcsr",    "opmask", "zmm_hi256",
		"hi16_zmm", "pt",  "pkru", "pasid",    "cet_u",	    "cet_s",  "hdc",
		"uintr",    "lbr", "hwp",  "xtilecfg", "xtiledata", "apx"};

	for (unsigned int bit = 0; bit < 70; bit++) {
		if (bit < COUNT(expected))
			same_text("name", xfeature_name(bit) ? xfeature_name(bit) : "none",
				  expected[bit]);
		else
			same("a bit above 19 has a name", xfeature_name(bit) != NULL, false);
	}
}

static void host_features(void)
{
	char line[8192];
	bool avx = false;
	FILE *cpuinfo = fopen("/proc/cpuinfo", "re");

	must(cpuinfo, "/proc/cpuinfo");
	while (fgets(line, sizeof(line), cpuinfo))
		avx |= !strncmp(line, "flags", 5) && strstr(line, " avx ");
	fclose(cpuinfo);
	same("FP and SSE", xstate_host_xcr0() & XFEATURE_FPSSE, XFEATURE_FPSSE);
	same("AVX", xstate_host_xcr0() & XFEATURE_AVX, avx ? XFEATURE_AVX : 0);
	same("bit 63 of the host's XCR0", xstate_host_xcr0() >> 63, 0);
}

static void host_mxcsr(void)
{
	uint32_t reserved = xstate_host_mxcsr_reserved();
	uint32_t initial = 0x1f80;
	uint32_t most = ~reserved;

	same("reserved bits that the initial MXCSR sets", reserved & initial, 0);
	// Ignores bit 17, because some CPUs of AMD support this bit (the misaligned exception
	// mask).
	same("reserved bits among MXCSR bits 16 and 18 to 31", reserved & 0xfffd0000, 0xfffd0000);
	// If the CPU reserves a bit that `most` sets, ldmxcsr faults, and a signal ends the test.
	__asm__ volatile("ldmxcsr %0" : : "m"(most));
	__asm__ volatile("ldmxcsr %0" : : "m"(initial));
}

static void xcrs_words(void)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 3,
				.xcrs = {{.xcr = 1, .value = 9},
					 {.xcr = 0, .value = 0x207},
					 {.xcr = 0, .value = 1}}};
	char bytes[sizeof(xcrs) + 1];
	uint64_t xcr0 = 0;

	memcpy(bytes + 1, &xcrs, sizeof(xcrs));
	same("XCR0 found", xstate_xcrs_xcr0(bytes + 1, &xcr0), true);
	same("XCR0, from the first of two entries", xcr0, 0x207);
	xcrs.nr_xcrs = 1;
	same("XCR0 found, no entry is for XCR0", xstate_xcrs_xcr0(&xcrs, &xcr0), false);
	xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
	same("XCR0 found, nr_xcrs is too large", xstate_xcrs_xcr0(&xcrs, &xcr0), false);
	xcrs.nr_xcrs = 3;
	xcrs.flags = 1;
	same("XCR0 found, flags is 1", xstate_xcrs_xcr0(&xcrs, &xcr0), false);
}

const struct test_case xstate_cases[] = {
	{"xsaveshim reads XSTATE_BV, XCOMP_BV and MXCSR correctly from an XSAVE payload at an odd address",
	 payload_words},
	{"when xsaveshim sets XSTATE_BV in an XSAVE payload, only the 8 bytes of XSTATE_BV change",
	 payload_set_bv},
	{"xsaveshim detects each nonzero byte among the 48 reserved bytes of an XSAVE header, and ignores the bytes before them",
	 payload_reserved},
	{"xsaveshim has names for the xfeatures 0 to 19, and no names for higher bits",
	 xfeature_names},
	{"xsaveshim finds FP and SSE in this host's XCR0, and finds AVX exactly if /proc/cpuinfo lists avx",
	 host_features},
	{"this CPU can load an MXCSR value with every bit set except the bits that xsaveshim counts as reserved",
	 host_mxcsr},
	{"if the argument of KVM_SET_XCRS has several entries for XCR0, xsaveshim uses the first",
	 xcrs_words},
	{NULL, NULL},
};
