# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the suites of the host mode share; to be sourced after lib.bash. watcher is the process that start_watch starts.

host() { "$build/xsaveshim" host "$@"; }

# Prints the first requirement of these tests that is not met here, if any.
unmet_requirement() {
  if [[ $EUID != 0 ]]; then
    echo "not root"
  elif [[ ! -e $build/xsaveshim-host ]]; then
    echo "xsaveshim-host was not built: that takes clang and bpftool"
  elif [[ ! -e /sys/bus/event_source/devices/kprobe ]]; then
    echo "this kernel has no kprobes"
  elif grep -qF -e '[integrity]' -e '[confidentiality]' /sys/kernel/security/lockdown; then
    echo "this kernel is locked down"
  fi
}

assert_no_pins() {
  [[ -z $(find /sys/fs/bpf -name 'xsaveshim*') ]] || fail "pins are left:" "$(find /sys/fs/bpf -name 'xsaveshim*')"
}

enable() {
  run --separate-stderr timeout 60 "$build/xsaveshim" host enable "$@"
  [[ $status == 0 && -z $stderr ]] || fail "exit status $status" "$output" "$stderr"
}

# assert_cannot_enable REASON-PATTERN [COMMAND-BEFORE...]
assert_cannot_enable() {
  run --separate-stderr timeout 60 "${@:2}" "$build/xsaveshim" host enable
  [[ $status == 1 && -z $output ]] || fail "exit status $status" "$output" "$stderr" || return
  [[ $stderr == "xsaveshim host: cannot be enabled: "$1 && $stderr != *$'\n'* ]] || fail "said: $stderr" || return
  assert_no_pins
}

# assert_status EXIT-STATUS FIRST-LINE-PATTERN
assert_status() {
  run --separate-stderr timeout 60 "$build/xsaveshim" host status
  # shellcheck disable=SC2053 # a pattern
  [[ $status == "$1" && ${lines[0]} == $2 && -z $stderr ]] || fail "exit status $status" "$output" "$stderr"
}

count() { # NAME    as `host status --json` has it
  host status --json | jq -e ".counts.$1"
}

assert_counts() { # NAME=NUMBER...
  local json expected
  json=$(host status --json)
  for expected in "$@"; do
    [[ $(jq ".counts.${expected%=*}" <<<"$json") == "${expected#*=}" ]] || fail "expected $expected" "$json" || return
  done
}

# Payloads with AVX and PKRU, which the guest does not have; AVX any KVM could load.
assert_loads() { # XSTATE_BV-AFTERWARDS
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x207
  [[ ${lines[2]} == "set-xsave 0x207: "*" xstate_bv=$1 "* ]] || fail "$(outcome)"
}

start_watch() {
  "$build/xsaveshim" host watch >"$BATS_TEST_TMPDIR/watch" 2>&1 3>&- &
  watcher=$!
}

watch_reported() { # PATTERN
  grep -q "$1" "$BATS_TEST_TMPDIR/watch"
}

# These and no other reports of that event came, whatever the process.
assert_watch_reported() { # EVENT LINE...
  local event=$1 actual
  shift
  actual=$(grep "event=$event " "$BATS_TEST_TMPDIR/watch" | sed -E 's/ pid=[0-9]+/ pid=*/; s/ cgroup=[^ ]*//')
  [[ $actual == "$(printf 'xsaveshim: %s\n' "$@")" ]] || fail "expected:" "$@" "watch told:" "$(cat "$BATS_TEST_TMPDIR/watch")"
}

# Sets unmet to the requirement that is not met, for all tests of a suite.
find_unmet_requirement() {
  unmet=$(unmet_requirement)
  export unmet
  [[ $unmet || $("$build/xsaveshim" host status) == "inactive: it is not enabled" ]] ||
    fail "the host mode is in use on this machine: these tests would disable it"
}
