# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Tests that two suites share: shim.bats runs the library (the shim) in front of a fake KVM, and kvm.bats runs the library on real
# KVM. A suite sources this file after lib.bash, and sets
#   behind        the libraries that LD_PRELOAD lists after the shim: the fake KVM, or none on real KVM
#   DEVICE        with the fake KVM: the file that the test VMM opens instead of /dev/kvm (the suite exports this variable)
#   lacking       the bit in XSTATE_BV of an xfeature that KVM does not support
#   lacking_name  the name of this xfeature

guest=(create 0 cpuid 0xd=0x3) # a guest with only FP and SSE

bare() { # [VARIABLE=VALUE]... STEP...
  run_vmm LD_PRELOAD="$behind" "$@"
}

shimmed() { # [VARIABLE=VALUE]... STEP...
  run_vmm LD_PRELOAD="$shim $behind" "$@"
}

or() { # MASK...
  local mask all=0
  for mask in "$@"; do all=$((all | mask)); done
  printf '0x%x' "$all"
}

leaky() { # [XSTATE_BV]    prints this XSTATE_BV with the leaked xfeature added
  or "${1:-0x3}" "$lacking"
}

trim_report() { # VCPU XSTATE_BV ALLOWED AFTER DROPPED
  echo "level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=$1 fd=* xstate_bv=$2 allowed=$3 after=$4 dropped=$5"
}

leaky_report() { # VCPU [ALLOWED]    prints the report that the library trimmed a leaky payload
  trim_report "$1" "$(leaky)" "${2:-0x3}" 0x3 "$lacking_name"
}

refused_report() { # XSTATE_BV REASON
  echo "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=$1 reason=$2"
}

xcr0_report() { # EVENT FIELDS
  echo "level=error event=$1 ioctl=KVM_SET_XCRS vcpu=0 fd=* $2"
}

count_printed() { # LINE
  grep -cxF -- "$1" <<<"$output"
}

assert_bare_refusal() {
  bare "${guest[@]}" get-xsave set-xsave "$(leaky)" get-xsave
  assert_printed "set-xsave $(leaky): EINVAL xstate_bv=$(leaky) rest=same"
  [[ $(grep ^get-xsave <<<"$output" | sort -u | wc -l) == 1 ]] || fail "$(outcome)"
}

assert_trimmed_restore() {
  local clean
  bare "${guest[@]}" get-xsave set-xsave 0x3 get-xsave
  clean=$(grep ^get-xsave <<<"$output" | tail -n 1)
  [[ $(grep -c ^get-xsave <<<"$output") == 2 && $(count_printed "$clean") == 1 ]] || fail "loading changed nothing" "$(outcome)"
  shimmed "${guest[@]}" set-xsave "$(leaky)" get-xsave
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" "$clean"
  assert_reported "$(leaky_report 0)"
}

assert_v1_and_empty_tables() {
  shimmed create 0 cpuid-v1 0xd=0x3 set-xsave "$(leaky)" create 1 cpuid none set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]] || fail "$(outcome)"
  # ignores the report load-widened, which the library writes on a kernel that refuses FP and SSE for a guest without XSAVE
  stderr=$(grep -v ' event=load-widened ' <<<"$stderr")
  assert_reported "$(leaky_report 0)" "$(leaky_report 1)"
}

assert_untrimmed_without_table() {
  shimmed supported create 0 set-xsave "$(leaky)" create 1 cpuid-too-many 0xd=0x3 cpuid-null set-xsave "$(leaky)"
  assert_printed 'cpuid-too-many 0xd=0x3: E2BIG' 'cpuid-null: EFAULT'
  [[ $(count_printed "set-xsave $(leaky): EINVAL xstate_bv=$(leaky) rest=same") == 2 ]] || fail "$(outcome)"
  [[ $(grep -c " errno=EINVAL xstate_bv=$(leaky) reason=host-lacks:$lacking_name$" <<<"$stderr") == 2 ]] || fail "$(outcome)"
}

assert_enumerated_kept() {
  shimmed supported create 0 cpuid "0xd=$(leaky)" set-xsave "$(leaky)"
  assert_printed "set-xsave $(leaky): EINVAL xstate_bv=$(leaky) rest=same"
  assert_reported "$(refused_report "$(leaky)" "host-lacks:$lacking_name")"
}

assert_vcpus_apart() {
  local avx
  avx=$(leaky 0x7)
  shimmed create 0 cpuid 0xd=0x3 create 1 cpuid 0xd=0x7 vcpu 0 set-xsave "$avx" vcpu 1 set-xsave "$avx"
  assert_printed "set-xsave $avx: 0 xstate_bv=0x3 rest=same" "set-xsave $avx: 0 xstate_bv=0x7 rest=same"
}

assert_reused_number() {
  shimmed "${guest[@]}" close create 1 set-xsave "$(leaky)" cpuid 0xd=0x7 set-xsave 0x7
  [[ $(sed -n 's/^create .: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "two numbers" "$(outcome)"
  assert_printed "set-xsave $(leaky): EINVAL xstate_bv=$(leaky) rest=same" 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
}

assert_trimmed_from() { # HOW...
  local how
  for how in "$@"; do
    # shellcheck disable=SC2086 # several words
    shimmed "${guest[@]}" $how set-xsave "$(leaky)"
    assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" || return
    assert_reported "$(leaky_report 0)" || return
  done
}

assert_any_alignment() {
  local shift steps=() expected=()
  for shift in {0..64}; do
    steps+=(set-xsave "$(leaky),shift=$shift")
    expected+=("set-xsave $(leaky),shift=$shift: 0 xstate_bv=0x3 rest=same")
  done
  shimmed XSAVESHIM_LOG=none size "${guest[@]}" "${steps[@]}"
  assert_printed "${expected[@]}"
}

assert_bad_addresses() {
  local address steps=() expected=()
  for address in 0 0xfff 0x8000000000000000 0xffff800000000000 0xffffffffffffffff; do
    steps+=(set-xsave-at "$address" get-xsave-at "$address" set-xcrs-at "$address")
    expected+=("set-xsave-at $address: EFAULT" "get-xsave-at $address: EFAULT" "set-xcrs-at $address: EFAULT")
  done
  shimmed XSAVESHIM_TRIM=both "${guest[@]}" "${steps[@]}" dup "${steps[@]}"
  assert_printed "${expected[@]}"
  [[ $(grep -c EFAULT <<<"$output") == 30 ]] || fail "$(outcome)"
  assert_no_report
}

assert_read_only_payload() {
  shimmed "${guest[@]}" set-xsave 0x3,readonly dup set-xsave 0x3,readonly
  [[ $(count_printed 'set-xsave 0x3,readonly: 0 xstate_bv=0x3 rest=same') == 2 ]] || fail "$(outcome)"
  assert_no_report
}

assert_reasons() {
  shimmed create 0 cpuid 0xd=0x3 set-xsave 0x3,xcomp_bv=0x8000000000000000 create 1 cpuid 0xd=0x3 set-xsave 0x3,reserved=0 \
    create 2 cpuid 0xd=0x3 set-xsave 0x3,reserved=47 create 3 cpuid 0xd=0x3 set-xsave 0x3,mxcsr=0x80001f80
  [[ $(grep -c ': EINVAL xstate_bv=0x3 rest=same$' <<<"$output") == 4 ]] || fail "$(outcome)"
  [[ $(sed -n 's/.* reason=//p' <<<"$stderr" | xargs) == \
    'xcomp-bv:0x8000000000000000 reserved-bytes reserved-bytes mxcsr:0x80000000' ]] || fail "$(outcome)"
}

assert_early_calls() {
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim $behind $build/test/constructor.so" LD_DEBUG=files "$build/test/preinit"
  [[ $output == $'preinit: 0 xstate_bv=0x3\nconstructor: 0 xstate_bv=0x3\nmain: 0 xstate_bv=0x3' ]] || fail "$(outcome)"
  # checks that the constructor of constructor.so ran before the shim's constructor
  [[ $(grep -oE 'calling init: .*/(libxsaveshim|constructor)\.so' <<<"$stderr") == *constructor.so*libxsaveshim.so ]]
}

assert_dlopened_library_served() {
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim $behind" "$build/test/dlopen" "$build/test/constructor.so"
  [[ $output == *'constructor: 0 xstate_bv=0x3'*'program: 0 xstate_bv=0x3'* ]] || fail "$(outcome)"
}

# Prints the VMM's system calls between the steps `mark begin` and `mark end`, without addresses and without the VMM's own output.
trace() { # LD_PRELOAD STEP...
  local file=$BATS_TEST_TMPDIR/trace
  timeout 60 strace -f -qq -s 200 -o "$file" -E LD_PRELOAD="$1" "$vmm" "${@:2}" mark end >/dev/null 2>"$BATS_TEST_TMPDIR/stderr"
  sed -n '/mark-begin/,/mark-end/p' "$file" | sed -E 's/^[0-9]+ +//; s/0x[0-9a-f]{6,}/ADDRESS/g; /^write\(1,/d'
}

assert_no_system_call() { # STEP...    checks that the shim adds no system call to a restore or to these further steps
  local steps=(size supported "${guest[@]}" mark begin create 1 get-xsave cpuid 0xd=0x3 get-cpuid none set-xsave 0x3 get-xsave "$@")
  trace "$behind" "${steps[@]}" >"$BATS_TEST_TMPDIR/without"
  trace "$shim $behind" "${steps[@]}" >"$BATS_TEST_TMPDIR/with"
  grep -q mark-end "$BATS_TEST_TMPDIR/without"
  diff -u "$BATS_TEST_TMPDIR/without" "$BATS_TEST_TMPDIR/with"
}

assert_system_calls_of_a_trim() {
  trace "$behind" "${guest[@]}" mark begin set-xsave 0x3 >"$BATS_TEST_TMPDIR/without"
  trace "$shim $behind" "${guest[@]}" mark begin set-xsave "$(leaky)" >"$BATS_TEST_TMPDIR/with"
  grep -q mark-end "$BATS_TEST_TMPDIR/without"
  run diff "$BATS_TEST_TMPDIR/without" "$BATS_TEST_TMPDIR/with"
  [[ $(sed -nE 's/^> ([a-z0-9]+\([0-9]).*/\1/p' <<<"$output" | xargs) == 'fstat(2 write(2' ]] || fail "$output"
  [[ $(grep -c '^[<>]' <<<"$output") == 2 ]] || fail "$output"
}
