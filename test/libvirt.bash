# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Boots a libvirt host for tests: namespaces (test/tools/systemd-ns) with systemd as PID 1, and this machine's libvirt and QEMU.
# The host's domain is a guest that checks its own register xmm7 (test/guest/canary.S). Without /dev/kvm, QEMU emulates the domain's
# CPU. A suite loads lib.bash before this file. The directory $host_dir has the host's state. If a suite's tests share one host, the
# suite sets host_dir to a directory in $BATS_FILE_TMPDIR.

host_dir=$BATS_TEST_TMPDIR/host
domain_type=kvm
domain_cpu="<cpu mode='custom' check='none'><model>qemu64</model></cpu>"
if [[ ! -e /dev/kvm ]]; then
  domain_type=qemu
  # The guest writes an x2APIC register, which QEMU 10 emulates only for a CPU model that has x2APIC.
  domain_cpu="<cpu mode='maximum'/>"
fi

need_libvirt_host() {
  local missing
  [[ $EUID == 0 ]] || skip "not root: these tests boot systemd in namespaces and run libvirtd there"
  type libvirtd virsh >/dev/null 2>&1 || skip "no libvirtd or no virsh here: scripts/setup libvirt installs them"
  missing=$("$repo/test/tools/systemd-ns" check 2>&1) || skip "$missing"
}

# Boots the host. Before the boot, copies the files below the directory STAGE to the host's root.
boot_host() { # [STAGE]
  local guest=$host_dir.stage/srv/guest leak=/usr/lib/test/leak.so leaked
  [[ -z ${1-} ]] || cp -a "$1" "$host_dir.stage"
  mkdir -p "$guest"
  cp "$build/test/canary.bin" "$guest/"
  install -D "$build/test/leak.so" "$host_dir.stage$leak" # AppArmor lets domains map a library in this directory
  domain_xml >"$guest/guest.xml"
  if [[ $domain_type == kvm ]]; then
    read -r leaked _ < <("$build/test/leakable")
    domain_xml "LD_PRELOAD=$leak" "LEAK_BITS=$leaked" LEAK_WHILE=/srv/leaking >"$guest/leaky.xml"
  fi
  "$repo/test/tools/systemd-ns" start "$host_dir" "$host_dir.stage"
  find_host
}

# Sets host_root to the path of the host's root as this shell sees it, and serial to the file to which the host's guest prints.
find_host() {
  host_root=/proc/$(<"$host_dir/init")/root
  serial=$host_root/var/log/guest.serial
}

stop_host() {
  [[ ! -e $host_dir/init ]] || "$repo/test/tools/systemd-ns" stop "$host_dir"
}

host() { timeout $((120 * ${XSTEST_SLOW:-1})) "$repo/test/tools/systemd-ns" exec "$host_dir" "$@"; }

# Prints the domain XML of the guest, with a <qemu:env> for each variable.
domain_xml() { # [VAR=VALUE]...
  local variable
  cat <<XML
<domain type='$domain_type' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>guest</name>
  <uuid>5ca1ab1e-0000-4000-8000-0123456789ab</uuid>
  <memory unit='MiB'>32</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <loader readonly='yes' type='rom'>/srv/guest/canary.bin</loader>
  </os>
  $domain_cpu
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

# `virsh destroy` may end the domain and still fail, if libvirt's daemon has just started and is reconnecting to the domain.
restart_guest() {
  host virsh -q destroy guest || true
  wait_for $((10 * ${XSTEST_SLOW:-1})) guest_is_off
  host virsh -q start guest
}

guest_is_off() { [[ $(host virsh -q domstate guest) == "shut off" ]]; }

guest_has_library() {
  host grep -q '/libxsaveshim\.so$' "/proc/$(guest_pid)/maps"
}

assert_guest_has_library() {
  guest_has_library || fail "the guest's QEMU does not have the library:" "$(host cat /var/log/libvirt/qemu/guest.log)"
}

printed_more() { # SIZE-BEFORE LETTERS
  (($(tail -c "+$(($1 + 1))" "$serial" | tr -cd "$2" | wc -c) >= 3))
}

# Checks that the guest now prints only the given letter. It prints T if its xmm7 is intact, and X if the value of xmm7 is lost.
assert_guest_prints() { # T|X
  local size
  size=$(stat -c %s "$serial")
  wait_for $((10 * ${XSTEST_SLOW:-1})) printed_more "$size" "$1" || return
  tail -c "+$((size + 1))" "$serial" | tr -cd TX | grep -qE "^$1+$" ||
    fail "the guest should print only $1 (T: its registers are intact, X: they are lost)"
}

# Starts a guest with leak.so. As long as /srv/leaking exists, leak.so adds to the saved state an xfeature that this host's KVM
# refuses.
start_leaky_guest() {
  host virsh -q define /srv/guest/leaky.xml
  host virsh -q start guest
  wait_for $((10 * ${XSTEST_SLOW:-1})) test -s "$serial"
  assert_guest_prints T
}

# Saves a guest with a leaked xfeature as /srv/leaky.save. Afterwards the domain is off. Its XML, in the image and in libvirt, does
# not preload leak.so.
save_leaky() {
  start_leaky_guest
  host touch /srv/leaking
  host virsh -q save guest /srv/leaky.save --xml /srv/guest/guest.xml
  host rm /srv/leaking
  host virsh -q define /srv/guest/guest.xml
}

qemu_exits_on_refusal() { (. "$repo/test/qemu.bash" && qemu_exits_on_refusal); }

trim_in_guest_log() {
  host grep "^xsaveshim: level=notice event=trim pid=$(guest_pid) ioctl=KVM_SET_XSAVE vcpu=0 " /var/log/libvirt/qemu/guest.log
}

assert_trim_in_guest_log() {
  trim_in_guest_log || fail "the library reported no trim in the guest's log:" "$(host cat /var/log/libvirt/qemu/guest.log)"
}
