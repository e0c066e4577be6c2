# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# xsaveshim's cost for a vCPU or a VM must not depend on how many vCPUs and VMs exist or have existed.

load lib

# scaled vcpus|vms COUNT [XSTATE_BV]    runs build/test/scale. Sets `first` and `last` (median ns of the first and the last quarter
# of the restores), and `shim_kib` and `process_kib` (by how many KiB the memory of the library and of the process grew).
scaled() {
  run timeout 600 env LD_PRELOAD="$shim" XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" "$build/test/scale" "$@"
  ((status == 0)) || fail "exit status $status" "$output" || return
  echo "# $output" >&3
  [[ $output =~ ^count=$2\ first-ns=([0-9]+)\ last-ns=([0-9]+)\ shim-kib=(-?[0-9]+)\ process-kib=(-?[0-9]+)$ ]] ||
    fail "$output" || return
  first=${BASH_REMATCH[1]} last=${BASH_REMATCH[2]} shim_kib=${BASH_REMATCH[3]} process_kib=${BASH_REMATCH[4]}
}

@test "the library trims the payloads of 1,024 vCPUs in one VM, and the last restores take less than twice as long as the first" {
  scaled vcpus 1024
  [[ $(grep -c ' event=trim ' "$BATS_TEST_TMPDIR/log") == 1024 ]]
  [[ $(grep -o ' vcpu=[0-9]*' "$BATS_TEST_TMPDIR/log" | sort -u | wc -l) == 1024 ]]
  ((last < 2 * first)) || fail "$output"
}

@test "if no payload of 1,024 vCPUs needs a trim, the library's memory grows by at least 8 and at most 20 KiB" {
  scaled vcpus 1024 0x3
  # The library keeps 8 bytes for each vCPU. In addition, the first call on each code path touches new pages of the library.
  ((shim_kib >= 8 && shim_kib <= 20)) || fail "$output"
}

@test "if the library trims the payloads of 1,024 vCPUs, the library's memory grows by at least 8 and at most 120 KiB" {
  scaled vcpus 1024
  ((shim_kib >= 8 && shim_kib <= 20 + 100)) || fail "$output"
}

@test "while a process creates and closes 2,000 VMs one after another, the library trims their payloads, and the library's memory does not grow" {
  scaled vms 2000
  [[ $(grep -c ' event=trim ' "$BATS_TEST_TMPDIR/log") == 4000 ]]
  ((shim_kib == 0)) || fail "$output"
  ((process_kib <= 64)) || fail "$output"
  ((last < 2 * first)) || fail "$output"
}

@test "one supervisor trims the payloads of 2,000 VMM processes, and the last restores take less than twice as long as the first" {
  need_kvm
  # On most systems, a process has a soft limit of 1024 descriptors. The VMMs run on one CPU, because with two CPUs the time of a
  # restore depends on the CPU that the scheduler picks for the supervisor.
  run bash -c 'ulimit -Sn 1024; exec timeout 300 taskset -c 0 "$@"' - "$build/xsaveshim" run --supervise --log=none -- "$build/test/many" 2000
  ((status == 0)) || fail "exit status $status" "$output"
  echo "# $output" >&3
  [[ $output =~ ^trimmed=2000\ first-ns=([0-9]+)\ last-ns=([0-9]+)$ ]] || fail "$output"
  ((BASH_REMATCH[2] < 2 * BASH_REMATCH[1])) || fail "$output"
}

@test "even if RLIMIT_NOFILE is 64, one supervisor trims the payloads of 200 VMMs that run at the same time" {
  need_kvm
  run bash -c 'ulimit -n 64; exec timeout 60 "$@"' - "$build/xsaveshim" run --supervise --log=none -- "$build/test/many" 200
  [[ $status == 0 && $output == trimmed=200\ * ]] || fail "exit status $status" "$output"
}
