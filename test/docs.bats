# SPDX-License-Identifier: MIT
# Checks that the manual pages name exactly the events, settings and xfeatures of the code, and that etc/xsaveshim.conf names every
# setting. Also checks that no page explains an event, a setting or an exit status a second time, that links lead to existing files
# and headings, and that JSON examples are valid.

load lib

setup() {
  cd "$repo" || return
}

# Prints the names of all events that the code reports. The script looks for the calls of each function with a parameter "event",
# such as report_begin(). Such a call has the event's name as a string literal, or takes the name from an array of string literals.
# If the script finds no name in a call, it prints the call's arguments instead, so that the comparison with the manual fails.
events_of_the_code() {
  mapfile -t sources < <(find . -path './[^.]*.c' ! -path './build*' ! -path './test/*')
  # shellcheck disable=SC2016 # perl's own variables
  perl -0777 -e '
    my ($source, @found) = (join "\n", map { open my $file, "<", $_ or die "$_: $!"; <$file> } @ARGV);
    $source =~ s{//[^\n]*}{}g;
    my %hands_on = map { $_ => 1 } $source =~ /(\w+)\([^(){};]*\bconst char \*event\b[^(){};]*\)/g;
    my $names = join "|", sort keys %hands_on;
    my %names_in = $source =~ /\bconst char \*const (\w+)\[\w*\] = (\{[^{}]*\})/g;
    while ($source =~ /\b(?:$names)(\((?:[^()]++|(?1))*\))/g) {
      my $arguments = $1;
      next if $arguments =~ /\bconst char \*event\b|\bevent\b[^"]*$/;
      $arguments =~ s/\b(\w+)\[[^]]*\]/$names_in{$1} \/\/ $&/ge;
      push @found, $arguments =~ /"([^"]*)"/ ? $arguments =~ /"([^"]*)"/g : "no name in: $arguments";
    }
    print map { "$_\n" } @found' "${sources[@]}" | sort -u
}

# Prints a line for each setting of the code, such as: XSAVESHIM_TRIM restore,save,both,none
# To get the lines, compiles a program that prints the settings, and links it with the object files of core/.
settings_of_the_code() {
  local program=$BATS_FILE_TMPDIR/settings
  [[ -x $program ]] || "${CC:-gcc}" -Iinclude -D_GNU_SOURCE= -o "$program" -x c - -x none "$build"/core/*.o <<'EOF_C' || return
#include <stdio.h>
#include "xsaveshim/settings.h"

int main(void)
{
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		printf("%s %s\n", settings_key(setting), settings_accepted(setting));
}
EOF_C
  "$program"
}

assert_same_list() { # WHERE EXPECTED ACTUAL
  [[ $2 ]] || fail "nothing was found in the code to compare with $1" || return
  diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") ||
    fail "$1 differs from the code: a line with < is only in the code, a line with > is only in $1"
}

@test "libxsaveshim(7) explains every event that the code reports, and no other" {
  assert_same_list libxsaveshim.7 "$(events_of_the_code)" "$(sed -n 's/^\.It Li event=//p' man/libxsaveshim.7 | sort)"
}

@test "xsaveshim.conf(5) lists every setting with the setting's accepted values, and lists the default value first" {
  assert_same_list xsaveshim.conf.5 "$(settings_of_the_code)" \
    "$(sed -n 's/^\.It Ic \([A-Z_]*\) Ns = Ns Cm /\1 /p' man/xsaveshim.conf.5 | sed 's/ | Ar / | /; s/ | /,/g')"
}

@test "only libxsaveshim(7) explains events, only xsaveshim.conf(5) explains settings, and only the commands' own manual pages explain exit statuses" {
  assert_home() { # HOME PATTERN
    [[ $(grep -lE -- "$2" README.md docs/*.md man/*) == "$1" ]] ||
      fail "lines that match $2 must be in $1 and in no other file; other files have:" \
        "$(grep -nE -- "$2" README.md docs/*.md man/* | grep -v "^$1:")"
  }
  assert_home man/libxsaveshim.7 '^\.It Li event=|^\| `(event=)?(trim|would-trim|refused|lost|learn)`'
  assert_home man/xsaveshim.conf.5 '^\.It (Ev|Ic) XSAVESHIM_|^\| `XSAVESHIM_'
  assert_home $'man/xsaveshim-libvirt.8\nman/xsaveshim.1' '^\.Sh EXIT STATUS|^[#|].*exit status'
}

@test "etc/xsaveshim.conf, which make install installs, names every setting and the values that the setting accepts" {
  local expected
  expected=$(settings_of_the_code)
  [[ $expected ]]
  while read -r key values; do
    paragraph=$(sed -n "/./{H;\$!d;};x;/\n#\{0,1\}$key=/p" etc/xsaveshim.conf)
    [[ $paragraph ]] || fail "etc/xsaveshim.conf has no paragraph for the setting $key" || return
    for value in ${values//,/ }; do
      grep -q "\b${value/\/absolute\/path/absolute path}\b" <<<"$paragraph" ||
        fail "etc/xsaveshim.conf does not name the value $value of the setting $key" || return
    done
  done <<<"$expected"
}

@test "libxsaveshim(7) lists all names of xfeatures that xsaveshim's reports use, and no other names" {
  names=$(sed -n '/names\[\] = {/,/};/p' core/xstate.c | grep -o '"[a-z0-9_]*"' | tr -d '"')
  [[ $(wc -l <<<"$names") == 20 ]]
  assert_same_list libxsaveshim.7 "$names" \
    "$(tr '\n' ' ' <man/libxsaveshim.7 | sed -n 's/.*xfeatures are named \([^;]*\);.*/\1/p' | sed 's/,\| and / /g' | xargs -n 1)"
}

@test "CONTRIBUTING.md names every target that make help lists, and every purpose, such as build, that scripts/setup accepts" {
  while read -r target _; do
    grep -q "^| .*\`$target\`" CONTRIBUTING.md || fail "CONTRIBUTING.md has no row for make $target" || return
  done < <(make -s help)
  while read -r purpose; do
    grep -qE "^\|.*\`([a-z ]* )?$purpose( [a-z ]*)?\`" CONTRIBUTING.md || fail "CONTRIBUTING.md has no row for scripts/setup $purpose" || return
  done < <(sed -nE 's/^ *debian:([a-z]+)\).*/\1/p' scripts/setup)
}

# Returns true if the page has a heading with this anchor. An anchor has the heading's words in lower case, with hyphens between
# them.
has_anchor() { # PAGE ANCHOR
  sed -n 's/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g' | grep -qx -- "$2"
}

@test "every relative link in a Markdown page leads to a file that exists, and a link with an anchor leads to a heading that exists" {
  links=0
  for page in *.md docs/*.md; do
    while read -r link; do
      file=${link%%#*}
      file=${file:+$(dirname "$page")/$file}
      [[ -e ${file:-$page} ]] || fail "$page links to $link: no such file" || return
      [[ $link != *#* ]] || has_anchor "${file:-$page}" "${link#*#}" || fail "$page links to $link: no such heading" || return
      links=$((links + 1))
    done < <(grep -oE '\]\([^)]+\)' "$page" | sed 's/^](//; s/)$//' | grep -vE '^[a-z]+:')
  done
  ((links >= 10)) || fail "only $links relative links were found in the Markdown pages, fewer than 10"
}

@test "README.md has at most 140 lines, and quotes the error messages that people search for" {
  length=$(wc -l <README.md)
  ((length <= 140)) || fail "the README has $length lines, more than 140" || return
  while read -r text; do
    grep -qF -- "$text" README.md || fail "the README does not have: $text" || return
  done <<'EOF'
Failed to set XSAVE: Invalid argument
Putting registers after init: Failed to set XSAVE
domain is not running
traps: PANIC: double fault
Failed to restore vCPUs: Failed to run action on vcpu: Failed to set KVM vcpu xsave: Invalid argument (os error 22)
Could not set the vCPU state SetXsaveState(Invalid argument (os error 22)
Migration aborted as migration command State failed: Failed to receive migratable component snapshot
exiting with error 1: Failed to restore vcpu
Failed to restore Vcpu #0
Some error occurred in cpu0 thread: Failed to set xsave for CPU 0
EOF
}

@test "the first version in NEWS.md is the version that the Makefile builds" {
  version=$(sed -n 's/^VERSION := //p' Makefile)
  [[ $(sed -n 's/^## \([0-9.]*\).*/\1/p' NEWS.md | head -n 1) == "$version" ]]
}

# example_in_the_manual COMMAND    prints on one line the JSON that xsaveshim(1) shows below COMMAND
example_in_the_manual() {
  awk -v command="# $1" '$0 == command { is_inside = 1; next } /^[#.]/ { is_inside = 0 } is_inside' man/xsaveshim.1 | paste -sd ''
}

@test "each JSON example in xsaveshim(1) is valid against the JSON schema of the example's command" {
  example_in_the_manual "xsaveshim probe --json | jq -c .source" | test/tools/validate schemas/probe.schema.json properties/source
  example_in_the_manual "xsaveshim status --json | jq -c '.vmms[]'" |
    test/tools/validate schemas/status.schema.json properties/vmms/items
  example_in_the_manual "xsaveshim host status --json | jq -c .counts" |
    test/tools/validate schemas/host-status.schema.json properties/counts
  example_in_the_manual "xsaveshim pair --json leaky.json fixed.json | jq -c .result" |
    test/tools/validate schemas/pair.schema.json '$defs/result'
}
