# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# The shim on real KVM, with the small VMM.

load lib

# What most tests start from: a guest with FP and SSE, and a payload with a bit more than this host's KVM knows.
setup() {
  need_no_settings_file
  need_kvm
  find_lacking_bit
  guest=(create 0 cpuid 0xd=0x3)
  leaky=$(or 0x3 "$lacking")
}

# A bit that this host's KVM does not support: refused in a payload by every kernel. Sets $lacking and $lacking_name.
find_lacking_bit() {
  local supported candidate
  supported=$("$vmm" supported | sed -n 's/.* xcr0=//p')
  for candidate in 9:pkru 4:bndcsr 8:pt; do
    ((supported >> ${candidate%:*} & 1)) && continue
    printf -v lacking '0x%x' $((1 << ${candidate%:*}))
    lacking_name=${candidate#*:}
    return
  done
  fail "this host's KVM supports every bit that could be leaked: $supported"
}

or() { # MASK...
  local mask all=0
  for mask in "$@"; do all=$((all | mask)); done
  printf '0x%x' "$all"
}

trim_report() { # VCPU [ALLOWED]
  local allowed=${2:-0x3}
  echo "level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=$1 fd=* xstate_bv=$leaky allowed=$allowed after=0x3 `
    `dropped=$lacking_name"
}

@test "without the shim KVM refuses the leaky payload, and nothing of it is loaded" {
  run_vmm "${guest[@]}" get-xsave set-xsave "$leaky" get-xsave
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  [[ $(grep ^get-xsave <<<"$output" | sort -u | wc -l) == 1 ]]
}

@test "with the shim KVM takes the leaky payload, and the guest has the registers that a clean one gives it" {
  local clean
  run_vmm "${guest[@]}" get-xsave set-xsave 0x3 get-xsave
  clean=$(grep ^get-xsave <<<"$output" | tail -n 1)
  [[ $(grep -c ^get-xsave <<<"$output") == 2 && $(grep -cxF "$clean" <<<"$output") == 1 ]] # it was not so before
  run_shimmed "${guest[@]}" set-xsave "$leaky" get-xsave
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x3 rest=same" "$clean"
  assert_reported "$(trim_report 0)"
}

@test "the guest runs before and after a trimmed restore" {
  run_shimmed "${guest[@]}" run set-xsave "$leaky" run
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x3 rest=same"
  [[ $(grep -cx 'run: 0 exit=hlt' <<<"$output") == 2 ]]
}

@test "KVM_SET_CPUID counts as well, and so does an empty table" {
  run_shimmed create 0 cpuid-v1 0xd=0x3 set-xsave "$leaky" create 1 cpuid none set-xsave "$leaky"
  [[ $(grep -cxF "set-xsave $leaky: 0 xstate_bv=0x3 rest=same" <<<"$output") == 2 ]]
  # a kernel that refuses FP and SSE to a guest without XSAVE adds a line of its own
  stderr=$(grep -v ' event=load-widened ' <<<"$stderr")
  assert_reported "$(trim_report 0)" "$(trim_report 1)"
}

@test "before its first CPUID, and where that failed, a vCPU is not trimmed: KVM's refusal is told" {
  run_shimmed supported create 0 set-xsave "$leaky" create 1 cpuid-too-many 0xd=0x3 cpuid-null set-xsave "$leaky"
  assert_printed 'cpuid-too-many 0xd=0x3: E2BIG' 'cpuid-null: EFAULT'
  [[ $(grep -cxF "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same" <<<"$output") == 2 ]]
  [[ $(grep -c "event=refused .* errno=EINVAL xstate_bv=$leaky reason=host-lacks:$lacking_name$" <<<"$stderr") == 2 ]]
}

@test "what the guest's CPUID enumerates is not dropped though this host's KVM lacks it, and the refusal is told" {
  run_shimmed supported create 0 cpuid "0xd=$leaky" set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same"
  assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=$leaky `
    `reason=host-lacks:$lacking_name"
}

@test "two vCPUs of one VM are trimmed each to its own guest's XCR0" {
  local avx
  avx=$(or "$leaky" 0x4)
  run_shimmed create 0 cpuid 0xd=0x3 create 1 cpuid 0xd=0x7 vcpu 0 set-xsave "$avx" vcpu 1 set-xsave "$avx"
  assert_printed "set-xsave $avx: 0 xstate_bv=0x3 rest=same" "set-xsave $avx: 0 xstate_bv=0x7 rest=same"
}

@test "eight vCPUs changing and restoring at once are trimmed each to its own" {
  timeout 120 env XSAVESHIM_LOG=none LD_PRELOAD="$shim" "$build/test/threads"
}

@test "a descriptor number that was used before is not taken for the vCPU that had it" {
  run_shimmed "${guest[@]}" close create 1 set-xsave "$leaky" cpuid 0xd=0x7 set-xsave 0x7
  [[ $(sed -n 's/^create .: //p' <<<"$output" | sort -u | wc -l) == 1 ]]
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same" 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
}

@test "a duplicated descriptor is trimmed to what KVM itself says of the vCPU" {
  local kvms allowed
  # some KVMs answer KVM_GET_CPUID2 with something else than what was set
  run_vmm "${guest[@]}" get-cpuid none
  kvms=$(sed -n 's/^get-cpuid none: .* 0xd\.0=//p' <<<"$output")
  allowed=$(or "$kvms" 0x3)
  (((allowed & lacking) == 0))
  run_shimmed "${guest[@]}" dup set-xsave "$leaky" dup-to 1000 set-xsave "$leaky"
  [[ $(grep -cxF "set-xsave $leaky: 0 xstate_bv=0x3 rest=same" <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$(trim_report '?' "$allowed")" "$(trim_report '?' "$allowed")"
}

@test "in another process than the VM's KVM's EIO arrives, through a known descriptor and an unknown one" {
  run_shimmed "${guest[@]}" fork set-xsave 0x3
  assert_printed 'set-xsave 0x3: EIO xstate_bv=0x3 rest=same'
  run_shimmed "${guest[@]}" exec set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EIO xstate_bv=$leaky rest=same"
  assert_no_report
}

@test "a restore on another thread or in a signal handler is trimmed" {
  local how
  for how in thread signal; do
    run_shimmed "${guest[@]}" $how set-xsave "$leaky"
    assert_printed "set-xsave $leaky: 0 xstate_bv=0x3 rest=same"
    assert_reported "$(trim_report 0)"
  done
}

@test "a restore works under a seccomp filter that allows ioctl, write, the old fstat and exit alone" {
  run_shimmed confine mark any-other
  ((status == 128 + $(kill -l SYS))) || fail "$(outcome)"
  run_shimmed supported "${guest[@]}" confine set-xsave 0x3 get-xsave get-cpuid none set-xsave "$leaky" \
    set-xsave 0x3,xcomp_bv=1 cpuid 0xd=0x3 cpuid-v1 0xd=0x3
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x3 rest=same" 'cpuid-v1 0xd=0x3: 0'
  [[ $(grep -c 'event=' <<<"$stderr") == 2 ]]
}

@test "only the lower 32 bits of the request count" {
  run_shimmed wide "${guest[@]}" set-xsave "$leaky" get-xsave dup set-xsave "$leaky"
  [[ $(grep -cxF "set-xsave $leaky: 0 xstate_bv=0x3 rest=same" <<<"$output") == 2 ]]
}

@test "a payload at any alignment, ending where its memory ends, is trimmed and otherwise left as it is" {
  local shift steps=() expected=()
  for shift in 0 1 2 3 4 5 6 7 8 16 63; do
    steps+=(set-xsave "$leaky,shift=$shift")
    expected+=("set-xsave $leaky,shift=$shift: 0 xstate_bv=0x3 rest=same")
  done
  run_shimmed XSAVESHIM_LOG=none size "${guest[@]}" "${steps[@]}"
  assert_printed "${expected[@]}"
}

@test "KVM answers EFAULT for NULL and for the kernel's half, and takes read-only memory that needs no trimming" {
  run_shimmed XSAVESHIM_TRIM=both "${guest[@]}" set-xsave-at 0 set-xsave-at 0xffff800000000000 get-xsave-at 0 \
    get-xsave-at 0xffff800000000000 set-xsave 0x3,readonly dup set-xsave-at 0 set-xsave 0x3,readonly
  [[ $(grep -cE '^[gs]et-xsave-at 0(xffff800000000000)?: EFAULT$' <<<"$output") == 5 ]] || fail "$(outcome)"
  [[ $(grep -cx 'set-xsave 0x3,readonly: 0 xstate_bv=0x3 rest=same' <<<"$output") == 2 ]]
  assert_no_report
}

# On a kernel that refuses FP and SSE to a guest without XSAVE the payload is loaded under a widened table.
@test "a thread with a stack of 16 KiB loads what a guest without XSAVE has" {
  run_shimmed create 0 cpuid 0x1=0x1 small-thread set-xsave 0x3
  assert_printed 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
}

# Whether this KVM keeps the leaf 0xD that it is given; PVM's, for one, rewrites it, and its KVM_SET_XCRS goes by that.
table=0x0=0xd,0x1=0x0/0x4000000,0xd.0=0x3
keeps_the_table() {
  run_vmm create 0 cpuid "$table" get-cpuid none
  grep -q '^get-cpuid none: .* 0xd.0=0x3' <<<"$output"
}

@test "an XCR0 before the payload: a KVM that keeps the table refuses it, and one that rewrites it takes it and keeps the state" {
  local keeps=false
  ! keeps_the_table || keeps=true
  run_shimmed create 0 cpuid "$table" set-xcrs 0x7 set-xsave 0x7
  if $keeps; then
    assert_printed 'set-xcrs 0x7: EINVAL' 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
    [[ $stderr == *' event=refused '*' ioctl=KVM_SET_XCRS vcpu=0 '*' xcr0=0x7 reason=guest-lacks:avx'* ]] || fail "$(outcome)"
  else
    assert_printed 'set-xcrs 0x7: 0' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    assert_no_report
  fi
}

@test "an XCR0 after a payload that was trimmed: refused or taken, the shim says that the guest is lost" {
  local keeps=false
  ! keeps_the_table || keeps=true
  run_shimmed create 0 cpuid "$table" set-xsave 0x7 set-xcrs 0x7
  if $keeps; then
    assert_printed 'set-xcrs 0x7: EINVAL'
    [[ $stderr == *' event=trim '*' event=refused '*' ioctl=KVM_SET_XCRS vcpu=0 '*' reason=guest-lacks:avx'* ]] || fail "$(outcome)"
  else
    assert_printed 'set-xcrs 0x7: 0'
    [[ $stderr == *' event=trim '*' level=error event=lost '*' ioctl=KVM_SET_XCRS vcpu=0 '*' xcr0=0x7 lost=avx'* ]] ||
      fail "$(outcome)"
  fi
}

@test "KVM's refusals for XCOMP_BV, a reserved byte and MXCSR are told by their reason" {
  run_shimmed create 0 cpuid 0xd=0x3 set-xsave 0x3,xcomp_bv=0x8000000000000000 \
    create 1 cpuid 0xd=0x3 set-xsave 0x3,reserved=0 create 2 cpuid 0xd=0x3 set-xsave 0x3,reserved=47 \
    create 3 cpuid 0xd=0x3 set-xsave 0x3,mxcsr=0x80001f80
  [[ $(grep -c ': EINVAL xstate_bv=0x3 rest=same$' <<<"$output") == 4 ]]
  [[ $(grep -o 'reason=.*' <<<"$stderr" | xargs) == "reason=xcomp-bv:0x8000000000000000 reason=reserved-bytes `
    `reason=reserved-bytes reason=mxcsr:0x80000000" ]] || fail "$(outcome)"
}

@test "what KVM_GET_XSAVE and KVM_GET_XSAVE2 return is the same with the shim where nothing is leaked" {
  local without
  run_vmm size "${guest[@]}" set-xsave 0x3 get-xsave get-xsave2
  without=$output
  run_shimmed XSAVESHIM_TRIM=both size "${guest[@]}" set-xsave 0x3 get-xsave get-xsave2
  [[ $status == 0 && $output == "$without" ]]
  assert_no_report
}

@test "a raw system call is not seen by the shim" {
  run_shimmed "${guest[@]}" raw set-xsave "$leaky" libc set-xsave "$leaky"
  assert_printed "set-xsave $leaky: EINVAL xstate_bv=$leaky rest=same" "set-xsave $leaky: 0 xstate_bv=0x3 rest=same"
}

@test "calls before the shim's constructor, from a library's constructor, and through dlopen are trimmed" {
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim $build/test/constructor.so" "$build/test/preinit"
  [[ $output == $'preinit: 0 xstate_bv=0x3\nconstructor: 0 xstate_bv=0x3\nmain: 0 xstate_bv=0x3' ]] || fail "$output"
  run --separate-stderr timeout 60 env LD_PRELOAD="$shim" "$build/test/dlopen" "$build/test/constructor.so"
  [[ $output == *'constructor: 0 xstate_bv=0x3'*'program: 0 xstate_bv=0x3'* ]] || fail "$output"
}

@test "the library can be opened at run time, and still works when closed" {
  run timeout 60 env XSAVESHIM_LOG=none "$build/test/dlopen" "$shim"
  [[ $output == *$'library: 0 xstate_bv=0x3\nlibrary closed: 0 xstate_bv=0x3\nprogram: '* ]] || fail "$output"
  [[ $output == *xstate_bv=0x7 ]] # the program's own ioctl is libc's
}

@test "umockdev's preload works behind the shim" {
  local umockdev=libumockdev-preload.so.0
  ldconfig -p | grep -q "$umockdev" || fail "$umockdev is not installed (Debian: umockdev)"
  run_vmm LD_PRELOAD="$shim $umockdev" "${guest[@]}" set-xsave "$leaky" run
  assert_printed "set-xsave $leaky: 0 xstate_bv=0x3 rest=same" 'run: 0 exit=hlt'
}

# The system calls between the marks.
trace() { # LD_PRELOAD STEP...
  local file=$BATS_TEST_TMPDIR/trace preload=$1
  shift
  timeout 60 strace -f -qq -s 200 -o "$file" -E LD_PRELOAD="$preload" "$vmm" "$@" mark end >/dev/null 2>"$BATS_TEST_TMPDIR/stderr"
  sed -n '/mark-begin/,/mark-end/p' "$file" | sed -E 's/^[0-9]+ +//; s/0x[0-9a-f]{6,}/ADDRESS/g'
}

@test "from the process's first CPUID table to its second vCPU's first run the shim makes no system call of its own" {
  local steps
  steps=(size supported "${guest[@]}" mark begin create 1 cpuid 0xd=0x3 get-cpuid none get-xsave set-xsave 0x3 get-xsave run run)
  trace "" "${steps[@]}" >"$BATS_TEST_TMPDIR/without"
  trace "$shim" "${steps[@]}" >"$BATS_TEST_TMPDIR/with"
  grep -q 'KVM_SET_XSAVE' "$BATS_TEST_TMPDIR/without"
  grep -q 'KVM_RUN' "$BATS_TEST_TMPDIR/without"
  diff -u "$BATS_TEST_TMPDIR/without" "$BATS_TEST_TMPDIR/with"
}

@test "a trim adds the write of its report, and a look at where it goes" {
  trace "$shim" "${guest[@]}" mark begin set-xsave "$leaky" >"$BATS_TEST_TMPDIR/with"
  run sed -E '/mark-/d; s/[ (].*//' "$BATS_TEST_TMPDIR/with"
  # the VMM tells of its mark, KVM is called, the shim tells of the trim, and the VMM of the call
  [[ $output == $'write\nioctl\nfstat\nwrite\nwrite' ]] || fail "$output"
  [[ $(grep -c '^write(2, "xsaveshim: level=notice event=trim ' "$BATS_TEST_TMPDIR/with") == 1 ]]
}
