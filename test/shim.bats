# SPDX-License-Identifier: MIT
# The library in front of a stand-in for KVM: the calls that KVM gets, and how the library changes the calls' arguments.

load lib
load shim

setup() {
  need_no_settings_file
  export DEVICE=/dev/null XSAVESHIM_REFUSED=report
  behind=$standin
  lacking=0x10 lacking_name=bndcsr
}

# ---- the tests that kvm.bats has, too ----

@test "without the shim the stand-in refuses the leaky payload and loads nothing of it" { assert_bare_refusal; }
@test "with the shim a leaky payload loads, and the vCPU gets the same state as from a clean payload" { assert_trimmed_restore; }
@test "KVM_SET_CPUID and an empty KVM_SET_CPUID2 table also limit the guest" { assert_v1_and_empty_tables; }
@test "a vCPU without an accepted CPUID table is not trimmed, and the refusal is reported" { assert_untrimmed_without_table; }
@test "an xfeature that the guest's CPUID enumerates is kept even if this host's KVM lacks it" { assert_enumerated_kept; }
@test "each vCPU of a VM is trimmed to its own guest's XCR0" { assert_vcpus_apart; }
@test "a descriptor number that is used again does not keep the old vCPU's table" { assert_reused_number; }
@test "a restore on another thread, in a signal handler or in a forked child is trimmed" {
  assert_trimmed_from thread signal "fork thread" "thread fork" "thread signal"
}
@test "a payload at any alignment, up to the end of its memory, is trimmed and otherwise unchanged" { assert_any_alignment; }
@test "NULL, the first page and the kernel's half of the address space reach KVM unchanged" { assert_bad_addresses; }
@test "a payload in read-only memory loads if nothing is to be trimmed" { assert_read_only_payload; }
@test "refusals for XCOMP_BV, a reserved byte and MXCSR are reported with their reason" { assert_reasons; }
@test "calls from .preinit_array and from a constructor before the shim's are trimmed" { assert_early_calls; }
@test "calls of a library that is opened later are trimmed" { assert_dlopened_library_served; }
@test "after the first CPUID table, restoring a second vCPU adds no system call" { assert_no_system_call cpuid-v1 0xd=0x3 ioctl 0xae80; }
@test "a trim adds one fstat and one write" { assert_system_calls_of_a_trim; }

# ---- dropped xfeatures ----

@test "an xfeature that the guest's CPUID lacks is dropped in the VMM's buffer, before the only call that KVM gets" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "a trim is reported with the dropped xfeatures, and again if there is a new one" {
  run_shimmed_standin create 3 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x217 set-xsave 0x207 set-xsave 0x3
  assert_printed 'set-xsave 0x217: 0 xstate_bv=0x3 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 3 0x207 0x3 0x3 avx,pkru)" "$(trim_report 3 0x217 0x3 0x3 avx,bndcsr,pkru) count=2"
}

@test "a trim that happens again is reported the 10th, 100th and 1,000th time, with its count" {
  local restores=() report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  for _ in {1..1005}; do restores+=(set-xsave 0x207); done
  run_shimmed_standin create 0 cpuid 0xd=0x7 "${restores[@]}"
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 1005 ]]
  assert_reported "$report" "$report count=10" "$report count=100" "$report count=1000"
}

@test "a new vCPU at the same descriptor has its first trim reported" {
  local report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x207 close create 1 cpuid 0xd=0x7 set-xsave 0x207
  [[ $(grep -c '^create [01]: 7$' <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$report" "$(trim_report 1 0x207 0x7 0x7 pkru)"
}

@test "each report has the VMM's pid" {
  run_shimmed_standin pid create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x7,xcomp_bv=1
  [[ $(grep -cE ' event=(trim|refused) pid=[0-9]+ ioctl=' <<<"$stderr") == 2 ]] || fail "$(outcome)"
  [[ $(sed -nE 's/.* pid=([0-9]+) .*/\1/p' <<<"$stderr" | sort -u) == "$(sed -n 's/^pid: //p' <<<"$output")" ]] ||
    fail "$(outcome)"
}

@test "every dropped xfeature is named, and one without a name has its bit number" {
  run_shimmed_standin create 0 cpuid none set-xsave 0xffffffffffffffff
  assert_printed 'set-xsave 0xffffffffffffffff: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 0 0xffffffffffffffff 0x3 0x3 "avx,bndregs,bndcsr,opmask,zmm_hi256,hi16_zmm,pt,pkru,pasid,`
    `cet_u,cet_s,hdc,uintr,lbr,hwp,xtilecfg,xtiledata,apx$(printf ',bit%d' {20..63})")"
}

@test "FP and SSE are kept whatever the guest's CPUID says" {
  local list
  for list in none 0x1 0xd=0x0 0xd=0x4; do
    run_shimmed_standin create 0 cpuid "$list" set-xsave 0x3
    assert_printed 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
    assert_no_report
  done
}

@test "each bit from 2 to 63 is kept if the guest's CPUID enumerates it, and dropped if it does not" {
  local bit mask kept=() dropped=()
  for bit in {2..63}; do
    printf -v mask '0x%x' $((1 << bit | 3))
    kept+=(cpuid "0xd=$mask" set-xsave "$mask")
    dropped+=(cpuid none set-xsave "$mask")
  done
  run_shimmed_standin STANDIN_SUPPORTED=0xffffffffffffffff create 0 "${kept[@]}"
  ((status == 0))
  [[ $(grep -c '^set-xsave \(0x[0-9a-f]*\): 0 xstate_bv=\1 rest=same$' <<<"$output") == 62 ]]
  assert_no_report
  run_shimmed_standin STANDIN_SUPPORTED=0xffffffffffffffff create 0 "${dropped[@]}"
  ((status == 0))
  [[ $(grep -c '^set-xsave 0x[0-9a-f]*: 0 xstate_bv=0x3 rest=same$' <<<"$output") == 62 ]]
}

# ---- other state that KVM refuses ----

state_report() { # CALL REST
  echo "level=notice event=refused-state ioctl=$1 vcpu=0 fd=* $2"
}

@test "the MSR at which KVM_SET_MSRS stopped is reported with its value, once for each MSR" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_MSRS=1 create 0 cpuid 0xd=0x3 set-msrs 0x10=1,0x4b564d00=0x17,0x11 \
    set-msrs 0x10=1,0x4b564d00=0x17,0x11 set-msrs 0x10=1,0x277=0xffffffffffffffff set-msrs 0x10
  assert_printed 'set-msrs 0x10=1,0x4b564d00=0x17,0x11: 1' 'set-msrs 0x10: 1'
  assert_reported "$(state_report KVM_SET_MSRS 'msr=0x4b564d00 value=0x17 set=1 of=3')" \
    "$(state_report KVM_SET_MSRS 'msr=0x277 value=0xffffffffffffffff set=1 of=2 count=3')"
}

@test "a refused KVM_SET_SREGS or KVM_SET_SREGS2 is reported with the registers that the VMM gave" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_SREGS=EINVAL,KVM_SET_SREGS2=EINVAL create 0 cpuid 0xd=0x3 \
    set-sregs 0x80050033,0x3406f0,0xd01,0xfee00900 set-sregs2 0x1,0x2,0x3,0x4
  assert_printed 'set-sregs 0x80050033,0x3406f0,0xd01,0xfee00900: EINVAL' 'set-sregs2 0x1,0x2,0x3,0x4: EINVAL'
  assert_reported \
    "$(state_report KVM_SET_SREGS 'errno=EINVAL cr0=0x80050033 cr4=0x3406f0 efer=0xd01 apic_base=0xfee00900')" \
    "$(state_report KVM_SET_SREGS2 'errno=EINVAL cr0=0x1 cr4=0x2 efer=0x3 apic_base=0x4 count=2')"
}

# The calls for which the VMM has no step of their own, each as NAME NUMBER.
other_state='KVM_SET_VCPU_EVENTS 0x4040aea0
KVM_SET_DEBUGREGS 0x4080aea2
KVM_SET_LAPIC 0x4400ae8f
KVM_SET_NESTED_STATE 0x4080aebf'

@test "each other call for vCPU state that KVM refuses is reported with its errno, and all these calls share one counter" {
  local steps=() expected=("$(state_report KVM_SET_CPUID2 errno=E2BIG)") answers=KVM_SET_CPUID2=E2BIG name number
  while read -r name number; do
    steps+=(ioctl "$number")
    answers+=,$name=EBUSY
    expected+=("$(state_report "$name" "errno=EBUSY count=$((${#expected[@]} + 1))")")
  done <<<"$other_state"
  # the 6th to the 10th
  expected+=("$(state_report KVM_SET_VCPU_EVENTS 'errno=EBUSY count=10')")
  run_shimmed_standin STANDIN_ANSWER="$answers" create 0 cpuid 0xd=0x3 "${steps[@]}" "${steps[@]}" ioctl 0x4040aea0 ioctl 0x4040aea0
  assert_reported "${expected[@]}"
}

@test "the library reports no call whose vCPU state KVM accepts and no call that is for no vCPU, and errno stays" {
  local answer
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_MSRS=2,KVM_SET_SREGS=0,KVM_SET_VCPU_EVENTS=0 create 0 cpuid 0xd=0x3 \
    set-msrs 0x10=1,0x11=2 set-sregs 0x1 ioctl 0x4040aea0
  assert_printed 'set-msrs 0x10=1,0x11=2: 2' 'set-sregs 0x1: 0' 'ioctl 0x4040aea0: 0 xstate_bv=0xffffffffffffffff rest=same'
  assert_no_report
  for answer in EBADF ENOTTY EIO; do
    run_shimmed_standin STANDIN_ANSWER="KVM_SET_MSRS=$answer,KVM_SET_SREGS=$answer" create 0 cpuid 0xd=0x3 set-msrs 0x10 set-sregs 0x1
    assert_printed "set-msrs 0x10: $answer" "set-sregs 0x1: $answer"
    assert_no_report
  done
}

@test "refused state is no reason to end the VMM, and is not reported before a CPUID was set or at level error" {
  local state=(set-sregs 0x1 set-msrs 0x10)
  run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_ANSWER=KVM_SET_SREGS=EINVAL,KVM_SET_MSRS=0 create 0 cpuid 0xd=0x3 "${state[@]}"
  assert_printed 'set-msrs 0x10: 0'
  [[ $(grep -c event=refused-state <<<"$stderr") == 2 ]] || fail "$(outcome)"
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_SREGS=EINVAL,KVM_SET_MSRS=0 create 0 "${state[@]}"
  assert_no_report
  run_shimmed_standin XSAVESHIM_LOG_LEVEL=error STANDIN_ANSWER=KVM_SET_SREGS=EINVAL,KVM_SET_MSRS=0 create 0 cpuid 0xd=0x3 "${state[@]}"
  assert_no_report
}

# ---- CPUID tables ----

assert_cpuid() { # STEP LIST TRIMMED    a payload with XSTATE_BV 0xffff, trimmed by this table
  run_shimmed_standin STANDIN_SUPPORTED=0xffffffffffffffff XSAVESHIM_LOG=none create 0 "$1" "$2" set-xsave 0xffff
  assert_printed "$1 $2: 0" "set-xsave 0xffff: 0 xstate_bv=$3 rest=same"
}

@test "the guest's XCR0 is EDX:EAX of leaf 0xD, index 0" {
  assert_cpuid cpuid 0xd=0x7 0x7
  assert_cpuid cpuid 0x1=0xffff,0xd.0=0x207,0xe=0xffff 0x207
  assert_cpuid cpuid 0x0=0xffff,0x1,0xd.1=0xffff,0xd.0=0xe7,0xd.2=0xffff 0xe7
}

@test "the first entry of leaf 0xD with index 0 is used, not a later one" {
  assert_cpuid cpuid 0xd.0=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd.0=0xe7,0xd.0=0x7 0xe7
}

@test "an entry of leaf 0xD whose index is not significant is used, whatever its index" {
  assert_cpuid cpuid 0xd:1=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd:62=0xe7 0xe7
  assert_cpuid cpuid 0xd.1=0xffff,0xd:0=0x7 0x7
}

@test "without an entry of leaf 0xD, index 0, the guest has only FP and SSE" {
  assert_cpuid cpuid none 0x3
  assert_cpuid cpuid 0x1=0xffff 0x3
  assert_cpuid cpuid 0xd.1=0xffff,0xd.2=0xffff 0x3
  assert_cpuid cpuid 0x8000000d=0xffff,0xe=0xffff,0xc=0xffff 0x3
}

@test "leaf 0xD is found as the last of 256 entries" {
  assert_cpuid cpuid "$(printf '0x%x=0xffff,' {256..510})0xd.0=0x7" 0x7
}

@test "in a KVM_SET_CPUID table the first entry of leaf 0xD is used" {
  assert_cpuid cpuid-v1 0xd=0x7,0xd=0xe7 0x7
  assert_cpuid cpuid-v1 0x1=0xffff,0xd=0xe7,0xd=0x7 0xe7
  assert_cpuid cpuid-v1 "$(printf '0x%x=0xffff,' {256..510})0xd=0x7" 0x7
  assert_cpuid cpuid-v1 0x1=0xffff 0x3
  assert_cpuid cpuid-v1 none 0x3
}

@test "the latest CPUID table is used" {
  run_shimmed_standin create 0 cpuid 0xd=0x3 set-xsave 0x207 cpuid 0xd=0x207 set-xsave 0x207 \
    cpuid-v1 0xd=0x7 set-xsave 0x217
  assert_reported "$(trim_report 0 0x207 0x3 0x3 avx,pkru)" "$(trim_report 0 0x217 0x7 0x7 bndcsr,pkru) count=2"
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x3
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x3
	KVM_SET_CPUID2 vcpu=0 xcr0=0x207
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x207
	KVM_SET_CPUID vcpu=0
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "a KVM_SET_CPUID2 that fails changes nothing" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 cpuid-too-many 0xd=0x207 cpuid-null set-xsave 0x207
  assert_printed 'cpuid-too-many 0xd=0x207: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  run_shimmed_standin create 0 cpuid-too-many 0xd=0x7 cpuid-null set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_CPUID=EINVAL create 0 cpuid-v1 0xd=0x7 set-xsave 0x207
  assert_printed 'cpuid-v1 0xd=0x7: EINVAL' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
}

@test "a CPUID table in memory that cannot be read gets KVM's EFAULT" {
  run_shimmed_standin create 0 cpuid-at 0x10000 cpuid 0xd=0x7 cpuid-at 0xffff800000000000 set-xsave 0x207
  assert_printed 'cpuid-at 0x10000: EFAULT' 'cpuid-at 0xffff800000000000: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

@test "KVM_SET_CPUID2 is no cancellation point, not even when the log is opened" {
  run_vmm LD_PRELOAD="$shim" XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" file /dev/null cpuid-cancelled 0xd=0x3
  assert_printed 'cpuid-cancelled 0xd=0x3: returned'
  [[ -e $BATS_TEST_TMPDIR/log ]] || fail "the log was not opened"
}

@test "for a vCPU without a CPUID table KVM is queried, and nothing is trimmed" {
  run_shimmed_standin create 0 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
  assert_vcpu_calls <<<$'KVM_GET_CPUID2 vcpu=0\nKVM_SET_XSAVE vcpu=0 xstate_bv=0x207'
}

# ---- descriptors ----

@test "vCPUs of different VMs are each trimmed to their own guest's XCR0" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 create 1 cpuid 0xd=0x207 vm create 2 cpuid none create 4095 \
    vcpu 0 set-xsave 0x207 vcpu 1 set-xsave 0x207 vcpu 2 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' \
    'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)" "$(trim_report 2 0x207 0x3 0x3 avx,pkru)"
}

@test "a vCPU with a high id is reported with that id" {
  run_shimmed_standin create 4095 cpuid none set-xsave 0x7
  assert_reported "$(trim_report 4095 0x7 0x3 0x3 avx)"
}

@test "a KVM_CREATE_VCPU that fails changes nothing" {
  run_shimmed_standin STANDIN_ANSWER=KVM_CREATE_VCPU=EEXIST XSAVESHIM_LOG_LEVEL=debug create 0
  assert_printed 'create 0: EEXIST'
  assert_no_report
}

@test "for a duplicated descriptor KVM is queried at each call" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 dup set-xsave 0x207 set-xsave 0x7
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report '?' 0x207 0x7 0x7 pkru)"
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_GET_CPUID2 vcpu=0
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	KVM_GET_CPUID2 vcpu=0
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "a vCPU whose CPUID was set through a duplicate is known by that duplicate" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "a table that was set through a duplicate applies to a payload through the first descriptor" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 vcpu 0 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "a duplicate of a vCPU without a CPUID is not trimmed" {
  run_shimmed_standin create 0 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
}

@test "a payload that a child or a new program loads through an inherited descriptor is trimmed" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 fork set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
  run_shimmed_standin create 0 cpuid 0xd=0x7 exec set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report '?' 0x207 0x7 0x7 pkru)"
}

@test "for a descriptor from 65536 up KVM is queried at each call" {
  local number lowest
  run_standin create 0
  lowest=${output#create 0: }
  for number in 65535 65536 100000 2000000000; do
    run_shimmed_standin STANDIN_HIGH_FDS=$((number - lowest)) create 0 cpuid 0xd=0x7 set-xsave 0x207
    assert_printed "create 0: $number" 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
    {
      echo "KVM_SET_CPUID2 vcpu=0 xcr0=0x7"
      ((number < 65536)) || echo "KVM_GET_CPUID2 vcpu=0"
      echo "KVM_SET_XSAVE vcpu=0 xstate_bv=0x7"
    } | assert_vcpu_calls
  done
}

@test "if KVM does not answer the query, the payload is unchanged and errno is that of the VMM's call" {
  local error
  for error in EIO E2BIG EPERM ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error,KVM_SET_XSAVE=EINTR" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: EINTR xstate_bv=0x207 rest=same'
  done
}

@test "if the VMM calls KVM_GET_CPUID2 for an unknown vCPU, the shim learns its table" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 vcpu 0 get-cpuid none set-xsave 0x207 get-cpuid none
  assert_printed 'get-cpuid none: 0 nent=1 0xd.0=0x7' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_GET_CPUID2 vcpu=0
	KVM_GET_CPUID2 vcpu=0
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	KVM_GET_CPUID2 vcpu=0
	EOF
}

@test "if the VMM's KVM_GET_CPUID2 fails, the shim makes no query" {
  run_shimmed_standin STANDIN_ANSWER=KVM_GET_CPUID2=E2BIG create 0 get-cpuid none
  [[ $output == *'get-cpuid none: E2BIG'* ]]
  assert_vcpu_calls <<<'KVM_GET_CPUID2 vcpu=0'
}

@test "old entries that a KVM_GET_CPUID2 up to Linux 6.4 leaves in the VMM's buffer are ignored" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 get-cpuid 0xd=0x3 set-xsave 0x207
  [[ $output == *'get-cpuid 0xd=0x3: 0 nent=256 0xd.0=0x3'* ]] # a stale leaf 0xD
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup cpuid 0x1=0x1 vcpu 0 get-cpuid 0x0,0xd=0x207 set-xsave 0x207
  [[ $output == *'get-cpuid 0x0,0xd=0x207: 0 nent=256 0xd.0=0x207'* ]]
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
}

@test "the query works with a KVM_GET_CPUID2 up to Linux 6.4, for a vCPU with and without a table" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup set-xsave 0x207 cpuid 0xd=0x7 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

# ---- calls that pass unchanged ----

@test "a descriptor that is no vCPU is never written through" {
  local steps
  for steps in "fd -1" "fd 1000" "fd 65535" "fd 65536" "fd 2147483647" "fd -2147483648" "file /dev/null" \
    "create 0 cpuid 0xd=0x3 fd 3" "create 0 cpuid 0xd=0x3 fd 4"; do
    # shellcheck disable=SC2086 # several words
    run_shimmed_standin XSAVESHIM_TRIM=both $steps set-xsave 0x207 ioctl 0x9000aea4 ioctl 0x9000aecf
    ((status == 0))
    [[ $(grep -cE '^set-xsave 0x207: E[A-Z]+ xstate_bv=0x207 rest=same$' <<<"$output") == 1 ]] || fail "$(outcome)"
    [[ $(grep -cE '^ioctl 0x[0-9a-f]+: E[A-Z]+ xstate_bv=0xffffffffffffffff rest=same$' <<<"$output") == 2 ]] ||
      fail "$(outcome)"
    assert_no_report
  done
}

@test "no other request on a vCPU is changed or adds a call" {
  local number request steps=() expected=()
  for number in {0..255}; do
    for request in $((0xae00 + number)) $((0x5000ae00 + number)) $((0x4008ae00 + number)) $((0xc008ae00 + number)); do
      printf -v request '0x%x' "$request"
      case $request in # requests that the shim or the stand-in handles
        0xae41 | 0xae01 | 0xae03 | 0x4008ae89 | 0x4008ae8a | 0x4008ae90 | 0xc008ae91 | 0xc008ae05 | 0x5000aea5) continue ;;
      esac
      steps+=(ioctl "$request")
      [[ $request == 0xae80 ]] && request=KVM_RUN
      expected+=("$request vcpu=0")
    done
  done
  run_shimmed_standin create 0 cpuid 0xd=0x3 "${steps[@]}"
  ((status == 0))
  [[ $(grep -c '^ioctl .* xstate_bv=0xffffffffffffffff rest=same$' <<<"$output") == "${#expected[@]}" ]]
  assert_vcpu_calls < <(echo 'KVM_SET_CPUID2 vcpu=0 xcr0=0x3'; printf '%s\n' "${expected[@]}")
  assert_no_report
}

@test "errno and result of the real call arrive unchanged" {
  local answer
  for answer in EINVAL EINTR EIO ENOSYS EFAULT ENXIO EAGAIN ENOMEM EPERM EBADF 7; do
    run_shimmed_standin STANDIN_ANSWER="$(printf "%s=$answer," KVM_SET_CPUID2 KVM_SET_CPUID KVM_GET_CPUID2 \
      KVM_SET_XSAVE KVM_GET_XSAVE KVM_GET_XSAVE2 KVM_GET_SUPPORTED_CPUID KVM_RUN)" \
      XSAVESHIM_TRIM=both create 0 cpuid 0xd=0x3 cpuid-v1 0xd=0x3 get-cpuid none set-xsave 0x3 get-xsave \
      get-xsave2 supported ioctl 0xae80
    ((status == 0))
    [[ $(grep -cE "^(cpuid|cpuid-v1|get-cpuid|set-xsave|get-xsave2?|supported|ioctl)( .*)?: $answer( |$)" \
      <<<"$output") == 8 ]] || fail "$answer" "$(outcome)"
  done
}

@test "calls that succeed leave errno alone, even if the shim failed to write" {
  run --separate-stderr bash -c 'exec "$@" 2>/dev/full' - timeout 60 env LD_PRELOAD="$shim $standin" STANDIN_LEAK=0x200 \
    XSAVESHIM_TRIM=both XSAVESHIM_LOG_LEVEL=debug "$vmm" supported create 0 cpuid 0xd=0x7 set-xsave 0x207 get-xsave \
    get-cpuid none dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $output != *errno-touched* ]] || fail "$(outcome)"
}

@test "the lower 32 bits of a request select its handling, and all 64 bits reach KVM" {
  run_shimmed_standin XSAVESHIM_TRIM=both wide supported create 0 dup cpuid 0xd=0x7 set-xsave 0x207 get-xsave \
    vcpu 0 get-cpuid none cpuid-v1 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
  diff -u - "$calls" <<-EOF
	KVM_GET_SUPPORTED_CPUID wide
	KVM_CREATE_VM wide
	KVM_CREATE_VCPU wide
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7 wide
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7 wide
	KVM_GET_XSAVE vcpu=0 wide
	KVM_GET_CPUID2 vcpu=0 wide
	KVM_GET_CPUID2 vcpu=0
	KVM_SET_CPUID vcpu=0 wide
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x3 wide
	EOF
}

# ---- refusals ----

@test "a refusal names the xfeatures that KVM's answer to KVM_GET_SUPPORTED_CPUID lacks" {
  run_shimmed_standin STANDIN_SUPPORTED=0x203 supported create 0 cpuid 0xd=0x207 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "$(refused_report 0x207 host-lacks:avx)"
}

@test "without a KVM_GET_SUPPORTED_CPUID a refusal names the xfeatures that this host's CPU lacks" {
  run_shimmed_standin STANDIN_SUPPORTED=0x7 create 0 cpuid 0xd=0x4000000000000007 set-xsave 0x4000000000000007
  assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=0x4000000000000007 `
    `reason=host-lacks:bit62"
  run_shimmed_standin STANDIN_SUPPORTED=0x7 create 0 cpuid 0xd=0x80007 set-xsave 0x80007
  assert_reported "$(refused_report 0x80007 host-lacks:apx)"
}

@test "a refusal for several reasons names them all, after the report of the trim" {
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x7 \
    set-xsave 0x207,xcomp_bv=0x1,reserved=5,mxcsr=0x10000
  assert_printed 'set-xsave 0x207,xcomp_bv=0x1,reserved=5,mxcsr=0x10000: EINVAL xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)" \
    "$(refused_report 0x7 'host-lacks:avx;xcomp-bv:0x1;reserved-bytes;mxcsr:0x10000')"
}

@test "a refusal that nothing in the payload explains has the reason unknown" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_XSAVE=EINVAL create 0 cpuid 0xd=0x7 set-xsave 0x7
  assert_reported "$(refused_report 0x7 unknown)"
}

@test "with XSAVESHIM_TRIM=none a refusal names the xfeatures that the guest lacks" {
  run_shimmed_standin XSAVESHIM_TRIM=none supported create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "level=notice event=would-trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x207 `
    `dropped=pkru" "$(refused_report 0x207 guest-lacks:pkru)"
}

@test "a failure other than EINVAL is reported by its errno and not blamed on the payload" {
  local error
  for error in EINTR ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_SET_XSAVE=$error" create 0 cpuid 0xd=0x7 set-xsave 0x7
    assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=$error xstate_bv=0x7 `
      `reason=not-the-payload"
  done
}

@test "FP and SSE refused to a guest without XSAVE are loaded under a widened CPUID, which is put back" {
  run_shimmed_standin STANDIN_STRICT=1 create 0 cpuid 0x1=0x1 set-xsave 0x203 get-cpuid none
  assert_printed 'set-xsave 0x203: 0 xstate_bv=0x3 rest=same' 'get-cpuid none: 0 nent=1'
  assert_reported "$(trim_report 0 0x203 0x3 0x3 pkru)" \
    "level=notice event=load-widened ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x3 guest_xcr0=0x0"
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x0
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x3
	KVM_GET_CPUID2 vcpu=0
	KVM_SET_CPUID2 vcpu=0 xcr0=0x3
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x3
	KVM_SET_CPUID2 vcpu=0 xcr0=0x0
	KVM_GET_CPUID2 vcpu=0
	EOF
}

@test "if the CPUID cannot be widened, the refusal is reported and returned" {
  run_shimmed_standin STANDIN_STRICT=1 STANDIN_ANSWER=KVM_GET_CPUID2=EIO create 0 cpuid 0x1=0x1 set-xsave 0x3
  assert_printed 'set-xsave 0x3: EINVAL xstate_bv=0x3 rest=same'
  assert_reported "$(refused_report 0x3 guest-lacks:x87,sse)"
}

# ---- saving ----

@test "KVM_GET_XSAVE's payload is unchanged unless XSAVESHIM_TRIM includes saves" {
  local trim
  for trim in restore none; do
    run_shimmed_standin STANDIN_LEAK=0x200 XSAVESHIM_TRIM=$trim XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 \
      set-xsave 0x7 get-xsave get-xsave2
    assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    [[ $(grep -cE '^get-xsave2?: 0 xstate_bv=0x207 ' <<<"$output") == 2 ]]
  done
}

@test "with XSAVESHIM_TRIM=save KVM_GET_XSAVE's and KVM_GET_XSAVE2's payload is trimmed and otherwise unchanged" {
  local trim line rest
  run_standin STANDIN_LEAK=0x200 create 0 cpuid 0xd=0x7 set-xsave 0x7 get-xsave
  line=$(grep '^get-xsave: 0 xstate_bv=0x207 rest=' <<<"$output")
  rest=${line##*rest=}
  for trim in save both; do
    run_shimmed_standin STANDIN_LEAK=0x200 XSAVESHIM_TRIM=$trim create 0 cpuid 0xd=0x7 set-xsave 0x7 get-xsave \
      create 1 cpuid 0xd=0x7 set-xsave 0x7 get-xsave2
    assert_printed "get-xsave: 0 xstate_bv=0x7 rest=$rest" "get-xsave2: 0 xstate_bv=0x7 rest=$rest"
    assert_reported \
      "level=notice event=trim ioctl=KVM_GET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru" \
      "level=notice event=trim ioctl=KVM_GET_XSAVE2 vcpu=1 fd=* xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru"
    assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	KVM_GET_XSAVE vcpu=0
	KVM_SET_CPUID2 vcpu=1 xcr0=0x7
	KVM_SET_XSAVE vcpu=1 xstate_bv=0x7
	KVM_GET_XSAVE2 vcpu=1
	EOF
  done
}

@test "after a KVM_GET_XSAVE that failed the buffer is unchanged" {
  run_shimmed_standin STANDIN_ANSWER=KVM_GET_XSAVE=EIO XSAVESHIM_TRIM=both create 0 cpuid 0xd=0x7 get-xsave
  [[ $output == *'get-xsave: EIO xstate_bv=0xa5a5a5a5a5a5a5a5 rest='* ]]
  assert_no_report
}

# ---- KVM_SET_XCRS ----

@test "a refused KVM_SET_XCRS is reported with the xfeatures that the guest and the host lack" {
  run_shimmed_standin supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_printed 'set-xcrs 0x7: EINVAL'
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=guest-lacks:avx')"
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=host-lacks:avx;guest-lacks:avx')"
}

@test "by default a refusal with a reason ends the VMM with exit status 1 and action=abort" {
  unset XSAVESHIM_REFUSED
  run_shimmed_standin supported create 0 cpuid 0xd=0x17 set-xsave 0x17 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  assert_reported "$(refused_report 0x17 host-lacks:bndcsr) action=abort"
  [[ $output != *'set-xsave 0x3'* ]] || fail "$(outcome)"
}

@test "abort ends no VMM for an EINVAL without a reason or for another errno" {
  local error
  for error in EINVAL EINTR ENOMEM ENOSYS; do
    run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_ANSWER=KVM_SET_XSAVE=$error create 0 cpuid 0xd=0x7 set-xsave 0x7
    assert_printed "set-xsave 0x7: $error xstate_bv=0x7 rest=same"
    [[ $stderr == *" event=refused "*" errno=$error "* && $stderr != *action=* ]] || fail "$(outcome)"
  done
}

@test "with XSAVESHIM_TRIM=none abort ends no VMM for xfeatures that were left on purpose, but for any other reason" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort XSAVESHIM_TRIM=none supported create 0 cpuid 0xd=0x7 set-xsave 0x207 \
    set-xsave 0x217 set-xcrs 0x207 set-xsave 0x217,xcomp_bv=1 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  [[ $output == *'set-xsave 0x207: EINVAL '*'set-xsave 0x217: EINVAL '*'set-xcrs 0x207: EINVAL'* && $output != *0x3* ]] ||
    fail "$(outcome)"
  # the third refusal is reported only because it ends the VMM
  [[ $(grep -o 'reason=.*' <<<"$(tail -n 1 <<<"$stderr")") == \
    'reason=host-lacks:bndcsr;guest-lacks:bndcsr,pkru;xcomp-bv:0x1 action=abort' ]] || fail "$(outcome)"
}

@test "XSAVESHIM_REFUSED=abort ends the VMM if KVM refuses KVM_SET_XCRS, or if state was lost" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  [[ $stderr == *' event=lost '* ]] || fail "$(outcome)"
}

@test "the xfeatures of an XCR0 that KVM takes before the payload are allowed, even if a table is set in between" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave 0x207 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xcrs 0x7: 0' 'set-xsave 0x207: EINVAL xstate_bv=0x7 rest=same'
  [[ $stderr == *' xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru'* ]] || fail "$(outcome)"
  [[ $stderr != *dropped=avx* ]] || fail "$(outcome)"
}

@test "if KVM takes an XCR0 after one of its xfeatures was dropped, the lost state is reported" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xcrs 0x7
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same' 'set-xcrs 0x7: 0'
  assert_reported "$(trim_report 0 0x207 0x3 0x3 avx,pkru)" "$(xcr0_report lost 'xcr0=0x7 lost=avx')"
}

@test "an XCR0 within the guest's CPUID, or without the dropped xfeatures, causes no report" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x7 set-xcrs 0x7 set-xcrs 0x1
  assert_printed 'set-xcrs 0x7: 0' 'set-xcrs 0x1: 0'
  assert_no_report
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "if an untrimmed payload was loaded after a trimmed one, no state is lost" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x7 0x3 0x3 avx)"
}

# ---- threads, constructors, other libraries ----

@test "if eight vCPUs set CPUID tables and restore at once, each payload is trimmed to its own vCPU's table, and no report is torn" {
  local log=$BATS_TEST_TMPDIR/log report='level=notice event=trim pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=[0-7] fd=[0-9]+'
  timeout 60 env DEVICE=/dev/null XSAVESHIM_LOG="$log" LD_PRELOAD="$shim $standin" STANDIN_SUPPORTED=0xff \
    "$build/test/threads"
  [[ $(wc -l <"$log") -ge 24 ]] # of each vCPU's 175 trims: the 1st, 10th, 100th, and those with a new bit
  report+=' xstate_bv=0xff allowed=0x([0-9a-f]+) after=0x\1 dropped=[a-z0-9_,]+( count=[0-9]+)?'
  run grep -vxE "xsaveshim: $report" "$log"
  ((status == 1)) || fail "torn: $output"
}

@test "a trim before the shim's constructor is reported and follows the settings" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin $build/test/constructor.so" \
    "$vmm" ioctl 0
  assert_printed 'constructor: 0 xstate_bv=0x3'
  assert_reported 'level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 allowed=0x3 after=0x3 dropped=avx'
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none \
    LD_PRELOAD="$shim $standin $build/test/constructor.so" "$vmm" ioctl 0
  assert_printed 'constructor: EINVAL xstate_bv=0x7'
}

@test "the settings hold in a program whose first call came before libc had the environment" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" \
    LD_PRELOAD="$shim $standin" "$build/test/preinit"
  assert_printed 'main: EINVAL xstate_bv=0x7'
  grep -q ' event=would-trim ' "$BATS_TEST_TMPDIR/log"
}

@test "calls before libc has the environment leave no descriptor open" {
  local opened closed
  listen
  run --separate-stderr privately timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin" \
    strace -f -qq -e trace=fcntl,close -o "$BATS_TEST_TMPDIR/trace" "$build/test/preinit"
  stop_listening
  assert_printed 'main: 0 xstate_bv=0x3'
  opened=$(grep -cE 'F_DUPFD_CLOEXEC, 1000\) += 1' "$BATS_TEST_TMPDIR/trace")
  closed=$(grep -cE 'close\(1[0-9]{3}\) += 0' "$BATS_TEST_TMPDIR/trace")
  ((opened >= 2 && opened - closed == 1)) || fail "$opened opened, $closed closed" "$(<"$BATS_TEST_TMPDIR/trace")"
}

@test "other interposers stay in the chain: one in front sees the VMM's payload, one behind sees the trimmed one" {
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/front.so"
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/behind.so"
  run_standin LD_PRELOAD="$BATS_TEST_TMPDIR/front.so $shim $BATS_TEST_TMPDIR/behind.so $standin" \
    XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $stderr == $'front.so: xstate_bv=0x207\nbehind.so: xstate_bv=0x7' ]]
}
