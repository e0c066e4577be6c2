// SPDX-License-Identifier: MIT
// Reads and writes fields of payloads, the buffers of KVM_SET_XSAVE, KVM_GET_XSAVE and
// KVM_GET_XSAVE2. Also names xfeatures.
//
// All functions are thread- and async-signal-safe. A payload may have any alignment. For example,
// crosvm passes a vector of u32, so the payload's 64-bit words may lie on 4-byte boundaries.
#ifndef XSAVESHIM_XSTATE_H
#define XSAVESHIM_XSTATE_H

#include <stdbool.h>
#include <stdint.h>

// Byte offsets in the payload: Intel SDM vol. 1, 13.4.1 (MXCSR) and 13.4.2 (the XSAVE header).
#define XSTATE_MXCSR_OFFSET 24
#define XSTATE_BV_OFFSET 512
#define XSTATE_XCOMP_BV_OFFSET 520
#define XSTATE_RESERVED_OFFSET 528
#define XSTATE_RESERVED_SIZE 48

// The size of a payload's legacy region and header. xsaveshim reads no other bytes of a payload.
#define XSTATE_HEAD_SIZE 576

// xfeature bits, Intel SDM vol. 1, 13.1.
#define XFEATURE_FP (UINT64_C(1) << 0)
#define XFEATURE_SSE (UINT64_C(1) << 1)
#define XFEATURE_AVX (UINT64_C(1) << 2)
#define XFEATURE_FPSSE (XFEATURE_FP | XFEATURE_SSE)

// The two xfeatures of AMX. A process needs the kernel's permission to use AMX. No other xfeature
// needs a permission.
#define XFEATURE_XTILE (UINT64_C(3) << 17)

// In the following functions, the first XSTATE_HEAD_SIZE bytes of the payload must be readable.

// Return the payload's XSTATE_BV, XCOMP_BV and MXCSR. XCOMP_BV is 0 in the standard format, the
// only format that KVM_SET_XSAVE accepts.
uint64_t xstate_bv(const void *payload);
uint64_t xstate_xcomp_bv(const void *payload);
uint32_t xstate_mxcsr(const void *payload);

// Writes the 8 bytes of XSTATE_BV and nothing else.
void xstate_set_bv(void *payload, uint64_t xstate_bv);

// Returns true if one of the header's 48 reserved bytes is not 0.
bool xstate_reserved_used(const void *payload);

// Finds the XCR0 that KVM_SET_XCRS sets. Like kvm_vcpu_ioctl_x86_set_xcrs in arch/x86/kvm/x86.c,
// the function uses the first entry for XCR0. xcrs: a readable struct kvm_xcrs. Returns false if
// the struct has no entry for XCR0, or if KVM refuses the struct's flags or number of entries.
bool xstate_xcrs_xcr0(const void *xcrs, uint64_t *xcr0);

// Returns the name that reports use for an xfeature. bit: 0 to 63. Returns NULL if the bit has no
// name.
const char *xfeature_name(unsigned int bit);

// Reads this CPU's XCR0 with XGETBV. This host can load only the xfeatures that are in this XCR0.
// If the operating system has not enabled XSAVE, the result is XFEATURE_FPSSE. Source: Intel SDM
// vol. 1, 13.2, 13.3.
uint64_t xstate_host_xcr0(void);

// Returns the MXCSR bits that this CPU refuses to load: Intel SDM vol. 1, 11.6.6 (MXCSR_MASK).
uint32_t xstate_host_mxcsr_reserved(void);

#endif
