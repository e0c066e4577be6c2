# SPDX-License-Identifier: MIT
# Tests scripts/demo, which restores a leaky host's snapshot twice: without libxsaveshim.so, the guest loses its registers or QEMU
# exits; with libxsaveshim.so, the guest runs on intact. Also tests the messages of scripts/demo on a host that cannot run the demo.
# bats file_tags=kvm

load lib
load qemu

# In a new mount namespace, and for a plain user also in a new user namespace, runs the shell command COMMAND and then scripts/demo.
# WRAPPER is a command, such as setpriv with options, that executes scripts/demo.
run_demo_after() { # COMMAND [WRAPPER...]
  local namespaces=(--mount)
  ((EUID == 0)) || namespaces+=(--map-root-user)
  run --separate-stderr unshare "${namespaces[@]}" bash -c "$1"' && shift && exec "$@"' bash "$@" "$repo/scripts/demo"
}

@test "scripts/demo builds xsaveshim and restores a leaky host's snapshot: without the library, the guest loses registers or QEMU exits; with the library, the guest stays intact" {
  need_kvm
  need_no_settings_file
  mkdir "$BATS_TEST_TMPDIR/clone"
  tar -C "$repo" --exclude=./build --exclude=./.git -c . | tar -C "$BATS_TEST_TMPDIR/clone" -x
  BUILD='' run --separate-stderr "$BATS_TEST_TMPDIR/clone/scripts/demo"
  outcome
  ((status == 0))
  [[ -z $stderr ]]
  ((${#lines[@]} <= 16))
  local without=${output#*2. The guest is restored on this host, without libxsaveshim.so.} with
  with=${without#*3. The guest is restored on this host, with LD_PRELOAD=libxsaveshim.so.}
  without=${without%%3. *}
  [[ $without =~ "KVM answered:"\ +KVM_SET_XSAVE\ .*\ EINVAL$'\n' ]]
  if qemu_exits_on_refusal; then
    [[ $without =~ "QEMU said:"\ .*"Failed to set XSAVE: Invalid argument (it has exited)" ]]
  else
    [[ $without =~ "QEMU said:"\ +"nothing (its status: running)"$'\n' ]]
    [[ $without =~ "The guest printed:"\ +T?X+$'\n' ]]
  fi
  [[ $with =~ "KVM answered:"\ +KVM_SET_XSAVE\ .*\ ok$'\n' ]]
  [[ $with =~ "The guest printed:"\ +T+$'\n' ]]
  [[ $with =~ "The library reported: xsaveshim: level=notice event=trim "[^$'\n']*\ dropped=[a-z]+$'\n' ]]
}

@test "if the library does not trim the payload, scripts/demo prints an error and exits with 1" {
  need_kvm
  mkdir "$BATS_TEST_TMPDIR/build"
  cp -r "$build"/{core,preload,test} "$BATS_TEST_TMPDIR/build/"
  cp "$build/test/observe.so" "$BATS_TEST_TMPDIR/build/libxsaveshim.so"
  BUILD=$BATS_TEST_TMPDIR/build run --separate-stderr "$repo/scripts/demo"
  outcome
  ((status == 1))
  [[ $stderr == *"scripts/demo: with libxsaveshim.so, the guest should have kept its registers"* ]]
}

@test "if /dev/kvm does not exist, scripts/demo says to load a KVM module, and exits with 2" {
  run_demo_after 'mount -t tmpfs none /dev'
  outcome
  ((status == 2))
  [[ -z $output && ${#stderr_lines[@]} == 1 ]]
  [[ $stderr == "scripts/demo: there is no /dev/kvm. "*modprobe* ]]
}

@test "if the user may not open /dev/kvm, scripts/demo says how to get the permission, and exits with 2" {
  need_kvm
  # without CAP_DAC_OVERRIDE, the file's mode applies even to root
  touch "$BATS_TEST_TMPDIR/kvm"
  chmod 0 "$BATS_TEST_TMPDIR/kvm"
  run_demo_after "mount --bind '$BATS_TEST_TMPDIR/kvm' /dev/kvm" setpriv --bounding-set=-dac_override
  outcome
  ((status == 2))
  [[ -z $output && ${#stderr_lines[@]} == 1 ]]
  [[ $stderr == "scripts/demo: /dev/kvm cannot be opened (Permission denied). "*usermod* ]]
}
