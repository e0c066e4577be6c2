# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Shows how guests are lost, and how xsaveshim prevents this loss, on kernels that really leak xfeatures or really refuse leaked
# xfeatures. The guest checks its own registers. QEMU saves the guest on the kernel "leaky", and restores the guest on the kernels
# "affected", "affected-strict", "fixed" and "debian". It does both without xsaveshim, with the library, or with the host mode.
# teardown_file writes the table "kernels" of docs/testing.md.

load lib
load qemu

# on [OPTION VALUE] KERNEL DEED...    boots KERNEL in an emulated machine. test/kernels/story then does each DEED there:
# save:file:without, for example, saves a guest as the snapshot "file" without xsaveshim. OPTION is an option of test/kernels/run.
on() {
  local options=()
  [[ $1 != --* ]] || { options=("$1" "$2") && shift 2; }
  XSTEST_OUT=$out XSTEST_SLOW=${XSTEST_SLOW:-6} \
    timeout 600 "$repo/test/kernels/run" --timeout 500 "${options[@]}" "$1" -- "$repo/test/kernels/story" "$@" 2>>"$out/stderr"
}

# Migrates a guest live from the leaky kernel to the affected kernel. The two emulated machines run at the same time, with a virtio
# serial line between them.
migrates_live() {
  local receiver
  on --link "$BATS_FILE_TMPDIR/line,server=on" affected receive:live:without &
  receiver=$!
  wait_for 60 test -S "$BATS_FILE_TMPDIR/line"
  on --link "$BATS_FILE_TMPDIR/line,server=off" leaky send:live:host
  wait "$receiver"
}

whole_story() {
  on leaky save:{file,smp2,disk}:without save:diskshimmed:with save:clean:saving save:{cleanhost,cleanhost-smp2,diskcleanhost}:host &&
    on affected restore:{file,smp2,disk}:{without,with,host} restore:file:{observing,waiting} restore:clean:without \
      restore:{cleanhost,cleanhost-smp2,diskcleanhost}:without &&
    on fixed restore:{file,smp2}:{without,with,host} &&
    on affected-strict restore:file:{without,with} &&
    on debian restore:file:{without,host} &&
    migrates_live
}

# test/kernels/story writes a row to $out/rows.tsv for each DEED that it completes. The first DEED that fails ends whole_story().
# Then the tests that look for the row of this DEED, or of a later one, fail.
setup_file() {
  cd "$repo" || return
  export out=$BATS_FILE_TMPDIR/out
  mkdir "$out"
  whole_story || { echo "the story failed:" && cat "$out/stderr"; } | sed 's/^/# /' >&3
}

teardown_file() {
  mkdir -p "$build/results"
  awk -F '\t' -v qemu="$(qemu-system-x86_64 --version | sed -nE 's/^QEMU emulator version ([0-9.]+).*/\1/p')" '
    BEGIN {
      print "| kernel | QEMU " qemu " | xsaveshim | XSTATE_BV that KVM got or gave, and its answer | QEMU is | the guest |"
      print "| --- | --- | --- | --- | --- | --- |"
    }
    {
      did = ($2 == "save" ? "saves" : "restores") (index($3, "clean") ? " the clean snapshot" : " the leaky snapshot")
      if ($2 == "save") did = "saves"
      if ($2 == "send") did = "sends, live"
      if ($2 == "receive") did = "receives the guest"
      did = did (index($3, "smp2") ? ", two vCPUs" : index($3, "disk") ? ", savevm" : "")
      printf "| %s | %s | %s | %s | %s | %s |\n", $1, did, $4, $5, $6, $7 == "lost" ? "**lost its registers**" : $7
    }' "$out/rows.tsv" >"$build/results/kernels.md"
}

assert_came_to() { # KERNEL DEED SNAPSHOT SHIM ANSWER QEMU GUEST
  assert_row "$out/rows.tsv" "$@"
}

# If KVM refuses the payload, QEMU 8.2 and later exit; earlier versions run on, and the guest is lost.
assert_lost() { # KERNEL SNAPSHOT SHIM ANSWER
  if qemu_exits_on_refusal; then
    assert_came_to "$1" restore "$2" "$3" "$4" exited none
  else
    assert_came_to "$1" restore "$2" "$3" "$4" running lost
  fi
}

# QEMU 8.2 and later exit when KVM refuses the first vCPU's payload, and do not load the second vCPU's payload.
assert_both_lost() { # KERNEL
  local answers='0x217 EINVAL'
  qemu_exits_on_refusal || answers+=', 0x217 EINVAL'
  assert_lost "$1" smp2 without "$answers"
}

# assert_reports KERNEL SNAPSHOT SHIM LINE...    checks that the DEED restore:SNAPSHOT:SHIM on KERNEL made xsaveshim report
# exactly these lines, in this order; pid= and fd= may have any value
assert_reports() {
  local file=$out/$1-$2-$3.reports
  shift 3
  diff -u <(printf 'xsaveshim: %s\n' "$@") <(sed -E 's/ pid=[0-9]+//; s/ fd=[0-9]+/ fd=*/' "$file")
}

trimmed='event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x217 allowed=0x3 after=0x3 dropped=avx,bndcsr,pkru'

@test "on a kernel that leaks xfeatures, the saved state of a guest without XSAVE contains AVX, BNDCSR and PKRU" {
  assert_came_to leaky save file without '0x217 ok' postmigrate intact
  assert_came_to leaky save smp2 without '0x217 ok' postmigrate intact
}

@test "on a kernel that leaks xfeatures, without the library, QEMU 8.2 and later stop the guest after savevm; with the library, the guest runs on" {
  if qemu_exits_on_refusal; then
    assert_came_to leaky save disk without '0x217 ok' internal-error stopped
  else
    assert_came_to leaky save disk without '0x217 ok' running intact
  fi
  assert_came_to leaky save diskshimmed with '0x217 ok' running intact
}

@test "without the library, a guest saved on a kernel that leaks xfeatures is lost on a kernel that refuses leaked xfeatures" {
  assert_lost affected file without '0x217 EINVAL'
}

@test "with the library, a guest saved on a kernel that leaks xfeatures runs on intact on a kernel that refuses leaked xfeatures" {
  assert_came_to affected restore file with '0x3 ok' running intact
  assert_reports affected file with "level=notice $trimmed"
}

@test "on a kernel that refuses leaked xfeatures, a guest that savevm saved on a leaky kernel is lost without the library, and intact with the library" {
  assert_lost affected disk without '0x217 EINVAL'
  assert_came_to affected restore disk with '0x3 ok' running intact
}

@test "on a kernel that refuses leaked xfeatures, a two-vCPU guest that QEMU saved on a leaky kernel is lost without the library, and intact with the library" {
  assert_both_lost affected
  assert_came_to affected restore smp2 with '0x3 ok, 0x3 ok' running intact
  assert_reports affected smp2 with "level=notice $trimmed" "level=notice ${trimmed/vcpu=0/vcpu=1}"
}

@test "with XSAVESHIM_TRIM=none, the library reports a payload's leaked xfeatures but does not trim them, so KVM refuses the payload and the guest is lost" {
  assert_lost affected file observing '0x217 EINVAL'
  [[ $(head -n 1 "$out/affected-file-observing.reports") == *" event=would-trim "*" after=0x217 dropped=avx,bndcsr,pkru" ]]
  [[ $(tail -n 1 "$out/affected-file-observing.reports") == *" event=refused "*" reason=host-lacks:bndcsr;guest-lacks:avx,bndcsr,pkru" ]]
}

@test "if QEMU with the library and XSAVESHIM_TRIM=save saves a guest on a leaky kernel, QEMU without the library restores the guest intact on a kernel that refuses leaked xfeatures" {
  assert_came_to leaky save clean saving '0x3 ok' postmigrate intact
  assert_came_to affected restore clean without '0x3 ok' running intact
}

@test "if KVM does not support the xfeature BNDCSR, a guest whose snapshot has a leaked BNDCSR is lost without the library, and intact with the library" {
  assert_lost fixed file without '0x217 EINVAL'
  assert_came_to fixed restore file with '0x3 ok' running intact
  assert_reports fixed file with "level=notice $trimmed"
}

@test "on a kernel that refuses even FP and SSE for a guest without XSAVE, the library temporarily sets a CPUID table that shows both, so KVM loads both and the guest is intact" {
  assert_lost affected-strict file without '0x217 EINVAL'
  assert_came_to affected-strict restore file with '0x3 EINVAL, 0x3 ok' running intact
  assert_reports affected-strict file with "level=notice $trimmed" \
    "level=notice event=load-widened ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x3 guest_xcr0=0x0"
}

@test "if the host mode is enabled on a leaky kernel while QEMU runs, and QEMU then saves the guest, QEMU without xsaveshim restores the guest intact on a kernel that refuses leaked xfeatures" {
  assert_came_to leaky save cleanhost host '0x3 ok' postmigrate intact
  assert_came_to affected restore cleanhost without '0x3 ok' running intact
  assert_came_to leaky save cleanhost-smp2 host '0x3 ok' postmigrate intact
  assert_came_to affected restore cleanhost-smp2 without '0x3 ok, 0x3 ok' running intact
  assert_came_to leaky save diskcleanhost host '0x3 ok' running intact
  assert_came_to affected restore diskcleanhost without '0x3 ok' running intact
}

@test "with the host mode on the leaky source, a live migration to a kernel that refuses leaked xfeatures succeeds without xsaveshim on the destination" {
  assert_came_to leaky send live host '0x3 ok' postmigrate intact
  assert_came_to affected receive live without '0x3 ok' running intact
}

@test "if the host mode is active on a kernel that refuses leaked xfeatures, guests that QEMU saved on a leaky kernel are intact there without the library" {
  assert_came_to affected restore file host '0x3 ok' running intact
  assert_came_to affected restore smp2 host '0x3 ok, 0x3 ok' running intact
  assert_came_to affected restore disk host '0x3 ok' running intact
}

@test "if the host mode is enabled while QEMU already waits with -incoming defer, the host mode trims the payload that QEMU then loads" {
  assert_came_to affected restore file waiting '0x3 ok' running intact
}

@test "if KVM does not support the xfeature BNDCSR, a guest whose snapshot has a leaked BNDCSR is lost without the host mode, and intact with the host mode" {
  assert_came_to fixed restore file host '0x3 ok' running intact
  assert_both_lost fixed
  assert_came_to fixed restore smp2 host '0x3 ok, 0x3 ok' running intact
  assert_lost debian file without '0x217 EINVAL'
  assert_came_to debian restore file host '0x3 ok' running intact
}
