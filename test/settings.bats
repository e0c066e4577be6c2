# SPDX-License-Identifier: MIT
# Tests the library's settings, from the environment and from /etc/xsaveshim.conf, with every accepted value and with bad values.
# Also tests the library's logs.

load lib

# With XSAVESHIM_REFUSED=report, the VMM runs on after KVM has refused a payload. Tests that need the default value (abort) unset
# the variable.
setup() {
  export XSAVESHIM_REFUSED=report
  log=$BATS_TEST_TMPDIR/log
  mkdir "$etc"
}

teardown() {
  stop_listening
  [[ -z ${vmm_pid:-} ]] || kill "$vmm_pid" 2>/dev/null || true
}

# run_private [VARIABLE=VALUE]... STEP...    runs the test VMM's STEPs with the library and the fake KVM. The VMM sees $etc as /etc.
# The fake KVM adds PKRU to the payloads that KVM_GET_XSAVE and KVM_GET_XSAVE2 return.
run_private() {
  local environment=(LD_PRELOAD="$shim $standin" DEVICE=/dev/null STANDIN_LEAK=0x200)
  while [[ ${1:-} =~ ^[A-Z_0-9]+= ]]; do environment+=("$1"); shift; done
  run --separate-stderr privately timeout 60 env "${environment[@]}" "$vmm" "$@"
}

conf() { # LINE...
  printf '%s\n' "$@" >"$etc/xsaveshim.conf"
}

# from_both KEY VALUE COMMAND...    runs `COMMAND... environment KEY=VALUE`, which must start the VMM with KEY=VALUE in its
# environment; then writes KEY=VALUE into /etc/xsaveshim.conf, and runs `COMMAND... /etc/xsaveshim.conf`
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

@test "with XSAVESHIM_TRIM=restore, the default, the library trims the payloads that the VMM restores, but not the payloads that the VMM saves" {
  assert_trim "0 xstate_bv=0x7" 0x207 trim:KVM_SET_XSAVE default
  from_both XSAVESHIM_TRIM restore assert_trim "0 xstate_bv=0x7" 0x207 trim:KVM_SET_XSAVE
}

@test "with XSAVESHIM_TRIM=save, the library trims payloads that the VMM saves; it reports the leaked xfeatures of a payload that the VMM restores, but does not change this payload" {
  from_both XSAVESHIM_TRIM save assert_trim "EINVAL xstate_bv=0x207" 0x7 \
    "would-trim:KVM_SET_XSAVE trim:KVM_GET_XSAVE"
}

@test "with XSAVESHIM_TRIM=both, the library trims both the payloads that the VMM saves and the payloads that the VMM restores" {
  from_both XSAVESHIM_TRIM both assert_trim "0 xstate_bv=0x7" 0x7 \
    "trim:KVM_SET_XSAVE trim:KVM_GET_XSAVE"
}

@test "with XSAVESHIM_TRIM=none, the library changes no payload, but reports the xfeatures that a trim would drop" {
  from_both XSAVESHIM_TRIM none assert_trim "EINVAL xstate_bv=0x207" 0x207 \
    "would-trim:KVM_SET_XSAVE would-trim:KVM_GET_XSAVE"
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
  assert_reported "$refusal action=abort"
}

@test "with XSAVESHIM_REFUSED=report, the library reports a payload that KVM refuses, and the VMM runs on" {
  unset XSAVESHIM_REFUSED
  from_both XSAVESHIM_REFUSED report assert_report
}

@test "with XSAVESHIM_REFUSED=abort, the default, the library reports a payload that KVM refuses, and then ends the VMM" {
  unset XSAVESHIM_REFUSED
  assert_abort default
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
  echo before >"$log"
  run_private "${@:2}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  assert_no_report
  [[ $(head -n 1 "$log") == before ]]
  stderr=$(tail -n +2 "$log")
  assert_reported "$trimmed" "$refusal"
}

@test "with XSAVESHIM_LOG=stderr, the default, the library writes its reports to stderr" {
  assert_stderr default
  from_both XSAVESHIM_LOG stderr assert_stderr
}

@test "with XSAVESHIM_LOG=none, the library trims payloads, but reports nothing" {
  from_both XSAVESHIM_LOG none assert_silent
}

@test "if XSAVESHIM_LOG is an absolute path, the library appends its reports to that file" {
  from_both XSAVESHIM_LOG "$log" assert_file
}

@test "the library creates its log file with mode 0600, even if the umask is 0" {
  umask 0
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  [[ $(stat -c %a "$log") == 600 ]]
}

# This test ignores that the library opens the log a second time, read-only, to map a page of the log. Because of this mapping, no
# new file gets the log's inode number after the log is deleted.
@test "to write three reports, the library opens its log file for writing once, with O_APPEND, O_CLOEXEC and O_NOFOLLOW" {
  local opened
  run --separate-stderr timeout 60 strace -f -qq -e trace=openat,open -o "$BATS_TEST_TMPDIR/trace" \
    -E LD_PRELOAD="$shim $standin" -E DEVICE=/dev/null -E XSAVESHIM_LOG="$log" \
    "$vmm" "${trim_steps[@]}" cpuid 0xd=0x7 set-xsave 0x217 set-xsave 0x7,xcomp_bv=1
  [[ $(wc -l <"$log") == 3 ]]
  opened=$(grep -F "\"$log\"" "$BATS_TEST_TMPDIR/trace" | grep -v O_RDONLY)
  [[ $(wc -l <<<"$opened") == 1 ]]
  [[ $opened == *O_APPEND* && $opened == *O_CLOEXEC* && $opened == *O_NOFOLLOW* && $opened == *0600* ]]
}

@test "programs that the VMM executes do not inherit the library's descriptor of the log file" {
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

@test "if the log file is deleted, and a new disk image gets the log's descriptor number, the image does not get the log's inode number, and the library writes no report to the image" {
  local inode disk=$BATS_TEST_TMPDIR/disk
  mkfifo "$BATS_TEST_TMPDIR/in"
  exec 5<>"$BATS_TEST_TMPDIR/in"
  env LD_PRELOAD="$shim $standin" DEVICE=/dev/null XSAVESHIM_LOG="$log" "$vmm" create 0 cpuid 0xd=0x7 fd 1000 close pause \
    file "$disk" dup-to 1000 vcpu 0 set-xsave 0x207 <&5 >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- 5>&- &
  vmm_pid=$!
  wait_for 20 grep -q '^pause:' "$BATS_TEST_TMPDIR/out"
  inode=$(stat -c %i "$log")
  rm "$log"
  touch "$disk" "$disk".{1..500}
  [[ -z $(find "$BATS_TEST_TMPDIR" -inum "$inode") ]]
  echo >&5
  wait "$vmm_pid"
  unset vmm_pid
  [[ ! -s $disk ]]
  grep -q 'event=trim' "$BATS_TEST_TMPDIR/out"
}

@test "if the log's path is a symbolic link, the library does not follow the link, and writes an error and all reports to stderr" {
  : >"$BATS_TEST_TMPDIR/target"
  ln -s target "$log"
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  assert_trimmed
  [[ ! -s $BATS_TEST_TMPDIR/target ]]
  assert_reported "level=error event=log target=$log error=\"Too many levels of symbolic links\" using=stderr" "$trimmed"
}

@test "if the library cannot open its log file, it writes this error and all reports to stderr" {
  run_private XSAVESHIM_LOG=/nonexistent/log "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=log target=/nonexistent/log error="No such file or directory" using=stderr' "$trimmed"
  run_private XSAVESHIM_LOG="$BATS_TEST_TMPDIR" "${trim_steps[@]}"
  assert_trimmed
  assert_reported "level=error event=log target=$BATS_TEST_TMPDIR error=\"Is a directory\" using=stderr" "$trimmed"
}

@test "if the log file is a FIFO, the VMM does not wait for a reader, and the library writes its reports to stderr" {
  mkfifo "$log"
  run_private XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  assert_trimmed
  [[ $stderr == *"event=log pid="*" target=$log "*"$(printf '\nxsaveshim: level=notice event=trim ')"* ]] || fail "$(outcome)"
}

@test "if the log file is a device, the library does not use it, and writes an error and all reports to stderr" {
  run_private XSAVESHIM_LOG=/dev/full "${trim_steps[@]}"
  assert_trimmed
  assert_reported 'level=error event=log target=/dev/full error="Not a regular file" using=stderr' "$trimmed"
}

@test "if the VMM starts without stderr and opens a file as descriptor 2, the library writes no report to that file" {
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
  # Each report is a datagram without a newline. The number at its start is the priority: 29 is daemon.notice, and 27 is daemon.err.
  [[ $(sed -E 's/ pid=[0-9]+//g; s/ fd=[0-9]+/ fd=*/g' "$messages") == \
    "<29>xsaveshim: $trimmed<27>xsaveshim: $refusal" ]] || fail "$(cat "$messages")"
}

@test "with XSAVESHIM_LOG=syslog, the library sends its reports to /dev/log" {
  listen
  assert_syslog environment XSAVESHIM_LOG=syslog
  conf XSAVESHIM_LOG=syslog
  : >"$messages"
  assert_syslog file
}

@test "with XSAVESHIM_LOG=syslog but no /dev/log, the library writes an error and all reports to stderr" {
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

@test "with XSAVESHIM_LOG_LEVEL=notice, the default, the library reports trims, and payloads that KVM refuses" {
  assert_level "notice:trim error:refused" default
  from_both XSAVESHIM_LOG_LEVEL notice assert_level "notice:trim error:refused"
}

@test "with XSAVESHIM_LOG_LEVEL=error, the library reports payloads that KVM refuses, but no trims" {
  from_both XSAVESHIM_LOG_LEVEL error assert_level "error:refused"
}

@test "with XSAVESHIM_LOG_LEVEL=debug, the library reports trims, payloads that KVM refuses, and each CPUID table that the VMM sets" {
  from_both XSAVESHIM_LOG_LEVEL debug assert_level "debug:learn notice:trim error:refused"
}

@test "the library's report of a CPUID table names the vCPU, the guest's XCR0 and the xfeatures that the vCPU's payloads may keep" {
  run_private XSAVESHIM_LOG_LEVEL=debug create 0 cpuid 0xd=0x204 create 1 cpuid-v1 none dup cpuid 0xd=0x7 \
    create 2 dup cpuid 0xd=0x7 vcpu 2 get-cpuid none
  ((status == 0))
  assert_reported "level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=0 fd=* guest_xcr0=0x204 allowed=0x207" \
    "level=debug event=learn ioctl=KVM_SET_CPUID vcpu=1 fd=* guest_xcr0=0x0 allowed=0x3" \
    "level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=? fd=* guest_xcr0=0x7 allowed=0x7" \
    "level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=? fd=* guest_xcr0=0x7 allowed=0x7" \
    "level=debug event=learn ioctl=KVM_GET_CPUID2 vcpu=2 fd=* guest_xcr0=0x7 allowed=0x7"
}

# ---- the environment and /etc/xsaveshim.conf ----

@test "settings in the environment override the settings in /etc/xsaveshim.conf" {
  conf XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort XSAVESHIM_LOG=none XSAVESHIM_LOG_LEVEL=error
  run_private XSAVESHIM_TRIM=restore XSAVESHIM_REFUSED=report XSAVESHIM_LOG=stderr XSAVESHIM_LOG_LEVEL=notice \
    "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1 set-xsave 0x3
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
  assert_reported "$trimmed" "$refusal"
}

@test "if XSAVESHIM_TRIM is in /etc/xsaveshim.conf, and XSAVESHIM_LOG_LEVEL is in the environment, the library applies both values" {
  conf XSAVESHIM_TRIM=both
  run_private XSAVESHIM_LOG_LEVEL=debug create 0 cpuid 0xd=0x7 set-xsave 0x207 get-xsave
  assert_trimmed
  [[ $output == *'get-xsave: 0 xstate_bv=0x7 '* && $stderr == *event=learn* ]] || fail "$(outcome)"
}

@test "the library accepts comments, blank lines and white space in the settings file; if a setting has several lines, the last line counts" {
  printf '%s' $'# the shim\'s\n\n  \t\n#XSAVESHIM_LOG=none\n \tXSAVESHIM_LOG_LEVEL =  error\t\r\n' \
    $'XSAVESHIM_TRIM=none\n  # indented\nXSAVESHIM_TRIM = restore' >"$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1
  assert_trimmed
  assert_reported "$refusal"
}

@test "the library accepts an empty or missing settings file without a report, but reports an error if the settings file is a directory" {
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

@test "if the VMM's user may not read the settings file, the library reports this error and uses the defaults" {
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

@test "if the settings file is a FIFO, the VMM does not wait for a writer, and the library uses the defaults" {
  mkfifo "$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_reported "$trimmed"
}

@test "if the settings file is larger than 16 KiB, the library reports that the file is too large, and uses the defaults" {
  { echo XSAVESHIM_TRIM=none; printf '#%01000d\n' {1..20}; } >"$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_trimmed
  [[ $stderr == *'event=setting pid='*' source=/etc/xsaveshim.conf '*'too large'*"$(printf '\nxsaveshim: level=notice')"* ]] ||
    fail "$(outcome)"
}

# ---- bad values ----

declare -gA accepted=(
  [TRIM]="restore,save,both,none"
  [LOG]="stderr,syslog,none,/absolute/path"
  [LOG_LEVEL]="notice,error,debug"
)

# assert_bad KEY REPORTED-VALUE SOURCE [SETTING]    runs the test VMM with SETTING in its environment. Checks that the library
# reports REPORTED-VALUE as a bad value from SOURCE (environment or a path), and that the library uses the default of XSAVESHIM_KEY.
assert_bad() {
  local where=$3
  [[ $where != /* ]] || where+=" line=1"
  run_private "${@:4}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1 get-xsave
  assert_trimmed
  [[ $output == *'get-xsave: 0 xstate_bv=0x207 '* ]]
  assert_reported "level=error event=setting source=$where key=XSAVESHIM_$1 value=$2 using=${accepted[$1]%%,*} `
    `accepted=${accepted[$1]}" "$trimmed" "$refusal"
}

@test "if a setting has an invalid value, the library reports the value and uses the setting's default" {
  local value
  cd "$BATS_TEST_TMPDIR"
  for value in foo Save saved 'restore,save'; do from_both XSAVESHIM_TRIM "$value" assert_bad TRIM "$value"; done
  from_both XSAVESHIM_TRIM 'no ne' assert_bad TRIM '"no ne"'
  from_both XSAVESHIM_LOG ./file.log assert_bad LOG ./file.log
  from_both XSAVESHIM_LOG_LEVEL warning assert_bad LOG_LEVEL warning
  for key in TRIM LOG LOG_LEVEL; do from_both "XSAVESHIM_$key" '' assert_bad "$key" '""'; done
  [[ ! -e file.log ]]
}

assert_bad_refused() { # REPORTED-VALUE SOURCE [SETTING]
  local where=$2
  [[ $where != /* ]] || where+=" line=1"
  run_private "${@:3}" "${trim_steps[@]}" set-xsave 0x7,xcomp_bv=1 set-xsave 0x3
  [[ $status == 1 && $output != *'set-xsave 0x3'* ]] || fail "$(outcome)"
  assert_reported "level=error event=setting source=$where key=XSAVESHIM_REFUSED value=$1 using=abort accepted=abort,report" \
    "$trimmed" "$refusal action=abort"
}

@test "if XSAVESHIM_REFUSED has an invalid value, the library reports the value and uses the default, abort" {
  unset XSAVESHIM_REFUSED
  from_both XSAVESHIM_REFUSED exit assert_bad_refused exit
  from_both XSAVESHIM_REFUSED '' assert_bad_refused '""'
}

@test "if a setting's value in the environment is invalid, the library uses the default, even if the settings file has a valid value" {
  conf XSAVESHIM_TRIM=none
  assert_bad TRIM foo environment XSAVESHIM_TRIM=foo
}

@test "if an invalid value has a newline and an escape character, the library reports the value in a single line without these two characters" {
  run_private XSAVESHIM_TRIM=$'x\nxsaveshim: level=error event="forged\e[31m' "${trim_steps[@]}"
  assert_trimmed
  [[ $(wc -l <<<"$stderr") == 2 && $stderr != *$'\e'* && $stderr != *'"forged'* ]] || fail "$(outcome)"
}

@test "the library reports an invalid value of XSAVESHIM_TRIM in the log that XSAVESHIM_LOG names" {
  run_private XSAVESHIM_TRIM=foo XSAVESHIM_LOG="$log" "${trim_steps[@]}"
  assert_no_report
  grep -q ' event=setting pid=[0-9]* source=environment key=XSAVESHIM_TRIM value=foo ' "$log"
}

unknown="using=nothing-of-it accepted=XSAVESHIM_TRIM,XSAVESHIM_REFUSED,XSAVESHIM_LOG,XSAVESHIM_LOG_LEVEL"

@test "if the settings file has an unknown key or a line without KEY=value, the library reports the line's number and ignores the line" {
  conf '# settings' XSAVESHIM_TRIMM=none XSAVESHIM_TRIM garbage
  run_private "${trim_steps[@]}"
  assert_trimmed
  assert_reported \
    "level=error event=setting source=/etc/xsaveshim.conf line=2 key=XSAVESHIM_TRIMM value=none $unknown" \
    "level=error event=setting source=/etc/xsaveshim.conf line=3 key=line value=\"no KEY=value\" using=nothing-of-it" \
    "level=error event=setting source=/etc/xsaveshim.conf line=4 key=line value=\"no KEY=value\" using=nothing-of-it" \
    "$trimmed"
}

@test "if the environment has an unknown variable XSAVESHIM_..., the library reports this variable and lists the accepted ones" {
  run_private XSAVESHIM_MODE=save XSAVESHIM_TRIMM=none "${trim_steps[@]}"
  assert_trimmed
  assert_reported "level=error event=setting source=environment key=XSAVESHIM_TRIMM value=none $unknown" \
    "level=error event=setting source=environment key=XSAVESHIM_MODE value=save $unknown" "$trimmed"
}

@test "if a crash has filled the settings file with zero bytes, the library reports the zero bytes and uses the defaults" {
  head -c 500 /dev/zero >"$etc/xsaveshim.conf"
  run_private "${trim_steps[@]}"
  assert_trimmed
  assert_reported \
    'level=error event=setting source=/etc/xsaveshim.conf key=file value="has zero bytes" using=nothing-of-it' "$trimmed"
}

# ---- the command xsaveshim settings ----

show() { # [ARGUMENT]...    runs `xsaveshim settings` by `privately`
  run --separate-stderr privately "$build/xsaveshim" settings "$@"
}

assert_shown() { # STATUS LINE...
  [[ $status == "$1" && $output == "$(printf '%s\n' "${@:2}")" ]] ||
    fail "expected exit status $1 and these lines:" "${@:2}" "$(outcome)"
}

@test "the command xsaveshim settings shows the value and the source of each setting, and exits with 0 if no setting has an error" {
  unset XSAVESHIM_REFUSED
  show
  assert_shown 0 "XSAVESHIM_TRIM=restore  (default)" "XSAVESHIM_REFUSED=abort  (default)" \
    "XSAVESHIM_LOG=stderr  (default)" "XSAVESHIM_LOG_LEVEL=notice  (default)"
  conf '# settings' XSAVESHIM_TRIM=save XSAVESHIM_LOG=/var/log/a
  XSAVESHIM_TRIM=both show
  assert_shown 0 "XSAVESHIM_TRIM=both  (environment)" "XSAVESHIM_REFUSED=abort  (default)" \
    "XSAVESHIM_LOG=/var/log/a  (/etc/xsaveshim.conf, line 3)" "XSAVESHIM_LOG_LEVEL=notice  (default)"
}

@test "if the settings file or the environment has errors, the command xsaveshim settings lists the errors and exits with 1" {
  unset XSAVESHIM_REFUSED
  conf garbage $'XSAVESHIM_LOG=a\eb' XSAVESHIM_TRIMM=none
  XSAVESHIM_LOG_LEVEL=loud show
  assert_shown 1 "XSAVESHIM_TRIM=restore  (default)" "XSAVESHIM_REFUSED=abort  (default)" \
    "XSAVESHIM_LOG=stderr  (default)" "XSAVESHIM_LOG_LEVEL=notice  (default)" \
    "problem: /etc/xsaveshim.conf, line 1: no KEY=value" \
    "problem: /etc/xsaveshim.conf, line 2: XSAVESHIM_LOG accepts ${accepted[LOG]}, not 'a?b': stderr is used" \
    "problem: /etc/xsaveshim.conf, line 3: there is no setting 'XSAVESHIM_TRIMM': the settings are ${unknown#*accepted=}" \
    "problem: environment: XSAVESHIM_LOG_LEVEL accepts ${accepted[LOG_LEVEL]}, not 'loud': notice is used"
  printf 'XSAVESHIM_KEY%d=\n' {1..11} >"$etc/xsaveshim.conf"
  show
  [[ $status == 1 && ${lines[-1]} == "problem: 3 more problems are not shown" ]] || fail "$(outcome)"
}

@test "xsaveshim settings --domain reads the settings file as the user that runs libvirt's domains, and ignores the environment" {
  local user
  ((EUID == 0)) || skip "only root can become another user"
  cp /etc/passwd /etc/group "$etc/"
  printf '%s:x:4242:4242::/:/bin/false\n' libvirt-qemu >>"$etc/passwd"
  conf XSAVESHIM_TRIM=both
  XSAVESHIM_TRIM=save show --domain
  [[ $status == 0 && ${lines[0]} == "the settings of a libvirt domain that runs as the user libvirt-qemu" &&
    ${lines[1]} == "XSAVESHIM_TRIM=both  (/etc/xsaveshim.conf, line 1)" ]] || fail "$(outcome)"
  chmod 600 "$etc/xsaveshim.conf"
  show --domain
  [[ $status == 1 && ${lines[-1]} == "problem: /etc/xsaveshim.conf: Permission denied" ]] || fail "$(outcome)"
  mkdir "$etc/libvirt"
  for user in root +0; do
    printf '%s\n' '#user = "nobody"' "user = \"$user\"" >"$etc/libvirt/qemu.conf"
    show --domain
    [[ $status == 0 && ${lines[0]} == *" the user root" ]] || fail "$(outcome)"
  done
  echo 'user="no-such-user"' >"$etc/libvirt/qemu.conf"
  show --domain
  [[ $status == 2 && $stderr == *"no user 'no-such-user', whom /etc/libvirt/qemu.conf names" ]] || fail "$(outcome)"
  rm -r "$etc/libvirt"
  grep -v '^libvirt-qemu:\|^qemu:' /etc/passwd >"$etc/passwd"
  show --domain
  [[ $status == 2 && $stderr == *"is libvirt installed?" ]] || fail "$(outcome)"
}
