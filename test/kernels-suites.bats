# SPDX-License-Identifier: MIT
# shellcheck disable=SC2154 # variables of lib.bash and of bats
# bats file_tags=testbed
# The suite that `make check` runs on this host's KVM with the small VMM, on the KVM of the testbed's kernels. (QEMU's suite takes
# a quarter of an hour there; kernels-story.bats has real QEMU save and restore.)

load lib

setup() {
  cd "$repo" || return
}

passes_on() { # KERNEL
  BUILD=$build run test/kernels/suite "$1" test/kvm.bats
  if ((status != 0)) || grep -q '^ok .*# skip' <<<"$output"; then
    fail "exit status: $status" "$(grep -v '^ok [0-9]* [^#]*$' <<<"$output")"
  fi
}

@test "the small VMM's suite passes on the fixed kernel" {
  passes_on fixed
}

@test "the small VMM's suite passes on the leaky kernel" {
  passes_on leaky
}

@test "the small VMM's suite passes on the affected kernel" {
  passes_on affected
}

@test "the small VMM's suite passes on the strict kernel" {
  passes_on affected-strict
}
