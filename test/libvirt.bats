#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# xsaveshim-libvirt on hosts of its own: systemd as PID 1 in namespaces, this machine's libvirtd and QEMU, with KVM or without.

load lib
load libvirt

setup_file() {
  need_libvirt_host
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_FILE_TMPDIR/installed"
}

setup() {
  case $BATS_TEST_DESCRIPTION in
    *"image of a host"*) ;;
    *) boot_host "$BATS_FILE_TMPDIR/installed" ;;
  esac
  drop_in=etc/systemd/system/libvirtd.service.d/xsaveshim.conf
}

teardown() {
  stop_host
}

# What an administrator would want to find as it was. (/etc/libvirt is libvirtd's own, which writes there when it starts.)
policy() { # ROOT
  (cd "$1" && find etc usr/lib/systemd lib/systemd -path etc/libvirt -prune -o -type f -exec stat -c '%n %a %U' {} + \
    -exec sha1sum {} + | sort)
}

assert_refused() { # REASON REMEDY [ARGUMENT...]    enable is refused with both, and changes nothing
  local before
  before=$(policy "$host_root")
  run -3 host "${as[@]}" xsaveshim-libvirt enable "${@:3}"
  [[ $output == *"refused: "*"$1"*"Remedy: "*"$2"* ]]
  [[ $(policy "$host_root") == "$before" ]]
}

# While /srv/hold exists, libvirt waits before it starts a domain. To be called before libvirtd runs.
hold_domains() {
  host mkdir -p /etc/libvirt/hooks
  printf '%s\n' '#!/bin/sh' '[ "$2" = prepare ] || exit 0' 'touch /srv/held' \
    'for i in $(seq 600); do [ -e /srv/hold ] || exit 0; sleep 0.1; done' | host tee /etc/libvirt/hooks/qemu >/dev/null
  host chmod 755 /etc/libvirt/hooks/qemu
}

# In the background, where a shell has SIGINT ignored, which the command's own shell could not undo; in a session of its own.
start_enable() { # NAME    $NAME.reported is what it said, $NAME.status what it ended with
  local name=$BATS_TEST_TMPDIR/$1
  rm -f "$name.status" "$host_root/srv/$1.pid"
  {
    status=0
    host env --default-signal=INT,HUP setsid --wait sh -c 'echo $$ >"/srv/$0.pid"; exec xsaveshim-libvirt enable' "$1" >"$name.reported" 2>&1 || status=$?
    echo "$status" >"$name.status"
  } 3>&- &
}

# start_enable NAME, until its probe domain is held
start_held_enable() {
  rm -f "$host_root/srv/held"
  touch "$host_root/srv/hold"
  start_enable "$1"
  wait_for $((60 * ${XSTEST_SLOW:-1})) test -e "$host_root/srv/held"
}

release_domains() { rm "$host_root/srv/hold"; }

ended() { [[ -s $BATS_TEST_TMPDIR/$1.status ]]; } # NAME

assert_ended_with() { # STATUS NAME
  wait_for $((120 * ${XSTEST_SLOW:-1})) ended "$2"
  [[ $(<"$BATS_TEST_TMPDIR/$2.status") == "$1" ]] || fail "$2 ended with $(<"$BATS_TEST_TMPDIR/$2.status"):" "$(output_of "$2")"
}

output_of() { cat "$BATS_TEST_TMPDIR/$1.reported"; } # NAME

ended_or_waits() { ended "$1" || output_of "$1" | grep -q 'waiting for another'; } # NAME

assert_no_probe_left() {
  [[ -z $(host virsh -q list --all) ]]
  run -0 host find /var/log/libvirt /run/libvirt /etc/libvirt /var/lib/libvirt -name '*xsaveshim-probe*'
  [[ -z $output ]]
}

assert_daemon_has_no_library() {
  run -1 host grep -qz libxsaveshim "/proc/$(host systemctl show -P MainPID libvirtd)/environ"
}

@test "enable is idempotent, restarts nothing the second time, and disable restores exactly what was there" {
  before=$(policy "$host_root")
  host xsaveshim-libvirt enable
  enabled=$(policy "$host_root")
  [[ $enabled != "$before" ]]
  daemon=$(host systemctl show -P MainPID libvirtd)
  host xsaveshim-libvirt enable
  [[ $(policy "$host_root") == "$enabled" ]]
  [[ $(host systemctl show -P MainPID libvirtd) == "$daemon" ]]
  host xsaveshim-libvirt disable
  [[ $(policy "$host_root") == "$before" ]]
  [[ ! -e $host_root/etc/systemd/system/libvirtd.service.d ]]
  host xsaveshim-libvirt disable
  [[ $(policy "$host_root") == "$before" ]]
}

@test "enable starts its probe and leaves no trace of it" {
  host xsaveshim-libvirt enable
  assert_no_probe_left
}

@test "of two enables at once the second waits for the first, and both are done" {
  hold_domains
  start_held_enable first
  start_enable second
  wait_for $((30 * ${XSTEST_SLOW:-1})) ended_or_waits second
  release_domains
  assert_ended_with 0 first
  assert_ended_with 0 second
  host xsaveshim-libvirt status
  assert_no_probe_left
}

@test "enable that a signal ends, alone or with all that it has started, is undone, and no probe domain is left" {
  before=$(policy "$host_root")
  hold_domains
  for signal in "kill -TERM" "kill -HUP" "pkill -TERM --session" "pkill -INT --session"; do
    # Each round restarts libvirtd twice, and systemd starts a unit five times within 10 s at most.
    host systemctl reset-failed libvirtd.service
    start_held_enable ended
    # shellcheck disable=SC2086
    host $signal "$(<"$host_root/srv/ended.pid")"
    release_domains
    assert_ended_with 1 ended
    [[ $(output_of ended) == *"undone: nothing of it is left in place"* ]] || fail "after $signal it said:" "$(output_of ended)"
    [[ $(policy "$host_root") == "$before" ]]
    assert_daemon_has_no_library
    assert_no_probe_left
  done
}

@test "enable that a signal ends where all was in place before leaves it in place" {
  hold_domains
  host xsaveshim-libvirt enable
  enabled=$(policy "$host_root")
  start_held_enable ended
  host kill -TERM "$(<"$host_root/srv/ended.pid")"
  release_domains
  assert_ended_with 1 ended
  [[ $(output_of ended) == *"interrupted; what was in place before still is"* ]]
  [[ $(policy "$host_root") == "$enabled" ]]
  host xsaveshim-libvirt status
  assert_no_probe_left
}

@test "disable destroys a probe domain that an enable, killed, has left" {
  before=$(policy "$host_root")
  hold_domains
  start_held_enable killed
  host pkill -KILL --session "$(<"$host_root/srv/killed.pid")"
  release_domains
  wait_for $((30 * ${XSTEST_SLOW:-1})) host virsh -q domid xsaveshim-probe
  host xsaveshim-libvirt disable
  assert_no_probe_left
  [[ $(policy "$host_root") == "$before" ]]
}

@test "disable takes everything away where the daemon cannot restart, and says so" {
  before=$(policy "$host_root")
  host xsaveshim-libvirt enable
  echo 'no such setting' | host tee -a /etc/libvirt/libvirtd.conf
  run -1 host xsaveshim-libvirt disable
  [[ $output == *"could not restart libvirtd.service; see: systemctl status libvirtd.service"* ]]
  [[ $(policy "$host_root") == "$before" ]]
}

@test "make uninstall disables first: no domain is started with a library that has gone" {
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

@test "--dry-run tells what would be done and does nothing" {
  before=$(policy "$host_root")
  run -0 host xsaveshim-libvirt enable --dry-run
  [[ $output == *"would run: "*"/$drop_in"*"would run: systemctl daemon-reload"*"would start the paused domain"* ]]
  [[ $(policy "$host_root") == "$before" ]]
  host xsaveshim-libvirt enable
  before=$(policy "$host_root")
  run -0 host xsaveshim-libvirt disable --dry-run
  [[ $output == *"would run: rm /$drop_in"* ]]
  [[ $(policy "$host_root") == "$before" ]]
}

@test "status tells what is in place and which domains have the shim" {
  host virsh -q define /srv/guest/guest.xml
  host virsh -q start guest
  run -1 host xsaveshim-libvirt status
  [[ $output == *"libvirtd.service: not enabled"*"domain guest (pid $(guest_pid)): has NO shim"* ]]

  host xsaveshim-libvirt enable
  run -1 host xsaveshim-libvirt status
  [[ $output == *"libvirtd.service: enabled"*"domain guest (pid $(guest_pid)): has NO shim"* ]]

  restart_guest
  run -0 host xsaveshim-libvirt status
  [[ $output == *"domain guest (pid $(guest_pid)): has the shim, /usr/lib/"*"/libxsaveshim.so"* ]]
}

@test "status sees a daemon that was started before the drop-in came" {
  host systemctl start libvirtd
  host xsaveshim-libvirt enable --root /
  host systemctl daemon-reload
  run -1 host xsaveshim-libvirt status
  [[ $output == *"libvirtd.service: enabled, but the daemon that runs (pid "*"systemctl restart libvirtd.service"* ]]
  host systemctl restart libvirtd
  host xsaveshim-libvirt status
}

@test "a library that domains cannot load is found out by the probe, and everything is undone" {
  before=$(policy "$host_root")
  host chmod 600 "/${library:=$(cd "$host_root" && find usr/lib -name libxsaveshim.so)}"
  run -1 host xsaveshim-libvirt enable
  [[ $output == *"a probe domain started without /$library"*"undone"* ]]
  [[ $(policy "$host_root") == "$before" ]]
  assert_daemon_has_no_library
  host chmod 644 "/$library"
  host xsaveshim-libvirt enable
}

@test "a probe domain that does not start is told with the end of its log, and everything is undone" {
  before=$(policy "$host_root")
  host mv /usr/bin/qemu-system-x86_64 /usr/bin/qemu-real
  printf '%s\n' '#!/bin/sh' 'case "$*" in *xsaveshim-probe*) echo "this QEMU is broken" >&2; exit 1 ;; esac' \
    'exec /usr/bin/qemu-real "$@"' | host tee /usr/bin/qemu-system-x86_64
  host chmod 755 /usr/bin/qemu-system-x86_64
  run -1 host xsaveshim-libvirt enable
  [[ $output == *"cannot start a probe domain"*"The end of its log:"*"this QEMU is broken"*"undone: nothing"* ]]
  [[ $(policy "$host_root") == "$before" ]]
  assert_daemon_has_no_library
  assert_no_probe_left
}

@test "enable follows a library that has moved" {
  host xsaveshim-libvirt enable
  make -s -C "$repo" install BUILD="$build" LIBDIR=/usr/lib/moved DESTDIR="$BATS_TEST_TMPDIR/moved"
  tar -C "$BATS_TEST_TMPDIR/moved" -c usr | host tar -C / -x
  run -1 host xsaveshim-libvirt status
  run -0 host xsaveshim-libvirt enable
  [[ $output == *"a probe domain had /usr/lib/moved/libxsaveshim.so"* ]]
  host grep -qz '^LD_PRELOAD=/usr/lib/moved/libxsaveshim.so$' "/proc/$(host systemctl show -P MainPID libvirtd)/environ"
  host xsaveshim-libvirt status
}

@test "enable refuses without permission" {
  as=(setpriv --reuid nobody --clear-groups)
  assert_refused "cannot write to /etc" "run this as root"
}

@test "enable refuses where libvirt's units are missing" {
  host rm /lib/systemd/system/libvirtd.service
  assert_refused "neither a libvirtd.service nor a virtqemud.service" "libvirt-daemon-system"
  host ln -s /dev/null /etc/systemd/system/virtqemud.service
  assert_refused "neither a libvirtd.service nor a virtqemud.service" "libvirt-daemon-system"
}

@test "enable refuses where there is no virsh" {
  host rm /usr/bin/virsh
  assert_refused "no virsh" "libvirt-clients"
}

@test "enable refuses where systemd does not run" {
  as=(unshare --mount sh -c 'mount -t tmpfs none /run/systemd; exec "$@"' without-systemd)
  assert_refused "systemd does not run here" "--root DIR"
}

@test "enable refuses a library that is missing" {
  host find /usr/lib -name libxsaveshim.so -delete
  assert_refused "there is no /usr/lib/" "install xsaveshim's library"
}

@test "enable refuses a library outside /usr/lib under AppArmor's policy, and takes one that the policy allows" {
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

@test "enable refuses a library outside /usr/lib under SELinux's policy" {
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

@test "enable refuses to replace another LD_PRELOAD of the daemon" {
  for file in /etc/systemd/system/libvirtd.service.d/other.conf /etc/default/libvirtd; do
    host mkdir -p "$(dirname "$file")"
    case $file in
      *.conf) printf '[Service]\nEnvironment=A=1 LD_PRELOAD=/usr/lib/other.so\n' ;;
      *) echo 'LD_PRELOAD=/usr/lib/other.so' ;;
    esac | host tee "$file"
    assert_refused "already has an LD_PRELOAD, from $file" "first in that one"
    host rm "$file"
  done
}

@test "enable refuses to overwrite a drop-in that is not its own" {
  host mkdir -p "/$(dirname "$drop_in")"
  printf '[Service]\nNice=1\n' | host tee "/$drop_in"
  assert_refused "/$drop_in is there already" "out of the way"
}

@test "a wrong call is told how to call" {
  for arguments in "" "enable disable" "enable --root /nowhere" "start"; do
    # shellcheck disable=SC2086
    run -2 host xsaveshim-libvirt $arguments
    [[ $output == *usage* || $output == *directory* ]]
  done
}

@test "systemd-analyze verify has nothing to say on the drop-ins of libvirtd.service and virtqemud.service" {
  # Debian has no modular daemons: a stand-in for the unit, the drop-in is the real one
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

@test "what enable adds to AppArmor's policy compiles, with libvirt 9.0 and with later versions" {
  host xsaveshim-libvirt enable
  profile='#include <tunables/global>
    profile xsaveshim-test { #include <abstractions/libvirt-qemu>
    }'
  preprocessed=$(host apparmor_parser --preprocess <<<"$profile")
  [[ $preprocessed == *"/etc/xsaveshim.conf r,"* ]]
  host apparmor_parser --skip-kernel-load --skip-cache <<<"$profile"
  host xsaveshim-libvirt disable

  # later versions end in this line
  host sed -i '$ainclude if exists <abstractions/libvirt-qemu.d>' /etc/apparmor.d/abstractions/libvirt-qemu
  host xsaveshim-libvirt enable
  [[ ! -s $host_root/etc/apparmor.d/local/abstractions/libvirt-qemu ]]
  preprocessed=$(host apparmor_parser --preprocess <<<"$profile")
  [[ $preprocessed == *"/etc/xsaveshim.conf r,"* ]]
}

@test "the image of a host is enabled and disabled with --root, and nothing here is touched" {
  image=$BATS_TEST_TMPDIR/image
  make -s -C "$repo" install BUILD="$build" DESTDIR="$image"
  mkdir -p "$image"/usr/lib/systemd/system "$image"/etc/apparmor.d/{abstractions,local/abstractions}
  cp /lib/systemd/system/libvirtd.service "$image/usr/lib/systemd/system/"
  cp "$image/usr/lib/systemd/system/"{libvirtd,virtqemud}.service
  cp /etc/apparmor.d/abstractions/libvirt-qemu "$image/etc/apparmor.d/abstractions/"
  : >"$image/etc/apparmor.d/local/abstractions/libvirt-qemu"
  mkdir "$image/lib"
  before=$(policy "$image")
  command=$BATS_TEST_TMPDIR/xsaveshim-libvirt
  sed "s,^data=.*,data=$image/usr/share/xsaveshim/libvirt," "$image/usr/sbin/xsaveshim-libvirt" >"$command"

  here=$(policy /)
  run -0 bash "$command" enable --root "$image"
  [[ $output == *"not proven"* ]]
  [[ -e $image/$drop_in && -e $image/etc/systemd/system/virtqemud.service.d/xsaveshim.conf ]]
  bash "$command" status --root "$image"
  run -0 bash "$command" disable --root "$image"
  [[ $output == *"disabled: domains that run now"* ]]
  [[ $(policy "$image") == "$before" ]]
  run -0 bash "$command" disable --root "$image"
  [[ $output == *"not enabled: there was nothing to disable" ]]
  run -1 bash "$command" status --root "$image"
  [[ $(policy /) == "$here" ]]
}
