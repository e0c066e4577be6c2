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

# A machine that has dnf and rpm and no apt-get: what dnf is asked to install is installed from then on, but for a package called
# $unknown.
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

@test "scripts/setup with dnf installs every purpose's packages in one call, and nothing the second time" {
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

@test "scripts/setup with dnf names what could not be installed, and what dnf said of it" {
  real=$PATH
  fake_fedora
  unknown=qemu-img run -1 scripts/setup demo
  PATH=$real
  [[ $output == *"No match for argument: qemu-img"*"scripts/setup: could not install: qemu-img" ]]
}
