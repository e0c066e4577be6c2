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

# Sets two variables. `guest` has the steps that make a vCPU with FP, SSE and AVX. `leaky` is an XSTATE_BV with an xfeature that
# this host's KVM lacks.
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

# supervised [VARIABLE=VALUE]... STEP...    runs the static VMM under a supervisor, by bats' `run`
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

@test "KVM refuses the leaky payloads of a static VMM's two threads, and the supervisor trims each to its vCPU's XCR0, so that KVM accepts it" {
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

@test "at any alignment, the supervisor passes a clean payload without a report, and changes only XSTATE_BV of a leaky payload" {
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

@test "the supervisor keeps an xfeature that the guest's CPUID enumerates and KVM lacks, and reports KVM's refusal in advance" {
  printf -v shown '%#x' $((leaked | 7))
  supervised create 0 cpuid "0xd=$shown" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  assert_reported "level=error event=refused via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=$leaky `
    `foreseen=yes reason=host-lacks:$leaked_name"
}

@test "the supervisor reports a payload that no kernel accepts before KVM refuses the payload" {
  supervised create 5 cpuid 0xd=0x7 set-xsave 0x3,reserved=3,xcomp_bv=9,mxcsr=0xffffffff
  assert_printed 'set-xsave 0x3,reserved=3,xcomp_bv=9,mxcsr=0xffffffff: EINVAL xstate_bv=0x3 rest=same'
  [[ $(wc -l <<<"$stderr") == 1 ]]
  [[ $stderr =~ event=refused\ .*vcpu=5\ .*\ foreseen=yes\ reason=xcomp-bv:0x9\;reserved-bytes\;mxcsr:0x[0-9a-f]+$ ]] ||
    fail "$(outcome)"
  supervised create 0 set-xsave "$leaky" # the supervisor allows every xfeature for a vCPU without a CPUID table
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(wc -l <<<"$stderr") == 1 && $stderr == *event=refused*"vcpu=0 "* ]]
}

@test "the supervisor learns the guest's XCR0 from KVM_SET_CPUID, too, and reads the same entry of leaf 0xD as KVM" {
  supervised create 0 cpuid-v1 0x1,0xd=0x7,0xd=0x3 set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  supervised create 0 cpuid 0xd.1=0x7,0xd.0=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "with XSAVESHIM_TRIM=none the supervisor changes no payload, and reports the xfeatures that it would drop" {
  supervised XSAVESHIM_TRIM=none "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(sed -n 1p <<<"$stderr") == *event=would-trim*" after=$leaky dropped=$leaked_name" ]] || fail "$(outcome)"
  [[ $(sed -n 2p <<<"$stderr") == *event=refused*" reason=host-lacks:$leaked_name"* ]]
  [[ $(wc -l <<<"$stderr") == 2 ]]
}

# ---- XCR0 (KVM_SET_XCRS) ----

@test "if the VMM sets an XCR0 before the payload, the supervisor keeps the XCR0's xfeatures, even those that the guest's CPUID lacks" {
  supervised create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave "$leaky"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
  assert_reported "$(trim_report)"
}

@test "if the VMM sets an XCR0 with a dropped xfeature, the supervisor reports lost state, and XSAVESHIM_REFUSED=abort ends the VMM" {
  local lost="level=error event=lost via=supervisor ioctl=KVM_SET_XCRS vcpu=0 fd=* xcr0=0x7 foreseen=yes lost=avx"
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x3 set-xcrs 0x7 set-xsave 0x7
  [[ $output == *$'\nset-xsave 0x7: 0 xstate_bv=0x3 rest=same' ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3 0x7)" "$lost"
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x3 set-xcrs 0x7 mark late
  ((status == 128 + 9)) || fail "$(outcome)"
  [[ $output == *$'\nset-xcrs 0x3: '* && $output != *mark* ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3 0x7)" "$lost action=abort"
}

@test "the supervisor does not report lost state for an XCR0 that has no dropped xfeature, or that cannot be read" {
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x7 set-xsave "$leaky" set-xcrs 0x7 set-xcrs-at 0x1000
  assert_printed 'set-xcrs-at 0x1000: EFAULT'
  assert_reported "$(trim_report)"
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x3 0x7)"
  supervised XSAVESHIM_TRIM=none create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  [[ $stderr != *event=lost* ]] || fail "$(outcome)"
}

# ---- how often an event is reported ----

@test "the supervisor reports a vCPU's trim the 1st, 10th, 100th and 1,000th time, and reports another event or a new xfeature at once" {
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

@test "if a new vCPU gets a closed vCPU's descriptor number, the supervisor reports the new vCPU's first trim" {
  supervised "${guest[@]}" set-xsave "$leaky" set-xsave "$leaky" vm close create 0 cpuid 0xd=0x7 set-xsave "$leaky"
  [[ $(sed -n 's/^create 0: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "not the same number" "$(outcome)"
  assert_reported "$(trim_report)" "$(trim_report)"
}

# ---- CPUID tables that KVM may have refused ----

@test "the supervisor ignores a CPUID table that KVM cannot accept, because the table is too long or cannot be read" {
  supervised create 0 cpuid-too-many 0xd=0x3 cpuid-null set-xsave 0x7
  assert_printed 'cpuid-too-many 0xd=0x3: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_no_report
}

@test "if a VMM sets a second CPUID table, which KVM may refuse, the supervisor also keeps the first table's xfeatures, and reports that" {
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

@test "if the VMM sets a CPUID table with more xfeatures, the supervisor trims later payloads by that table" {
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 cpuid 0xd=0x7 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same
set-xsave 0x7: 0 xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
}

# ---- which vCPU a descriptor refers to ----

@test "if a new vCPU gets a closed vCPU's descriptor number, the supervisor ignores the closed vCPU's CPUID table" {
  # The second VM is created before the first vCPU is closed, so that the new vCPU gets the first vCPU's number.
  supervised create 0 cpuid 0xd=0x3 vm close create 0 set-xsave 0x7
  [[ $(sed -n 's/^create 0: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "not the same number" "$(outcome)"
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_no_report
  supervised create 0 cpuid 0xd=0x7 vm close create 0 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "the supervisor distinguishes two vCPUs that have the same id in two VMs" {
  supervised create 0 cpuid 0xd=0x3 dup-to 20 vm create 0 cpuid 0xd=0x7 set-xsave 0x7 fd 20 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same
set-xsave 0x7: 0 xstate_bv=0x3 rest=same' ]] || fail "$(outcome)"
}

@test "the supervisor trims a payload through a duplicated descriptor by the CPUID table of the duplicated vCPU" {
  supervised "${guest[@]}" dup set-xsave "$leaky" dup-to 900 set-xsave "$leaky"
  ((status == 0))
  [[ $(grep -cx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$(trim_report)"
}

@test "if dup2 puts a vCPU on the descriptor number of another vCPU, the supervisor trims by the CPUID table of the duplicated vCPU" {
  local second
  supervised create 0 create 1
  second=$(sed -n 's/^create 1: //p' <<<"$output")
  supervised create 0 cpuid 0xd=0x3 create 1 cpuid 0xd=0x7 vcpu 0 dup-to "$second" set-xsave 0x7
  assert_printed "create 1: $second" "dup-to $second: $second"
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "if dup2 puts a vCPU on the descriptor of another VM's vCPU with the same id, the supervisor allows the xfeatures of both vCPUs" {
  local first second
  supervised create 0 vm create 0
  { read -r first; read -r second; } < <(sed -n 's/^create 0: //p' <<<"$output")
  supervised create 0 cpuid 0xd=0x7 vm create 0 cpuid 0xd=0x3 fd "$first" dup-to "$second" set-xsave "$leaky"
  assert_printed "dup-to $second: $second"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
}

@test "if a descriptor is not a vCPU, the supervisor does not write to the VMM's buffer" {
  local file
  touch "$work/file"
  for file in /dev/kvm /dev/null "$work/file"; do
    supervised "${guest[@]}" close file "$file" set-xsave "$leaky"
    [[ $(sed -n 's/^create 0: //p' <<<"$output") == "$(sed -n 's/^file .*: //p' <<<"$output")" ]] || fail "$(outcome)"
    [[ $output == *"set-xsave $leaky: "E*" xstate_bv=$leaky rest=same" ]] || fail "$(outcome)"
    assert_no_report
  done
}

@test "a forked child that uses its parent's vCPU gets EIO from KVM, and the child's own vCPU is trimmed by its own CPUID table" {
  supervised create 0 cpuid 0xd=0x3 fork set-xsave 0x7 vm create 0 cpuid 0xd=0x7 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: EIO xstate_bv=0x7 rest=same
set-xsave 0x7: 0 xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
}

@test "the supervisor also trims a payload that is loaded after exec, in a forked child, on another thread or in a signal handler" {
  local how
  for how in fork thread signal exec; do
    supervised file /dev/null "$how" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    assert_reported "$(trim_report)"
  done
}

@test "the supervisor keeps apart the vCPUs of several VMMs in one process tree, whether the VMMs run in turn or at the same time" {
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

@test "if eight threads load payloads at once, with and without signals, the supervisor trims each payload to its vCPU's XCR0" {
  local mode rounds=$((1000 / slow))
  for mode in '' interrupted; do
    # shellcheck disable=SC2086 # no word or one
    run timeout $((60 * slow)) \
      "$xsaveshim" run --supervise --log=none -- "$build/test/restorers" 8 "$rounds" "$leaked" $mode
    ((status == 0))
    [[ $(sort <<<"$output") == "$(printf "%d: $rounds\n" {0..7})" ]] || fail "$output"
  done
}

@test "a signal to the VMM does not interrupt a KVM_SET_XSAVE that the supervisor is handling" {
  start_hanging vcpu "$leaky"
  kill -USR1 "$pid"
  resume
  wait "$pid"
  [[ $(sed -n 2p "$work/out") == '0 xstate_bv=0x7' ]] || fail "$(<"$work/out")"
}

# ---- which process makes a call ----

@test "if a process shares the VMM's descriptors but not its memory, KVM answers EIO, and the supervisor does not trim, report or end anything" {
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

@test "the supervisor trims a payload that a child loads if the child shares the VMM's memory, as after vfork" {
  supervised "${guest[@]}" vfork set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
}

@test "in a report, pid= is the pid of the process that made the call, as the supervisor's PID namespace numbers it" {
  local pids
  run --separate-stderr "$xsaveshim" run --supervise -- sh -c '"$@"; "$@"; true' sh "$static" pid "${guest[@]}" set-xsave "$leaky"
  pids=$(sed -n 's/^pid: //p' <<<"$output")
  [[ $(wc -l <<<"$pids") == 2 && $(sed -n 's/.* pid=\([0-9]*\) .*/\1/p' <<<"$stderr") == "$pids" ]] || fail "$(outcome)"
  [[ $EUID == 0 ]] || return 0
  run --separate-stderr "$xsaveshim" run --supervise -- unshare --pid --fork "$static" pid "${guest[@]}" set-xsave "$leaky"
  assert_printed 'pid: 1'
  [[ $stderr =~ \ pid=([0-9]+)\  && ${BASH_REMATCH[1]} != 1 ]] || fail "$(outcome)"
}

# start_hanging WHERE XSTATE_BV    starts a supervised VMM. Every read of the VMM's payload hangs until `resume`. Sets the variables
# `pid` and `in`, like `start`.
start_hanging() {
  [[ $EUID == 0 ]] || skip "only root can make a system call wait for a userfaultfd"
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$xsaveshim" run --supervise -- bash -c 'exec "$0" "$@"' "$build/test/hang" "$@" <"$work/in" >"$work/out" 2>"$work/err" 3>&- &
  pid=$!
  wait_for $((10 * slow)) grep -q '^calls ' "$work/out"
  wait_for $((10 * slow)) waits_in seccomp 16 "$pid" # ioctl()
}

@test "if reading one VMM's payload hangs, the supervisor still serves the other VMMs" {
  local i
  mkfifo "$work/never"
  exec {in}<>"$work/never"
  run --separate-stderr timeout $((20 * slow)) "$xsaveshim" run --supervise -- bash -c '
    set -m # each VMM has a process group of its own, with the process that provides the payload
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

@test "if a descriptor is not a vCPU, the supervisor does not read the payload, so a payload that hangs its readers delays nobody" {
  mkfifo "$work/never"
  exec {in}<>"$work/never"
  run --separate-stderr timeout $((20 * slow)) "$xsaveshim" run --supervise -- "$build/test/hang" nothing "$leaky" <&"$in"
  [[ $status == 0 && ${lines[1]} == ENOTTY ]] || fail "$(outcome)"
  assert_no_report
}

@test "if a VMM dies during its call and another process gets its pid, XSAVESHIM_REFUSED=abort does not end the other process" {
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

@test "if a payload's address is bad, the supervisor leaves the call to KVM, which answers EFAULT" {
  local address
  for address in 0 0x1000 0x7ffffffff000 0x800000000000 0xffff888000000000 0xffffffffffffffff; do
    supervised "${guest[@]}" set-xsave-at "$address" set-xsave 0x7
    assert_printed "set-xsave-at $address: EFAULT" 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    assert_no_report
  done
}

@test "the supervisor trims a payload in read-only memory, and a payload in a private file mapping without a change to the file" {
  supervised "${guest[@]}" set-xsave "$leaky,readonly"
  assert_printed "set-xsave $leaky,readonly: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
  run_mapped private
  [[ $output == '0 xstate_bv=0x3' ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3)"
}

@test "the supervisor does not change a payload in a file that is mapped shared and read-only, and reports that" {
  run_mapped shared
  [[ $output == "EINVAL xstate_bv=$leaky" ]] || fail "$(outcome)"
  [[ $stderr =~ level=error\ event=not-trimmed\ via=supervisor\ .*\ xstate_bv=$leaky\ allowed=0x3\ reason=memory-not-writable\ error= ]] ||
    fail "$(outcome)"
  [[ $stderr == *event=refused*"reason=host-lacks:$leaked_name"* ]] || fail "$(outcome)"
  run_mapped shared XSAVESHIM_REFUSED=abort
  [[ $status == $((128 + 9)) && $stderr == *event=not-trimmed*event=refused*action=abort* ]] || fail "$(outcome)"
}

# Runs a VMM whose payload is in a private or shared mapping of a file, and checks that the file does not change.
run_mapped() { # HOW [VARIABLE=VALUE]
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

@test "the supervisor trims the payload of a VMM whose seccomp filter allows only the system calls ioctl and write" {
  local program
  for program in "$static" "$musl"; do
    static=$program
    supervised "${guest[@]}" confine set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  done
}

@test "a supervised process cannot start a second supervisor, and a message says why" {
  run --separate-stderr "$xsaveshim" run --supervise -- "$xsaveshim" run --supervise -- "$static" mark a
  [[ $status == 125 && -z $output && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: this process already has a supervisor, '*': start the VMM outside it' ]]
}

# ---- QEMU ----

@test "under the supervisor and with the library, real QEMU restores a leaky snapshot, and the guest is intact" {
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

@test "xsaveshim run refuses --trim=save and --trim=both for a static VMM before the VMM starts" {
  local option
  for option in --trim=save --trim=both; do
    run --separate-stderr "$xsaveshim" run "$option" -- "$static" mark started
    [[ $status == 125 && -z $output && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
    [[ $stderr == 'xsaveshim run: a supervisor cannot trim what KVM saves: use --trim=restore'* ]] || fail "$(outcome)"
  done
}

@test "with XSAVESHIM_TRIM=save or both, xsaveshim run warns and starts a static VMM, and the supervisor trims the VMM's restores" {
  local mode
  for mode in both save; do
    run --separate-stderr env XSAVESHIM_TRIM="$mode" "$xsaveshim" run -- "$static" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    [[ $stderr == "xsaveshim run: warning: XSAVESHIM_TRIM=$mode: a supervisor cannot trim what KVM saves"* ]] || fail "$(outcome)"
    stderr=${stderr#*$'\n'} assert_reported "$(trim_report)"
    # the same with the setting in /etc/xsaveshim.conf
    run --separate-stderr unshare --mount sh -c 'mount -t tmpfs none /etc && echo "XSAVESHIM_TRIM=$0" >/etc/xsaveshim.conf &&
      exec "$@"' "$mode" "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    [[ $(grep -c "warning: XSAVESHIM_TRIM=$mode: " <<<"$stderr") == 1 ]] || fail "$(outcome)"
  done
}

@test "if /proc shows another PID namespace, the VMM is not started, because the supervisor could read another process's memory" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  run --separate-stderr unshare --pid --fork "$xsaveshim" run --supervise -- "$static" mark started
  [[ $status == 125 && -z $output ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: /proc is not that of this PID namespace: mount it' ]] || fail "$(outcome)"
  run --separate-stderr unshare --pid --fork --mount-proc "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "if KVM would refuse a payload, XSAVESHIM_REFUSED=abort reports that and ends the VMM before KVM gets the call" {
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid "0xd=$leaky" set-xsave 0x7 set-xsave "$leaky" mark late
  ((status == 128 + 9)) || fail "$(outcome)"
  [[ $output == *$'\nset-xsave 0x7: 0 xstate_bv=0x7 rest=same'* && $output != *"set-xsave $leaky"* ]] || fail "$(outcome)"
  [[ $stderr == *"event=refused "*"reason=host-lacks:$leaked_name action=abort" && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
  supervised XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "with XSAVESHIM_TRIM=none, XSAVESHIM_REFUSED=abort ends a supervised VMM only for a reason other than untrimmed xfeatures" {
  supervised XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $stderr == *event=would-trim*event=refused* && $stderr != *action=* ]] || fail "$(outcome)"
  supervised XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky,xcomp_bv=1"
  [[ $status == $((128 + 9)) && $stderr == *event=would-trim*event=refused*action=abort* ]] || fail "$(outcome)"
}

@test "XSAVESHIM_REFUSED=abort also ends the VMM if the same refusal was reported before, and reports it again" {
  # The first refusal does not end the VMM, because the vCPU has no CPUID table yet.
  supervised XSAVESHIM_REFUSED=abort create 0 set-xsave "$leaky" cpuid "0xd=$leaky" set-xsave "$leaky" mark late
  [[ $status == $((128 + 9)) && $output != *mark* ]] || fail "$(outcome)"
  [[ $(wc -l <<<"$stderr") == 2 && $(sed -n 2p <<<"$stderr") == *event=refused*action=abort*count=2 ]] || fail "$(outcome)"
}

@test "the supervisor writes to the log that XSAVESHIM_LOG names, and only reports of the level that XSAVESHIM_LOG_LEVEL names" {
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

# start STEP...    starts a supervised VMM and waits for its first step `pause`. Sets `pid` (of the VMM), `supervisor` (its pid) and
# `in` (the descriptor to which `resume` writes).
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
    # before its exec, the VMM's process is also called xsaveshim
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

@test "a supervised VMM has no additional child, pending signal or descriptor" {
  local look bare
  # If a helper process ended, its SIGCHLD would stay pending, because the VMM blocks SIGCHLD. An orphaned helper would become the
  # VMM's child, because the VMM is a subreaper (prctl 36).
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
  # if the host has a syslog, the supervisor also has a socket
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

@test "SIGINT, SIGHUP, SIGTERM and other signals to the supervisor do not end it" {
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

@test "when QEMU becomes a daemon, the supervisor closes standard error, so that a reader of it does not wait until the VM ends" {
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

@test "the supervisor keeps standard error open as long as a process that it serves has standard error open" {
  mkfifo "$work/stderr" "$work/in"
  exec {in}<>"$work/in"
  timeout $((60 * slow)) cat "$work/stderr" >"$work/err" 3>&- &
  reader=$!
  # while the first VMM runs, the shell has standard error open
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

@test "the supervisor ends when the last process that it serves ends, and thus closes standard error" {
  start "${guest[@]}" fork pause
  kill -KILL "$pid"
  wait "$pid" || true
  kill -0 "$supervisor"
  resume
  wait_for $((10 * slow)) none_left "$work"
  # the reader of the pipe sees the end of file
  timeout $((10 * slow)) "$xsaveshim" run --supervise -- "$static" mark "$work" 2>&1 | cat >"$work/piped"
  grep -q '^mark' "$work/piped"
}

@test "with XSAVESHIM_REFUSED=report, kill -9 of the supervisor makes KVM_SET_XSAVE fail with ENOSYS, and the VMM's other calls work" {
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

@test "after kill -9 of the supervisor, XSAVESHIM_REFUSED=abort lets the VMM run on, and ends it at its next KVM_SET_XSAVE" {
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

@test "if the supervisor dies during a VMM's call, XSAVESHIM_REFUSED=abort ends the VMM, but does not end a process without a vCPU" {
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

@test "with XSAVESHIM_REFUSED=report, kill -9 of the supervisor makes a waiting KVM_SET_XSAVE fail with ENOSYS, and the VMM does not hang" {
  start_stopped_call
  kill -KILL "$supervisor"
  wait "$pid"
  grep -qx "set-xsave 0x7: ENOSYS xstate_bv=0x7 rest=same" "$work/out"
}

@test "if a VMM is killed while its call waits for the supervisor, the supervisor does not hang and ends, too" {
  start_stopped_call
  kill -KILL "$pid"
  wait "$pid" || true
  kill -CONT "$supervisor"
  wait_for $((10 * slow)) none_left "$work"
}

# Starts a VMM and stops its supervisor, so that the VMM's KVM_SET_XSAVE waits.
start_stopped_call() {
  start "${guest[@]}" pause set-xsave 0x7
  kill -STOP "$supervisor"
  wait_for $((10 * slow)) is_stopped "$supervisor"
  resume
  wait_for $((10 * slow)) waits_in seccomp 16 "$pid" # ioctl()
}

@test "after a thousand supervised VMMs have started and ended, no process is left, not even a zombie" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  # This PID namespace has its own /proc, which shows no other process.
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

# Makes a KVM device that everybody may open, and copies of the programs that everybody may execute.
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

@test "under the supervisor, root's VMM runs without no_new_privs so that a jailer can change users, and a plain user's VMM runs with it" {
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

@test "if the supervisor may not read a VMM's memory, it passes the VMM's calls to KVM untrimmed and reports each of them" {
  make_public
  chmod 711 "$public/vmm-static" # the supervisor may not read the memory of a program whose file it may not read
  run --separate-stderr env DEVICE="$public/kvm" "${nobody[@]}" "$public/xsaveshim" run --supervise -- \
    sh -c 'exec "$@"' sh "$public/vmm-static" "${guest[@]}" set-xsave "$leaky"
  assert_printed "cpuid 0xd=0x7: 0" "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(grep -cE 'level=error event=not-trimmed via=supervisor pid=[0-9]+ ioctl=KVM_SET_(CPUID2|XSAVE) .* reason=memory-not-readable error=' <<<"$stderr") == 2 ]] ||
    fail "$(outcome)"
}
