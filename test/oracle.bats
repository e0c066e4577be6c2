# SPDX-License-Identifier: MIT
# For random CPUID tables, the core (the code in core/ that all modes share) must compute the same guest XCR0 as the model, which is
# independent code in test/oracle/oracle.c. In random payloads, the library must change only XSTATE_BV. oracle-kvm.bats compares the
# core with KVM.

load lib
load oracle

assert_model_catches() { # BUG
  oracle_with "$1"
  run timeout 120 "$BATS_TEST_TMPDIR/$1" model 1000 "$seed"
  ((status == 1)) || fail "exit status $status" "$output" || return
  assert_caught <<<"$output"
}

@test "for each of 1,000,000 random CPUID tables, xsaveshim computes the same guest XCR0 as the independent model in oracle.c" {
  run timeout 300 "$build/test/oracle" model 1000000 "$seed"
  ((status == 0)) || fail "$output"
  [[ $output == *'tables=1000000 refused-by-kvm=0 mismatches=0'* ]] || fail "$output"
}

@test "within 1,000 random CPUID tables, the model in oracle.c detects a bug that makes xsaveshim ignore the index of entries" {
  assert_model_catches index-ignored
}

@test "within 1,000 random CPUID tables, the model in oracle.c detects a bug that makes xsaveshim ignore the flag KVM_CPUID_FLAG_SIGNIFCANT_INDEX" {
  assert_model_catches flag-ignored
}

@test "within 1,000 random CPUID tables, the model in oracle.c detects a bug that makes xsaveshim use the last leaf 0xD of a KVM_SET_CPUID2 table, not the first" {
  assert_model_catches last-match-wins
}

@test "within 1,000 random CPUID tables, the model in oracle.c detects a bug that makes xsaveshim use the last leaf 0xD of a KVM_SET_CPUID table, not the first" {
  assert_model_catches last-match-wins-v1
}

@test "within 1,000 random CPUID tables, the model in oracle.c detects a bug that makes xsaveshim ignore EDX of leaf 0xD" {
  assert_model_catches edx-dropped
}

@test "in each of 100,000 random payloads, the library clears exactly the XSTATE_BV bits outside the guest's XCR0, except FP and SSE, and changes nothing else" {
  run timeout 300 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG=none XSAVESHIM_REFUSED=report \
    "$build/test/oracle" payload 100000 "$seed"
  ((status == 0)) || fail "$output"
  [[ $output == *'payloads=100000 mismatches=0'* ]] || fail "$output"
}

@test "without the library, the check of random payloads fails, which shows that the check can detect an untrimmed payload" {
  run timeout 60 env LD_PRELOAD="$standin" DEVICE=/dev/null "$build/test/oracle" payload 100 "$seed"
  ((status == 1)) || fail "exit status $status" "$output"
  [[ $output == *'mismatch at payload '* ]] || fail "$output"
}
