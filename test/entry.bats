#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# make help, test/run and scripts/setup, which a newcomer runs first: their usage, and their messages if something is missing.

load lib

setup() {
  cd "$repo" || exit
}

@test "make help lists every target with a description" {
  run -0 make -s help
  targets=$(sed -n 's/^\.PHONY: //p' Makefile packaging/*.mk test/*.mk | tr ' ' '\n' | grep -v '[$()]' | sort)
  [ "$(awk 'NF > 2 { print $1 }' <<<"$output" | sort)" = "$targets" ]
}

@test "test/run prints its usage for --help, and exits with 2 for unknown options" {
  run -0 test/run --help
  [ "${lines[0]}" = "usage: test/run [--parallel | --kernel KERNEL] FILE.bats..." ]
  for arguments in '' --kernel '--kernel fixed' --paralel '--parallel --kernel' "--kernel fixed --parallel"; do
    # shellcheck disable=SC2086 # no word or several
    run -2 --separate-stderr test/run $arguments
    [ "${stderr_lines[0]}" = "usage: test/run [--parallel | --kernel KERNEL] FILE.bats..." ]
  done
}

@test "if the test programs are not built, test/run names the command that builds them" {
  BUILD=$BATS_TEST_TMPDIR run -2 test/run test/core.bats
  [ "$output" = "test/run: there is no $BATS_TEST_TMPDIR/test/vmm; run: scripts/setup build test && make test-programs" ]
}

@test "if bats is missing, test/run names the command that installs it" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  ln -s "$(type -P bash)" "$BATS_TEST_TMPDIR/bin/bash"
  PATH=$BATS_TEST_TMPDIR/bin run -2 "$BATS_TEST_TMPDIR/bin/bash" test/run test/core.bats
  [ "$output" = "test/run: there is no bats; run: scripts/setup build test" ]
}

@test "if packages are missing, make check names the command that installs them" {
  run -2 --separate-stderr make check CC=/nonexistent/cc
  [ "${stderr_lines[0]}" = "make check: packages are missing; run: scripts/setup build test" ]
}

@test "scripts/setup prints every purpose for --help, and exits with 2 without a purpose" {
  run -0 scripts/setup --help
  purposes=$(sed -nE 's/^ +debian:([a-z]+)\).*/\1/p' scripts/setup | sort)
  [ "$(sed -nE 's/^([a-z]+)  +.*/\1/p' <<<"$output" | sort)" = "$purposes" ]
  run -2 scripts/setup
  [ "${lines[0]}" = "usage: scripts/setup PURPOSE..." ]
  run -2 scripts/setup --purpose
}

# Makes PATH one with a dnf and an rpm and without apt-get. This dnf installs every package except $unknown.
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

@test "with dnf, scripts/setup installs the packages of all purposes in one call, and none the second time" {
  purposes=$(sed -nE 's/^ +debian:([a-z]+)\).*/\1/p' scripts/setup)
  [ "$(sed -nE 's/^ +fedora:([a-z]+)\).*/\1/p' scripts/setup | sort)" = "$(sort <<<"$purposes")" ]
  real=$PATH
  fake_fedora
  # shellcheck disable=SC2086 # a word for each
  run -0 scripts/setup $purposes
  # shellcheck disable=SC2086
  run -0 scripts/setup $purposes
  PATH=$real
  [ -z "$output" ]
  [ "$(wc -l <"$BATS_TEST_TMPDIR/calls")" = 1 ]
  grep -qE '^install -y --setopt=install_weak_deps=False gcc .*qemu-system-x86-core .*rpm-build' "$BATS_TEST_TMPDIR/calls"
}

@test "with dnf, scripts/setup names a package that could not be installed and shows dnf's message" {
  real=$PATH
  fake_fedora
  unknown=qemu-img run -1 scripts/setup demo
  PATH=$real
  [[ $output == *"No match for argument: qemu-img"*"scripts/setup: could not install: qemu-img" ]]
}
