# SPDX-License-Identifier: MIT
# scripts/demo: the story that it shows, and its messages if this host cannot show the story.
# bats file_tags=kvm

load lib
load qemu

# Runs the demo after COMMAND in a mount namespace of its own; a plain user gets a user namespace, too.
run_demo_after() { # COMMAND [WRAPPER...]
  local namespaces=(--mount)
  ((EUID == 0)) || namespaces+=(--map-root-user)
  run --separate-stderr unshare "${namespaces[@]}" bash -c "$1"' && shift && exec "$@"' bash "$@" "$repo/scripts/demo"
}

@test "the demo builds, and shows that the guest is lost without the library and intact with it" {
  need_kvm
  need_no_settings_file
  mkdir "$BATS_TEST_TMPDIR/clone"
  tar -C "$repo" --exclude=./build --exclude=./.git -c . | tar -C "$BATS_TEST_TMPDIR/clone" -x
  BUILD='' run --separate-stderr "$BATS_TEST_TMPDIR/clone/scripts/demo"
  outcome
  ((status == 0))
  [[ -z $stderr ]]
  ((${#lines[@]} <= 16))
  local without=${output#*2. It is restored here, without the library.} with
  with=${without#*3. It is restored here, with LD_PRELOAD=libxsaveshim.so.}
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

@test "the demo fails if the library does not trim" {
  need_kvm
  mkdir "$BATS_TEST_TMPDIR/build"
  cp -r "$build"/{core,preload,test} "$BATS_TEST_TMPDIR/build/"
  cp "$build/test/observe.so" "$BATS_TEST_TMPDIR/build/libxsaveshim.so"
  BUILD=$BATS_TEST_TMPDIR/build run --separate-stderr "$repo/scripts/demo"
  outcome
  ((status == 1))
  [[ $stderr == *"scripts/demo: the guest should have kept its registers"* ]]
}

@test "without /dev/kvm the demo names the remedy and exits with 2" {
  run_demo_after 'mount -t tmpfs none /dev'
  outcome
  ((status == 2))
  [[ -z $output && ${#stderr_lines[@]} == 1 ]]
  [[ $stderr == "scripts/demo: there is no /dev/kvm. "*modprobe* ]]
}

@test "without permission on /dev/kvm the demo names the remedy and exits with 2" {
  need_kvm
  # without CAP_DAC_OVERRIDE the file's mode applies to root, too
  touch "$BATS_TEST_TMPDIR/kvm"
  chmod 0 "$BATS_TEST_TMPDIR/kvm"
  run_demo_after "mount --bind '$BATS_TEST_TMPDIR/kvm' /dev/kvm" setpriv --bounding-set=-dac_override
  outcome
  ((status == 2))
  [[ -z $output && ${#stderr_lines[@]} == 1 ]]
  [[ $stderr == "scripts/demo: /dev/kvm cannot be opened (Permission denied). "*usermod* ]]
}
