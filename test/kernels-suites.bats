# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Runs two suites of `make check` (qemu.bats and kvm.bats), and KVM's own selftest state_test, in emulated machines with the
# testbed's kernels.

load lib

setup() {
  cd "$repo" || return
}

# assert_pass_on KERNEL SUITE    checks that on KERNEL, every test of SUITE (a file of tests) passes, and none is skipped
assert_pass_on() {
  BUILD=$build run timeout -k 30 1300 test/run --kernel "$1" "$2"
  if ((status != 0)) || [[ ! $output =~ [1-9][0-9]*\ passed,\ 0\ failed,\ 0\ skipped$ ]]; then
    fail "$(grep -v '^ok [0-9]* [^#]*$' <<<"$output")"
  fi
}

# Runs KVM's selftest state_test on KERNEL. If LD_PRELOAD is given, the selftest preloads this library. Sets the variable
# `state_test` to the path of the selftest.
run_state_test() { # KERNEL [LD_PRELOAD]
  state_test=$(test/kernels/selftest state_test)
  run test/kernels/run --timeout 300 "$1" -- env XSAVESHIM_REFUSED=report LD_PRELOAD="${2-}" "$state_test"
}

@test "qemu.bats, which tests the library under real QEMU, passes on a kernel that refuses leaked xfeatures" {
  assert_pass_on affected test/qemu.bats
}

@test "kvm.bats, which tests the library on real KVM, passes on a kernel that neither leaks xfeatures nor refuses leaked xfeatures" {
  assert_pass_on fixed test/kvm.bats
}

@test "kvm.bats, which tests the library on real KVM, passes on a kernel that leaks xfeatures" {
  assert_pass_on leaky test/kvm.bats
}

@test "kvm.bats, which tests the library on real KVM, passes on a kernel that refuses leaked xfeatures" {
  assert_pass_on affected test/kvm.bats
}

@test "kvm.bats, which tests the library on real KVM, passes on a kernel that refuses even FP and SSE for a guest without XSAVE" {
  assert_pass_on affected-strict test/kvm.bats
}

@test "with the library, KVM's selftest state_test passes on kernels that leak xfeatures, that refuse leaked xfeatures, or that do neither" {
  local kernel
  for kernel in fixed leaky affected affected-strict; do
    run_state_test "$kernel" "$shim"
    [[ $status == 0 && $output != *SKIP* ]] || fail "kernel $kernel: state_test ended with the exit status $status" "$output"
  done
}

# Since Linux 6.6, state_test loads a payload into a vCPU with an empty CPUID table. This table does not enumerate the payload's
# xfeatures, so kernels that refuse leaked xfeatures refuse the payload.
@test "if KVM's selftest state_test loads a payload into a vCPU with an empty CPUID table, state_test without the library fails on a kernel that refuses leaked xfeatures" {
  run_state_test affected
  if grep -q 'regardless of guest CPUID' "$state_test.c"; then
    [[ $status != 0 && $output != *SKIP* && $output == *KVM_SET_XSAVE* ]] || fail "exit status $status" "$output"
  else
    [[ $status == 0 ]] || fail "exit status $status" "$output"
  fi
}
