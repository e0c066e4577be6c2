# SPDX-License-Identifier: MIT
# Random CPUID tables: the core must agree with a second model. Random payloads: the shim must change XSTATE_BV only.
# oracle-kvm.bats compares the core with KVM.

load lib
load oracle

assert_model_catches() { # BUG
  oracle_with "$1"
  run timeout 120 "$BATS_TEST_TMPDIR/$1" model 1000 "$seed"
  ((status == 1)) || fail "exit status $status" "$output" || return
  assert_caught <<<"$output"
}

@test "the core and a second model agree on 1,000,000 random CPUID tables" {
  run timeout 300 "$build/test/oracle" model 1000000 "$seed"
  ((status == 0)) || fail "$output"
  [[ $output == *'tables=1000000 refused-by-kvm=0 mismatches=0'* ]] || fail "$output"
}

@test "a core that ignores the index is caught within 1,000 tables" {
  assert_model_catches index-ignored
}

@test "a core that ignores the significance of an index is caught within 1,000 tables" {
  assert_model_catches flag-ignored
}

@test "a core in which the last match wins is caught within 1,000 tables" {
  assert_model_catches last-match-wins
}

@test "a core in which the last match of KVM_SET_CPUID wins is caught within 1,000 tables" {
  assert_model_catches last-match-wins-v1
}

@test "a core that drops EDX is caught within 1,000 tables" {
  assert_model_catches edx-dropped
}

@test "in 100,000 random payloads the shim writes XSTATE_BV & allowed and changes no other byte" {
  run timeout 300 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG=none XSAVESHIM_REFUSED=report \
    "$build/test/oracle" payload 100000 "$seed"
  ((status == 0)) || fail "$output"
  [[ $output == *'payloads=100000 mismatches=0'* ]] || fail "$output"
}

@test "without the shim the check of random payloads fails" {
  run timeout 60 env LD_PRELOAD="$standin" DEVICE=/dev/null "$build/test/oracle" payload 100 "$seed"
  ((status == 1)) || fail "exit status $status" "$output"
  [[ $output == *'mismatch at payload '* ]] || fail "$output"
}
