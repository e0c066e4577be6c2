# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# The suites that `make check` runs on this host's KVM, with the small VMM and with QEMU, on the KVM of the testbed's kernels.

load lib

setup() {
  cd "$repo" || return
}

# assert_pass_on KERNEL SUITE...    all of them, none skipped
assert_pass_on() {
  BUILD=$build run timeout -k 30 1300 test/run --kernel "$1" "${@:2}"
  if ((status != 0)) || [[ ! $output =~ [1-9][0-9]*\ passed,\ 0\ failed,\ 0\ skipped$ ]]; then
    fail "$(grep -v '^ok [0-9]* [^#]*$' <<<"$output")"
  fi
}

@test "QEMU's suite passes on the affected kernel" {
  assert_pass_on affected test/qemu.bats
}

@test "the small VMM's suite passes on the fixed kernel" {
  assert_pass_on fixed test/kvm.bats
}

@test "the small VMM's suite passes on the leaky kernel" {
  assert_pass_on leaky test/kvm.bats
}

@test "the small VMM's suite passes on the affected kernel" {
  assert_pass_on affected test/kvm.bats
}

@test "the small VMM's suite passes on the strict kernel" {
  assert_pass_on affected-strict test/kvm.bats
}
