# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests what `xsaveshim metrics` prints about running VMMs, about a KVM that leaks and refuses xfeatures, and about the host mode.

load lib

setup() {
  need_kvm
  [[ $EUID == 0 ]] || skip "not root: a plain user cannot inspect every process"
}

# Starts COMMAND, which starts COUNT VMMs. Waits until each VMM has printed "ready". Sets vmm_pid to COMMAND's pid.
start_vmm() { # COUNT COMMAND...
  [[ -e $BATS_TEST_TMPDIR/stdin ]] || mkfifo "$BATS_TEST_TMPDIR/stdin"
  : >"$BATS_TEST_TMPDIR/said"
  "${@:2}" <>"$BATS_TEST_TMPDIR/stdin" >"$BATS_TEST_TMPDIR/said" 2>&1 &
  vmm_pid=$!
  wait_for $((10 * ${XSTEST_SLOW:-1})) is_ready "$1" || fail "$(<"$BATS_TEST_TMPDIR/said")"
}

is_ready() { (($(grep -c ready "$BATS_TEST_TMPDIR/said") >= $1)); } # COUNT

# Writes the metrics to a file and, if promtool is installed, checks the file with promtool.
print_metrics() { # [VARIABLE=VALUE...]
  metrics=$BATS_TEST_TMPDIR/metrics
  env "$@" "$build/xsaveshim" metrics >"$metrics"
  ! type promtool >/dev/null 2>&1 || promtool check metrics <"$metrics"
}

assert_metric() { # LINE...
  local line
  for line; do grep -qxF -- "$line" "$metrics" || fail "not printed: $line" "$(<"$metrics")" || return; done
}

# Runs the test's function `scenario` in new namespaces (see in_namespaces in lib.bash), so that the metrics count no other VMMs of this
# host.
alone() { in_namespaces scenario build vmm shim BATS_TEST_TMPDIR; }

@test "xsaveshim metrics lists an unprotected VMM, the xfeatures that KVM leaks, and the xfeatures that KVM refuses" {
  scenario() {
    start_vmm 1 "$build/test/idle" 1 -name guest
    print_metrics LD_PRELOAD="$build/test/quirk.so" QUIRK_REFUSE=0x4 QUIRK_LEAK=0x200
    assert_metric "xsaveshim_vmm_protected{vm=\"guest\",pid=\"$vmm_pid\",state=\"unprotected\"} 0" \
      'xsaveshim_vmms{state="unprotected"} 1' 'xsaveshim_vmms{state="protected"} 0' 'xsaveshim_probe_refuses{xfeature="avx"} 1' \
      'xsaveshim_probe_leaks{xfeature="pkru"} 1' 'xsaveshim_probe_known{role="source"} 1' \
      'xsaveshim_probe_known{role="destination"} 1'
  }
  alone
}

@test "xsaveshim metrics escapes a quotation mark, a backslash and a newline in a guest's name" {
  scenario() {
    start_vmm 1 "$build/test/idle" 1 -name $'a"b\\c\nd'
    print_metrics
    name=$({ "$build/xsaveshim" status --json || true; } | jq '.vmms[0].name')
    assert_metric "xsaveshim_vmm_protected{vm=$name,pid=\"$vmm_pid\",state=\"unprotected\"} 0"
  }
  alone
}

@test "xsaveshim metrics adds up the event counts of all running VMMs; if one supervisor serves two VMMs, its counts are added only once" {
  scenario() {
    one="$vmm create 0 cpuid 0xd=0x3 set-xsave 0x217 mark ready pause"
    start_vmm 2 "$build/xsaveshim" run --supervise -- sh -c "exec 4<&0; $one <&4 & $one"
    print_metrics
    assert_metric 'xsaveshim_vmms{state="protected"} 2' 'xsaveshim_vmm_events{event="trimmed"} 2' 'xsaveshim_vmm_events{event="refused"} 0'
    start_vmm 1 env LD_PRELOAD="$shim" XSAVESHIM_REFUSED=report "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x217 set-xsave 0x3,xcomp_bv=1 \
      mark ready pause
    print_metrics
    assert_metric 'xsaveshim_vmms{state="protected"} 3' 'xsaveshim_vmm_events{event="trimmed"} 3' 'xsaveshim_vmm_events{event="refused"} 1'
  }
  alone
}

@test "xsaveshim metrics shows whether the host mode is enabled and active, and shows it as enabled but inactive while kprobes are disabled" {
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
