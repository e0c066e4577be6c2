# SPDX-License-Identifier: MIT
# What the shared object exports, needs and promises; and what it costs, in instructions and in memory.

load lib

dynamic() { # TAG
  readelf -dW "$shim" | sed -n "s/.*($1) *//p"
}

@test "the library exports ioctl and nothing else" {
  [[ $(nm -D --defined-only "$shim") =~ ^[0-9a-f]+\ T\ ioctl$ ]] || fail "$(nm -D --defined-only "$shim")"
}

@test "ioctl is exported without a version, which would make it another symbol than programs look for" {
  run readelf -VW "$shim"
  [[ $output != *'Version definition'* && $output == *'Version needs'* ]]
}

@test "the library needs libc and nothing else" {
  [[ $(dynamic NEEDED) =~ ^Shared\ library:\ \[libc\.so(\.6)?\]$ ]] || fail "$(dynamic NEEDED)"
}

@test "the library has its own name as soname" {
  [[ $(dynamic SONAME) == 'Library soname: [libxsaveshim.so]' ]]
}

@test "the library, stripped, takes less than 40 KiB" {
  strip -o "$BATS_TEST_TMPDIR/stripped.so" "$shim"
  (($(stat -c %s "$BATS_TEST_TMPDIR/stripped.so") < 40 * 1024))
}

@test "everything is bound at start, read-only then, and never unloaded" {
  [[ $(dynamic FLAGS) == *BIND_NOW* ]]
  [[ $(dynamic FLAGS_1) == *NOW* && $(dynamic FLAGS_1) == *NODELETE* ]]
  readelf -lW "$shim" | grep -q GNU_RELRO
  [[ -z $(dynamic TEXTREL) ]]
}

@test "no memory is both writable and executable, the stack included" {
  local segments
  segments=$(readelf -lW "$shim" | grep -E '^  (LOAD|GNU_STACK) ')
  [[ $segments =~ GNU_STACK\ .*\ RW\ +0x ]]
  [[ $segments != *RWE* && $segments == *'R E'* ]]
}

@test "the vCPU table has 65,536 entries of 8 bytes, and as many for what was dropped, and takes no space in the file" {
  local bss
  bss=$((16#$(readelf -SW "$shim" | sed -nE 's/.* \.bss +NOBITS +[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) .*/\1/p')))
  ((bss >= 65536 * (8 + 88) && bss < 65536 * (8 + 88) + 32768)) || fail "$bss bytes"
}

@test "a program that has no vCPU has no page of the table in memory" {
  local smaps rss
  smaps=$(env LD_PRELOAD="$shim" cat /proc/self/smaps)
  # the anonymous mapping behind the library's own is its .bss
  rss=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { bss = last ~ /libxsaveshim/ && NF == 5; last = $0 } bss && /^Rss:/ { print $2 }' \
    <<<"$smaps")
  [[ $rss =~ ^[0-9]+$ ]] || fail "no .bss found" "$smaps"
  ((rss <= 16)) || fail "$rss kB"
}

@test "the code of an ioctl's way through the shim uses no vector register" {
  run objdump -d "$build/preload/interpose.o"
  [[ $output == *'<ioctl>:'* ]]
  [[ ! $output =~ %[xyz]mm ]]
}

@test "4 instructions or fewer are added to KVM_RUN, 12 or fewer to any other foreign request" {
  assert_cheap
}

# build_with VARIABLE=VALUE...    all that is shipped, without a warning, and what its ioctl costs
build_with() {
  run env -u MAKEFLAGS -u MAKELEVEL make -s -C "$repo" BUILD="$BATS_TEST_TMPDIR/build" WERROR=-Werror "$@" all
  ((status == 0)) || fail "$output" || return
  [[ -z $output ]] || fail "$output" || return
  shim=$BATS_TEST_TMPDIR/build/libxsaveshim.so
}

@test "a package's flags, with LTO and all of -fcf-protection, make no ioctl dearer" {
  build_with CFLAGS='-O2 -g -flto=auto -ffat-lto-objects -fstack-protector-strong -fstack-clash-protection -fcf-protection'
  assert_cheap
}

@test "built with clang no ioctl is dearer" {
  build_with CC=clang
  assert_cheap
}

@test "with -O3 and with -O0 everything builds" {
  build_with CFLAGS=-O3
  assert_cheap
  rm -r "$BATS_TEST_TMPDIR/build"
  build_with CFLAGS=-O0
}

@test "a process with a shadow stack keeps it, and ioctl begins without endbr64" {
  readelf -nW "$shim" | grep -q 'x86 feature: .*SHSTK'
  [[ $(objdump -d --disassemble=ioctl "$shim" | grep -A1 '<ioctl>:' | tail -n 1) != *endbr64* ]]
}
