# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests of `xsaveshim run --supervise` on real KVM: how the supervisor trims the payloads of VMMs that cannot use the library, and
# how the supervisor starts and ends.

load lib

xsaveshim=$build/xsaveshim
static=$build/test/vmm-static
musl=$build/test/vmm-musl
work=$BATS_TEST_TMPDIR
slow=${XSTEST_SLOW:-1}

# Sets two variables. `guest` has the arguments (steps) that make the test VMM create a vCPU whose CPUID has FP, SSE and AVX.
# `leaky` is an XSTATE_BV with FP, SSE, AVX, and an xfeature that this host's KVM does not support.
setup() {
  need_no_settings_file
  need_kvm
  export XSAVESHIM_REFUSED=report
  read -r leaked leaked_name < <("$build/test/leakable")
  printf -v leaky '%#x' $((leaked | 7))
  guest=(create 0 cpuid 0xd=0x7)
}

teardown() {
  if declare -F guest_stop_all >/dev/null; then guest_stop_all; fi
  [[ ! ${public:-} ]] || rm -rf "$public"
}

# supervised [VARIABLE=VALUE]... STEP...    runs the static test VMM under a supervisor. The VMM executes each STEP
# (test/vmm/vmm.c). Like bats' `run`, sets $status, $output and $stderr.
supervised() {
  local environment=()
  while [[ ${1:-} =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  run --separate-stderr timeout $((60 * slow)) \
    env "${environment[@]}" "$xsaveshim" run --supervise -- "$static" "$@"
}

bare() {
  run --separate-stderr timeout $((60 * slow)) "$static" "$@"
}

trim_report() { # [VCPU [ALLOWED [XSTATE_BV]]]
  local vcpu=${1:-0} allowed=${2:-0x7} xstate_bv=${3:-$leaky} dropped=$leaked_name
  ((allowed == 7)) || dropped=$(names $((xstate_bv & ~allowed)))
  echo "level=notice event=trim via=supervisor ioctl=KVM_SET_XSAVE vcpu=$vcpu fd=* xstate_bv=$xstate_bv `
    `allowed=$allowed after=$allowed dropped=$dropped"
}

names() { # XFEATURES    prints the names of AVX and the leaked xfeature if XFEATURES has them
  local list=()
  ((($1 & 4) == 0)) || list+=(avx)
  ((($1 & leaked) == 0)) || list+=("$leaked_name")
  local IFS=,
  echo "${list[*]}"
}

# ---- which xfeatures the supervisor drops ----

@test "KVM refuses the leaky payloads that two threads of a static VMM load into two vCPUs; if a supervisor trims each payload to its vCPU's XCR0, KVM accepts both payloads" {
  local program
  local steps=("${guest[@]}" create 1 cpuid 0xd=0x3 thread vcpu 0 set-xsave "$leaky" thread vcpu 1 set-xsave "$leaky")
  for program in "$static" "$musl"; do
    static=$program
    bare "${steps[@]}"
    ((status == 0))
    [[ $(grep -cx "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same" <<<"$output") == 2 ]] || fail "$(outcome)"
    supervised "${steps[@]}"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" "set-xsave $leaky: 0 xstate_bv=0x3 rest=same"
    assert_reported "$(trim_report 0)" "$(trim_report 1 0x3)"
  done
}

@test "the supervisor recognizes ioctl request numbers that are sign-extended to 64 bits" {
  bare wide "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  supervised wide "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  supervised wide create 0 cpuid-v1 0xd=0x7 set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "at any alignment of the payload, the supervisor changes only the XSTATE_BV of a leaky payload, and nothing in a clean payload" {
  local shift clean=() steps=()
  for shift in 0 1 2 3 4 7 508 3577 3581 3583; do clean+=(set-xsave "0x7,shift=$shift") steps+=(set-xsave "$leaky,shift=$shift"); done
  supervised "${guest[@]}" "${clean[@]}"
  assert_no_report
  supervised "${guest[@]}" "${clean[@]}" "${steps[@]}"
  ((status == 0))
  [[ $(grep -c '^set-xsave .*: 0 xstate_bv=0x7 rest=same$' <<<"$output") == 20 ]] || fail "$(outcome)"
}

@test "the supervisor keeps FP and SSE in a payload whatever the guest's CPUID says" {
  local list
  for list in none 0x1 0xd=0x0 0xd=0x4; do
    supervised create 0 cpuid "$list" set-xsave 0x3
    ((status == 0))
    [[ $output == *"set-xsave 0x3: "*" xstate_bv=0x3 rest=same" ]] || fail "$(outcome)"
    assert_no_report
  done
}

@test "if a payload has an xfeature that the guest's CPUID enumerates but KVM lacks, the supervisor does not change the payload, and reports that KVM will refuse it" {
  printf -v shown '%#x' $((leaked | 7))
  supervised create 0 cpuid "0xd=$shown" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  assert_reported "level=error event=refused via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=$leaky `
    `foreseen=yes reason=host-lacks:$leaked_name"
}

@test "if a payload has a bad XCOMP_BV, reserved byte or MXCSR, the supervisor reports that KVM will refuse the payload, and why" {
  supervised create 5 cpuid 0xd=0x7 set-xsave 0x3,reserved=3,xcomp_bv=9,mxcsr=0xffffffff
  assert_printed 'set-xsave 0x3,reserved=3,xcomp_bv=9,mxcsr=0xffffffff: EINVAL xstate_bv=0x3 rest=same'
  [[ $(wc -l <<<"$stderr") == 1 ]]
  [[ $stderr =~ event=refused\ .*vcpu=5\ .*\ foreseen=yes\ reason=xcomp-bv:0x9\;reserved-bytes\;mxcsr:0x[0-9a-f]+$ ]] ||
    fail "$(outcome)"
  supervised create 0 set-xsave "$leaky" # the supervisor allows every xfeature for a vCPU without a CPUID table
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(wc -l <<<"$stderr") == 1 && $stderr == *event=refused*"vcpu=0 "* ]]
}

@test "from the CPUID table of KVM_SET_CPUID or KVM_SET_CPUID2, the supervisor learns which xfeatures the guest may use; if the table has several entries for leaf 0xD, the supervisor uses the entry that KVM uses" {
  supervised create 0 cpuid-v1 0x1,0xd=0x7,0xd=0x3 set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  supervised create 0 cpuid 0xd.1=0x7,0xd.0=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "with XSAVESHIM_TRIM=none, the supervisor changes no payload, and reports the xfeatures that it would drop if trimming were on" {
  supervised XSAVESHIM_TRIM=none "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(sed -n 1p <<<"$stderr") == *event=would-trim*" after=$leaky dropped=$leaked_name" ]] || fail "$(outcome)"
  [[ $(sed -n 2p <<<"$stderr") == *event=refused*" reason=host-lacks:$leaked_name"* ]]
  [[ $(wc -l <<<"$stderr") == 2 ]]
}

# ---- XCR0 (KVM_SET_XCRS) ----

@test "if the VMM sets the guest's XCR0 by KVM_SET_XCRS before KVM_SET_XSAVE, the supervisor keeps this XCR0's xfeatures in the payload, even those that the guest's CPUID lacks" {
  supervised create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave "$leaky"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
  assert_reported "$(trim_report)"
}

@test "if the supervisor dropped an xfeature from a payload, and the VMM then sets an XCR0 with this xfeature, the supervisor reports lost state; with XSAVESHIM_REFUSED=abort, it also ends the VMM" {
  local lost="level=error event=lost via=supervisor ioctl=KVM_SET_XCRS vcpu=0 fd=* xcr0=0x7 foreseen=yes lost=avx"
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x3 set-xcrs 0x7 set-xsave 0x7
  [[ $output == *$'\nset-xsave 0x7: 0 xstate_bv=0x3 rest=same' ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3 0x7)" "$lost"
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x3 set-xcrs 0x7 mark late
  ((status == 128 + 9)) || fail "$(outcome)"
  [[ $output == *$'\nset-xcrs 0x3: '* && $output != *mark* ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3 0x7)" "$lost action=abort"
}

@test "if the XCR0 of a KVM_SET_XCRS cannot be read, or has no xfeature that the supervisor dropped from the last payload, the supervisor reports no lost state" {
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x7 set-xsave "$leaky" set-xcrs 0x7 set-xcrs-at 0x1000
  assert_printed 'set-xcrs-at 0x1000: EFAULT'
  assert_reported "$(trim_report)"
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x3 0x7)"
  supervised XSAVESHIM_TRIM=none create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  [[ $stderr != *event=lost* ]] || fail "$(outcome)"
}

# ---- how often an event is reported ----

@test "the supervisor reports a vCPU's 1st, 10th, 100th and 1,000th trim, and each trim that drops an xfeature which no earlier trim of this vCPU dropped" {
  local steps=() i
  printf -v other '%#x' $((leaky | 1 << 62))
  for ((i = 0; i < 1000; i++)); do steps+=(set-xsave "$leaky"); done
  supervised create 0 cpuid 0xd=0x7 "${steps[@]}" set-xsave 0x7,xcomp_bv=1 set-xsave 0x7,xcomp_bv=1 set-xsave "$other"
  ((status == 0))
  assert_reported "$(trim_report)" "$(trim_report) count="{10,100,1000} \
    "level=error event=refused via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 foreseen=yes reason=xcomp-bv:0x1" \
    "level=notice event=trim via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=$other allowed=0x7 after=0x7 `
      `dropped=$leaked_name,bit62 count=1001"
}

@test "if a new vCPU gets a closed vCPU's descriptor number, the supervisor reports the new vCPU's first trim, even if it has reported the same trim of the closed vCPU" {
  supervised "${guest[@]}" set-xsave "$leaky" set-xsave "$leaky" vm close create 0 cpuid 0xd=0x7 set-xsave "$leaky"
  [[ $(sed -n 's/^create 0: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "not the same number" "$(outcome)"
  assert_reported "$(trim_report)" "$(trim_report)"
}

# ---- CPUID tables that KVM may have refused ----

@test "if a CPUID table is too long or cannot be read, so that KVM refuses it, the supervisor ignores the table" {
  supervised create 0 cpuid-too-many 0xd=0x3 cpuid-null set-xsave 0x7
  assert_printed 'cpuid-too-many 0xd=0x3: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_no_report
}

@test "KVM may refuse a second CPUID table; so if this table has fewer xfeatures, the supervisor keeps the first table's xfeatures in payloads, and reports those that the second table lacks" {
  local steps=() i
  for ((i = 0; i < 12; i++)); do steps+=(set-xsave 0x7); done
  supervised "${guest[@]}" run cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'cpuid 0xd=0x3: EINVAL' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  supervised "${guest[@]}" cpuid 0xd=0x3 set-xsave "$leaky" "${steps[@]}"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same"* ]] || fail "$(outcome)"
  local kept="allowed=0x7 reason=earlier-cpuid lacking=avx"
  assert_reported "$(trim_report)" \
    "level=notice event=not-trimmed via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=$leaky $kept" \
    "level=notice event=not-trimmed via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 $kept count=10"
}

@test "if the VMM sets a second CPUID table that has more xfeatures than the first, the supervisor trims later payloads by the second table" {
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 cpuid 0xd=0x7 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same
set-xsave 0x7: 0 xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
}

# ---- which vCPU a descriptor refers to ----

@test "if a new vCPU gets a closed vCPU's descriptor number, the supervisor does not apply the closed vCPU's CPUID table to the new vCPU" {
  # The step `vm` creates the second VM. If `vm` came after `close`, this VM, and not its vCPU, would get the closed vCPU's number.
  supervised create 0 cpuid 0xd=0x3 vm close create 0 set-xsave 0x7
  [[ $(sed -n 's/^create 0: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "not the same number" "$(outcome)"
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_no_report
  supervised create 0 cpuid 0xd=0x7 vm close create 0 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "if vCPUs of two VMs have the same id, the supervisor trims each vCPU's payload by that vCPU's own CPUID table" {
  supervised create 0 cpuid 0xd=0x3 dup-to 20 vm create 0 cpuid 0xd=0x7 set-xsave 0x7 fd 20 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same
set-xsave 0x7: 0 xstate_bv=0x3 rest=same' ]] || fail "$(outcome)"
}

@test "if the VMM loads a payload through a duplicated vCPU descriptor, the supervisor trims the payload by that vCPU's CPUID table" {
  supervised "${guest[@]}" dup set-xsave "$leaky" dup-to 900 set-xsave "$leaky"
  ((status == 0))
  [[ $(grep -cx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$(trim_report)"
}

@test "if dup2 makes vCPU A's descriptor number refer to vCPU B, and the VMM loads a payload through this number, the supervisor trims the payload by vCPU B's CPUID table" {
  local second
  supervised create 0 create 1
  second=$(sed -n 's/^create 1: //p' <<<"$output")
  supervised create 0 cpuid 0xd=0x3 create 1 cpuid 0xd=0x7 vcpu 0 dup-to "$second" set-xsave 0x7
  assert_printed "create 1: $second" "dup-to $second: $second"
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "if dup2 makes a vCPU's descriptor number refer to another VM's vCPU with the same id, the supervisor keeps both vCPUs' xfeatures in payloads that the VMM loads through this number" {
  local first second
  supervised create 0 vm create 0
  { read -r first; read -r second; } < <(sed -n 's/^create 0: //p' <<<"$output")
  supervised create 0 cpuid 0xd=0x7 vm create 0 cpuid 0xd=0x3 fd "$first" dup-to "$second" set-xsave "$leaky"
  assert_printed "dup-to $second: $second"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
}

@test "if KVM_SET_XSAVE is called on a descriptor that is not a vCPU, the supervisor does not change the VMM's buffer" {
  local file
  touch "$work/file"
  for file in /dev/kvm /dev/null "$work/file"; do
    supervised "${guest[@]}" close file "$file" set-xsave "$leaky"
    [[ $(sed -n 's/^create 0: //p' <<<"$output") == "$(sed -n 's/^file .*: //p' <<<"$output")" ]] || fail "$(outcome)"
    [[ $output == *"set-xsave $leaky: "E*" xstate_bv=$leaky rest=same" ]] || fail "$(outcome)"
    assert_no_report
  done
}

@test "if a forked child creates its own vCPU, the supervisor trims this vCPU's payload by this vCPU's CPUID table, not by the CPUID table of the parent's vCPU" {
  supervised create 0 cpuid 0xd=0x3 fork set-xsave 0x7 vm create 0 cpuid 0xd=0x7 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: EIO xstate_bv=0x7 rest=same
set-xsave 0x7: 0 xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
}

@test "the supervisor trims a payload that the VMM loads after exec, in a forked child, on a second thread or in a signal handler" {
  local how
  for how in fork thread signal exec; do
    supervised file /dev/null "$how" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    assert_reported "$(trim_report)"
  done
}

@test "if one supervisor serves several VMMs, in turn or at the same time, it trims each VMM's payload by that VMM's own CPUID table" {
  local script='vmm=$0
    "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x7 >"$1/first"
    "$vmm" create 0 cpuid 0xd=0x7 set-xsave 0x7 >"$1/second"
    for i in 1 2 3 4 5 6 7 8; do
      "$vmm" create 0 cpuid "0xd=$((3 | i % 2 << 2))" set-xsave 0x7 set-xsave 0x7 >"$1/$i" &
    done
    wait'
  run --separate-stderr timeout $((60 * slow)) \
    "$xsaveshim" run --supervise --log=none -- bash -c "$script" "$static" "$work"
  ((status == 0))
  grep -qx 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same' "$work/first"
  grep -qx 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same' "$work/second"
  [[ $(cat "$work"/[1357] | grep -cx 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same') == 8 ]]
  [[ $(cat "$work"/[2468] | grep -cx 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same') == 8 ]]
}

@test "if eight threads load payloads at once, with or without signals that interrupt the threads, the supervisor trims each payload to its vCPU's XCR0" {
  local mode rounds=$((1000 / slow))
  for mode in '' interrupted; do
    # shellcheck disable=SC2086 # no word or one
    run timeout $((60 * slow)) \
      "$xsaveshim" run --supervise --log=none -- "$build/test/restorers" 8 "$rounds" "$leaked" $mode
    ((status == 0))
    [[ $(sort <<<"$output") == "$(printf "%d: $rounds\n" {0..7})" ]] || fail "$output"
  done
}

@test "if the VMM gets a signal while the supervisor handles a KVM_SET_XSAVE, the call still succeeds" {
  start_hanging vcpu "$leaky"
  kill -USR1 "$pid"
  resume
  wait "$pid"
  [[ $(sed -n 2p "$work/out") == '0 xstate_bv=0x7' ]] || fail "$(<"$work/out")"
}

# ---- which process makes a call ----

@test "if a process shares the VMM's descriptors but not the VMM's memory, the supervisor leaves the process's KVM_SET_XSAVE to KVM, which answers EIO" {
  local mode
  supervised "${guest[@]}" helper set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EIO xstate_bv=$leaky rest=same"
  assert_no_report
  for mode in helper fork; do
    supervised XSAVESHIM_REFUSED=abort create 0 cpuid "0xd=$leaky" "$mode" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: EIO xstate_bv=$leaky rest=same"
    assert_no_report
  done
}

@test "if a child process shares the VMM's memory, as after vfork, the supervisor trims the payload that the child loads" {
  supervised "${guest[@]}" vfork set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
}

@test "in the supervisor's reports, the field pid is the calling process's ID in the supervisor's own PID namespace" {
  local pids
  run --separate-stderr "$xsaveshim" run --supervise -- sh -c '"$@"; "$@"; true' sh "$static" pid "${guest[@]}" set-xsave "$leaky"
  pids=$(sed -n 's/^pid: //p' <<<"$output")
  [[ $(wc -l <<<"$pids") == 2 && $(sed -n 's/.* pid=\([0-9]*\) .*/\1/p' <<<"$stderr") == "$pids" ]] || fail "$(outcome)"
  [[ $EUID == 0 ]] || return 0
  run --separate-stderr "$xsaveshim" run --supervise -- unshare --pid --fork "$static" pid "${guest[@]}" set-xsave "$leaky"
  assert_printed 'pid: 1'
  [[ $stderr =~ \ pid=([0-9]+)\  && ${BASH_REMATCH[1]} != 1 ]] || fail "$(outcome)"
}

# start_hanging vcpu XSTATE_BV    starts a supervised VMM (test/vmm/hang.c) that loads a payload with XSTATE_BV into a vCPU. Every
# read of the payload hangs until the test calls `resume`. Sets `pid` (the VMM's process ID) and `in` (the descriptor to which
# `resume` writes).
start_hanging() {
  [[ $EUID == 0 ]] || skip "only root may use userfaultfd to make the kernel wait for a page"
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$xsaveshim" run --supervise -- bash -c 'exec "$0" "$@"' "$build/test/hang" "$@" <"$work/in" >"$work/out" 2>"$work/err" 3>&- &
  pid=$!
  wait_for $((10 * slow)) grep -q '^calls ' "$work/out"
  wait_for $((10 * slow)) waits_in seccomp 16 "$pid" # ioctl()
}

@test "while the supervisor's reads of ten VMMs' payloads hang, the supervisor trims the payloads of other VMMs" {
  local i
  mkfifo "$work/never"
  exec {in}<>"$work/never"
  run --separate-stderr timeout $((20 * slow)) "$xsaveshim" run --supervise -- bash -c '
    set -m # each VMM and the process that provides its payload are a process group
    for ((i = 0; i < 10; i++)); do
      "$1" vcpu "$3" >"$4/$i" &
      hanging+=($!)
    done <&"$5"
    for ((i = 0; i < 10; i++)); do
      until grep -q calls "$4/$i"; do sleep 0.02; done
    done
    for ((i = 0; i < 10; i++)); do "$2" create 0 cpuid 0xd=0x7 set-xsave "$3"; done
    kill -KILL "${hanging[@]/#/-}"' bash "$build/test/hang" "$static" "$leaky" "$work" "$in"
  exec {in}>&-
  [[ $status == 0 && $(grep -cx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" <<<"$output") == 10 ]] || fail "$(outcome)"
}

@test "if KVM_SET_XSAVE is called on a descriptor that is not a vCPU, the supervisor does not read the payload, because the read could hang" {
  mkfifo "$work/never"
  exec {in}<>"$work/never"
  run --separate-stderr timeout $((20 * slow)) "$xsaveshim" run --supervise -- "$build/test/hang" nothing "$leaky" <&"$in"
  [[ $status == 0 && ${lines[1]} == ENOTTY ]] || fail "$(outcome)"
  assert_no_report
}

@test "with XSAVESHIM_REFUSED=abort, if a VMM dies during KVM_SET_XSAVE and a new process gets the VMM's pid, the supervisor does not end the new process" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  run --separate-stderr timeout $((60 * slow)) unshare --pid --fork --kill-child --mount-proc bash -c '
    mkfifo "$4/in" "$4/other"
    exec 8<>"$4/in" 9<>"$4/other"
    "$0" run --supervise --refused=abort -- "$1" child "$3" <&8 >"$4/out" 8<&- 9<&- &
    until grep -q calls "$4/out"; do sleep 0.02; done
    caller=$(sed -n "s/^calls //p" "$4/out")
    until [[ $(<"/proc/$caller/syscall") == "16 "* ]]; do sleep 0.02; done
    sleep 0.1
    kill -KILL "$caller"
    while [[ -e /proc/$caller ]]; do sleep 0.02; done
    "$5" "$caller" "$2" create 0 pause <&9 >"$4/innocent" 8<&- 9<&- &
    until grep -q pause "$4/innocent"; do sleep 0.02; done
    echo >&8
    while pgrep -x "xsaveshim|hang" >/dev/null; do sleep 0.02; done
    echo >&9
    wait $! && echo alive' "$xsaveshim" "$build/test/hang" "$static" "$leaky" "$work" "$build/test/aspid"
  [[ $status == 0 && $output == alive ]] || fail "$(outcome)"
}

# ---- the VMM's memory ----

@test "if a payload's address is NULL or otherwise invalid, the supervisor leaves the call to KVM, which answers EFAULT" {
  local address
  for address in 0 0x1000 0x7ffffffff000 0x800000000000 0xffff888000000000 0xffffffffffffffff; do
    supervised "${guest[@]}" set-xsave-at "$address" set-xsave 0x7
    assert_printed "set-xsave-at $address: EFAULT" 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    assert_no_report
  done
}

@test "the supervisor can trim a payload in read-only memory or in a private mapping of a file, and does not change the file" {
  supervised "${guest[@]}" set-xsave "$leaky,readonly"
  assert_printed "set-xsave $leaky,readonly: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
  run_mapped private
  [[ $output == '0 xstate_bv=0x3' ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3)"
}

@test "if a payload is in a shared read-only mapping of a file, the supervisor reports that it cannot trim the payload" {
  run_mapped shared
  [[ $output == "EINVAL xstate_bv=$leaky" ]] || fail "$(outcome)"
  [[ $stderr =~ level=error\ event=not-trimmed\ via=supervisor\ .*\ xstate_bv=$leaky\ allowed=0x3\ reason=memory-not-writable\ error= ]] ||
    fail "$(outcome)"
  [[ $stderr == *event=refused*"reason=host-lacks:$leaked_name"* ]] || fail "$(outcome)"
  run_mapped shared XSAVESHIM_REFUSED=abort
  [[ $status == $((128 + 9)) && $stderr == *event=not-trimmed*event=refused*action=abort* ]] || fail "$(outcome)"
}

# Runs a supervised VMM whose payload is in a mapping of a file, and checks that the file does not change.
run_mapped() { # private|shared [VARIABLE=VALUE]
  snapshot_file
  run --separate-stderr env "${@:2}" "$xsaveshim" run --supervise -- "$build/test/mapped" "$1" "$work/snapshot"
  cmp "$work/snapshot" "$work/snapshot.before"
}

snapshot_file() {
  local byte bytes=''
  for ((byte = 0; byte < 8; byte++)); do printf -v bytes '%s\\x%02x' "$bytes" $((leaky >> 8 * byte & 255)); done
  printf '\x80\x1f' | dd of="$work/snapshot" bs=1 seek=24 status=none # MXCSR
  # shellcheck disable=SC2059 # it is a format
  printf "$bytes" | dd of="$work/snapshot" bs=1 seek=512 status=none
  truncate -s 4096 "$work/snapshot"
  cp "$work/snapshot" "$work/snapshot.before"
}

# ---- seccomp filters ----

@test "the supervisor trims the payload of a VMM whose seccomp filter allows only ioctl, write, writev, fstat, exit and exit_group" {
  local program
  for program in "$static" "$musl"; do
    static=$program
    supervised "${guest[@]}" confine set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  done
}

@test "if a process that already has a supervisor calls xsaveshim run --supervise, the command fails and says why" {
  run --separate-stderr "$xsaveshim" run --supervise -- "$xsaveshim" run --supervise -- "$static" mark a
  [[ $status == 125 && -z $output && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: this process already has a supervisor, '*': start the VMM without that supervisor' ]]
}

# ---- QEMU ----

@test "with the supervisor or the library, QEMU restores a snapshot that has a leaked xfeature, and the guest runs on intact" {
  local mode
  local -A how=([supervisor]=--supervise [library]='')
  # shellcheck source=test/qemu.bash
  source "$BATS_TEST_DIRNAME/qemu.bash"
  touch "$work/host-leaks"
  guest_start source "LD_PRELOAD=$build/test/leak.so" "LEAK_BITS=$leaked" "LEAK_WHILE=$work/host-leaks"
  assert_guest_intact source
  guest_save source "$work/image"
  guest_restore bare "$work/image"
  assert_guest_lost bare
  for mode in supervisor library; do
    printf '#!/bin/sh\nexec %s run %s -- qemu-system-x86_64 "$@"\n' "$xsaveshim" "${how[$mode]}" >"$work/qemu"
    chmod +x "$work/qemu"
    qemu=$work/qemu
    guest_restore "$mode" "$work/image"
    assert_guest_intact "$mode"
    grep -q "event=trim .*ioctl=KVM_SET_XSAVE vcpu=0 .* allowed=0x3 .* dropped=$leaked_name$" "$work/$mode/stderr"
  done
  grep -q via=supervisor "$work/supervisor/stderr"
  run ! grep -q via=supervisor "$work/library/stderr"
}

# ---- settings ----

@test "for a static VMM, xsaveshim run refuses --trim=save and --trim=both, and does not start the VMM" {
  local option
  for option in --trim=save --trim=both; do
    run --separate-stderr "$xsaveshim" run "$option" -- "$static" mark started
    [[ $status == 125 && -z $output && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
    [[ $stderr == 'xsaveshim run: a supervisor cannot trim what KVM saves: use --trim=restore'* ]] || fail "$(outcome)"
  done
}

@test "with XSAVESHIM_TRIM=save or XSAVESHIM_TRIM=both, xsaveshim run prints a warning and starts a static VMM, and the supervisor trims the payloads that the VMM restores" {
  local mode
  for mode in both save; do
    run --separate-stderr env XSAVESHIM_TRIM="$mode" "$xsaveshim" run -- "$static" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    [[ $stderr == "xsaveshim run: warning: XSAVESHIM_TRIM=$mode: a supervisor cannot trim what KVM saves"* ]] || fail "$(outcome)"
    stderr=${stderr#*$'\n'} assert_reported "$(trim_report)"
    # XSAVESHIM_TRIM is now in /etc/xsaveshim.conf, not in the environment
    run --separate-stderr unshare --mount sh -c 'mount -t tmpfs none /etc && echo "XSAVESHIM_TRIM=$0" >/etc/xsaveshim.conf &&
      exec "$@"' "$mode" "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    [[ $(grep -c "warning: XSAVESHIM_TRIM=$mode: " <<<"$stderr") == 1 ]] || fail "$(outcome)"
  done
}

@test "if xsaveshim run --supervise runs in a new PID namespace, but /proc shows the old one, the command does not start the VMM, because the supervisor could read the wrong process's memory" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  run --separate-stderr unshare --pid --fork "$xsaveshim" run --supervise -- "$static" mark started
  [[ $status == 125 && -z $output ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: /proc belongs to another PID namespace: mount a /proc of this PID namespace' ]] || fail "$(outcome)"
  run --separate-stderr unshare --pid --fork --mount-proc "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "with XSAVESHIM_REFUSED=abort, the supervisor reports a payload that KVM would refuse, and ends the VMM before KVM gets the call" {
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid "0xd=$leaky" set-xsave 0x7 set-xsave "$leaky" mark late
  ((status == 128 + 9)) || fail "$(outcome)"
  [[ $output == *$'\nset-xsave 0x7: 0 xstate_bv=0x7 rest=same'* && $output != *"set-xsave $leaky"* ]] || fail "$(outcome)"
  [[ $stderr == *"event=refused "*"reason=host-lacks:$leaked_name action=abort" && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
  supervised XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "with XSAVESHIM_TRIM=none and XSAVESHIM_REFUSED=abort, the supervisor ends the VMM if a payload has a bad XCOMP_BV, but not if KVM refuses the payload only for its untrimmed xfeatures" {
  supervised XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $stderr == *event=would-trim*event=refused* && $stderr != *action=* ]] || fail "$(outcome)"
  supervised XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky,xcomp_bv=1"
  [[ $status == $((128 + 9)) && $stderr == *event=would-trim*event=refused*action=abort* ]] || fail "$(outcome)"
}

@test "with XSAVESHIM_REFUSED=abort, the supervisor reports each payload for which it ends the VMM, even if it has already reported an equal payload" {
  # For the first refused payload, the supervisor does not end the VMM, because the VMM has not set the vCPU's CPUID table yet.
  supervised XSAVESHIM_REFUSED=abort create 0 set-xsave "$leaky" cpuid "0xd=$leaky" set-xsave "$leaky" mark late
  [[ $status == $((128 + 9)) && $output != *mark* ]] || fail "$(outcome)"
  [[ $(wc -l <<<"$stderr") == 2 && $(sed -n 2p <<<"$stderr") == *event=refused*action=abort*count=2 ]] || fail "$(outcome)"
}

@test "the supervisor writes its reports to the log that XSAVESHIM_LOG names, and omits reports whose level is below XSAVESHIM_LOG_LEVEL" {
  supervised XSAVESHIM_LOG="$work/log" "${guest[@]}" set-xsave "$leaky"
  assert_no_report
  grep -q "event=trim via=supervisor .*dropped=$leaked_name$" "$work/log"
  [[ $(stat -c %a "$work/log") == 600 && $(wc -l <"$work/log") == 1 ]]
  supervised XSAVESHIM_LOG_LEVEL=error "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  assert_no_report
  supervised XSAVESHIM_LOG_LEVEL=debug "${guest[@]}"
  grep -qE 'event=learn via=supervisor pid=[0-9]+ ioctl=KVM_SET_CPUID2 vcpu=0 fd=[0-9]+ guest_xcr0=0x7 allowed=0x7$' <<<"$stderr"
}

# ---- how the supervisor starts and ends ----

# start STEP...    starts the static test VMM, which executes each STEP, under a supervisor, and waits until the VMM is in the first
# STEP that is `pause`. Sets `pid` (the VMM's process ID), `supervisor` (the supervisor's process ID) and `in` (the descriptor to
# which `resume` writes).
start() {
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$xsaveshim" run --supervise -- "$static" mark "$work" "$@" <"$work/in" >"$work/out" 2>"$work/err" 3>&- &
  pid=$!
  wait_for $((10 * slow)) grep -q '^pause:' "$work/out"
  find_supervisor "$work"
}

resume() {
  echo >&"$in"
}

find_supervisor() { # WORD-OF-ITS-COMMAND-LINE
  local candidate
  supervisor=
  for candidate in $(pgrep -f -- "$1"); do
    # until the VMM's process executes the VMM, this process is called xsaveshim, too
    [[ $candidate == "${pid-}" || $(cat "/proc/$candidate/comm" 2>&1) != xsaveshim ]] || supervisor=$candidate
  done
  [[ $supervisor ]]
}

none_left() { # WORD-OF-THEIR-COMMAND-LINE
  ! pgrep -f -- "$1" >/dev/null
}

field() { # PID NAME    prints the field NAME of /proc/PID/status
  sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"
}

@test "a VMM under the supervisor has the same children, signals, descriptors and environment as without the supervisor" {
  local look bare
  # `blocked` blocks SIGCHLD in the process that becomes the VMM, and makes it a subreaper (prctl 36). If `xsaveshim run` started
  # a helper process, the VMM would then have a pending SIGCHLD after the helper's end, or the orphaned helper as a child.
  local blocked=(perl -MPOSIX -e
    'syscall(157, 36, 1, 0, 0, 0); sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGCHLD, SIGUSR1)); $SIG{HUP} = "IGNORE"; exec @ARGV')
  for look in 'grep -E ^(Sig[PBIC]|Shd|Umask) /proc/self/status' 'ls /proc/self/fd' 'cat /proc/thread-self/children' env; do
    # shellcheck disable=SC2086 # several words
    run -0 "${blocked[@]}" $look
    bare=$output
    # shellcheck disable=SC2086
    run -0 "${blocked[@]}" "$xsaveshim" run --supervise -- $look
    [[ $output == "$bare" ]] || fail "$look:" "$(diff <(echo "$bare") <(echo "$output"))"
    [[ $look != grep* || $bare =~ SigBlk:[[:space:]]*0*10200 ]]
  done
}

@test "the supervisor is not a child of the VMM, has its own session, and keeps none of the VMM's descriptors except standard error" {
  cd "$work"
  start "${guest[@]}" pause
  [[ $(field "$supervisor" PPid) != "$pid" && $(ps -o sid= -p "$supervisor") -ne $(ps -o sid= -p "$pid") ]]
  [[ $(ps -o tty= -p "$supervisor") == \?* && $(readlink "/proc/$supervisor/cwd") == / ]]
  [[ $(readlink "/proc/$supervisor/fd/0") == /dev/null && $(readlink "/proc/$supervisor/fd/1") == /dev/null ]]
  [[ $(readlink "/proc/$supervisor/fd/2") == "$work/err" ]]
  run ls -l "/proc/$supervisor/fd"
  # sed leaves out sockets, because the supervisor has a socket only if the host has a syslog
  [[ $(sed -n '/ socket:/d; s/.* -> //p' <<<"$output" | sort) == "/dev/null
/dev/null
$work/err
anon_inode:[eventfd]
anon_inode:[eventpoll]
anon_inode:[eventpoll]
anon_inode:[pidfd]
anon_inode:seccomp notify" ]] || fail "$output"
  resume
  wait "$pid"
}

@test "if the supervisor gets SIGINT, SIGHUP or SIGTERM, it does not end, and still trims the VMM's payload" {
  local signal
  start "${guest[@]}" pause set-xsave "$leaky"
  for signal in INT QUIT HUP TERM TSTP PIPE USR1 USR2 ALRM CHLD; do kill "-$signal" "$supervisor"; done
  resume
  wait "$pid"
  grep -qx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" "$work/out"
}

@test "the supervisor still trims payloads if the VMM's standard error is a full pipe, or a pipe without a reader" {
  local target
  mkfifo "$work/stderr" "$work/full"
  exec {reader}<>"$work/stderr"
  exec {lost}>"$work/stderr"
  exec {reader}<&-
  exec {full}<>"$work/full"
  timeout 2 dd if=/dev/zero bs=4096 status=none >&"$full" || true
  for target in "$lost" "$full"; do
    run bash -c 'exec "$@" 2>&$0' "$target" timeout $((20 * slow)) "$xsaveshim" run --supervise -- "$static" \
      "${guest[@]}" set-xsave "$leaky" create 1 cpuid 0xd=0x7 set-xsave "$leaky"
    [[ $status == 0 && $(grep -cx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" <<<"$output") == 2 ]] || fail "$output"
  done
}

@test "when QEMU becomes a daemon and closes the pipe that is its standard error, the supervisor closes this pipe, too, so that the pipe's reader gets the end of file" {
  local qemu
  command -v qemu-system-x86_64 >/dev/null || skip "QEMU is not installed"
  timeout $((60 * slow)) "$xsaveshim" run --supervise -- qemu-system-x86_64 -accel kvm -machine pc -nodefaults -display none -S \
    -name "guest=$work" -pidfile "$work/pid" -daemonize 2>&1 3>&- | cat >"$work/said"
  ((PIPESTATUS[0] == 0)) || fail "$(<"$work/said")"
  qemu=$(<"$work/pid")
  kill -0 "$qemu"
  find_supervisor "$work"
  [[ $(readlink "/proc/$supervisor/fd/2") == /dev/null ]]
  kill -KILL "$qemu"
  wait_for $((10 * slow)) none_left "$work"
}

@test "when no process that the supervisor serves has the same standard error as the supervisor any more, the supervisor closes its standard error" {
  mkfifo "$work/stderr" "$work/in"
  exec {in}<>"$work/in"
  timeout $((60 * slow)) cat "$work/stderr" >"$work/err" 3>&- &
  reader=$!
  # bash has the supervisor's standard error open until bash executes the second VMM; neither VMM has it open
  "$xsaveshim" run --supervise -- bash -c '"$@" 2>/dev/null; exec "$@" 2>/dev/null' bash "$static" mark "$work" \
    "${guest[@]}" pause set-xsave "$leaky" <"$work/in" >"$work/out" 2>"$work/stderr" 3>&- &
  pid=$!
  wait_for $((10 * slow)) grep -q '^pause:' "$work/out"
  find_supervisor "$work"
  resume
  wait_for $((10 * slow)) grep -q 'event=trim' "$work/err"
  wait "$reader"
  [[ $(readlink "/proc/$supervisor/fd/2") == /dev/null && $(grep -c '^pause:' "$work/out") == 2 ]]
  resume
  wait "$pid"
}

@test "the supervisor trims the payload of a VMM that was started without standard input, output and error" {
  local log=$work/log
  "$xsaveshim" run --supervise --log="$log" -- "$static" "${guest[@]}" set-xsave "$leaky" <&- >&- 2>&- || true
  grep -q "event=trim .*dropped=$leaked_name$" "$log"
}

@test "when the last process that the supervisor serves ends, the supervisor ends, too, and thus closes standard error" {
  start "${guest[@]}" fork pause
  kill -KILL "$pid"
  wait "$pid" || true
  kill -0 "$supervisor"
  resume
  wait_for $((10 * slow)) none_left "$work"
  # cat ends only after the supervisor has closed the pipe
  timeout $((10 * slow)) "$xsaveshim" run --supervise -- "$static" mark "$work" 2>&1 | cat >"$work/piped"
  grep -q '^mark' "$work/piped"
}

@test "with XSAVESHIM_REFUSED=report, after kill -9 of the supervisor, KVM_SET_XSAVE fails with ENOSYS, while KVM_GET_XSAVE and KVM_RUN still work" {
  start "${guest[@]}" get-xsave pause set-xsave "$leaky" set-xsave 0x7 get-xsave run
  kill -KILL "$supervisor"
  wait_for $((10 * slow)) none_left "xsaveshim run --supervise -- $static mark $work"
  resume
  wait "$pid"
  grep -qx "set-xsave $leaky: ENOSYS xstate_bv=$leaky rest=same" "$work/out"
  grep -qx "set-xsave 0x7: ENOSYS xstate_bv=0x7 rest=same" "$work/out"
  [[ $(grep -c '^get-xsave: 0 ' "$work/out") == 2 && $(grep ^get-xsave "$work/out" | sort -u | wc -l) == 1 ]]
  grep -qx 'run: 0 exit=hlt' "$work/out"
  [[ $(grep -c "event=supervisor-died via=supervisor pid=$pid supervisor=$supervisor$" "$work/err") == 1 ]] || fail "$(<"$work/err")"
}

@test "with XSAVESHIM_REFUSED=abort, after kill -9 of the supervisor, the VMM runs on until it calls KVM_SET_XSAVE; xsaveshim's guardian process then ends the VMM" {
  local died
  export XSAVESHIM_REFUSED=abort
  start "${guest[@]}" pause get-xsave run create 1 pause vcpu 0 set-xsave 0x7 mark late
  died="level=error event=supervisor-died via=supervisor pid=$pid"
  kill -KILL "$supervisor"
  wait_for $((10 * slow)) grep -qx "xsaveshim: $died supervisor=$supervisor" "$work/err"
  resume
  wait_for $((10 * slow)) eval '(($(grep -c "^pause:" "$work/out") == 2))'
  grep -q '^get-xsave: 0 ' "$work/out"
  grep -qx 'run: 0 exit=hlt' "$work/out"
  grep -qx 'create 1: ENOSYS' "$work/out" # a VMM gives up after a failed KVM_CREATE_VCPU
  resume
  wait "$pid" || status=$?
  ((status == 128 + 9)) || fail "$status" "$(<"$work/out")"
  run -1 grep 'mark late' "$work/out"
  wait_for $((10 * slow)) grep -qx "xsaveshim: $died supervisor=$supervisor ioctl=KVM_SET_XSAVE action=abort" "$work/err"
  wait_for $((10 * slow)) none_left "$work"
}

@test "with XSAVESHIM_REFUSED=abort, if the supervisor dies, xsaveshim ends a VMM that waits in KVM_SET_XSAVE; if a process has no vCPU, its KVM_SET_XSAVE fails with ENOSYS" {
  export XSAVESHIM_REFUSED=abort
  start_stopped_call
  kill -KILL "$supervisor"
  wait "$pid" || status=$?
  ((status == 128 + 9)) || fail "$status" "$(<"$work/out")"
  rm "$work/in"
  start pause file /dev/null set-xsave 0x7
  kill -KILL "$supervisor"
  resume
  wait "$pid"
  grep -qx 'set-xsave 0x7: ENOSYS xstate_bv=0x7 rest=same' "$work/out"
}

@test "with XSAVESHIM_REFUSED=report, if kill -9 ends the supervisor while a KVM_SET_XSAVE waits for the supervisor, the call fails with ENOSYS" {
  start_stopped_call
  kill -KILL "$supervisor"
  wait "$pid"
  grep -qx "set-xsave 0x7: ENOSYS xstate_bv=0x7 rest=same" "$work/out"
}

@test "if a VMM is killed while its KVM_SET_XSAVE waits for the supervisor, the supervisor does not hang, but ends, too" {
  start_stopped_call
  kill -KILL "$pid"
  wait "$pid" || true
  kill -CONT "$supervisor"
  wait_for $((10 * slow)) none_left "$work"
}

# Starts a VMM and suspends its supervisor, so that the VMM's KVM_SET_XSAVE waits.
start_stopped_call() {
  start "${guest[@]}" pause set-xsave 0x7
  kill -STOP "$supervisor"
  wait_for $((10 * slow)) is_stopped "$supervisor"
  resume
  wait_for $((10 * slow)) waits_in seccomp 16 "$pid" # ioctl()
}

@test "after a thousand supervised VMMs have started and ended, no process is left, not even a zombie" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  # unshare makes a PID namespace whose /proc shows only this test's processes. At the end, only the inner bash may be left.
  run --separate-stderr timeout 300 unshare --pid --fork --kill-child --mount-proc bash -c '
    for ((i = 0; i < $2; i++)); do "$0" run --supervise -- "$1" mark a; done | grep -c "^mark a"
    SECONDS=0
    until processes=(/proc/[0-9]*); ((${#processes[@]} == 1)); do ((SECONDS < $3)) || exec ps -ef; sleep 0.02; done' \
    "$xsaveshim" "$static" $((1000 / slow)) $((10 * slow))
  [[ $status == 0 && $output == $((1000 / slow)) ]] || fail "$(outcome)"
}

@test "after one supervisor has served a thousand VMMs in turn, it has no descriptor left from them" {
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$xsaveshim" run --supervise -- bash -c \
    'for ((i = 0; i < $2; i++)); do "$0" create 0 cpuid 0xd=0x3; done; echo done; read' \
    "$static" "$work" $((1000 / slow)) <"$work/in" >"$work/out" 3>&- &
  wait_for 300 grep -qx 'done' "$work/out"
  find_supervisor "$work"
  [[ $(grep -c '^cpuid .*: 0$' "$work/out") == $((1000 / slow)) ]]
  run find "/proc/$supervisor/fd" -lname '*pidfd*'
  [[ -z $output && $(find "/proc/$supervisor/fd" -type l | wc -l) -le 8 ]]
  resume
  wait_for $((10 * slow)) none_left "$work"
}

# ---- users ----

# Makes a KVM device that everybody may open, and copies of programs that everybody may run.
make_public() {
  [[ $EUID == 0 ]] || skip "only root can make a device"
  public=$(mktemp -d /tmp/xsaveshim-supervise.XXXXXX)
  chmod 755 "$public"
  # shellcheck disable=SC2046 # two numbers
  mknod -m 666 "$public/kvm" c $((0x$(stat -c %t /dev/kvm))) $((0x$(stat -c %T /dev/kvm)))
  cp "$xsaveshim" "$shim" "$static" "$public/"
  nobody=(setpriv --reuid nobody --regid nogroup --clear-groups)
  show_privileges=(sh -c 'grep ^NoNewPrivs /proc/self/status; exec "$@"' sh)
}

@test "the supervisor trims the payload of a VMM that runs as an unprivileged user; the VMM has no_new_privs if that user called xsaveshim run, but not if root called it" {
  make_public
  local outside inside expected
  for expected in 0 1; do
    outside=() inside=("${nobody[@]}")
    ((expected == 0)) || outside=("${nobody[@]}") inside=()
    run --separate-stderr env DEVICE="$public/kvm" "${outside[@]}" "$public/xsaveshim" run --supervise -- \
      "${show_privileges[@]}" "${inside[@]}" "$public/vmm-static" "${guest[@]}" set-xsave "$leaky"
    assert_printed $'NoNewPrivs:\t'"$expected" "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    assert_reported "$(trim_report)"
  done
}

@test "if the supervisor may not read a VMM's memory, it passes KVM_SET_CPUID2 and KVM_SET_XSAVE to KVM unchanged, and reports both calls" {
  make_public
  chmod 711 "$public/vmm-static" # the supervisor may read a VMM's memory only if it may read the VMM's program file
  run --separate-stderr env DEVICE="$public/kvm" "${nobody[@]}" "$public/xsaveshim" run --supervise -- \
    sh -c 'exec "$@"' sh "$public/vmm-static" "${guest[@]}" set-xsave "$leaky"
  assert_printed "cpuid 0xd=0x7: 0" "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(grep -cE 'level=error event=not-trimmed via=supervisor pid=[0-9]+ ioctl=KVM_SET_(CPUID2|XSAVE) .* reason=memory-not-readable error=' <<<"$stderr") == 2 ]] ||
    fail "$(outcome)"
}
