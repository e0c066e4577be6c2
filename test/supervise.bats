# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# `xsaveshim run --supervise` on real KVM: what the supervisor does for VMMs that no preload reaches, and how it
# comes and goes.

load lib

xsaveshim=$build/xsaveshim
static=$build/test/vmm-static
musl=$build/test/vmm-musl
work=$BATS_TEST_TMPDIR
slow=${XSTEST_SLOW:-1}

# What most tests start from: a guest with FP, SSE and AVX, and a payload with a bit that this host's KVM lacks.
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

# supervised [VARIABLE=VALUE]... STEP...    sets what `run` does
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

names() { # XFEATURES    of AVX and the leaked one
  local list=()
  ((($1 & 4) == 0)) || list+=(avx)
  ((($1 & leaked) == 0)) || list+=("$leaked_name")
  local IFS=,
  echo "${list[*]}"
}

# ---- the rule ----

@test "a static VMM on two threads with vCPUs of unlike XCR0: refused bare, trimmed each to its own supervised" {
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

@test "sign-extended request numbers are taken for what they are" {
  bare wide "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  supervised wide "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  supervised wide create 0 cpuid-v1 0xd=0x7 set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "a clean payload passes without a report, at any alignment" {
  supervised "${guest[@]}" set-xsave 0x7 set-xsave 0x7,shift=3
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x7,shift=3: 0 xstate_bv=0x7 rest=same'
  assert_no_report
}

@test "a payload is trimmed at any alignment, and nothing but its XSTATE_BV changes" {
  local shift steps=()
  for shift in 1 2 3 4 7 508 3577 3581 3583; do steps+=(set-xsave "$leaky,shift=$shift"); done
  supervised "${guest[@]}" "${steps[@]}"
  ((status == 0))
  [[ $(grep -c '^set-xsave .*: 0 xstate_bv=0x7 rest=same$' <<<"$output") == 9 ]] || fail "$(outcome)"
}

@test "FP and SSE are kept whatever the guest's CPUID says" {
  local list
  for list in none 0x1 0xd=0x0 0xd=0x4; do
    supervised create 0 cpuid "$list" set-xsave 0x3
    ((status == 0))
    [[ $output == *"set-xsave 0x3: "*" xstate_bv=0x3 rest=same" ]] || fail "$(outcome)"
    assert_no_report
  done
}

@test "a component that the guest's CPUID enumerates is never dropped; that KVM will refuse it is told, and why" {
  printf -v shown '%#x' $((leaked | 7))
  supervised create 0 cpuid "0xd=$shown" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  assert_reported "level=error event=will-be-refused via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=$leaky `
    `reason=host-lacks:$leaked_name"
}

@test "what no kernel takes is told before it is refused" {
  supervised create 5 cpuid 0xd=0x7 set-xsave 0x3,reserved=3,xcomp_bv=9,mxcsr=0xffffffff
  assert_printed 'set-xsave 0x3,reserved=3,xcomp_bv=9,mxcsr=0xffffffff: EINVAL xstate_bv=0x3 rest=same'
  [[ $(wc -l <<<"$stderr") == 1 ]]
  [[ $stderr =~ event=will-be-refused\ .*vcpu=5\ .*\ reason=xcomp-bv:0x9\;reserved-bytes\;mxcsr:0x[0-9a-f]+$ ]] ||
    fail "$(outcome)"
}

@test "a vCPU without a CPUID is left alone" {
  supervised create 0 set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(wc -l <<<"$stderr") == 1 && $stderr == *event=will-be-refused*"vcpu=0 "* ]]
}

@test "KVM_SET_CPUID is learned from, too, and the first leaf that KVM goes by counts" {
  supervised create 0 cpuid-v1 0x1,0xd=0x7,0xd=0x3 set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  supervised create 0 cpuid 0xd.1=0x7,0xd.0=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "XSAVESHIM_TRIM=none changes nothing and tells what would have been dropped" {
  supervised XSAVESHIM_TRIM=none "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(sed -n 1p <<<"$stderr") == *event=would-trim*" after=$leaky dropped=$leaked_name" ]] || fail "$(outcome)"
  [[ $(sed -n 2p <<<"$stderr") == *event=will-be-refused*" reason=host-lacks:$leaked_name"* ]]
  [[ $(wc -l <<<"$stderr") == 2 ]]
}

# ---- KVM_SET_XCRS: what the guest had enabled ----

@test "an XCR0 that is set before the payload is the guest's own: its state is kept, though the CPUID lacks it" {
  supervised create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave "$leaky"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
  assert_reported "$(trim_report)"
}

@test "an XCR0 that has what was dropped before tells that the guest will be lost, and abort ends the VMM" {
  local lost="level=error event=will-be-lost via=supervisor ioctl=KVM_SET_XCRS vcpu=0 fd=* xcr0=0x7 lost=avx"
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x3 set-xcrs 0x7 set-xsave 0x7
  [[ $output == *$'\nset-xsave 0x7: 0 xstate_bv=0x3 rest=same' ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3 0x7)" "$lost"
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x3 set-xcrs 0x7 mark late
  ((status == 128 + 9)) || fail "$(outcome)"
  [[ $output == *$'\nset-xcrs 0x3: '* && $output != *mark* ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3 0x7)" "$lost"
}

@test "an XCR0 that has nothing of what was dropped is no loss, nor one that cannot be read" {
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x7 set-xsave "$leaky" set-xcrs 0x7 set-xcrs-at 0x1000
  assert_printed 'set-xcrs-at 0x1000: EFAULT'
  assert_reported "$(trim_report)"
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x3 0x7)"
  supervised XSAVESHIM_TRIM=none create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  [[ $stderr != *will-be-lost* ]] || fail "$(outcome)"
}

# ---- limit ----

@test "an event of a vCPU is told once, and then at its 10th, 100th, 1,000th time; another event, or another bit, at once" {
  local steps=() i
  printf -v other '%#x' $((leaky | 1 << 62))
  for ((i = 0; i < 1000; i++)); do steps+=(set-xsave "$leaky"); done
  supervised create 0 cpuid 0xd=0x7 "${steps[@]}" set-xsave 0x7,xcomp_bv=1 set-xsave 0x7,xcomp_bv=1 set-xsave "$other"
  ((status == 0))
  assert_reported "$(trim_report)" "$(trim_report) count="{10,100,1000} \
    "level=error event=will-be-refused via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 reason=xcomp-bv:0x1" \
    "level=notice event=trim via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=$other allowed=0x7 after=0x7 `
      `dropped=$leaked_name,bit62 count=1001"
}

@test "a vCPU that is made anew is told anew" {
  supervised "${guest[@]}" set-xsave "$leaky" set-xsave "$leaky" vm close create 0 cpuid 0xd=0x7 set-xsave "$leaky"
  [[ $(sed -n 's/^create 0: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "not the same number" "$(outcome)"
  assert_reported "$(trim_report)" "$(trim_report)"
}

@test "what is doubtful is told at growing intervals, too" {
  local steps=() i
  for ((i = 0; i < 12; i++)); do steps+=(set-xsave 0x7); done
  supervised create 0 cpuid 0xd=0x7 cpuid 0xd=0x3 "${steps[@]}"
  [[ $(grep -c may-be-refused <<<"$stderr") == 2 && $stderr == *' count=10' ]] || fail "$(outcome)"
}

# ---- what it cannot see: did KVM take the table? ----

@test "a table that KVM cannot have taken is not learned: too long, or not readable" {
  supervised create 0 cpuid-too-many 0xd=0x3 cpuid-null set-xsave 0x7
  assert_printed 'cpuid-too-many 0xd=0x3: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_no_report
}

@test "what a guest has by an earlier table is kept when a later one, with less, was refused" {
  supervised "${guest[@]}" run cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'cpuid 0xd=0x3: EINVAL' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
}

@test "what only an earlier table had is kept, and told, as it may have been the last that KVM took" {
  supervised "${guest[@]}" cpuid 0xd=0x3 set-xsave "$leaky"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
  assert_reported "$(trim_report)" \
    "level=notice event=may-be-refused via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 `
      `reason=guest-lacks:avx"
}

@test "a later table with more counts from then on" {
  supervised create 0 cpuid 0xd=0x3 set-xsave 0x7 cpuid 0xd=0x7 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same
set-xsave 0x7: 0 xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
}

# ---- which vCPU is it? ----

@test "a new vCPU that is given the number of a closed one is not taken for it" {
  # the second VM is there before the first vCPU's number becomes free for its own
  supervised create 0 cpuid 0xd=0x3 vm close create 0 set-xsave 0x7
  [[ $(sed -n 's/^create 0: //p' <<<"$output" | sort -u | wc -l) == 1 ]] || fail "not the same number" "$(outcome)"
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_no_report
  supervised create 0 cpuid 0xd=0x7 vm close create 0 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "two VMs whose vCPUs have the same id are told apart" {
  supervised create 0 cpuid 0xd=0x3 dup-to 20 vm create 0 cpuid 0xd=0x7 set-xsave 0x7 fd 20 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same
set-xsave 0x7: 0 xstate_bv=0x3 rest=same' ]] || fail "$(outcome)"
}

@test "a duplicate of a vCPU's descriptor is that vCPU" {
  supervised "${guest[@]}" dup set-xsave "$leaky" dup-to 900 set-xsave "$leaky"
  ((status == 0))
  [[ $(grep -cx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$(trim_report)"
}

@test "a duplicate that is put on another vCPU's number is the vCPU that it duplicates" {
  local second
  supervised create 0 create 1
  second=$(sed -n 's/^create 1: //p' <<<"$output")
  supervised create 0 cpuid 0xd=0x3 create 1 cpuid 0xd=0x7 vcpu 0 dup-to "$second" set-xsave 0x7
  assert_printed "create 1: $second" "dup-to $second: $second"
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
}

@test "a duplicate that is put on the number of another VM's vCPU with the same id may have what either has" {
  local first second
  supervised create 0 vm create 0
  { read -r first; read -r second; } < <(sed -n 's/^create 0: //p' <<<"$output")
  supervised create 0 cpuid 0xd=0x7 vm create 0 cpuid 0xd=0x3 fd "$first" dup-to "$second" set-xsave "$leaky"
  assert_printed "dup-to $second: $second"
  [[ $output == *"set-xsave $leaky: "*" xstate_bv=0x7 rest=same" ]] || fail "$(outcome)"
}

@test "a descriptor that is not a vCPU is never written through" {
  local file
  touch "$work/file"
  for file in /dev/kvm /dev/null "$work/file"; do
    supervised "${guest[@]}" close file "$file" set-xsave "$leaky"
    [[ $(sed -n 's/^create 0: //p' <<<"$output") == "$(sed -n 's/^file .*: //p' <<<"$output")" ]] || fail "$(outcome)"
    [[ $output == *"set-xsave $leaky: "E*" xstate_bv=$leaky rest=same" ]] || fail "$(outcome)"
    assert_no_report
  done
}

@test "vCPUs of a parent are none of its child's, whose own are told apart by process" {
  supervised create 0 cpuid 0xd=0x3 fork set-xsave 0x7 vm create 0 cpuid 0xd=0x7 set-xsave 0x7
  ((status == 0))
  [[ $(grep ^set-xsave <<<"$output") == 'set-xsave 0x7: EIO xstate_bv=0x7 rest=same
set-xsave 0x7: 0 xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
}

@test "a VMM is followed through exec, fork, threads and signal handlers" {
  local how
  for how in fork thread signal exec; do
    supervised file /dev/null "$how" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    assert_reported "$(trim_report)"
  done
}

@test "several VMMs in one tree have vCPUs of their own, one after the other and at the same time" {
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

@test "eight threads that restore at once are trimmed each to its own, signals or not" {
  local mode rounds=$((1000 / slow))
  for mode in '' interrupted; do
    # shellcheck disable=SC2086 # no word or one
    run timeout $((60 * slow)) \
      "$xsaveshim" run --supervise --log=none -- "$build/test/restorers" 8 "$rounds" "$leaked" $mode
    ((status == 0))
    [[ $(sort <<<"$output") == "$(printf "%d: $rounds\n" {0..7})" ]] || fail "$output"
  done
}

@test "a signal does not interrupt a call that the supervisor is at work on" {
  start_hanging vcpu "$leaky"
  kill -USR1 "$pid"
  resume
  wait "$pid"
  [[ $(sed -n 2p "$work/out") == '0 xstate_bv=0x7' ]] || fail "$(<"$work/out")"
}

# ---- whose call is it? ----

@test "a helper with its own memory that shares the descriptors gets its EIO: nothing is trimmed, told or ended" {
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

@test "a child that shares the VMM's memory is served as the VMM is" {
  supervised "${guest[@]}" vfork set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
}

@test "pid= is the process that makes the call, as the supervisor sees it" {
  local pids
  run --separate-stderr "$xsaveshim" run --supervise -- sh -c '"$@"; "$@"; true' sh "$static" pid "${guest[@]}" set-xsave "$leaky"
  pids=$(sed -n 's/^pid: //p' <<<"$output")
  [[ $(wc -l <<<"$pids") == 2 && $(sed -n 's/.* pid=\([0-9]*\) .*/\1/p' <<<"$stderr") == "$pids" ]] || fail "$(outcome)"
  [[ $EUID == 0 ]] || return 0
  run --separate-stderr "$xsaveshim" run --supervise -- unshare --pid --fork "$static" pid "${guest[@]}" set-xsave "$leaky"
  assert_printed 'pid: 1'
  [[ $stderr =~ \ pid=([0-9]+)\  && ${BASH_REMATCH[1]} != 1 ]] || fail "$(outcome)"
}

# start_hanging WHERE XSTATE_BV    a VMM whose payload nobody can read before `resume`; sets what `start` does
start_hanging() {
  [[ $EUID == 0 ]] || skip "only root can make a system call wait for a userfaultfd"
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$xsaveshim" run --supervise -- bash -c 'exec "$0" "$@"' "$build/test/hang" "$@" <"$work/in" >"$work/out" 2>"$work/err" 3>&- &
  pid=$!
  wait_for $((10 * slow)) grep -q '^calls ' "$work/out"
  wait_for $((10 * slow)) waits_in seccomp 16 "$pid" # ioctl()
}

@test "a payload that hangs whoever reads it holds up its own caller alone" {
  local i
  mkfifo "$work/never"
  exec {in}<>"$work/never"
  run --separate-stderr timeout $((20 * slow)) "$xsaveshim" run --supervise -- bash -c '
    set -m # each in a process group, with what puts its payload there
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

@test "what is no vCPU is never read from, so that nobody waits for it" {
  mkfifo "$work/never"
  exec {in}<>"$work/never"
  run --separate-stderr timeout $((20 * slow)) "$xsaveshim" run --supervise -- "$build/test/hang" nothing "$leaky" <&"$in"
  [[ $status == 0 && ${lines[1]} == ENOTTY ]] || fail "$(outcome)"
  assert_no_report
}

@test "a process that gets the pid of a dead caller is not ended in its place" {
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

@test "bad pointers are left to the kernel" {
  local address
  for address in 0 0x1000 0x7ffffffff000 0x800000000000 0xffff888000000000 0xffffffffffffffff; do
    supervised "${guest[@]}" set-xsave-at "$address" set-xsave 0x7
    assert_printed "set-xsave-at $address: EFAULT" 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    assert_no_report
  done
}

@test "a payload in memory that the VMM made read-only is trimmed" {
  supervised "${guest[@]}" set-xsave "$leaky,readonly"
  assert_printed "set-xsave $leaky,readonly: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
}

@test "a payload in a file that is mapped privately is trimmed in memory and not in the file" {
  snapshot_file
  run --separate-stderr "$xsaveshim" run --supervise -- "$build/test/mapped" private "$work/snapshot"
  [[ $output == '0 xstate_bv=0x3' ]] || fail "$(outcome)"
  assert_reported "$(trim_report 0 0x3)"
  cmp "$work/snapshot" "$work/snapshot.before"
}

@test "a payload in a file that is mapped to be shared, but not written to, is left alone and reported" {
  snapshot_file
  run --separate-stderr "$xsaveshim" run --supervise -- "$build/test/mapped" shared "$work/snapshot"
  [[ $output == "EINVAL xstate_bv=$leaky" ]] || fail "$(outcome)"
  [[ $stderr =~ level=error\ event=not-trimmed\ via=supervisor\ .*\ xstate_bv=$leaky\ allowed=0x3\ error= ]] ||
    fail "$(outcome)"
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

# ---- sandboxes ----

@test "where any system call but ioctl and write is fatal the supervisor does its work" {
  local program
  for program in "$static" "$musl"; do
    static=$program
    supervised "${guest[@]}" confine set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  done
}

@test "a container manager's supervisor, or another of ours, is told apart from a failure" {
  run --separate-stderr "$xsaveshim" run --supervise -- "$xsaveshim" run --supervise -- "$static" mark a
  [[ $status == 125 && -z $output && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: this process has a supervisor already, '*': use --preload, or '* ]]
}

# ---- QEMU ----

@test "real QEMU, supervised or with the library preloaded, restores a leaky snapshot with its guest intact" {
  local mode
  # shellcheck source=test/qemu.bash
  source "$BATS_TEST_DIRNAME/qemu.bash"
  touch "$work/host-leaks"
  guest_start source "LD_PRELOAD=$build/test/leak.so" "LEAK_BITS=$leaked" "LEAK_WHILE=$work/host-leaks"
  assert_guest_intact source
  guest_save source "$work/image"
  guest_restore bare "$work/image"
  assert_guest_lost bare
  for mode in supervise preload; do
    printf '#!/bin/sh\nexec %s run --%s -- qemu-system-x86_64 "$@"\n' "$xsaveshim" "$mode" >"$work/qemu"
    chmod +x "$work/qemu"
    qemu=$work/qemu
    guest_restore "$mode" "$work/image"
    assert_guest_intact "$mode"
    grep -q "event=trim .*ioctl=KVM_SET_XSAVE vcpu=0 .* allowed=0x3 .* dropped=$leaked_name$" "$work/$mode/stderr"
  done
  grep -q via=supervisor "$work/supervise/stderr"
  run ! grep -q via=supervisor "$work/preload/stderr"
}

# ---- settings ----

@test "what a supervisor cannot do is refused before the VMM starts" {
  local option
  for option in --trim=save --trim=both; do
    run --separate-stderr "$xsaveshim" run "$option" -- "$static" mark started
    [[ $status == 125 && -z $output && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
    [[ $stderr == 'xsaveshim run: a supervisor '*'or --preload if the VMM is dynamically linked' ]] || fail "$(outcome)"
  done
}

@test "a setting to trim what KVM saves does not keep a VMM from starting: the supervisor trims restores, and says so" {
  local mode
  for mode in both save; do
    run --separate-stderr env XSAVESHIM_TRIM="$mode" "$xsaveshim" run -- "$static" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    [[ ${stderr%%$'\n'*} == "xsaveshim run: warning: XSAVESHIM_TRIM=$mode: a supervisor cannot trim what KVM saves, so it `
      `trims what the VMM restores and nothing else" ]] || fail "$(outcome)"
    stderr=${stderr#*$'\n'} reported "$(trim_report)"
    # the settings file's, where nothing else sets it
    run --separate-stderr unshare --mount sh -c 'mount -t tmpfs none /etc && echo "XSAVESHIM_TRIM=$0" >/etc/xsaveshim.conf &&
      exec "$@"' "$mode" "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
    [[ $(grep -c "warning: XSAVESHIM_TRIM=$mode: " <<<"$stderr") == 1 ]] || fail "$(outcome)"
  done
}

@test "where /proc shows another PID namespace the VMM is not started, as its memory could be another process's" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  run --separate-stderr unshare --pid --fork "$xsaveshim" run --supervise -- "$static" mark started
  [[ $status == 125 && -z $output ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: /proc is not that of this PID namespace: mount it' ]] || fail "$(outcome)"
  run --separate-stderr unshare --pid --fork --mount-proc "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "XSAVESHIM_REFUSED=abort ends the VMM, after the report, before KVM refuses what it restores" {
  supervised XSAVESHIM_REFUSED=abort create 0 cpuid "0xd=$leaky" set-xsave 0x7 set-xsave "$leaky" mark late
  ((status == 128 + 9)) || fail "$(outcome)"
  [[ $output == *$'\nset-xsave 0x7: 0 xstate_bv=0x7 rest=same'* && $output != *"set-xsave $leaky"* ]] || fail "$(outcome)"
  [[ $stderr == *"event=will-be-refused "*"reason=host-lacks:$leaked_name" && $(wc -l <<<"$stderr") == 1 ]] || fail "$(outcome)"
  supervised XSAVESHIM_REFUSED=abort "${guest[@]}" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "reports go where the settings say, at the level that they say" {
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

# ---- coming and going ----

# start STEP...    a supervised VMM that has come to its first `pause`; sets pid, supervisor and in, a descriptor
# that `resume` writes to
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
    # the VMM, too, is called xsaveshim until its exec
    [[ $candidate == "${pid-}" || $(cat "/proc/$candidate/comm" 2>&1) != xsaveshim ]] || supervisor=$candidate
  done
  [[ $supervisor ]]
}

none_left() { # WORD-OF-THEIR-COMMAND-LINE
  ! pgrep -f -- "$1" >/dev/null
}

field() { # PID NAME    of /proc/PID/status
  sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"
}

@test "the VMM has no child, no pending signal and no descriptor that it would not have without a supervisor" {
  local look bare
  # with SIGCHLD blocked, one that was sent would wait for the VMM
  local blocked=(perl -MPOSIX -e
    'sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGCHLD, SIGUSR1)); $SIG{HUP} = "IGNORE"; exec @ARGV')
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

@test "the supervisor is nobody's child, in a session of its own, and holds no descriptor or directory of the VMM" {
  cd "$work"
  start "${guest[@]}" pause
  [[ $(field "$supervisor" PPid) != "$pid" && $(ps -o sid= -p "$supervisor") -ne $(ps -o sid= -p "$pid") ]]
  [[ $(ps -o tty= -p "$supervisor") == \?* && $(readlink "/proc/$supervisor/cwd") == / ]]
  [[ $(readlink "/proc/$supervisor/fd/0") == /dev/null && $(readlink "/proc/$supervisor/fd/1") == /dev/null ]]
  [[ $(readlink "/proc/$supervisor/fd/2") == "$work/err" ]]
  run ls -l "/proc/$supervisor/fd"
  # and a socket where there is a syslog
  [[ $(sed -n '/ socket:/d; s/.* -> //p' <<<"$output" | sort) == "/dev/null
/dev/null
$work/err
anon_inode:[eventpoll]
anon_inode:[eventpoll]
anon_inode:[pidfd]
anon_inode:seccomp notify" ]] || fail "$output"
  resume
  wait "$pid"
}

@test "the terminal's and other signals do not end the supervisor" {
  local signal
  start "${guest[@]}" pause set-xsave "$leaky"
  for signal in INT QUIT HUP TERM TSTP PIPE USR1 USR2 ALRM CHLD; do kill "-$signal" "$supervisor"; done
  resume
  wait "$pid"
  grep -qx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" "$work/out"
}

@test "a VMM that nobody listens to any more is still served" {
  mkfifo "$work/stderr"
  exec {reader}<>"$work/stderr"
  exec {writer}>"$work/stderr"
  exec {reader}<&-
  run timeout $((60 * slow)) "$xsaveshim" run --supervise -- "$static" "${guest[@]}" set-xsave "$leaky" 2>&"$writer"
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
}

@test "a standard error that nobody reads holds up no VMM" {
  mkfifo "$work/stderr"
  exec {full}<>"$work/stderr"
  timeout 2 dd if=/dev/zero bs=4096 status=none >&"$full" || true
  run bash -c 'exec "$@" 2>&$0' "$full" timeout $((20 * slow)) "$xsaveshim" run --supervise -- "$static" \
    "${guest[@]}" set-xsave "$leaky" create 1 cpuid 0xd=0x7 set-xsave "$leaky"
  [[ $status == 0 && $(grep -cx "set-xsave $leaky: 0 xstate_bv=0x7 rest=same" <<<"$output") == 2 ]] || fail "$output"
}

@test "who waits for the end of the standard error of a VMM that becomes a daemon does not wait for the VM's end" {
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

@test "the supervisor keeps its standard error while any of what it serves has it, and lets go of it a moment later" {
  mkfifo "$work/stderr" "$work/in"
  exec {in}<>"$work/in"
  timeout $((60 * slow)) cat "$work/stderr" >"$work/err" 3>&- &
  reader=$!
  # the shell has it while the first VMM runs
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

@test "a VMM that was started without standard streams is served" {
  local log=$work/log
  "$xsaveshim" run --supervise --log="$log" -- "$static" "${guest[@]}" set-xsave "$leaky" <&- >&- 2>&- || true
  grep -q "event=trim .*dropped=$leaked_name$" "$log"
}

@test "the supervisor ends with the last process that it serves, and lets go of standard error" {
  start "${guest[@]}" fork pause
  kill -KILL "$pid"
  wait "$pid" || true
  kill -0 "$supervisor"
  resume
  wait_for $((10 * slow)) none_left "$work"
  # a pipe's reader sees its end
  timeout $((10 * slow)) "$xsaveshim" run --supervise -- "$static" mark "$work" 2>&1 | cat >"$work/piped"
  grep -q '^mark' "$work/piped"
}

@test "kill -9 of the supervisor: KVM_SET_XSAVE fails with ENOSYS, the VMM's other calls go on" {
  start "${guest[@]}" get-xsave pause set-xsave "$leaky" set-xsave 0x7 get-xsave run
  kill -KILL "$supervisor"
  wait_for $((10 * slow)) none_left "xsaveshim run --supervise -- $static mark $work"
  resume
  wait "$pid"
  grep -qx "set-xsave $leaky: ENOSYS xstate_bv=$leaky rest=same" "$work/out"
  grep -qx "set-xsave 0x7: ENOSYS xstate_bv=0x7 rest=same" "$work/out"
  [[ $(grep -c '^get-xsave: 0 ' "$work/out") == 2 && $(grep ^get-xsave "$work/out" | sort -u | wc -l) == 1 ]]
  grep -qx 'run: 0 exit=hlt' "$work/out"
}

@test "kill -9 while a call waits for its answer: the call fails, and nothing hangs" {
  start_stopped_call
  kill -KILL "$supervisor"
  wait "$pid"
  grep -qx "set-xsave 0x7: ENOSYS xstate_bv=0x7 rest=same" "$work/out"
}

@test "a VMM can be killed while its call waits for an answer, and the supervisor goes on to the next" {
  start_stopped_call
  kill -KILL "$pid"
  wait "$pid" || true
  kill -CONT "$supervisor"
  wait_for $((10 * slow)) none_left "$work"
}

# A VMM whose KVM_SET_XSAVE waits for a supervisor that is stopped.
start_stopped_call() {
  start "${guest[@]}" pause set-xsave 0x7
  kill -STOP "$supervisor"
  wait_for $((10 * slow)) is_stopped "$supervisor"
  resume
  wait_for $((10 * slow)) waits_in seccomp 16 "$pid" # ioctl()
}

@test "starts and ends leave no process behind, be it a zombie: a thousand of them, or a hundred where all is slow" {
  [[ $EUID == 0 ]] || skip "only root can make a PID namespace"
  # where /proc shows nothing else
  run --separate-stderr timeout 300 unshare --pid --fork --kill-child --mount-proc bash -c '
    for ((i = 0; i < $2; i++)); do "$0" run --supervise -- "$1" mark a; done | grep -c "^mark a"
    SECONDS=0
    until processes=(/proc/[0-9]*); ((${#processes[@]} == 1)); do ((SECONDS < $3)) || exec ps -ef; sleep 0.02; done' \
    "$xsaveshim" "$static" $((1000 / slow)) $((10 * slow))
  [[ $status == 0 && $output == $((1000 / slow)) ]] || fail "$(outcome)"
}

@test "VMMs one after the other leave no descriptor behind in their supervisor: a thousand, or a hundred where all is slow" {
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$xsaveshim" run --supervise -- bash -c \
    'for ((i = 0; i < $2; i++)); do "$0" create 0 cpuid 0xd=0x3; done; echo done; read' \
    "$static" "$work" $((1000 / slow)) <"$work/in" >"$work/out" 3>&- &
  wait_for 300 grep -qx 'done' "$work/out"
  find_supervisor "$work"
  [[ $(grep -c '^cpuid .*: 0$' "$work/out") == $((1000 / slow)) ]]
  run find "/proc/$supervisor/fd" -lname '*pidfd*'
  [[ -z $output && $(find "/proc/$supervisor/fd" -type l | wc -l) -le 7 ]]
  resume
  wait_for $((10 * slow)) none_left "$work"
}

# ---- users ----

# A device that everybody may open, and the programs where everybody can reach them.
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

@test "as root the VMM runs without no_new_privs, so that a jailer can still become another user" {
  make_public
  run --separate-stderr env DEVICE="$public/kvm" "$public/xsaveshim" run --supervise -- "${show_privileges[@]}" \
    "${nobody[@]}" "$public/vmm-static" "${guest[@]}" set-xsave "$leaky"
  assert_printed $'NoNewPrivs:\t0' "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
}

@test "a plain user's VMM is served, with no_new_privs" {
  make_public
  run --separate-stderr env DEVICE="$public/kvm" "${nobody[@]}" "$public/xsaveshim" run --supervise -- \
    "${show_privileges[@]}" "$public/vmm-static" "${guest[@]}" set-xsave "$leaky"
  assert_printed $'NoNewPrivs:\t1' "set-xsave $leaky: 0 xstate_bv=0x7 rest=same"
  assert_reported "$(trim_report)"
}

@test "a VMM that the supervisor may not look at is let through, and every call is reported" {
  make_public
  chmod 711 "$public/vmm-static" # not to be read, and so not to be looked into
  run --separate-stderr env DEVICE="$public/kvm" "${nobody[@]}" "$public/xsaveshim" run --supervise -- \
    sh -c 'exec "$@"' sh "$public/vmm-static" "${guest[@]}" set-xsave "$leaky"
  assert_printed "cpuid 0xd=0x7: 0" "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(grep -cE 'level=error event=no-access via=supervisor pid=[0-9]+ ioctl=KVM_SET_(CPUID2|XSAVE) .* error=' <<<"$stderr") == 2 ]] ||
    fail "$(outcome)"
}
