# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# KVM's own test of saving and restoring a vCPU's state, from the source that the testbed's kernels are built from.

load lib

setup_file() {
  load lib
  state_test=$("$repo/test/kernels/selftest" state_test)
  export state_test
}

# on KERNEL [LD_PRELOAD]
on() {
  run "$repo/test/kernels/run" --timeout 300 "$1" -- env LD_PRELOAD="${2-}" "$state_test"
}

@test "KVM's state_test passes on every kernel with the shim" {
  local kernel
  for kernel in fixed leaky affected affected-strict; do
    on "$kernel" "$shim"
    [[ $status == 0 && $output != *SKIP* ]] || fail "$kernel: exit status $status" "$output"
  done
}

# Since 6.6 the test also restores the state into a vCPU whose CPUID table is empty, which affected kernels refuse.
@test "without the shim KVM's state_test fails on the affected kernel where it restores whatever the guest's CPUID is" {
  on affected
  if grep -q 'regardless of guest CPUID' "$state_test.c"; then
    [[ $status != 0 && $output != *SKIP* && $output == *KVM_SET_XSAVE* ]] || fail "exit status $status" "$output"
  else
    [[ $status == 0 ]] || fail "exit status $status" "$output"
  fi
}
