# SPDX-License-Identifier: MIT
# bats file_tags=kvm,cpus:2
# Tests the library and the supervisor in races between threads, and after faults such as a full disk or a dead supervisor.

load lib

restore=(create 0 cpuid 0xd=0x7 set-xsave 0x207)
restored='set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
slow=${XSTEST_SLOW:-1}
own_mounts=-m
((EUID == 0)) || own_mounts=-rm
event='level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru'

setup() {
  export XSAVESHIM_REFUSED=report
  work=$BATS_TEST_TMPDIR
}

teardown() {
  [[ -z ${vmm_pid:-} ]] || kill -KILL "$vmm_pid" 2>/dev/null || true
  [[ -z ${group:-} ]] || wait_for 10 rmdir "$group"
}

# assert_storm_agrees VARIABLE=VALUE...    runs test/vmm/storm.c with 64 threads and these environment variables. Checks that each
# KVM_SET_XSAVE has the errno and the payload that storm.c expects, that the number of trim reports lies between the number of vCPUs
# with a trimmed payload and the number of trims, and that every report is a whole line.
assert_storm_agrees() {
  local rounds=$((20 / slow)) restores trims trimmed
  ((rounds == 20)) || echo "# storm runs $rounds rounds instead of 20, because XSTEST_SLOW is $slow" >&3
  run timeout 300 env "$@" XSAVESHIM_LOG="$work/log" "$build/test/storm" 64 "$rounds"
  ((status == 0)) || fail "exit status $status" "$output" || return
  [[ $output =~ ^restores=([0-9]+)\ trims=([0-9]+)\ trimmed=([0-9]+)\ mismatches=0$ ]] || fail "$output" || return
  restores=${BASH_REMATCH[1]} trims=${BASH_REMATCH[2]} trimmed=${BASH_REMATCH[3]}
  ((restores >= 500 * rounds && trims >= 400 * rounds && trimmed >= 100 * rounds)) || fail "$output" || return
  run grep -cE '^xsaveshim: level=notice event=trim pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=[0-2?] fd=[0-9]+ [a-z0-9_=, ]*$' \
    "$work/log"
  ((output >= trimmed && output <= trims)) || fail "expected $trimmed to $trims trim reports, but the log has $output" || return
  run grep -vE '^xsaveshim: level=(notice event=trim|error event=refused) [^:]*(reason=[a-z-]*(:[a-z0-9_,]*)?)?( count=[0-9]+)?$' \
    "$work/log"
  [[ -z $output ]] || fail "torn lines:" "$output"
}

# ---- many threads ----

@test "if 64 threads create, restore and close vCPUs of a fake KVM at once, the library trims each payload correctly, and each report is a whole line" {
  assert_storm_agrees LD_PRELOAD="$shim $standin" DEVICE=/dev/null
}

@test "if 64 threads create, restore and close vCPUs of real KVM at once, the library trims each payload correctly, and each report is a whole line" {
  assert_storm_agrees LD_PRELOAD="$shim"
}

@test "if the library is not preloaded, the test program storm counts the payloads that nobody trimmed as mismatches" {
  run timeout 60 env LD_PRELOAD="$standin" DEVICE=/dev/null "$build/test/storm" 4 2
  ((status == 1)) || fail "exit status $status" "$output"
  [[ $output =~ mismatches=[1-9] ]] || fail "$output"
}

# ---- the log ----

@test "if the log's disk is full, a VMM's reports go to stderr; after space is freed, the next VMM's reports go to the log" {
  run --separate-stderr timeout 60 unshare "$own_mounts" bash -euc '
    mount -t tmpfs -o size=8k none "$1"
    export LD_PRELOAD="$2 $3" XSAVESHIM_LOG=$1/log DEVICE=/dev/null
    : >"$1/log"
    LD_PRELOAD= head -c 1M /dev/zero >"$1/fill" 2>/dev/null || true
    "$4" "${@:5}"
    LD_PRELOAD= rm "$1/fill"
    "$4" "${@:5}"
    LD_PRELOAD= cat "$1/log" >&4
  ' - "$work" "$shim" "$standin" "$vmm" "${restore[@]}" 4>"$BATS_FILE_TMPDIR/log"
  assert_printed "$restored"
  [[ $(grep -cxF -- "$restored" <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$event"
  stderr=$(<"$BATS_FILE_TMPDIR/log")
  assert_reported "$event"
}

@test "if a VMM starts with stderr closed, the library still trims the payload, and the VMM runs on" {
  run timeout 60 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null bash -c 'exec "$@" 2>&-' - "$vmm" "${restore[@]}"
  assert_printed "$restored"
}

@test "if a VMM closes stderr before it loads a payload, the library still trims the payload, and writes no report" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 fd 2 close vcpu 0 set-xsave 0x207
  assert_printed "$restored"
  assert_no_report
}

@test "if a disk image gets the descriptor number of stderr or of the library's log, the library writes no report into the disk image" {
  local target
  for target in stderr "$work/log" syslog; do
    rm -f "$work"/disk* && : >"$work/disk"
    run_shimmed_standin XSAVESHIM_LOG="$target" create 0 cpuid 0xd=0x7 file "$work/disk" dup-to 2 dup-to 1000 dup-to 1001 \
      vcpu 0 set-xsave 0x207 set-xsave 0x7,xcomp_bv=1
    assert_printed "$restored" 'dup-to 2: 2' 'dup-to 1000: 1000'
    [[ ! -s $work/disk ]] || fail "with XSAVESHIM_LOG=$target, the library wrote into the disk image:" "$(cat "$work/disk")"
  done
  rm -f "$work/disk2" && : >"$work/disk2"
  run_shimmed_standin create 0 cpuid 0xd=0x7 fd 2 close file "$work/disk2" vcpu 0 set-xsave 0x207
  assert_printed "$restored" "file $work/disk2: 2"
  [[ ! -s $work/disk2 ]] || fail "the library wrote into the disk image:" "$(cat "$work/disk2")"
}

@test "if a VMM closes a vCPU's descriptor or reuses its number for another file, KVM_SET_XSAVE on this number changes no payload and is not reported" {
  need_kvm
  run_shimmed XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 close file /dev/null set-xsave 0x7 close set-xsave 0x7
  assert_printed 'set-xsave 0x7: ENOTTY xstate_bv=0x7 rest=same' 'set-xsave 0x7: EBADF xstate_bv=0x7 rest=same'
  [[ $(sed -nE 's/^(create 0|file .*): ([0-9]+)$/\2/p' <<<"$output" | uniq | wc -l) == 1 ]] || fail "$(outcome)"
  assert_no_report
}

@test "if a VMM ignores SIGPIPE and its stderr is a pipe without a reader, the library still trims, and the VMM runs on" {
  run timeout 60 bash -c 'trap "" PIPE; exec 4> >(exit 0); wait $!; exec env "${@:2}" 2>&4 4>&-' - \
    "" LD_PRELOAD="$shim $standin" DEVICE=/dev/null "$vmm" "${restore[@]}"
  assert_printed "$restored"
}

# Makes a full pipe at $work/pipe. Descriptor 5 of this shell keeps the pipe open.
full_pipe() {
  mkfifo "$work/pipe"
  exec 5<>"$work/pipe"
  dd if=/dev/zero of="$work/pipe" bs=4096 oflag=nonblock 2>/dev/null && fail 'dd came to an end' && return 1
  dd if=/dev/zero of="$work/pipe" bs=1 oflag=nonblock 2>/dev/null && fail 'dd came to an end' && return 1
  true
}

writes_to_stderr() {
  [[ $(cat "/proc/$vmm_pid/syscall") == '1 0x2 '* ]]
}

@test "if stderr is a full pipe, the VMM waits in KVM_SET_XSAVE until a reader empties the pipe, and the library's report is not lost" {
  full_pipe
  env LD_PRELOAD="$shim $standin" DEVICE=/dev/null "$vmm" "${restore[@]}" >"$work/out" 2>"$work/pipe" 3>&- 5<&- &
  vmm_pid=$!
  wait_for $((20 * slow)) writes_to_stderr
  run timeout 20 grep -a -o -m 1 'xsaveshim: .*' <&5
  wait_for $((20 * slow)) grep -qxF -- "$restored" "$work/out"
  wait "$vmm_pid"
  stderr=$output
  assert_reported "$event"
}

@test "if XSAVESHIM_LOG names a FIFO, the library reports that the log is not a regular file, and writes all reports to stderr" {
  full_pipe
  run_shimmed_standin XSAVESHIM_LOG="$work/pipe" "${restore[@]}"
  assert_printed "$restored"
  assert_reported "level=error event=log target=$work/pipe error=\"Not a regular file\" using=stderr" "$event"
}

@test "with XSAVESHIM_LOG=syslog, if syslogd is stopped and its socket is full, the library writes reports to stderr, and the VMM does not wait" {
  local restores=()
  mkdir "$work/dev"
  touch "$work/dev/null"
  # a socket that nobody reads can hold some reports, but not the reports of 600 vCPUs
  for id in {1..600}; do restores+=(create "$id" cpuid 0xd=0x7 set-xsave 0x207); done
  run --separate-stderr timeout 60 unshare "$own_mounts" bash -euc '
    mount --bind /dev/null "$1/null"
    mount --rbind "$1" /dev
    socat -u UNIX-RECV:/dev/log OPEN:/dev/null 3>&- &
    until [[ -S /dev/log ]]; do :; done
    kill -STOP $!
    env "${@:2}"
    kill -KILL $!
  ' - "$work/dev" LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG=syslog "$vmm" "${restores[@]}"
  assert_printed "$restored"
  [[ $(grep -cxF -- "$restored" <<<"$output") == 600 ]] || fail "$(outcome)"
  grep -q 'event=trim' <<<"$stderr" || fail "$(outcome)"
}

# ---- settings ----

@test "with each of 200 settings files of random bytes, the library trims the payload, and each report is a whole line of printable text" {
  local files=$((200 / slow))
  ((files == 200)) || echo "# $files random settings files instead of 200, because XSTEST_SLOW is $slow" >&3
  mkdir "$work/etc"
  run --separate-stderr timeout 120 unshare "$own_mounts" bash -euc '
    mount --bind "$1" /etc
    for ((i = 1; i <= $2; i++)); do
      { printf "XSAVESHIM_LOG=\nXSAVESHIM_TRIM="; head -c $((i * 16000 / $2)) /dev/urandom; } >/etc/xsaveshim.conf
      env "${@:3}"
    done
  ' - "$work/etc" "$files" LD_PRELOAD="$shim $standin" DEVICE=/dev/null "$vmm" "${restore[@]}"
  assert_printed "$restored"
  [[ $(grep -cxF -- "$restored" <<<"$output") == "$files" ]] || fail "$(outcome)"
  [[ $(grep -c ' event=trim ' <<<"$stderr") == "$files" ]] || fail "$(outcome)"
  run env LC_ALL=C grep -avE '^xsaveshim: level=(error event=setting|notice event=trim) [ -~]+$' <<<"$stderr"
  [[ -z $output ]] || fail "not reports:" "$output"
}

# ---- resources ----

@test "if the VMM uses up all descriptor numbers after the library opened its log, the library trims a payload and reports the trim in this log" {
  local creates=()
  for id in {1..40}; do creates+=(create "$id"); done
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG="$work/log" \
    bash -c 'ulimit -n 32; exec "$@" 3>&- 4>&-' - "$vmm" create 0 cpuid 0xd=0x7 "${creates[@]}" vcpu 0 set-xsave 0x207
  assert_printed 'create 40: EMFILE' "$restored"
  assert_no_report
  stderr=$(<"$work/log")
  assert_reported "$event"
}

@test "if the VMM uses up all descriptor numbers before the library opens its log, the library writes an error and all reports to stderr" {
  local creates=()
  for id in {1..40}; do creates+=(create "$id"); done
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG="$work/log" \
    bash -c 'ulimit -n 32; exec "$@" 3>&- 4>&-' - "$vmm" create 0 "${creates[@]}" vcpu 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'create 40: EMFILE' "$restored"
  assert_reported "level=error event=log target=$work/log error=\"Too many open files\" using=stderr" "$event"
}

# ---- ioctls that fail ----

# Runs a VMM four times. In each run, the fake KVM fails another ioctl with ERRNO: KVM_SET_CPUID2, KVM_GET_CPUID2, KVM_CREATE_VCPU,
# KVM_GET_XSAVE. Checks that the VMM gets ERRNO, and that the library ignores the CPUID table or payload in the failed ioctl's
# buffer.
assert_answers() { # ERRNO
  local not_learned='set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_ANSWER="KVM_SET_CPUID2=$1" STANDIN_SUPPORTED=0x3 "${restore[@]}"
  assert_printed "cpuid 0xd=0x7: $1" "$not_learned"
  run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$1" create 0 cpuid 0xd=0x7 dup set-xsave 0x207 get-cpuid none
  assert_printed "$not_learned"
  [[ $output == *"get-cpuid none: $1"* ]] || fail "$(outcome)"
  assert_no_report
  run_shimmed_standin STANDIN_ANSWER="KVM_CREATE_VCPU=$1" create 0
  assert_printed "create 0: $1"
  assert_no_report
  run_shimmed_standin XSAVESHIM_TRIM=both STANDIN_LEAK=0x200 STANDIN_ANSWER="KVM_GET_XSAVE=$1" \
    create 0 cpuid 0xd=0x7 get-xsave
  [[ $output == *"get-xsave: $1 xstate_bv=0xa5a5a5a5a5a5a5a5 "* ]] || fail "$(outcome)"
  assert_no_report
}

# Checks that the library reports a KVM_SET_XSAVE that failed with ERRNO, and that the report has reason=not-the-payload.
assert_reports() { # ERRNO
  run_shimmed_standin STANDIN_ANSWER="KVM_SET_XSAVE=$1" "${restore[@]}"
  assert_printed "set-xsave 0x207: $1 xstate_bv=0x7 rest=same"
  assert_reported "$event" \
    "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=$1 xstate_bv=0x7 reason=not-the-payload"
}

@test "if a KVM ioctl fails with ENOSYS, the VMM gets ENOSYS, and the library ignores the CPUID table or payload in the failed ioctl's buffer" {
  assert_answers ENOSYS
  assert_reports ENOSYS
}

@test "if a KVM ioctl fails with EINTR, the VMM gets EINTR, and the library ignores the CPUID table or payload in the failed ioctl's buffer" {
  assert_answers EINTR
  assert_reports EINTR
}

@test "with XSAVESHIM_REFUSED=abort, if KVM_SET_XSAVE fails with EIO, EBADF or ENOTTY, the VMM runs on; the library leaves the payload unchanged and reports nothing" {
  local error
  for error in EIO EBADF ENOTTY; do
    assert_answers "$error"
    run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_ANSWER="KVM_SET_XSAVE=$error" "${restore[@]}"
    assert_printed "set-xsave 0x207: $error xstate_bv=0x207 rest=same"
    assert_no_report
  done
}

# ---- the supervisor ----

# Starts a supervised VMM, which creates a vCPU, waits until the test writes a line to descriptor $in, and then runs each STEP. Sets
# the variables vmm_pid (the VMM's process ID), supervisor (the supervisor's process ID) and in.
start_supervised() { # STEP...
  local candidate
  need_kvm
  mkfifo "$work/in"
  exec {in}<>"$work/in"
  "$build/xsaveshim" run --supervise -- "$vmm" mark "$work" create 0 cpuid 0xd=0x7 pause "$@" \
    <"$work/in" >"$work/out" 2>"$work/err" 3>&- &
  vmm_pid=$!
  wait_for $((20 * slow)) grep -q '^pause:' "$work/out"
  for candidate in $(pgrep -f -- "mark $work"); do
    ((candidate == vmm_pid)) || [[ $(</proc/"$candidate"/comm) == xsaveshim-guard ]] || supervisor=$candidate
  done
  [[ $(</proc/"$supervisor"/comm) == xsaveshim ]]
}

waits_for_supervisor() {
  waits_in seccomp 16 "$vmm_pid" # system call 16 is ioctl
}

@test "while SIGSTOP stops the supervisor, KVM_SET_XSAVE waits but KVM_RUN does not; after SIGCONT, the supervisor trims the payload and reports the trim" {
  start_supervised get-xsave run set-xsave 0x1000000000000207
  kill -STOP "$supervisor"
  wait_for $((20 * slow)) is_stopped "$supervisor"
  echo >&"$in"
  wait_for $((20 * slow)) waits_for_supervisor
  grep -qx 'run: 0 exit=hlt' "$work/out"
  kill -CONT "$supervisor"
  wait "$vmm_pid"
  grep -qE '^set-xsave 0x1000000000000207: 0 xstate_bv=0x7 rest=same$' "$work/out"
  stderr=$(<"$work/err")
  assert_reported "level=notice event=trim via=supervisor ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x1000000000000207 `
    `allowed=0x7 after=0x7 dropped=pkru,bit60"
}

# Makes the OOM killer end the process PID: another process fills the memory of PID's cgroup. If the test does not run as
# root, or there are no memory cgroups, sends SIGKILL to PID.
oom_kill() { # PID
  if ((EUID != 0)) || ! grep -qsw memory /sys/fs/cgroup/cgroup.subtree_control; then
    echo "# not root, or no memory cgroups: SIGKILL ends the process in place of the OOM killer" >&3
    kill -KILL "$1"
    return
  fi
  group=/sys/fs/cgroup/xsaveshim-oom.$$
  mkdir "$group"
  echo 8M >"$group/memory.max"
  [[ ! -e $group/memory.swap.max ]] || echo 0 >"$group/memory.swap.max"
  echo 1000 >"/proc/$1/oom_score_adj"
  echo "$1" >"$group/cgroup.procs"
  run timeout 60 sh -c 'echo -500 >/proc/$$/oom_score_adj && echo $$ >"$1/cgroup.procs" && exec tail /dev/zero' - "$group"
  ((status == 128 + 9))
  grep -qx 'oom_kill 2' "$group/memory.events"
}

@test "with XSAVESHIM_REFUSED=report, if the OOM killer ends the supervisor, the VMM runs on: KVM_RUN works, and KVM_SET_XSAVE fails with ENOSYS" {
  start_supervised get-xsave run set-xsave 0x207
  oom_kill "$supervisor"
  echo >&"$in"
  wait "$vmm_pid"
  grep -qx 'run: 0 exit=hlt' "$work/out"
  grep -qx 'set-xsave 0x207: ENOSYS xstate_bv=0x207 rest=same' "$work/out"
}

@test "if the supervisor may not read the VMM's memory, it does not trim the payload, and reports event=not-trimmed for KVM_SET_CPUID2 and for KVM_SET_XSAVE" {
  local public
  need_kvm
  make_public "$build/xsaveshim" "$vmm"
  chmod 711 "$public/vmm" # the supervisor may read a VMM's memory only if it may read the VMM's program file
  # shellcheck disable=SC2046 # two numbers
  mknod -m 666 "$public/kvm" c $((0x$(stat -c %t /dev/kvm))) $((0x$(stat -c %T /dev/kvm)))
  run --separate-stderr timeout 60 env DEVICE="$public/kvm" setpriv --reuid nobody --regid nogroup --clear-groups \
    "$public/xsaveshim" run --supervise -- sh -c 'exec "$@"' - "$public/vmm" create 0 cpuid 0xd=0x7 set-xsave 0x1000000000000207
  rm -rf "$public"
  assert_printed 'set-xsave 0x1000000000000207: EINVAL xstate_bv=0x1000000000000207 rest=same'
  [[ $(grep -c '^xsaveshim: level=error event=not-trimmed via=supervisor .* reason=memory-not-readable error=' <<<"$stderr") == 2 ]] || fail "$(outcome)"
}
