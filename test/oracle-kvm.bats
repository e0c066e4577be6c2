# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# For random CPUID tables, the core (the code in core/ that all modes share) must compute the same guest XCR0 as KVM. The program
# oracle (test/oracle/oracle.c) compares both. This suite boots testbed kernels (test/kernels/run), because a host's own KVM may
# rewrite a table's leaf 0xD.

load lib
load oracle

# judged_by KERNEL COMMAND...    runs COMMAND in the testbed kernel KERNEL
judged_by() {
  run timeout 900 "$repo/test/kernels/run" --timeout 800 "$1" -- "${@:2}"
}

# assert_agrees KERNEL XFEATURES    checks that KERNEL's KVM and the core find the same XCR0 in each of 100,000 random CPUID tables.
# XFEATURES are the words with which the oracle must describe what KERNEL's KVM_SET_XSAVE accepts.
assert_agrees() {
  judged_by "$1" "$build/test/oracle" cpuid 100000 "$seed"
  ((status == 0)) || fail "exit status $status" "$output" || return
  [[ $output == *"KVM_SET_XSAVE accepts $2"$'\n'* ]] || fail "KVM_SET_XSAVE should accept $2:" "$output" || return
  [[ $output =~ tables=100000\ refused-by-kvm=([0-9]+)\ mismatches=0 ]] || fail "$output" || return
  # KVM must accept most tables. It must refuse some, because the oracle also checks that a refused table changes nothing.
  ((BASH_REMATCH[1] > 0 && BASH_REMATCH[1] < 20000)) || fail "$output" || return
  result "oracle-$1" "KVM as the oracle: $1 kernel" "100,000 random CPUID tables, ${BASH_REMATCH[1]} of which KVM refused" '0 mismatches'
}

@test "on the testbed kernel 'fixed', KVM_SET_XCRS enforces the guest XCR0 that xsaveshim computes, for each of 100,000 random CPUID tables" {
  assert_agrees fixed 'all xfeatures of the host'
}

@test "on the testbed kernel 'affected', KVM_SET_XSAVE accepts an xfeature of the host exactly if xsaveshim does not trim it, for each of 100,000 random CPUID tables" {
  assert_agrees affected "only xfeatures in the guest's XCR0, and FP and SSE"
}

@test "on the testbed kernel 'affected-strict', KVM_SET_XSAVE accepts an xfeature of the host exactly if it is in the guest XCR0 that xsaveshim computes, for each of 100,000 random CPUID tables" {
  assert_agrees affected-strict "only xfeatures in the guest's XCR0"
}

@test "within 1,000 random CPUID tables, the oracle detects each bug that the test puts into the core: the model in oracle.c reveals the bug that ignores EDX, and KVM reveals every other bug" {
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

@test "on the testbed kernel 'affected', in each of 20,000 random payloads, the library clears exactly the XSTATE_BV bits outside the guest's XCR0, except FP and SSE" {
  judged_by affected env LD_PRELOAD="$shim" XSAVESHIM_LOG=none XSAVESHIM_REFUSED=report "$build/test/oracle" payload 20000 "$seed"
  ((status == 0)) || fail "exit status $status" "$output"
  [[ $output == *'payloads=20000 mismatches=0'* ]] || fail "$output"
  result oracle-payloads 'KVM as the oracle: payloads' '20,000 random ones, trimmed by the shim on the affected kernel' '0 mismatches'
}
