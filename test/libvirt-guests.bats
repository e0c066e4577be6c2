#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Restores libvirt domains, with and without the library. The domains were saved with leak.so, which imitates a leaky host: a
# host whose KVM_GET_XSAVE returns xfeatures that guests never had. The test host is a set of namespaces with systemd as PID 1. It
# runs this machine's libvirtd and QEMU, with their default settings, on this machine's KVM. The tests share the test host and the
# saved images.

load lib
load libvirt

host_dir=$BATS_FILE_TMPDIR/host
managed_save=/var/lib/libvirt/qemu/save/guest.save

setup_file() {
  export BATS_NO_PARALLELIZE_WITHIN_FILE=true
  need_libvirt_host
  need_kvm
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_FILE_TMPDIR/installed"
  install -D "$repo/test/standins/kolla" -t "$BATS_FILE_TMPDIR/installed/srv"
  boot_host "$BATS_FILE_TMPDIR/installed"
  save_leaky
  managed_save_leaky
}

# Uses `virsh managedsave` to save a guest with leaked xfeatures, and moves the save file to /srv/managed.save.
managed_save_leaky() {
  start_leaky_guest
  host touch /srv/leaking
  host virsh -q managedsave guest
  host rm /srv/leaking
  host virsh -q managedsave-define guest /srv/guest/guest.xml
  host virsh -q define /srv/guest/guest.xml
  host mv "$managed_save" /srv/managed.save
}

teardown_file() {
  stop_host
}

setup() {
  find_host
}

teardown() {
  [[ $host_dir == "$BATS_FILE_TMPDIR/host" ]] || { stop_host; host_dir=$BATS_FILE_TMPDIR/host; }
  host sh -c 'virsh -q destroy guest; rm -f "$0" /var/log/guest.serial /var/log/libvirt/qemu/guest.log' "$managed_save" || true
  ! host systemctl --quiet is-active nova_libvirt || stop_kolla
}

ensure_enabled() { host xsaveshim-libvirt status >/dev/null || host xsaveshim-libvirt enable; }

ensure_disabled() { host xsaveshim-libvirt disable; }

# Runs a virsh command that loads, without the library, a payload that KVM refuses. Checks that QEMU up to 8.1 runs the guest
# without its saved registers, and that later versions exit, so that the virsh command fails.
assert_loses_registers() { # virsh ARGUMENT...
  if qemu_exits_on_refusal; then
    run -1 host "$@"
    host grep 'Failed to set XSAVE: Invalid argument' /var/log/libvirt/qemu/guest.log
  else
    run -0 host "$@"
    assert_guest_prints X
    run -1 guest_has_library
  fi
  run -1 trim_in_guest_log
}

@test "without the library, virsh restore of an image with leaked xfeatures fails with QEMU 8.2 or later; with earlier QEMUs it succeeds, but the guest's registers are lost" {
  ensure_disabled
  assert_loses_registers virsh restore /srv/leaky.save
}

@test "without the library, virsh start from a managed save with leaked xfeatures fails with QEMU 8.2 or later; with earlier QEMUs the guest's registers are lost, and libvirt deletes the save" {
  ensure_disabled
  host cp /srv/managed.save "$managed_save"
  assert_loses_registers virsh start guest
  if qemu_exits_on_refusal; then
    [[ -s $host_root$managed_save ]]
  else
    [[ ! -e $host_root$managed_save ]]
  fi
}

@test "if a domain's XML preloads the library in <qemu:env>, or has as its <emulator> a script that preloads the library, virsh restores the domain intact without xsaveshim-libvirt enable" {
  ensure_disabled
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  # docs/libvirt.md has this script
  printf '#!/bin/sh\nexec env LD_PRELOAD=libxsaveshim.so /usr/bin/qemu-system-x86_64 "$@"\n' |
    host tee /usr/bin/qemu-system-x86_64-xsaveshim >/dev/null
  host chmod 755 /usr/bin/qemu-system-x86_64-xsaveshim
  domain_xml "LD_PRELOAD=$library" | host tee /srv/guest/env.xml >/dev/null
  domain_xml | sed 's,<devices>,&<emulator>/usr/bin/qemu-system-x86_64-xsaveshim</emulator>,' |
    host tee /srv/guest/emulator.xml >/dev/null
  for xml in env.xml emulator.xml; do
    host virsh restore /srv/leaky.save --xml "/srv/guest/$xml"
    assert_guest_has_library
    assert_guest_prints T
    assert_trim_in_guest_log
    host virsh -q destroy guest
  done
}

@test "xsaveshim-libvirt enable and disable do not affect running domains, only domains that start afterwards" {
  ensure_disabled
  host virsh -q start guest
  before=$(guest_pid)
  daemon=$(host systemctl show -P MainPID libvirtd)
  run -0 host xsaveshim-libvirt enable
  [[ $output == *"domain guest (pid $before): does NOT have the library; save and restore it"* ]]
  [[ $(host systemctl show -P MainPID libvirtd) != "$daemon" ]]
  [[ $(guest_pid) == "$before" ]]
  assert_guest_prints T
  run -1 guest_has_library

  restart_guest
  assert_guest_has_library
  with_library=$(guest_pid)

  host xsaveshim-libvirt disable
  [[ $(guest_pid) == "$with_library" ]]
  assert_guest_has_library
  restart_guest
  run -1 guest_has_library
}

@test "after xsaveshim-libvirt enable, virsh start restores a domain intact from a managed save that has leaked xfeatures" {
  ensure_enabled
  host cp /srv/managed.save "$managed_save"
  host virsh start guest
  assert_guest_prints T
  assert_trim_in_guest_log
}

@test "after xsaveshim-libvirt enable, virsh restores a domain intact from a save that has leaked xfeatures, while QEMU runs under libvirt's default seccomp sandbox, in its mount namespace and as its unprivileged user" {
  run -1 host grep -vE '^[[:space:]]*(#|$)' /etc/libvirt/qemu.conf
  ensure_enabled
  host virsh -q restore /srv/leaky.save
  assert_guest_has_library
  assert_guest_prints T
  assert_trim_in_guest_log
  pid=$(guest_pid)
  host grep -qE '^Seccomp:[[:space:]]*2$' "/proc/$pid/status"
  [[ $(host stat -c %U "/proc/$pid") == libvirt-qemu ]]
  daemon=$(host systemctl show -P MainPID libvirtd)
  [[ $(host readlink "/proc/$pid/ns/mnt") != "$(host readlink "/proc/$daemon/ns/mnt")" ]]
}

# The test sets reserved bits in the saved MXCSR, so KVM refuses the payload even after the library has trimmed it.
@test "if KVM refuses a saved domain's payload even after the library has trimmed it, virsh restore fails, and libvirt keeps the save file" {
  ensure_enabled
  # in the save file, MXCSR (0x1f80) follows QEMU's field a20_mask, whose bytes are all 0xff
  perl -0777 -pe '$n = s/\xff{4}\x00\x00\x1f\x80/\xff\xff\xff\xff\xff\xff\x1f\x80/g; $n == 1 or die "no MXCSR found\n"' \
    "$host_root/srv/leaky.save" >"$host_root/srv/unloadable.save"
  run -1 host virsh restore /srv/unloadable.save
  [[ $output == *"error: Failed to restore domain from /srv/unloadable.save"* ]]
  host grep -E '^xsaveshim: level=error event=refused .* reason=.*mxcsr' /var/log/libvirt/qemu/guest.log
  [[ -s $host_root/srv/unloadable.save ]]

  host cp /srv/unloadable.save "$managed_save"
  run -1 host virsh start guest
  [[ $output == *"error: Failed to start domain 'guest'"* ]]
  [[ -s $host_root$managed_save ]]

  host xsaveshim-libvirt disable
  host rm "$managed_save" /var/log/libvirt/qemu/guest.log
  assert_loses_registers virsh restore /srv/unloadable.save
}

# Runs the commands of docs/snapshots.md on IMAGE. They tell whether IMAGE is poisoned (has xfeatures that its guest never had).
judge_image() { # IMAGE
  local commands
  commands=$(sed -n '/^## libvirt/,/^## /p' "$repo/docs/snapshots.md" | sed -n '/^```$/,/^```$/{/^```$/!p}' |
    sed "s|guest\.save|$1|; s|GUEST|guest|g")
  [[ $commands ]] || fail "docs/snapshots.md has no commands for libvirt" || return
  host sh -c "rm -rf /srv/judge /var/log/libvirt/qemu/guest.log; mkdir /srv/judge"
  run host bash -euc "cd /srv/judge; $commands"
}

@test "the commands of docs/snapshots.md tell a saved image with leaked xfeatures from a clean image, and change neither image" {
  ensure_disabled
  host virsh -q start guest
  host virsh -q save guest /srv/clean.save
  before=$(host sha256sum /srv/leaky.save /srv/clean.save)

  judge_image /srv/leaky.save
  [[ $status == 0 && $output == *event=would-trim* ]] || fail "exit status $status" "$output"
  judge_image /srv/clean.save
  [[ $status == 0 && $output == *event=learn* && $output != *event=would-trim* ]] || fail "exit status $status" "$output"
  [[ $(host sha256sum /srv/leaky.save /srv/clean.save) == "$before" ]]
}

# ---- domains with XSAVESHIM_LOG=/path ----

domains_log=/var/log/xsaveshim/domains.log

# Writes an /etc/xsaveshim.conf that has mistakes, and that names $domains_log as the library's log. The log's directory belongs to
# libvirt-qemu, the user that domains run as. After its next start, libvirtd writes its own stderr to /srv/libvirtd.err.
configure_log() {
  host install -d -o libvirt-qemu -g libvirt-qemu -m 700 "$(dirname "$domains_log")"
  printf '%s\n' XSAVESHIM_REFUSED=abort "XSAVESHIM_LOG=$domains_log" XSAVESHIM_TRIM=everything 'no such setting' |
    host tee /etc/xsaveshim.conf >/dev/null
  host mkdir -p /etc/systemd/system/libvirtd.service.d
  printf '%s\n' '[Service]' 'StandardError=append:/srv/libvirtd.err' | host tee /etc/systemd/system/libvirtd.service.d/stderr.conf >/dev/null
  host systemctl daemon-reload
}

unconfigure_log() {
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/installed"
  host tee /etc/xsaveshim.conf <"$BATS_TEST_TMPDIR/installed/etc/xsaveshim.conf" >/dev/null
  host rm -rf /etc/systemd/system/libvirtd.service.d/stderr.conf "$(dirname "$domains_log")" /srv/libvirtd.err
  host systemctl daemon-reload
}

# Prints the name and the open files of each process, except QEMU, that has loaded the library.
descriptors_with_library() {
  host sh -c 'for maps in $(grep -l libxsaveshim /proc/[0-9]*/maps 2>/dev/null); do
    process=${maps%/maps}
    case $(cat "$process/comm") in qemu*) ;; *) echo "$(cat "$process/comm"): $(readlink "$process"/fd/* | tr "\n" " ")" ;; esac
  done'
}

@test "if /etc/xsaveshim.conf has mistakes and names a log file, the library in a domain's QEMU reports the mistakes in this log file, and the library in libvirtd writes nothing" {
  ensure_disabled
  configure_log
  host xsaveshim-libvirt enable
  host rm -r "$domains_log" /var/cache/libvirt/qemu/capabilities # the probe domain left the log; without this cache libvirtd queries QEMU and KVM again
  host systemctl restart libvirtd
  host virsh -q domcapabilities >/dev/null
  daemon=$(host systemctl show -P MainPID libvirtd)
  host grep -q libxsaveshim "/proc/$daemon/maps"
  run -0 descriptors_with_library
  [[ $output == *libvirtd:* && $output != *"$domains_log"* && $output != *xsaveshim.conf* ]] || fail "$output"
  run -1 host test -e "$domains_log"
  run -1 host grep xsaveshim: /srv/libvirtd.err

  host virsh -q restore /srv/leaky.save
  assert_guest_has_library
  assert_guest_prints T
  [[ $(host stat -c '%U %a' "$domains_log") == "libvirt-qemu 600" ]]
  host grep -E "^xsaveshim: level=notice event=trim pid=$(guest_pid) ioctl=KVM_SET_XSAVE " "$domains_log"
  host grep -E '^xsaveshim: level=error event=setting .*key=XSAVESHIM_TRIM value=everything ' "$domains_log"
  run -1 host grep xsaveshim: /var/log/libvirt/qemu/guest.log
  run -1 host grep xsaveshim: /srv/libvirtd.err
  unconfigure_log
}

@test "if a domain's QEMU may not read /etc/xsaveshim.conf, the library reports this in the domain's log, and the domain is restored intact" {
  ensure_enabled
  host chmod 600 /etc/xsaveshim.conf
  host virsh -q restore /srv/leaky.save
  host chmod 644 /etc/xsaveshim.conf
  assert_guest_prints T
  assert_trim_in_guest_log
  host grep -E '^xsaveshim: level=error event=setting .*source=/etc/xsaveshim.conf key=file value="Permission denied"' \
    /var/log/libvirt/qemu/guest.log
}

@test "if a domain started while /etc/xsaveshim.conf had the line XSAVESHIM_TRIM=none, xsaveshim-libvirt status says that the domain is not protected, even after this line is deleted" {
  ensure_enabled
  echo XSAVESHIM_TRIM=none | host tee -a /etc/xsaveshim.conf >/dev/null
  host virsh -q start guest
  assert_guest_prints T
  host sed -i '$d' /etc/xsaveshim.conf
  run -1 host xsaveshim-libvirt status
  [[ $output == *"settings: /etc/xsaveshim.conf"*"domain guest (pid $(guest_pid)): has the library, "*", but is NOT protected"* ]] || fail "$output"
}

# ---- OpenStack, as in docs/other-hosts.md ----

# Stops the host's libvirtd, and starts another one in a container like OpenStack Kolla's. The container gets each VOLUME
# (HOST-FILE:CONTAINER-FILE:ro).
start_kolla() { # [VOLUME...]
  host systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
  host systemd-run --quiet --unit=nova_libvirt --property=KillMode=process bash /srv/kolla "$@"
  wait_for $((10 * ${XSTEST_SLOW:-1})) host virsh -q list >/dev/null 2>&1
}

stop_kolla() {
  host systemctl stop nova_libvirt
  host systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket
}

# Runs the command of docs/other-hosts.md that writes /etc/xsaveshim.kolla.preload, and sets the array volumes to the volumes that
# this page lists. One of them makes this file the container's /etc/ld.so.preload.
prepare_kolla() {
  local section command
  section=$(sed -n '/^## OpenStack/,/^## KubeVirt/p' "$repo/docs/other-hosts.md")
  command=$(grep '^echo .* | sudo tee ' <<<"$section")
  host sh -c "${command/sudo /}" >/dev/null
  mapfile -t volumes < <(sed -n 's/^ *- "\(.*:ro\)"$/\1/p' <<<"$section")
  ((${#volumes[@]} == 3)) || fail "docs/other-hosts.md should list three volumes for Kolla, but lists: ${volumes[*]}"
}

in_kolla() { host nsenter --mount --target "$(host pgrep -x libvirtd)" "$@"; }

@test "if a container like OpenStack Kolla's has the volumes that docs/other-hosts.md lists, libvirtd in this container starts a domain intact from a managed save that has leaked xfeatures" {
  ensure_disabled
  prepare_kolla
  start_kolla "${volumes[@]}"
  host cp /srv/managed.save "$managed_save"
  host virsh start guest
  assert_guest_prints T
  in_kolla grep "^xsaveshim: level=notice event=trim pid=$(guest_pid) ioctl=KVM_SET_XSAVE vcpu=0 " /var/log/libvirt/qemu/guest.log
  [[ $(in_kolla stat -c %U "/proc/$(guest_pid)") == nova ]]
  run -0 host xsaveshim status
  [[ $output =~ $(guest_pid)\ +1\ +yes\ +library\ +guest\ .*refused=abort ]] || fail "$output"
}

@test "if a container like OpenStack Kolla's lacks the volumes that docs/other-hosts.md lists, libvirtd in this container cannot restore a domain intact from a save that has leaked xfeatures" {
  ensure_disabled
  start_kolla
  assert_loses_registers virsh restore /srv/leaky.save
}

# Boots a second host. From then on `host` runs commands on the second host. The second host's libvirtd listens on PORT for the
# first host's libvirtd.
start_destination() { # PORT
  local stage=$BATS_TEST_TMPDIR/destination.installed unit
  cp -a "$BATS_FILE_TMPDIR/installed" "$stage"
  unit=$stage/etc/systemd/system/libvirtd-tcp.socket.d/port.conf
  mkdir -p "$(dirname "$unit")" "$stage/etc/libvirt"
  printf '%s\n' '[Socket]' ListenStream= "ListenStream=127.0.0.1:$1" >"$unit"
  printf '%s\n' 'auth_tcp = "none"' 'host_uuid = "5ca1ab1e-0000-4000-8000-00000000beef"' >"$stage/etc/libvirt/libvirtd.conf"
  host_dir=$BATS_TEST_TMPDIR/destination
  boot_host "$stage"
  host systemctl start libvirtd-tcp.socket
}

@test "if xsaveshim-libvirt enable ran only on the destination, a guest that libvirtd migrates live from a leaky host arrives intact" {
  local source_dir=$host_dir port=$((20000 + RANDOM % 10000))
  ensure_disabled
  start_leaky_guest
  start_destination "$port"
  host xsaveshim-libvirt enable
  host_dir=$source_dir host touch /srv/leaking
  # The addresses are 127.0.0.1, because localhost may be an IPv6 address, and this test may run on a test kernel without IPv6.
  host_dir=$source_dir host virsh -q migrate --live --p2p --persistent --undefinesource --xml /srv/guest/guest.xml \
    --persistent-xml /srv/guest/guest.xml --migrateuri tcp://127.0.0.1 --listen-address 127.0.0.1 guest \
    "qemu+tcp://127.0.0.1:$port/system"
  host_dir=$source_dir host rm /srv/leaking
  assert_guest_has_library
  assert_guest_prints T
  assert_trim_in_guest_log
}
