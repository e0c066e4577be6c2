# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Tests the supervisor and `xsaveshim status` under Yama. Yama's setting ptrace_scope decides which processes may read another
# process's memory. Each test boots an emulated machine (the testbed), where the test can set ptrace_scope to every value.

load lib

# in_testbed SCRIPT    boots an emulated machine and runs the bash code SCRIPT there as root. On this machine, every user may use
# /dev/kvm and execute the programs in $build. Like bats' `run --separate-stderr`, sets $status, $output and $stderr.
in_testbed() {
  run --separate-stderr "$repo/test/kernels/run" --timeout $((120 * ${XSTEST_SLOW:-1})) fixed -- bash -c '
    scope=/proc/sys/kernel/yama/ptrace_scope
    as_nobody="setpriv --reuid nobody --regid nogroup --clear-groups"
    build=/tmp/build # the repository may be in a home directory that other users may not enter
    xsaveshim=$build/xsaveshim
    static=$build/test/vmm-static
    musl=$build/test/vmm-musl
    mkdir -p $build/test && cp "$0"/{xsaveshim,libxsaveshim.so} $build/ && cp "$0"/test/{vmm-static,vmm-musl,idle} $build/test/ &&
      chmod -R a+rX $build && cd / || exit
    [[ -w /dev/kvm ]] && '"$1" "$build"
}

assert_trimmed() { # HOW-MANY-RESTORES
  [[ $status == 0 && $(grep -cx 'set-xsave 0x217: 0 xstate_bv=0x7 rest=same' <<<"$output") == "$1" ]] || fail "$(outcome)"
  [[ $(grep -c '^xsaveshim: level=notice event=trim via=supervisor .*dropped=bndcsr,pkru$' <<<"$stderr") == "$1" ]] ||
    fail "$(outcome)"
}

@test "under Yama's ptrace_scope 0 and 1, a plain user's supervisor trims the payloads that any thread of the VMM loads, even if the supervised command is a shell that execs the VMM" {
  in_testbed '
    for level in 0 1; do
      echo $level >$scope
      for program in $static $musl; do
        $as_nobody $xsaveshim run -- $program wide create 0 cpuid 0xd=0x7 create 1 cpuid 0xd=0x3 \
          thread vcpu 0 set-xsave 0x217 thread vcpu 1 set-xsave 0x217
      done
      $as_nobody $xsaveshim run --supervise -- sh -c "exec $static create 0 cpuid 0xd=0x7 set-xsave 0x217"
    done'
  assert_trimmed 6
  [[ $(grep -cx 'set-xsave 0x217: 0 xstate_bv=0x3 rest=same' <<<"$output") == 4 ]] || fail "$(outcome)"
  [[ $(grep -c 'event=trim via=supervisor .*dropped=avx,bndcsr,pkru$' <<<"$stderr") == 4 ]] || fail "$(outcome)"
}

@test "under Yama's ptrace_scope 1, if the supervised command starts the VMM as a child process, a plain user's supervisor cannot trim the VMM's payload, and reports not-trimmed" {
  in_testbed '
    echo 1 >$scope
    $as_nobody $xsaveshim run --supervise -- sh -c "$static create 0 cpuid 0xd=0x7 set-xsave 0x217; true"'
  [[ $status == 0 && $output == *'set-xsave 0x217: EINVAL xstate_bv=0x217 rest=same' ]] || fail "$(outcome)"
  [[ $(grep -cE '^xsaveshim: level=error event=not-trimmed via=supervisor pid=[0-9]+ ioctl=KVM_SET_.* reason=memory-not-readable ' <<<"$stderr") == 2 ]] ||
    fail "$(outcome)"
}

@test "under Yama's ptrace_scope 2, if a plain user calls xsaveshim run, it refuses to supervise a VMM and says why; if root calls it, it supervises VMMs" {
  in_testbed '
    echo 2 >$scope
    $as_nobody $xsaveshim run -- $static mark started
    echo "exit status $?"
    $xsaveshim run -- $static create 0 cpuid 0xd=0x7 set-xsave 0x217
    $xsaveshim run --supervise -- sh -c "$as_nobody $static create 0 cpuid 0xd=0x7 set-xsave 0x217; true"'
  [[ $output == 'exit status 125'* && $output != *mark* ]] || fail "$(outcome)"
  [[ $stderr == 'xsaveshim run: cannot supervise: this user may not '*'(kernel.yama.ptrace_scope of 2 or 3'* ]] || fail "$(outcome)"
  assert_trimmed 2
}

@test "under Yama's ptrace_scope 1, if a plain user calls xsaveshim status, it cannot read the settings of this user's own VMM; if root calls it, it shows these settings" {
  in_testbed '
    echo 1 >$scope
    mkfifo /tmp/stdin && exec 9<>/tmp/stdin
    $as_nobody env LD_PRELOAD=$build/libxsaveshim.so $build/test/idle 1 <&9 >/tmp/output &
    until grep -q ready /tmp/output; do kill -0 $! || exit; sleep 0.1; done
    for as_whom in "$as_nobody" ""; do
      $as_whom $xsaveshim status --json >/tmp/json
      echo $? $(jq -c ".vmms[] | [.mode, .protected, .settings.trim]" /tmp/json)
    done'
  [[ $status == 0 && $output == '2 ["library",null,null]'$'\n''0 ["library",true,"restore"]' ]] || fail "$(outcome)"
}
