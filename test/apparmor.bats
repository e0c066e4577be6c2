#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Tests xsaveshim's library in libvirt domains that AppArmor confines. setup_file boots an emulated machine that has this machine's
# AppArmor policy, libvirtd and QEMU. A second bats runs the tests of this file in the emulated machine, where all tests share one
# libvirt host. Outside, each test only looks up its result in the output of the second bats.

load lib
load libvirt

host_dir=$BATS_FILE_TMPDIR/host
local_rules=/etc/apparmor.d/local/abstractions/libvirt-qemu

inside() { [[ -v XSTEST_INSIDE ]]; }

setup_file() {
  export BATS_NO_PARALLELIZE_WITHIN_FILE=true
  if inside; then
    boot_confining_host
  else
    cd "$repo" || return
    BUILD=$build XSTEST_INSIDE=yes test/run --kernel fixed "$BATS_TEST_FILENAME" >"$BATS_FILE_TMPDIR/inside" 2>&1 || true
  fi
}

boot_confining_host() {
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_FILE_TMPDIR/installed"
  boot_host "$BATS_FILE_TMPDIR/installed"
  host mkdir -p "$(dirname "$local_rules")" # Debian 12 already has this directory
  host apparmor_parser --replace /etc/apparmor.d/usr.sbin.libvirtd /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper
  echo 0 >/proc/sys/kernel/printk_ratelimit # The kernel's log must have every denial, because the tests look for each of them.
  save_leaky
}

teardown_file() {
  ! inside || stop_host
}

setup() {
  ! inside || find_host
}

teardown() {
  ! inside || host sh -c 'virsh -q destroy guest; rm -f /var/log/libvirt/qemu/guest.log' || true
}

assert_passed_inside() {
  grep -qE "^ok $BATS_TEST_NUMBER " "$BATS_FILE_TMPDIR/inside" || fail "the test did not pass in the emulated machine, where bats printed:" "$(<"$BATS_FILE_TMPDIR/inside")"
}

assert_guest_confined() {
  [[ $(host cat "/proc/$(guest_pid)/attr/current") == "libvirt-5ca1ab1e-0000-4000-8000-0123456789ab (enforce)" ]]
}

# Succeeds if the kernel has logged that AppArmor denied the domain's QEMU access to PATH. The kernel may log a denial
# with a delay.
denied() { # PATH
  dmesg | grep -F 'apparmor="DENIED"' | grep -F "profile=\"libvirt-5ca1ab1e" | grep -qF "name=\"$1\""
}

# Resets the host's /etc/xsaveshim.conf to the text that `make install` wrote, and appends each LINE.
set_settings() { # LINE...
  { cat "$BATS_FILE_TMPDIR/installed/etc/xsaveshim.conf"; printf '%s\n' "$@"; } | host tee /etc/xsaveshim.conf >/dev/null
}

# Installs xsaveshim a second time, in /opt. `in_opt xsaveshim-libvirt` runs the xsaveshim-libvirt of this second installation.
install_in_opt() {
  make -s -C "$repo" install BUILD="$build" PREFIX=/opt DESTDIR="$BATS_FILE_TMPDIR/opt"
  tar -C "$BATS_FILE_TMPDIR/opt" -c opt | host tar -C / -x
  library=/$(cd "$host_root" && find opt -name libxsaveshim.so)
}

in_opt() { host env "PATH=/opt/sbin:$PATH" "$@"; }

@test "after xsaveshim-libvirt enable, a domain that AppArmor confines is restored intact from an image with leaked xfeatures, and the domain's log reports the trim" {
  inside || { assert_passed_inside; return; }
  host xsaveshim-libvirt enable
  host virsh -q restore /srv/leaky.save
  assert_guest_confined
  assert_guest_has_library
  assert_guest_prints T
  assert_trim_in_guest_log
}

@test "with the AppArmor rule that xsaveshim-libvirt enable adds, a confined domain can read /etc/xsaveshim.conf; without the rule, it cannot" {
  inside || { assert_passed_inside; return; }
  host xsaveshim-libvirt status
  set_settings XSAVESHIM_LOG_LEVEL=debug
  host virsh -q start guest
  assert_guest_confined
  assert_guest_prints T
  host grep -q '^xsaveshim: level=debug ' /var/log/libvirt/qemu/guest.log
  run -1 denied /etc/xsaveshim.conf

  host mv /etc/apparmor.d/abstractions/libvirt-qemu.d/xsaveshim /srv/
  restart_guest
  host mv /srv/xsaveshim /etc/apparmor.d/abstractions/libvirt-qemu.d/
  assert_guest_confined
  assert_guest_has_library
  assert_guest_prints T
  wait_for 20 denied /etc/xsaveshim.conf
  set_settings
}

@test "if AppArmor does not let a domain write to the file that XSAVESHIM_LOG names, the library's reports go to the domain's own log instead" {
  inside || { assert_passed_inside; return; }
  log=/var/log/xsaveshim/domains.log
  rule=$(sed -n 's,^#  */PATH \(.*\)$,\1,p' "$repo/libvirt/apparmor")
  host install -d -o libvirt-qemu -g libvirt-qemu -m 700 "$(dirname "$log")"
  set_settings "XSAVESHIM_LOG=$log"
  host xsaveshim-libvirt enable
  host virsh -q restore /srv/leaky.save
  assert_guest_confined
  assert_guest_prints T
  wait_for 20 denied "$log"
  host grep -E "^xsaveshim: level=error event=log .*target=$log " /var/log/libvirt/qemu/guest.log
  assert_trim_in_guest_log
  host virsh -q destroy guest

  echo "$log $rule" | host tee -a "$local_rules" >/dev/null
  host virsh -q restore /srv/leaky.save
  assert_guest_confined
  assert_guest_prints T
  host grep "^xsaveshim: level=notice event=trim pid=$(guest_pid) " "$log"
  host sed -i "\\#^$log #d" "$local_rules"
  set_settings
}

@test "if libxsaveshim.so is in /opt, where AppArmor does not let domains map it, domains start without it, and xsaveshim-libvirt enable fails and leaves nothing enabled" {
  inside || { assert_passed_inside; return; }
  host xsaveshim-libvirt disable
  install_in_opt
  run -3 in_opt xsaveshim-libvirt enable
  [[ $output == *"refused: AppArmor"* ]]

  host install -D -m 644 /opt/share/xsaveshim/libvirt/drop-in.conf /etc/systemd/system/libvirtd.service.d/xsaveshim.conf
  host systemctl daemon-reload
  host systemctl restart libvirtd
  host virsh -q start guest
  assert_guest_confined
  run -1 guest_has_library
  denied "$library"
  assert_guest_prints T
  host rm /etc/systemd/system/libvirtd.service.d/xsaveshim.conf
  host systemctl daemon-reload
  host systemctl restart libvirtd

  # This line appends a comment to the AppArmor policy. xsaveshim-libvirt enable mistakes the comment for a rule about the library.
  echo "# $library" | host tee -a "$local_rules" >/dev/null
  run -1 in_opt xsaveshim-libvirt enable
  [[ $output == *"a probe domain started without $library"*'apparmor="DENIED"'*"undone"* ]] || fail "$output"
  [[ ! -e $host_root/etc/systemd/system/libvirtd.service.d/xsaveshim.conf ]]
  run -1 host grep -qz libxsaveshim "/proc/$(host systemctl show -P MainPID libvirtd)/environ"
}

@test "if a local AppArmor rule lets confined domains map libxsaveshim.so in /opt, a domain loads it and is restored intact from an image with leaked xfeatures" {
  inside || { assert_passed_inside; return; }
  install_in_opt
  echo "$library mr," | host tee -a "$local_rules" >/dev/null
  run -0 in_opt xsaveshim-libvirt enable
  [[ $output == *"a probe domain had $library"* ]]
  host virsh -q restore /srv/leaky.save
  assert_guest_confined
  host grep -qF " $library" "/proc/$(guest_pid)/maps"
  assert_guest_prints T
  assert_trim_in_guest_log
}
