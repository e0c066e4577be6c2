# SPDX-License-Identifier: MIT
# The testbed itself: test/kernels/build in front of a source tree that takes no time to build, and test/kernels/run with
# a real kernel.

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

# A stand-in for the kernel source: "vmlinux" is a listing of the files that are changed. Building waits where a file
# called `hold` lies in $work, until there is one called `go`; each build adds a line to `made`. Stripping it is copying it.
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
  run --separate-stderr timeout 60 "$builder" "$@"
  ((status == 0)) || fail "exit status $status" "$stderr"
}

assert_does_not_build() {
  run --separate-stderr timeout 60 "$builder" "$@"
  ((status != 0)) || fail "it should have failed" "$output" "$stderr"
  [[ ! -e $work/cache/tree ]]
}

# start_build KERNEL...    one that is held at the first kernel
start_build() {
  touch "$work/hold"
  setsid "$builder" "$@" >"$work/held.out" 2>"$work/held.err" 3>&- &
  background=$!
  wait_for 30 test -s "$work/made"
}

nothing_runs_in() { # DIRECTORY
  ! grep -qsF "$1" /proc/[0-9]*/cmdline
}

# enters KERNEL [ARGUMENT]... -- COMMAND...    run, with what it left behind looked for
enters() {
  run --separate-stderr timeout 300 "$runner" "$@"
  [[ -z $(ls -A "$TMPDIR") ]] || fail "left behind:" "$(ls -A "$TMPDIR")"
  nothing_runs_in "$TMPDIR" || fail "something still runs"
}

@test "each kernel is the source with its own change and no other" {
  fake_source
  assert_builds
  run --separate-stderr -- xargs -n 1 tail -n +1 <<<"$output"
  [[ $output == "a
	kvm_vcpu_after_set_cpuid(vcpu);
b
c
	u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |
d
a
	kvm_vcpu_after_set_cpuid(vcpu);
b
c
	u64 supported_xcr0 = ~0ULL |
d
a
	kvm_vcpu_after_set_cpuid(vcpu);
	vcpu->arch.guest_fpu.fpstate->user_xfeatures = vcpu->arch.guest_supported_xcr0 | XFEATURE_MASK_FPSSE;
b
c
	u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |
d
a
	kvm_vcpu_after_set_cpuid(vcpu);
	vcpu->arch.guest_fpu.fpstate->user_xfeatures = vcpu->arch.guest_supported_xcr0;
b
c
	u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |
d" ]]
  diff "$work/made" <(printf '%s\n' -fixed -leaky -affected -affected-strict)
}

@test "what is cached is not built again, and the source tree goes with the last kernel" {
  fake_source
  assert_builds leaky
  [[ -d $work/cache/tree ]]
  assert_builds
  [[ ! -e $work/cache/tree ]]
  [[ $(sort "$work/made") == "$(printf '%s\n' -affected -affected-strict -fixed -leaky)" ]]
  assert_builds
  [[ -z $stderr ]]
  (($(wc -l <"$work/made") == 4))
}

@test "another source means other kernels, beside the first" {
  fake_source
  assert_builds fixed
  local first=$output
  echo e >>"$work/source/linux-source-9.9/arch/x86/kvm/x86.c"
  pack_source
  assert_builds fixed
  [[ $output != "$first" && -f $first ]]
  [[ $(tail -n 1 "$output") == e ]]
}

@test "a source that has moved on is named, with the line that is missed, and the other kernels are built" {
  fake_source
  sed -i s/supported_xcr0/permitted_xcr0/ "$work/source/linux-source-9.9/arch/x86/kvm/x86.c"
  pack_source
  assert_does_not_build
  [[ $stderr == *"the source has moved on: arch/x86/kvm/x86.c should have this line exactly once, and has it 0 times:"* ]]
  [[ $stderr == *"u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |"* ]]
  [[ $stderr == *"leaky: cannot be made from $work/source.tar.xz"* ]]
  diff "$work/made" <(printf '%s\n' -fixed -affected -affected-strict)
  ((${#lines[@]} == 3)) && [[ -f ${lines[0]} && -f ${lines[1]} && -f ${lines[2]} ]]
}

@test "a line to change that is there twice is an error" {
  fake_source
  printf '\tkvm_vcpu_after_set_cpuid(vcpu);\n' >>"$work/source/linux-source-9.9/arch/x86/kvm/cpuid.c"
  pack_source
  assert_does_not_build affected
  [[ $stderr == *"arch/x86/kvm/cpuid.c should have this line exactly once, and has it 2 times"* ]]
}

@test "a file to change that is gone is an error" {
  fake_source
  rm "$work/source/linux-source-9.9/arch/x86/kvm/cpuid.c"
  sed -i 's,arch/x86/kvm/cpuid.c,,' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_does_not_build affected
  [[ $stderr == *"the source has moved on: $work/source.tar.xz has no arch/x86/kvm/cpuid.c"* ]]
}

@test "a configuration option that the source does not know is named" {
  fake_source
  sed -i 's/^\tcp.*/\tgrep -v YAMA $(KCONFIG_ALLCONFIG) >.config/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_does_not_build fixed
  [[ $stderr == *"CONFIG_SECURITY_YAMA=y was not accepted"*"configuring the kernel failed; its log is $work/cache/build.log"* ]]
}

@test "an option that only later sources have is set there, and not missed in others" {
  fake_source
  sed -i 's/^\tcat .*/\tcp .config $@/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_builds fixed
  grep -qx CONFIG_KVM_IOAPIC=y "$output"
  rm -r "$work/cache"
  sed -i 's/^\tcp .*KCONFIG.*/\tgrep -v KVM_IOAPIC $(KCONFIG_ALLCONFIG) >.config/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_builds fixed
}

@test "a build that fails keeps its log and says where; the next one is from scratch" {
  fake_source
  sed -i 's/^\tcat/\t@echo some.c:1: error: no; exit 1;cat/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  assert_does_not_build leaky
  [[ $stderr == *"some.c:1: error: no"*"building kernel leaky failed; its log is $work/cache/build.log"* ]]
  grep -q 'some.c:1: error: no' "$work/cache/build.log"
}

@test "a source that is not there is named" {
  fake_source
  XSTEST_KERNEL_SOURCE=$work/none.tar.xz assert_does_not_build fixed
  [[ $stderr == *"there is no kernel source $work/none.tar.xz: install linux-source (Debian, Ubuntu), or name a tarball"* ]]
}

@test "a kernel nobody knows is named, with those there are" {
  assert_does_not_build fixd
  [[ $stderr == *"no kernel is called 'fixd'; there are: fixed leaky affected affected-strict" ]]
}

@test "a build that is interrupted stops at once, and the next one goes on where it was" {
  fake_source
  start_build leaky
  kill -TERM "$background"
  local status=0
  wait "$background" || status=$?
  ((status == 143))
  nothing_runs_in "$work/cache"
  rm "$work/hold"
  echo mine >"$work/cache/tree/arch/x86/kvm/other"
  assert_builds leaky
  [[ -e $work/cache/tree/arch/x86/kvm/other ]]
  (($(grep -c 'u64 supported_xcr0 = ~0ULL |' "$output") == 1))
  assert_builds fixed
  (($(grep -c 'u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |' "$output") == 1))
}

@test "a build that is killed while it works is gone on with too" {
  fake_source
  start_build leaky
  kill -KILL -- -"$background"
  touch "$work/go" # what it had started comes to its end
  wait_for 10 nothing_runs_in "$work/cache"
  assert_builds fixed
  (($(grep -c 'u64 supported_xcr0 = vcpu->arch.guest_supported_xcr0 |' "$output") == 1))
}

@test "a tree that was left before it was complete is not built in" {
  fake_source
  mkdir -p "$work/cache/tree"
  touch "$work/cache/tree/half-unpacked"
  assert_builds fixed
  [[ ! -e $work/cache/tree/half-unpacked ]]
}

@test "two builds at once: the second waits, and builds nothing again" {
  fake_source
  start_build fixed
  "$builder" fixed >"$work/second.out" 2>"$work/second.err" 3>&- &
  local second=$!
  wait_for 30 grep -q 'waiting for another build to end' "$work/second.err"
  touch "$work/go"
  wait "$background"
  wait "$second"
  (($(wc -l <"$work/made") == 1))
  cmp "$work/held.out" "$work/second.out"
}

@test "a full disk is called a full disk, and the next run recovers" {
  fake_source
  sed -i 's/^\ttouch half-made/\thead -c 4M \/dev\/zero >fill/' "$work/source/linux-source-9.9/Makefile"
  pack_source
  mkdir "$work/cache"
  local privately=(unshare --mount)
  ((EUID == 0)) || privately+=(--map-root-user)
  # as from `make -C DIRECTORY`, whose makes tell where they are
  MAKEFLAGS=w MAKELEVEL=1 run "${privately[@]}" bash -c '
    mount -t tmpfs -o size=2M small "$XSTEST_KERNEL_CACHE"
    timeout 60 "$0" leaky && exit 9
    find "$XSTEST_KERNEL_CACHE" -mindepth 1
    mount -o remount,size=200M "$XSTEST_KERNEL_CACHE"
    timeout 60 "$0" leaky && echo recovered' "$builder"
  echo "$output"
  ((status == 0))
  [[ $output =~ "building kernel leaky failed: only "[0-2]" MB are free in $work/cache, a build needs about 1200" ]]
  [[ $output != *"$work/cache/tree"* ]]
  [[ ${lines[-1]} == recovered ]]
}

@test "a command's output and errors come through byte for byte, each where it belongs" {
  head -c 300000 /dev/urandom >"$work/bytes"
  printf 'no newline at the end, \r\n and \0 within' >>"$work/bytes"
  timeout 300 "$runner" fixed -- sh -c 'cat "$1"; tac "$1" >/dev/stderr' sh "$work/bytes" >"$work/out" 2>"$work/err"
  cmp "$work/bytes" "$work/out"
  cmp <(tac "$work/bytes") "$work/err"
}

@test "a command's exit status comes through, as a shell would have it" {
  enters fixed -- sh -c 'exit 7'
  ((status == 7))
  [[ -z $output$stderr ]]
  enters fixed -- sh -c 'kill -TERM $$'
  ((status == 128 + 15))
  status=0
  timeout 300 "$runner" fixed -- no-such-command 2>"$work/err" || status=$?
  ((status == 127))
}

@test "inside, a command finds the host's files, its directory, its arguments and its settings" {
  echo from-the-host >"$work/file"
  cd "$work"
  XSAVESHIM_TRIM='save  me' enters --cpus 2 fixed -- bash -c '
    printf "<%s>\n" "$@" "$PWD" "$XSAVESHIM_TRIM" "$(id -u)" "$(uname -r)" "$(nproc)"
    cat file - 2>&1
    [[ -r /dev/kvm && -w /dev/kvm && -c /dev/ptmx && -d /proc/self/fd ]] && echo devices' bash '' "a b" "it's" '$HOME'
  echo "$output"
  [[ ${lines[0]} == '<>' && ${lines[1]} == '<a b>' && ${lines[2]} == "<it's>" && ${lines[3]} == '<$HOME>' ]]
  [[ ${lines[4]} == "<$work>" && ${lines[5]} == '<save  me>' && ${lines[6]} == '<0>' ]]
  [[ ${lines[7]} =~ ^\<[6-9]\..*-fixed\>$ && ${lines[8]} == '<2>' ]]
  [[ ${lines[9]} == from-the-host && ${lines[10]} == devices ]]
}

@test "what a command writes is lost, except in the shared directory" {
  mkdir "$work/shared, and odd"
  echo old >"$work/file"
  XSTEST_OUT="$work/shared, and odd" enters fixed -- bash -c '
    cd "$1" && echo new >file && echo new >other && cat file && echo kept >"$XSTEST_OUT/result"' bash "$work"
  ((status == 0))
  [[ $output == new ]]
  [[ $(<"$work/file") == old && ! -e $work/other ]]
  [[ $(<"$work/shared, and odd/result") == kept ]]
}

@test "a command that takes too long is ended: 124, and what it had said so far" {
  SECONDS=0
  enters --timeout 15 fixed -- sh -c 'echo started; sleep 100'
  ((status == 124 && SECONDS < 60))
  [[ $output == started ]]
  [[ $stderr == "test/kernels/run: timed out after 15 s: sh -c echo started; sleep 100" ]]
}

@test "what a command leaves running does not hold up the end" {
  enters --timeout 60 fixed -- sh -c 'sleep 1000 & setsid sleep 1000 & echo done'
  ((status == 0))
  [[ $output == "done" ]]
}

@test "a kernel that dies under a command is told from a command that fails" {
  enters fixed -- busybox reboot -f
  ((status == 125))
  [[ $stderr == *"the last lines of its console (fixed):"*"kernel fixed died while it ran: busybox reboot -f" ]]
}

@test "a kernel that does not come up is ended in time, with the last that was heard of it" {
  fake_source
  assert_builds fixed
  local image=$output
  cat >"$work/hangs.S" <<'EOF'
  .section .note, "a"           # the entry point for a direct boot
  .long 4, 8, 18
  .asciz "Xen"
  .quad start
  .text
  .code32
start:
  mov $message, %esi
  mov $0x3f8, %edx
again:
  lodsb
  out %al, %dx
  cmp $10, %al
  jne again
stop:
  hlt
  jmp stop
message:
  .ascii "so far, so good\n"
EOF
  as --64 -o "$work/hangs.o" "$work/hangs.S"
  ld -Ttext=0x200000 -e start -o "$image" "$work/hangs.o"
  SECONDS=0
  enters --timeout 3 fixed -- true
  echo "$stderr"
  ((status == 125 && SECONDS < 20))
  [[ $stderr == *"so far, so good"*"kernel fixed did not come up within 3 s" ]]
}

@test "an image that is no kernel is ended at once, with what QEMU said" {
  fake_source
  assert_builds fixed
  enters fixed -- true
  ((status == 125))
  echo "$stderr"
  [[ $stderr == *"qemu: "*"kernel fixed did not come up" ]]
}

@test "a run that is interrupted leaves nothing behind" {
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

@test "a plain user can run a kernel that is built, and is root inside" {
  ((EUID == 0)) || skip "this is a plain user already: the other tests have shown it"
  local image
  assert_builds fixed
  image=$output
  mkdir -p "$work/cache" "$work/clone/test"
  cp "$image" "$work/cache"
  # this one may be below a home that is closed to others
  cp -r "$repo/scripts" "$work/clone/"
  cp -r "$repo/test/kernels" "$work/clone/test/"
  chmod -R a+rX "$BATS_RUN_TMPDIR"
  chmod 1777 "$TMPDIR"
  cd /
  XSTEST_KERNEL_CACHE=$work/cache enters fixed -- id -u
  [[ $output == 0 ]]
  run --separate-stderr timeout 300 setpriv --reuid nobody --regid nogroup --clear-groups \
    env XSTEST_KERNEL_CACHE="$work/cache" "$work/clone/test/kernels/run" fixed -- sh -c 'id -u; ls -l /dev/kvm | cut -c1-10'
  echo "$output" "$stderr"
  ((status == 0))
  [[ ${lines[0]} == 0 && ${lines[1]} == crw-rw-rw- ]]
}
