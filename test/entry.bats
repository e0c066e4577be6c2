#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What a newcomer runs first: make help, test/run and scripts/setup say what they do, and what to do where something is missing.

load lib

setup() {
  cd "$repo" || exit
}

@test "make help names every target, each with what it does" {
  run -0 make -s help
  targets=$(sed -n 's/^\.PHONY: //p' Makefile packaging/*.mk test/*.mk | tr ' ' '\n' | grep -v '[$()]' | sort)
  [ "$(awk 'NF > 2 { print $1 }' <<<"$output" | sort)" = "$targets" ]
}

@test "test/run --help says how to run suites, and options that it does not have are refused with that" {
  run -0 test/run --help
  [ "${lines[0]}" = "usage: test/run [--parallel | --kernel KERNEL] FILE.bats..." ]
  for arguments in '' --kernel '--kernel fixed' --paralel '--parallel --kernel' "--kernel fixed --parallel"; do
    # shellcheck disable=SC2086 # no word or several
    run -2 --separate-stderr test/run $arguments
    [ "${stderr_lines[0]}" = "usage: test/run [--parallel | --kernel KERNEL] FILE.bats..." ]
  done
}

@test "test/run without the suites' programs says in one line what builds them" {
  BUILD=$BATS_TEST_TMPDIR run -2 test/run test/core.bats
  [ "$output" = "test/run: there is no $BATS_TEST_TMPDIR/test/vmm; run: scripts/setup build test && make test-programs" ]
}

@test "test/run without bats says in one line what installs it" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  ln -s "$(type -P bash)" "$BATS_TEST_TMPDIR/bin/bash"
  PATH=$BATS_TEST_TMPDIR/bin run -2 "$BATS_TEST_TMPDIR/bin/bash" test/run test/core.bats
  [ "$output" = "test/run: there is no bats; run: scripts/setup build test" ]
}

@test "make check without the suites' packages says in one line what installs them" {
  run -2 --separate-stderr make check CC=/nonexistent/cc
  [ "${stderr_lines[0]}" = "make check: packages are missing; run: scripts/setup build test" ]
}

@test "scripts/setup --help names every purpose, and a call without one is refused with that" {
  run -0 scripts/setup --help
  purposes=$(sed -nE 's/^ +debian:([a-z]+)\).*/\1/p' scripts/setup | sort)
  [ "$(sed -nE 's/^([a-z]+)  +.*/\1/p' <<<"$output" | sort)" = "$purposes" ]
  run -2 scripts/setup
  [ "${lines[0]}" = "usage: scripts/setup PURPOSE..." ]
  run -2 scripts/setup --purpose
}
