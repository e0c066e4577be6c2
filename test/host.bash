# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Functions that the suites of the host mode (`xsaveshim host`) share. A suite sources this file after lib.bash.

host() { "$build/xsaveshim" host "$@"; }

# Prints the reason why the host mode's tests cannot run on this machine, if there is one.
unmet_requirement() {
  if [[ $EUID != 0 ]]; then
    echo "not root"
  elif [[ ! -e $build/xsaveshim-host ]]; then
    echo "xsaveshim-host was not built: its build needs clang and bpftool"
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

# assert_cannot_enable EXIT-STATUS REASON-PATTERN [WRAPPER...]    runs `WRAPPER... xsaveshim host enable`, and checks that it fails
# with EXIT-STATUS, that it prints one line with a reason that matches REASON-PATTERN, and that no BPF program is pinned
assert_cannot_enable() {
  run --separate-stderr timeout 60 "${@:3}" "$build/xsaveshim" host enable
  [[ $status == "$1" && -z $output && $stderr == "xsaveshim host: the host mode cannot be enabled: "$2 && $stderr != *$'\n'* ]] ||
    fail "exit status $status" "$output" "$stderr" || return
  assert_no_pins
}

# assert_status EXIT-STATUS FIRST-LINE-PATTERN    checks that `host status` exits with EXIT-STATUS, and that the first line of its
# output matches FIRST-LINE-PATTERN
assert_status() {
  run --separate-stderr timeout 60 "$build/xsaveshim" host status
  # shellcheck disable=SC2053 # a pattern
  [[ $status == "$1" && ${lines[0]} == $2 && -z $stderr ]] || fail "exit status $status" "$output" "$stderr"
}

assert_counts() { # NAME=NUMBER...    checks these counts of `host status --json`
  local json expected
  json=$(host status --json) || true # the exit status depends on the host mode's state
  for expected in "$@"; do
    [[ $(jq ".counts.${expected%=*}" <<<"$json") == "${expected#*=}" ]] || fail "expected $expected" "$json" || return
  done
}

# Loads a payload that has AVX and PKRU into a guest that lacks both, and checks that the payload then has this XSTATE_BV.
assert_loads() { # XSTATE_BV
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x207
  [[ ${lines[2]} == "set-xsave 0x207: "*" xstate_bv=$1 "* ]] || fail "$(outcome)"
}

start_watch() { # sets watcher to watch's pid
  "$build/xsaveshim" host watch >"$BATS_TEST_TMPDIR/watch" 2>&1 3>&- &
  watcher=$!
}

watch_reported() { # PATTERN
  grep -q "$1" "$BATS_TEST_TMPDIR/watch"
}

# Checks that `host watch` has printed exactly these LINEs as its reports of EVENT. A LINE lacks the prefix "xsaveshim: " and the
# keys cgroup, time and started, and has pid=* in place of a process ID.
assert_watch_reported() { # EVENT LINE...
  local event=$1 actual
  shift
  actual=$(grep "event=$event " "$BATS_TEST_TMPDIR/watch" | sed -E 's/ pid=[0-9]+/ pid=*/; s/ (cgroup|time|started)=[^ ]*//g')
  [[ $actual == "$(printf 'xsaveshim: %s\n' "$@")" ]] || fail "expected:" "$@" "watch printed:" "$(cat "$BATS_TEST_TMPDIR/watch")"
}

# Prints the directories in which the host mode keeps detached BPF programs pinned.
retired() { find /sys/fs/bpf -name 'xsaveshim-retired-*'; }

find_unmet_requirement() {
  unmet=$(unmet_requirement)
  export unmet
  [[ $unmet || $("$build/xsaveshim" host status) == "inactive: the host mode is not enabled" ]] ||
    fail "the host mode is in use on this machine: these tests would disable it"
}
