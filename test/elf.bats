# SPDX-License-Identifier: MIT
# Tests the symbols, dependencies and memory protections of libxsaveshim.so, and its cost in instructions and memory.

load lib

dynamic() { # TAG
  readelf -dW "$shim" | sed -n "s/.*($1) *//p"
}

@test "the library exports the symbol ioctl and no other symbol" {
  [[ $(nm -D --defined-only "$shim") =~ ^[0-9a-f]+\ T\ ioctl$ ]] || fail "$(nm -D --defined-only "$shim")"
}

@test "the library exports ioctl without a symbol version, so that the ioctl calls of every program reach the library" {
  run readelf -VW "$shim"
  [[ $output != *'Version definition'* && $output == *'Version needs'* ]]
}

@test "the library depends on libc and on no other library" {
  [[ $(dynamic NEEDED) =~ ^Shared\ library:\ \[libc\.so(\.6)?\]$ ]] || fail "$(dynamic NEEDED)"
}

@test "the soname of the library is libxsaveshim.so" {
  [[ $(dynamic SONAME) == 'Library soname: [libxsaveshim.so]' ]]
}

@test "the file of the stripped library is smaller than 40 KiB" {
  strip -o "$BATS_TEST_TMPDIR/stripped.so" "$shim"
  (($(stat -c %s "$BATS_TEST_TMPDIR/stripped.so") < 40 * 1024))
}

@test "the library is linked with BIND_NOW, RELRO and NODELETE, and has no text relocations" {
  [[ $(dynamic FLAGS) == *BIND_NOW* ]]
  [[ $(dynamic FLAGS_1) == *NOW* && $(dynamic FLAGS_1) == *NODELETE* ]]
  readelf -lW "$shim" | grep -q GNU_RELRO
  [[ -z $(dynamic TEXTREL) ]]
}

@test "no segment of the library is both writable and executable, and the library does not ask for an executable stack" {
  local segments
  segments=$(readelf -lW "$shim" | grep -E '^  (LOAD|GNU_STACK) ')
  [[ $segments =~ GNU_STACK\ .*\ RW\ +0x ]]
  [[ $segments != *RWE* && $segments == *'R E'* ]]
}

@test "the library's .bss, which holds a table of 4,096 vCPUs, takes at most 768 KiB" {
  local bss
  bss=$((16#$(readelf -SW "$shim" | sed -nE 's/.* \.bss +NOBITS +[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) .*/\1/p')))
  ((bss >= 65536 * 2 + 4096 * 96 && bss <= 768 * 1024)) || fail "$bss bytes"
}

@test "if RLIMIT_DATA is 4,000 KiB, a program with the library in LD_PRELOAD still starts" {
  run bash -c 'ulimit -d 4000; LD_PRELOAD=$1 exec /bin/true' - "$shim"
  [[ $status == 0 && -z $output ]] || fail "exit status $status" "$output"
}

@test "in a program without vCPUs, at most 16 KiB of the library's .bss are resident in memory" {
  local smaps rss
  smaps=$(env LD_PRELOAD="$shim" cat /proc/self/smaps)
  # the anonymous mapping that directly follows the library's mappings is the library's .bss
  rss=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { bss = last ~ /libxsaveshim/ && NF == 5; last = $0 } bss && /^Rss:/ { print $2 }' \
    <<<"$smaps")
  [[ $rss =~ ^[0-9]+$ ]] || fail "no .bss found" "$smaps"
  ((rss <= 16)) || fail "$rss kB"
}

@test "the library's ioctl function uses no vector register" {
  run objdump -d "$build/preload/interpose.o"
  [[ $output == *'<ioctl>:'* ]]
  [[ ! $output =~ %[xyz]mm ]]
}

@test "the library adds at most 4 instructions to the ioctl KVM_RUN, and at most 12 to any other ioctl that the library only forwards" {
  assert_cheap
}

# build_with VARIABLE=VALUE...    builds every shipped program and library with these make variables; fails if the compiler warns
build_with() {
  run env -u MAKEFLAGS -u MAKELEVEL make -s -C "$repo" BUILD="$BATS_TEST_TMPDIR/build" WERROR=-Werror "$@" all
  ((status == 0)) || fail "$output" || return
  [[ -z $output ]] || fail "$output" || return
  shim=$BATS_TEST_TMPDIR/build/libxsaveshim.so
}

@test "built with a package's hardening flags and LTO, the library adds at most 4 instructions to KVM_RUN, and at most 12 to any other ioctl that the library only forwards" {
  build_with CFLAGS='-O2 -g -flto=auto -ffat-lto-objects -fstack-protector-strong -fstack-clash-protection -fcf-protection'
  assert_cheap
}

@test "built with clang, the library adds at most 4 instructions to KVM_RUN, and at most 12 to any other ioctl that the library only forwards" {
  build_with CC=clang
  assert_cheap
}

@test "make builds every shipped program and library without a compiler warning, both with -O3 and with -O0" {
  build_with CFLAGS=-O3
  assert_cheap
  rm -r "$BATS_TEST_TMPDIR/build"
  build_with CFLAGS=-O0
}

@test "the library is marked as compatible with shadow stacks (SHSTK), and the library's function ioctl does not begin with endbr64" {
  readelf -nW "$shim" | grep -q 'x86 feature: .*SHSTK'
  [[ $(objdump -d --disassemble=ioctl "$shim" | grep -A1 '<ioctl>:' | tail -n 1) != *endbr64* ]]
}
