# SPDX-License-Identifier: MIT
# shellcheck disable=SC2154 # variables of lib.bash and of bats
# bats file_tags=testbed
# The suites that `make check` runs on this host's KVM, with the small VMM and with QEMU, on the KVM of the testbed's kernels.

load lib

setup() {
  cd "$repo" || return
}

passes_on() { # KERNEL SUITE
  BUILD=$build run test/kernels/suite "$1" "test/$2.bats"
  if ((status != 0)) || grep -q '^ok .*# skip' <<<"$output"; then
    fail "exit status: $status" "$(grep -v '^ok [0-9]* [^#]*$' <<<"$output")"
  fi
}

@test "QEMU's suite passes on the affected kernel" {
  passes_on affected qemu
}

@test "the small VMM's suite passes on the fixed kernel" {
  passes_on fixed kvm
}

@test "the small VMM's suite passes on the leaky kernel" {
  passes_on leaky kvm
}

@test "the small VMM's suite passes on the affected kernel" {
  passes_on affected kvm
}

@test "the small VMM's suite passes on the strict kernel" {
  passes_on affected-strict kvm
}
