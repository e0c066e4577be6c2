# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Functions that the suites share; `load lib` sources this file. The suites use the programs that `make test-programs` builds in
# $build.

bats_require_minimum_version 1.5.0

repo=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
build=$(cd "$repo" && realpath "${BUILD:-build}")
shim=$build/libxsaveshim.so
standin=$build/test/standin.so
vmm=$build/test/vmm
calls=$BATS_TEST_TMPDIR/calls

[[ ${XSTEST_FRESH-} ]] || "$repo/test/stale" "$build" || exit 1 # test/run calls test/stale itself, and then sets XSTEST_FRESH

unset XSAVESHIM_TRIM XSAVESHIM_REFUSED XSAVESHIM_LOG XSAVESHIM_LOG_LEVEL "${!STANDIN_@}" LD_PRELOAD DEVICE

fail() {
  printf '%s\n' "$@" >&2
  return 1
}

# Writes the row | WHAT | HOW-MUCH | OUTCOME | to $build/results/NAME.rows. `make results` copies the row into the table "checks" of
# docs/testing.md.
result() { # NAME WHAT HOW-MUCH OUTCOME
  mkdir -p "$build/results"
  echo "| $2 | $3 | $4 |" >"$build/results/$1.rows"
}

# Checks that FILE has a line of these cells, separated by tabs.
assert_row() { # FILE CELL...
  local row
  row=$(IFS=$'\t' && echo "${*:2}")
  grep -qxF -- "$row" "$1" || fail "expected: $row" "$(cat "$1")"
}

# wait_for SECONDS COMMAND...    waits until COMMAND succeeds, at most SECONDS
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || fail "timed out, this never succeeded: $*" || return
    sleep 0.02
  done
}

# in_namespaces CODE VARIABLE...    runs the bash code CODE in new PID and mount namespaces (needs root), with the suite's functions and
# these VARIABLEs. CODE sees only its own processes. If a command of CODE fails, in_namespaces fails. When CODE ends, the kernel kills
# the processes that CODE has started.
in_namespaces() {
  {
    declare -p "${@:2}"
    declare -f
    echo "trap 'echo \"failed: \$BASH_COMMAND\" >&2' ERR; $1"
  } >"$BATS_TEST_TMPDIR/script"
  timeout $((60 * ${XSTEST_SLOW:-1})) unshare --mount --pid --fork --kill-child --mount-proc \
    bash -Eeuo pipefail "$BATS_TEST_TMPDIR/script" 3>&-
}

# Returns true if the process PID waits in a kernel function whose name contains PART-OF-NAME. A kernel that was built without the
# names of its functions has no /proc/PID/wchan. On such a kernel, returns true if the process waits in SYSTEM-CALL (a number).
waits_in() { # PART-OF-NAME SYSTEM-CALL PID
  if [[ -e /proc/$3/wchan ]]; then
    grep -q "$1" "/proc/$3/wchan"
  else
    grep -q "^$2 " "/proc/$3/syscall"
  fi
}

# Returns true if all threads of PID are stopped. When `kill -STOP` returns, some threads may still run: the kernel delivers SIGSTOP
# to one thread, which stops the others.
is_stopped() { # PID
  ! grep -L $'^State:\tT' "/proc/$1"/task/*/status | grep -q .
}

# Copies the FILES to a new directory that every user may enter, and sets the variable public to its path. (The work tree may be
# below a home directory that other users may not enter.) The caller removes the directory.
make_public() { # FILE...
  public=$(mktemp -d /tmp/xsaveshim-public.XXXXXX)
  chmod 755 "$public"
  cp "$@" "$public/"
}

# Skips a test if this host's /etc/xsaveshim.conf is not empty, because the library would read it. If root runs test/run, the test
# runs nevertheless, because test/run mounts an empty file over /etc/xsaveshim.conf.
need_no_settings_file() {
  [[ ! -s /etc/xsaveshim.conf ]] ||
    skip "the library would read this host's /etc/xsaveshim.conf: run scripts/test as root, or move that file away"
}

need_no_installed_library() {
  LD_PRELOAD=libxsaveshim.so /bin/true 2>&1 | grep -q . || skip "this test needs a host on which libxsaveshim.so is not installed"
}

need_kvm() {
  [[ -r /dev/kvm && -w /dev/kvm ]] ||
    skip "no read and write access to /dev/kvm; scripts/test would run this suite in an emulated machine"
}

# If the directory $etc exists, a command that `privately` runs sees it as /etc. If the directory $dev exists, the command sees it
# as /dev. The host's /etc and /dev do not change.
etc=$BATS_TEST_TMPDIR/etc
dev=$BATS_TEST_TMPDIR/dev

in_private=(unshare -m)
((EUID == 0)) || in_private=(unshare -rm)
in_private+=(bash -euc '
  if [[ -d $2 ]]; then
    for node in null full kvm; do
      [[ ! -e /dev/$node ]] || { : >>"$2/$node"; mount --bind "/dev/$node" "$2/$node"; }
    done
    mount --rbind "$2" /dev
  fi
  [[ ! -d $1 ]] || mount --bind "$1" /etc
  shift 2
  exec "$@"' - "$etc" "$dev")

privately() { # COMMAND...
  "${in_private[@]}" "$@"
}

# listen starts a syslogd for commands that `privately` runs. This syslogd appends the messages that it gets from /dev/log to
# $messages. A second `listen` restarts the syslogd.
messages=$BATS_TEST_TMPDIR/messages

listen() {
  stop_listening
  mkdir -p "$dev"
  rm -f "$dev/log"
  timeout 600 socat -u "UNIX-RECV:$dev/log" "OPEN:$messages,creat,append" 3>&- &
  listener=$!
  wait_for 10 test -S "$dev/log"
}

stop_listening() {
  [[ -z ${listener:-} ]] || { kill "$listener"; wait "$listener"; } 2>/dev/null || true
  listener=
}

# Each function run_... takes the arguments [VARIABLE=VALUE]... STEP... and runs the test VMM through bats' `run`, with these
# variables in its environment. `build/test/vmm` without arguments lists the steps. $output has the VMM's lines, and $stderr has the
# library's reports.

run_vmm() {
  local environment=()
  while [[ ${1:-} =~ ^[A-Z_0-9]+= ]]; do environment+=("$1"); shift; done
  run --separate-stderr timeout 60 env "${environment[@]}" "$vmm" "$@"
}

run_shimmed() {
  run_vmm LD_PRELOAD="$shim" "$@"
}

# Runs the test VMM with a fake KVM, standin.so, which writes the calls that it gets into $calls.
run_standin() {
  rm -f "$calls"
  run_vmm LD_PRELOAD="$standin" STANDIN_LOG="$calls" DEVICE=/dev/null "$@"
}

run_shimmed_standin() {
  run_standin LD_PRELOAD="$shim $standin" "$@"
}

# test/tools/validate is a Python program, and slow in an emulated machine. So a suite collects the JSON of all its tests, and the
# last test validates all of the JSON at once.
collect_json() { # JSON...
  jq -ce . <<<"$*" >>"$BATS_FILE_TMPDIR/json"
}

# validate SCHEMA    checks that the JSON on standard input has exactly the keys and the kinds of values that the schema names
validate() {
  jq -c . | "$repo/test/tools/validate" "$repo/schemas/$1.schema.json" >&2
}

assert_collected_valid() { # SCHEMA
  [[ -s $BATS_FILE_TMPDIR/json ]] || skip "there is no JSON to validate, because no other test of this suite has run"
  validate "$1" <"$BATS_FILE_TMPDIR/json"
}

# Prints the exit status and the output of the last `run`, for a failure's message.
outcome() {
  printf '%s\n' "exit status: $status" "--- output:" "$output" "--- stderr:" "$stderr"
  [[ ! -e $calls ]] || { echo "--- calls:"; cat "$calls"; }
}

# Checks that the VMM's exit status is 0, and that the VMM printed each LINE.
assert_printed() { # LINE...
  local line
  (($#)) || fail "assert_printed: no lines are given" || return
  ((status == 0)) || fail "the VMM failed" "$(outcome)" || return
  for line in "$@"; do
    grep -qxF -- "$line" <<<"$output" || fail "not printed: $line" "$(outcome)" || return
  done
}

# Checks that the library wrote exactly the REPORTs, in this order. A REPORT has no pid, and its `fd=*` stands for any descriptor.
assert_reported() { # REPORT...
  local expected actual
  expected=$(printf 'xsaveshim: %s\n' "$@")
  actual=$(sed -E 's/ pid=[0-9]+//; s/ fd=[0-9]+/ fd=*/' <<<"$stderr")
  [[ $actual == "$expected" ]] || fail "expected these reports:" "$expected" "$(outcome)"
}

assert_no_report() {
  [[ -z $stderr ]] || fail "the library wrote a report, but should have written none" "$(outcome)"
}

# Checks that the fake KVM (standin.so) got the vCPU calls that standard input lists, in this order, and no other vCPU calls.
assert_vcpu_calls() {
  diff -u --label expected --label actual - <(grep 'vcpu=' "$calls") >&2 || fail "$(outcome)"
}

# Checks that the library adds 1 to 4 instructions to KVM_RUN, and 1 to 12 to every other ioctl that it does not handle.
assert_cheap() {
  run --separate-stderr timeout 120 "$build/test/stepcount" "$shim"
  ((status == 0)) || fail "$stderr" || return
  (($(wc -l <<<"$output") > 300)) || fail "too few requests" "$output" || return
  run awk -F added= '{ most = /^KVM_RUN / ? 4 : 12 } $2 < 1 || $2 > most' <<<"$output"
  [[ -z $output ]] || fail "too many instructions:" "$output"
}
