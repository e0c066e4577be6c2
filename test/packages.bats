#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Checks xsaveshim's Debian packages with lintian and its RPMs with rpmlint. Installs, upgrades, removes and purges the Debian
# package named xsaveshim, and installs and erases the RPM of the same name.

load lib
load libvirt

make_package() { # deb|rpm VERSION
  make -s -C "$repo" "$1" BUILD="$BATS_FILE_TMPDIR" VERSION="$2" >"$BATS_FILE_TMPDIR/log" 2>&1 ||
    { cat "$BATS_FILE_TMPDIR/log" >&2; return 1; }
}

# Sets $base to the path of a tarball of a minimal, freshly installed Debian (this machine's release) with the libraries that the
# package needs. The tarball is in a cache outside the work tree.
make_base() {
  local cache=${XSTEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xsaveshim} suite new
  # shellcheck disable=SC1091
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  base=$cache/$suite-minbase.tar
  [[ ! -e $base ]] || return 0
  mkdir -p "$cache"
  new=$(mktemp -d)
  if ! debootstrap --variant=minbase --include=libjansson4,libseccomp2 "$suite" "$new/root" >"$new/log" 2>&1; then
    tail -n 5 "$new/log" >&2
    fail "debootstrap could not install $suite. It needs Debian's mirror; after one success, the tests use the tarball $base"
  fi
  tar -C "$new/root" -cf "$new/base" .
  mv "$new/base" "$base"
  rm -rf "$new"
}

setup_file() {
  [[ $EUID == 0 ]] || skip "not root: these tests install packages, in a chroot and in namespaces"
  for tool in dpkg-buildpackage dh lintian rpmbuild rpmlint debootstrap; do
    type "$tool" >/dev/null 2>&1 || skip "there is no $tool here: run 'scripts/setup packages'"
  done
  make_base
  make_package deb 0.1.0
  make_package deb 0.1.1
  make_package rpm 0.1.0
  export base
}

setup() {
  deb=$BATS_FILE_TMPDIR/xsaveshim_0.1.0_amd64.deb
  newer=$BATS_FILE_TMPDIR/xsaveshim_0.1.1_amd64.deb
  rpm=$BATS_FILE_TMPDIR/xsaveshim-0.1.0-1.x86_64.rpm
  root=$BATS_TEST_TMPDIR/root
}

teardown() {
  stop_host
}

new_debian() {
  mkdir "$root"
  tar -C "$root" -xf "$base"
}

# Prints a checksum of every file below $root, except logs, caches and the package managers' databases.
contents() {
  (cd "$root" && find . \( -path ./var/lib/dpkg -o -path ./root/.rpmdb -o -path ./var/lib/rpm -o -path ./var/log -o -path ./var/cache \) -prune -o \
    \( -type f ! -name ld.so.cache -exec sha1sum {} + -o ! -type f -printf '%y %p %l\n' \) | sort)
}

run_debian() { chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }

@test "lintian reports no error and no warning about the Debian packages" {
  run -0 lintian --allow-root --fail-on error,warning "$deb" "${deb/xsaveshim_/xsaveshim-host_}"
  [[ -z $output ]]
}

@test "rpmlint reports no error and no warning about the RPMs and their spec file" {
  run -0 rpmlint --ignore-unused-rpmlintrc -r "$repo/packaging/rpm/xsaveshim.rpmlintrc" "$rpm" "${rpm/xsaveshim-0/xsaveshim-host-0}" "$BATS_FILE_TMPDIR/xsaveshim.spec"
  [[ $output == *" 0 errors, 0 warnings"* ]]
}

@test "two builds of one commit in different directories give the same source archive and the same Debian packages, bit for bit" {
  mkdir "$BATS_TEST_TMPDIR/clone"
  tar -C "$repo" --exclude=./.git --exclude=./build -c . | tar -C "$BATS_TEST_TMPDIR/clone" --no-same-owner -x
  cd "$BATS_TEST_TMPDIR/clone"
  unset BUILD MAKEFLAGS MAKELEVEL
  git init -q
  git add -A
  git -c user.name=test -c user.email=test@packages.invalid commit -qm test
  version=$(sed -n 's/^VERSION := //p' Makefile)
  archive=xsaveshim-$version.tar.gz
  make -s dist BUILD=first
  find . -path ./.git -prune -o -exec touch {} +
  umask 077
  make -s dist BUILD=second
  cmp "first/$archive" "second/$archive"
  (cd second && sha256sum -c "$archive.sha256")

  tar -xf "first/$archive"
  mv "xsaveshim-$version" second/
  make -s -C "second/xsaveshim-$version" deb >log 2>&1 || fail "$(tail -n 20 log)"
  umask 022
  tar -xf "first/$archive"
  make -s -C "xsaveshim-$version" deb rpm >log 2>&1 || fail "$(tail -n 20 log)"
  [[ -s xsaveshim-$version/build/xsaveshim-$version-1.x86_64.rpm ]]
  for package in xsaveshim xsaveshim-host; do
    cmp "xsaveshim-$version/build/${package}_${version}_amd64.deb" "second/xsaveshim-$version/build/${package}_${version}_amd64.deb"
  done

  echo >>README.md
  run -2 make -s dist BUILD=third
  [[ $output == *"commit the changed files first"* && ! -e third ]]
}

@test "the Debian package can be installed in a minimal Debian, and purging the package leaves no file behind" {
  new_debian
  before=$(contents)
  cp "$deb" "$root/package.deb"
  run_debian dpkg -i /package.deb
  rm "$root/package.deb"
  for file in etc/xsaveshim.conf usr/bin/xsaveshim usr/sbin/xsaveshim-libvirt usr/share/xsaveshim/libvirt/drop-in.conf \
    usr/lib/x86_64-linux-gnu/libxsaveshim.so usr/share/doc/xsaveshim/copyright \
    usr/share/man/man{1/xsaveshim.1,5/xsaveshim.conf.5,7/libxsaveshim.7,8/xsaveshim-libvirt.8}.gz; do
    [[ -f $root/$file ]] || fail "$file is missing"
  done
  [[ $(stat -c %a "$root/usr/lib/x86_64-linux-gnu/libxsaveshim.so") == 644 ]]

  mount --bind /proc "$root/proc" # the package's autopkgtest reads /proc
  run run_debian sh -s <"$repo/packaging/debian/tests/install"
  umount "$root/proc"
  [[ $status == 0 && $output == *"/lib/x86_64-linux-gnu/libxsaveshim.so" ]] || fail "$output"

  run_debian dpkg --purge xsaveshim
  diff <(echo "$before") <(contents)
}

@test "removing and reinstalling the Debian package keeps a changed settings file" {
  new_debian
  cp "$deb" "$newer" "$root/"
  run_debian dpkg -i "/$(basename "$deb")"
  grep -qx XSAVESHIM_REFUSED=abort "$root/etc/xsaveshim.conf"
  echo XSAVESHIM_LOG_LEVEL=debug >>"$root/etc/xsaveshim.conf"
  run_debian dpkg --remove xsaveshim
  [[ -e $root/etc/xsaveshim.conf && ! -e $root/usr/bin/xsaveshim ]]
  run_debian dpkg -i "/$(basename "$newer")"
  grep -qx XSAVESHIM_LOG_LEVEL=debug "$root/etc/xsaveshim.conf"
}

@test "the Debian package and the RPM depend on libjansson and libseccomp, which the command xsaveshim needs" {
  depends=$(dpkg-deb -f "$deb" Depends)
  [[ $depends == *libc6*libjansson4*libseccomp2* ]]
  requires=$(rpm -qp --requires "$rpm")
  [[ $requires == *libjansson.so.4* && $requires == *libseccomp.so.2* ]]
}

# Debian's rpm command can install the RPM's files and run the RPM's scripts. It needs --nodeps, because the RPM depends on packages
# of Fedora, which Debian does not have.
@test "erasing the RPM leaves no file behind, except that a changed settings file is kept as xsaveshim.conf.rpmsave" {
  new_debian
  mkdir "$root/usr/share/licenses" # in Fedora, the package "filesystem" has this directory
  before=$(contents)
  rpm --root "$root" --nodeps -i "$rpm"
  [[ -f $root/usr/lib64/libxsaveshim.so && -f $root/usr/share/man/man5/xsaveshim.conf.5.gz ]]
  grep -qx 'Environment=LD_PRELOAD=/usr/lib64/libxsaveshim.so' "$root/usr/share/xsaveshim/libvirt/drop-in.conf"
  rpm --root "$root" -e xsaveshim
  diff <(echo "$before") <(contents)

  rpm --root "$root" --nodeps -i "$rpm"
  echo XSAVESHIM_LOG_LEVEL=debug >>"$root/etc/xsaveshim.conf"
  rpm --root "$root" -e xsaveshim
  grep -qx XSAVESHIM_LOG_LEVEL=debug "$root/etc/xsaveshim.conf.rpmsave"
}

boot_with_packages() {
  need_libvirt_host
  mkdir -p "$BATS_TEST_TMPDIR/packages"
  cp "$deb" "$newer" "$BATS_TEST_TMPDIR/packages/"
  boot_host "$BATS_TEST_TMPDIR/packages"
}

@test "libvirt's domains run on while the Debian package is upgraded or removed; a domain that starts after the removal does not have the library" {
  boot_with_packages
  host systemctl start libvirtd
  daemon=$(host systemctl show -P MainPID libvirtd)
  host dpkg -i "/$(basename "$deb")"
  [[ $(host systemctl show -P MainPID libvirtd) == "$daemon" ]]
  run -1 host xsaveshim-libvirt status
  [[ $output == *"not enabled"* ]]

  host xsaveshim-libvirt enable
  host virsh -q define /srv/guest/guest.xml
  host virsh -q start guest
  assert_guest_has_library
  before=$(guest_pid)
  daemon=$(host systemctl show -P MainPID libvirtd)
  host dpkg -i "/$(basename "$newer")"
  [[ $(guest_pid) == "$before" && $(host systemctl show -P MainPID libvirtd) == "$daemon" ]]
  assert_guest_prints T
  host grep -q 'libxsaveshim\.so.* (deleted)$' "/proc/$before/maps"
  run -0 host xsaveshim-libvirt status
  [[ $output == *"libxsaveshim.so"*" (deleted)"* ]]
  restart_guest
  assert_guest_has_library
  inode=$(host stat -c %i /usr/lib/x86_64-linux-gnu/libxsaveshim.so)
  host awk -v inode="$inode" '/libxsaveshim/ && $5 != inode { exit 1 }' "/proc/$(guest_pid)/maps"

  before=$(guest_pid)
  host dpkg --remove xsaveshim
  [[ $(guest_pid) == "$before" ]]
  assert_guest_prints T
  run -0 host find /etc/systemd /etc/apparmor.d -name 'xsaveshim*'
  [[ -z $output ]]
  [[ $(host systemctl show -P Environment libvirtd) != *LD_PRELOAD* ]]
  restart_guest
  run -1 guest_has_library
  run -1 host grep ld.so /var/log/libvirt/qemu/guest.log
}

@test "even if libvirtd cannot restart, removing the Debian package succeeds, and removes the package's systemd drop-in for libvirtd" {
  boot_with_packages
  host dpkg -i "/$(basename "$deb")"
  host xsaveshim-libvirt enable
  echo 'no such setting' | host tee -a /etc/libvirt/libvirtd.conf
  run -0 host dpkg --remove xsaveshim
  [[ $output == *"could not restart libvirtd.service"* ]]
  run -0 host find /etc/systemd /etc/apparmor.d /usr/sbin -name 'xsaveshim*'
  [[ -z $output ]]
}
