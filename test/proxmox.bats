#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests the commands of docs/other-hosts.md for Proxmox VE. The Proxmox host of these tests is a set of namespaces, with systemd as
# PID 1 and this machine's QEMU and KVM. In place of Proxmox's `qm start`, the script test/standins/proxmox starts guests. The tests
# share the host, and each test undoes its changes to the host's files.

load lib
load qemu

host_dir=$BATS_FILE_TMPDIR/host
patience=$((10 * ${XSTEST_SLOW:-1}))

setup_file() {
  local stage=$BATS_FILE_TMPDIR/stage missing
  export BATS_NO_PARALLELIZE_WITHIN_FILE=true
  [[ $EUID == 0 ]] || skip "not root: these tests boot systemd in namespaces"
  missing=$("$repo/test/tools/systemd-ns" check 2>&1) || skip "$missing"
  need_kvm
  make -s -C "$repo" install BUILD="$build" DESTDIR="$stage"
  rm "$stage/etc/xsaveshim.conf"
  install -D "$repo/test/standins/proxmox" "$build/test/canary.bin" "$build/test/journal.so" -t "$stage/srv"
  "$repo/test/tools/systemd-ns" start "$host_dir" "$stage"
  host ln -sf qemu-system-x86_64 /usr/bin/kvm # Proxmox's package has this link.
}

teardown_file() {
  [[ ! -e $host_dir/init ]] || "$repo/test/tools/systemd-ns" stop "$host_dir"
}

setup() {
  work=$BATS_TEST_TMPDIR
  host_root=/proc/$(<"$host_dir/init")/root
  host mkdir /srv/101
  ln -s "$host_root/srv/101" "$work/101"
  before=$(files_of_kvm)
  read -r leaked _ < <("$build/test/leakable")
  touch "$work/host-leaks"
}

teardown() {
  guest_stop_all
  stop_101
  host touch /etc/xsaveshim.conf
  ! host test -e /usr/bin/kvm.distrib || from_page rm
  host rm -r /srv/101 /etc/xsaveshim.conf
  [[ $(files_of_kvm) == "$before" ]]
}

host() { timeout $((6 * patience)) "$repo/test/tools/systemd-ns" exec "$host_dir" "$@" 3>&-; }

files_of_kvm() { host sh -c 'ls /usr/bin/kvm*; readlink /usr/bin/kvm; dpkg-divert --list "*kvm*"'; }

pid_101() { host cat /run/qemu-server/101.pid; }

stop_101() {
  host sh -c '! kill -KILL $(cat /run/qemu-server/101.pid); rm -f /run/qemu-server/101.*' 2>/dev/null
  wait_for "$patience" scope_is_gone
}

scope_is_gone() { ! host systemctl --quiet is-active 101.scope; }

# Runs the code block that begins with COMMAND, from the Proxmox section of docs/other-hosts.md.
from_page() { # COMMAND
  local commands
  commands=$(sed -n '/^## Proxmox VE/,/^## /p' "$repo/docs/other-hosts.md" | awk -v first="$1" '
    /^```/ { inside = !inside; begins = inside; wanted = 0; next }
    begins { wanted = $1 == first; begins = 0 }
    inside && wanted')
  [[ $commands ]] || fail "the Proxmox section of docs/other-hosts.md has no code block that begins with: $1" || return
  host bash -euc "$commands" >/dev/null
}

machine=(-machine 'pc,accel=kvm' -cpu qemu64 -m 32 -bios /srv/canary.bin -smp 1 -display none -vga none -nic none
  -serial file:/srv/101/serial.0)

# Prefixes of commands: a command after pvedaemon's words runs like a task of Proxmox's daemon pvedaemon, and a command after sshd's
# words runs like one that came over ssh.
pvedaemon=(systemd-run --quiet --pipe --wait --collect --unit=pvedaemon)
sshd=(env -i USER=root HOME=/root SHELL=/bin/bash PATH=/usr/sbin:/usr/bin:/sbin:/bin 'SSH_CONNECTION=192.0.2.1 40000 192.0.2.2 22')

# Starts guest 101. BY is the array pvedaemon, plus options for its systemd-run, or the array sshd, plus variables for its env. Sets
# $output to the output of the task that starts the guest. If $migratedfrom is set, it names the node from which the guest migrates.
start_101() { # BY... -- [QEMU-ARGUMENT...]
  local by=()
  while [[ $1 != -- ]]; do by+=("$1") && shift; done
  shift
  : >"$work/101/serial.0"
  run host "${by[@]}" /srv/proxmox 101 ${migratedfrom:+--migratedfrom "$migratedfrom"} "${machine[@]}" "$@"
  ((status == 0)) || fail "exit status $status" "$output"
}

start_leaky_source() { # [QEMU-ARGUMENT...]
  guest_start source "LD_PRELOAD=$build/test/leak.so" "LEAK_BITS=$leaked" "LEAK_WHILE=$work/host-leaks" -- "$@"
  assert_guest_intact source
}

# Starts guest 101 as the destination of a migration, as Proxmox does through sshd. Each VARIABLE is in QEMU's environment.
await_migration() { # [VARIABLE=VALUE]...
  migratedfrom=node1 start_101 "${sshd[@]}" "$@" -- -incoming unix:/run/qemu-server/101.migrate -S
}

# Migrates a guest to this host from a host whose KVM leaks xfeatures.
migrate_in() { # [VARIABLE=VALUE]...
  start_leaky_source
  await_migration "$@"
  guest_migrate source "unix:$host_root/run/qemu-server/101.migrate"
}

# Resumes the guest, as the source node does through `qm mtunnel` when the guest's state has arrived.
resume_101() {
  host socat -t 5 - UNIX-CONNECT:/run/qemu-server/101.qmp <<<'{"execute": "qmp_capabilities"}{"execute": "cont"}' >"$work/qmp"
  grep -q '"return"' "$work/qmp"
}

has_library() { host grep -q '/libxsaveshim\.so$' "/proc/$(pid_101)/maps"; }

assert_status() { # EXIT-STATUS PROTECTED MODE
  run "-$1" host xsaveshim status
  [[ $output =~ (^|$'\n')\ *$(pid_101)\ +1\ +$2\ +$3\  ]] || fail "$output"
}

journal_has() { # IDENTIFIER PATTERN
  host journalctl -q -o cat -t "$1" | grep -qE "$2"
}

assert_trim_in_journal() {
  wait_for "$patience" journal_has xsaveshim "^level=notice event=trim pid=$(pid_101) ioctl=KVM_SET_XSAVE vcpu=0 "
}

@test "with the wrapper of docs/other-hosts.md for Proxmox's /usr/bin/kvm, a guest that migrates in from a leaky host is intact, and the journal has the library's trim report" {
  local process
  from_page dpkg-divert
  migrate_in
  [[ $output != *xsaveshim* ]] || fail "$output"
  # test/standins/proxmox must give QEMU the same scope, environment and descriptors as Proxmox does.
  process=/proc/$(pid_101)
  [[ $(host cat "$process/cgroup") == */qemu.slice/101.scope ]]
  host grep -qz '^PVE_MIGRATED_FROM=node1$' "$process/environ"
  host grep -qz '^SSH_CONNECTION=' "$process/environ"
  run host readlink "$process/fd/0" "$process/fd/1" "$process/fd/2"
  [[ $output == $'/dev/null\n/dev/null\n/dev/null' ]] || fail "$output"
  resume_101
  assert_guest_intact 101
  assert_trim_in_journal
  assert_status 0 yes library
}

@test "without the wrapper of docs/other-hosts.md for Proxmox's /usr/bin/kvm, a guest that migrates in from a leaky host is lost" {
  if qemu_exits_on_refusal; then
    start_leaky_source
    await_migration
    guest_qmp source migrate "{\"uri\": \"unix:$host_root/run/qemu-server/101.migrate\"}"
    wait_for "$patience" scope_is_gone
  else
    migrate_in
    resume_101
    guest_wait_for 101 X
    assert_status 1 NO none
  fi
}

@test "a systemd drop-in with LD_PRELOAD for Proxmox's pvedaemon gives the library to guests that pvedaemon starts, but not to guests that migrate in" {
  local library
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  start_101 "${pvedaemon[@]}" "--setenv=LD_PRELOAD=$library" --
  assert_status 0 yes library
  stop_101
  await_migration
  assert_status 1 NO none
}

@test "if Proxmox starts QEMU with -loadvm, the library's trim report is in the output of the Proxmox task that starts QEMU, or, with XSAVESHIM_LOG=syslog, in the journal" {
  qemu-img create -q -f qcow2 "$work/disk.qcow2" 1M
  start_leaky_source -drive "if=none,format=qcow2,file=$work/disk.qcow2"
  guest_hmp source "savevm running"
  guest_stop source
  cp "$work/disk.qcow2" "$work/101/"
  from_page dpkg-divert
  start_101 "${pvedaemon[@]}" -- -drive if=none,format=qcow2,file=/srv/101/disk.qcow2 -loadvm running
  [[ $output != *xsaveshim* ]] || fail "$output"
  assert_guest_intact 101
  assert_trim_in_journal

  stop_101
  host rm /etc/xsaveshim.conf
  start_101 "${pvedaemon[@]}" -- -drive if=none,format=qcow2,file=/srv/101/disk.qcow2 -loadvm running
  [[ $output == *"xsaveshim: level=notice event=trim pid=$(pid_101) ioctl=KVM_SET_XSAVE vcpu=0 "* ]] || fail "$output"
  assert_guest_intact 101
}

@test "if XSAVESHIM_LOG is unset and QEMU's standard error is a socket of the journal, the journal has the library's trim report under the identifier xsaveshim" {
  from_page dpkg-divert
  host rm /etc/xsaveshim.conf
  migrate_in LD_PRELOAD=/srv/journal.so JOURNAL=/run/systemd/journal/stdout
  [[ $(host readlink "/proc/$(pid_101)/fd/2") == socket:* ]]
  resume_101
  assert_guest_intact 101
  assert_trim_in_journal
  run ! journal_has QEMU event=
}

@test "after the commands of docs/other-hosts.md have undone the Proxmox wrapper, /usr/bin/kvm is as before, and a guest that already runs keeps the library" {
  from_page dpkg-divert
  start_101 "${pvedaemon[@]}" --
  has_library
  from_page rm
  [[ $(files_of_kvm) == "$before" ]]
  [[ ! -s $host_root/etc/xsaveshim.conf ]]
  assert_status 0 yes library
  stop_101
  start_101 "${pvedaemon[@]}" --
  assert_status 1 NO none
}

package() { # VERSION
  local tree=$work/package
  mkdir -p "$tree/DEBIAN" "$tree/usr/bin"
  printf '%s\n' 'Package: pve-qemu-kvm' "Version: $1" 'Architecture: all' 'Maintainer: nobody <nobody@example.org>' \
    'Description: contains /usr/bin/kvm' >"$tree/DEBIAN/control"
  ln -sf "qemu-of-version-$1" "$tree/usr/bin/kvm"
  dpkg-deb --build "$tree" "$work/101/$1.deb" >/dev/null
}

@test "after an upgrade of the package that contains /usr/bin/kvm, the Proxmox wrapper of docs/other-hosts.md is still installed as /usr/bin/kvm" {
  package 1
  package 2
  host dpkg --force-overwrite -i /srv/101/1.deb >/dev/null
  from_page dpkg-divert
  host dpkg --force-overwrite -i /srv/101/2.deb >/dev/null
  host grep -q LD_PRELOAD /usr/bin/kvm
  [[ $(host readlink /usr/bin/kvm.distrib) == qemu-of-version-2 ]]
  from_page rm
  [[ $(host readlink /usr/bin/kvm) == qemu-of-version-2 ]]
  host dpkg --purge pve-qemu-kvm >/dev/null
  host ln -s qemu-system-x86_64 /usr/bin/kvm
}
