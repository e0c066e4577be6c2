# SPDX-License-Identifier: MIT
# Tests the library in front of a fake KVM (standin.so): which calls the fake KVM gets, and how the library changes their arguments.

load lib
load shim

setup() {
  need_no_settings_file
  export DEVICE=/dev/null XSAVESHIM_REFUSED=report
  behind=$standin
  lacking=0x10 lacking_name=bndcsr
}

# ---- tests that kvm.bats repeats on real KVM ----

@test "without the library, the fake KVM refuses a leaky payload and loads nothing of it" { assert_bare_refusal; }
@test "with the library, a leaky payload loads, and the vCPU gets the same state as from a clean payload" { assert_trimmed_restore; }
@test "after KVM_SET_CPUID, or KVM_SET_CPUID2 with an empty table, the library also trims the payload" { assert_v1_and_empty_tables; }
@test "if KVM accepted no CPUID table for a vCPU, the library does not change the vCPU's payload, and reports KVM's refusal" { assert_untrimmed_without_table; }
@test "the library keeps an xfeature that the guest's CPUID enumerates, even if the host's KVM does not support it" { assert_enumerated_kept; }
@test "in a VM with two vCPUs, each vCPU's payload is trimmed to the xfeatures of that vCPU's own CPUID table" { assert_vcpus_apart; }
@test "if a new vCPU gets a closed vCPU's descriptor number, the library forgets the closed vCPU's CPUID table" { assert_reused_number; }
@test "the library trims a payload that is loaded on another thread, in a signal handler or in a forked child" {
  assert_trimmed_from thread signal "fork thread" "thread fork" "thread signal"
}
@test "the library trims a payload at any alignment, even at the end of readable memory, and changes only XSTATE_BV" { assert_any_alignment; }
@test "if a payload's address is NULL, in the first page or in the kernel's half, the library passes it to KVM, which answers EFAULT" { assert_bad_addresses; }
@test "a clean payload loads from read-only memory, because the library does not write to it" { assert_read_only_payload; }
@test "if KVM refuses a payload for its XCOMP_BV, a reserved byte or its MXCSR, the library's report names that reason" { assert_reasons; }
@test "the library trims payloads that a program loads from .preinit_array, or from a constructor that runs before the library's" { assert_early_calls; }
@test "if a program opens another library with dlopen, the payloads that this other library loads are trimmed, too" { assert_dlopened_library_served; }
@test "after the first vCPU's CPUID table, the library adds no system call to the restore of a second vCPU" { assert_no_system_call cpuid-v1 0xd=0x3 ioctl 0xae80; }
@test "a trim with its report adds two system calls: one fstat and one write" { assert_system_calls_of_a_trim; }

# ---- which xfeatures the library drops, and what it reports ----

@test "if the guest's CPUID lacks an xfeature, the library clears its bit in the VMM's buffer, and KVM gets only the trimmed payload" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "the report of a trim names the dropped xfeatures, and a later trim that drops a new xfeature is reported, too" {
  run_shimmed_standin create 3 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x217 set-xsave 0x207 set-xsave 0x3
  assert_printed 'set-xsave 0x217: 0 xstate_bv=0x3 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 3 0x207 0x3 0x3 avx,pkru)" "$(trim_report 3 0x217 0x3 0x3 avx,bndcsr,pkru) count=2"
}

@test "if the same trim repeats, the library reports it again the 10th, 100th and 1,000th time, with the count" {
  local restores=() report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  for _ in {1..1005}; do restores+=(set-xsave 0x207); done
  run_shimmed_standin create 0 cpuid 0xd=0x7 "${restores[@]}"
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 1005 ]]
  assert_reported "$report" "$report count=10" "$report count=100" "$report count=1000"
}

@test "if a new vCPU gets a closed vCPU's descriptor number, the library reports the new vCPU's first trim" {
  local report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x207 close create 1 cpuid 0xd=0x7 set-xsave 0x207
  [[ $(grep -c '^create [01]: 7$' <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$report" "$(trim_report 1 0x207 0x7 0x7 pkru)"
}

@test "each report of a trim or a refusal has the VMM's pid" {
  run_shimmed_standin pid create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x7,xcomp_bv=1
  [[ $(grep -cE ' event=(trim|refused) pid=[0-9]+ ioctl=' <<<"$stderr") == 2 ]] || fail "$(outcome)"
  [[ $(sed -nE 's/.* pid=([0-9]+) .*/\1/p' <<<"$stderr" | sort -u) == "$(sed -n 's/^pid: //p' <<<"$output")" ]] ||
    fail "$(outcome)"
}

@test "the report of a trim lists every dropped xfeature by its name, or by its bit number if it has no name" {
  run_shimmed_standin create 0 cpuid none set-xsave 0xffffffffffffffff
  assert_printed 'set-xsave 0xffffffffffffffff: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 0 0xffffffffffffffff 0x3 0x3 "avx,bndregs,bndcsr,opmask,zmm_hi256,hi16_zmm,pt,pkru,pasid,`
    `cet_u,cet_s,hdc,uintr,lbr,hwp,xtilecfg,xtiledata,apx$(printf ',bit%d' {20..63})")"
}

@test "the library keeps FP and SSE in a payload whatever the guest's CPUID says" {
  local list
  for list in none 0x1 0xd=0x0 0xd=0x4; do
    run_shimmed_standin create 0 cpuid "$list" set-xsave 0x3
    assert_printed 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
    assert_no_report
  done
}

@test "the library keeps each bit from 2 to 63 of XSTATE_BV if the guest's CPUID enumerates the xfeature, and clears it otherwise" {
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

# ---- MSRs, control registers and other vCPU state that KVM refuses ----

state_report() { # CALL REST
  echo "level=notice event=refused-state ioctl=$1 vcpu=0 fd=* $2"
}

@test "if KVM_SET_MSRS stops at an MSR, the library reports that MSR and its value, once for each MSR" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_MSRS=1 create 0 cpuid 0xd=0x3 set-msrs 0x10=1,0x4b564d00=0x17,0x11 \
    set-msrs 0x10=1,0x4b564d00=0x17,0x11 set-msrs 0x10=1,0x277=0xffffffffffffffff set-msrs 0x10
  assert_printed 'set-msrs 0x10=1,0x4b564d00=0x17,0x11: 1' 'set-msrs 0x10: 1'
  assert_reported "$(state_report KVM_SET_MSRS 'msr=0x4b564d00 value=0x17 set=1 of=3')" \
    "$(state_report KVM_SET_MSRS 'msr=0x277 value=0xffffffffffffffff set=1 of=2 count=3')"
}

@test "if KVM refuses KVM_SET_SREGS or KVM_SET_SREGS2, the library reports the register values that the VMM passed" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_SREGS=EINVAL,KVM_SET_SREGS2=EINVAL create 0 cpuid 0xd=0x3 \
    set-sregs 0x80050033,0x3406f0,0xd01,0xfee00900 set-sregs2 0x1,0x2,0x3,0x4
  assert_printed 'set-sregs 0x80050033,0x3406f0,0xd01,0xfee00900: EINVAL' 'set-sregs2 0x1,0x2,0x3,0x4: EINVAL'
  assert_reported \
    "$(state_report KVM_SET_SREGS 'errno=EINVAL cr0=0x80050033 cr4=0x3406f0 efer=0xd01 apic_base=0xfee00900')" \
    "$(state_report KVM_SET_SREGS2 'errno=EINVAL cr0=0x1 cr4=0x2 efer=0x3 apic_base=0x4 count=2')"
}

# KVM calls for which the test program vmm.c has no step. Each line is NAME NUMBER.
other_state='KVM_SET_VCPU_EVENTS 0x4040aea0
KVM_SET_DEBUGREGS 0x4080aea2
KVM_SET_LAPIC 0x4400ae8f
KVM_SET_NESTED_STATE 0x4080aebf'

@test "if KVM refuses another call that sets vCPU state, the library reports it with its errno, and one counter counts all such calls" {
  local steps=() expected=("$(state_report KVM_SET_CPUID2 errno=E2BIG)") answers=KVM_SET_CPUID2=E2BIG name number
  while read -r name number; do
    steps+=(ioctl "$number")
    answers+=,$name=EBUSY
    expected+=("$(state_report "$name" "errno=EBUSY count=$((${#expected[@]} + 1))")")
  done <<<"$other_state"
  # the library reports only the 10th of the further refused calls
  expected+=("$(state_report KVM_SET_VCPU_EVENTS 'errno=EBUSY count=10')")
  run_shimmed_standin STANDIN_ANSWER="$answers" create 0 cpuid 0xd=0x3 "${steps[@]}" "${steps[@]}" ioctl 0x4040aea0 ioctl 0x4040aea0
  assert_reported "${expected[@]}"
}

@test "the library reports neither vCPU state that KVM accepts nor failures with EBADF, ENOTTY or EIO, and keeps KVM's errno" {
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

@test "if KVM refuses MSRs or SREGS, XSAVESHIM_REFUSED=abort does not end the VMM; before a CPUID table or at level error no report comes" {
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

assert_cpuid() { # STEP LIST TRIMMED    checks that the table LIST trims a payload with XSTATE_BV 0xffff to TRIMMED
  run_shimmed_standin STANDIN_SUPPORTED=0xffffffffffffffff XSAVESHIM_LOG=none create 0 "$1" "$2" set-xsave 0xffff
  assert_printed "$1 $2: 0" "set-xsave 0xffff: 0 xstate_bv=$3 rest=same"
}

@test "the library takes the guest's XCR0 from EDX:EAX of CPUID leaf 0xD, index 0" {
  assert_cpuid cpuid 0xd=0x7 0x7
  assert_cpuid cpuid 0x1=0xffff,0xd.0=0x207,0xe=0xffff 0x207
  assert_cpuid cpuid 0x0=0xffff,0x1,0xd.1=0xffff,0xd.0=0xe7,0xd.2=0xffff 0xe7
}

@test "if a CPUID table has several entries of leaf 0xD, index 0, the library uses the first one" {
  assert_cpuid cpuid 0xd.0=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd.0=0xe7,0xd.0=0x7 0xe7
}

@test "the library uses an entry of leaf 0xD without KVM_CPUID_FLAG_SIGNIFCANT_INDEX, whatever its index" {
  assert_cpuid cpuid 0xd:1=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd:62=0xe7 0xe7
  assert_cpuid cpuid 0xd.1=0xffff,0xd:0=0x7 0x7
}

@test "if the CPUID table has no entry of leaf 0xD, index 0, the library trims the payload to FP and SSE" {
  assert_cpuid cpuid none 0x3
  assert_cpuid cpuid 0x1=0xffff 0x3
  assert_cpuid cpuid 0xd.1=0xffff,0xd.2=0xffff 0x3
  assert_cpuid cpuid 0x8000000d=0xffff,0xe=0xffff,0xc=0xffff 0x3
}

@test "the library finds leaf 0xD even as the last of a CPUID table's 256 entries" {
  assert_cpuid cpuid "$(printf '0x%x=0xffff,' {256..510})0xd.0=0x7" 0x7
}

@test "in a table that KVM_SET_CPUID sets, the library uses the first entry of leaf 0xD" {
  assert_cpuid cpuid-v1 0xd=0x7,0xd=0xe7 0x7
  assert_cpuid cpuid-v1 0x1=0xffff,0xd=0xe7,0xd=0x7 0xe7
  assert_cpuid cpuid-v1 "$(printf '0x%x=0xffff,' {256..510})0xd=0x7" 0x7
  assert_cpuid cpuid-v1 0x1=0xffff 0x3
  assert_cpuid cpuid-v1 none 0x3
}

@test "if the VMM sets a vCPU's CPUID table several times, the library trims by the latest table" {
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

@test "if KVM_SET_CPUID or KVM_SET_CPUID2 fails, the library ignores its table and trims as before" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 cpuid-too-many 0xd=0x207 cpuid-null set-xsave 0x207
  assert_printed 'cpuid-too-many 0xd=0x207: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  run_shimmed_standin create 0 cpuid-too-many 0xd=0x7 cpuid-null set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_CPUID=EINVAL create 0 cpuid-v1 0xd=0x7 set-xsave 0x207
  assert_printed 'cpuid-v1 0xd=0x7: EINVAL' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
}

@test "if a CPUID table is in memory that cannot be read, the VMM gets KVM's EFAULT" {
  run_shimmed_standin create 0 cpuid-at 0x10000 cpuid 0xd=0x7 cpuid-at 0xffff800000000000 set-xsave 0x207
  assert_printed 'cpuid-at 0x10000: EFAULT' 'cpuid-at 0xffff800000000000: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

@test "if a pthread_cancel is pending, KVM_SET_CPUID2 still returns, even when the library opens its log in that call" {
  run_vmm LD_PRELOAD="$shim" XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" file /dev/null cpuid-cancelled 0xd=0x3
  assert_printed 'cpuid-cancelled 0xd=0x3: returned'
  [[ -e $BATS_TEST_TMPDIR/log ]] || fail "the log was not opened"
}

@test "if a vCPU has no CPUID table, the library calls KVM_GET_CPUID2 before the vCPU's payload is loaded, and trims nothing" {
  run_shimmed_standin create 0 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
  assert_vcpu_calls <<<$'KVM_GET_CPUID2 vcpu=0\nKVM_SET_XSAVE vcpu=0 xstate_bv=0x207'
}

# ---- descriptors ----

@test "if a process has two VMs, the library trims each vCPU's payload by that vCPU's own CPUID table" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 create 1 cpuid 0xd=0x207 vm create 2 cpuid none create 4095 \
    vcpu 0 set-xsave 0x207 vcpu 1 set-xsave 0x207 vcpu 2 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' \
    'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)" "$(trim_report 2 0x207 0x3 0x3 avx,pkru)"
}

@test "the report of a trim has the vCPU's id, even an id as high as 4095" {
  run_shimmed_standin create 4095 cpuid none set-xsave 0x7
  assert_reported "$(trim_report 4095 0x7 0x3 0x3 avx)"
}

@test "if KVM_CREATE_VCPU fails, the VMM gets KVM's errno, and the library reports nothing" {
  run_shimmed_standin STANDIN_ANSWER=KVM_CREATE_VCPU=EEXIST XSAVESHIM_LOG_LEVEL=debug create 0
  assert_printed 'create 0: EEXIST'
  assert_no_report
}

@test "if the VMM loads payloads through a duplicated vCPU descriptor, the library calls KVM_GET_CPUID2 before each of them" {
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

@test "if the VMM sets the CPUID table through a duplicated descriptor, a payload through that duplicate needs no KVM_GET_CPUID2" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "a CPUID table that was set through a duplicated descriptor also applies to a payload through the original descriptor" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 vcpu 0 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "if a vCPU has no CPUID table, the library does not trim a payload through a duplicate of the vCPU's descriptor" {
  run_shimmed_standin create 0 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
}

@test "the library trims a payload that a forked child or a new program after exec loads through an inherited vCPU descriptor" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 fork set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
  run_shimmed_standin create 0 cpuid 0xd=0x7 exec set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report '?' 0x207 0x7 0x7 pkru)"
}

@test "if a vCPU's descriptor is 65536 or higher, the library calls KVM_GET_CPUID2 before each payload" {
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

@test "if the library's KVM_GET_CPUID2 fails, the payload is unchanged, and the VMM gets the errno of its own KVM_SET_XSAVE" {
  local error
  for error in EIO E2BIG EPERM ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error,KVM_SET_XSAVE=EINTR" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: EINTR xstate_bv=0x207 rest=same'
  done
}

@test "if the VMM calls KVM_GET_CPUID2 for a vCPU whose CPUID table the library does not know, the library learns the table" {
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

@test "if the VMM's own KVM_GET_CPUID2 fails, the library does not call KVM_GET_CPUID2 again" {
  run_shimmed_standin STANDIN_ANSWER=KVM_GET_CPUID2=E2BIG create 0 get-cpuid none
  [[ $output == *'get-cpuid none: E2BIG'* ]]
  assert_vcpu_calls <<<'KVM_GET_CPUID2 vcpu=0'
}

@test "the library ignores the old entries that KVM_GET_CPUID2 of Linux up to 6.4 leaves in the VMM's buffer" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 get-cpuid 0xd=0x3 set-xsave 0x207
  [[ $output == *'get-cpuid 0xd=0x3: 0 nent=256 0xd.0=0x3'* ]] # this is the VMM's old entry of leaf 0xD
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup cpuid 0x1=0x1 vcpu 0 get-cpuid 0x0,0xd=0x207 set-xsave 0x207
  [[ $output == *'get-cpuid 0x0,0xd=0x207: 0 nent=256 0xd.0=0x207'* ]]
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
}

@test "the library can read a vCPU's CPUID table with KVM_GET_CPUID2 of Linux up to 6.4, which does not write nent back" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup set-xsave 0x207 cpuid 0xd=0x7 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

# ---- calls that pass unchanged ----

@test "if a descriptor is not a vCPU, the library does not write to the VMM's buffer" {
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

@test "the library passes every other ioctl of a vCPU to KVM unchanged, and adds no call of its own" {
  local number request steps=() expected=()
  for number in {0..255}; do
    for request in $((0xae00 + number)) $((0x5000ae00 + number)) $((0x4008ae00 + number)) $((0xc008ae00 + number)); do
      printf -v request '0x%x' "$request"
      case $request in # the library or the fake KVM handles these requests
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

@test "the VMM gets the result and the errno of KVM's call unchanged" {
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

@test "a call that succeeds leaves errno unchanged, even if the library failed to write its report" {
  run --separate-stderr bash -c 'exec "$@" 2>/dev/full' - timeout 60 env LD_PRELOAD="$shim $standin" STANDIN_LEAK=0x200 \
    XSAVESHIM_TRIM=both XSAVESHIM_LOG_LEVEL=debug "$vmm" supported create 0 cpuid 0xd=0x7 set-xsave 0x207 get-xsave \
    get-cpuid none dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $output != *errno-touched* ]] || fail "$(outcome)"
}

@test "the library recognizes an ioctl request by its lower 32 bits, and passes all 64 bits to KVM" {
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

# ---- payloads that KVM refuses ----

@test "the report of a refused payload names the xfeatures that KVM's answer to KVM_GET_SUPPORTED_CPUID lacks" {
  run_shimmed_standin STANDIN_SUPPORTED=0x203 supported create 0 cpuid 0xd=0x207 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "$(refused_report 0x207 host-lacks:avx)"
}

@test "if the VMM never called KVM_GET_SUPPORTED_CPUID, the report of a refused payload names the xfeatures that the host's CPU lacks" {
  run_shimmed_standin STANDIN_SUPPORTED=0x7 create 0 cpuid 0xd=0x4000000000000007 set-xsave 0x4000000000000007
  assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=0x4000000000000007 `
    `reason=host-lacks:bit62"
  run_shimmed_standin STANDIN_SUPPORTED=0x7 create 0 cpuid 0xd=0x80007 set-xsave 0x80007
  assert_reported "$(refused_report 0x80007 host-lacks:apx)"
}

@test "if KVM refuses a trimmed payload for several reasons, the library reports the trim, and then the refusal with all reasons" {
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x7 \
    set-xsave 0x207,xcomp_bv=0x1,reserved=5,mxcsr=0x10000
  assert_printed 'set-xsave 0x207,xcomp_bv=0x1,reserved=5,mxcsr=0x10000: EINVAL xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)" \
    "$(refused_report 0x7 'host-lacks:avx;xcomp-bv:0x1;reserved-bytes;mxcsr:0x10000')"
}

@test "if nothing in a refused payload explains KVM's refusal, the report has reason=unknown" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_XSAVE=EINVAL create 0 cpuid 0xd=0x7 set-xsave 0x7
  assert_reported "$(refused_report 0x7 unknown)"
}

@test "with XSAVESHIM_TRIM=none, the report of a refused payload names the xfeatures that the guest lacks" {
  run_shimmed_standin XSAVESHIM_TRIM=none supported create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "level=notice event=would-trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x207 `
    `dropped=pkru" "$(refused_report 0x207 guest-lacks:pkru)"
}

@test "if KVM_SET_XSAVE fails with another errno than EINVAL, the report has that errno and does not blame the payload" {
  local error
  for error in EINTR ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_SET_XSAVE=$error" create 0 cpuid 0xd=0x7 set-xsave 0x7
    assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=$error xstate_bv=0x7 `
      `reason=not-the-payload"
  done
}

@test "if KVM refuses FP and SSE for a guest without XSAVE, the library adds them to the CPUID, loads the payload and resets the CPUID" {
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

@test "if the library cannot add FP and SSE to the CPUID of a guest without XSAVE, it reports KVM's refusal and returns EINVAL" {
  run_shimmed_standin STANDIN_STRICT=1 STANDIN_ANSWER=KVM_GET_CPUID2=EIO create 0 cpuid 0x1=0x1 set-xsave 0x3
  assert_printed 'set-xsave 0x3: EINVAL xstate_bv=0x3 rest=same'
  assert_reported "$(refused_report 0x3 guest-lacks:x87,sse)"
}

# ---- payloads that the VMM saves ----

@test "with XSAVESHIM_TRIM=restore or none, the library does not change what KVM_GET_XSAVE and KVM_GET_XSAVE2 return" {
  local trim
  for trim in restore none; do
    run_shimmed_standin STANDIN_LEAK=0x200 XSAVESHIM_TRIM=$trim XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 \
      set-xsave 0x7 get-xsave get-xsave2
    assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    [[ $(grep -cE '^get-xsave2?: 0 xstate_bv=0x207 ' <<<"$output") == 2 ]]
  done
}

@test "with XSAVESHIM_TRIM=save or both, the library trims what KVM_GET_XSAVE and KVM_GET_XSAVE2 return, and changes nothing else" {
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

@test "if KVM_GET_XSAVE fails, the library does not change the VMM's buffer" {
  run_shimmed_standin STANDIN_ANSWER=KVM_GET_XSAVE=EIO XSAVESHIM_TRIM=both create 0 cpuid 0xd=0x7 get-xsave
  [[ $output == *'get-xsave: EIO xstate_bv=0xa5a5a5a5a5a5a5a5 rest='* ]]
  assert_no_report
}

# ---- XCR0 and the setting XSAVESHIM_REFUSED ----

@test "if KVM refuses KVM_SET_XCRS, the library reports which xfeatures of its XCR0 the guest or the host lacks" {
  run_shimmed_standin supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_printed 'set-xcrs 0x7: EINVAL'
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=guest-lacks:avx')"
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=host-lacks:avx;guest-lacks:avx')"
}

@test "by default a refused payload with a known reason ends the VMM with exit status 1, and the report has action=abort" {
  unset XSAVESHIM_REFUSED
  run_shimmed_standin supported create 0 cpuid 0xd=0x17 set-xsave 0x17 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  assert_reported "$(refused_report 0x17 host-lacks:bndcsr) action=abort"
  [[ $output != *'set-xsave 0x3'* ]] || fail "$(outcome)"
}

@test "XSAVESHIM_REFUSED=abort does not end the VMM if KVM_SET_XSAVE fails with EINVAL for no known reason, or with another errno" {
  local error
  for error in EINVAL EINTR ENOMEM ENOSYS; do
    run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_ANSWER=KVM_SET_XSAVE=$error create 0 cpuid 0xd=0x7 set-xsave 0x7
    assert_printed "set-xsave 0x7: $error xstate_bv=0x7 rest=same"
    [[ $stderr == *" event=refused "*" errno=$error "* && $stderr != *action=* ]] || fail "$(outcome)"
  done
}

@test "with XSAVESHIM_TRIM=none, XSAVESHIM_REFUSED=abort ends the VMM only for a reason other than untrimmed xfeatures" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort XSAVESHIM_TRIM=none supported create 0 cpuid 0xd=0x7 set-xsave 0x207 \
    set-xsave 0x217 set-xcrs 0x207 set-xsave 0x217,xcomp_bv=1 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  [[ $output == *'set-xsave 0x207: EINVAL '*'set-xsave 0x217: EINVAL '*'set-xcrs 0x207: EINVAL'* && $output != *0x3* ]] ||
    fail "$(outcome)"
  # The library reports the third refused payload only because this payload ends the VMM.
  [[ $(grep -o 'reason=.*' <<<"$(tail -n 1 <<<"$stderr")") == \
    'reason=host-lacks:bndcsr;guest-lacks:bndcsr,pkru;xcomp-bv:0x1 action=abort' ]] || fail "$(outcome)"
}

@test "XSAVESHIM_REFUSED=abort ends the VMM if KVM refuses KVM_SET_XCRS, or accepts an XCR0 with an xfeature that was dropped before" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  [[ $stderr == *' event=lost '* ]] || fail "$(outcome)"
}

@test "if KVM accepts an XCR0 before the payload, the library keeps the xfeatures of that XCR0, even if a smaller CPUID table follows" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave 0x207 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xcrs 0x7: 0' 'set-xsave 0x207: EINVAL xstate_bv=0x7 rest=same'
  [[ $stderr == *' xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru'* ]] || fail "$(outcome)"
  [[ $stderr != *dropped=avx* ]] || fail "$(outcome)"
}

@test "if KVM accepts an XCR0 with an xfeature that the library dropped before, the library reports the lost state" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xcrs 0x7
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same' 'set-xcrs 0x7: 0'
  assert_reported "$(trim_report 0 0x207 0x3 0x3 avx,pkru)" "$(xcr0_report lost 'xcr0=0x7 lost=avx')"
}

@test "an XCR0 within the guest's CPUID causes no report, even if the library dropped another xfeature before" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x7 set-xcrs 0x7 set-xcrs 0x1
  assert_printed 'set-xcrs 0x7: 0' 'set-xcrs 0x1: 0'
  assert_no_report
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "if a clean payload follows a trimmed one, a later XCR0 with the dropped xfeature is not reported as lost state" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x7 0x3 0x3 avx)"
}

# ---- threads, constructors, other libraries ----

@test "if eight threads set CPUID tables and load payloads at once, each payload is trimmed by its own vCPU's table, and no report is torn" {
  local log=$BATS_TEST_TMPDIR/log report='level=notice event=trim pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=[0-7] fd=[0-9]+'
  timeout 60 env DEVICE=/dev/null XSAVESHIM_LOG="$log" LD_PRELOAD="$shim $standin" STANDIN_SUPPORTED=0xff \
    "$build/test/threads"
  [[ $(wc -l <"$log") -ge 24 ]] # for each vCPU, the library reports the 1st, 10th and 100th trim, and a trim of a new bit
  report+=' xstate_bv=0xff allowed=0x([0-9a-f]+) after=0x\1 dropped=[a-z0-9_,]+( count=[0-9]+)?'
  run grep -vxE "xsaveshim: $report" "$log"
  ((status == 1)) || fail "torn: $output"
}

@test "a trim that happens before the library's constructor runs is reported and follows the settings" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin $build/test/constructor.so" \
    "$vmm" ioctl 0
  assert_printed 'constructor: 0 xstate_bv=0x3'
  assert_reported 'level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 allowed=0x3 after=0x3 dropped=avx'
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none \
    LD_PRELOAD="$shim $standin $build/test/constructor.so" "$vmm" ioctl 0
  assert_printed 'constructor: EINVAL xstate_bv=0x7'
}

@test "if a program's first ioctl comes before libc has the environment, the environment's settings still apply to later calls" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" \
    LD_PRELOAD="$shim $standin" "$build/test/preinit"
  assert_printed 'main: EINVAL xstate_bv=0x7'
  grep -q ' event=would-trim ' "$BATS_TEST_TMPDIR/log"
}

@test "if the library opened its log before libc had the environment, it opens the log again and closes the earlier descriptors" {
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

@test "of two other preloaded libraries, the one in front of xsaveshim sees the VMM's payload, and the one behind sees the trimmed one" {
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/front.so"
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/behind.so"
  run_standin LD_PRELOAD="$BATS_TEST_TMPDIR/front.so $shim $BATS_TEST_TMPDIR/behind.so $standin" \
    XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $stderr == $'front.so: xstate_bv=0x207\nbehind.so: xstate_bv=0x7' ]]
}
