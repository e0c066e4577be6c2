# SPDX-License-Identifier: MIT
# The code, the manual, the README and the settings file name the same events, settings and xfeatures; and what the pages
# refer to is there.

load lib

setup() {
  cd "$repo" || return
}

# The names of all events that the code reports: the string literals in the calls of report_begin(), and of every function
# that is handed an event's name. A call from which no name can be read is printed as it stands.
events_of_the_code() {
  mapfile -t sources < <(find . -path './[^.]*.c' ! -path './build*' ! -path './test/*')
  # shellcheck disable=SC2016 # perl's own variables
  perl -0777 -e '
    my ($source, @found) = (join "\n", map { open my $file, "<", $_ or die "$_: $!"; <$file> } @ARGV);
    $source =~ s{//[^\n]*}{}g;
    my %hands_on = map { $_ => 1 } $source =~ /(\w+)\([^(){};]*\bconst char \*event\b[^(){};]*\)/g;
    my $names = join "|", sort keys %hands_on;
    while ($source =~ /\b(?:$names)(\((?:[^()]++|(?1))*\))/g) {
      my $arguments = $1;
      next if $arguments =~ /\bconst char \*event\b|\bevent\b[^"]*$/;
      push @found, $arguments =~ /"([^"]*)"/ ? $arguments =~ /"([^"]*)"/g : "no name in: $arguments";
    }
    print map { "$_\n" } @found' "${sources[@]}" | sort -u
}

# Each setting of the code, as KEY VALUE,VALUE...
settings_of_the_code() {
  sed -nE 's/^\t\[SETTING_[A-Z_]+\] = \{"([A-Z_]+)", "([^"]+)".*/\1 \2/p' core/settings.c
}

# The same, from a page on its standard input in which KEY is followed by its values, each in the given marks.
assert_same_list() { # WHERE EXPECTED ACTUAL
  diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") || fail "$1 differs from the code: < is the code's, > is there"
}

@test "the README explains every event that the code reports, and no other" {
  assert_same_list README.md "$(events_of_the_code)" \
    "$(sed -n '/^## Events/,/^## /p' README.md | sed -n 's/^| \(`[^|]*\) |.*/\1/p' | grep -o '[a-z][a-z-]*' | sort -u)"
}

@test "the manual explains every event that the code reports, and no other" {
  assert_same_list man/ "$(events_of_the_code)" \
    "$(sed -n 's/^\.It Li event=//p' man/libxsaveshim.7 man/xsaveshim.1 | sed 's/ , event=/\n/g' | sort)"
}

@test "the README lists every setting with its values, the default first" {
  assert_same_list README.md "$(settings_of_the_code)" "$(
    # shellcheck disable=SC2016 # backquotes of the page
    sed -n '/^## Settings/,/^## /p' README.md | sed -nE 's/^\| `(XSAVESHIM_[A-Z_]+)` \| (.*) \|$/\1 \2/p' |
      while read -r key values; do
        values=$(tr '·' '\n' <<<"${values//an absolute path/'`/absolute/path`'}" | sed -nE 's/^ *[^`]{0,2}`([^`]+)`.*/\1/p' | paste -sd,)
        echo "$key $values"
      done)"
}

@test "libxsaveshim(7) lists every setting with its values, the default first" {
  assert_same_list libxsaveshim.7 "$(settings_of_the_code)" \
    "$(awk '/^\.Sh/ {here = /ENVIRONMENT/} !here {next}
      /^\.It Ev / {if (key) print key, values; key = $3; values = ""; next}
      /^\.It (Cm|Ar) / {values = values (values ? "," : "") $3}
      END {print key, values}' man/libxsaveshim.7)"
}

@test "xsaveshim.conf(5) lists every setting with its values, the default first" {
  assert_same_list xsaveshim.conf.5 "$(settings_of_the_code | sed 's,/absolute/path,/path,')" \
    "$(sed -n 's/^\.It Ic \([A-Z_]*\) Ns = Ns Cm /\1 /p' man/xsaveshim.conf.5 | sed 's/ | Ar / | /; s/ | /,/g')"
}

@test "xsaveshim(1) and --help list the values of run's options, the default first" {
  expected=$(settings_of_the_code | sed 's/^XSAVESHIM_//; s,/absolute/path,/path,' |
    while read -r key values; do tr _ - <<<"--${key,,} $values"; done)
  assert_same_list xsaveshim.1 "$expected" \
    "$(sed -n 's/^\.It Fl \(-[a-z-]*\) Ns = Ns Cm /-\1 /p' man/xsaveshim.1 | sed 's/ | Ar / | /; s/ | /,/g')"
  help=$("$build/xsaveshim" run --help)
  while read -r option values; do
    text=$(sed -n "/^ *$option=/,/^ *-/p" <<<"$help" | sed '1!{/^ *-/d}')
    [[ $text ]] || fail "run --help has no $option" || return
    for value in ${values//,/ }; do
      [[ $text == *${value/\/path/absolute path}* ]] || fail "run --help does not name $option=$value" || return
    done
    [[ $text =~ ${values%%,*}[^\;]*"(default)" ]] || fail "run --help does not say that ${values%%,*} is the default of $option" || return
  done <<<"$expected"
}

@test "the installed settings file names every setting with its values" {
  while read -r key values; do
    [[ $(sed -n "/./{H;\$!d;};x;/\n#\{0,1\}$key=/p" etc/xsaveshim.conf) ]] || fail "etc/xsaveshim.conf has no $key" || return
    for value in ${values//,/ }; do
      sed -n "/./{H;\$!d;};x;/\n#\{0,1\}$key=/p" etc/xsaveshim.conf | grep -q "\b${value/\/absolute\/path/absolute path}\b" ||
        fail "etc/xsaveshim.conf does not name $value of $key" || return
    done
  done < <(settings_of_the_code)
}

@test "libxsaveshim(7) names the xfeatures as reports do" {
  names=$(sed -n '/names\[\] = {/,/};/p' core/xstate.c | grep -o '"[a-z0-9_]*"' | tr -d '"')
  [[ $(wc -l <<<"$names") == 20 ]]
  assert_same_list libxsaveshim.7 "$names" \
    "$(tr '\n' ' ' <man/libxsaveshim.7 | sed -n 's/.*xfeatures are named \([^;]*\);.*/\1/p' | sed 's/,\| and / /g' | xargs -n 1)"
}

@test "CONTRIBUTING.md names every target of make and every purpose of scripts/setup" {
  while read -r target _; do
    grep -q "^| .*\`$target\`" CONTRIBUTING.md || fail "CONTRIBUTING.md has no row for make $target" || return
  done < <(make -s help)
  while read -r purpose; do
    grep -qE "^\|.*\`([a-z ]* )?$purpose( [a-z ]*)?\`" CONTRIBUTING.md || fail "CONTRIBUTING.md has no row for scripts/setup $purpose" || return
  done < <(sed -nE 's/^ *debian:([a-z]+)\).*/\1/p' scripts/setup)
}

# A link's anchor is a heading's words, in lower case, with hyphens between them.
assert_anchor() { # PAGE ANCHOR
  sed -n 's/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9 _-]//g; s/ /-/g' | grep -qx -- "$2"
}

@test "every page that a page links to is there, with the heading that it links to" {
  links=0
  for page in *.md docs/*.md; do
    while read -r link; do
      file=${link%%#*}
      file=${file:+$(dirname "$page")/$file}
      [[ -e ${file:-$page} ]] || fail "$page links to $link" || return
      [[ $link != *#* ]] || assert_anchor "${file:-$page}" "${link#*#}" || fail "$page links to $link: no such heading" || return
      links=$((links + 1))
    done < <(grep -oE '\]\([^)]+\)' "$page" | sed 's/^](//; s/)$//' | grep -vE '^[a-z]+:')
  done
  ((links >= 10)) || fail "only $links links were found"
}

@test "the README is short enough to be read at work, and holds what people search for" {
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

@test "NEWS.md begins with the version that the Makefile builds" {
  version=$(sed -n 's/^VERSION := //p' Makefile)
  [[ $(sed -n 's/^## \([0-9.]*\).*/\1/p' NEWS.md | head -n 1) == "$version" ]]
}
