# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# For random CPUID tables, the core (the code in core/ that all modes share) must compute the same guest XCR0 as KVM. This suite
# boots testbed kernels, because a host's own KVM may rewrite a table's leaf 0xD.

load lib
load oracle

# judged_by KERNEL COMMAND...    runs COMMAND in the testbed kernel KERNEL
judged_by() {
  run timeout 900 "$repo/test/kernels/run" --timeout 800 "$1" -- "${@:2}"
}

# assert_agrees KERNEL XFEATURES    checks that this kernel's KVM and the core find the same XCR0 in each CPUID table. XFEATURES
# is the oracle's description of the xfeatures that the kernel's KVM_SET_XSAVE accepts.
assert_agrees() {
  judged_by "$1" "$build/test/oracle" cpuid 100000 "$seed"
  ((status == 0)) || fail "exit status $status" "$output" || return
  [[ $output == *"KVM_SET_XSAVE takes $2"$'\n'* ]] || fail "this KVM does not take $2:" "$output" || return
  [[ $output =~ tables=100000\ refused-by-kvm=([0-9]+)\ mismatches=0 ]] || fail "$output" || return
  # KVM must accept most tables. It must refuse some, because the oracle also checks that a refused table changes nothing.
  ((BASH_REMATCH[1] > 0 && BASH_REMATCH[1] < 20000)) || fail "$output" || return
  result "oracle-$1" "KVM as the oracle: $1 kernel" "100,000 random CPUID tables, ${BASH_REMATCH[1]} of which KVM refused" '0 mismatches'
}

@test "on the testbed kernel 'fixed', KVM_SET_XCRS enforces the guest XCR0 that xsaveshim computes, for each of 100,000 random CPUID tables" {
  assert_agrees fixed 'what the host supports'
}

@test "on the testbed kernel 'affected', KVM_SET_XSAVE accepts exactly those host xfeatures that xsaveshim allows, for each of 100,000 random CPUID tables" {
  assert_agrees affected "the guest's XCR0, FP and SSE"
}

@test "on the testbed kernel 'affected-strict', KVM_SET_XSAVE accepts exactly those host xfeatures that are in xsaveshim's guest XCR0, for each of 100,000 random CPUID tables" {
  assert_agrees affected-strict "the guest's XCR0"
}

@test "within 1,000 random CPUID tables, the comparison with KVM detects each bug put into xsaveshim, except a bug that ignores EDX, which the test's second model detects" {
  local bug
  for bug in "${!bugs[@]}"; do oracle_with "$bug"; done
  judged_by affected bash -c '
    for bug in "${@:3}"; do
      [[ $bug == edx-dropped ]] && judge=cpuid || judge=kvm
      echo "$bug: $("$1/$bug" "$judge" 1000 "$2" | tr "\n" " ")"
    done' - "$BATS_TEST_TMPDIR" "$seed" "${!bugs[@]}"
  ((status == 0)) || fail "exit status $status" "$output"
  for bug in "${!bugs[@]}"; do
    grep -qE "^$bug: .*mismatch at table .*cut down: .* of [12] entries" <<<"$output" ||
      fail "not caught: $bug" "$output"
  done
  result oracle-bugs 'the oracle itself' "${#bugs[@]} bugs put into the core (${!bugs[*]})" 'each caught within 1,000 tables'
}

@test "on the testbed kernel 'affected', the library clears in 20,000 random payloads exactly the XSTATE_BV bits that the guest may not have" {
  judged_by affected env LD_PRELOAD="$shim" XSAVESHIM_LOG=none XSAVESHIM_REFUSED=report "$build/test/oracle" payload 20000 "$seed"
  ((status == 0)) || fail "exit status $status" "$output"
  [[ $output == *'payloads=20000 mismatches=0'* ]] || fail "$output"
  result oracle-payloads 'KVM as the oracle: payloads' '20,000 random ones, trimmed by the shim on the affected kernel' '0 mismatches'
}
