# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests of `xsaveshim probe` on this host's KVM, on a KVM whose answers the preloaded quirk.so changes, and on machines where KVM
# cannot be probed.

load lib

command=$build/xsaveshim
patience=$((60 * ${XSTEST_SLOW:-1}))

setup() {
  need_kvm
  kvm_device=($((16#$(stat -c %t /dev/kvm))) $((16#$(stat -c %T /dev/kvm))))
}

# probe [VARIABLE=VALUE]...    runs `xsaveshim probe --json` with bats' `run`; $output is JSON
probe() {
  run --separate-stderr timeout "$patience" env "$@" "$command" probe --json
}

# probe_quirk QUIRK_NAME=VALUE...    runs probe with quirk.so, which changes KVM's answers: see test/standins/quirk.so.c
probe_quirk() {
  probe LD_PRELOAD="$build/test/quirk.so" "$@"
}

# assert_answers STATUS FILTER=VALUE...    checks probe's exit status, and that each jq filter FILTER prints VALUE for probe's JSON
assert_answers() {
  local expected=$1 pair value
  shift
  ((status == expected)) || fail "exit status $status, not $expected" "$output" "$stderr" || return
  collect_json "$output"
  for pair in "$@"; do
    value=$(jq -r "${pair%%=*}" <<<"$output") || fail "not JSON: $output" || return
    [[ $value == "${pair#*=}" ]] || fail "expected $pair, got $value in" "$output" || return
  done
}

# Prints the lowest xfeature beyond x87 and SSE that KVM supports, or nothing if KVM supports no such xfeature.
supported_xfeature() {
  local xcr0 beyond
  xcr0=$("$vmm" supported | sed -n 's/.* xcr0=//p')
  beyond=$((xcr0 & ~3))
  ((!beyond)) || printf '0x%x' $((beyond & -beyond))
}

need_xfeature() {
  xfeature=$(supported_xfeature)
  [[ $xfeature ]] || skip "this host's KVM supports no xfeature beyond x87 and SSE"
}

# with_device MAJOR MINOR MODE GROUP COMMAND...    runs COMMAND in a mount namespace in which /dev/kvm is a device node with these
# device numbers, this mode and this group
with_device() {
  unshare --mount sh -c '
    mount -t tmpfs -o mode=755 none "$0" && mknod -m "$3" "$0/kvm" c "$1" "$2" && chgrp "$4" "$0/kvm" &&
      mount --bind "$0/kvm" /dev/kvm && shift 4 && exec "$@"' "$BATS_TEST_TMPDIR" "$@"
}

as_nobody=(setpriv --reuid nobody --regid nogroup --clear-groups)

@test "xsaveshim probe and a test VMM agree on whether this host's KVM leaks xfeatures, and on whether it refuses xfeatures" {
  local refuses='' source=clean
  need_xfeature
  run_vmm create 0 cpuid none set-xsave "$xfeature" set-xsave 0x3
  [[ $output != *"set-xsave 0x3: EINVAL"* ]] || refuses+=x87,sse,
  [[ $output != *"set-xsave $xfeature: EINVAL"* ]] || refuses+=avx,
  run_vmm create 0 cpuid "0xd.0=$((xfeature | 3))" set-xsave "$((xfeature | 3))" cpuid none run get-xsave
  [[ $output =~ get-xsave:\ 0\ xstate_bv=(0x[0-9a-f]+) ]] || fail "$output"
  (((BASH_REMATCH[1] & ~3) == 0)) || source=leaks

  probe
  assert_answers "$status" ".source.answer=$source" \
    ".destination.answer=$([[ $refuses ]] && echo refuses || echo accepts)"
  [[ $(jq -r '[.destination.refuses.names[] + ","] | join("")' <<<"$output") == "$refuses"* ]] || fail "$output"
  [[ $status == $([[ $refuses || $source == leaks ]] && echo 1 || echo 0) ]]
}

@test "xsaveshim probe lists every xfeature under accepts, refuses or always_refuses, and no xfeature that KVM supports under always_refuses" {
  local supported
  probe
  supported=$(jq -r .kvm_supported_xcr0.mask <<<"$output")
  (((supported & $(jq -r .destination.always_refuses.mask <<<"$output")) == 0))
  ((($(jq -r '.destination | .accepts.mask' <<<"$output") | $(jq -r .destination.refuses.mask <<<"$output") |
    $(jq -r .destination.always_refuses.mask <<<"$output")) == 0xe02ff)) || fail "$output"
}

@test "xsaveshim probe shows the kernel's release, the xfeatures in the host's XCR0, and the xfeatures that KVM supports" {
  local supported
  supported=$("$vmm" supported | sed -n 's/.* xcr0=//p')
  probe
  assert_answers "$status" ".kernel=$(uname -r)" ".kvm_supported_xcr0.mask=$supported"
  # x87 and SSE are always enabled; /proc/cpuinfo shows whether AVX and PKRU are enabled
  host=$(jq -r .host_xcr0.mask <<<"$output")
  (((host & 3) == 3 && (supported & ~host) == 0))
  (((host >> 2 & 1) == $(grep -qw avx /proc/cpuinfo && echo 1 || echo 0)))
  (((host >> 9 & 1) == $(grep -qw ospke /proc/cpuinfo && echo 1 || echo 0)))
}

# Prints the mask of the xfeatures that the kernel permits for guests, in decimal, or nothing if the kernel does not know
# ARCH_GET_XCOMP_GUEST_PERM.
permitted_by_kernel() { # ARCH_GET_XCOMP_GUEST_PERM
  perl -e '$mask = "\0" x 8; print unpack("Q", $mask) if syscall(158, 0x1024, $mask) == 0'
}
payload_size_by_kvm() { # KVM_CHECK_EXTENSION of KVM_CAP_XSAVE2
  perl -e 'open($kvm, "+<", "/dev/kvm") or die; $size = ioctl($kvm, 0xae03, 208); print $size > 4096 ? $size + 0 : 4096'
}

@test "xsaveshim probe shows the size of KVM's XSAVE payload, and the xfeatures that the kernel permits a process to give to guests" {
  local permitted size
  permitted=$(permitted_by_kernel)
  size=$(payload_size_by_kvm)
  probe
  assert_answers "$status" ".payload_size=$size" ".permitted_xcr0.mask=$([[ $permitted ]] && printf '0x%x' "$permitted" || echo null)"
  probe_quirk QUIRK_PAYLOAD=11008 QUIRK_PERMITTED=0x602e7
  assert_answers "$status" .payload_size=11008 .permitted_xcr0.mask=0x602e7
  run --separate-stderr env LD_PRELOAD="$build/test/quirk.so" QUIRK_PAYLOAD=11008 QUIRK_PERMITTED=0x602e7 "$command" probe
  grep -qx 'payload         11008 bytes' <<<"$output"
  grep -qx 'permitted       0x602e7 (x87,sse,avx,opmask,zmm_hi256,hi16_zmm,pkru,xtilecfg,xtiledata)' <<<"$output"
}

@test "in xsaveshim probe's JSON, permitted_xcr0 is null if the kernel lacks ARCH_GET_XCOMP_GUEST_PERM, and payload_size is null if KVM cannot create a VM" {
  probe_quirk QUIRK_PERMITTED=0
  assert_answers "$status" .permitted_xcr0=null
  probe_quirk QUIRK_FAIL=0x01:16 # KVM_CREATE_VM, EBUSY
  assert_answers 2 .payload_size=null
}

@test "the text of xsaveshim probe has the same answers and masks as the JSON of xsaveshim probe --json" {
  probe
  json=$output
  run --separate-stderr timeout "$patience" "$command" probe
  [[ $stderr == '' && ${#lines[@]} -le 12 ]]
  grep -q "^as a source     $(jq -r .source.answer <<<"$json"): " <<<"$output" || fail "$output" "$json"
  grep -q "^as destination  $(jq -r .destination.answer <<<"$json"): " <<<"$output" || fail "$output" "$json"
  grep -q "^host XCR0       $(jq -r .host_xcr0.mask <<<"$json") (x87,sse" <<<"$output"
  grep -q "^KVM supports    $(jq -r .kvm_supported_xcr0.mask <<<"$json") (x87,sse" <<<"$output"
}

@test "the JSON of xsaveshim probe has exactly the keys that xsaveshim(1) names" {
  local documented
  probe
  documented=$(sed -n '/^\.Ss probe/,/^\.Ss pair/s/^\.It Li //p' "$repo/man/xsaveshim.1")
  [[ $(jq -r 'keys_unsorted[]' <<<"$output") == "$documented" ]] || fail "the manual names" "$documented" "$output"
  [[ $(jq -c '[.source, .destination, .host_mode | keys_unsorted]' <<<"$output") == `
    `'[["answer","leaks","loses","reason"],["answer","accepts","refuses","always_refuses","reason"],["trims_saved","trims_loaded"]]' ]] || fail "$output"
}

@test "if KVM refuses a supported xfeature for a guest whose CPUID lacks the xfeature, xsaveshim probe answers 'refuses' for this host as a destination" {
  need_xfeature
  probe_quirk QUIRK_REFUSE="$xfeature"
  assert_answers 1 .destination.answer=refuses ".destination.refuses.mask=$xfeature" .affected=true
}

@test "if KVM refuses x87 and SSE for a guest without XSAVE, xsaveshim probe answers 'refuses' for this host as a destination, and names x87 and SSE" {
  probe_quirk QUIRK_REFUSE=0x3
  assert_answers 1 .destination.answer=refuses '(.destination.refuses.names[0:2] | tojson)=["x87","sse"]' .affected=true
}

@test "if KVM refuses only xfeatures that it does not support, xsaveshim probe lists these xfeatures under always_refuses, and sets affected to false" {
  need_xfeature
  probe_quirk QUIRK_SUPPORTED=0x7 QUIRK_ALWAYS_REFUSE=0x200
  assert_answers 0 .destination.answer=accepts .destination.refuses.mask=0x0 .affected=false
  (($(jq -r .destination.always_refuses.mask <<<"$output") & 0x200))
}

@test "if KVM_GET_XSAVE returns xfeatures that the guest does not have, xsaveshim probe answers that this host leaks, and names these xfeatures" {
  probe_quirk QUIRK_LEAK=0x214
  assert_answers 1 .source.answer=leaks .source.leaks.mask=0x214 '(.source.leaks.names | tojson)=["avx","bndcsr","pkru"]' .affected=true
}

@test "if KVM refuses even an xfeature that the guest has, xsaveshim probe answers 'unknown' for this host as a source and as a destination" {
  need_xfeature
  probe_quirk QUIRK_ALWAYS_REFUSE="$xfeature"
  assert_answers 2 .destination.answer=unknown .destination.accepts=null .source.answer=unknown .source.leaks=null .affected=null
}

@test "if KVM changes the CPUID table that xsaveshim probe sets, probe answers 'unknown' for this host as a source; as a destination, 'refuses' if KVM refuses a supported xfeature, and 'unknown' if not" {
  need_xfeature
  probe_quirk QUIRK_GUEST="$((xfeature | 3))" QUIRK_LEAK="$xfeature"
  assert_answers 2 .destination.answer=unknown .source.answer=unknown .source.leaks=null
  [[ $output == *"changes CPUID tables"* ]]
  probe_quirk QUIRK_GUEST="$((xfeature | 3))" QUIRK_REFUSE="$xfeature"
  assert_answers 1 .destination.answer=refuses .source.answer=unknown .affected=true
}

@test "if KVM supports only x87 and SSE, xsaveshim probe answers 'unknown' for this host as a source; as a destination, 'refuses' if KVM refuses x87 and SSE for a guest without XSAVE, and 'unknown' if not" {
  probe_quirk QUIRK_SUPPORTED=0x3
  assert_answers 2 .kvm_supported_xcr0.mask=0x3 .destination.answer=unknown .source.answer=unknown
  [[ $(jq -r .source.reason <<<"$output") == *"supports no xfeature beyond x87 and SSE"* ]]
  probe_quirk QUIRK_SUPPORTED=0x3 QUIRK_REFUSE=0x3
  assert_answers 1 .destination.answer=refuses .source.answer=unknown .affected=true
}

@test "if KVM does not save an xfeature that the guest has, xsaveshim probe answers 'unknown' to the question whether KVM leaks" {
  need_xfeature
  probe_quirk QUIRK_HIDE="$xfeature"
  assert_answers 2 .destination.answer=accepts .source.answer=unknown .affected=null
}

@test "if the test guest of xsaveshim probe cannot run, probe answers 'unknown' for this host as a source, but finds out whether KVM refuses xfeatures" {
  need_xfeature
  probe_quirk QUIRK_FAIL=0x80:5 # KVM_RUN, EIO
  assert_answers 2 .destination.answer=accepts .source.answer=unknown
  [[ $output == *"KVM_RUN: Input/output error"* ]]
  probe_quirk QUIRK_EXIT=17
  assert_answers 2 .destination.answer=accepts .source.answer=unknown
}

@test "if KVM cannot create a VM, xsaveshim probe answers 'unknown' for this host, as a source and as a destination, and names KVM_CREATE_VM's error" {
  probe_quirk QUIRK_FAIL=0x01:16 # KVM_CREATE_VM, EBUSY
  assert_answers 2 .destination.answer=unknown .source.answer=unknown .affected=null
  [[ $(jq -r .source.reason <<<"$output") == "KVM_CREATE_VM: Device or resource busy: "* ]]
}

@test "if libxsaveshim.so is preloaded into xsaveshim probe, the command gives the same answers as without the library" {
  probe
  bare=$(jq 'del(.time)' <<<"$output")
  probe LD_PRELOAD="$shim" XSAVESHIM_TRIM=both XSAVESHIM_LOG_LEVEL=debug
  [[ $(jq 'del(.time)' <<<"$output") == "$bare" && $stderr == '' ]] || fail "$output" "$stderr"
}

@test "if /dev/kvm does not exist, xsaveshim probe exits with 2, and advises to load the kernel module kvm_intel or kvm_amd" {
  run --separate-stderr unshare --mount sh -c "mount -t tmpfs none /dev && exec '$command' probe --json"
  assert_answers 2 .destination.answer=unknown .source.answer=unknown .affected=null .kvm_supported_xcr0=null
  [[ $(jq -r .destination.reason <<<"$output") == "no /dev/kvm: load the module kvm_intel or kvm_amd"* ]]
  [[ $(jq -r .source.reason <<<"$output") == "no /dev/kvm: "* ]]
}

@test "if the user may not open /dev/kvm, xsaveshim probe advises to run the command as root, or as a member of the group that may open /dev/kvm" {
  run --separate-stderr with_device "${kvm_device[@]}" 0600 root "${as_nobody[@]}" "$command" probe --json
  assert_answers 2 .destination.answer=unknown .source.answer=unknown .affected=null \
    ".source.reason=no permission to open /dev/kvm: run this as root"
  run --separate-stderr with_device "${kvm_device[@]}" 0660 disk "${as_nobody[@]}" "$command" probe --json
  assert_answers 2 ".source.reason=no permission to open /dev/kvm: run this as root or as a member of the group disk"
}

@test "if /dev/kvm is a device other than KVM's, xsaveshim probe says so and exits with 2" {
  run --separate-stderr with_device 1 3 0666 root "$command" probe --json
  assert_answers 2 .destination.answer=unknown .source.answer=unknown
  [[ $output == *"/dev/kvm is not the device of KVM"* ]]
}

@test "xsaveshim probe gives every user who may open /dev/kvm the same answers as root" {
  probe
  root=$(jq 'del(.time)' <<<"$output")
  run --separate-stderr with_device "${kvm_device[@]}" 0666 root "${as_nobody[@]}" "$command" probe --json
  [[ $(jq 'del(.time)' <<<"$output") == "$root" && $stderr == '' ]] || fail "$output" "$stderr"
}

@test "when xsaveshim probe ends, it leaves no process behind, and thus no VM" {
  # in a new PID namespace, /proc shows no unrelated process
  run --separate-stderr timeout "$patience" unshare --pid --fork --mount-proc bash -c \
    '"$0" probe >/dev/null; status=$?; echo "$status" /proc/[0-9]*' "$command"
  [[ $output =~ ^[012]\ /proc/1$ ]] || fail "$output"
}

@test "for an unknown argument, xsaveshim probe prints its usage and exits with 2" {
  local word
  for word in --jsonn now; do
    run --separate-stderr "$command" probe "$word"
    [[ $status == 2 && $output == '' && $stderr == *'usage: xsaveshim probe [--json]'* ]]
  done
}

@test "all JSON that xsaveshim probe printed in this suite is valid against schemas/probe.schema.json" {
  assert_collected_valid probe
}
