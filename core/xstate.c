// SPDX-License-Identifier: MIT
#include "xsaveshim/xstate.h"

#include <assert.h>
#include <cpuid.h>
#include <stddef.h>
#include <string.h>

#include <asm/kvm.h>

static_assert(XSTATE_RESERVED_OFFSET + XSTATE_RESERVED_SIZE == XSTATE_HEAD_SIZE,
	      "the head of a payload ends with the XSAVE header");
static_assert(sizeof(struct kvm_xsave) == 4096,
	      "a payload has at least 4096 bytes, so its head is complete");

static const char *const names[] = {
	"x87",	    "sse", "avx",  "bndregs",  "bndcsr",    "opmask", "zmm_hi256",
	"hi16_zmm", "pt",  "pkru", "pasid",    "cet_u",	    "cet_s",  "hdc",
	"uintr",    "lbr", "hwp",  "xtilecfg", "xtiledata", "apx",
};

static uint64_t header_word(const void *payload, size_t offset)
{
	uint64_t word;

	memcpy(&word, (const char *)payload + offset, sizeof(word));
	return word;
}

uint64_t xstate_bv(const void *payload)
{
	return header_word(payload, XSTATE_BV_OFFSET);
}

void xstate_set_bv(void *payload, uint64_t xstate_bv)
{
	memcpy((char *)payload + XSTATE_BV_OFFSET, &xstate_bv, sizeof(xstate_bv));
}

uint64_t xstate_xcomp_bv(const void *payload)
{
	return header_word(payload, XSTATE_XCOMP_BV_OFFSET);
}

bool xstate_reserved_used(const void *payload)
{
	uint64_t any = 0;

	for (size_t i = 0; i < XSTATE_RESERVED_SIZE; i += sizeof(any))
		any |= header_word(payload, XSTATE_RESERVED_OFFSET + i);
	return any != 0;
}

uint32_t xstate_mxcsr(const void *payload)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, (const char *)payload + XSTATE_MXCSR_OFFSET, sizeof(mxcsr));
	return mxcsr;
}

bool xstate_xcrs_xcr0(const void *xcrs, uint64_t *xcr0)
{
	struct kvm_xcrs copy;

	memcpy(&copy, xcrs, sizeof(copy));
	if (copy.nr_xcrs > KVM_MAX_XCRS || copy.flags)
		return false;
	for (uint32_t i = 0; i < copy.nr_xcrs; i++) {
		if (copy.xcrs[i].xcr == 0) {
			*xcr0 = copy.xcrs[i].value;
			return true;
		}
	}
	return false;
}

const char *xfeature_name(unsigned int bit)
{
	return bit < sizeof(names) / sizeof(names[0]) ? names[bit] : NULL;
}

uint64_t xstate_host_xcr0(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
		return XFEATURE_FPSSE;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return (uint64_t)edx << 32 | eax;
}

uint32_t xstate_host_mxcsr_reserved(void)
{
	_Alignas(16) unsigned char fxsave[512] = {0};
	uint32_t mask;

	__asm__ volatile("fxsave %0" : "=m"(fxsave));
	memcpy(&mask, fxsave + XSTATE_MXCSR_OFFSET + 4, sizeof(mask));
	// The first processors with SSE report an MXCSR_MASK of 0, which stands for 0xffbf.
	return ~(mask ? mask : UINT32_C(0xffbf));
}
