# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Runs `xsaveshim probe` in emulated machines (the testbed) whose kernels leak xfeatures, refuse leaked xfeatures, or do neither.

load lib

# assert_probe KERNEL STATUS DESTINATION REFUSED SOURCE AVX FPSSE LEAKED [LOST]    runs `xsaveshim probe` on KERNEL, and checks
# the exit status STATUS, the answers DESTINATION and SOURCE, and the masks of the REFUSED, LEAKED and LOST xfeatures. With the
# library, probe must print the same. Then the test VMM loads the xfeature AVX, and then FP and SSE, into a vCPU whose CPUID lacks
# XSAVE. The parameters AVX and FPSSE are what KVM must answer to these two loads: 0 or an errno.
assert_probe() {
  local expected
  run --separate-stderr "$repo/test/kernels/run" --timeout 300 "$1" -- bash -c '
    "$0" probe --json >/tmp/bare; echo "status $?"
    LD_PRELOAD=$1 "$0" probe --json | jq "del(.time)" | cmp <(jq "del(.time)" /tmp/bare) - || echo "the library changed the output of probe"
    jq -r "[.kvm_supported_xcr0.mask, .destination.answer, .destination.refuses.mask, .source.answer] | @tsv" /tmp/bare
    "$2" create 0 cpuid none set-xsave 0x4 set-xsave 0x3 | sed -n "s/^set-xsave \([^:]*\): \([^ ]*\).*/\1 \2/p"
    jq -r ".source | .leaks.mask, .loses.mask" /tmp/bare' "$build/xsaveshim" "$shim" "$vmm"
  expected=$(printf '%s\n' "status $2" "0x207	$3	$4	$5" "0x4 $6" "0x3 $7" "$8" "${9:-0x0}")
  [[ $status == 0 && $output == "$expected" ]] || fail "$output" "$stderr"
}

@test "on a kernel that neither leaks xfeatures nor refuses leaked xfeatures, xsaveshim probe finds no fault and exits with 0" {
  assert_probe fixed 0 accepts 0x0 clean 0 0 0x0
}

@test "on a kernel that leaks xfeatures, xsaveshim probe says so and exits with 1" {
  assert_probe leaky 1 accepts 0x0 leaks 0 0 0x214
}

@test "on a kernel that refuses xfeatures that the guest lacks, xsaveshim probe says so and exits with 1" {
  assert_probe affected 1 refuses 0x204 clean EINVAL 0 0x0
}

@test "on a kernel that neither loads nor saves x87 and SSE for a guest without XSAVE, xsaveshim probe says that KVM refuses x87 and SSE when it loads such a guest, and loses them when it saves one" {
  assert_probe affected-strict 1 refuses 0x207 loses EINVAL EINVAL 0x0 0x3
}

# assert_probe_with_host_mode KERNEL DESTINATION TRIMS-LOADED SOURCE AFFECTED    enables the host mode on KERNEL, runs `xsaveshim
# probe --json` as root and as another user, and checks the values of destination.answer, host_mode.trims_loaded, source.answer and
# affected
assert_probe_with_host_mode() {
  # shellcheck disable=SC2016 # the inner shell's
  run --separate-stderr "$repo/test/kernels/run" --timeout 300 "$1" -- bash -c '
    "$0" host enable >/dev/null
    "$0" probe --json | jq -r "[.destination.answer, .host_mode.trims_loaded, .source.answer, .affected] | @tsv"
    cp "$0" /tmp && setpriv --reuid 65534 --clear-groups /tmp/xsaveshim probe --json | jq -r "[.destination.answer, .host_mode.trims_loaded, .source.answer, .affected] | @tsv"
    "$0" probe | grep -oE "not visible while.*|nothing: .xsaveshim host. is active"
    "$0" host status --json | jq -c "[.counts.seen < 60, .counts.trimmed, .counts.not_trimmed, .counts.refused]"' "$build/xsaveshim"
  shift
  local expected
  expected=$(printf '%s\t%s\t%s\t%s\n' "$@" "$@")
  expected+=$'\nnot visible while `xsaveshim host` is active'
  [[ $1 == accepts ]] || expected+=$'\nnothing: `xsaveshim host` is active'
  expected+=$'\n[true,0,0,0]'
  [[ $status == 0 && $output == "$expected" ]] || fail "$output" "$stderr" "expected:" "$expected"
}

@test "while the host mode is active on a kernel that refuses leaked xfeatures, xsaveshim probe finds these refusals, and the host mode does not count probe's payloads" {
  assert_probe_with_host_mode affected refuses true unknown true
}

@test "while the host mode is active on a kernel that leaks xfeatures, xsaveshim probe says that a leak would not be visible" {
  assert_probe_with_host_mode leaky accepts true unknown ""
}
