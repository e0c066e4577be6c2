# SPDX-License-Identifier: MIT
# shellcheck disable=SC2154 # variables of lib.bash and of bats
# bats file_tags=testbed
# The suite that `make check` runs on this host's KVM with the small VMM, on the KVM of the testbed's kernels. (QEMU's suite takes
# a quarter of an hour there; kernels-story.bats has real QEMU save and restore.)

load lib

setup() {
  cd "$repo" || return
}

# pass_on KERNEL SUITE...    all of them, none skipped
pass_on() {
  local kernel=$1
  shift
  # bats puts its inner programs first, one of which is called bats
  PATH=${PATH#"$BATS_LIBEXEC:"} XSAVESHIM_TEST_SLOW=10 run timeout 1300 test/kernels/run --timeout 1200 "$kernel" -- test/run --here "${@/#/test/}"
  if ((status != 0)) || [[ ! $output =~ [1-9][0-9]*\ passed,\ 0\ failed,\ 0\ skipped$ ]]; then
    fail "$(grep -v '^ok [0-9]* [^#]*$' <<<"$output")"
  fi
}

@test "the small VMM's suite passes on the fixed kernel" {
  pass_on fixed kvm.bats
}

@test "the small VMM's suite passes on the leaky kernel" {
  pass_on leaky kvm.bats
}

@test "the small VMM's suite passes on the affected kernel" {
  pass_on affected kvm.bats
}

@test "the small VMM's suite passes on the strict kernel" {
  pass_on affected-strict kvm.bats
}
