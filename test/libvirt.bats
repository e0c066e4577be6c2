#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Tests the command xsaveshim-libvirt. Each test but the last boots a host: a set of namespaces, with systemd as PID 1 and this
# machine's libvirtd and QEMU. The tests do not need KVM.

load lib
load libvirt

setup_file() {
  need_libvirt_host
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_FILE_TMPDIR/installed"
}

setup() {
  case $BATS_TEST_DESCRIPTION in
    *"an image of a host"*) ;;
    *) boot_host "$BATS_FILE_TMPDIR/installed" ;;
  esac
  drop_in=etc/systemd/system/libvirtd.service.d/xsaveshim.conf
}

teardown() {
  stop_host
}

# Prints the name, mode, owner and checksum of each file below ROOT/etc and in systemd's directories below ROOT. Omits
# ROOT/etc/libvirt, because libvirtd itself writes there when it starts.
list_files() { # ROOT
  (cd "$1" && find etc usr/lib/systemd lib/systemd -path etc/libvirt -prune -o -type f -exec stat -c '%n %a %U' {} + \
    -exec sha1sum {} + | sort)
}

assert_unchanged() { # ROOT BEFORE    BEFORE: what list_files printed
  diff <(list_files "$1") - <<<"$2" >&2 || fail "files changed, see above"
}

# Checks that xsaveshim-libvirt enable prints REASON and REMEDY, exits with 3, and changes no file. The test sets the array `as`: it
# is empty, or a command that runs enable, for example as another user.
assert_refused() { # REASON REMEDY
  local before
  before=$(list_files "$host_root")
  run -3 host "${as[@]}" xsaveshim-libvirt enable
  [[ $output == *"refused: "*"$1"*"Remedy: "*"$2"* ]] || fail "$output"
  assert_unchanged "$host_root" "$before"
}

# Installs a libvirt hook: as long as /srv/hold exists, but at most 60 seconds, the hook delays the start of each domain. A test
# must call this function before libvirtd starts.
hold_domains() {
  host mkdir -p /etc/libvirt/hooks
  printf '%s\n' '#!/bin/sh' '[ "$2" = prepare ] || exit 0' 'touch /srv/held' \
    'for i in $(seq 600); do [ -e /srv/hold ] || exit 0; sleep 0.1; done' | host tee /etc/libvirt/hooks/qemu >/dev/null
  host chmod 755 /etc/libvirt/hooks/qemu
}

# Starts xsaveshim-libvirt enable in the background, in its own session. Gives SIGINT its default action, because a shell's
# background commands ignore SIGINT. The output goes to $BATS_TEST_TMPDIR/NAME.output. When enable ends, its exit status goes to
# $BATS_TEST_TMPDIR/NAME.status.
start_enable() { # NAME
  local name=$BATS_TEST_TMPDIR/$1
  rm -f "$name.status" "$host_root/srv/$1.pid"
  {
    status=0
    host env --default-signal=INT,HUP setsid --wait sh -c 'echo $$ >"/srv/$0.pid"; exec xsaveshim-libvirt enable' "$1" >"$name.output" 2>&1 || status=$?
    echo "$status" >"$name.status"
  } 3>&- &
}

# Starts xsaveshim-libvirt enable, which starts a temporary probe domain to check that QEMU loads the library. Returns as soon as
# the libvirt hook that hold_domains installed delays this domain.
start_held_enable() { # NAME
  rm -f "$host_root/srv/held"
  touch "$host_root/srv/hold"
  start_enable "$1"
  wait_for $((60 * ${XSTEST_SLOW:-1})) test -e "$host_root/srv/held"
}

release_domains() { rm "$host_root/srv/hold"; }

has_ended() { [[ -s $BATS_TEST_TMPDIR/$1.status ]]; } # NAME

output_of() { cat "$BATS_TEST_TMPDIR/$1.output"; } # NAME

has_ended_or_waits() { has_ended "$1" || output_of "$1" | grep -q 'waiting for another'; } # NAME

assert_ended_with() { # STATUS NAME
  wait_for $((120 * ${XSTEST_SLOW:-1})) has_ended "$2"
  [[ $(<"$BATS_TEST_TMPDIR/$2.status") == "$1" ]] || fail "$2 ended with $(<"$BATS_TEST_TMPDIR/$2.status"):" "$(output_of "$2")"
}

assert_no_probe_left() {
  [[ -z $(host virsh -q list --all) ]]
  run -0 host find /var/log/libvirt /run/libvirt /etc/libvirt /var/lib/libvirt -name '*xsaveshim-probe*'
  [[ -z $output ]] || fail "$output"
}

daemon_pid() { host systemctl show -P MainPID libvirtd; }

assert_daemon_lacks_library() {
  run -1 host grep -qz libxsaveshim "/proc/$(daemon_pid)/environ"
}

@test "a second xsaveshim-libvirt enable changes no file and does not restart libvirtd, and disable then restores every file that the first enable changed" {
  before=$(list_files "$host_root")
  host xsaveshim-libvirt enable
  assert_no_probe_left
  enabled=$(list_files "$host_root")
  [[ $enabled != "$before" ]]
  daemon=$(daemon_pid)
  host xsaveshim-libvirt enable
  assert_unchanged "$host_root" "$enabled"
  [[ $(daemon_pid) == "$daemon" ]]
  host xsaveshim-libvirt disable
  assert_unchanged "$host_root" "$before"
  [[ ! -e $host_root/etc/systemd/system/libvirtd.service.d ]]
  host xsaveshim-libvirt disable
  assert_unchanged "$host_root" "$before"
}

@test "if xsaveshim-libvirt enable runs twice at the same time, the second run waits for the first, and both succeed" {
  hold_domains
  start_held_enable first
  start_enable second
  wait_for $((30 * ${XSTEST_SLOW:-1})) has_ended_or_waits second
  release_domains
  assert_ended_with 0 first
  assert_ended_with 0 second
  host xsaveshim-libvirt status
  assert_no_probe_left
}

@test "if a signal goes to xsaveshim-libvirt enable or to each process of its session, enable undoes its changes and removes its temporary probe domain" {
  before=$(list_files "$host_root")
  hold_domains
  for signal in "kill -TERM" "kill -HUP" "pkill -TERM --session" "pkill -INT --session"; do
    # systemd starts a unit at most five times in 10 seconds. As each round restarts libvirtd twice, reset-failed clears the count.
    host systemctl reset-failed libvirtd.service
    start_held_enable ended
    # shellcheck disable=SC2086
    host $signal "$(<"$host_root/srv/ended.pid")"
    release_domains
    assert_ended_with 1 ended
    [[ $(output_of ended) == *"undone: everything is as it was before"* ]] ||
      fail "after $signal, enable printed:" "$(output_of ended)"
    assert_unchanged "$host_root" "$before"
    assert_daemon_lacks_library
    assert_no_probe_left
  done
}

@test "if SIGTERM ends a second xsaveshim-libvirt enable, the changes of the first enable stay in place" {
  hold_domains
  host xsaveshim-libvirt enable
  enabled=$(list_files "$host_root")
  start_held_enable ended
  host kill -TERM "$(<"$host_root/srv/ended.pid")"
  release_domains
  assert_ended_with 1 ended
  [[ $(output_of ended) == *"could not be proven; no file was changed"* ]]
  assert_unchanged "$host_root" "$enabled"
  host xsaveshim-libvirt status
  assert_no_probe_left
}

@test "xsaveshim-libvirt disable destroys the temporary probe domain that a killed xsaveshim-libvirt enable left behind" {
  before=$(list_files "$host_root")
  hold_domains
  start_held_enable killed
  host pkill -KILL --session "$(<"$host_root/srv/killed.pid")"
  release_domains
  wait_for $((30 * ${XSTEST_SLOW:-1})) host virsh -q domid xsaveshim-probe
  host xsaveshim-libvirt disable
  assert_no_probe_left
  assert_unchanged "$host_root" "$before"
}

@test "if libvirtd fails to restart, xsaveshim-libvirt disable still restores every file, and says that libvirtd did not restart" {
  before=$(list_files "$host_root")
  host xsaveshim-libvirt enable
  echo 'no such setting' | host tee -a /etc/libvirt/libvirtd.conf
  run -1 host xsaveshim-libvirt disable
  [[ $output == *"could not restart libvirtd.service; see: systemctl status libvirtd.service"* ]]
  assert_unchanged "$host_root" "$before"
}

@test "make uninstall runs xsaveshim-libvirt disable, so that libvirt domains that start later do not preload the deleted library" {
  host mkdir /srv/tree
  tar -C "$repo" -c Makefile README.md NEWS.md SECURITY.md LICENSE command completions docs etc libvirt man packaging test |
    host tar -C /srv/tree -x
  host xsaveshim-libvirt enable
  host make -s -C /srv/tree uninstall
  run -0 host find /etc/systemd /etc/apparmor.d /usr/sbin /usr/lib -name '*xsaveshim*' -not -path '*/doc/*'
  [[ -z $output ]]
  host virsh -q define /srv/guest/guest.xml
  host virsh -q start guest
  run -1 host grep ld.so /var/log/libvirt/qemu/guest.log
}

@test "with --dry-run, xsaveshim-libvirt enable and disable print the commands that they would run, and change no file" {
  before=$(list_files "$host_root")
  run -0 host xsaveshim-libvirt enable --dry-run
  [[ $output == *"[#] install "*"/$drop_in"*"[#] systemctl daemon-reload"*"would start the paused domain"* ]]
  assert_unchanged "$host_root" "$before"
  host xsaveshim-libvirt enable
  before=$(list_files "$host_root")
  run -0 host xsaveshim-libvirt disable --dry-run
  [[ $output == *"[#] rm /$drop_in"* ]]
  assert_unchanged "$host_root" "$before"
}

@test "xsaveshim-libvirt status shows whether xsaveshim is enabled for libvirtd, and which running domains have loaded the library" {
  host virsh -q define /srv/guest/guest.xml
  host virsh -q start guest
  run -1 host xsaveshim-libvirt status
  [[ $output == *"libvirtd.service: not enabled"*"domain guest (pid $(guest_pid)): does NOT have the library"* ]]

  host xsaveshim-libvirt enable
  run -1 host xsaveshim-libvirt status
  [[ $output == *"libvirtd.service: enabled"*"domain guest (pid $(guest_pid)): does NOT have the library"* ]]

  restart_guest
  run -0 host xsaveshim-libvirt status
  [[ $output == *"domain guest (pid $(guest_pid)): has the library, /usr/lib/"*"/libxsaveshim.so"* ]]
}

assert_status_fails() { # MESSAGE
  run -1 host xsaveshim-libvirt status
  [[ $output == *"$1"* ]] || fail "expected: $1" "$output"
}

@test "if libvirtd was started before its drop-in with LD_PRELOAD was installed, xsaveshim-libvirt status fails and says that libvirtd lacks the library" {
  host systemctl start libvirtd
  host xsaveshim-libvirt enable --root /
  host systemctl daemon-reload
  assert_status_fails "libvirtd.service: enabled, but the running daemon (pid $(daemon_pid)) was started without the library"
  host systemctl restart libvirtd
  host xsaveshim-libvirt status
}

@test "if libvirt domains cannot load the library or read /etc/xsaveshim.conf, or if this file turns trimming off, xsaveshim-libvirt status fails and says so" {
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  snippet=/etc/apparmor.d/abstractions/libvirt-qemu.d/xsaveshim
  host xsaveshim-libvirt enable
  run -0 host xsaveshim-libvirt status
  [[ $output == *"library: $library"*"settings: /etc/xsaveshim.conf"* ]] || fail "$output"

  host chmod 600 "$library"
  assert_status_fails "library: domains can NOT load it: ERROR: ld.so: object '$library'"
  host chmod 644 "$library"
  host mv "$library" /srv/
  assert_status_fails "library: there is NO $library"
  host mv /srv/libxsaveshim.so "$library"

  host chmod 600 /etc/xsaveshim.conf
  assert_status_fails "settings: domains can NOT read /etc/xsaveshim.conf"
  host chmod 644 /etc/xsaveshim.conf
  echo ' XSAVESHIM_TRIM = none' | host tee -a /etc/xsaveshim.conf
  assert_status_fails "settings: XSAVESHIM_TRIM=none in /etc/xsaveshim.conf trims NOTHING"
  echo XSAVESHIM_TRIM=both | host tee -a /etc/xsaveshim.conf

  host mv "$snippet" /srv/
  assert_status_fails "settings: AppArmor does NOT let domains read /etc/xsaveshim.conf"
  host mv /srv/xsaveshim "$snippet"
  host xsaveshim-libvirt status
}

# Prints the XML of a domain without devices. With a second argument, the XML sets LD_PRELOAD.
plain_xml() { # NAME [LD_PRELOAD]
  echo "<domain type='$domain_type' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>$1</name>
    <memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os>
    <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>"
  [[ -z ${2-} ]] || echo "<qemu:commandline><qemu:env name='LD_PRELOAD' value='$2'/></qemu:commandline>"
  echo "</domain>"
}

@test "if a libvirt domain lacks the library because its XML sets LD_PRELOAD, xsaveshim-libvirt status names the domain and a remedy that helps" {
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  host xsaveshim-libvirt enable
  plain_xml own /usr/lib/test/leak.so | host virsh -q create --paused /dev/stdin
  assert_status_fails "domain own (pid $(host cat /run/libvirt/qemu/own.pid)): does NOT have the library; its XML has a <qemu:env name='LD_PRELOAD'>: put $library first"
  host virsh -q destroy own
  plain_xml own "$library:/usr/lib/test/leak.so" | host virsh -q create --paused /dev/stdin
  host xsaveshim-libvirt status
}

@test "if a domain of qemu:///session lacks the library, xsaveshim-libvirt status names the domain and a remedy that helps" {
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  host useradd --create-home --groups kvm tester
  host install -d -o tester -m 700 /run/user/tester
  session=(setpriv --reuid tester --regid tester --init-groups env HOME=/home/tester XDG_RUNTIME_DIR=/run/user/tester
    virsh -q --connect qemu:///session)
  host xsaveshim-libvirt enable
  plain_xml mine | host tee /srv/mine.xml >/dev/null
  host "${session[@]}" create --paused /srv/mine.xml
  assert_status_fails "domain mine (pid $(host pgrep -u tester qemu)): does NOT have the library; tester has a libvirt daemon of their own"
  [[ $output == *"<qemu:env name='LD_PRELOAD' value='$library'/>"* ]]
  host "${session[@]}" destroy mine
  plain_xml mine "$library" | host tee /srv/mine.xml >/dev/null
  host "${session[@]}" create --paused /srv/mine.xml
  run -0 host xsaveshim-libvirt status
  [[ $output == *"domain mine (pid "*"has the library, $library"* ]]
}

# Replaces QEMU by a script. The script fails for the probe domain that xsaveshim-libvirt enable starts. For every other domain, the
# script executes the real QEMU.
break_qemu() {
  host mv /usr/bin/qemu-system-x86_64 /usr/bin/qemu-real
  printf '%s\n' '#!/bin/sh' 'case "$*" in *xsaveshim-probe*) echo "this QEMU is broken" >&2; exit 1 ;; esac' \
    'exec /usr/bin/qemu-real "$@"' | host tee /usr/bin/qemu-system-x86_64 >/dev/null
  host chmod 755 /usr/bin/qemu-system-x86_64
}

@test "if the temporary probe domain of xsaveshim-libvirt enable does not start, or cannot load the library, enable fails and undoes all its changes" {
  before=$(list_files "$host_root")
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  host chmod 600 "$library"
  run -1 host xsaveshim-libvirt enable
  [[ $output == *"a probe domain started without $library"*"undone"* ]] || fail "$output"
  host chmod 644 "$library"
  assert_unchanged "$host_root" "$before"
  assert_daemon_lacks_library

  break_qemu
  run -1 host xsaveshim-libvirt enable
  [[ $output == *"cannot start a probe domain"*"The end of its log:"*"this QEMU is broken"*"undone: everything"* ]] || fail "$output"
  assert_unchanged "$host_root" "$before"
  assert_daemon_lacks_library
  assert_no_probe_left
}

@test "if a second xsaveshim-libvirt enable cannot start its temporary probe domain, it undoes its own changes, and those of the first enable stay" {
  host xsaveshim-libvirt enable
  enabled=$(list_files "$host_root")
  daemon=$(daemon_pid)
  break_qemu
  run -1 host xsaveshim-libvirt enable
  [[ $output == *"could not be proven; no file was changed"* ]] || fail "$output"
  assert_unchanged "$host_root" "$enabled"

  # Changes enable's AppArmor snippet, as if an older version of enable had written it, so that the next enable replaces it.
  echo '# xsaveshim-libvirt enable' | host tee /etc/apparmor.d/abstractions/libvirt-qemu.d/xsaveshim
  before=$(list_files "$host_root")
  run -1 host xsaveshim-libvirt enable
  [[ $output == *"undone: everything is as it was before"* ]] || fail "$output"
  assert_unchanged "$host_root" "$before"
  [[ $(daemon_pid) == "$daemon" ]]
}

@test "after the library is installed in another directory, a second xsaveshim-libvirt enable makes libvirtd preload the newly installed library" {
  host xsaveshim-libvirt enable
  make -s -C "$repo" install BUILD="$build" LIBDIR=/usr/lib/moved DESTDIR="$BATS_TEST_TMPDIR/moved"
  tar -C "$BATS_TEST_TMPDIR/moved" -c usr | host tar -C / -x
  run -1 host xsaveshim-libvirt status
  run -0 host xsaveshim-libvirt enable
  [[ $output == *"a probe domain had /usr/lib/moved/libxsaveshim.so"* ]]
  host grep -qz '^LD_PRELOAD=/usr/lib/moved/libxsaveshim.so$' "/proc/$(daemon_pid)/environ"
  host xsaveshim-libvirt status
}

@test "if xsaveshim-libvirt enable lacks root rights, systemd, virsh, the library or a libvirt unit, it changes no file, and prints reason and remedy" {
  as=(setpriv --reuid nobody --clear-groups)
  assert_refused "cannot write to /etc" "run this as root"
  as=(unshare --mount sh -c 'mount -t tmpfs none /run/systemd; exec "$@"' without-systemd)
  assert_refused "systemd does not run here" "--root DIR"
  as=()
  host mkdir -p "/$(dirname "$drop_in")"
  echo '[Service]' | host tee "/$drop_in"
  assert_refused "/$drop_in exists, and xsaveshim-libvirt did not write it" "out of the way"
  host rm "/$drop_in"
  host mv /usr/bin/virsh /srv/
  assert_refused "no virsh" "libvirt-clients"
  host mv /srv/virsh /usr/bin/
  host find /usr/lib -name libxsaveshim.so -delete
  assert_refused "there is no /usr/lib/" "install xsaveshim's library"
  host rm /lib/systemd/system/libvirtd.service
  assert_refused "neither a libvirtd.service nor a virtqemud.service" "libvirt-daemon-system"
  host ln -s /dev/null /etc/systemd/system/virtqemud.service
  assert_refused "neither a libvirtd.service nor a virtqemud.service" "libvirt-daemon-system"
}

@test "if AppArmor does not let domains map a library outside /usr/lib, xsaveshim-libvirt enable changes no file, and prints a command that adds the missing rule" {
  make -s -C "$repo" install BUILD="$build" PREFIX=/usr/local DESTDIR="$BATS_TEST_TMPDIR/local"
  tar -C "$BATS_TEST_TMPDIR/local" -c usr | host tar -C / -x
  library=/$(cd "$host_root" && find usr/local -name libxsaveshim.so)
  as=(env "PATH=/usr/local/sbin:$PATH")
  assert_refused "AppArmor" "'$library mr,'"
  remedy=$(sed -n 's/.*, or run: //p' <<<"$output")
  host sh -c "$remedy"
  host "${as[@]}" xsaveshim-libvirt enable
  host "${as[@]}" xsaveshim-libvirt status
}

@test "if SELinux is on and the library is outside /usr/lib, xsaveshim-libvirt enable changes no file, and suggests an installation in /usr" {
  make -s -C "$repo" install BUILD="$build" PREFIX=/opt DESTDIR="$BATS_TEST_TMPDIR/local"
  tar -C "$BATS_TEST_TMPDIR/local" -c opt | host tar -C / -x
  host rm /etc/apparmor.d/abstractions/libvirt-qemu
  host mkdir -p /etc/selinux
  echo SELINUX=enforcing | host tee /etc/selinux/config
  as=(env "PATH=/opt/sbin:$PATH")
  assert_refused "SELinux" "make install PREFIX=/usr"
  echo SELINUX=disabled | host tee /etc/selinux/config
  host "${as[@]}" xsaveshim-libvirt enable
}

# Sets LD_PRELOAD=VALUE for libvirtd, as an administrator may do. If FILE ends in .conf, FILE becomes a drop-in for systemd.
# If not, FILE becomes an environment file, and a new drop-in (file.conf) refers to it.
preload() { # FILE VALUE
  local line=LD_PRELOAD=$2
  host mkdir -p "$(dirname "$1")" "/etc/systemd/system/libvirtd.service.d"
  case $1 in
    *.conf) printf '[Service]\nEnvironment=A=1 "%s"\n' "$line" ;;
    *)
      printf '[Service]\nEnvironmentFile=-%s\n' "$1" | host tee /etc/systemd/system/libvirtd.service.d/file.conf >/dev/null
      echo "$line"
      ;;
  esac | host tee "$1" >/dev/null
  host systemctl daemon-reload
}

@test "if an administrator's LD_PRELOAD for libvirtd lacks the library, xsaveshim-libvirt enable fails; if that LD_PRELOAD has the library, enable succeeds" {
  host systemctl start libvirtd
  library=/$(cd "$host_root" && find usr/lib -name libxsaveshim.so)
  as=()
  for file in /etc/systemd/system/libvirtd.service.d/other.conf /etc/systemd/system/service.d/other.conf \
    /run/systemd/system/libvirtd.service.d/zz.conf /etc/default/libvirtd /srv/environment; do
    preload "$file" /usr/lib/test/leak.so
    assert_refused "already has an LD_PRELOAD, from $file" "first in that LD_PRELOAD"
    run -1 host xsaveshim-libvirt status
    [[ $output == *"libvirtd.service: NOT enabled: $file sets LD_PRELOAD"* ]] || fail "$output"
    [[ $file == /srv/environment ]] || host rm "$file"
  done
  preload "$file" "$library:/usr/lib/test/leak.so"
  run -0 host xsaveshim-libvirt enable
  host grep -qz "^LD_PRELOAD=$library:/usr/lib/test/leak.so$" "/proc/$(daemon_pid)/environ"
  [[ ! -e $host_root/$drop_in ]]
  host xsaveshim-libvirt status
}

@test "if systemd's environment or the running libvirtd's environment has an LD_PRELOAD without the library, xsaveshim-libvirt enable fails and names that environment" {
  as=()
  host systemctl set-environment LD_PRELOAD=/usr/lib/test/leak.so
  host systemctl start libvirtd
  assert_refused "already has an LD_PRELOAD, from systemctl show-environment" "or remove that LD_PRELOAD"
  host systemctl unset-environment LD_PRELOAD
  assert_refused "already has an LD_PRELOAD, from /proc/$(daemon_pid)/environ" "or remove that LD_PRELOAD"
}

@test "xsaveshim-libvirt --version prints the version, and with a wrong argument xsaveshim-libvirt exits with 2 and names the argument" {
  run -0 host xsaveshim-libvirt --version
  [[ $output == "xsaveshim-libvirt $(sed -n 's/^VERSION := //p' "$repo/Makefile")" ]]
  run -2 host xsaveshim-libvirt
  [[ $output == usage:* ]]
  run -3 host setpriv --reuid nobody --clear-groups xsaveshim-libvirt status
  [[ $output == *"Remedy: sudo xsaveshim-libvirt status"* ]]
  run -2 host xsaveshim-libvirt start
  [[ $output == *"'start' is none of enable, disable and status"* ]]
  run -2 host xsaveshim-libvirt enable disable
  [[ $output == *"only one of 'enable' and 'disable'"* ]]
  run -2 host xsaveshim-libvirt status --quiet
  [[ $output == *"no option '--quiet'"* ]]
  run -2 host xsaveshim-libvirt enable --root /nowhere
  [[ $output == *"--root needs a directory, and '/nowhere' is none"* ]]
}

@test "systemd-analyze verify accepts the drop-ins that xsaveshim-libvirt enable installs for libvirtd.service and virtqemud.service" {
  # Debian has no virtqemud.service, so the test installs a fake unit.
  printf '[Unit]\nDescription=QEMU daemon\n[Service]\nType=notify\nExecStart=/usr/sbin/libvirtd --timeout 120\n' |
    host tee /lib/systemd/system/virtqemud.service
  host systemctl daemon-reload
  host xsaveshim-libvirt enable
  for unit in libvirtd.service virtqemud.service; do
    host test -e "/etc/systemd/system/$unit.d/xsaveshim.conf"
    run -0 host systemd-analyze verify "$unit"
    [[ -z $output ]]
    [[ $(host systemctl show -P Environment "$unit") == *LD_PRELOAD=/usr/lib/*/libxsaveshim.so* ]]
  done
}

@test "apparmor_parser compiles the rules that xsaveshim-libvirt enable adds to the AppArmor policy of libvirt 9.0 and of later versions" {
  host xsaveshim-libvirt enable
  profile='#include <tunables/global>
    profile xsaveshim-test { #include <abstractions/libvirt-qemu>
    }'
  preprocessed=$(host apparmor_parser --preprocess <<<"$profile")
  [[ $preprocessed == *"/etc/xsaveshim.conf r,"* ]]
  host apparmor_parser --skip-kernel-load --skip-cache <<<"$profile"
  host xsaveshim-libvirt disable

  # The sed command appends the line with which AppArmor's abstraction libvirt-qemu ends in libvirt 9.1 and later.
  host sed -i '$ainclude if exists <abstractions/libvirt-qemu.d>' /etc/apparmor.d/abstractions/libvirt-qemu
  host xsaveshim-libvirt enable
  [[ ! -s $host_root/etc/apparmor.d/local/abstractions/libvirt-qemu ]]
  preprocessed=$(host apparmor_parser --preprocess <<<"$profile")
  [[ $preprocessed == *"/etc/xsaveshim.conf r,"* ]]
}

@test "xsaveshim-libvirt disable leaves AppArmor's local file for libvirt as it was before enable, whether it was a symbolic link or missing" {
  local_file=/etc/apparmor.d/local/abstractions/libvirt-qemu
  # In libvirt 9.1 and later, AppArmor's abstraction libvirt-qemu includes the directory into which enable puts its rules. The test
  # deletes the include line, so that enable must add an include line to the local file.
  host sed -i '/<abstractions\/libvirt-qemu\.d>/d' /etc/apparmor.d/abstractions/libvirt-qemu
  host mkdir -p /srv/managed "$(dirname "$local_file")"
  echo '# by the administrator' | host tee /srv/managed/libvirt-qemu
  host ln -sf /srv/managed/libvirt-qemu "$local_file"
  host xsaveshim-libvirt enable
  host grep -q xsaveshim /srv/managed/libvirt-qemu
  host xsaveshim-libvirt disable
  [[ $(host readlink "$local_file") == /srv/managed/libvirt-qemu ]]
  [[ $(host cat /srv/managed/libvirt-qemu) == '# by the administrator' ]]

  host rm -r "$(dirname "$local_file")"
  before=$(list_files "$host_root")
  host xsaveshim-libvirt enable
  host xsaveshim-libvirt status
  preprocessed=$(host apparmor_parser --preprocess <<<'#include <tunables/global>
    profile xsaveshim-test { #include <abstractions/libvirt-qemu>
    }')
  [[ $preprocessed == *"/etc/xsaveshim.conf r,"* ]]
  host xsaveshim-libvirt disable
  [[ ! -e $host_root$(dirname "$local_file") ]]
  assert_unchanged "$host_root" "$before"
}

@test "with --root, xsaveshim-libvirt enable and disable change only an image of a host, not the host on which they run" {
  image=$BATS_TEST_TMPDIR/image
  make -s -C "$repo" install BUILD="$build" DESTDIR="$image"
  mkdir -p "$image"/usr/lib/systemd/system "$image"/etc/apparmor.d/{abstractions,local/abstractions}
  cp /lib/systemd/system/libvirtd.service "$image/usr/lib/systemd/system/"
  cp "$image/usr/lib/systemd/system/"{libvirtd,virtqemud}.service
  cp /etc/apparmor.d/abstractions/libvirt-qemu "$image/etc/apparmor.d/abstractions/"
  : >"$image/etc/apparmor.d/local/abstractions/libvirt-qemu"
  mkdir "$image/lib"
  before=$(list_files "$image")
  command=$BATS_TEST_TMPDIR/xsaveshim-libvirt
  sed "s,^data=.*,data=$image/usr/share/xsaveshim/libvirt," "$image/usr/sbin/xsaveshim-libvirt" >"$command"

  here=$(list_files /)
  run -0 bash "$command" enable --root "$image"
  [[ $output == *"not proven"* ]]
  [[ -e $image/$drop_in && -e $image/etc/systemd/system/virtqemud.service.d/xsaveshim.conf ]]
  bash "$command" status --root "$image"
  run -0 bash "$command" disable --root "$image"
  [[ $output == *"disabled: running domains keep"* ]]
  assert_unchanged "$image" "$before"
  run -0 bash "$command" disable --root "$image"
  [[ $output == *"not enabled: there was nothing to disable" ]]
  run -1 bash "$command" status --root "$image"
  assert_unchanged / "$here"
}
