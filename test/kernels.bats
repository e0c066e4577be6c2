# SPDX-License-Identifier: MIT
# Tests test/kernels/build with a fake kernel source, which takes no time to build, and test/kernels/run with a real kernel.

# bats file_tags=testbed

load lib

setup() {
  work=$BATS_TEST_TMPDIR
  builder=$repo/test/kernels/build
  runner=$repo/test/kernels/run
  export TMPDIR=$work/tmp
  mkdir "$TMPDIR"
}

teardown() {
  touch "$work/go"
  [[ ! ${background:-} ]] || kill -KILL -- "-$background" 2>/dev/null || true
}

# Makes a fake kernel source. Its vmlinux is the concatenation of the files that test/kernels/changes edits. Each build adds a line
# to $work/made. If $work/hold exists, a build waits until $work/go exists. The fake objcopy only copies its input.
fake_source() {
  mkdir "$work/bin"
  printf '#!/bin/sh\ncp "$2" "$3"\n' >"$work/bin/objcopy"
  chmod +x "$work/bin/objcopy"
  PATH=$work/bin:$PATH
  local tree=$work/source/linux-source-9.9
  mkdir -p "$tree/arch/x86/kvm"
  printf 'a\n\tkvm_vcpu_after_set_cpuid(vcpu);\nb\n' >"$tree/arch/x86/kvm/cpuid.c"
  printf 'c\n\tu64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |\nd\n' >"$tree/arch/x86/kvm/x86.c"
  cat >"$tree/Makefile" <<EOF
allnoconfig:
	cp \$(KCONFIG_ALLCONFIG) .config
.PHONY: vmlinux
vmlinux: arch/x86/kvm/cpuid.c arch/x86/kvm/x86.c
	echo "\$(LOCALVERSION)" >>$work/made
	touch half-made
	[ ! -e $work/hold ] || until [ -e $work/go ]; do sleep 0.05; done
	cat \$^ >\$@
EOF
  export XSTEST_KERNEL_CACHE=$work/cache
  pack_source
}

pack_source() {
  tar -C "$work/source" -cJf "$work/source.tar.xz" linux-source-9.9
  export XSTEST_KERNEL_SOURCE=$work/source.tar.xz
}

assert_builds() {
  run -0 --separate-stderr timeout 300 "$builder" "$@"
}

assert_does_not_build() { # ERROR-PATTERN KERNEL...
  run -1 --separate-stderr timeout 300 "$builder" "${@:2}"
  # shellcheck disable=SC2053 # a pattern
  [[ $stderr == $1 ]] || fail "$stderr"
}

nothing_runs_in() { # DIRECTORY
  ! grep -qsF "$1" /proc/[0-9]*/cmdline
}

# assert_exit STATUS [OPTION]... KERNEL -- COMMAND...    runs test/kernels/run with the arguments after STATUS, and checks that it
# exits with STATUS, and leaves no file and no process behind
assert_exit() {
  run "-$1" --separate-stderr timeout 300 "$runner" "${@:2}"
  [[ -z $(ls -A "$TMPDIR") ]] || fail "left behind:" "$(ls -A "$TMPDIR")"
  nothing_runs_in "$TMPDIR" || fail "something still runs"
}

@test "test/kernels/build applies each testbed kernel's own patch, builds each kernel once, and builds nothing in a later run" {
  fake_source
  assert_builds leaky
  assert_builds
  grep -q 'u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |' "${lines[0]}"
  grep -q 'u64 supported_xcr0 = ~0ULL |' "${lines[1]}"
  grep -q 'user_xfeatures = vcpu->arch.guest_supported_xcr0 | XFEATURE_MASK_FPSSE;' "${lines[2]}"
  grep -q 'user_xfeatures = vcpu->arch.guest_supported_xcr0;' "${lines[3]}"
  [[ $(grep -c 'user_xfeatures\|~0ULL' "${lines[@]}" | sed 's/.*://' | xargs) == '0 1 1 1' ]]
  assert_builds
  [[ -z $stderr && ! -e $work/cache/tree ]]
  diff "$work/made" <(printf '%s\n' -leaky -fixed -affected -affected-strict)
}

@test "if one testbed kernel cannot be built, test/kernels/build names the reason, builds the other kernels, and exits with 1" {
  fake_source
  assert_does_not_build "*no kernel is called 'fixd'; there are: fixed leaky affected affected-strict" fixd
  XSTEST_KERNEL_SOURCE=$work/none.tar.xz assert_does_not_build "*there is no kernel source $work/none.tar.xz: install *" fixed
  sed -i s/supported_xcr0/permitted_xcr0/ "$work/source/linux-source-9.9/arch/x86/kvm/x86.c"
  pack_source
  assert_does_not_build '*arch/x86/kvm/x86.c should have this line exactly once, and has it 0 times:*'
  ((${#lines[@]} == 3)) && [[ -f ${lines[0]} && -f ${lines[1]} && -f ${lines[2]} ]]
  sed -i 's/^\tcat/\t@echo some.c:1: error: no; exit 1;cat/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_does_not_build "*some.c:1: error: no*building kernel fixed failed; its log is $work/cache/build.log" fixed
  sed -i 's/^\tcp.*/\tgrep -v YAMA $(KCONFIG_ALLCONFIG) >.config/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_does_not_build "*make allnoconfig did not accept CONFIG_SECURITY_YAMA=y*" fixed
}

@test "if SIGTERM interrupts test/kernels/build, it exits with 143 and leaves no process behind, and a later build succeeds" {
  local status=0
  fake_source
  touch "$work/hold"
  setsid "$builder" leaky 3>&- &
  background=$!
  wait_for 120 test -s "$work/made"
  kill -TERM "$background"
  wait "$background" || status=$?
  ((status == 143))
  nothing_runs_in "$work/cache"
  rm "$work/hold"
  assert_builds fixed
  grep -q 'u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |' "$output"
}

@test "test/kernels/run prints the standard output and standard error of its command in the testbed kernel, and exits with the command's status" {
  head -c 300000 /dev/urandom >"$work/bytes"
  timeout 300 "$runner" fixed -- sh -c 'cat "$1"; tac "$1" >/dev/stderr; exit 7' sh "$work/bytes" >"$work/out" 2>"$work/err" || status=$?
  ((status == 7))
  cmp "$work/bytes" "$work/out"
  cmp <(tac "$work/bytes") "$work/err"
  assert_exit 143 fixed -- sh -c 'kill -TERM $$'
  assert_exit 127 fixed -- no-such-command
}

@test "in a testbed kernel, the command of test/kernels/run sees the host's files, but only what the command writes to the directory XSTEST_OUT reaches the host" {
  mkdir "$work/shared, and odd"
  echo old >"$work/file"
  cd "$work"
  XSTEST_OUT="$work/shared, and odd" XSAVESHIM_TRIM='save  me' assert_exit 0 --cpus 2 fixed -- bash -c '
    printf "<%s>\n" "$@" "$PWD" "$XSAVESHIM_TRIM" "$(id -u)" "$(nproc)"
    cat file - 2>&1
    echo new >file && echo kept >"$XSTEST_OUT/result" && [[ -r /dev/kvm && -c /dev/ptmx ]]' bash '' "it's" '$HOME'
  diff <(printf '%s\n' '<>' "<it's>" '<$HOME>' "<$work>" '<save  me>' '<0>' '<2>' old) <(echo "$output")
  [[ $(<file) == old && $(<"$work/shared, and odd/result") == kept ]]
}

@test "test/kernels/run exits with 124 when its command exceeds the time limit, and does not wait for processes that the command left in the background" {
  SECONDS=0
  assert_exit 124 --timeout 40 fixed -- sh -c 'echo started; sleep 100'
  ((SECONDS < 100))
  [[ $output == started && $stderr == "test/kernels/run: timed out after 40 s: sh -c echo started; sleep 100" ]]
  assert_exit 0 --timeout 60 fixed -- sh -c 'sleep 1000 & setsid sleep 1000 & echo done'
}

@test "if the testbed kernel dies or does not boot, test/kernels/run exits with 125 and says so" {
  assert_exit 125 fixed -- busybox reboot -f
  [[ $stderr == *"kernel fixed died while it ran: busybox reboot -f" ]]
  fake_source
  assert_builds fixed
  local image=$output
  assert_exit 125 fixed -- true # the fake image cannot boot
  [[ $stderr == *"kernel fixed did not come up" ]]
  cat >"$work/hangs.S" <<'ASM'
  .section .note, "a"           # the entry point for a direct boot
  .long 4, 8, 18
  .asciz "Xen"
  .quad start
  .text
  .code32
start:
  hlt
  jmp start
ASM
  as --64 -o "$work/hangs.o" "$work/hangs.S"
  ld -Ttext=0x200000 -e start -o "$image" "$work/hangs.o"
  SECONDS=0
  assert_exit 125 --timeout 3 fixed -- true
  ((SECONDS < 20))
  [[ $stderr == *"kernel fixed did not come up within 3 s" ]]
}

@test "if SIGTERM or SIGINT interrupts test/kernels/run, it exits with 128 plus the signal's number, and leaves no file and no process behind" {
  local signal status
  for signal in TERM INT; do
    mkdir "$work/out-$signal"
    XSTEST_OUT=$work/out-$signal setsid env --default-signal=INT "$runner" \
      fixed -- sh -c 'echo >"$XSTEST_OUT/started"; sleep 1000' 3>&- &
    background=$!
    wait_for 60 test -e "$work/out-$signal/started"
    kill -"$signal" "$background"
    status=0
    wait "$background" || status=$?
    ((status == 128 + $(kill -l "$signal")))
    [[ -z $(ls -A "$TMPDIR") ]]
    nothing_runs_in "$TMPDIR"
  done
}
