# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# `xsaveshim probe` on kernels that are known to refuse, to leak, or to do neither.

load lib

# says KERNEL STATUS REFUSES LEAKS VERDICT AVX FPSSE LEAKED    probe, of that kernel's KVM, a preloaded shim or not. AVX and
# FPSSE are what a small VMM is answered that loads these into a vCPU without XSAVE.
says() {
  local expected
  run --separate-stderr "$repo/test/kernels/run" --timeout 300 "$1" -- bash -c '
    "$0" probe --json >/tmp/bare; echo "status $?"
    LD_PRELOAD=$1 "$0" probe --json | cmp /tmp/bare - || echo "the shim answered"
    jq -r "[.kvm_supported_xcr0, .refuses, .leaks, .verdict] | @tsv" /tmp/bare
    "$2" create 0 cpuid none set-xsave 0x4 set-xsave 0x3 | sed -n "s/^set-xsave \([^:]*\): \([^ ]*\).*/\1 \2/p"
    jq -r .leaked /tmp/bare' "$build/xsaveshim" "$shim" "$vmm"
  expected=$(printf '%s\n' "status $2" "0x207	$3	$4	$5" "0x4 $6" "0x3 $7" "$8")
  [[ $status == 0 && $output == "$expected" ]] || fail "$output" "$stderr"
}

@test "the fixed kernel neither refuses nor leaks" {
  says fixed 0 no no unaffected 0 0 0x0
}

@test "the leaky kernel leaks" {
  says leaky 1 no yes affected 0 0 0x214
}

@test "the affected kernel refuses what the guest does not have" {
  says affected 1 affected no affected EINVAL 0 0x0
}

@test "the affected-strict kernel refuses even x87 and SSE" {
  says affected-strict 1 affected-strict no affected EINVAL EINVAL 0x0
}
