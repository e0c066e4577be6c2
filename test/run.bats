# SPDX-License-Identifier: MIT
# `xsaveshim run`: what it makes of its command line, of the VMM's file and of its surroundings. No KVM is needed.

load lib

xsaveshim=$build/xsaveshim
work=$BATS_TEST_TMPDIR

setup() {
  need_no_settings_file
}

# run_command [VARIABLE=VALUE]... ARGUMENT...    $expected: the exit status, for bats to know where it is 127
run_command() {
  local environment=()
  while [[ ${1:-} =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  run ${expected:+"-$expected"} --separate-stderr timeout 60 env "${environment[@]}" "$xsaveshim" "$@"
}

# assert_fails_with STATUS LINE    the one line on stderr, or its beginning where LINE ends with *
assert_fails_with() {
  # shellcheck disable=SC2053 # LINE is a pattern
  [[ $status == "$1" && -z $output && $(wc -l <<<"$stderr") == 1 && $stderr == $2 ]] || fail "$(outcome)"
}

# took MODE REASON PROGRAM    what the report at level debug says
assert_took() {
  ((status == 0)) || fail "$(outcome)" || return
  grep -qE "^xsaveshim: level=debug event=run( via=supervisor)? pid=[0-9]+ mode=$1 reason=$2 program=$3( |$)" <<<"$stderr" ||
    fail "$(outcome)"
}

script() { # FILE INTERPRETER-LINE [COMMAND]
  printf '%s\n' "$2" "${3-}" >"$1"
  chmod +x "$1"
}

need_root() {
  [[ $EUID == 0 ]] || skip "only root can make such files"
}

teardown() {
  [[ ! ${public:-} ]] || rm -rf "$public"
}

# ---- the command line ----

# helps [COMMAND]    --help and -h say the same, on a screen of 24 lines of 80 columns, whose last line is the shell's
assert_helps() {
  local short
  run_command "$@" -h
  short=$output
  run_command "$@" --help
  [[ $status == 0 && -z $stderr && $output == "usage: xsaveshim "* && $output == "$short" ]] || fail "$(outcome)"
  (($(wc -l <<<"$output") < 24 && $(wc -L <<<"$output") <= 80)) || fail "no screen for this:" "$output"
}

@test "--help fits on a screen and names every command, every option and the exit statuses" {
  local word
  assert_helps
  for word in run probe status host --version; do grep -q -e "^ .*xsaveshim .*$word\|^usage: xsaveshim $word" <<<"$output"; done
  assert_helps run
  for word in --trim= --refused= --log= --log-level= --preload --supervise 127 126 125; do grep -qe "$word" <<<"$output"; done
  for word in probe status; do
    assert_helps "$word"
    grep -q 'Exit status: 0 .* 1 .* 2 ' <<<"${output//$'\n'/ }"
  done
}

@test "--version says which" {
  run_command --version
  ((status == 0))
  [[ $output =~ ^xsaveshim\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "an unknown command is an error that names those there are" {
  run_command walk
  assert_fails_with 2 "xsaveshim: unknown command 'walk': use run, probe, status, host, --help or --version"
}

@test "a value that an option does not take is an error that names those it takes, and no VMM is started" {
  run_command run --trim=sometimes -- echo started
  assert_fails_with 125 "xsaveshim run: --trim takes one of restore,save,both,none, not 'sometimes'"
  run_command run --refused=never echo started
  assert_fails_with 125 "xsaveshim run: --refused takes one of report,abort, not 'never'"
  run_command run --log=relative/path echo started
  assert_fails_with 125 "xsaveshim run: --log takes one of stderr,syslog,none,/absolute/path, not 'relative/path'"
  run_command run --log-level=loud echo started
  assert_fails_with 125 "xsaveshim run: --log-level takes one of notice,error,debug, not 'loud'"
}

@test "an unknown option, an option without its value, and no VMM at all are errors with exit status 125" {
  local arguments
  for arguments in --frobnicate --trim '' '--preload --'; do
    # shellcheck disable=SC2086 # several words
    run_command run $arguments
    [[ $status == 125 && -z $output && $stderr == "xsaveshim run: "*$'\n'"Try 'xsaveshim run --help'." ]] || fail "$(outcome)"
  done
}

@test "the VMM's own options are the VMM's" {
  run_command run echo --trim=sometimes --help
  ((status == 0))
  [[ $output == '--trim=sometimes --help' ]]
}

# ---- which file it is, and what kind ----

@test "exit status 127 where there is no such VMM, 126 where it cannot be executed" {
  expected=127
  run_command run -- no-such-vmm
  assert_fails_with 127 'xsaveshim run: no-such-vmm: No such file or directory'
  run_command run -- "$work/nowhere/vmm"
  assert_fails_with 127 "xsaveshim run: $work/nowhere/vmm: No such file or directory"
  run_command run -- ''
  assert_fails_with 127 'xsaveshim run: : No such file or directory'
  expected=126
  touch "$work/plain"
  run_command run -- "$work/plain"
  assert_fails_with 126 "xsaveshim run: $work/plain: Permission denied"
  run_command run -- "$work"
  assert_fails_with 126 "xsaveshim run: $work: Permission denied"
}

@test "a script whose interpreter is not there is reported by the interpreter's name" {
  expected=127
  script "$work/script" '#!/nowhere/sh'
  run_command run -- "$work/script"
  assert_fails_with 127 'xsaveshim run: /nowhere/sh: No such file or directory'
}

@test "what is neither ELF nor a script is not executed" {
  script "$work/text" 'echo started'
  run_command run -- "$work/text"
  assert_fails_with 126 "xsaveshim run: $work/text: neither an ELF program nor a script with a #! line"
  printf '\177ELF' >"$work/stub"
  chmod +x "$work/stub"
  run_command run -- "$work/stub"
  assert_fails_with 126 "xsaveshim run: $work/stub: not an x86-64 program, and xsaveshim serves no other"
}

@test "programs of another class or machine are refused" {
  local at
  for at in 4:'\001' 18:'\267\000'; do # 32 bits; AArch64
    cp "/bin/true" "$work/other"
    # shellcheck disable=SC2059 # it is a format
    printf "${at#*:}" | dd of="$work/other" bs=1 seek="${at%:*}" conv=notrunc status=none
    run_command run -- "$work/other"
    assert_fails_with 126 "xsaveshim run: $work/other: not an x86-64 program, and xsaveshim serves no other"
  done
}

@test "the VMM is looked for as a shell does: in PATH, past what cannot be executed, an empty entry the directory" {
  mkdir "$work/one" "$work/two"
  touch "$work/one/tool"
  script "$work/two/tool" '#!/bin/sh' 'echo "two: $0"'
  run_command PATH="$work/one:$work/two:$PATH" run -- tool
  [[ $output == "two: $work/two/tool" ]]
  run_command PATH="$work/one" run -- tool
  assert_fails_with 126 'xsaveshim run: tool: Permission denied'
  cd "$work/two"
  for path in ":/nowhere" "/nowhere:" "/nowhere::/nowhere"; do
    run env PATH="$path" "$xsaveshim" run -- tool
    [[ $output == "two: "*tool ]]
  done
}

@test "a dynamic VMM gets the library preloaded, a static one and one with another libc's loader a supervisor" {
  run_command run --log-level=debug -- "$vmm" mark a
  assert_took preload dynamic "$vmm"
  run_command run --log-level=debug -- "$build/test/vmm-static" mark a
  assert_took supervise static "$build/test/vmm-static"
  printf 'int main(void) { return 0; }' >"$work/main.c"
  musl-gcc -o "$work/musl" "$work/main.c"
  run_command run --log-level=debug -- "$work/musl"
  assert_took supervise other-loader "$work/musl"
}

# A program whose notes are what the assembler is told, in an alloc section of this name
noted() { # FILE SECTION ASSEMBLY
  printf 'int main(void) { return 0; }\n__asm__(".section %s,\\"a\\",@note\\n%s\\n.text");\n' "$2" "$3" >"$work/noted.c"
  gcc -o "$1" "$work/noted.c"
}

@test "a program in Go gets a supervisor though it is dynamically linked, as it calls the kernel without libc" {
  local runc
  runc=$(command -v runc) || fail "runc is missing: scripts/setup test"
  [[ $(readelf -lW "$runc") == *"program interpreter: "* && $("$runc" --version) == *"go: go1"* ]]
  run_command run --log-level=debug -- runc --version
  assert_took supervise go "$runc"
  run_command run --preload -- runc --version
  ((status == 0))
  [[ $stderr == "xsaveshim run: warning: $runc is written in Go, whose programs call the kernel without libc, so the library `
    `will not see its calls: use --supervise" ]] || fail "$(outcome)"
  # the interpreter of a script decides, of either kind
  script "$work/tool" "#!$runc --version"
  run_command run --log-level=debug -- "$work/tool"
  assert_took supervise go "$runc"
}

@test "a program is known to be in Go by its linker's note alone, however the notes lie, and broken notes are none" {
  local other='.long 4, 20, 3; .asciz \"GNU\"; .fill 20; .long 5, 3, 4; .asciz \"Goat\"; .fill 3; .fill 4'
  local go='.long 4, 8, 4; .asciz \"Go\"; .fill 1; .asciz \"buildid\"'
  noted "$work/go" .note.test "$other; $go"
  run_command run --log-level=debug -- "$work/go"
  assert_took supervise go "$work/go"
  noted "$work/other" .note.go.buildid "$other"
  run_command run --log-level=debug -- "$work/other"
  assert_took preload dynamic "$work/other"
  noted "$work/broken" .note.test '.long 0xfffffff0, 0xfffffff0, 4; .asciz \"Go\"'
  run_command run --log-level=debug -- "$work/broken"
  assert_took preload dynamic "$work/broken"
  noted "$work/type" .note.test '.long 4, 8, 1; .asciz \"Go\"; .fill 1; .asciz \"buildid\"'
  run_command run --log-level=debug -- "$work/type"
  assert_took preload dynamic "$work/type"
}

@test "--preload and --supervise have their way" {
  run_command run --log-level=debug --supervise -- "$vmm" mark a
  assert_took supervise asked-for "$vmm"
  run_command run --log-level=debug --supervise --preload -- "$build/test/vmm-static" mark a
  assert_took preload asked-for "$build/test/vmm-static"
  grep -qx "xsaveshim run: warning: $build/test/vmm-static is statically linked, so it will run without the library, `
    `and only dynamic programs that it starts will have it: use --supervise" <<<"$stderr"
}

@test "of a script the interpreter decides, through five scripts and no further" {
  local n
  script "$work/1" "#!$build/test/vmm-static"
  run_command run --log-level=debug -- "$work/1"
  grep -q " mode=supervise reason=static program=$build/test/vmm-static$" <<<"$stderr"
  script "$work/1" $'#! \t/bin/sh -e' 'echo started'
  for n in 2 3 4 5; do script "$work/$n" "#!$work/$((n - 1))"; done
  run_command run --log-level=debug -- "$work/5"
  assert_took preload dynamic /bin/sh
  [[ $output == started ]]
  script "$work/6" "#!$work/5"
  run_command run -- "$work/6"
  [[ $status == 126 && $stderr == *'Too many levels of symbolic links' ]] || fail "$(outcome)"
  run "$work/6" # the kernel's limit is the same
  ((status == 126))
}

# ---- the preload ----

preloaded() { # prints LD_PRELOAD as the VMM has it
  printf %s 'echo "$LD_PRELOAD"'
}

@test "the library beside the command is preloaded by its path, before what was to be preloaded anyway" {
  run_command run -- sh -c "$(preloaded)"
  [[ $output == "$shim" ]]
  run_command LD_PRELOAD= run -- sh -c "$(preloaded)"
  [[ $output == "$shim" ]]
  run_command LD_PRELOAD="$standin $build/test/chain.so" run -- sh -c "$(preloaded)"
  [[ $output == "$shim:$standin $build/test/chain.so" ]]
}

@test "an installed library is preloaded by its bare name, which the loader resolves for each ABI" {
  mkdir "$work/bin" "$work/lib"
  cp "$xsaveshim" "$work/bin"
  cp "$shim" "$work/lib"
  xsaveshim=$work/bin/xsaveshim
  run_command LD_LIBRARY_PATH="$work/lib" run -- \
    sh -c "$(preloaded); grep -c '$work/lib/libxsaveshim.so' /proc/self/maps"
  [[ $output == $'libxsaveshim.so\n'[1-9]* ]] || fail "$(outcome)"
}

@test "where the library is missing or broken the VMM is not started without it" {
  cp "$xsaveshim" "$work/"
  xsaveshim=$work/xsaveshim
  run_command run -- echo started
  assert_fails_with 125 'xsaveshim run: libxsaveshim.so: cannot open shared object file: *; is xsaveshim installed completely?'
  echo 'not a library, and longer than the header of one: this line is' >"$work/libxsaveshim.so"
  run_command run -- echo started
  assert_fails_with 125 "xsaveshim run: $work/libxsaveshim.so: *; is xsaveshim installed completely?"
}

@test "a path that LD_PRELOAD cannot hold is an error" {
  mkdir "$work/a b"
  cp "$xsaveshim" "$shim" "$work/a b/"
  xsaveshim="$work/a b/xsaveshim"
  run_command run -- echo started
  assert_fails_with 125 "xsaveshim run: LD_PRELOAD cannot name '$work/a b/libxsaveshim.so': *"
}

@test "what is preloaded trims, in the VMM and in what it starts" {
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run -- "$vmm" create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 `
    `dropped=pkru"
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run -- \
    sh -c "'$vmm' create 0 cpuid 0xd=0x7 set-xsave 0x207; true"
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

@test "options are the VMM's settings, before those of the environment" {
  run_command XSAVESHIM_TRIM=none XSAVESHIM_LOG=syslog run --trim=both --refused=abort --log="$work/log" \
    --log-level=debug -- sh -c 'env | grep -E "^XSAVESHIM_(TRIM|REFUSED|LOG)" | sort'
  [[ $output == "XSAVESHIM_LOG=$work/log
XSAVESHIM_LOG_LEVEL=debug
XSAVESHIM_REFUSED=abort
XSAVESHIM_TRIM=both" ]] || fail "$(outcome)"
  grep -q 'event=run pid=[0-9]* mode=preload' "$work/log"
  run_command XSAVESHIM_TRIM=none run -- sh -c 'env | grep -E "^XSAVESHIM_(TRIM|REFUSED|LOG)"'
  [[ $output == XSAVESHIM_TRIM=none ]]
}

@test "a bad value in the environment is reported once, to who makes a VM" {
  run_command XSAVESHIM_TRIM=sometimes run -- true
  ((status == 0))
  assert_no_report
  run_command XSAVESHIM_TRIM=sometimes LD_PRELOAD="$standin" DEVICE=/dev/null run -- "$vmm" create 0 cpuid 0xd=0x7
  ((status == 0))
  assert_reported "level=error event=setting source=environment key=XSAVESHIM_TRIM value=sometimes using=restore `
    `accepted=restore,save,both,none"
  run_command XSAVESHIM_TRIM=sometimes run --supervise -- true
  ((status == 0))
  [[ $(grep -c 'event=setting via=supervisor .* value=sometimes' <<<"$stderr") == 1 ]]
}

@test "a log that cannot be opened is reported once, by the VMM's library and not by run as well" {
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run --log=/nonexistent/log --log-level=debug -- "$vmm" create 0 cpuid 0xd=0x7
  ((status == 0))
  [[ $(grep -c ' event=log ' <<<"$stderr") == 1 ]] || fail "$(outcome)"
}

@test "a log that only the VMM is to have is not opened twice over" {
  run_command run --log="$work/log" -- true
  ((status == 0))
  [[ ! -e $work/log ]]
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run --log="$work/log" -- "$vmm" create 0 cpuid 0xd=0x7
  ((status == 0))
  [[ -f $work/log && ! -s $work/log ]]
}

assert_ignored() { # FILE WHY    a warning, and nothing else
  assert_fails_with 0 "xsaveshim run: warning: $1 $2, so its loader will ignore LD_PRELOAD: as root, use --supervise"
}

@test "a setuid or setgid VMM gets a warning that its loader will ignore the library, and what to do" {
  need_root
  cp "/bin/true" "$work/tool"
  chown nobody:nogroup "$work/tool"
  chmod u+s "$work/tool"
  run_command run -- "$work/tool"
  assert_ignored "$work/tool" 'is setuid'
  chmod u-s,g+s "$work/tool"
  run_command run -- "$work/tool"
  assert_ignored "$work/tool" 'is setgid'
  chown root:root "$work/tool"
  chmod ug+s "$work/tool"
  run_command run -- "$work/tool"
  assert_fails_with 0 '' # nothing to gain for root
}

@test "a VMM with file capabilities gets the same warning, and it is true" {
  local as_nobody=(setpriv --reuid nobody --clear-groups)
  need_root
  make_public "$xsaveshim" "$shim"
  cp "$(command -v grep)" "$public/tool"
  setcap cap_net_admin+ep "$public/tool"
  run --separate-stderr "${as_nobody[@]}" "$public/xsaveshim" run -- "$public/tool" -c libxsaveshim /proc/self/maps
  [[ $output == 0 ]]
  output=
  status=0
  assert_ignored "$public/tool" 'has file capabilities'
  setcap -r "$public/tool"
  run --separate-stderr "${as_nobody[@]}" "$public/xsaveshim" run -- "$public/tool" -c libxsaveshim /proc/self/maps
  ((output > 0))
  [[ -z $stderr ]]
}

# ---- what the VMM keeps ----

@test "the VMM has the pid, the standard streams, the other descriptors, the arguments and the directory of run" {
  local mode
  script "$work/tell" '#!/bin/bash' 'echo "pid $$: $#: $*"; cat; cat <&7; pwd; ls -l /proc/self/fd | wc -l; echo error >&2'
  cd "$work"
  for mode in --preload --supervise; do
    run --separate-stderr bash -c 'echo "pid $$: 2: one word two"; exec "$@" 7<<<seven <<<in' bash \
      "$xsaveshim" run "$mode" -- ./tell 'one word' two
    ((status == 0 && ${#lines[@]} == 6)) || fail "$(outcome)"
    [[ ${lines[0]} == "${lines[1]}" && ${lines[2]} == in && ${lines[3]} == seven && ${lines[4]} == "$work" &&
      ${lines[5]} == "$(bash -c 'ls -l /proc/self/fd | wc -l' 7<<<seven <<<in)" && $stderr == error ]] ||
      fail "$(outcome)"
  done
}

@test "the VMM's exit status is the caller's, and so is the signal that ends it" {
  local mode
  for mode in --preload --supervise; do
    run "$xsaveshim" run "$mode" -- sh -c 'exit 37'
    ((status == 37))
    run "$xsaveshim" run "$mode" -- sh -c 'kill -SEGV $$'
    ((status == 128 + 11))
  done
}
