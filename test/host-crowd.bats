# SPDX-License-Identifier: MIT
# bats file_tags=bpf
# Tests the host mode while many threads load and save payloads. kernels-host.bats runs this suite on Debian's kernel, with
# preempt=full and with preempt=none.

load lib
load host
load qemu

setup_file() {
  find_unmet_requirement
}

setup() {
  [[ ! $unmet ]] || skip "cannot run here: $unmet; make check-kernels runs this test in an emulated machine"
  work=$BATS_TEST_TMPDIR/guests
  mkdir "$work"
}

teardown() {
  [[ ! $unmet ]] || return 0
  [[ ! ${crowd:-} ]] || kill "$crowd"
  guest_stop_all
  host disable >/dev/null
}

# Checks that the kernel has logged nothing after its first $before lines, except messages about VMs, cgroups, systemd, delays on a
# busy host, and BPF programs that write memory.
assert_kernel_is_silent() {
  run grep -vE -e 'bpf_probe_write_user|callbacks suppressed|bpf_get_probe_write_proto|hrtimer: interrupt took' \
    -e 'rcu_tasks_wait_gp|user requested TSC rate|kvm.*(unhandled|ignored|supported)|SEV|cgroup|systemd' <(dmesg | tail -n "+$((before + 1))")
  [[ -z $output ]] || fail "the kernel says:" "$output"
}

@test "if 64 threads load XSAVE payloads at once, the host mode trims every payload, and the counts of xsaveshim host status add up to the number of KVM ioctls" {
  local crowd_said counts rounds=$((3000 / ${XSTEST_SLOW:-1}))
  before=$(dmesg | wc -l)
  enable
  crowd_said=$("$build/test/crowd" 64 "$rounds")
  [[ $crowd_said =~ ^loads=([0-9]+)\ untrimmed=([0-9]+)\ refusals=([0-9]+)\ saves=([0-9]+)$ ]]
  local loads=${BASH_REMATCH[1]} untrimmed=${BASH_REMATCH[2]} refusals=${BASH_REMATCH[3]} saves=${BASH_REMATCH[4]}
  counts=$(host status --json | jq .counts)
  echo "# test/crowd: $crowd_said; host status: $(tr -d ' \n' <<<"$counts")" >&3
  ((loads == 64 * rounds && refusals == loads && saves == loads && untrimmed == 0))
  jq -e --argjson calls $((loads + refusals + saves)) --argjson loads "$loads" --argjson refusals "$refusals" '
    .seen + .missed_entries == $calls and .trimmed == $loads and .under_way == 0 and
    .refused <= $refusals and .refused + .missed_exits >= $refusals' <<<"$counts"
  assert_kernel_is_silent
}

# Each enable and each disable makes the kernel patch instructions while the guest's vCPU and other threads execute them.
@test "if the host mode is enabled and disabled many times under load, a running guest keeps its registers, and the kernel logs nothing unexpected" {
  local round rounds=$((100 / ${XSTEST_SLOW:-1}))
  before=$(dmesg | wc -l)
  guest_start guest
  assert_guest_intact guest
  nice -n 19 "$build/test/crowd" 4 0 >"$BATS_TEST_TMPDIR/crowd" 3>&- &
  crowd=$!
  for ((round = 0; round < rounds; round++)); do
    enable
    ((round % 2)) || enable
    host disable >/dev/null
  done
  kill -0 "$crowd"
  assert_guest_intact guest
  assert_no_pins
  assert_kernel_is_silent
}
