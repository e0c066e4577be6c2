# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Upgrades and removes the package xsaveshim-host while the host mode is active. The tests run under systemd in namespaces, in a
# testbed kernel.

load lib

setup_file() {
  local tool version
  for tool in dpkg-buildpackage dh rpmbuild; do
    type "$tool" >/dev/null 2>&1 || skip "there is no $tool here: scripts/setup packages installs it"
  done
  export packages=$BATS_FILE_TMPDIR/srv
  mkdir "$packages"
  for version in 0.1.0 0.1.1; do
    make -s -C "$repo" deb rpm BUILD="$BATS_FILE_TMPDIR" VERSION="$version" >"$BATS_FILE_TMPDIR/log" 2>&1 ||
      fail "$(tail -n 20 "$BATS_FILE_TMPDIR/log")"
  done
  rm "$BATS_FILE_TMPDIR"/*-dbgsym_*
  mv "$BATS_FILE_TMPDIR"/*.{deb,rpm} "$packages"
  cp "$vmm" "$packages"
}

# host_with_packages SCRIPT    runs the script in a testbed kernel. In the script, `host` runs a command in systemd's namespaces
# (test/tools/systemd-ns), where /srv has the packages. `load` starts one VMM after the other, and each VMM loads three payloads.
# `untrimmed` ends `load`, and prints the payloads that were not trimmed.
host_with_packages() {
  # shellcheck disable=SC2016 # the inner shell's
  run --separate-stderr timeout 900 "$repo/test/kernels/run" --timeout 850 fixed -- bash -c '
    export XSTEST_SLOW=10
    host() { "$0/test/tools/systemd-ns" exec /tmp/host "$@" 2>&1; }
    load() {
      host nice -n 5 sh -c "until [ -e /srv/enough ]; do /srv/vmm create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x207 set-xsave 0x207; done" |
        grep ^set-xsave >/tmp/loads &
    }
    untrimmed() {
      host touch /srv/enough
      wait
      grep -v " xstate_bv=0x3 " /tmp/loads
      [ "$(wc -l </tmp/loads)" -gt 10 ] || echo "only $(wc -l </tmp/loads) payloads were loaded"
    }
    # dpkg uses a new, empty database. Under emulation, dpkg would take minutes to read the database of this machine and to run the
    # triggers in it.
    debian() { host dpkg --admindir=/srv/dpkg --force-depends --force-unsafe-io "$@" >/dev/null; }
    # Debian 12 has an rpm that needs --force-debian. The rpm of later Debian versions does not know this option.
    ! rpm --force-debian --version >/dev/null 2>&1 || force=--force-debian
    fedora() { host sh -c "rpm $force $*" >/dev/null; }
    programs() { host bpftool --json prog show name xsaveshim_entry | grep -o "\"id\":[0-9]*"; }
    mkdir /tmp/stage && cp -r "$1" /tmp/stage/ || exit
    mkdir -p /tmp/stage/srv/dpkg/{info,updates,triggers} && touch /tmp/stage/srv/dpkg/{status,available}
    "$0/test/tools/systemd-ns" start /tmp/host /tmp/stage || exit
    host rm -f /usr/sbin/policy-rc.d # in container images, this file forbids packages to start and stop services
    eval "$2"' "$repo" "$packages" "$1"
}

# A script for host_with_packages. Each test defines the functions that the script calls: install, reinstall, upgrade and remove.
# shellcheck disable=SC2016 # for the inner shell
upgrade_and_remove='
  install
  reinstall
  host xsaveshim host status
  host systemctl daemon-reload
  host systemctl is-active xsaveshim-host
  host systemctl start xsaveshim-host xsaveshim-host-watch
  host xsaveshim host enable --trim=restore
  before=$(programs)
  watcher=$(host systemctl show -P MainPID xsaveshim-host-watch)
  load
  upgrade
  untrimmed
  [ "$(programs)" = "$before" ] || echo "other programs"
  [ "$(host systemctl show -P MainPID xsaveshim-host-watch)" = "$watcher" ] || echo "another watch"
  host xsaveshim host status | head -n 2
  remove
  programs
  host systemctl is-active xsaveshim-host xsaveshim-host-watch'
upgraded_and_removed='inactive: the host mode is not enabled
inactive
xsaveshim host: enabled: trim=restore refused=report
other programs
another watch
active: the programs cleared avx, which the test guest lacks, from a payload
trim=restore refused=report
inactive
inactive'

@test "installing the Debian package does not enable the host mode; upgrading the package replaces the BPF programs of an active host mode, and leaves no payload untrimmed; removing the package disables the host mode" {
  host_with_packages '
    install() { debian -i /srv/xsaveshim_0.1.0_amd64.deb /srv/xsaveshim-host_0.1.0_amd64.deb; }
    reinstall() { install; }
    upgrade() { debian -i /srv/xsaveshim_0.1.1_amd64.deb /srv/xsaveshim-host_0.1.1_amd64.deb; }
    remove() { debian --remove xsaveshim-host; }'"$upgrade_and_remove"
  [[ $output == "$upgraded_and_removed" ]] || fail "$output" "$stderr"
}

@test "installing the RPM package does not enable the host mode; upgrading the package replaces the BPF programs of an active host mode, and leaves no payload untrimmed; removing the package disables the host mode" {
  host_with_packages '
    install() { fedora --nodeps -i "/srv/xsaveshim*-0.1.0-*.rpm"; }
    reinstall() { fedora --nodeps -U --replacepkgs "/srv/xsaveshim*-0.1.0-*.rpm"; }
    upgrade() { fedora --nodeps -U "/srv/xsaveshim*-0.1.1-*.rpm"; }
    remove() { fedora -e xsaveshim-host; }'"$upgrade_and_remove"
  [[ $output == "$upgraded_and_removed" ]] || fail "$output" "$stderr"
}
