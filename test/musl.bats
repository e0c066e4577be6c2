# SPDX-License-Identifier: MIT
# Tests the library with musl. musl-gcc builds the library and the test programs.

load lib

setup_file() {
  local repo=$BATS_TEST_DIRNAME/.. kernel name
  # musl-gcc searches only musl's headers, so it needs the path of the kernel's headers
  kernel="-idirafter /usr/include -idirafter /usr/include/$(gcc -print-multiarch)"
  make -s -C "$repo" CC=musl-gcc CFLAGS="-O2 $kernel" BUILD="$BATS_FILE_TMPDIR" "$BATS_FILE_TMPDIR/libxsaveshim.so"
  mkdir -p "$BATS_FILE_TMPDIR/test"
  for name in vmm preinit dlopen threads stepcount standin.so constructor.so chain.so; do
    # shellcheck disable=SC2046,SC2086 # several words
    musl-gcc -std=gnu11 -D_GNU_SOURCE -O2 $kernel -I"$repo/test/include" -Wall -Wextra -pthread -fPIC \
      $([[ $name != *.so ]] || echo -shared) -o "$BATS_FILE_TMPDIR/test/$name" "$repo"/test/*/"$name.c"
  done
}

setup() {
  need_no_settings_file
  build=$BATS_FILE_TMPDIR
  shim=$build/libxsaveshim.so
  standin=$build/test/standin.so
  vmm=$build/test/vmm
}

trimmed() { # VCPU
  echo "level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=$1 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru"
}

@test "built with musl-gcc, the library depends only on musl's libc and exports only the symbol ioctl" {
  [[ $(readelf -dW "$shim" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') == libc.so ]]
  [[ $(nm -D --defined-only "$shim") =~ ^[0-9a-f]+\ T\ ioctl$ ]]
  readelf -lW "$vmm" | grep -q 'Requesting program interpreter: .*ld-musl'
}

@test "with musl, the library trims a program's KVM_SET_XSAVE payloads, even through a duplicated descriptor and in a forked child" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 dup set-xsave 0x207 thread fork set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 3 ]] || fail "$(outcome)"
  assert_reported "$(trimmed 0)" "$(trimmed '?')"
}

@test "with musl, whose ioctl() takes the request as an int, the library recognizes KVM's requests and trims the payloads" {
  run_shimmed_standin XSAVESHIM_TRIM=both STANDIN_LEAK=0x200 wide create 0 dup cpuid 0xd=0x7 vcpu 0 get-cpuid none \
    set-xsave 0x207 get-xsave get-xsave2
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $(grep -cE '^get-xsave2?: 0 xstate_bv=0x7 ' <<<"$output") == 2 ]]
}

@test "with musl, the library trims a payload even if a program loads the payload before the library's constructor has run" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin $build/test/constructor.so" \
    "$build/test/preinit"
  assert_printed 'constructor: 0 xstate_bv=0x3' 'main: 0 xstate_bv=0x3'
}

@test "with musl, a library before xsaveshim's library in LD_PRELOAD sees the untrimmed payload, and a library after it sees the trimmed payload" {
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/front.so"
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/behind.so"
  run_standin LD_PRELOAD="$BATS_TEST_TMPDIR/front.so $shim $BATS_TEST_TMPDIR/behind.so $standin" \
    XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $stderr == $'front.so: xstate_bv=0x207\nbehind.so: xstate_bv=0x7' ]]
}

@test "with musl, if eight threads load payloads at once, the library trims each payload according to the CPUID table of the payload's vCPU" {
  timeout 60 env DEVICE=/dev/null XSAVESHIM_LOG=none STANDIN_SUPPORTED=0xff LD_PRELOAD="$shim $standin" \
    "$build/test/threads"
}

@test "with musl, the library adds at most 4 instructions to the ioctl KVM_RUN, and at most 12 to any other ioctl that the library only forwards" {
  assert_cheap
}
