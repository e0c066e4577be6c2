# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests the library and the supervisor under the seccomp filters of real VMMs. test/vmm/filtered.c imitates each VMM: it makes the
# VMM's system calls in the VMM's order. The VMM's filter kills this program at each system call that the filter does not allow.

load lib

slow=${XSTEST_SLOW:-1}
vmms=(firecracker cloud-hypervisor stratovirt)
log=$BATS_TEST_TMPDIR/log
disk=$BATS_TEST_TMPDIR/disk
pipe=$BATS_TEST_TMPDIR/pipe
killed_by_sigsys=159
full= # if set, the log file is full: it has 1 KiB, and the VMM's RLIMIT_FSIZE is 1 KiB

# The guest has FP, SSE and AVX. The restored payload, with XSTATE_BV $leaky, also has an xfeature that this host's KVM lacks, so
# xsaveshim reports a trim. When the VMM saves under the library, kernel.so imitates a KVM that leaks xfeatures, so the library
# reports a second trim. The tests need the second report, because Firecracker installs its filter only after the first report.
setup() {
  need_no_settings_file
  need_kvm
  export XSAVESHIM_REFUSED=report
  read -r leaked _ < <("$build/test/leakable")
  printf -v leaky '%#x' $((leaked | 7))
  trimmed=("set-xsave=$leaky: 0 xstate_bv=0x7" end)
}

teardown() {
  stop_listening
  [[ -z ${vmm_pid:-} ]] || kill -KILL "$vmm_pid" 2>/dev/null || true
}

# filtered MODE VMM [VARIABLE=VALUE]... XCR0 STEP...    runs test/vmm/filtered.c, which imitates VMM (an element of $vmms) and
# explains XCR0 and STEP. MODE names what watches the VMM: library, supervisor, or bare (nothing).
filtered() {
  local mode=$1 name=$2 environment=(KERNEL_LEAKS=0x210 XSAVESHIM_TRIM=both) command=()
  local preload="$shim $build/test/kernel.so"
  shift 2
  if [[ $mode != library ]]; then
    environment=(KERNEL_LEAKS=0)
    preload=$build/test/kernel.so
  fi
  [[ $mode != supervisor ]] || command=("$build/xsaveshim" run --supervise --)
  [[ -z $full ]] || command=(bash -c 'ulimit -f 1; exec "$@"' - "${command[@]}")
  while [[ $1 =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  privately timeout $((60 * slow)) env "${environment[@]}" LD_PRELOAD="$preload" "${command[@]}" "$build/test/filtered" "$name" "$@"
}

# Empties $messages (syslog's messages) and removes $log. If $full is set, creates a full $log. Then calls `filtered` through bats'
# `run`.
run_filtered() {
  rm -f "$log"
  [[ -z $full ]] || head -c 1024 /dev/zero >"$log"
  : >"$messages"
  case_=("$@")
  run --separate-stderr filtered "$@"
}

blame() { # MESSAGE...
  [[ ! -s $messages ]] || set -- "$@" "--- syslog:" "$(<"$messages")"
  [[ ! -s $log ]] || set -- "$@" "--- log:" "$(<"$log")"
  fail "case: ${case_[*]}" "$@" "$(outcome)"
}

# Checks that the VMM succeeded and printed each LINE.
assert_ended() { # LINE...
  local line
  ((status == 0)) || blame "the VMM failed" || return
  for line in "$@"; do
    grep -qxF -- "$line" <<<"$output" || blame "not printed: $line" || return
  done
}

# Reads reports from standard input, and prints LEVEL:EVENT:IOCTL for each, such as "notice:trim:KVM_SET_XSAVE", all in one line.
events() {
  grep -oE 'level=[a-z]+ event=[a-z-]+ [^:]*ioctl=[A-Z0-9_]+' | sed -E 's/level=([a-z]+) event=([a-z-]+) .*ioctl=/\1:\2:/' | xargs
}

syslog_has() { # EVENTS
  [[ $(tr '<' '\n' <"$messages" | events) == "$1" ]]
}

# Checks that the given log has exactly the reports EVENTS, written as events() prints them, and that every other log is empty.
assert_reported_in() { # stderr|syslog|file|none EVENTS
  local place text
  for place in stderr syslog file; do
    if [[ $place == syslog && $1 == syslog ]]; then
      wait_for $((10 * slow)) syslog_has "$2" || blame "expected in syslog: $2" || return
      continue
    fi
    case $place in
      stderr) text=$stderr ;;
      syslog) text=$(tr '<' '\n' <"$messages") ;;
      file) text=$(tr -d '\0' <"$log" 2>/dev/null) || true ;;
    esac
    if [[ $place == "$1" ]]; then
      [[ $(events <<<"$text") == "$2" ]] || blame "expected in $1: $2" || return
    else
      [[ -z $text ]] || blame "there should be nothing in $place" || return
    fi
  done
}

# Prints, as events() does, the reports that must appear at log level notice if VMM runs the steps `set-xsave=$leaky save` in MODE.
trims() { # MODE VMM
  local save=KVM_GET_XSAVE2
  [[ $2 != stratovirt ]] || save=KVM_GET_XSAVE
  echo "notice:trim:KVM_SET_XSAVE$([[ $1 != library ]] || echo " notice:trim:$save")"
}

# ---- the filters themselves ----

assert_killed() { # VMM STEP...
  run_filtered bare "$1" 0x7 "${@:2}"
  [[ $status == "$killed_by_sigsys" && $output != *end* ]] || blame "not killed by SIGSYS"
}

assert_not_killed() { # VMM STEP...
  run_filtered bare "$1" 0x7 "${@:2}"
  assert_ended end
}

@test "without xsaveshim, imitations of Firecracker, Cloud Hypervisor and StratoVirt restore and save under these VMMs' own seccomp filters" {
  local name
  for name in "${vmms[@]}"; do
    assert_not_killed "$name" set-xsave=0x7 set-xcrs=0x7 save
    assert_not_killed "$name" set-xsave=0x7 save call=fstat,2 call=write,2 call=gettid call=sendmsg,-1
  done
}

@test "if the imitated Firecracker makes a system call such as getpid or newfstatat after a save, Firecracker's seccomp filter kills it" {
  local call
  for call in getpid newfstatat statx read readlink kcmp fcntl dup openat socket,1,2 connect sendto poll prctl kill,0,0 tgkill mmap futex; do
    assert_killed firecracker set-xsave=0x7 save "call=$call"
  done
}

@test "if the imitated Cloud Hypervisor calls kcmp or opens an Internet socket during a restore, Cloud Hypervisor's seccomp filter kills it" {
  local call
  assert_not_killed cloud-hypervisor call=socket,1,2 set-xsave=0x7 call=getpid call=fcntl,2,3
  for call in kcmp pidfd_open dup3 getppid readlinkat process_vm_readv ppoll socket,2,2; do
    assert_killed cloud-hypervisor set-xsave=0x7 "call=$call" set-xcrs=0x7
  done
}

@test "if the imitated StratoVirt uses KVM_GET_CPUID2, kcmp, a shared futex, or fcntl with F_GETFL, StratoVirt's seccomp filter kills it" {
  local call
  assert_not_killed stratovirt call=fcntl,2,1 call=fcntl,2,1030,9 call=futex,0,129 set-xsave=0x7 call=getpid
  assert_killed stratovirt set-xsave=0x7 get-cpuid2
  assert_killed stratovirt set-xsave=0x7 save get-cpuid2
  for call in kcmp getuid getppid poll kill,0,0 tkill pidfd_open pipe2 nanosleep sched_yield madvise fcntl,2,3 futex,0,1 readlinkat dup3; do
    assert_killed stratovirt set-xsave=0x7 "call=$call" set-xcrs=0x7
  done
}

# ---- every log, at every level ----

assert_every_log() { # MODE VMM
  local target level settings expected
  listen
  for target in stderr syslog file none; do
    for level in notice error debug; do
      settings=(XSAVESHIM_LOG="${target/file/$log}" XSAVESHIM_LOG_LEVEL="$level")
      expected=$(trims "$@")
      case $1:$level in
        library:notice) expected=${expected/ / error:refused:KVM_SET_XSAVE } ;;
        library:error) expected=error:refused:KVM_SET_XSAVE ;;
        library:debug) expected="debug:learn:KVM_SET_CPUID2 ${expected/ / error:refused:KVM_SET_XSAVE }" ;;
        supervisor:notice) expected+=" error:refused:KVM_SET_XSAVE" ;;
        supervisor:error) expected=error:refused:KVM_SET_XSAVE ;;
        supervisor:debug) expected="debug:learn:KVM_SET_CPUID2 $expected error:refused:KVM_SET_XSAVE" ;;
      esac
      run_filtered "$@" "${settings[@]}" 0x7 set-xsave="$leaky" set-xsave-compacted=0x7 set-xcrs=0x7 save
      assert_ended "${trimmed[@]}" 'set-xsave-compacted=0x7: EINVAL xstate_bv=0x7' 'set-xcrs=0x7: 0'
      assert_reported_in "$target" "$expected"
    done
  done
}

each_mode() { # COMMAND VMM
  "$1" library "$2"
  "$1" supervisor "$2"
}

@test "under Firecracker's seccomp filter, the library and the supervisor can report to every log at every log level" {
  each_mode assert_every_log firecracker
}

@test "under Cloud Hypervisor's seccomp filter, the library and the supervisor can report to every log at every log level" {
  each_mode assert_every_log cloud-hypervisor
}

@test "under StratoVirt's seccomp filter, the library and the supervisor can report to every log at every log level" {
  each_mode assert_every_log stratovirt
}

@test "under the seccomp filters of three VMMs, the library reports that KVM refused control registers and an MSR" {
  local name refused="notice:refused-state:KVM_SET_SREGS notice:refused-state:KVM_SET_MSRS"
  for name in "${vmms[@]}"; do
    run_filtered library "$name" 0x7 set-cr4=0x8000000000000000 set-xsave="$leaky" set-xcrs=0x7 set-msr=0xc0ffee00 save
    assert_ended set-cr4=0x8000000000000000:\ EINVAL set-msr=0xc0ffee00:\ 0 "${trimmed[@]}"
    assert_reported_in stderr "${refused/ / notice:trim:KVM_SET_XSAVE } $(trims library "$name" | cut -d ' ' -f 2)"
    [[ $stderr == *" cr4=0x8000000000000000 "*" msr=0xc0ffee00 value=0x0 set=0 of=1"* ]] || blame "the values are missing"
  done
}

# ---- where reports go if the log cannot take them ----

each() { # COMMAND    runs COMMAND for both modes and each VMM
  local name
  for name in "${vmms[@]}"; do each_mode "$1" "$name"; done
}

assert_restored() { # PLACE MODE VMM [VARIABLE=VALUE]... STEP...    checks that the VMM restores, and that PLACE gets the reports
  local place=$1 mode=$2 name=$3 environment=()
  shift 3
  while [[ ${1:-} =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  run_filtered "$mode" "$name" "${environment[@]}" 0x7 "$@" set-xsave="$leaky" save
  assert_ended "${trimmed[@]}"
  assert_reported_in "$place" "$(trims "$mode" "$name")"
}

# Runs VMMs that close standard error, or replace it by /dev/null or a disk image. With the step "start", the VMM opens /dev/null as
# descriptor 2 before KVM_CREATE_VM, as StratoVirt does when it becomes a daemon. Without "start", the VMM opens /dev/null after
# KVM_SET_CPUID2, as QEMU does.
loses_stderr() { # MODE VMM
  assert_restored syslog "$@" close=2
  assert_restored syslog "$@" close=2 open=/dev/null
  assert_restored syslog "$@" close=2 open=/dev/null start
  : >"$disk"
  assert_restored syslog "$@" close=2 "open=$disk"
  [[ $output == *"open=$disk: 2"* && ! -s $disk ]] || blame "a line is in the disk image: $(<"$disk")"
}

has_full_log() { # MODE VMM
  full=yes
  assert_restored stderr "$@" XSAVESHIM_LOG="$log"
  assert_restored syslog "$@" XSAVESHIM_LOG="$log" close=2
}

@test "under the seccomp filters of three VMMs, reports go to syslog if standard error is closed, or replaced by /dev/null or a disk image" {
  listen
  each loses_stderr
}

@test "under the seccomp filters of three VMMs, if the log has reached RLIMIT_FSIZE, reports go to standard error or, if that is closed, to syslog" {
  listen
  each has_full_log
}

starts_without_stderr() { # MODE VMM
  local how
  run_without() { filtered "$@" 2>&-; }
  run_with_null() { filtered "$@" 2>/dev/null; }
  for how in run_without run_with_null; do
    : >"$messages"
    case_=("$@" "$how")
    run "$how" "$@" 0x7 set-xsave="$leaky" save
    stderr=
    assert_ended "${trimmed[@]}"
    assert_reported_in syslog "$(trims "$@")"
  done
}

@test "under the seccomp filters of three VMMs, reports go to syslog if the VMM starts without standard error or with /dev/null as standard error" {
  listen
  each starts_without_stderr
}

# Restarts syslogd between the VMM's KVM_SET_CPUID2 and its KVM_SET_XSAVE.
syslogd_restarts() { # MODE VMM
  local status=0
  rm -f "$BATS_TEST_TMPDIR/$2".{1,2}
  mkfifo "$BATS_TEST_TMPDIR/$2".{1,2}
  listen
  : >"$messages"
  case_=("$@" 'syslogd restarts')
  filtered "$@" XSAVESHIM_LOG=syslog 0x7 meet="$BATS_TEST_TMPDIR/$2.1" meet="$BATS_TEST_TMPDIR/$2.2" set-xsave="$leaky" save \
    >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
  vmm_pid=$!
  timeout $((20 * slow)) cat "$BATS_TEST_TMPDIR/$2.1"
  listen
  timeout $((20 * slow)) cat "$BATS_TEST_TMPDIR/$2.2"
  wait "$vmm_pid" || status=$?
  output=$(<"$BATS_TEST_TMPDIR/out")
  stderr=$(<"$BATS_TEST_TMPDIR/err")
  assert_ended "${trimmed[@]}"
  assert_reported_in syslog "$(trims "$@")"
}

@test "under the seccomp filters of three VMMs, reports reach a syslogd that restarted between KVM_SET_CPUID2 and KVM_SET_XSAVE" {
  each syslogd_restarts
}

# Gives the VMM a full pipe as standard error. A reader empties the pipe later.
full_pipe_with_a_reader() { # MODE VMM
  local status=0
  rm -f "$pipe"
  mkfifo "$pipe"
  exec 5<>"$pipe"
  dd if=/dev/zero of="$pipe" bs=4096 oflag=nonblock 2>/dev/null && fail 'dd came to an end' && return 1
  dd if=/dev/zero of="$pipe" bs=1 oflag=nonblock 2>/dev/null && fail 'dd came to an end' && return 1
  : >"$messages"
  : >"$BATS_TEST_TMPDIR/err"
  case_=("$@" 'a full pipe')
  rm -f "$BATS_TEST_TMPDIR/meet"
  mkfifo "$BATS_TEST_TMPDIR/meet"
  filtered "$@" 0x7 meet="$BATS_TEST_TMPDIR/meet" set-xsave="$leaky" save >"$BATS_TEST_TMPDIR/out" 2>"$pipe" 3>&- 5<&- &
  vmm_pid=$!
  timeout $((20 * slow)) cat "$BATS_TEST_TMPDIR/meet"
  # cat ends when the VMM has ended and this shell has closed descriptor 5
  timeout $((60 * slow)) cat "$pipe" >"$BATS_TEST_TMPDIR/err" 5<&- 3>&- &
  local reader=$!
  wait_for $((20 * slow)) test -s "$BATS_TEST_TMPDIR/err"
  exec 5<&-
  wait "$vmm_pid" || status=$?
  wait "$reader"
  output=$(<"$BATS_TEST_TMPDIR/out")
  stderr=$(tr -d '\0' <"$BATS_TEST_TMPDIR/err")
  assert_ended "${trimmed[@]}"
  assert_reported_in stderr "$(trims "$@")"
}

@test "under the seccomp filters of three VMMs, no report is lost if standard error is a full pipe that a reader empties later" {
  each full_pipe_with_a_reader
}

# ---- state that KVM refuses, and lost state ----

sets_xcrs() { # MODE VMM
  run_filtered "$@" 0x7 set-xsave=0x7 set-xcrs=0x7
  assert_ended 'set-xcrs=0x7: 0' end
  assert_reported_in none ""
  run_filtered "$@" 0x7 set-xsave=0x7 "set-xcrs=$leaky"
  assert_ended "set-xcrs=$leaky: EINVAL" end
  [[ $1 == supervisor ]] || assert_reported_in stderr error:refused:KVM_SET_XCRS # the supervisor does not see ioctls' results
  run_filtered "$@" KERNEL_TAKES_XCRS=1 0x3 set-xsave=0x7 set-xcrs=0x7
  assert_ended 'set-xsave=0x7: 0 xstate_bv=0x3' 'set-xcrs=0x7: 0' end
  assert_reported_in stderr "notice:trim:KVM_SET_XSAVE error:lost:KVM_SET_XCRS"
}

@test "under the seccomp filters of three VMMs, the library reports an XCR0 that KVM refuses; the library and the supervisor report an XCR0 with an xfeature that a trim dropped" {
  each sets_xcrs
}

assert_aborts() { # EVENTS MODE VMM [VARIABLE=VALUE]... XCR0 STEP...
  local expected=$1 how=1
  shift
  [[ $1 == library ]] || how=137
  run_filtered "$1" "$2" XSAVESHIM_REFUSED=abort "${@:3}" save
  ((status == how)) || blame "exit status $status, expected $how" || return
  [[ $output != *save:* && $output != *end* ]] || blame "the VMM ran on" || return
  assert_reported_in stderr "$expected"
}

aborts() { # MODE VMM
  assert_aborts error:refused:KVM_SET_XSAVE "$@" 0x7 set-xsave-compacted=0x7
  [[ $1 == supervisor ]] || assert_aborts error:refused:KVM_SET_XCRS "$@" 0x7 set-xsave=0x7 "set-xcrs=$leaky"
  assert_aborts "notice:trim:KVM_SET_XSAVE error:lost:KVM_SET_XCRS" "$@" KERNEL_TAKES_XCRS=1 0x3 set-xsave=0x7 set-xcrs=0x7
}

@test "under the seccomp filters of three VMMs, XSAVESHIM_REFUSED=abort ends the VMM if KVM refuses a payload, or if an XCR0 has an xfeature that a trim dropped" {
  each aborts
}

@test "if KVM refuses FP and SSE because a guest lacks XSAVE, and the VMM's seccomp filter allows KVM_GET_CPUID2, the library makes KVM load FP and SSE" {
  local name
  for name in firecracker cloud-hypervisor; do
    run_filtered bare "$name" KERNEL_STRICT=1 none set-xsave=0x3
    assert_ended 'set-xsave=0x3: EINVAL xstate_bv=0x3' end
    run_filtered library "$name" KERNEL_STRICT=1 XSAVESHIM_TRIM=restore none set-xsave=0x3 save
    assert_ended 'set-xsave=0x3: 0 xstate_bv=0x3' end
    assert_reported_in stderr notice:load-widened:KVM_SET_XSAVE
  done
}
