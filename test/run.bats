# SPDX-License-Identifier: MIT
# Tests of `xsaveshim run`, which starts a VMM with the library or with a supervisor: the command line, the choice between library
# and supervisor, and the VMM's process. The tests need no KVM.

load lib

xsaveshim=$build/xsaveshim
work=$BATS_TEST_TMPDIR

setup() {
  need_no_settings_file
}

# run_command [VARIABLE=VALUE]... ARGUMENT...    runs `xsaveshim ARGUMENT...`. If a test expects the exit status 127, it must first
# set $expected to 127, because otherwise bats warns that the command was not found.
run_command() {
  local environment=()
  while [[ ${1:-} =~ ^[A-Z_]+= ]]; do environment+=("$1"); shift; done
  run ${expected:+"-$expected"} --separate-stderr timeout 60 env "${environment[@]}" "$xsaveshim" "$@"
}

# assert_line STATUS LINE    checks that xsaveshim ended with the exit status STATUS, and printed only LINE, on stderr; a * in LINE
# stands for any text
assert_line() {
  # shellcheck disable=SC2053 # LINE is a pattern
  [[ $status == "$1" && -z $output && $(wc -l <<<"$stderr") == 1 && $stderr == $2 ]] || fail "$(outcome)"
}

# assert_mode MODE REASON PROGRAM    checks that `xsaveshim run --log-level=debug` reported that it starts PROGRAM in MODE (library
# or supervisor), and why it chose this MODE
assert_mode() {
  ((status == 0)) || fail "$(outcome)" || return
  grep -qE "^xsaveshim: level=debug event=run( via=supervisor)? pid=[0-9]+ mode=$1 reason=$2 program=$3( |$)" <<<"$stderr" ||
    fail "$(outcome)"
}

script() { # FILE INTERPRETER-LINE [COMMAND]
  printf '%s\n' "$2" "${3-}" >"$1"
  chmod +x "$1"
}

need_root() {
  [[ $EUID == 0 ]] || skip "this test needs root, to change owners and capabilities of files or to become another user"
}

teardown() {
  [[ ! ${public:-} ]] || rm -rf "$public"
}

# ---- the command line ----

# assert_help [COMMAND]    checks that -h prints the same text as --help, and that this text and a shell's prompt fit on a screen of
# 80 columns and 24 lines
assert_help() {
  local short
  run_command "$@" -h
  short=$output
  run_command "$@" --help
  [[ $status == 0 && -z $stderr && $output == "usage: xsaveshim "* && $output == "$short" ]] || fail "$(outcome)"
  (($(wc -l <<<"$output") < 24 && $(wc -L <<<"$output") <= 80)) ||
    fail "this help text does not fit on a screen of 80 columns and 24 lines:" "$output"
}

@test "xsaveshim --help lists the subcommands, a subcommand's --help lists the subcommand's exit statuses, and each help text fits on a screen of 24 lines" {
  local word
  assert_help
  for word in run probe pair status metrics settings host --version; do grep -q -e "^ .*xsaveshim .*$word\|^usage: xsaveshim $word" <<<"$output"; done
  assert_help run
  for word in --trim= --refused= --log= --log-level= --supervise 127 126 125; do grep -qe "$word" <<<"$output"; done
  for word in probe pair status metrics settings; do
    assert_help "$word"
    grep -q 'Exit status: 0 .* 1 .* 2 ' <<<"${output//$'\n'/ }"
  done
}

@test "xsaveshim --version prints the version" {
  run_command --version
  ((status == 0))
  [[ $output =~ ^xsaveshim\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "if xsaveshim gets an unknown command, the error names the commands that exist" {
  run_command walk
  assert_line 2 "xsaveshim: unknown command 'walk': use run, probe, pair, status, metrics, settings, host, --help or --version"
}

@test "if an option of xsaveshim run gets a wrong value, the error names the accepted values, and no VMM starts" {
  run_command run --trim=sometimes -- echo started
  assert_line 125 "xsaveshim run: --trim takes one of restore,save,both,none, not 'sometimes'"
  run_command run --refused=never echo started
  assert_line 125 "xsaveshim run: --refused takes one of abort,report, not 'never'"
  run_command run --log=relative/path echo started
  assert_line 125 "xsaveshim run: --log takes one of stderr,syslog,none,/absolute/path, not 'relative/path'"
  run_command run --log-level=loud echo started
  assert_line 125 "xsaveshim run: --log-level takes one of notice,error,debug, not 'loud'"
}

@test "xsaveshim run exits with 125 if an option is unknown, if an option lacks its value, or if no VMM is named" {
  local arguments
  for arguments in --frobnicate --trim '' '--supervise --'; do
    # shellcheck disable=SC2086 # several words
    run_command run $arguments
    [[ $status == 125 && -z $output && $stderr == "xsaveshim run: "*$'\n'"Try 'xsaveshim run --help'." ]] || fail "$(outcome)"
  done
}

@test "if options follow the VMM's name, xsaveshim run does not interpret these options, but passes them to the VMM" {
  run_command run echo --trim=sometimes --help
  ((status == 0))
  [[ $output == '--trim=sometimes --help' ]]
}

# ---- the VMM's file ----

@test "xsaveshim run exits with 127 if the VMM's file does not exist, and with 126 if the file cannot be executed" {
  expected=127
  run_command run -- no-such-vmm
  assert_line 127 'xsaveshim run: no-such-vmm: No such file or directory'
  run_command run -- "$work/nowhere/vmm"
  assert_line 127 "xsaveshim run: $work/nowhere/vmm: No such file or directory"
  run_command run -- ''
  assert_line 127 'xsaveshim run: : No such file or directory'
  expected=126
  touch "$work/plain"
  run_command run -- "$work/plain"
  assert_line 126 "xsaveshim run: $work/plain: Permission denied"
  run_command run -- "$work"
  assert_line 126 "xsaveshim run: $work: Permission denied"
}

@test "xsaveshim run does not execute a file that is neither an ELF program nor a script" {
  script "$work/text" 'echo started'
  run_command run -- "$work/text"
  assert_line 126 "xsaveshim run: $work/text: neither an ELF program nor a script with a #! line"
  : >"$work/text"
  run_command run -- "$work/text"
  assert_line 126 "xsaveshim run: $work/text: neither an ELF program nor a script with a #! line"
  printf '\177ELF' >"$work/stub"
  chmod +x "$work/stub"
  run_command run -- "$work/stub"
  assert_line 126 "xsaveshim run: $work/stub: not an x86-64 program, and xsaveshim serves only x86-64 programs"
}

@test "xsaveshim run does not execute an ELF program that is for 32 bits or for another machine than x86-64" {
  local at
  for at in 4:'\001' 18:'\267\000'; do # 32 bits; AArch64
    cp "/bin/true" "$work/other"
    # shellcheck disable=SC2059 # it is a format
    printf "${at#*:}" | dd of="$work/other" bs=1 seek="${at%:*}" conv=notrunc status=none
    run_command run -- "$work/other"
    assert_line 126 "xsaveshim run: $work/other: not an x86-64 program, and xsaveshim serves only x86-64 programs"
  done
}

@test "like a shell, xsaveshim run takes an empty entry of PATH as the current directory, and skips a file in a directory of PATH if the file is not executable" {
  mkdir "$work/one" "$work/two"
  touch "$work/one/tool"
  script "$work/two/tool" '#!/bin/sh' 'echo "two: $0"'
  run_command PATH="$work/one:$work/two:$PATH" run -- tool
  [[ $output == "two: $work/two/tool" ]]
  run_command PATH="$work/one" run -- tool
  assert_line 126 'xsaveshim run: tool: Permission denied'
  cd "$work/two"
  for path in ":/nowhere" "/nowhere:" "/nowhere::/nowhere"; do
    run env PATH="$path" "$xsaveshim" run -- tool
    [[ $output == "two: "*tool ]]
  done
}

@test "xsaveshim run preloads the library into a script and into a dynamic VMM with glibc, and starts a static VMM, or a dynamic VMM with musl, under a supervisor" {
  run_command run --log-level=debug -- "$vmm" mark a
  assert_mode library dynamic "$vmm"
  script "$work/script" '#!/bin/sh'
  run_command run --log-level=debug -- "$work/script"
  assert_mode library script "$work/script"
  run_command run --log-level=debug -- "$build/test/vmm-static" mark a
  assert_mode supervisor static "$build/test/vmm-static"
  printf 'int main(void) { return 0; }' >"$work/main.c"
  musl-gcc -o "$work/musl" "$work/main.c"
  run_command run --log-level=debug -- "$work/musl"
  assert_mode supervisor other-loader "$work/musl"
}

@test "with --supervise, xsaveshim run starts a dynamic VMM or a script under a supervisor, instead of preloading the library" {
  run_command run --log-level=debug --supervise -- "$vmm" mark a
  assert_mode supervisor requested "$vmm"
  script "$work/script" '#!/bin/sh'
  run_command run --log-level=debug --supervise -- "$work/script"
  assert_mode supervisor requested "$work/script"
}

# ---- the library ----

print_preload() { # prints a shell command that prints the VMM's LD_PRELOAD
  printf %s 'echo "$LD_PRELOAD"'
}

@test "if the library is in the directory of the xsaveshim command, xsaveshim run puts the library's path in front of the libraries in LD_PRELOAD" {
  run_command run -- sh -c "$(print_preload)"
  [[ $output == "$shim" ]]
  run_command LD_PRELOAD= run -- sh -c "$(print_preload)"
  [[ $output == "$shim" ]]
  run_command LD_PRELOAD="$standin $build/test/chain.so" run -- sh -c "$(print_preload)"
  [[ $output == "$shim:$standin $build/test/chain.so" ]]
}

@test "if the library is not next to the xsaveshim command, but in a directory that the loader searches, xsaveshim run puts the plain name libxsaveshim.so into LD_PRELOAD" {
  mkdir "$work/bin" "$work/lib"
  cp "$xsaveshim" "$work/bin"
  cp "$shim" "$work/lib"
  xsaveshim=$work/bin/xsaveshim
  run_command LD_LIBRARY_PATH="$work/lib" run -- \
    sh -c "$(print_preload); grep -c '$work/lib/libxsaveshim.so' /proc/self/maps"
  [[ $output == $'libxsaveshim.so\n'[1-9]* ]] || fail "$(outcome)"
}

@test "if the library is missing or broken, xsaveshim run does not start the VMM" {
  need_no_installed_library
  cp "$xsaveshim" "$work/"
  xsaveshim=$work/xsaveshim
  run_command run -- echo started
  assert_line 125 'xsaveshim run: libxsaveshim.so: cannot open shared object file: *; is xsaveshim installed completely?'
  echo 'This line is not a library, but it is longer than the header of a library.' >"$work/libxsaveshim.so"
  run_command run -- echo started
  assert_line 125 "xsaveshim run: $work/libxsaveshim.so: *; is xsaveshim installed completely?"
}

@test "if the user may not read the installed library, xsaveshim run prints the error Permission denied" {
  need_root
  make_public "$xsaveshim"
  mkdir "$public/lib"
  install -m 000 "$shim" "$public/lib/libxsaveshim.so"
  run --separate-stderr setpriv --reuid nobody --clear-groups env LD_LIBRARY_PATH="$public/lib" "$public/xsaveshim" run -- echo
  assert_line 125 "xsaveshim run: $public/lib/libxsaveshim.so: Permission denied"
}

@test "if the library's path has a space, LD_PRELOAD cannot name the library, so xsaveshim run prints an error and does not start the VMM" {
  mkdir "$work/a b"
  cp "$xsaveshim" "$shim" "$work/a b/"
  xsaveshim="$work/a b/xsaveshim"
  run_command run -- echo started
  assert_line 125 "xsaveshim run: LD_PRELOAD cannot name '$work/a b/libxsaveshim.so': *"
}

@test "the library that xsaveshim run preloads trims payloads in the VMM and in the programs that the VMM starts" {
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run -- "$vmm" create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 `
    `dropped=pkru"
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run -- \
    sh -c "'$vmm' create 0 cpuid 0xd=0x7 set-xsave 0x207; true"
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

@test "xsaveshim run passes its options to the VMM as XSAVESHIM_ environment variables, in place of the values that the caller has set" {
  run_command XSAVESHIM_TRIM=none XSAVESHIM_LOG=syslog run --trim=both --refused=abort --log="$work/log" \
    --log-level=debug -- sh -c 'env | grep -E "^XSAVESHIM_(TRIM|REFUSED|LOG)" | sort'
  [[ $output == "XSAVESHIM_LOG=$work/log
XSAVESHIM_LOG_LEVEL=debug
XSAVESHIM_REFUSED=abort
XSAVESHIM_TRIM=both" ]] || fail "$(outcome)"
  grep -q 'event=run pid=[0-9]* mode=library' "$work/log"
  run_command XSAVESHIM_TRIM=none run -- sh -c 'env | grep -E "^XSAVESHIM_(TRIM|REFUSED|LOG)"'
  [[ $output == XSAVESHIM_TRIM=none ]]
}

@test "if XSAVESHIM_TRIM has a bad value, the library reports the value once, when the VMM sets a CPUID table; a supervisor reports the value once, when the supervisor starts" {
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

@test "if the log file cannot be opened, the library in the VMM writes one report of this error, and the command xsaveshim run writes none" {
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run --log=/nonexistent/log --log-level=debug -- "$vmm" create 0 cpuid 0xd=0x7
  ((status == 0))
  [[ $(grep -c ' event=log ' <<<"$stderr") == 1 ]] || fail "$(outcome)"
}

@test "at the default log level, xsaveshim run does not create the log file; the library in the VMM creates the file when the VMM sets a CPUID table" {
  run_command run --log="$work/log" -- true
  ((status == 0))
  [[ ! -e $work/log ]]
  run_command LD_PRELOAD="$standin" DEVICE=/dev/null run --log="$work/log" -- "$vmm" create 0 cpuid 0xd=0x7
  ((status == 0))
  [[ -f $work/log && ! -s $work/log ]]
}

assert_warning() { # FILE WHY    checks that the only output is run's warning about FILE
  assert_line 0 "xsaveshim run: warning: $1 $2, so its loader will ignore LD_PRELOAD: as root, use --supervise"
}

@test "if the VMM's file is setuid or setgid, xsaveshim run warns that the loader will ignore LD_PRELOAD, and advises --supervise" {
  need_root
  cp "/bin/true" "$work/tool"
  chown nobody:nogroup "$work/tool"
  chmod u+s "$work/tool"
  run_command run -- "$work/tool"
  assert_warning "$work/tool" 'is setuid'
  chmod u-s,g+s "$work/tool"
  run_command run -- "$work/tool"
  assert_warning "$work/tool" 'is setgid'
  chown root:root "$work/tool"
  chmod ug+s "$work/tool"
  run_command run -- "$work/tool"
  assert_line 0 '' # root gains no privileges from root's own setuid file
}

@test "if the VMM's file has capabilities, the loader ignores LD_PRELOAD, and xsaveshim run warns that the loader will do so" {
  local as_nobody=(setpriv --reuid nobody --clear-groups)
  need_root
  make_public "$xsaveshim" "$shim"
  cp "$(command -v grep)" "$public/tool"
  setcap cap_net_admin+ep "$public/tool"
  run --separate-stderr "${as_nobody[@]}" "$public/xsaveshim" run -- "$public/tool" -c libxsaveshim /proc/self/maps
  [[ $output == 0 ]]
  output=
  status=0
  assert_warning "$public/tool" 'has file capabilities'
  setcap -r "$public/tool"
  run --separate-stderr "${as_nobody[@]}" "$public/xsaveshim" run -- "$public/tool" -c libxsaveshim /proc/self/maps
  ((output > 0))
  [[ -z $stderr ]]
}

# ---- the process ----

@test "a VMM that xsaveshim run starts has the pid, the descriptors and the working directory of xsaveshim run, and gets the arguments unchanged" {
  local option
  script "$work/tell" '#!/bin/bash' 'echo "pid $$: $#: $*"; cat; cat <&7; pwd; ls -l /proc/self/fd | wc -l; echo error >&2'
  cd "$work"
  for option in -- --supervise; do
    run --separate-stderr bash -c 'echo "pid $$: 2: one word two"; exec "$@" 7<<<seven <<<in' bash \
      "$xsaveshim" run "$option" ./tell 'one word' two
    ((status == 0 && ${#lines[@]} == 6)) || fail "$(outcome)"
    [[ ${lines[0]} == "${lines[1]}" && ${lines[2]} == in && ${lines[3]} == seven && ${lines[4]} == "$work" &&
      ${lines[5]} == "$(bash -c 'ls -l /proc/self/fd | wc -l' 7<<<seven <<<in)" && $stderr == error ]] ||
      fail "$(outcome)"
  done
}

@test "the caller of xsaveshim run gets the VMM's exit status, or the signal that ended the VMM" {
  local option
  for option in -- --supervise; do
    run "$xsaveshim" run "$option" sh -c 'exit 37'
    ((status == 37))
    run "$xsaveshim" run "$option" sh -c 'kill -SEGV $$'
    ((status == 128 + 11))
  done
}
