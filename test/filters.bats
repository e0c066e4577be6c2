# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# The library and the supervisor under the seccomp filters of real VMMs, in their order of events (test/vmm/filtered.c): a system
# call too many ends the VMM.

load lib

slow=${XSTEST_SLOW:-1}
vmms=(firecracker cloud-hypervisor stratovirt)
log=$BATS_TEST_TMPDIR/log
disk=$BATS_TEST_TMPDIR/disk
pipe=$BATS_TEST_TMPDIR/pipe
killed_by_sigsys=159

# A guest with FP, SSE and AVX, and a payload with a bit that this host's KVM lacks. When the VMM saves, KVM leaks a bit more, so
# that there is another report, which in Firecracker is the one under its filter.
setup() {
  need_no_settings_file
  need_kvm
  read -r leaked _ < <("$build/test/leakable")
  printf -v leaky '%#x' $((leaked | 7))
  trimmed=("set-xsave=$leaky: 0 xstate_bv=0x7" end)
}

teardown() {
  stop_listening
  [[ -z ${vmm_pid:-} ]] || kill -KILL "$vmm_pid" 2>/dev/null || true
}

# filtered MODE VMM [VARIABLE=VALUE]... XCR0 STEP...    MODE: bare, library or supervisor
filtered() {
  local mode=$1 name=$2 environment=(KERNEL_LEAKS=0x210 XSAVESHIM_TRIM=both) command=()
  local preload="$shim $build/test/kernel.so"
  shift 2
  if [[ $mode != library ]]; then
    environment=(KERNEL_LEAKS=0)
    preload=$build/test/kernel.so
  fi
  [[ $mode != supervisor ]] || command=("$build/xsaveshim" run --supervise --)
  while [[ $1 =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  privately timeout $((60 * slow)) env "${environment[@]}" LD_PRELOAD="$preload" "${command[@]}" "$build/test/filtered" "$name" "$@"
}

# The same with `run`; what there is of $messages and $log is of this run alone.
run_filtered() {
  rm -f "$log"
  : >"$messages"
  case_=("$@")
  run --separate-stderr filtered "$@"
}

blame() { # MESSAGE...
  [[ ! -s $messages ]] || set -- "$@" "--- syslog:" "$(<"$messages")"
  [[ ! -s $log ]] || set -- "$@" "--- log:" "$(<"$log")"
  fail "case: ${case_[*]}" "$@" "$(outcome)"
}

# The VMM came to its end as it would have, and printed these lines among others.
assert_ended() { # LINE...
  local line
  ((status == 0)) || blame "the VMM failed" || return
  for line in "$@"; do
    grep -qxF -- "$line" <<<"$output" || blame "not printed: $line" || return
  done
}

# The events of the reports on standard input, with what each is about, in their order: "notice:trim:KVM_SET_XSAVE".
events() {
  grep -oE 'level=[a-z]+ event=[a-z-]+ [^:]*ioctl=[A-Z0-9_]+' | sed -E 's/level=([a-z]+) event=([a-z-]+) .*ioctl=/\1:\2:/' | xargs
}

syslog_has() { # EVENTS
  [[ $(tr '<' '\n' <"$messages" | events) == "$1" ]]
}

# These events were reported there, and no line anywhere else.
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
      file) text=$(cat "$log" 2>/dev/null) || true ;;
    esac
    if [[ $place == "$1" ]]; then
      [[ $(events <<<"$text") == "$2" ]] || blame "expected in $1: $2" || return
    else
      [[ -z $text ]] || blame "there should be nothing in $place" || return
    fi
  done
}

# What a run of the steps `set-xsave=$leaky save` reports at level notice.
trims() { # MODE VMM
  local save=KVM_GET_XSAVE2
  [[ $2 != stratovirt ]] || save=KVM_GET_XSAVE
  echo "notice:trim:KVM_SET_XSAVE$([[ $1 != library ]] || echo " notice:trim:$save")"
}

# ---- the filters themselves ----

assert_bites() { # VMM STEP...
  run_filtered bare "$1" 0x7 "${@:2}"
  [[ $status == "$killed_by_sigsys" && $output != *end* ]] || blame "not killed by SIGSYS"
}

assert_passes() { # VMM STEP...
  run_filtered bare "$1" 0x7 "${@:2}"
  assert_ended end
}

@test "each VMM restores and saves under its filter without the shim" {
  local name
  for name in "${vmms[@]}"; do
    assert_passes "$name" set-xsave=0x7 set-xcrs=0x7 save
    assert_passes "$name" set-xsave=0x7 save call=fstat,2 call=write,2 call=gettid call=sendmsg,-1
  done
}

@test "Firecracker's filter kills a VMM that calls getpid, or libc's fstat, where a report is made" {
  local call
  for call in getpid newfstatat statx read readlink kcmp fcntl dup openat socket,1,2 connect sendto poll prctl kill,0,0 tgkill mmap futex; do
    assert_bites firecracker set-xsave=0x7 save "call=$call"
  done
}

@test "Cloud Hypervisor's filter kills a VMM that calls kcmp where a report is made, or opens a socket that is not local" {
  local call
  assert_passes cloud-hypervisor call=socket,1,2 set-xsave=0x7 call=getpid call=fcntl,2,3
  for call in kcmp pidfd_open dup3 getppid readlinkat process_vm_readv ppoll socket,2,2; do
    assert_bites cloud-hypervisor set-xsave=0x7 "call=$call" set-xcrs=0x7
  done
}

@test "StratoVirt's filter kills a VMM that makes KVM_GET_CPUID2, or other calls of fcntl and futex than its own" {
  local call
  assert_passes stratovirt call=fcntl,2,1 call=fcntl,2,1030,9 call=futex,0,129 set-xsave=0x7 call=getpid
  assert_bites stratovirt set-xsave=0x7 get-cpuid2
  assert_bites stratovirt set-xsave=0x7 save get-cpuid2
  for call in kcmp getuid getppid poll kill,0,0 tkill pidfd_open pipe2 nanosleep sched_yield madvise fcntl,2,3 futex,0,1 readlinkat dup3; do
    assert_bites stratovirt set-xsave=0x7 "call=$call" set-xcrs=0x7
  done
}

# ---- every log, at every level ----

assert_every_log_at_every_level() { # MODE VMM
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
        supervisor:notice) expected+=" error:will-be-refused:KVM_SET_XSAVE" ;;
        supervisor:error) expected=error:will-be-refused:KVM_SET_XSAVE ;;
        supervisor:debug) expected="debug:learn:KVM_SET_CPUID2 $expected error:will-be-refused:KVM_SET_XSAVE" ;;
      esac
      run_filtered "$@" "${settings[@]}" 0x7 set-xsave="$leaky" set-xsave-compacted=0x7 set-xcrs=0x7 save
      assert_ended "${trimmed[@]}" 'set-xsave-compacted=0x7: EINVAL xstate_bv=0x7' 'set-xcrs=0x7: 0'
      assert_reported_in "$target" "$expected"
    done
  done
}

@test "the library under Firecracker's filter: every log, at every level" {
  assert_every_log_at_every_level library firecracker
}

@test "the library under Cloud Hypervisor's filter: every log, at every level" {
  assert_every_log_at_every_level library cloud-hypervisor
}

@test "the library under StratoVirt's filter: every log, at every level" {
  assert_every_log_at_every_level library stratovirt
}

@test "the supervisor under Firecracker's filter: every log, at every level" {
  assert_every_log_at_every_level supervisor firecracker
}

@test "the supervisor under Cloud Hypervisor's filter: every log, at every level" {
  assert_every_log_at_every_level supervisor cloud-hypervisor
}

@test "the supervisor under StratoVirt's filter: every log, at every level" {
  assert_every_log_at_every_level supervisor stratovirt
}

# ---- where the log does not take a line ----

# StratoVirt points descriptor 2 at /dev/null before KVM_CREATE_VM where it becomes a daemon, QEMU after KVM_SET_CPUID2.

# each MODE COMMAND...    the command, with the host mode and each VMM behind it
each() {
  local name
  for name in "${vmms[@]}"; do "${@:2}" "$1" "$name"; done
}

assert_restores_and_reports_in() { # PLACE MODE VMM [VARIABLE=VALUE]... STEP...
  local place=$1 mode=$2 name=$3 environment=()
  shift 3
  while [[ ${1:-} =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  run_filtered "$mode" "$name" "${environment[@]}" 0x7 "$@" set-xsave="$leaky" save
  assert_ended "${trimmed[@]}"
  assert_reported_in "$place" "$(trims "$mode" "$name")"
}

stderr_closed() {
  assert_restores_and_reports_in syslog "$@" close=2
}

stderr_null() {
  assert_restores_and_reports_in syslog "$@" close=2 open=/dev/null
}

stderr_null_from_the_start() {
  assert_restores_and_reports_in syslog "$@" close=2 open=/dev/null start
}

stderr_taken_over() {
  : >"$disk"
  assert_restores_and_reports_in syslog "$@" close=2 "open=$disk"
  [[ $output == *"open=$disk: 2"* && ! -s $disk ]] || blame "a line is in the disk image: $(<"$disk")"
}

log_full() {
  assert_restores_and_reports_in stderr "$@" XSAVESHIM_LOG=/dev/full
}

log_full_and_no_stderr() {
  assert_restores_and_reports_in syslog "$@" XSAVESHIM_LOG=/dev/full close=2
}

no_syslog() {
  assert_restores_and_reports_in stderr "$@" XSAVESHIM_LOG=syslog
}

@test "the library under each filter: a standard error that the VMM has closed, pointed at /dev/null, or given to its disk image" {
  listen
  each library stderr_closed
  each library stderr_null
  each library stderr_null_from_the_start
  each library stderr_taken_over
}

@test "the supervisor under each filter: a standard error that the VMM has closed, pointed at /dev/null, or given to its disk image" {
  listen
  each supervisor stderr_closed
  each supervisor stderr_null
  each supervisor stderr_null_from_the_start
  each supervisor stderr_taken_over
}

@test "the library under each filter: a log on a full disk, with and without a standard error" {
  listen
  each library log_full
  each library log_full_and_no_stderr
}

@test "the supervisor under each filter: a log on a full disk, with and without a standard error" {
  listen
  each supervisor log_full
  each supervisor log_full_and_no_stderr
}

starts_without_stderr() { # MODE VMM
  run_without() { filtered "$@" 2>&-; }
  : >"$messages"
  case_=("$@" 'without a standard error')
  run run_without "$@" 0x7 set-xsave="$leaky" save
  stderr=
  assert_ended "${trimmed[@]}"
  assert_reported_in syslog "$(trims "$@")"
  run_without() { filtered "$@" 2>/dev/null; }
  : >"$messages"
  case_=("$@" 'with /dev/null for a standard error')
  run run_without "$@" 0x7 set-xsave="$leaky" save
  stderr=
  assert_ended "${trimmed[@]}"
  assert_reported_in syslog "$(trims "$@")"
}

@test "the library under each filter: a VMM that starts without a standard error, or with /dev/null for it" {
  listen
  each library starts_without_stderr
}

@test "the supervisor under each filter: a VMM that starts without a standard error, or with /dev/null for it" {
  listen
  each supervisor starts_without_stderr
}

# From the VMM's KVM_SET_CPUID2 to its payload syslogd is another.
syslogd_restarts() { # MODE VMM
  local status=0
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

@test "the library under each filter: reports reach a syslogd that was started anew" {
  each library syslogd_restarts
}

@test "the supervisor under each filter: reports reach a syslogd that was started anew" {
  each supervisor syslogd_restarts
}

# A standard error that somebody else has filled, and reads later.
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
  # ends with the pipe's last writer, but for this shell
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

@test "the library under each filter: a full pipe for a standard error, with a reader, loses nothing" {
  each library full_pipe_with_a_reader
}

@test "the supervisor under each filter: a full pipe for a standard error, with a reader, loses nothing" {
  each supervisor full_pipe_with_a_reader
}

# ---- what is refused or lost ----

@test "the library under each filter: KVM_SET_XCRS taken, refused, and taken for state that is lost" {
  local name
  for name in "${vmms[@]}"; do
    run_filtered library "$name" 0x7 set-xsave=0x7 set-xcrs=0x7
    assert_ended 'set-xcrs=0x7: 0' end
    assert_reported_in none ""
    run_filtered library "$name" 0x7 set-xsave=0x7 "set-xcrs=$leaky"
    assert_ended "set-xcrs=$leaky: EINVAL" end
    assert_reported_in stderr error:refused:KVM_SET_XCRS
    run_filtered library "$name" KERNEL_TAKES_XCRS=1 0x3 set-xsave=0x7 set-xcrs=0x7
    assert_ended 'set-xsave=0x7: 0 xstate_bv=0x3' 'set-xcrs=0x7: 0' end
    assert_reported_in stderr "notice:trim:KVM_SET_XSAVE error:lost:KVM_SET_XCRS"
  done
}

@test "the supervisor under each filter: KVM_SET_XCRS taken, refused, and taken for state that is lost" {
  local name
  for name in "${vmms[@]}"; do
    run_filtered supervisor "$name" 0x7 set-xsave=0x7 set-xcrs=0x7
    assert_ended 'set-xcrs=0x7: 0' end
    assert_reported_in none ""
    run_filtered supervisor "$name" 0x7 set-xsave=0x7 "set-xcrs=$leaky"
    assert_ended "set-xcrs=$leaky: EINVAL" end
    run_filtered supervisor "$name" KERNEL_TAKES_XCRS=1 0x3 set-xsave=0x7 set-xcrs=0x7
    assert_ended 'set-xsave=0x7: 0 xstate_bv=0x3' 'set-xcrs=0x7: 0' end
    assert_reported_in stderr "notice:trim:KVM_SET_XSAVE error:will-be-lost:KVM_SET_XCRS"
  done
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

@test "the library under each filter: abort ends the VMM where a payload or KVM_SET_XCRS is refused, or state is lost" {
  local name
  for name in "${vmms[@]}"; do
    assert_aborts error:refused:KVM_SET_XSAVE library "$name" 0x7 set-xsave-compacted=0x7
    assert_aborts error:refused:KVM_SET_XCRS library "$name" 0x7 set-xsave=0x7 "set-xcrs=$leaky"
    assert_aborts "notice:trim:KVM_SET_XSAVE error:lost:KVM_SET_XCRS" library "$name" KERNEL_TAKES_XCRS=1 0x3 set-xsave=0x7 set-xcrs=0x7
  done
}

@test "the supervisor under each filter: abort ends the VMM where a payload will be refused, or state will be lost" {
  local name
  for name in "${vmms[@]}"; do
    assert_aborts error:will-be-refused:KVM_SET_XSAVE supervisor "$name" 0x7 set-xsave-compacted=0x7
    assert_aborts "notice:trim:KVM_SET_XSAVE error:will-be-lost:KVM_SET_XCRS" supervisor "$name" KERNEL_TAKES_XCRS=1 0x3 set-xsave=0x7 set-xcrs=0x7
  done
}

@test "the library under each filter that lets KVM_GET_CPUID2 pass: FP and SSE are loaded under a widened CPUID" {
  local name
  for name in firecracker cloud-hypervisor; do
    run_filtered bare "$name" KERNEL_STRICT=1 none set-xsave=0x3
    assert_ended 'set-xsave=0x3: EINVAL xstate_bv=0x3' end
    run_filtered library "$name" KERNEL_STRICT=1 XSAVESHIM_TRIM=restore none set-xsave=0x3 save
    assert_ended 'set-xsave=0x3: 0 xstate_bv=0x3' end
    assert_reported_in stderr notice:load-widened:KVM_SET_XSAVE
  done
}
