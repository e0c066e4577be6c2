# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # repo and build are lib.bash's
#
# A libvirt host for tests: systemd as PID 1 in namespaces (test/systemd-ns), this machine's own libvirt, QEMU and KVM,
# and the canary guest as a domain. Used after `load lib`.

need_libvirt_host() {
  local missing
  [[ $EUID == 0 ]] || skip "not root: these tests boot systemd in namespaces and run libvirtd there"
  [[ -e /dev/kvm ]] || skip "no /dev/kvm: these tests run real guests under libvirt"
  type libvirtd virsh >/dev/null 2>&1 || skip "no libvirtd or no virsh here: scripts/setup libvirt installs them"
  missing=$("$repo/test/systemd-ns" check 2>&1) || skip "$missing"
}

# boot_host [STAGE]    what is in STAGE gets installed; sets host_root, where its files are seen from outside
boot_host() {
  local guest=$BATS_TEST_TMPDIR/stage/srv/guest leaked
  [[ -z ${1-} ]] || cp -a "$1" "$BATS_TEST_TMPDIR/stage"
  mkdir -p "$guest"
  cp "$build"/test/{leak.so,canary.bin} "$guest/"
  read -r leaked _ < <("$build/test/leakable")
  domain_xml >"$guest/guest.xml"
  domain_xml "LD_PRELOAD=/srv/guest/leak.so" "LEAK_BITS=$leaked" LEAK_WHILE=/srv/leaking >"$guest/leaky.xml"
  "$repo/test/systemd-ns" start "$BATS_TEST_TMPDIR/host" "$BATS_TEST_TMPDIR/stage"
  host_root=/proc/$(<"$BATS_TEST_TMPDIR/host/init")/root
  serial=$host_root/var/log/guest.serial
}

stop_host() {
  [[ ! -e $BATS_TEST_TMPDIR/host/init ]] || "$repo/test/systemd-ns" stop "$BATS_TEST_TMPDIR/host"
}

host() { timeout $((120 * ${XSAVESHIM_TEST_SLOW:-1})) "$repo/test/systemd-ns" exec "$BATS_TEST_TMPDIR/host" "$@"; }

# domain_xml [VAR=VALUE]...    the canary guest, QEMU's environment set through <qemu:env>
domain_xml() {
  local variable
  echo "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
  cat <<'XML'
  <name>guest</name>
  <uuid>5ca1ab1e-0000-4000-8000-0123456789ab</uuid>
  <memory unit='MiB'>32</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <loader readonly='yes' type='rom'>/srv/guest/canary.bin</loader>
  </os>
  <cpu mode='custom' check='none'><model>qemu64</model></cpu>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='file'><source path='/var/log/guest.serial' append='on'/></serial>
  </devices>
XML
  if (($#)); then
    echo "  <qemu:commandline>"
    for variable in "$@"; do echo "    <qemu:env name='${variable%%=*}' value='${variable#*=}'/>"; done
    echo "  </qemu:commandline>"
  fi
  echo "</domain>"
}

guest_pid() { cat "$host_root/run/libvirt/qemu/guest.pid"; }

# virsh's destroy, while a daemon that has just started reconnects to the domain, may find that it is gone already.
restart_guest() {
  host virsh -q destroy guest || true
  wait_for $((10 * ${XSAVESHIM_TEST_SLOW:-1})) guest_is_off
  host virsh -q start guest
}

guest_is_off() { [[ $(host virsh -q domstate guest) == "shut off" ]]; }

guest_has_shim() {
  host grep -q '/libxsaveshim\.so$' "/proc/$(guest_pid)/maps"
}

printed_more() { # SIZE-BEFORE LETTERS
  (($(tail -c "+$(($1 + 1))" "$serial" | tr -cd "$2" | wc -c) >= 3))
}

# The running guest prints, from now on, this letter.
guest_prints() { # T|X
  local size
  size=$(stat -c %s "$serial")
  wait_for $((10 * ${XSAVESHIM_TEST_SLOW:-1})) printed_more "$size" "$1" || return
  tail -c "+$((size + 1))" "$serial" | tr -cd TX | grep -qE "^$1+$" || fail "the guest printed other letters than $1"
}

# A guest, running on a leaky host: what is saved of it while /srv/leaking exists carries bits that no KVM here takes.
start_leaky_guest() {
  host virsh -q define /srv/guest/leaky.xml
  host virsh -q start guest
  wait_for $((10 * ${XSAVESHIM_TEST_SLOW:-1})) test -s "$serial"
  guest_prints T
}

# save_leaky    leaves /srv/leaky.save, with nothing about the leak in its domain XML, and the domain defined and stopped
save_leaky() {
  start_leaky_guest
  host touch /srv/leaking
  host virsh -q save guest /srv/leaky.save --xml /srv/guest/guest.xml
  host rm /srv/leaking
  host virsh -q define /srv/guest/guest.xml
}

# managed_save_leaky    the same as a managed save
managed_save_leaky() {
  start_leaky_guest
  host touch /srv/leaking
  host virsh -q managedsave guest
  host rm /srv/leaking
  host virsh -q managedsave-define guest /srv/guest/guest.xml
  host virsh -q define /srv/guest/guest.xml
  managed_save=$host_root/var/lib/libvirt/qemu/save/guest.save
  [[ -s $managed_save ]]
}
