# SPDX-License-Identifier: MIT
# Tests xsaveshim's library in front of a fake KVM (standin.so): which calls the fake KVM gets, and how the library has changed the
# calls' arguments.

load lib
load shim

setup() {
  need_no_settings_file
  export DEVICE=/dev/null XSAVESHIM_REFUSED=report
  behind=$standin
  lacking=0x10 lacking_name=bndcsr
}

# ---- tests that kvm.bats repeats on real KVM ----

@test "without the library, the tests' fake KVM refuses a payload with a leaked xfeature, and the vCPU's state does not change" { assert_bare_refusal; }
@test "with the library, KVM loads a payload with a leaked xfeature, and the vCPU gets the same state as from a clean payload" { assert_trimmed_restore; }
@test "if the VMM sets a CPUID table with KVM_SET_CPUID, or an empty one with KVM_SET_CPUID2, the library trims the vCPU's payload by this table" { assert_v1_and_empty_tables; }
@test "if KVM accepted no CPUID table for a vCPU, the library does not change the vCPU's payload, and reports that KVM refuses this payload" { assert_untrimmed_without_table; }
@test "if the guest's CPUID enumerates an xfeature, the library keeps it in the payload, even if the host's KVM does not support it" { assert_enumerated_kept; }
@test "in a VM with two vCPUs, the library trims each vCPU's payload to the xfeatures in that vCPU's own CPUID table" { assert_vcpus_apart; }
@test "if a new vCPU gets a closed vCPU's descriptor number, the library does not apply the closed vCPU's CPUID table to the new vCPU" { assert_reused_number; }
@test "the library trims a payload that the VMM loads on a second thread, in a signal handler or in a forked child" {
  assert_trimmed_from thread signal "fork thread" "thread fork" "thread signal"
}
@test "the library can trim a payload at any alignment, even directly before unreadable memory, and changes only its XSTATE_BV" { assert_any_alignment; }
@test "if a payload's address is NULL, 0xfff or in kernel space, the library does not crash, and the VMM gets the fake KVM's EFAULT" { assert_bad_addresses; }
@test "the library never writes to a payload that needs no trim, so that the VMM can load this payload from read-only memory" { assert_read_only_payload; }
@test "if KVM refuses a payload because of a bad XCOMP_BV, reserved byte or MXCSR, the library's report names that reason" { assert_reasons; }
@test "the library trims a payload that a program loads in a .preinit_array function, or in a constructor that runs before the library's own" { assert_early_calls; }
@test "if a program opens a second library with dlopen, xsaveshim's library trims the payloads that this second library loads" { assert_dlopened_library_served; }
@test "after the VMM has set the first vCPU's CPUID table, the library adds no system call to the restore of a second vCPU" { assert_no_system_call cpuid-v1 0xd=0x3 ioctl 0xae80; }
@test "to trim a payload and report the trim, the library adds only two system calls, an fstat and a write" { assert_system_calls_of_a_trim; }

# ---- which xfeatures the library drops, and what it reports ----

@test "if a payload has an xfeature that the guest's CPUID lacks, the library clears the xfeature's bit in XSTATE_BV before KVM gets the payload" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "the library reports a vCPU's first trim, and a later trim that drops an xfeature that no report has named yet; each report names all xfeatures that its trim drops" {
  run_shimmed_standin create 3 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x217 set-xsave 0x207 set-xsave 0x3
  assert_printed 'set-xsave 0x217: 0 xstate_bv=0x3 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 3 0x207 0x3 0x3 avx,pkru)" "$(trim_report 3 0x217 0x3 0x3 avx,bndcsr,pkru) count=2"
}

@test "if the library drops the same xfeature of a vCPU 1,005 times, it reports only the 1st, 10th, 100th and 1,000th trim" {
  local restores=() report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  for _ in {1..1005}; do restores+=(set-xsave 0x207); done
  run_shimmed_standin create 0 cpuid 0xd=0x7 "${restores[@]}"
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 1005 ]]
  assert_reported "$report" "$report count=10" "$report count=100" "$report count=1000"
}

@test "if a new vCPU gets a closed vCPU's descriptor number, the library reports the new vCPU's first trim, even if it has reported the same trim for the closed vCPU" {
  local report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x207 close create 1 cpuid 0xd=0x7 set-xsave 0x207
  [[ $(grep -c '^create [01]: 7$' <<<"$output") == 2 ]] || fail "$(outcome)"
  assert_reported "$report" "$(trim_report 1 0x207 0x7 0x7 pkru)"
}

@test "in each report of a trim or of a payload that KVM refused, the field pid is the VMM's process ID" {
  run_shimmed_standin pid create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xsave 0x7,xcomp_bv=1
  [[ $(grep -cE ' event=(trim|refused) pid=[0-9]+ ioctl=' <<<"$stderr") == 2 ]] || fail "$(outcome)"
  [[ $(sed -nE 's/.* pid=([0-9]+) .*/\1/p' <<<"$stderr" | sort -u) == "$(sed -n 's/^pid: //p' <<<"$output")" ]] ||
    fail "$(outcome)"
}

@test "the library's report of a trim lists every dropped xfeature by name, or by bit number if the xfeature has no name" {
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

@test "for each bit from 2 to 63 of XSTATE_BV, the library keeps the bit if the guest's CPUID enumerates that xfeature, and clears it otherwise" {
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

@test "if KVM_SET_MSRS stops before an MSR that KVM refuses, the library reports that MSR and its value, but not the second refusal of the same MSR" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_MSRS=1 create 0 cpuid 0xd=0x3 set-msrs 0x10=1,0x4b564d00=0x17,0x11 \
    set-msrs 0x10=1,0x4b564d00=0x17,0x11 set-msrs 0x10=1,0x277=0xffffffffffffffff set-msrs 0x10
  assert_printed 'set-msrs 0x10=1,0x4b564d00=0x17,0x11: 1' 'set-msrs 0x10: 1'
  assert_reported "$(state_report KVM_SET_MSRS 'msr=0x4b564d00 value=0x17 set=1 of=3')" \
    "$(state_report KVM_SET_MSRS 'msr=0x277 value=0xffffffffffffffff set=1 of=2 count=3')"
}

@test "if KVM refuses KVM_SET_SREGS or KVM_SET_SREGS2, the library reports the CR0, CR4, EFER and APIC base that the VMM passed" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_SREGS=EINVAL,KVM_SET_SREGS2=EINVAL create 0 cpuid 0xd=0x3 \
    set-sregs 0x80050033,0x3406f0,0xd01,0xfee00900 set-sregs2 0x1,0x2,0x3,0x4
  assert_printed 'set-sregs 0x80050033,0x3406f0,0xd01,0xfee00900: EINVAL' 'set-sregs2 0x1,0x2,0x3,0x4: EINVAL'
  assert_reported \
    "$(state_report KVM_SET_SREGS 'errno=EINVAL cr0=0x80050033 cr4=0x3406f0 efer=0xd01 apic_base=0xfee00900')" \
    "$(state_report KVM_SET_SREGS2 'errno=EINVAL cr0=0x1 cr4=0x2 efer=0x3 apic_base=0x4 count=2')"
}

# The names and request numbers of more ioctls that set vCPU state. With the arguments `ioctl NUMBER`, the test program vmm calls
# the ioctl that has this request number.
other_state='KVM_SET_VCPU_EVENTS 0x4040aea0
KVM_SET_DEBUGREGS 0x4080aea2
KVM_SET_LAPIC 0x4400ae8f
KVM_SET_NESTED_STATE 0x4080aebf'

@test "if KVM refuses a call such as KVM_SET_CPUID2 or KVM_SET_LAPIC, the library reports the call, the errno and the count of refused calls so far" {
  local steps=() expected=("$(state_report KVM_SET_CPUID2 errno=E2BIG)") answers=KVM_SET_CPUID2=E2BIG name number
  while read -r name number; do
    steps+=(ioctl "$number")
    answers+=,$name=EBUSY
    expected+=("$(state_report "$name" "errno=EBUSY count=$((${#expected[@]} + 1))")")
  done <<<"$other_state"
  # The library reports each call's first refusal (here the 1st to 5th refusal of all calls), and the 10th refusal of all calls.
  expected+=("$(state_report KVM_SET_VCPU_EVENTS 'errno=EBUSY count=10')")
  run_shimmed_standin STANDIN_ANSWER="$answers" create 0 cpuid 0xd=0x3 "${steps[@]}" "${steps[@]}" ioctl 0x4040aea0 ioctl 0x4040aea0
  assert_reported "${expected[@]}"
}

@test "if KVM_SET_MSRS or KVM_SET_SREGS succeeds, or fails with EBADF, ENOTTY or EIO, the library reports nothing and returns KVM's result" {
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

@test "if KVM refuses MSRs or SREGS, XSAVESHIM_REFUSED=abort does not end the VMM, and XSAVESHIM_LOG_LEVEL=error suppresses the report" {
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

assert_cpuid() { # STEP LIST TRIMMED    checks that with the CPUID table LIST, XSTATE_BV 0xffff is trimmed to TRIMMED
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

@test "if a CPUID entry of leaf 0xD lacks the flag KVM_CPUID_FLAG_SIGNIFCANT_INDEX, the library takes the guest's XCR0 from this entry, whatever its index" {
  assert_cpuid cpuid 0xd:1=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd:62=0xe7 0xe7
  assert_cpuid cpuid 0xd.1=0xffff,0xd:0=0x7 0x7
}

@test "if the CPUID table has no entry of leaf 0xD, index 0, the library trims everything but FP and SSE from the payload" {
  assert_cpuid cpuid none 0x3
  assert_cpuid cpuid 0x1=0xffff 0x3
  assert_cpuid cpuid 0xd.1=0xffff,0xd.2=0xffff 0x3
  assert_cpuid cpuid 0x8000000d=0xffff,0xe=0xffff,0xc=0xffff 0x3
}

@test "the library finds leaf 0xD even if it is the last of 256 entries in the CPUID table" {
  assert_cpuid cpuid "$(printf '0x%x=0xffff,' {256..510})0xd.0=0x7" 0x7
}

@test "if the VMM sets the CPUID table with KVM_SET_CPUID, whose entries have no index, the library uses the first entry of leaf 0xD" {
  assert_cpuid cpuid-v1 0xd=0x7,0xd=0xe7 0x7
  assert_cpuid cpuid-v1 0x1=0xffff,0xd=0xe7,0xd=0x7 0xe7
  assert_cpuid cpuid-v1 "$(printf '0x%x=0xffff,' {256..510})0xd=0x7" 0x7
  assert_cpuid cpuid-v1 0x1=0xffff 0x3
  assert_cpuid cpuid-v1 none 0x3
}

@test "if the VMM sets a vCPU's CPUID table several times, the library trims the vCPU's payloads by the latest table" {
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

@test "if KVM refuses a CPUID table, the library ignores that table, and trims by the vCPU's earlier table or, without one, not at all" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 cpuid-too-many 0xd=0x207 cpuid-null set-xsave 0x207
  assert_printed 'cpuid-too-many 0xd=0x207: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  run_shimmed_standin create 0 cpuid-too-many 0xd=0x7 cpuid-null set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_CPUID=EINVAL create 0 cpuid-v1 0xd=0x7 set-xsave 0x207
  assert_printed 'cpuid-v1 0xd=0x7: EINVAL' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
}

@test "if KVM_SET_CPUID2 gets an unreadable address, the library does not crash, and the VMM gets KVM's EFAULT" {
  run_shimmed_standin create 0 cpuid-at 0x10000 cpuid 0xd=0x7 cpuid-at 0xffff800000000000 set-xsave 0x207
  assert_printed 'cpuid-at 0x10000: EFAULT' 'cpuid-at 0xffff800000000000: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

@test "if a thread has a pending pthread_cancel and calls KVM_SET_CPUID2, the call returns, even if the library opens its log during the call" {
  run_vmm LD_PRELOAD="$shim" XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" file /dev/null cpuid-cancelled 0xd=0x3
  assert_printed 'cpuid-cancelled 0xd=0x3: returned'
  [[ -e $BATS_TEST_TMPDIR/log ]] || fail "the library did not create its log file"
}

@test "if a vCPU has no CPUID table, the library calls KVM_GET_CPUID2 before it passes on KVM_SET_XSAVE, and trims nothing" {
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

@test "the library's report of a trim has the id of the vCPU, even an id as high as 4095" {
  run_shimmed_standin create 4095 cpuid none set-xsave 0x7
  assert_reported "$(trim_report 4095 0x7 0x3 0x3 avx)"
}

@test "if KVM_CREATE_VCPU fails, the VMM gets KVM's errno, and the library reports nothing" {
  run_shimmed_standin STANDIN_ANSWER=KVM_CREATE_VCPU=EEXIST XSAVESHIM_LOG_LEVEL=debug create 0
  assert_printed 'create 0: EEXIST'
  assert_no_report
}

@test "if the VMM loads payloads through a duplicated vCPU descriptor, the library gets the CPUID table by KVM_GET_CPUID2 before each load" {
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

@test "if the VMM sets the CPUID table and loads a payload through the same duplicated vCPU descriptor, the library trims the payload without calling KVM_GET_CPUID2" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "if the VMM sets the CPUID table through a duplicated vCPU descriptor, the library uses this table to trim payloads that are loaded through the original descriptor" {
  run_shimmed_standin create 0 dup cpuid 0xd=0x7 vcpu 0 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "if a vCPU has no CPUID table, the library does not trim a payload that the VMM loads through a duplicate of the vCPU's descriptor" {
  run_shimmed_standin create 0 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
}

@test "the library trims a payload that a forked child, or a program started by exec, loads through an inherited vCPU descriptor" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 fork set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
  run_shimmed_standin create 0 cpuid 0xd=0x7 exec set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report '?' 0x207 0x7 0x7 pkru)"
}

@test "if a vCPU's descriptor number is 65536 or higher, the library gets the CPUID table by KVM_GET_CPUID2 before each load of a payload" {
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

@test "if the library's KVM_GET_CPUID2 fails, the library does not trim the payload, and the VMM gets the result of its own KVM_SET_XSAVE" {
  local error
  for error in EIO E2BIG EPERM ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error,KVM_SET_XSAVE=EINTR" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: EINTR xstate_bv=0x207 rest=same'
  done
}

@test "if the VMM calls KVM_GET_CPUID2 for a vCPU whose CPUID table the library does not know, the library learns the table from KVM's answer" {
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

@test "on Linux up to 6.4, whose KVM_GET_CPUID2 does not update nent, the library ignores entries that the VMM's buffer held before the call" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 get-cpuid 0xd=0x3 set-xsave 0x207
  [[ $output == *'get-cpuid 0xd=0x3: 0 nent=256 0xd.0=0x3'* ]] # this is the VMM's old entry of leaf 0xD
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup cpuid 0x1=0x1 vcpu 0 get-cpuid 0x0,0xd=0x207 set-xsave 0x207
  [[ $output == *'get-cpuid 0x0,0xd=0x207: 0 nent=256 0xd.0=0x207'* ]]
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
}

@test "on Linux up to 6.4, whose KVM_GET_CPUID2 does not update nent, the library's own KVM_GET_CPUID2 reads the vCPU's CPUID table correctly" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup set-xsave 0x207 cpuid 0xd=0x7 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

# ---- calls that pass unchanged ----

@test "if KVM_SET_XSAVE or KVM_GET_XSAVE is called on a descriptor that is not a vCPU, the library does not change the VMM's buffer" {
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

@test "if the library does not handle a vCPU ioctl, it passes the ioctl to KVM unchanged, and adds no call of its own" {
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

@test "for each ioctl that the library handles, the VMM gets KVM's result and errno unchanged" {
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

@test "a successful ioctl leaves the VMM's errno unchanged, even if the library failed to write a report during the ioctl" {
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

@test "if KVM refuses a payload, the library's report names the payload's xfeatures that KVM_GET_SUPPORTED_CPUID did not list" {
  run_shimmed_standin STANDIN_SUPPORTED=0x203 supported create 0 cpuid 0xd=0x207 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "$(refused_report 0x207 host-lacks:avx)"
}

@test "if KVM refuses a payload and the VMM never called KVM_GET_SUPPORTED_CPUID, the library's report names the payload's xfeatures that the host's CPU lacks" {
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

@test "if KVM refuses a payload and nothing in the payload explains why, the library's report has reason=unknown" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_XSAVE=EINVAL create 0 cpuid 0xd=0x7 set-xsave 0x7
  assert_reported "$(refused_report 0x7 unknown)"
}

@test "with XSAVESHIM_TRIM=none, if KVM refuses a payload, the library's report names the payload's xfeatures that the guest's CPUID lacks" {
  run_shimmed_standin XSAVESHIM_TRIM=none supported create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "level=notice event=would-trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x7 after=0x207 `
    `dropped=pkru" "$(refused_report 0x207 guest-lacks:pkru)"
}

@test "if KVM_SET_XSAVE fails with EINTR or ENOSYS, the library's report has that errno and says that the payload is not the reason" {
  local error
  for error in EINTR ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_SET_XSAVE=$error" create 0 cpuid 0xd=0x7 set-xsave 0x7
    assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=$error xstate_bv=0x7 `
      `reason=not-the-payload"
  done
}

@test "if KVM refuses FP and SSE for a guest without XSAVE, the library adds both to the guest's CPUID, loads the payload, and restores the CPUID" {
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

@test "if the library cannot add FP and SSE to the CPUID of a guest without XSAVE, it reports and returns KVM's EINVAL" {
  run_shimmed_standin STANDIN_STRICT=1 STANDIN_ANSWER=KVM_GET_CPUID2=EIO create 0 cpuid 0x1=0x1 set-xsave 0x3
  assert_printed 'set-xsave 0x3: EINVAL xstate_bv=0x3 rest=same'
  assert_reported "$(refused_report 0x3 guest-lacks:x87,sse)"
}

# ---- payloads that the VMM saves ----

@test "with XSAVESHIM_TRIM=restore or none, the library does not change the payloads that KVM_GET_XSAVE and KVM_GET_XSAVE2 return" {
  local trim
  for trim in restore none; do
    run_shimmed_standin STANDIN_LEAK=0x200 XSAVESHIM_TRIM=$trim XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 \
      set-xsave 0x7 get-xsave get-xsave2
    assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    [[ $(grep -cE '^get-xsave2?: 0 xstate_bv=0x207 ' <<<"$output") == 2 ]]
  done
}

@test "with XSAVESHIM_TRIM=save or both, the library trims the payloads that KVM_GET_XSAVE and KVM_GET_XSAVE2 return, and changes only XSTATE_BV" {
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

@test "if KVM refuses an XCR0, the library reports which of the XCR0's xfeatures the guest's CPUID or the host lacks" {
  run_shimmed_standin supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_printed 'set-xcrs 0x7: EINVAL'
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=guest-lacks:avx')"
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=host-lacks:avx;guest-lacks:avx')"
}

@test "by default, if KVM refuses a payload for a known reason, the library reports action=abort and ends the VMM" {
  unset XSAVESHIM_REFUSED
  run_shimmed_standin supported create 0 cpuid 0xd=0x17 set-xsave 0x17 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  assert_reported "$(refused_report 0x17 host-lacks:bndcsr) action=abort"
  [[ $output != *'set-xsave 0x3'* ]] || fail "$(outcome)"
}

@test "if KVM_SET_XSAVE fails with EINVAL for no known reason, or with another errno, XSAVESHIM_REFUSED=abort does not end the VMM" {
  local error
  for error in EINVAL EINTR ENOMEM ENOSYS; do
    run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_ANSWER=KVM_SET_XSAVE=$error create 0 cpuid 0xd=0x7 set-xsave 0x7
    assert_printed "set-xsave 0x7: $error xstate_bv=0x7 rest=same"
    [[ $stderr == *" event=refused "*" errno=$error "* && $stderr != *action=* ]] || fail "$(outcome)"
  done
}

@test "with XSAVESHIM_TRIM=none, XSAVESHIM_REFUSED=abort ends the VMM for a bad XCOMP_BV, but not if untrimmed xfeatures are the only reason for KVM's refusal" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort XSAVESHIM_TRIM=none supported create 0 cpuid 0xd=0x7 set-xsave 0x207 \
    set-xsave 0x217 set-xcrs 0x207 set-xsave 0x217,xcomp_bv=1 set-xsave 0x3
  ((status == 1)) || fail "$(outcome)"
  [[ $output == *'set-xsave 0x207: EINVAL '*'set-xsave 0x217: EINVAL '*'set-xcrs 0x207: EINVAL'* && $output != *0x3* ]] ||
    fail "$(outcome)"
  # The earlier reports name all xfeatures of the third refused payload. The library reports this refusal only because the refusal
  # ends the VMM.
  [[ $(grep -o 'reason=.*' <<<"$(tail -n 1 <<<"$stderr")") == \
    'reason=host-lacks:bndcsr;guest-lacks:bndcsr,pkru;xcomp-bv:0x1 action=abort' ]] || fail "$(outcome)"
}

@test "if KVM refuses an XCR0, or accepts one with an xfeature that the library dropped from the payload, XSAVESHIM_REFUSED=abort ends the VMM" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  [[ $stderr == *' event=lost '* ]] || fail "$(outcome)"
}

@test "after KVM has accepted an XCR0, the library keeps the XCR0's xfeatures in later payloads, even if a later CPUID table lacks these xfeatures" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave 0x207 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xcrs 0x7: 0' 'set-xsave 0x207: EINVAL xstate_bv=0x7 rest=same'
  [[ $stderr == *' xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru'* ]] || fail "$(outcome)"
  [[ $stderr != *dropped=avx* ]] || fail "$(outcome)"
}

@test "if KVM accepts an XCR0 with an xfeature that the library dropped from the payload before, the library reports the xfeature's state as lost" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xcrs 0x7
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same' 'set-xcrs 0x7: 0'
  assert_reported "$(trim_report 0 0x207 0x3 0x3 avx,pkru)" "$(xcr0_report lost 'xcr0=0x7 lost=avx')"
}

@test "if the VMM sets an XCR0 that has only xfeatures of the guest's CPUID, the library reports no lost state, even if it dropped other xfeatures before" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x7 set-xcrs 0x7 set-xcrs 0x1
  assert_printed 'set-xcrs 0x7: 0' 'set-xcrs 0x1: 0'
  assert_no_report
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "if the VMM loads a clean payload after a trimmed one, and then sets an XCR0 with the dropped xfeature, the library reports no lost state" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x7 0x3 0x3 avx)"
}

# ---- threads, constructors, other libraries ----

@test "if eight threads set CPUID tables and load payloads at once, the library trims each payload correctly, and writes only whole reports" {
  local log=$BATS_TEST_TMPDIR/log report='level=notice event=trim pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=[0-7] fd=[0-9]+'
  timeout 60 env DEVICE=/dev/null XSAVESHIM_LOG="$log" LD_PRELOAD="$shim $standin" STANDIN_SUPPORTED=0xff \
    "$build/test/threads"
  [[ $(wc -l <"$log") -ge 24 ]] # for each vCPU, the library reports the 1st, 10th and 100th trim, and a trim of a new bit
  report+=' xstate_bv=0xff allowed=0x([0-9a-f]+) after=0x\1 dropped=[a-z0-9_,]+( count=[0-9]+)?'
  run grep -vxE "xsaveshim: $report" "$log"
  ((status == 1)) || fail "torn: $output"
}

@test "the library applies XSAVESHIM_TRIM even to a payload that a program loads before the library's constructor has run" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin $build/test/constructor.so" \
    "$vmm" ioctl 0
  assert_printed 'constructor: 0 xstate_bv=0x3'
  assert_reported 'level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 allowed=0x3 after=0x3 dropped=avx'
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none \
    LD_PRELOAD="$shim $standin $build/test/constructor.so" "$vmm" ioctl 0
  assert_printed 'constructor: EINVAL xstate_bv=0x7'
}

@test "if a program's first ioctl call comes before libc has initialized the environment, the library applies the settings in the environment to later ioctls" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" \
    LD_PRELOAD="$shim $standin" "$build/test/preinit"
  assert_printed 'main: EINVAL xstate_bv=0x7'
  grep -q ' event=would-trim ' "$BATS_TEST_TMPDIR/log"
}

@test "if the library opened its log before libc had initialized the environment, it opens the log again afterwards, and keeps only the last descriptor open" {
  local opened closed
  listen
  run --separate-stderr privately timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin" \
    strace -f -qq -e trace=fcntl,close -o "$BATS_TEST_TMPDIR/trace" "$build/test/preinit"
  stop_listening
  assert_printed 'main: 0 xstate_bv=0x3'
  opened=$(grep -cE 'F_DUPFD_CLOEXEC, 1000\) += 1' "$BATS_TEST_TMPDIR/trace")
  closed=$(grep -cE 'close\(1[0-9]{3}\) += 0' "$BATS_TEST_TMPDIR/trace")
  ((opened >= 2 && opened - closed == 1)) ||
    fail "the library opened $opened descriptors of its log, and closed $closed" "$(<"$BATS_TEST_TMPDIR/trace")"
}

@test "in LD_PRELOAD, a library in front of xsaveshim's library sees the untrimmed payload, and a library behind it sees the trimmed payload" {
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/front.so"
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/behind.so"
  run_standin LD_PRELOAD="$BATS_TEST_TMPDIR/front.so $shim $BATS_TEST_TMPDIR/behind.so $standin" \
    XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $stderr == $'front.so: xstate_bv=0x207\nbehind.so: xstate_bv=0x7' ]]
}
