# SPDX-License-Identifier: MIT
# shellcheck disable=SC2030,SC2031,SC2154 # each test is a subshell; variables of lib.bash and of bats
# The shim in programs built with a sanitizer, whose runtime interposes ioctl itself.

load lib

setup_file() {
  local name
  for name in address undefined thread leak; do
    sanitized "$name" "-fsanitize=$name"
  done
  sanitized address-static "-fsanitize=address" -static-libasan
}

sanitized() { # NAME FLAG...
  gcc -std=gnu11 -D_GNU_SOURCE -O1 -g -pthread -fno-sanitize-recover=all "${@:2}" -o "$BATS_FILE_TMPDIR/$1" \
    "$BATS_TEST_DIRNAME/vmm/vmm.c"
}

# NAME LD_PRELOAD [VARIABLE=VALUE]...    trims through a known descriptor, a duplicate, and on another thread
trims_in() {
  run --separate-stderr timeout 60 env "${@:3}" LD_PRELOAD="$2" DEVICE=/dev/null "$BATS_FILE_TMPDIR/$1" \
    supported create 0 cpuid 0xd=0x7 set-xsave 0x207 dup set-xsave 0x207 thread set-xsave 0x207
  ((status == 0)) || fail "$(told)"
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 3 ]] || fail "$(told)"
  [[ $(grep -c '^xsaveshim: level=notice event=trim ' <<<"$stderr") == 3 && $(wc -l <<<"$stderr") == 3 ]] ||
    fail "$(told)"
}

@test "a program built with ASan wants its runtime first: LD_PRELOAD=\"libasan.so libxsaveshim.so\"" {
  trims_in address "$(gcc -print-file-name=libasan.so) $shim $standin"
}

@test "a program built with ASan takes the shim first when told not to verify the order" {
  trims_in address "$shim $standin" ASAN_OPTIONS=verify_asan_link_order=0
}

@test "a program built with ASan says so itself when the shim comes first" {
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim" DEVICE=/dev/null "$BATS_FILE_TMPDIR/address" create 0
  ((status != 0))
  [[ $stderr == *'runtime does not come first'* ]]
}

@test "a program with ASan linked in statically works with the shim as any other" {
  trims_in address-static "$shim $standin"
}

@test "a program built with UBSan works with the shim as any other" {
  trims_in undefined "$shim $standin"
}

@test "a program built with TSan works with the shim as any other" {
  trims_in thread "$shim $standin"
}

@test "a program built with LSan works with the shim as any other, which leaks nothing" {
  trims_in leak "$shim $standin"
}
