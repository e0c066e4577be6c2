#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Tests of `make install` and `make uninstall`.

load lib

setup() {
  cd "$repo" || exit
  root=$BATS_TEST_TMPDIR/root
}

files() {
  (cd "$root" && find . -type f -printf '%m %p\n' | sort -k2)
}

@test "make install puts the library into LIBDIR and other files under PREFIX, and the installed files refer to these directories" {
  make -s install DESTDIR="$root"
  libdir=usr/lib/$(gcc -print-multiarch)
  [[ -d /$libdir && $(stat -c %a "$root/$libdir/libxsaveshim.so") == 644 ]]
  cmp "$shim" "$root/$libdir/libxsaveshim.so"

  root=$root.x
  make -s install DESTDIR="$root" PREFIX=/opt/x LIBDIR=/opt/x/lib64
  [[ $(stat -c %a "$root/opt/x/lib64/libxsaveshim.so" "$root"/opt/x/{,s}bin/xsaveshim* | xargs) == "644 755 755" ]]
  [[ -f $root/opt/x/share/man/man7/libxsaveshim.7 && -f $root/opt/x/share/doc/xsaveshim/LICENSE && ! -e $root/usr ]]
  grep -qx 'Environment=LD_PRELOAD=/opt/x/lib64/libxsaveshim.so' "$root/opt/x/share/xsaveshim/libvirt/drop-in.conf"
  grep -qx 'data=/opt/x/share/xsaveshim/libvirt' "$root/opt/x/sbin/xsaveshim-libvirt"
  run -1 grep -rI '@[A-Z]*@' "$root"
}

@test "make uninstall removes every file that make install has installed, and no other file" {
  mkdir -p "$root/usr/bin"
  touch "$root/usr/bin/other"
  before=$(files)
  make -s install DESTDIR="$root"
  [ "$(files | wc -l)" -gt 6 ]
  make -s uninstall DESTDIR="$root"
  [ "$(files)" = "$before" ]
  [ ! -e "$root/usr/share/doc/xsaveshim" ]
}

# Runs COMMAND with temporary overlays on /etc, /usr/local, /opt and /var/cache, so that `make install` without DESTDIR leaves the
# host unchanged.
in_temporary_root() { # COMMAND
  [[ $EUID == 0 ]] || skip "not root: only root can write into overlays on /etc and /usr/local"
  # shellcheck disable=SC2016 # the inner shell expands these variables
  run -0 unshare -m bash -ec '
    mount -t tmpfs tmpfs "$1"
    for directory in etc usr/local opt var/cache; do
      mkdir -p "$1/$directory" "$1/work/$directory"
      mount -t overlay -o "lowerdir=/$directory,upperdir=$1/$directory,workdir=$1/work/$directory" overlay "/$directory"
    done
    eval "$2"' - "$BATS_TEST_TMPDIR" "$1"
}

@test "after make install PREFIX=/usr/local, the loader finds the library by its name; after make uninstall, the loader no longer finds the library" {
  in_temporary_root '
    make -s install PREFIX=/usr/local
    /sbin/ldconfig -p | grep -o "/usr/local/.*/libxsaveshim.so"
    LD_PRELOAD=libxsaveshim.so bash -c "grep -o /usr/local.*libxsaveshim.so /proc/self/maps" | uniq
    make -s uninstall PREFIX=/usr/local
    ! /sbin/ldconfig -p | grep libxsaveshim'
  library=/usr/local/lib/$(gcc -print-multiarch)/libxsaveshim.so
  [[ $output == "$library"$'\n'"$library" ]] || fail "$output"
}

@test "if the loader does not search LIBDIR, make install prints the whole path that LD_PRELOAD must name" {
  in_temporary_root 'make -s install PREFIX=/opt/x'
  library=/opt/x/lib/$(gcc -print-multiarch)
  [[ $output == "make: the loader does not look in $library: give LD_PRELOAD the whole path, $library/libxsaveshim.so" ]] ||
    fail "$output"
}

# Installs xsaveshim below $root, and adds a systemd drop-in that makes libvirtd preload LIBRARY.
make_enabled_image() { # LIBRARY
  make -s install DESTDIR="$root"
  mkdir -p "$root/etc/systemd/system/libvirtd.service.d"
  sed "s,=/.*/libxsaveshim.so$,=$1," "$root/usr/share/xsaveshim/libvirt/drop-in.conf" \
    >"$root/etc/systemd/system/libvirtd.service.d/xsaveshim.conf"
}

@test "make uninstall removes a systemd drop-in that makes libvirtd preload the removed library, and keeps a drop-in that names another library" {
  make_enabled_image "/usr/lib/$(gcc -print-multiarch)/libxsaveshim.so"
  make -s uninstall DESTDIR="$root"
  [ -z "$(files)" ]
  make_enabled_image /opt/lib/libxsaveshim.so
  make -s uninstall DESTDIR="$root"
  [ "$(files)" = "644 ./etc/systemd/system/libvirtd.service.d/xsaveshim.conf" ]
}

@test "if make uninstall cannot remove libvirtd's systemd drop-in, make uninstall prints the reason and removes no file at all" {
  make_enabled_image "/usr/lib/$(gcc -print-multiarch)/libxsaveshim.so"
  before=$(files)
  unshare=(unshare -m)
  [ "$EUID" = 0 ] || unshare=(unshare -rm)
  run -2 "${unshare[@]}" sh -c 'mount --bind "$0/etc" "$0/etc" && mount -o remount,bind,ro "$0/etc" &&
    make -s uninstall DESTDIR="$0"' "$root"
  [[ $output == *"cannot write to $root/etc"* ]]
  [ "$(files)" = "$before" ]
}

@test "make install replaces an installed library by a rename, so that processes always find a complete library" {
  make -s install DESTDIR="$root"
  library=$(find "$root" -name libxsaveshim.so)
  strace -f -qq --seccomp-bpf -e trace=rename,renameat,renameat2,unlink,unlinkat,openat -o "$BATS_TEST_TMPDIR/trace" make -s install DESTDIR="$root"
  run -0 sed -nE "s,^[0-9]+ +([a-z0-9]+)\\(.*\"$library\".*( = 0|O_WRONLY|O_CREAT|O_TRUNC).*,\\1,p" "$BATS_TEST_TMPDIR/trace"
  [[ $output == *rename* && $output != *unlink* && $output != *open* ]] || fail "$output"
}

@test "make install and make uninstall keep a settings file that somebody has changed" {
  make -s install DESTDIR="$root"
  echo XSAVESHIM_TRIM=none >>"$root/etc/xsaveshim.conf"
  changed=$(<"$root/etc/xsaveshim.conf")
  make -s install DESTDIR="$root"
  [ "$(<"$root/etc/xsaveshim.conf")" = "$changed" ]
  make -s uninstall DESTDIR="$root"
  [ "$(files)" = "644 ./etc/xsaveshim.conf" ]
  [ "$(<"$root/etc/xsaveshim.conf")" = "$changed" ]
}

@test "xsaveshim.host=0 on the kernel's command line keeps systemd from starting xsaveshim-host.service" {
  local condition cmdline
  condition=$(grep ^ConditionKernelCommandLine= "$repo/host/xsaveshim-host.service")
  for cmdline in quiet xsaveshim.host=1; do
    SYSTEMD_PROC_CMDLINE=$cmdline systemd-analyze condition "$condition"
  done
  ! SYSTEMD_PROC_CMDLINE='quiet xsaveshim.host=0' systemd-analyze condition "$condition" || fail "it starts"
}
