# SPDX-License-Identifier: MIT
# Every setting: each value and each bad one, from the environment and from /etc/xsaveshim.conf; and where reports go.

load lib

setup() {
  log=$BATS_TEST_TMPDIR/log
  mkdir "$etc"
}

teardown() {
  stop_listening
  [[ -z ${vmm_pid:-} ]] || kill "$vmm_pid" 2>/dev/null || true
}

# [VARIABLE=VALUE]... STEP...    in front of the stand-in for KVM, which leaks PKRU when asked for a payload
run_private() {
  local environment=(LD_PRELOAD="$shim $standin" DEVICE=/dev/null STANDIN_LEAK=0x200)
  while [[ ${1:-} =~ ^[A-Z_0-9]+= ]]; do environment+=("$1"); shift; done
  run --separate-stderr privately timeout 60 env "${environment[@]}" "$vmm" "$@"
}

conf() { # LINE...
  printf '%s\n' "$@" >"$etc/xsaveshim.conf"
}

# KEY VALUE [COMMAND...]: the command, once with the setting from the environment, once from the file.
from_both() {
  local key=$1 value=$2
  shift 2
  rm -f "$etc/xsaveshim.conf"
  "$@" environment "$key=$value"
  conf "$key=$value"
  "$@" /etc/xsaveshim.conf
}

trimmed="level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru"
trim_steps=(create 0 cpuid 0xd=0x7 set-xsave 0x207)

assert_trimmed() {
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

# ---- XSAVESHIM_TRIM ----

assert_trim() { # SET-XSAVE GET-XSAVE EVENTS SOURCE [SETTING]
  run_private "${@:5}" create 0 cpuid 0xd=0x7 set-xsave 0x7 set-xsave 0x207 get-xsave get-xsave2
  assert_printed "set-xsave 0x207: $1 rest=same"
  [[ $(grep -cE "^get-xsave2?: 0 xstate_bv=$2 " <<<"$output") == 2 ]] || fail "$(outcome)"
  [[ $(sed -nE 's/.* event=((would-)?trim) .*ioctl=(KVM_[A-Z0-9_]*) .*/\1:\3/p' <<<"$stderr" | xargs) == "$3" ]] ||
    fail "expected these events: $3" "$(outcome)"
}

@test "XSAVESHIM_TRIM=restore trims what the VMM sets" {
  from_both XSAVESHIM_TRIM restore assert_trim "0 xstate_bv=0x7" 0x207 trim:KVM_SET_XSAVE
}

@test "without XSAVESHIM_TRIM the same is trimmed as with restore" {
  assert_trim "0 xstate_bv=0x7" 0x207 trim:KVM_SET_XSAVE default
}

@test "XSAVESHIM_TRIM=save trims what the VMM gets, and only observes what it sets" {
  from_both XSAVESHIM_TRIM save assert_trim "EINVAL xstate_bv=0x207" 0x7 \
    "would-trim:KVM_SET_XSAVE trim:KVM_GET_XSAVE"
}

@test "XSAVESHIM_TRIM=both trims both" {
  from_both XSAVESHIM_TRIM both assert_trim "0 xstate_bv=0x7" 0x7 \
    "trim:KVM_SET_XSAVE trim:KVM_GET_XSAVE"
}

@test "XSAVESHIM_TRIM=none trims nothing and reports what would have been dropped" {
  from_both XSAVESHIM_TRIM none assert_trim "EINVAL xstate_bv=0x207" 0x207 \
    "would-trim:KVM_SET_XSAVE would-trim:KVM_GET_XSAVE"
}

@test "XSAVESHIM_TRIM=none reports with the same keys, the written value being the old one" {
  run_private XSAVESHIM_TRIM=none STANDIN_ANSWER=KVM_SET_XSAVE=0 "${trim_steps[@]}"
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_reported "level=notice event=would-trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x207 `
    `dropped=pkru"
}

# ---- XSAVESHIM_REFUSED ----

refusal="level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=0x7 reason=xcomp-bv:0x1"

assert_report() { # SOURCE [SETTING]
  run_private "${@:2}" create 0 cpuid 0xd=0x7 set-xsave 0x7,xcomp_bv=1 set-xsave 0x7
  assert_printed 'set-xsave 0x7,xcomp_bv=1: EINVAL xstate_bv=0x7 rest=same' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_reported "$refusal"
}

assert_abort() { # SOURCE [SETTING]
  run_private "${@:2}" create 0 cpuid 0xd=0x7 set-xsave 0x7 set-xsave 0x7,xcomp_bv=1 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  [[ $output == *'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'* && $output != *'set-xsave 0x3'* ]]
  assert_reported "$refusal"
}

@test "XSAVESHIM_REFUSED=report reports a refusal and has the VMM run on" {
  from_both XSAVESHIM_REFUSED report assert_report
}

@test "without XSAVESHIM_REFUSED the VMM runs on as with report" {
  assert_report default
}

@test "XSAVESHIM_REFUSED=abort ends the VMM after the report, and only then" {
  from_both XSAVESHIM_REFUSED abort assert_abort
}

# ---- XSAVESHIM_LOG ----

assert_stderr() { # SOURCE [SETTING]
  run_private "${@:2}" "${trim_steps[@]}"
  assert_trimmed
  assert_reported "$trimmed"
}

assert_silent() { # SOURCE [SETTING]
  run_private "${@:2}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  assert_no_report
}

assert_file() { # SOURCE [SETTING]
  rm -f "$log"
  run_private "${@:2}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  assert_no_report
  stderr=$(<"$log")
  assert_reported "$trimmed" "$refusal"
}

@test "XSAVESHIM_LOG=stderr reports to stderr" {
  from_both XSAVESHIM_LOG stderr assert_stderr
}

@test "without XSAVESHIM_LOG reports go to stderr" {
  assert_stderr default
}

@test "XSAVESHIM_LOG=none reports nowhere, and trims" {
  from_both XSAVESHIM_LOG none assert_silent
}

@test "XSAVESHIM_LOG=/a/path reports to that file" {
  from_both XSAVESHIM_LOG "$log" assert_file
}

@test "a log file is created for its owner alone, whatever the umask" {
  umask 0
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  [[ $(stat -c %a "$log") == 600 ]]
}

@test "a log file is appended to" {
  echo before >"$log"
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  [[ $(sed 's/ .*//' "$log" | xargs) == 'before xsaveshim: xsaveshim:' ]]
}

@test "a log file is opened once, and so that neither a program started later nor a symbolic link gets at it" {
  local opened
  run --separate-stderr timeout 60 strace -f -qq -e trace=openat,open -o "$BATS_TEST_TMPDIR/trace" \
    -E LD_PRELOAD="$shim $standin" -E DEVICE=/dev/null -E XSAVESHIM_LOG="$log" \
    "$vmm" "${trim_steps[@]}" cpuid 0xd=0x7 set-xsave 0x217 set-xsave 0x7,xcomp_bv=1
  [[ $(wc -l <"$log") == 3 ]]
  opened=$(grep -F "\"$log\"" "$BATS_TEST_TMPDIR/trace")
  [[ $(wc -l <<<"$opened") == 1 ]]
  [[ $opened == *O_APPEND* && $opened == *O_CLOEXEC* && $opened == *O_NOFOLLOW* && $opened == *0600* ]]
}

@test "a log file's descriptor is not inherited by a program that the VMM starts" {
  local fd close_on_exec=02000000
  mkfifo "$BATS_TEST_TMPDIR/in"
  exec 5<>"$BATS_TEST_TMPDIR/in"
  env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG="$log" "$vmm" create 0 cpuid 0xd=0x7 pause \
    <&5 >"$BATS_TEST_TMPDIR/out" 3>&- 5>&- &
  vmm_pid=$!
  wait_for 20 grep -q '^pause:' "$BATS_TEST_TMPDIR/out"
  fd=$(find "/proc/$vmm_pid/fd" -lname "$log" -printf '%f\n')
  ((fd >= 1000)) || fail "the log's descriptor: $fd"
  (($(awk '/^flags:/ { print $2 }' "/proc/$vmm_pid/fdinfo/$fd") & close_on_exec)) || fail "open across exec"
  echo >&5
  wait "$vmm_pid"
  unset vmm_pid
}

@test "a log that is a symbolic link is refused, told so, and stderr used" {
  : >"$BATS_TEST_TMPDIR/target"
  ln -s target "$log"
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  assert_trimmed
  [[ ! -s $BATS_TEST_TMPDIR/target ]]
  assert_reported "level=error event=log target=$log error=\"Too many levels of symbolic links\" using=stderr" "$trimmed"
}

@test "a log file that cannot be opened is told so, and stderr used" {
  run_private XSAVESHIM_LOG=/nonexistent/log "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=log target=/nonexistent/log error="No such file or directory" using=stderr' "$trimmed"
  run_private XSAVESHIM_LOG="$BATS_TEST_TMPDIR" "${trim_steps[@]}"
  assert_trimmed
  assert_reported "level=error event=log target=$BATS_TEST_TMPDIR error=\"Is a directory\" using=stderr" "$trimmed"
}

@test "a FIFO in the log file's place does not hold up the VMM" {
  mkfifo "$log"
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  assert_trimmed
  [[ $stderr == *"event=log pid="*" target=$log "*"$(printf '\nxsaveshim: level=notice event=trim ')"* ]] || fail "$(outcome)"
}

@test "a device as the log file is refused, and reports go to stderr" {
  run_private XSAVESHIM_LOG=/dev/full "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=log target=/dev/full error="Not a regular file" using=stderr' "$trimmed"
}

@test "in a VMM without a stderr, a file that got its descriptor is not written to" {
  : >"$log"
  run_private_without_stderr() {
    privately timeout 60 env LD_PRELOAD="$shim $standin" DEVICE=/dev/null "$vmm" file "$log" \
      "${trim_steps[@]}" 2>&-
  }
  run run_private_without_stderr
  [[ $output == *"file $log: 2"* ]] || fail "$output"
  assert_trimmed
  [[ ! -s $log ]]
}

assert_syslog() { # SOURCE [SETTING]
  : >"$messages"
  run_private "${@:2}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  assert_no_report
  wait_for 10 grep -q event=refused "$messages"
  # datagrams, each with its priority: facility daemon, severity notice and then error
  [[ $(sed -E 's/ pid=[0-9]+//g; s/ fd=[0-9]+/ fd=*/g' "$messages") == \
    "<29>xsaveshim: $trimmed<27>xsaveshim: $refusal" ]] || fail "$(cat "$messages")"
}

@test "XSAVESHIM_LOG=syslog reports to /dev/log" {
  listen
  assert_syslog environment XSAVESHIM_LOG=syslog
  conf XSAVESHIM_LOG=syslog
  : >"$messages"
  assert_syslog file
}

@test "where there is no /dev/log syslog is told missing, and stderr used" {
  mkdir "$dev"
  run_private XSAVESHIM_LOG=syslog "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=log target=syslog error="No such file or directory" using=stderr' "$trimmed"
}

# ---- XSAVESHIM_LOG_LEVEL ----

assert_level() { # EVENTS SOURCE [SETTING]
  run_private "${@:3}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  [[ $(sed -nE 's/^xsaveshim: level=([a-z]+) event=([a-z-]+) .*/\1:\2/p' <<<"$stderr" | xargs) == "$1" ]] ||
    fail "expected these events: $1" "$(outcome)"
}

@test "XSAVESHIM_LOG_LEVEL=notice reports trims and refusals" {
  from_both XSAVESHIM_LOG_LEVEL notice assert_level "notice:trim error:refused"
}

@test "without XSAVESHIM_LOG_LEVEL trims and refusals are reported" {
  assert_level "notice:trim error:refused" default
}

@test "XSAVESHIM_LOG_LEVEL=error reports refusals alone" {
  from_both XSAVESHIM_LOG_LEVEL error assert_level "error:refused"
}

@test "XSAVESHIM_LOG_LEVEL=debug reports what is learned, too" {
  from_both XSAVESHIM_LOG_LEVEL debug assert_level "debug:learn notice:trim error:refused"
}

@test "what is learned is told per vCPU, with the guest's XCR0 and what that allows" {
  run_private XSAVESHIM_LOG_LEVEL=debug create 0 cpuid 0xd=0x204 create 1 cpuid-v1 none dup cpuid 0xd=0x7 \
    create 2 dup cpuid 0xd=0x7 vcpu 2 get-cpuid none
  ((status == 0))
  assert_reported "level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=0 fd=* guest_xcr0=0x204 allowed=0x207" \
    "level=debug event=learn ioctl=KVM_SET_CPUID vcpu=1 fd=* guest_xcr0=0x0 allowed=0x3" \
    "level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=? fd=* guest_xcr0=0x7 allowed=0x7" \
    "level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=? fd=* guest_xcr0=0x7 allowed=0x7" \
    "level=debug event=learn ioctl=KVM_GET_CPUID2 vcpu=2 fd=* guest_xcr0=0x7 allowed=0x7"
}

# ---- where settings come from ----

@test "the environment is preferred to the file" {
  conf XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort XSAVESHIM_LOG=none XSAVESHIM_LOG_LEVEL=error
  run_private XSAVESHIM_TRIM=restore XSAVESHIM_REFUSED=report XSAVESHIM_LOG=stderr XSAVESHIM_LOG_LEVEL=notice \
    "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1 set-xsave 0x3
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
  assert_reported "$trimmed" "$refusal"
}

@test "each setting comes from where it is found, the rest being the default" {
  conf XSAVESHIM_TRIM=both
  run_private XSAVESHIM_LOG_LEVEL=debug create 0 cpuid 0xd=0x7 set-xsave 0x207 get-xsave
  assert_trimmed
  [[ $output == *'get-xsave: 0 xstate_bv=0x7 '* && $stderr == *event=learn* ]] || fail "$(outcome)"
}

@test "the file may have comments, blank lines, white space, a last line without an end, and says it last" {
  printf '%s' $'# the shim\'s\n\n  \t\n#XSAVESHIM_LOG=none\n \tXSAVESHIM_LOG_LEVEL =  error\t\r\n' \
    $'XSAVESHIM_TRIM=none\n  # indented\nXSAVESHIM_TRIM = restore' >"$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  assert_reported "$refusal"
}

@test "a file that is empty or not there is no error, one that is no file is reported" {
  : >"$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_reported "$trimmed"
  rm "$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_reported "$trimmed"
  ln -s nothing "$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_reported "$trimmed"
  rm "$etc/xsaveshim.conf"
  mkdir "$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=setting source=/etc/xsaveshim.conf key=file value="Is a directory" using=nothing-of-it' \
    "$trimmed"
}

@test "a file that may not be read is reported, and the defaults are used" {
  local unprivileged=(setpriv --bounding-set=-all --inh-caps=-all)
  conf XSAVESHIM_TRIM=none
  chmod 0 "$etc/xsaveshim.conf"
  run privately "${unprivileged[@]}" cat /etc/xsaveshim.conf
  [[ $output == *'Permission denied'* ]] || fail "$output"
  run --separate-stderr privately "${unprivileged[@]}" timeout 60 env LD_PRELOAD="$shim $standin" \
    DEVICE=/dev/null "$vmm" "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=setting source=/etc/xsaveshim.conf key=file value="Permission denied" using=nothing-of-it' \
    "$trimmed"
}

@test "a FIFO in the file's place does not hold up the VMM" {
  mkfifo "$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_reported "$trimmed"
}

@test "a file too large to be one of settings is told so and left alone" {
  { echo XSAVESHIM_TRIM=none; printf '#%01000d\n' {1..20}; } >"$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_trimmed
  [[ $stderr == *'event=setting pid='*' source=/etc/xsaveshim.conf '*'too large'*"$(printf '\nxsaveshim: level=notice')"* ]] ||
    fail "$(outcome)"
}

# ---- bad values ----

declare -gA accepted=(
  [TRIM]="restore,save,both,none"
  [REFUSED]="report,abort"
  [LOG]="stderr,syslog,none,/absolute/path"
  [LOG_LEVEL]="notice,error,debug"
)

# A bad value is told, with where it is from, and the default used.
assert_bad() { # KEY TOLD-VALUE SOURCE [SETTING]
  local where=$3
  [[ $where != /* ]] || where+=" line=1"
  run_private "${@:4}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1 get-xsave
  assert_trimmed
  [[ $output == *'get-xsave: 0 xstate_bv=0x207 '* ]]
  assert_reported "level=error event=setting source=$where key=XSAVESHIM_$1 value=$2 using=${accepted[$1]%%,*} `
    `accepted=${accepted[$1]}" "$trimmed" "$refusal"
}

@test "a value that XSAVESHIM_TRIM does not take is told, and restore used" {
  from_both XSAVESHIM_TRIM foo assert_bad TRIM foo
  from_both XSAVESHIM_TRIM Save assert_bad TRIM Save
  from_both XSAVESHIM_TRIM saved assert_bad TRIM saved
  from_both XSAVESHIM_TRIM '' assert_bad TRIM '""'
  from_both XSAVESHIM_TRIM 'no ne' assert_bad TRIM '"no ne"'
  from_both XSAVESHIM_TRIM 'restore,save' assert_bad TRIM 'restore,save'
}

@test "a value that XSAVESHIM_REFUSED does not take is told, and report used" {
  from_both XSAVESHIM_REFUSED exit assert_bad REFUSED exit
  from_both XSAVESHIM_REFUSED '' assert_bad REFUSED '""'
}

@test "a value that XSAVESHIM_LOG does not take is told, and stderr used" {
  cd "$BATS_TEST_TMPDIR"
  from_both XSAVESHIM_LOG file.log assert_bad LOG file.log
  from_both XSAVESHIM_LOG ./file.log assert_bad LOG ./file.log
  from_both XSAVESHIM_LOG '' assert_bad LOG '""'
  [[ ! -e file.log ]]
}

@test "a value that XSAVESHIM_LOG_LEVEL does not take is told, and notice used" {
  from_both XSAVESHIM_LOG_LEVEL warning assert_bad LOG_LEVEL warning
  from_both XSAVESHIM_LOG_LEVEL '' assert_bad LOG_LEVEL '""'
}

@test "a bad value in the environment means the default, not the file's value" {
  conf XSAVESHIM_TRIM=none
  assert_bad TRIM foo environment XSAVESHIM_TRIM=foo
}

@test "a bad value cannot forge a report or break its line" {
  run_private XSAVESHIM_TRIM=$'x\nxsaveshim: level=error event="forged\e[31m' "${trim_steps[@]}"
  assert_trimmed
  [[ $(wc -l <<<"$stderr") == 2 && $stderr != *$'\e'* && $stderr != *'"forged'* ]] || fail "$(outcome)"
}

@test "a bad value is told in the log that the other settings name" {
  run_private XSAVESHIM_TRIM=foo XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  assert_no_report
  grep -q ' event=setting pid=[0-9]* source=environment key=XSAVESHIM_TRIM value=foo ' "$log"
}

@test "a key that does not exist, and a line without a value, are told with the line's number" {
  conf '# settings' XSAVESHIM_TRIMM=none XSAVESHIM_TRIM 'TRIM=none'
  run_private "${trim_steps[@]}"
  assert_trimmed
  assert_reported \
    "level=error event=setting source=/etc/xsaveshim.conf line=2 key=XSAVESHIM_TRIMM value=none using=nothing-of-it" \
    "level=error event=setting source=/etc/xsaveshim.conf line=3 key=XSAVESHIM_TRIM value=\"\" using=restore `
      `accepted=${accepted[TRIM]}" \
    "level=error event=setting source=/etc/xsaveshim.conf line=4 key=TRIM value=none using=nothing-of-it" \
    "$trimmed"
}
