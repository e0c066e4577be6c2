#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Tests of the first commands that a newcomer runs. If a package or a file is missing, the command must name the remedy.

load lib

setup() {
  cd "$repo" || exit
}

@test "for each .PHONY target of the Makefiles, make help prints a line with the target and a description" {
  run -0 make -s help
  targets=$(sed -n 's/^\.PHONY: //p' Makefile packaging/*.mk test/*.mk | tr ' ' '\n' | grep -v '[$()]' | sort)
  [ "$(awk 'NF > 2 { print $1 }' <<<"$output" | sort)" = "$targets" ]
}

@test "if a target is unknown, make refers to make help; if a header is missing, make refers to scripts/setup" {
  run -2 make -s nosuch
  [[ $output == "Makefile:"*" No rule to make target 'nosuch': make help lists the targets.  Stop." ]]
  run -2 --separate-stderr make -s BUILD="$BATS_TEST_TMPDIR/build" CPPFLAGS=-nostdinc "$BATS_TEST_TMPDIR/build/command/main.o"
  [[ ${stderr_lines[0]} == "make: <seccomp.h> is missing; run: scripts/setup build" && $stderr != *error:* ]]
}

@test "by default, make prints a short line for each command; make V=1 prints the whole command, and make -s prints nothing" {
  object=$BATS_TEST_TMPDIR/build/core/xstate.o
  run -0 env -u MAKEFLAGS -u MAKELEVEL make BUILD="$BATS_TEST_TMPDIR/build" "$object"
  [[ $output == "CC core/xstate.o" ]]
  run -0 env -u MAKEFLAGS -u MAKELEVEL make -B V=1 BUILD="$BATS_TEST_TMPDIR/build" "$object"
  [[ $output == *" -c -o $object core/xstate.c"* ]]
  run -0 make -s -B BUILD="$BATS_TEST_TMPDIR/build" "$object"
  [[ -z $output ]]
}

@test "scripts/test, scripts/demo and scripts/setup print their usage for --help, and also if an argument is unknown" {
  for script in test demo setup; do
    run -0 "scripts/$script" --help
    [[ ${lines[0]} == "usage: scripts/$script"* ]]
    for argument in --hlep nosuch; do
      run -2 --separate-stderr "scripts/$script" "$argument"
      [[ -z $output && $stderr == *"usage: scripts/$script"* ]]
    done
  done
  run -2 scripts/setup
  run -2 scripts/setup build nosuch
  [[ ${lines[0]} == "scripts/setup: unknown purpose: nosuch" ]]
}

@test "if the test programs are older than their sources, a test suite fails and says to run make test-programs" {
  mkdir -p "$BATS_TEST_TMPDIR/build/test"
  ln -s "$vmm" "$BATS_TEST_TMPDIR/build/test/vmm"
  touch -d 2000-01-01 "$BATS_TEST_TMPDIR/build/test/made"
  XSTEST_FRESH='' BUILD=$BATS_TEST_TMPDIR/build run -2 test/run test/core.bats
  [[ $output == "the suites' programs in "*" are older than "*": run: make test-programs" ]]
  XSTEST_FRESH='' BUILD=$BATS_TEST_TMPDIR/build run -1 bats test/core.bats
  [[ $output == *"the suites' programs in "*" are older than "*": run: make test-programs"* && $output != *$'\n'"ok "* ]]
}

@test "test/run prints its usage for --help, and also if the options are wrong or no test file is given" {
  run -0 test/run --help
  [ "${lines[0]}" = "usage: test/run [--parallel | --kernel KERNEL] FILE.bats..." ]
  for arguments in '' --kernel '--kernel fixed' --paralel '--parallel --kernel' "--kernel fixed --parallel"; do
    # shellcheck disable=SC2086 # no word or several
    run -2 --separate-stderr test/run $arguments
    [ "${stderr_lines[0]}" = "usage: test/run [--parallel | --kernel KERNEL] FILE.bats..." ]
  done
}

@test "if bats or the test programs are missing, test/run prints one line with the command that installs bats or builds the programs" {
  BUILD=$BATS_TEST_TMPDIR run -2 test/run test/core.bats
  [ "$output" = "test/run: there is no $BATS_TEST_TMPDIR/test/vmm; run: scripts/setup build test && make test-programs" ]
  mkdir "$BATS_TEST_TMPDIR/bin"
  ln -s "$(type -P bash)" "$BATS_TEST_TMPDIR/bin/bash"
  PATH=$BATS_TEST_TMPDIR/bin run -2 "$BATS_TEST_TMPDIR/bin/bash" test/run test/core.bats
  [ "$output" = "test/run: there is no bats; run: scripts/setup build test" ]
}

@test "if packages for the tests are missing, make check prints a line with the command that installs the packages" {
  run -2 --separate-stderr make check CC=/nonexistent/cc
  [ "${stderr_lines[0]}" = "make check: packages are missing; run: scripts/setup build test" ]
}

# Imitates a machine that has dnf and rpm, but not apt-get. The fake dnf knows every package except $unknown.
fake_fedora() {
  local tool bin=$BATS_TEST_TMPDIR/bin
  mkdir "$bin" "$BATS_TEST_TMPDIR/db"
  for tool in bash env sed tr mktemp rm tail cat flock id; do ln -s "$(type -P "$tool")" "$bin/"; done
  : >"$BATS_TEST_TMPDIR/installed"
  cat >"$bin/rpm" <<EOF
#!/usr/bin/env bash
if [[ \$1 == --eval ]]; then echo "$BATS_TEST_TMPDIR/db"; else cat "$BATS_TEST_TMPDIR/installed"; fi
EOF
  cat >"$bin/dnf" <<EOF
#!/usr/bin/env bash
echo "\$*" >>"$BATS_TEST_TMPDIR/calls"
for package; do
  [[ \$package == -* || \$package == install ]] || [[ \$package == "\$unknown" ]] || echo "\$package" >>"$BATS_TEST_TMPDIR/installed"
  [[ \$package != "\$unknown" ]] || { echo "No match for argument: \$package"; exit 1; }
done
EOF
  chmod +x "$bin"/{rpm,dnf}
  export PATH=$bin
}

@test "on a system with dnf, scripts/setup installs all requested packages in one dnf call, and names a package that dnf does not know" {
  purposes=$(scripts/setup --help | sed -nE 's/^([a-z]+)  +.*/\1/p')
  real=$PATH
  fake_fedora
  # shellcheck disable=SC2086 # a word for each
  run -0 scripts/setup $purposes
  # shellcheck disable=SC2086
  run -0 scripts/setup $purposes
  [[ -z $output ]]
  : >"$BATS_TEST_TMPDIR/installed"
  unknown=qemu-img run -1 scripts/setup demo
  PATH=$real
  [[ $output == *"No match for argument: qemu-img"*"scripts/setup: could not install: qemu-img" ]]
  [[ $(wc -l <"$BATS_TEST_TMPDIR/calls") == 2 ]]
  grep -qE '^install -y --setopt=install_weak_deps=False gcc .*qemu-system-x86-core .*rpm-build' "$BATS_TEST_TMPDIR/calls"
}
