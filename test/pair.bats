# SPDX-License-Identifier: MIT
# Tests of `xsaveshim pair`, which tells whether a second host can load the guests that a first host has saved. The tests cover the
# answers about two hosts, the table of many hosts, and the errors about wrong files. They need no KVM.

load lib

work=$BATS_TEST_TMPDIR

# host NAME SUPPORTED LEAKS REFUSES ALWAYS-REFUSES [NOT-PERMITTED] [LOSES]    writes NAME.json, which is like the JSON of
# `xsaveshim probe` on the host NAME. The other arguments are masks of xfeatures; a dash means that the mask is unknown. The masks
# have the xfeatures that the host's KVM supports (SUPPORTED), leaks into saved guests (LEAKS), refuses although it supports them
# (REFUSES), refuses because it does not support them (ALWAYS-REFUSES), gives only to a VMM that requests permission
# (NOT-PERMITTED), and loses when it saves a guest (LOSES).
host() {
  jq -n --arg name "$1" --arg supported "$2" --arg leaks "$3" --arg refuses "$4" --arg always "$5" --arg not "${6:-0x0}" --arg loses "${7:-0x0}" '
    def mask: if . == "-" then null else {mask: ., names: []} end;
    {format_version: 1, host: $name, host_xcr0: {mask: "0x2e7", names: []}, kvm_supported_xcr0: ($supported | mask),
     not_permitted: ($not | mask), source: {leaks: ($leaks | mask), loses: ($loses | mask)},
     destination: {refuses: ($refuses | mask), always_refuses: ($always | mask)}}' >"$work/$1.json"
}

pair() { # ARGUMENT...
  cd "$work" || return
  run --separate-stderr timeout 60 "$build/xsaveshim" pair "$@"
  [[ $output != '{'* ]] || collect_json "$output"
}

assert_pair() { # FROM TO STATUS KEY=VALUE...
  local expected=$3 one
  pair --json "$1.json" "$2.json"
  ((status == expected)) || fail "exit status $status, not $expected" "$output" "$stderr" || return
  for one in "${@:4}"; do
    [[ $(jq -c ".result.${one%%=*}" <<<"$output") == "${one#*=}" ]] || fail "expected $one in" "$output" || return
  done
}

make_hosts() {
  host clean 0x207 0x0 0x0 0xe00f8
  host leaky 0x207 0x204 0x0 0xe00f8
  host affected 0x207 0x0 0x204 0xe00f8
  host strict 0x207 0x0 0x207 0xe00f8
  host loser 0x207 0x0 0x207 0xe00f8 0x0 0x3
  host small 0x7 0x0 0x0 0xe02f8
  host amx 0x207 0x0 0x0 0x800f8 0x60000
  host unknown - - - -
}

@test "xsaveshim pair says whether one host can load another host's guests: yes, unknown or with-xsaveshim; after with-xsaveshim, it names the modes that help" {
  local all='["library","supervisor","host-mode-on-to","host-mode-on-from"]'
  make_hosts
  assert_pair clean affected 0 'answer="yes"' 'by=[]' 'only_guests_without_xsave=false'
  assert_pair leaky clean 0 'answer="yes"'
  assert_pair leaky affected 1 'answer="with-xsaveshim"' "by=$all" 'refused={"mask":"0x204","names":["avx","pkru"]}'
  assert_pair leaky strict 1 'answer="with-xsaveshim"' 'by=["library"]' 'only_guests_without_xsave=false'
  assert_pair clean strict 1 'answer="with-xsaveshim"' 'by=["library"]' 'only_guests_without_xsave=true'
  assert_pair loser clean 3 'answer="yes"' 'lost_when_saved={"mask":"0x3","names":["x87","sse"]}'
  assert_pair clean loser 1 'answer="with-xsaveshim"' 'lost_when_saved={"mask":"0x0","names":[]}'
  assert_pair loser strict 3 'answer="yes"' 'by=[]'
  assert_pair unknown affected 2 'answer="unknown"'
  assert_pair leaky unknown 2 'answer="unknown"'
  assert_pair unknown unknown 2 'answer="unknown"'
}

@test "xsaveshim pair names the xfeatures that the destination host lacks, and the xfeatures for which a VMM must request permission (AMX)" {
  make_hosts
  assert_pair leaky small 3 'answer="with-xsaveshim"' 'no_if_shown={"mask":"0x200","names":["pkru"]}' \
    'refused={"mask":"0x200","names":["pkru"]}'
  assert_pair small clean 0 'answer="yes"' 'no_if_shown={"mask":"0x0","names":[]}'
  assert_pair amx amx 0 'answer="yes"' 'needs_permission={"mask":"0x60000","names":["xtilecfg","xtiledata"]}'
  assert_pair amx clean 3 'no_if_shown={"mask":"0x60000","names":["xtilecfg","xtiledata"]}'
}

@test "the text that xsaveshim pair prints begins with the two hosts' names, and says that the command judges only xfeatures" {
  make_hosts
  pair leaky.json small.json
  [[ $status == 3 && ${lines[0]} == "leaky -> small: xfeatures alone are judged: CPU flags, MSRs and the TSC are not compared" &&
    $output == *$'\nanswer             with-xsaveshim: library, supervisor, host-mode-on-to, host-mode-on-from\n'* &&
    $output == *$'\nrefused            pkru: leaked by FROM, refused by TO\n'* &&
    $output == *$'\nno if shown        pkru: TO lacks these xfeatures, so choose a CPU model without them' ]] || fail "$(outcome)"
  pair loser.json clean.json
  [[ $output == *$'\nlost when saved    x87,sse of guests without XSAVE: shut these guests down instead of saving them'* ]] ||
    fail "$(outcome)"
}

@test "if xsaveshim pair gets only one host's JSON file, the destination is the host on which the command runs" {
  make_hosts
  pair --json leaky.json
  [[ $status == [0123] && $(jq -r .from <<<"$output") == leaky && $(jq -r .to <<<"$output") == "$(uname -n)" ]] || fail "$(outcome)"
}

@test "in the table of xsaveshim pair --matrix, hosts for which probe gave the same answers share a row; 400 hosts take less than a second of CPU time" {
  local i used
  make_hosts
  for ((i = 0; i < 200; i++)); do
    sed "s/\"leaky\"/\"leaky$i\"/" "$work/leaky.json" >"$work/leaky$i.json"
    sed "s/\"affected\"/\"affected$i\"/" "$work/affected.json" >"$work/affected$i.json"
  done
  rm "$work"/{clean,strict,loser,small,amx,unknown,leaky,affected}.json
  pair --matrix --json "$work"/*.json
  # the test measures CPU time, not the elapsed time, because other processes may use the CPU
  used=$( (TIMEFORMAT=%U && time "$build/xsaveshim" pair --matrix "$work"/*.json >/dev/null) 2>&1) || true
  ((10#${used/./} < 1000 * ${XSTEST_SLOW:-1})) || fail "it took $used s"
  [[ $status == 1 && $(jq -c '[.groups[] | [length, .[0]]]' <<<"$output") == '[[200,"affected0"],[200,"leaky0"]]' &&
    $(jq -c '[.pairs[] | [.from, .to, .result.answer]]' <<<"$output") == \
    '[[0,0,"yes"],[0,1,"yes"],[1,0,"with-xsaveshim"],[1,1,"yes"]]' ]] || fail "$output"
  pair --matrix leaky0.json leaky1.json affected0.json
  [[ $status == 1 && $output == *"  1: leaky0 leaky1"*"  2: affected0"* && ${lines[-2]} =~ 1\ +yes\ +with$ && ${lines[-1]} =~ 2\ +yes\ +yes$ ]] ||
    fail "$(outcome)"
}

@test "xsaveshim pair exits with 2 if a file is missing, is not JSON, or has the JSON of another command than xsaveshim probe" {
  local file
  make_hosts
  echo '{' >"$work/broken.json"
  echo '{"format_version": 1, "vmms": []}' >"$work/status.json"
  jq '.format_version = 2' "$work/clean.json" >"$work/later.json"
  jq '.host_xcr0.mask = "yes"' "$work/clean.json" >"$work/mask.json"
  for file in missing broken status later mask; do
    pair clean.json "$file.json"
    [[ $status == 2 && -z $output && $stderr == "xsaveshim pair: $file.json: "* && $(wc -l <<<"$stderr") == 1 ]] || fail "$file" "$(outcome)"
  done
  pair
  [[ $status == 2 && $stderr == *"name the JSON files of one or two hosts"* ]] || fail "$(outcome)"
  pair clean.json clean.json clean.json
  ((status == 2))
}

@test "all JSON that xsaveshim pair printed in this suite is valid against schemas/pair.schema.json" {
  assert_collected_valid pair
  [[ $(jq 'has("groups")' "$BATS_FILE_TMPDIR/json" | sort -u) == $'false\ntrue' ]]
}

@test "schemas/pair.schema.json rejects JSON that lacks a key, or that has an extra key or a wrong value" {
  local change json
  make_hosts
  pair --json leaky.json small.json
  json=$output
  validate pair <<<"$json"
  for change in '.format_version = 2' '.host = null' 'del(.time)' '.more = 1' '.result.by += ["magic"]' 'del(.result.refused.mask)' \
    '.result.answer = null' '.time = "today"'; do
    jq "$change" <<<"$json" >"$work/changed"
    run ! validate pair <"$work/changed"
  done
}
