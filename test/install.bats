#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What make install puts where, and that make uninstall takes it all away again.

load lib

setup() {
  cd "$repo" || exit
  root=$BATS_TEST_TMPDIR/root
}

files() {
  (cd "$root" && find . -type f -printf '%m %p\n' | sort -k2)
}

@test "make install puts the library where the loader looks for it, mode 0644" {
  make -s install DESTDIR="$root"
  libdir=usr/lib/$(gcc -print-multiarch)
  [ -d "/$libdir" ]
  [ "$(stat -c %a "$root/$libdir/libxsaveshim.so")" = 644 ]
  cmp "$shim" "$root/$libdir/libxsaveshim.so"
}

@test "make install puts the command and the manual pages under PREFIX" {
  make -s install DESTDIR="$root" PREFIX=/opt/x
  [ -x "$root/opt/x/bin/xsaveshim" ]
  [ -f "$root/opt/x/share/man/man7/libxsaveshim.7" ]
  [ -f "$root/opt/x/share/man/man1/xsaveshim.1" ]
  [ -f "$root/opt/x/share/doc/xsaveshim/LICENSE" ]
  [ ! -e "$root/usr" ]
}

@test "make install takes LIBDIR as it is given" {
  make -s install DESTDIR="$root" LIBDIR=/usr/lib64
  [ "$(stat -c %a "$root/usr/lib64/libxsaveshim.so")" = 644 ]
}

@test "make uninstall removes every file that make install put there, and nothing else" {
  mkdir -p "$root/usr/bin"
  touch "$root/usr/bin/other"
  before=$(files)
  make -s install DESTDIR="$root"
  [ "$(files | wc -l)" -gt 6 ]
  make -s uninstall DESTDIR="$root"
  [ "$(files)" = "$before" ]
  [ ! -e "$root/usr/share/doc/xsaveshim" ]
}

# Runs COMMAND with an /etc, a /usr/local, an /opt and caches that are gone afterwards, so that it may install without DESTDIR.
in_a_host_to_spoil() { # COMMAND
  [[ $EUID == 0 ]] || skip "only root can write into copies of root's directories"
  # shellcheck disable=SC2016 # the inner shell's
  run -0 unshare -m bash -ec '
    mount -t tmpfs tmpfs "$1"
    for directory in etc usr/local opt var/cache; do
      mkdir -p "$1/$directory" "$1/work/$directory"
      mount -t overlay -o "lowerdir=/$directory,upperdir=$1/$directory,workdir=$1/work/$directory" overlay "/$directory"
    done
    eval "$2"' - "$BATS_TEST_TMPDIR" "$1"
}

@test "make install under /usr/local has the loader find the library by its name, and make uninstall has it forget it" {
  in_a_host_to_spoil '
    make -s install PREFIX=/usr/local
    /sbin/ldconfig -p | grep -o "/usr/local/.*/libxsaveshim.so"
    LD_PRELOAD=libxsaveshim.so bash -c "grep -o /usr/local.*libxsaveshim.so /proc/self/maps" | uniq
    make -s uninstall PREFIX=/usr/local
    ! /sbin/ldconfig -p | grep libxsaveshim'
  library=/usr/local/lib/$(gcc -print-multiarch)/libxsaveshim.so
  [[ $output == "$library"$'\n'"$library" ]] || fail "$output"
}

@test "make install to where the loader does not look says so, with the path to preload" {
  in_a_host_to_spoil 'make -s install PREFIX=/opt/x'
  library=/opt/x/lib/$(gcc -print-multiarch)
  [[ $output == "make: the loader does not look in $library: give LD_PRELOAD the whole path, $library/libxsaveshim.so" ]] ||
    fail "$output"
}

# An image of a host, with this tree installed and a library enabled for its libvirtd.
make_enabled_image() { # LIBRARY
  make -s install DESTDIR="$root"
  mkdir -p "$root/etc/systemd/system/libvirtd.service.d"
  sed "s,=/.*/libxsaveshim.so$,=$1," "$root/usr/share/xsaveshim/libvirt/drop-in.conf" \
    >"$root/etc/systemd/system/libvirtd.service.d/xsaveshim.conf"
}

@test "make uninstall takes away a drop-in that names the library, which would be gone" {
  make_enabled_image "/usr/lib/$(gcc -print-multiarch)/libxsaveshim.so"
  make -s uninstall DESTDIR="$root"
  [ -z "$(files)" ]
}

@test "make uninstall leaves a drop-in that names another library, which stays" {
  make_enabled_image /opt/lib/libxsaveshim.so
  make -s uninstall DESTDIR="$root"
  [ "$(files)" = "644 ./etc/systemd/system/libvirtd.service.d/xsaveshim.conf" ]
}

@test "make uninstall removes nothing where it cannot take the drop-in away, and says why" {
  make_enabled_image "/usr/lib/$(gcc -print-multiarch)/libxsaveshim.so"
  before=$(files)
  unshare=(unshare -m)
  [ "$EUID" = 0 ] || unshare=(unshare -rm)
  run -2 "${unshare[@]}" sh -c 'mount --bind "$0/etc" "$0/etc" && mount -o remount,bind,ro "$0/etc" &&
    make -s uninstall DESTDIR="$0"' "$root"
  [[ $output == *"cannot write to $root/etc"* ]]
  [ "$(files)" = "$before" ]
}

@test "installing over a running copy leaves the mapped library as it is" {
  make -s install DESTDIR="$root"
  library=$(find "$root" -name libxsaveshim.so)
  inode=$(stat -c %i "$library")
  exec {held}<"$library"
  make -s install DESTDIR="$root"
  [ "$(stat -c %i "$library")" != "$inode" ]
  cmp "$shim" "/proc/$$/fd/$held"
}

@test "make install replaces an installed library by a rename, so that it is there and whole all the time" {
  make -s install DESTDIR="$root"
  library=$(find "$root" -name libxsaveshim.so)
  strace -f -qq --seccomp-bpf -e trace=rename,renameat,renameat2,unlink,unlinkat,openat -o "$BATS_TEST_TMPDIR/trace" make -s install DESTDIR="$root"
  run -0 sed -nE "s,^[0-9]+ +([a-z0-9]+)\\(.*\"$library\".*( = 0|O_WRONLY|O_CREAT|O_TRUNC).*,\\1,p" "$BATS_TEST_TMPDIR/trace"
  [[ $output == *rename* && $output != *unlink* && $output != *open* ]] || fail "$output"
}

@test "make install and make uninstall keep settings that somebody changed" {
  make -s install DESTDIR="$root"
  echo XSAVESHIM_TRIM=none >>"$root/etc/xsaveshim.conf"
  changed=$(<"$root/etc/xsaveshim.conf")
  make -s install DESTDIR="$root"
  [ "$(<"$root/etc/xsaveshim.conf")" = "$changed" ]
  make -s uninstall DESTDIR="$root"
  [ "$(files)" = "644 ./etc/xsaveshim.conf" ]
  [ "$(<"$root/etc/xsaveshim.conf")" = "$changed" ]
}

@test "make install fills the installed directories into xsaveshim-libvirt and its drop-in" {
  make -s install DESTDIR="$root" PREFIX=/opt/x LIBDIR=/opt/x/lib
  grep -qx 'Environment=LD_PRELOAD=/opt/x/lib/libxsaveshim.so' "$root/opt/x/share/xsaveshim/libvirt/drop-in.conf"
  grep -qx 'data=/opt/x/share/xsaveshim/libvirt' "$root/opt/x/sbin/xsaveshim-libvirt"
  [ "$(stat -c %a "$root/opt/x/sbin/xsaveshim-libvirt")" = 755 ]
  run -1 grep -rI '@[A-Z]*@' "$root"
}
