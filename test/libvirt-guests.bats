#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# What becomes of libvirt's domains, saved on a leaky host, with the shim and without: systemd as PID 1 in namespaces, this
# machine's libvirtd, QEMU and KVM, stock settings. The tests share one host, on which the images are saved once.

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

# managed_save_leaky    the same as a managed save, which is put aside as /srv/managed.save
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

shim_is_enabled() { host xsaveshim-libvirt status >/dev/null || host xsaveshim-libvirt enable; }

shim_is_disabled() { host xsaveshim-libvirt disable; }

# What becomes of an image that KVM refuses, without the shim: QEMU up to 8.1 runs on, later ones exit.
assert_loses_registers() { # virsh ARGUMENT...
  if qemu_exits_on_refusal; then
    run -1 host "$@"
    host grep 'Failed to set XSAVE: Invalid argument' /var/log/libvirt/qemu/guest.log
  else
    run -0 host "$@"
    assert_guest_prints X
    run -1 guest_has_shim
  fi
  run -1 report_line
}

@test "without the shim, a leaky saved domain loses its registers while virsh says that it was restored, or QEMU exits (8.2 and later)" {
  shim_is_disabled
  assert_loses_registers virsh restore /srv/leaky.save
}

@test "without the shim, starting a leaky managed save deletes the save file and loses the registers, or QEMU exits (8.2 and later)" {
  shim_is_disabled
  host cp /srv/managed.save "$managed_save"
  assert_loses_registers virsh start guest
  if qemu_exits_on_refusal; then
    [[ -s $host_root$managed_save ]]
  else
    [[ ! -e $host_root$managed_save ]]
  fi
}

@test "another way: <qemu:env> covers one domain, without the drop-in" {
  shim_is_disabled
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  domain_xml "LD_PRELOAD=$library" | host tee /srv/guest/env.xml >/dev/null
  host virsh restore /srv/leaky.save --xml /srv/guest/env.xml
  guest_has_shim
  assert_guest_prints T
  report_line
}

@test "another way: an <emulator> that starts QEMU with the library" {
  shim_is_disabled
  printf '#!/bin/sh\nexec env LD_PRELOAD=libxsaveshim.so /usr/bin/qemu-system-x86_64 "$@"\n' |
    host tee /usr/bin/qemu-system-x86_64-xsaveshim >/dev/null
  host chmod 755 /usr/bin/qemu-system-x86_64-xsaveshim
  domain_xml | sed 's,<devices>,&<emulator>/usr/bin/qemu-system-x86_64-xsaveshim</emulator>,' |
    host tee /srv/guest/emulator.xml >/dev/null
  host virsh restore /srv/leaky.save --xml /srv/guest/emulator.xml
  guest_has_shim
  assert_guest_prints T
  report_line
}

@test "enable leaves running domains running, and covers what starts afterwards; after disable nothing does" {
  shim_is_disabled
  host virsh -q start guest
  before=$(guest_pid)
  daemon=$(host systemctl show -P MainPID libvirtd)
  run -0 host xsaveshim-libvirt enable
  [[ $output == *"domain guest (pid $before): has NO shim; save and restore it"* ]]
  [[ $(host systemctl show -P MainPID libvirtd) != "$daemon" ]]
  [[ $(guest_pid) == "$before" ]]
  assert_guest_prints T
  run -1 guest_has_shim

  restart_guest
  guest_has_shim
  shimmed=$(guest_pid)

  host xsaveshim-libvirt disable
  [[ $(guest_pid) == "$shimmed" ]]
  guest_has_shim
  restart_guest
  run -1 guest_has_shim
}

@test "after enable, a leaky saved domain is restored intact, and its log tells of the trim" {
  shim_is_enabled
  host virsh restore /srv/leaky.save
  guest_has_shim
  assert_guest_prints T
  report_line
}

@test "after enable, a leaky managed save starts intact" {
  shim_is_enabled
  host cp /srv/managed.save "$managed_save"
  host virsh start guest
  assert_guest_prints T
  report_line
}

@test "all of this under libvirt's stock settings: seccomp sandbox, mount namespace, a user without privileges" {
  run -1 host grep -vE '^[[:space:]]*(#|$)' /etc/libvirt/qemu.conf
  shim_is_enabled
  host virsh -q restore /srv/leaky.save
  guest_has_shim
  pid=$(guest_pid)
  host grep -qE '^Seccomp:[[:space:]]*2$' "/proc/$pid/status"
  [[ $(host stat -c %U "/proc/$pid") == libvirt-qemu ]]
  daemon=$(host systemctl show -P MainPID libvirtd)
  [[ $(host readlink "/proc/$pid/ns/mnt") != "$(host readlink "/proc/$daemon/ns/mnt")" ]]
  assert_guest_prints T
}

# A reserved bit in MXCSR: no trimming makes KVM take that.
@test "a state that nothing can rescue: virsh reports the failure, and the save file is still there" {
  shim_is_enabled
  # QEMU saves a20_mask and MXCSR side by side
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

  # without the shim, QEMU alone decides
  host xsaveshim-libvirt disable
  host rm "$managed_save" /var/log/libvirt/qemu/guest.log
  assert_loses_registers virsh restore /srv/unloadable.save
}

# ---- XSAVESHIM_LOG=/path, for domains ----

domains_log=/var/log/xsaveshim/domains.log

# Settings that the library complains about, with a log in a directory of the domains' user; libvirtd's own stderr in /srv/libvirtd.err.
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

# Each process inside that has the library, but for QEMUs, as: its name and what its descriptors are.
descriptors_with_library() {
  host sh -c 'for maps in $(grep -l libxsaveshim /proc/[0-9]*/maps 2>/dev/null); do
    process=${maps%/maps}
    case $(cat "$process/comm") in qemu*) ;; *) echo "$(cat "$process/comm"): $(readlink "$process"/fd/* | tr "\n" " ")" ;; esac
  done'
}

@test "with a log file for domains and mistakes in the settings, libvirtd opens nothing and says nothing, a domain writes its reports there" {
  shim_is_disabled
  configure_log
  host xsaveshim-libvirt enable
  host rm -r "$domains_log" /var/cache/libvirt/qemu/capabilities # the probe domain's log, and what libvirtd will ask QEMU and KVM
  host systemctl restart libvirtd
  host virsh -q domcapabilities >/dev/null
  daemon=$(host systemctl show -P MainPID libvirtd)
  host grep -q libxsaveshim "/proc/$daemon/maps"
  run -0 descriptors_with_library
  [[ $output == *libvirtd:* && $output != *"$domains_log"* && $output != *xsaveshim.conf* ]] || fail "$output"
  run -1 host test -e "$domains_log"
  run -1 host grep xsaveshim: /srv/libvirtd.err

  host virsh -q restore /srv/leaky.save
  guest_has_shim
  assert_guest_prints T
  [[ $(host stat -c '%U %a' "$domains_log") == "libvirt-qemu 600" ]]
  host grep -E "^xsaveshim: level=notice event=trim pid=$(guest_pid) ioctl=KVM_SET_XSAVE " "$domains_log"
  host grep -E '^xsaveshim: level=error event=setting .*key=XSAVESHIM_TRIM value=everything ' "$domains_log"
  run -1 host grep xsaveshim: /var/log/libvirt/qemu/guest.log
  run -1 host grep xsaveshim: /srv/libvirtd.err
  unconfigure_log
}

@test "a settings file that domains may not read is reported in the domain's log, and the domain is restored intact" {
  shim_is_enabled
  host chmod 600 /etc/xsaveshim.conf
  host virsh -q restore /srv/leaky.save
  host chmod 644 /etc/xsaveshim.conf
  assert_guest_prints T
  report_line
  host grep -E '^xsaveshim: level=error event=setting .*source=/etc/xsaveshim.conf key=file value="Permission denied"' \
    /var/log/libvirt/qemu/guest.log
}

# ---- as OpenStack has it: docs/other-hosts.md ----

# start_kolla [VOLUME...]    Kolla's libvirtd, in its own container, takes the place of the host's
start_kolla() {
  host systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
  host systemd-run --quiet --unit=nova_libvirt --property=KillMode=process bash /srv/kolla "$@"
  wait_for $((10 * ${XSTEST_SLOW:-1})) host virsh -q list >/dev/null 2>&1
}

stop_kolla() {
  host systemctl stop nova_libvirt
  host systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket
}

# The volumes that the page has for Kolla, after its command that writes one of them
prepare_kolla() {
  local section command
  section=$(sed -n '/^## OpenStack/,/^## KubeVirt/p' "$repo/docs/other-hosts.md")
  command=$(grep '^echo .* | sudo tee ' <<<"$section")
  host sh -c "${command/sudo /}" >/dev/null
  mapfile -t volumes < <(sed -n 's/^ *- "\(.*:ro\)"$/\1/p' <<<"$section")
  ((${#volumes[@]} == 3)) || fail "the page has other volumes: ${volumes[*]}"
}

in_kolla() { host nsenter --mount --target "$(host pgrep -x libvirtd)" "$@"; }

@test "in Kolla's container, with the page's volumes, a leaky managed save starts intact, its log tells of the trim, and the host's status shows it" {
  shim_is_disabled
  prepare_kolla
  start_kolla "${volumes[@]}"
  host cp /srv/managed.save "$managed_save"
  host virsh start guest
  assert_guest_prints T
  in_kolla grep "^xsaveshim: level=notice event=trim pid=$(guest_pid) ioctl=KVM_SET_XSAVE vcpu=0 " /var/log/libvirt/qemu/guest.log
  [[ $(in_kolla stat -c %U "/proc/$(guest_pid)") == nova ]]
  run -0 host xsaveshim status
  [[ $output =~ $(guest_pid)\ +1\ +yes\ +preload\ +guest\ .*refused=abort ]] || fail "$output"
}

@test "in Kolla's container, without the page's volumes, a leaky saved domain loses its registers" {
  shim_is_disabled
  start_kolla
  assert_loses_registers virsh restore /srv/leaky.save
}

# start_destination PORT    a second host, whose daemon takes calls from the first one's there; `host` is that one from now on
start_destination() {
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

@test "as nova migrates: the first host's daemon has the second host's start QEMU, the shim is there alone, and the guest arrives intact" {
  local source_dir=$host_dir port=$((20000 + RANDOM % 10000))
  shim_is_disabled
  start_leaky_guest
  start_destination "$port"
  host xsaveshim-libvirt enable
  host_dir=$source_dir host touch /srv/leaking
  # the address, as the testbed's kernels have no IPv6
  host_dir=$source_dir host virsh -q migrate --live --p2p --persistent --undefinesource --xml /srv/guest/guest.xml \
    --persistent-xml /srv/guest/guest.xml --migrateuri tcp://127.0.0.1 --listen-address 127.0.0.1 guest \
    "qemu+tcp://127.0.0.1:$port/system"
  host_dir=$source_dir host rm /srv/leaking
  guest_has_shim
  assert_guest_prints T
  report_line
}
