# SPDX-License-Identifier: MIT
# Tests the library under valgrind, and in programs that are built with a sanitizer. Like the library, the runtimes of ASan
# and TSan interpose ioctl.

load lib

setup_file() {
  local name
  for name in address undefined thread leak; do
    sanitized "$name" "-fsanitize=$name"
  done
  sanitized address-static "-fsanitize=address" -static-libasan
}

sanitized() { # NAME FLAG...
  gcc -std=gnu11 -D_GNU_SOURCE -O1 -g -pthread -I"$BATS_TEST_DIRNAME/include" -fno-sanitize-recover=all "${@:2}" -o "$BATS_FILE_TMPDIR/$1" \
    "$BATS_TEST_DIRNAME/vmm/vmm.c"
}

# assert_trims_in NAME LD_PRELOAD [VARIABLE=VALUE]...    runs the program NAME that sanitized() has built, and checks that the
# library trims three equal payloads: one that the program loads through a vCPU's descriptor, one through a duplicate of this
# descriptor, and one through the duplicate on a second thread
assert_trims_in() {
  run --separate-stderr timeout 60 env "${@:3}" LD_PRELOAD="$2" DEVICE=/dev/null "$BATS_FILE_TMPDIR/$1" \
    supported create 0 cpuid 0xd=0x7 set-xsave 0x207 dup set-xsave 0x207 thread set-xsave 0x207
  ((status == 0)) || fail "$(outcome)"
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 3 ]] || fail "$(outcome)"
  # The three trims drop the same xfeature, which the library reports once for each of the two descriptors.
  [[ $(grep -c '^xsaveshim: level=notice event=trim ' <<<"$stderr") == 2 && $(wc -l <<<"$stderr") == 2 ]] ||
    fail "$(outcome)"
}

@test "if LD_PRELOAD lists ASan's runtime in front of the library, the library trims the payloads of a program built with ASan" {
  assert_trims_in address "$(gcc -print-file-name=libasan.so) $shim $standin"
}

@test "with ASAN_OPTIONS=verify_asan_link_order=0, the library trims the payloads of a program built with ASan even if the library is loaded before ASan's runtime" {
  assert_trims_in address "$shim $standin" ASAN_OPTIONS=verify_asan_link_order=0
}

@test "without ASAN_OPTIONS=verify_asan_link_order=0, a program built with ASan refuses to start if the library is loaded before ASan's runtime" {
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim" DEVICE=/dev/null "$BATS_FILE_TMPDIR/address" create 0
  ((status != 0))
  [[ $stderr == *'runtime does not come first'* ]]
}

@test "the library trims the payloads of a program that has ASan's runtime linked statically" {
  assert_trims_in address-static "$shim $standin"
}

@test "the library trims the payloads of a program built with UBSan" {
  assert_trims_in undefined "$shim $standin"
}

@test "the library trims the payloads of a program built with TSan" {
  assert_trims_in thread "$shim $standin"
}

@test "the library trims the payloads of a program built with LSan, and LSan reports no memory leak" {
  assert_trims_in leak "$shim $standin"
}

# Runs the test VMM's STEPs under valgrind -q, which logs nothing but errors, and checks that the log is empty.
in_memcheck() { # LD_PRELOAD STEP...
  run --separate-stderr timeout 120 env LD_PRELOAD="$1" DEVICE=/dev/null valgrind -q --leak-check=full \
    --log-file="$BATS_TEST_TMPDIR/memcheck.%p" "$vmm" "${@:2}"
  cat "$BATS_TEST_TMPDIR"/memcheck.* >"$BATS_TEST_TMPDIR/said"
  [[ ! -s $BATS_TEST_TMPDIR/said ]] || fail "$(<"$BATS_TEST_TMPDIR/said")"
}

@test "valgrind finds no error while the library reads CPUID tables, trims payloads and calls KVM_GET_CPUID2" {
  in_memcheck "$shim $standin" supported create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x207,shift=4 \
    get-xsave get-xsave2 cpuid none set-xsave 0x207 cpuid-v1 0xd=0x7 dup set-xsave 0x207 thread set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  [[ $(grep -c ' event=trim ' <<<"$stderr") == 3 ]] || fail "$(outcome)"
}

@test "valgrind finds no error while the library reports refused payloads and bad settings" {
  export XSAVESHIM_REFUSED=report XSAVESHIM_TRIM=wrong XSAVESHIM_LOG=/does/not/exist XSAVESHIM_LOG_LEVEL=debug
  in_memcheck "$shim $standin" supported create 0 cpuid 0xd=0x17 set-xsave 0x13 \
    create 1 cpuid 0xd=0x7 set-xsave 0x3,xcomp_bv=1 create 2 cpuid 0xd=0x7 set-xsave 0x3,reserved=7 \
    create 3 cpuid 0xd=0x7 set-xsave 0x3,mxcsr=0xffffffff set-xcrs 0xff cpuid-null set-xsave-at 0
  [[ $(grep -c ' event=refused ' <<<"$stderr") == 5 && $stderr == *' event=setting '* && $stderr == *' event=log '* ]] ||
    fail "$(outcome)"
}
