# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# xsaveshim's cost for a vCPU or a VM must not depend on how many vCPUs and VMs exist or have existed.

load lib

# scaled vcpus COUNT [XSTATE_BV]    creates COUNT vCPUs in one VM, and loads a payload into each vCPU; the default XSTATE_BV, 0x7,
#                                   needs a trim
# scaled vms COUNT                  creates COUNT VMs one after another, and loads a payload into the two vCPUs of each VM
# Sets `first` and `last` to the median time in ns of a load (KVM_SET_XSAVE) in the first and in the last quarter of the run. Sets
# `shim_kib` and `process_kib` to the KiB by which the memory of the library and of the whole process grew; with vms, growth in the
# first quarter of the run does not count.
scaled() {
  run timeout 600 env LD_PRELOAD="$shim" XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" "$build/test/scale" "$@"
  ((status == 0)) || fail "exit status $status" "$output" || return
  echo "# $output" >&3
  [[ $output =~ ^count=$2\ first-ns=([0-9]+)\ last-ns=([0-9]+)\ shim-kib=(-?[0-9]+)\ process-kib=(-?[0-9]+)$ ]] ||
    fail "$output" || return
  first=${BASH_REMATCH[1]} last=${BASH_REMATCH[2]} shim_kib=${BASH_REMATCH[3]} process_kib=${BASH_REMATCH[4]}
}

@test "the library trims the payloads of 1,024 vCPUs in one VM, and the last quarter of the restores takes less than twice as long as the first quarter" {
  scaled vcpus 1024
  [[ $(grep -c ' event=trim ' "$BATS_TEST_TMPDIR/log") == 1024 ]]
  [[ $(grep -o ' vcpu=[0-9]*' "$BATS_TEST_TMPDIR/log" | sort -u | wc -l) == 1024 ]]
  ((last < 2 * first)) || fail "$output"
}

@test "if no payload of 1,024 vCPUs needs a trim, the library's memory grows by at least 8 and at most 20 KiB" {
  scaled vcpus 1024 0x3
  # The library stores 10 bytes for each vCPU. The library's first calls also touch pages of its code and data, which count, too.
  ((shim_kib >= 8 && shim_kib <= 20)) || fail "$output"
}

@test "if the library trims the payloads of 1,024 vCPUs, the library's memory grows by at least 8 and at most 120 KiB" {
  scaled vcpus 1024
  ((shim_kib >= 8 && shim_kib <= 20 + 100)) || fail "$output"
}

@test "while a process creates and closes 2,000 VMs one after another, the library trims each VM's payloads, and after the first 500 VMs, the library's memory does not grow" {
  scaled vms 2000
  [[ $(grep -c ' event=trim ' "$BATS_TEST_TMPDIR/log") == 4000 ]]
  ((shim_kib == 0)) || fail "$output"
  ((process_kib <= 64)) || fail "$output"
  ((last < 2 * first)) || fail "$output"
}

@test "one supervisor trims the payloads of 2,000 VMM processes, and the restores of the last 100 VMMs take less than twice as long as those of the first 100 VMMs" {
  need_kvm
  # The supervisor starts with the soft limit that most systems have, 1024 descriptors. The VMMs and the supervisor run on one CPU,
  # because with two CPUs the time of a restore depends on the CPU that the scheduler picks for the supervisor.
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
