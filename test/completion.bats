# SPDX-License-Identifier: MIT
# Tests of the completion of xsaveshim command lines in bash.

load lib

# completes LINE    sets $output to the words that bash offers for the last word of LINE, sorted, one word a line
completes() {
  run env PATH="$build:$PATH" bash -c '
    source /usr/share/bash-completion/bash_completion
    source "$1"
    COMP_LINE=$2 COMP_POINT=${#2}
    read -ra COMP_WORDS <<<"$2"
    [[ $2 != *" " ]] || COMP_WORDS+=("")
    # in COMP_WORDS, = is a word of its own: --trim=both becomes the words --trim, = and both
    eval "COMP_WORDS=($(printf "%s\n" "${COMP_WORDS[@]}" | sed "s/=/\n=\n/g" | sed "s/.*/\"&\"/"))"
    [[ $2 != *= ]] || COMP_WORDS[-1]=""
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    compopt() { :; }
    _xsaveshim
    printf "%s\n" "${COMPREPLY[@]}" | sort -u' completes "$repo/completions/xsaveshim" "$1"
  ((status == 0)) || fail "$output"
}

assert_offers() { # WORD...
  [[ $output == "$(printf '%s\n' "$@" | sort -u)" ]] || fail "offered: $output"
}

@test "the completion in bash offers xsaveshim's commands and their options" {
  completes 'xsaveshim '
  assert_offers run probe pair status metrics settings host --help --version
  completes 'xsaveshim st'
  assert_offers status
  completes 'xsaveshim probe --'
  assert_offers --json --help
  completes 'xsaveshim status --'
  assert_offers --json --check --help
  completes 'xsaveshim host status --'
  assert_offers --json --check
  completes 'xsaveshim run --'
  assert_offers --trim= --refused= --log= --log-level= --supervise --help --
}

@test "after the option --trim, --refused, --log or --log-level, the completion in bash offers the values that the option accepts" {
  local option accepted
  for option in trim refused log log-level; do
    accepted=$("$build/xsaveshim" run "--$option=?" 2>&1 | sed 's/.* one of \(.*\), not .*/\1/')
    accepted=${accepted%,/absolute/path}
    completes "xsaveshim run --$option "
    assert_offers "${accepted//,/$'\n'}"
    completes "xsaveshim run --$option="
    assert_offers "${accepted//,/$'\n'}"
  done
}

@test "after the options of xsaveshim run, the completion in bash offers program names, and after the program, file names" {
  mkdir "$BATS_TEST_TMPDIR/files"
  cd "$BATS_TEST_TMPDIR/files"
  touch disk.qcow2
  completes 'xsaveshim run --trim both -- mktem'
  assert_offers mktemp
  completes 'xsaveshim run --trim=both --log=none -- mktem'
  assert_offers mktemp
  completes 'xsaveshim run --trim=both mktem'
  assert_offers mktemp
  completes 'xsaveshim run mktem'
  assert_offers mktemp
  completes 'xsaveshim run --trim=both -- cat disk'
  assert_offers disk.qcow2
  completes 'xsaveshim run --supervise cat disk'
  assert_offers disk.qcow2
}
