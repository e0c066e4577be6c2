// SPDX-License-Identifier: MIT
// The xstate payload of KVM_SET_XSAVE, KVM_GET_XSAVE and KVM_GET_XSAVE2: where its header lies and
// what its bits are called.
//
// All functions are thread- and async-signal-safe, never fail, and take a payload at any alignment:
// crosvm passes a vector of u32, which puts the header's 64-bit words on 4-byte boundaries.
#ifndef XSAVESHIM_XSTATE_H
#define XSAVESHIM_XSTATE_H

#include <stdbool.h>
#include <stdint.h>

// Offsets in bytes from the start of the payload: Intel SDM vol. 1, 13.4.1 (MXCSR) and 13.4.2 (the
// XSAVE header).
#define XSTATE_MXCSR_OFFSET 24
#define XSTATE_BV_OFFSET 512
#define XSTATE_XCOMP_BV_OFFSET 520
#define XSTATE_RESERVED_OFFSET 528
#define XSTATE_RESERVED_SIZE 48

// The legacy region and the header: all of a payload that the functions of this project ever read.
#define XSTATE_HEAD_SIZE 576

// xfeature bits, Intel SDM vol. 1, 13.1.
#define XFEATURE_FP (UINT64_C(1) << 0)
#define XFEATURE_SSE (UINT64_C(1) << 1)
#define XFEATURE_AVX (UINT64_C(1) << 2)
#define XFEATURE_XTILE \
	(UINT64_C(3) << 17) // AMX: the only ones that a process needs the kernel's permission for
#define XFEATURE_FPSSE (XFEATURE_FP | XFEATURE_SSE)

// The payload's XSTATE_BV. In: at least XSTATE_HEAD_SIZE readable bytes.
uint64_t xstate_bv(const void *payload);

// Writes the payload's XSTATE_BV, 8 bytes, and nothing else.
void xstate_set_bv(void *payload, uint64_t xstate_bv);

// The payload's XCOMP_BV; the kernel takes the standard format only, for which it is 0.
uint64_t xstate_xcomp_bv(const void *payload);

// Whether any of the header's 48 reserved bytes is not 0.
bool xstate_reserved_used(const void *payload);

// The payload's MXCSR.
uint32_t xstate_mxcsr(const void *payload);

// The XCR0 that a struct kvm_xcrs of KVM_SET_XCRS sets: the value of its first entry for XCR0
// (kvm_vcpu_ioctl_x86_set_xcrs in arch/x86/kvm/x86.c). False where it has none, or more entries
// than KVM takes. In: all of the struct's bytes, readable.
bool xstate_xcrs_xcr0(const void *xcrs, uint64_t *xcr0);

// The name of an xfeature in reports, or NULL for a bit (0 to 63) that has none.
const char *xfeature_name(unsigned int bit);

// XCR0 of the CPU this runs on, by XGETBV: no xfeature outside it can be loaded here.
// XFEATURE_FPSSE where the operating system has not enabled XSAVE. Source: Intel SDM vol. 1, 13.2
// and 13.3.
uint64_t xstate_host_xcr0(void);

// The MXCSR bits this CPU refuses to load: Intel SDM vol. 1, 11.6.6 (MXCSR_MASK).
uint32_t xstate_host_mxcsr_reserved(void);

#endif
