# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# From the output of `xsaveshim probe` on two hosts, `xsaveshim pair` forecasts whether guests survive a move. This suite compares
# the forecasts with what real KVMs do. The first host saves a guest without the library. The second host restores the guest, once
# without and once with the library. Each host is an emulated machine, with or without PKRU, that runs a testbed kernel.
# teardown_file writes pairs.md, the table "pairs" of docs/testing.md.

load lib
load qemu

# The suite tests 16 pairs of hosts. With XSTEST_PAIRS=all, it tests every ordered pair of eight hosts (half an hour).
sources=(leaky leaky-nopku fixed affected-strict)
destinations=(fixed fixed-nopku affected affected-strict)
if [[ ${XSTEST_PAIRS-} == all ]]; then
  sources=({fixed,leaky,affected,affected-strict}{,-nopku})
  destinations=("${sources[@]}")
fi

# on HOST DEED...    boots the testbed kernel HOST (a HOST that ends in -nopku has a CPU without PKRU). test/kernels/story then does
# each DEED there: save:from-leaky:without, for example, saves a guest as the snapshot "from-leaky" without the library.
on() {
  local cpu=max
  [[ $1 != *-nopku ]] || cpu=max,-pku
  XSTEST_OUT=$out XSTEST_SLOW=${XSTEST_SLOW:-6} timeout 1200 "$repo/test/kernels/run" --timeout 1000 --cpu "$cpu" "${1%-nopku}" -- \
    "$repo/test/kernels/story" "$@" 2>>"$out/stderr"
}

# On a host that is both a source and a destination, `xsaveshim probe` runs twice, with the same answers.
play() {
  local host from restores=()
  for from in "${sources[@]}"; do restores+=("restore:from-$from:without" "restore:from-$from:with"); done
  for host in "${sources[@]}"; do
    on "$host" "probe:$host:without" "save:from-$host:without" || return
  done
  for host in "${destinations[@]}"; do
    on "$host" "probe:$host:without" "${restores[@]}" || return
  done
}

# If a host fails, rows of results are missing. Then the test below fails.
setup_file() {
  cd "$repo" || return
  export out=$BATS_FILE_TMPDIR/out
  mkdir "$out"
  play || { echo "a host failed:" && cat "$out/stderr"; } | sed 's/^/# /' >&3
}

# Sets the variable `answer` to what `xsaveshim pair` says about a guest without XSAVE that moves from host FROM to host TO.
judge() { # FROM TO
  answer=$("$build/xsaveshim" pair --json "$out/$1.json" "$out/$2.json" |
    jq -r '.result | if .lost_when_saved.mask != "0x0" then "lost-when-saved" else .answer end')
}

# Prints "intact" or "lost": what happened to the guest that host FROM saved and host TO restored. SHIM says whether TO restored the
# guest with or without the library.
outcome_of() { # FROM TO SHIM
  awk -F '\t' -v host="$2" -v from="from-$1" -v shim="$3" \
    '$1 == host && $2 == "restore" && $3 == from && $4 == shim { print $7 == "intact" ? "intact" : "lost" }' "$out/rows.tsv"
}

teardown_file() {
  local from to answer
  mkdir -p "$build/results"
  {
    echo '| from | to | `xsaveshim pair` says | without the library | with it |'
    echo '| --- | --- | --- | --- | --- |'
    for from in "${sources[@]}"; do
      for to in "${destinations[@]}"; do
        judge "$from" "$to"
        echo "| $from | $to | $answer | $(outcome_of "$from" "$to" without) | $(outcome_of "$from" "$to" with) |"
      done
    done
  } >"$build/results/pairs.md"
}

@test "for every tested pair of hosts, xsaveshim pair predicts whether a guest without XSAVE is lost without the library, and whether it is lost even with the library" {
  local from to answer foretold wrong=() answers=()
  for from in "${sources[@]}"; do
    for to in "${destinations[@]}"; do
      judge "$from" "$to"
      answers+=("$answer")
      case $answer in
        yes) foretold='intact intact' ;;
        with-xsaveshim) foretold='lost intact' ;;
        lost-when-saved) foretold='lost lost' ;;
        *) foretold=nothing ;;
      esac
      [[ "$(outcome_of "$from" "$to" without) $(outcome_of "$from" "$to" with)" == "$foretold" ]] ||
        wrong+=("$from to $to: $answer, $(outcome_of "$from" "$to" without), $(outcome_of "$from" "$to" with)")
    done
  done
  ((${#wrong[@]} == 0)) || fail "${wrong[@]}" "$(cat "$out/rows.tsv")"
  [[ $(printf '%s\n' "${answers[@]}" | sort -u) == $'lost-when-saved\nwith-xsaveshim\nyes' ]]
}
