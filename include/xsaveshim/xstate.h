// SPDX-License-Identifier: MIT
// Reads and writes fields of payloads, the buffers of KVM_SET_XSAVE, KVM_GET_XSAVE and
// KVM_GET_XSAVE2. Also names xfeatures.
//
// All functions are thread- and async-signal-safe. A payload may have any alignment. For example,
// crosvm passes KVM a vector of u32 as the payload, so the payload's 64-bit words may lie on 4-byte
// boundaries.
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

// The size of a payload's head: the 512-byte legacy region and the 64-byte XSAVE header. xsaveshim
// reads no byte of a payload after the head.
#define XSTATE_HEAD_SIZE 576

// xfeature bits, Intel SDM vol. 1, 13.1.
#define XFEATURE_FP (UINT64_C(1) << 0)
#define XFEATURE_SSE (UINT64_C(1) << 1)
#define XFEATURE_AVX (UINT64_C(1) << 2)
#define XFEATURE_FPSSE (XFEATURE_FP | XFEATURE_SSE)

// The two xfeatures of AMX. A process needs the kernel's permission to use AMX. No other xfeature
// needs a permission.
#define XFEATURE_XTILE (UINT64_C(3) << 17)

// The parameter `payload` of the functions below: a buffer of at least XSTATE_HEAD_SIZE readable
// bytes.

// Return the payload's XSTATE_BV, XCOMP_BV and MXCSR. XCOMP_BV is 0 in the standard format, the
// only format that KVM_SET_XSAVE accepts.
uint64_t xstate_bv(const void *payload);
uint64_t xstate_xcomp_bv(const void *payload);
uint32_t xstate_mxcsr(const void *payload);

// Sets the payload's XSTATE_BV, and changes no other byte of the payload.
void xstate_set_bv(void *payload, uint64_t xstate_bv);

// Returns true if at least one of the 48 reserved bytes of the payload's XSAVE header is not 0.
bool xstate_reserved_used(const void *payload);

// xcrs is the argument of KVM_SET_XCRS, a readable struct kvm_xcrs. Sets *xcr0 to the XCR0 in xcrs.
// If several entries of xcrs are for XCR0, uses the first of them, as KVM does
// (kvm_vcpu_ioctl_x86_set_xcrs in Linux's arch/x86/kvm/x86.c). Returns false if no entry is for
// XCR0. Also returns false if xcrs has flags or too many entries, because KVM then refuses xcrs.
bool xstate_xcrs_xcr0(const void *xcrs, uint64_t *xcr0);

// Returns xsaveshim's name for the xfeature with this bit number (0 to 63), for example "avx" for
// 2. Returns NULL if xsaveshim has no name for the xfeature.
const char *xfeature_name(unsigned int bit);

// Returns this CPU's XCR0, which XGETBV reads. KVM_SET_XSAVE on this host refuses a payload with
// an xfeature outside this XCR0. If the operating system has not enabled XSAVE, returns
// XFEATURE_FPSSE. Source: Intel SDM vol. 1, 13.2, 13.3.
uint64_t xstate_host_xcr0(void);

// Returns the MXCSR bits that this CPU refuses to load: Intel SDM vol. 1, 11.6.6 (MXCSR_MASK).
uint32_t xstate_host_mxcsr_reserved(void);

#endif
