#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# What `xsaveshim metrics` prints about real VMMs, a KVM that refuses, and an active host mode. prometheus.bats relies on these lines.

load lib

setup() {
  need_kvm
  [[ $EUID == 0 ]] || skip "not root: a plain user cannot inspect every process"
}

teardown() {
  [[ -z ${vmm_pid-} ]] || kill "$vmm_pid" || true
}

# Starts a VMM that does nothing; its argument -name gives its guest a name. Sets vmm_pid.
start_vmm() { # NAME
  mkfifo "$BATS_TEST_TMPDIR/stdin"
  "$build/test/idle" 1 -name "$1" <>"$BATS_TEST_TMPDIR/stdin" >"$BATS_TEST_TMPDIR/said" 3>&- &
  vmm_pid=$!
  wait_for $((10 * ${XSTEST_SLOW:-1})) grep -q ready "$BATS_TEST_TMPDIR/said"
}

# Writes the metrics to a file, which promtool accepts if it is here.
print_metrics() { # [VARIABLE=VALUE...]
  metrics=$BATS_TEST_TMPDIR/metrics
  env "$@" "$build/xsaveshim" metrics >"$metrics"
  ! type promtool >/dev/null 2>&1 || promtool check metrics <"$metrics"
}

assert_metric() { # LINE...
  local line
  for line; do grep -qxF -- "$line" "$metrics" || fail "not printed: $line" "$(<"$metrics")" || return; done
}

@test "metrics lists a VMM that nothing protects, and the xfeatures that probe finds leaked and refused" {
  start_vmm guest
  print_metrics LD_PRELOAD="$build/test/quirk.so" QUIRK_REFUSE=0x4 QUIRK_LEAK=0x200
  assert_metric "xsaveshim_vmm_protected{vm=\"guest\",pid=\"$vmm_pid\",state=\"unprotected\"} 0" \
    'xsaveshim_vmms{state="unprotected"} 1' 'xsaveshim_vmms{state="protected"} 0' 'xsaveshim_probe_refuses{xfeature="avx"} 1' \
    'xsaveshim_probe_leaks{xfeature="pkru"} 1' 'xsaveshim_probe_known{role="source"} 1' \
    'xsaveshim_probe_known{role="destination"} 1'
}

@test "metrics quotes a guest's name that has a quotation mark, a backslash and two lines" {
  start_vmm $'a"b\\c\nd'
  print_metrics
  name=$("$build/xsaveshim" status --json | jq '.vmms[0].name')
  assert_metric "xsaveshim_vmm_protected{vm=$name,pid=\"$vmm_pid\",state=\"unprotected\"} 0"
}

@test "metrics shows the host mode's state and counts, and that a disarmed kprobe makes it inactive" {
  # shellcheck disable=SC1091
  reason=$(. "$repo/test/host.bash" && unmet_requirement)
  [[ ! $reason ]] || skip "$reason"
  "$build/xsaveshim" host enable
  print_metrics
  assert_metric 'xsaveshim_host_enabled 1' 'xsaveshim_host_active 1' 'xsaveshim_host_calls_total{outcome="refused"} 0' \
    'xsaveshim_host_calls_total{outcome="missed_exits"} 0'
  run -1 grep under_way "$metrics"
  mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
  echo 0 >/sys/kernel/debug/kprobes/enabled
  print_metrics
  echo 1 >/sys/kernel/debug/kprobes/enabled
  assert_metric 'xsaveshim_host_enabled 1' 'xsaveshim_host_active 0'
  "$build/xsaveshim" host disable
  print_metrics
  assert_metric 'xsaveshim_host_enabled 0' 'xsaveshim_host_active 0'
}
