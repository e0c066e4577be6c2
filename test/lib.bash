# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the suites share; `load lib` brings it in. $build is where `make test-programs` (or make BUILD=...) built.

bats_require_minimum_version 1.5.0

repo=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
build=$(cd "$repo" && realpath "${BUILD:-build}")
shim=$build/libxsaveshim.so
standin=$build/test/standin.so
vmm=$build/test/vmm
calls=$BATS_TEST_TMPDIR/calls

unset XSAVESHIM_TRIM XSAVESHIM_REFUSED XSAVESHIM_LOG XSAVESHIM_LOG_LEVEL "${!STANDIN_@}" LD_PRELOAD DEVICE

fail() {
  printf '%s\n' "$@" >&2
  return 1
}

# For the table in docs/testing.md: what ran, how much of it, the outcome.
result() { # NAME WHAT HOW-MUCH OUTCOME
  mkdir -p "$build/results"
  echo "| $2 | $3 | $4 |" >"$build/results/$1.rows"
}

# Whether FILE has a line of these cells, with tabs between them.
assert_row() { # FILE CELL...
  local row
  row=$(IFS=$'\t' && echo "${*:2}")
  grep -qxF -- "$row" "$1" || fail "expected: $row" "$(cat "$1")"
}

# wait_for SECONDS COMMAND...    until COMMAND succeeds
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || fail "time is up, this never succeeded: $*" || return
    sleep 0.02
  done
}

# Whether a process waits in a kernel function whose name contains PART-OF-NAME. A kernel without symbols only shows the system
# call in which the process waits.
waits_in() { # PART-OF-NAME SYSTEM-CALL PID
  if [[ -e /proc/$3/wchan ]]; then
    grep -q "$1" "/proc/$3/wchan"
  else
    grep -q "^$2 " "/proc/$3/syscall"
  fi
}

# The kernel gives SIGSTOP to one thread, which then stops the others: some may still run when kill has returned.
is_stopped() { # PID    all of its threads
  ! grep -L $'^State:\tT' "/proc/$1"/task/*/status | grep -q .
}

# Sets public to a new directory with copies of FILES. Every user may enter it, unlike a clone below a closed home. The caller
# removes it.
make_public() { # FILE...
  public=$(mktemp -d /tmp/xsaveshim-public.XXXXXX)
  chmod 755 "$public"
  cp "$@" "$public/"
}

# The shim in every test would read this host's settings.
need_no_settings_file() {
  [[ ! -s /etc/xsaveshim.conf ]] ||
    fail "/etc/xsaveshim.conf is there and gets into this test: as root run test/run, which hides it, or move it away"
}

need_kvm() {
  [[ -r /dev/kvm && -w /dev/kvm ]] || skip "no usable /dev/kvm here; scripts/test runs this in a testbed kernel"
}

# What a command run by `privately` has as /etc and as /dev, where these directories exist; the host's own are not touched.
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

# From here on `privately` has a /dev/log, whose messages go to the end of the file $messages. Again: syslogd is started anew.
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

# The following run the VMM: [VARIABLE=VALUE]... STEP...    Steps: see `build/test/vmm`. They set what `run` does,
# with the VMM's lines in $output and the reports in $stderr.

run_vmm() {
  local environment=()
  while [[ ${1:-} =~ ^[A-Z_0-9]+= ]]; do environment+=("$1"); shift; done
  run --separate-stderr timeout 60 env "${environment[@]}" "$vmm" "$@"
}

run_shimmed() {
  run_vmm LD_PRELOAD="$shim" "$@"
}

# Runs the VMM with the stand-in for KVM, which writes a list of the calls it gets.
run_standin() {
  rm -f "$calls"
  run_vmm LD_PRELOAD="$standin" STANDIN_LOG="$calls" DEVICE=/dev/null "$@"
}

run_shimmed_standin() {
  run_standin LD_PRELOAD="$shim $standin" "$@"
}

outcome() {
  printf '%s\n' "exit status: $status" "--- output:" "$output" "--- stderr:" "$stderr"
  [[ ! -e $calls ]] || { echo "--- calls:"; cat "$calls"; }
}

# Checks that the VMM succeeded, and that these lines are among those that it printed.
assert_printed() {
  local line
  (($#)) || fail "printed: which lines?" || return
  ((status == 0)) || fail "the VMM failed" "$(outcome)" || return
  for line in "$@"; do
    grep -qxF -- "$line" <<<"$output" || fail "not printed: $line" "$(outcome)" || return
  done
}

# Checks that the shim wrote these reports in this order, and no other. `fd=*` stands for any descriptor.
assert_reported() {
  local expected actual
  expected=$(printf 'xsaveshim: %s\n' "$@")
  actual=$(sed -E 's/ pid=[0-9]+//; s/ fd=[0-9]+/ fd=*/' <<<"$stderr")
  [[ $actual == "$expected" ]] || fail "expected these reports:" "$expected" "$(outcome)"
}

assert_no_report() {
  [[ -z $stderr ]] || fail "there should be no report" "$(outcome)"
}

# Checks that the stand-in got the calls on standard input for vCPUs, in this order and no other.
assert_vcpu_calls() {
  diff -u --label expected --label actual - <(grep 'vcpu=' "$calls") >&2 || fail "$(outcome)"
}

# Checks that the library adds 1 to 4 instructions to KVM_RUN, and 1 to 12 to any other request that it only passes on.
assert_cheap() {
  run --separate-stderr timeout 120 "$build/test/stepcount" "$shim"
  ((status == 0)) || fail "$stderr" || return
  (($(wc -l <<<"$output") > 300)) || fail "too few requests" "$output" || return
  run awk -F added= '{ most = /^KVM_RUN / ? 4 : 12 } $2 < 1 || $2 > most' <<<"$output"
  [[ -z $output ]] || fail "too many instructions:" "$output"
}
