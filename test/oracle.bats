# SPDX-License-Identifier: MIT
# For random CPUID tables, the core (the code in core/ that all modes share) must compute the same guest XCR0 as a second model. In
# random payloads, the library must change only XSTATE_BV. oracle-kvm.bats compares the core with KVM.

load lib
load oracle

assert_model_catches() { # BUG
  oracle_with "$1"
  run timeout 120 "$BATS_TEST_TMPDIR/$1" model 1000 "$seed"
  ((status == 1)) || fail "exit status $status" "$output" || return
  assert_caught <<<"$output"
}

@test "the core and an independent second model compute the same guest XCR0 for 1,000,000 random CPUID tables" {
  run timeout 300 "$build/test/oracle" model 1000000 "$seed"
  ((status == 0)) || fail "$output"
  [[ $output == *'tables=1000000 refused-by-kvm=0 mismatches=0'* ]] || fail "$output"
}

@test "the second model finds a core that ignores the index of CPUID entries within 1,000 random tables" {
  assert_model_catches index-ignored
}

@test "the second model finds a core that ignores KVM_CPUID_FLAG_SIGNIFCANT_INDEX within 1,000 random tables" {
  assert_model_catches flag-ignored
}

@test "the second model finds a core that uses the last entry of leaf 0xD instead of the first within 1,000 random tables" {
  assert_model_catches last-match-wins
}

@test "the second model finds a core that uses the last entry of leaf 0xD in a KVM_SET_CPUID table within 1,000 random tables" {
  assert_model_catches last-match-wins-v1
}

@test "the second model finds a core that ignores EDX of leaf 0xD within 1,000 random tables" {
  assert_model_catches edx-dropped
}

@test "in 100,000 random payloads, the library clears exactly the XSTATE_BV bits that are not allowed, and changes nothing else" {
  run timeout 300 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG=none XSAVESHIM_REFUSED=report \
    "$build/test/oracle" payload 100000 "$seed"
  ((status == 0)) || fail "$output"
  [[ $output == *'payloads=100000 mismatches=0'* ]] || fail "$output"
}

@test "the check of random payloads fails without the library, so it can find a payload that is not trimmed" {
  run timeout 60 env LD_PRELOAD="$standin" DEVICE=/dev/null "$build/test/oracle" payload 100 "$seed"
  ((status == 1)) || fail "exit status $status" "$output"
  [[ $output == *'mismatch at payload '* ]] || fail "$output"
}
