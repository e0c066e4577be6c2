# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Many vCPUs, and many VMs: the cost of a vCPU or a VM must not depend on how many there are or were.

load lib

# scaled vcpus|vms COUNT [XSTATE_BV]    sets first and last (ns), shim_kib and process_kib
scaled() {
  run timeout 600 env LD_PRELOAD="$shim" XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" "$build/test/scale" "$@"
  ((status == 0)) || fail "exit status $status" "$output" || return
  echo "# $output" >&3
  [[ $output =~ ^count=$2\ first-ns=([0-9]+)\ last-ns=([0-9]+)\ shim-kib=(-?[0-9]+)\ process-kib=(-?[0-9]+)$ ]] ||
    fail "$output" || return
  first=${BASH_REMATCH[1]} last=${BASH_REMATCH[2]} shim_kib=${BASH_REMATCH[3]} process_kib=${BASH_REMATCH[4]}
}

@test "1,024 vCPUs in one VM are all trimmed, and the last costs as much as the first" {
  scaled vcpus 1024
  [[ $(grep -c ' event=trim ' "$BATS_TEST_TMPDIR/log") == 1024 ]]
  [[ $(grep -o ' vcpu=[0-9]*' "$BATS_TEST_TMPDIR/log" | sort -u | wc -l) == 1024 ]]
  ((last < 2 * first)) || fail "$output"
}

@test "1,024 vCPUs take two pages of the shim's memory, and one more if they start within a page" {
  scaled vcpus 1024 0x3
  # The first call through each path touches up to two pages more.
  ((shim_kib >= 8 && shim_kib <= 20)) || fail "$output"
}

@test "1,024 vCPUs with dropped xfeatures take one more page of the shim's memory for every 42 vCPUs" {
  scaled vcpus 1024
  ((shim_kib >= 8 && shim_kib <= 20 + 100)) || fail "$output"
}

@test "2,000 short-lived VMs are all trimmed, and the shim's memory does not grow" {
  scaled vms 2000
  [[ $(grep -c ' event=trim ' "$BATS_TEST_TMPDIR/log") == 4000 ]]
  ((shim_kib == 0)) || fail "$output"
  ((process_kib <= 64)) || fail "$output"
  ((last < 2 * first)) || fail "$output"
}

@test "2,000 VMMs under one supervisor are all trimmed, and the last costs as much as the first" {
  need_kvm
  # 1024 descriptors is the soft limit of most systems. The VMMs run on one CPU: with two CPUs, the time of a restore depends on the
  # CPU that the scheduler picks for the supervisor.
  run bash -c 'ulimit -Sn 1024; exec timeout 300 taskset -c 0 "$@"' - "$build/xsaveshim" run --supervise --log=none -- "$build/test/many" 2000
  ((status == 0)) || fail "exit status $status" "$output"
  echo "# $output" >&3
  [[ $output =~ ^trimmed=2000\ first-ns=([0-9]+)\ last-ns=([0-9]+)$ ]] || fail "$output"
  ((BASH_REMATCH[2] < 2 * BASH_REMATCH[1])) || fail "$output"
}

@test "more VMMs than their supervisor can have descriptors are all trimmed" {
  need_kvm
  run bash -c 'ulimit -n 64; exec timeout 60 "$@"' - "$build/xsaveshim" run --supervise --log=none -- "$build/test/many" 200
  [[ $status == 0 && $output == trimmed=200\ * ]] || fail "exit status $status" "$output"
}
