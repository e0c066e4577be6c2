# SPDX-License-Identifier: MIT
# The shim in front of a stand-in for KVM: which calls it makes and what it does to their arguments.

load lib

setup() {
  need_no_settings_file
}

trim_report() { # VCPU XSTATE_BV ALLOWED WRITTEN DROPPED
  echo "level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=$1 fd=* xstate_bv=$2 allowed=$3 after=$4 dropped=$5"
}

refused_report() { # XSTATE_BV REASON
  echo "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=$1 reason=$2"
}

# ---- what is dropped, and what never is ----

@test "without the shim the stand-in refuses a leaky payload" {
  run_standin create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
}

@test "a bit that the guest's CPUID lacks is dropped, in place, before the one call that KVM gets" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_vcpu_calls <<-EOF
	KVM_SET_CPUID2 vcpu=0 xcr0=0x7
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x7
	EOF
}

@test "a trim is reported with what was dropped, and again when more is" {
  run_shimmed_standin create 3 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x217 set-xsave 0x207 set-xsave 0x3
  assert_printed 'set-xsave 0x217: 0 xstate_bv=0x3 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 3 0x207 0x3 0x3 avx,pkru)" "$(trim_report 3 0x217 0x3 0x3 avx,bndcsr,pkru) count=2"
}

@test "a trim that limit itself is reported at its 10th, 100th and 1,000th time, with the count" {
  local restores=() report
  report=$(trim_report 0 0x207 0x7 0x7 pkru)
  for _ in {1..1005}; do restores+=(set-xsave 0x207); done
  run_shimmed_standin create 0 cpuid 0xd=0x7 "${restores[@]}"
  [[ $(grep -cxF 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' <<<"$output") == 1005 ]]
  assert_reported "$report" "$report count=10" "$report count=100" "$report count=1000"
}

@test "a vCPU made anew at the same descriptor has its reports anew" {
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

@test "every dropped feature is named, one without a name by its number" {
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

@test "a component that the guest's CPUID enumerates is never dropped, not even one that this host lacks" {
  run_shimmed_standin STANDIN_SUPPORTED=0x7 supported create 0 cpuid 0xd=0xe7 set-xsave 0xe7
  assert_printed 'set-xsave 0xe7: EINVAL xstate_bv=0xe7 rest=same'
  assert_reported "$(refused_report 0xe7 host-lacks:opmask,zmm_hi256,hi16_zmm)"
}

@test "each bit from 2 to 63 is kept where the guest's CPUID enumerates it, and dropped where it does not" {
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

@test "a payload at any alignment, ending where its memory ends, is trimmed and otherwise left as it is" {
  local shift steps=() expected=()
  for shift in {0..64}; do
    steps+=(set-xsave "0x207,shift=$shift")
    expected+=("set-xsave 0x207,shift=$shift: 0 xstate_bv=0x7 rest=same")
  done
  run_shimmed_standin XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 "${steps[@]}"
  assert_printed "${expected[@]}"
}

@test "a payload in read-only memory goes through where nothing needs trimming" {
  run_shimmed_standin create 0 set-xsave 0x207,readonly cpuid 0xd=0x7 set-xsave 0x7,readonly \
    dup set-xsave 0x7,readonly
  assert_printed 'set-xsave 0x207,readonly: 0 xstate_bv=0x207 rest=same' \
    'set-xsave 0x7,readonly: 0 xstate_bv=0x7 rest=same'
  [[ $(grep -c '^set-xsave 0x7,readonly: 0 ' <<<"$output") == 2 ]]
  assert_no_report
}

@test "NULL, the first page and the kernel's half go through as they are, and KVM answers" {
  local address
  for address in 0 0xfff 0x8000000000000000 0xffff800000000000 0xffffffffffffffff; do
    run_shimmed_standin XSAVESHIM_TRIM=both create 0 \
      cpuid 0xd=0x7 set-xsave-at "$address" get-xsave-at "$address" dup set-xsave-at "$address"
    assert_printed "set-xsave-at $address: EFAULT" "get-xsave-at $address: EFAULT"
    [[ $(grep -c "^set-xsave-at $address: EFAULT$" <<<"$output") == 2 ]]
  done
}

# ---- what a vCPU's CPUID is ----

# Each case: the entries, and the payload 0xffff trimmed to what they enumerate.
assert_cpuid() { # STEP LIST TRIMMED
  run_shimmed_standin STANDIN_SUPPORTED=0xffffffffffffffff XSAVESHIM_LOG=none create 0 "$1" "$2" set-xsave 0xffff
  assert_printed "$1 $2: 0" "set-xsave 0xffff: 0 xstate_bv=$3 rest=same"
}

@test "the guest's XCR0 is EDX:EAX of leaf 0xD, index 0" {
  assert_cpuid cpuid 0xd=0x7 0x7
  assert_cpuid cpuid 0x1=0xffff,0xd.0=0x207,0xe=0xffff 0x207
  assert_cpuid cpuid 0x0=0xffff,0x1,0xd.1=0xffff,0xd.0=0xe7,0xd.2=0xffff 0xe7
}

@test "the first entry of leaf 0xD with index 0 counts, not a later one" {
  assert_cpuid cpuid 0xd.0=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd.0=0xe7,0xd.0=0x7 0xe7
}

@test "an entry of leaf 0xD whose index is not significant counts whatever its index" {
  assert_cpuid cpuid 0xd:1=0x7,0xd.0=0xe7 0x7
  assert_cpuid cpuid 0xd:62=0xe7 0xe7
  assert_cpuid cpuid 0xd.1=0xffff,0xd:0=0x7 0x7
}

@test "without an entry of leaf 0xD, index 0, the guest has FP and SSE alone" {
  assert_cpuid cpuid none 0x3
  assert_cpuid cpuid 0x1=0xffff 0x3
  assert_cpuid cpuid 0xd.1=0xffff,0xd.2=0xffff 0x3
  assert_cpuid cpuid 0x8000000d=0xffff,0xe=0xffff,0xc=0xffff 0x3
}

@test "leaf 0xD is found as the last of 256 entries" {
  assert_cpuid cpuid "$(printf '0x%x=0xffff,' {256..510})0xd.0=0x7" 0x7
}

@test "the entries of KVM_SET_CPUID have no index: the first of leaf 0xD counts" {
  assert_cpuid cpuid-v1 0xd=0x7,0xd=0xe7 0x7
  assert_cpuid cpuid-v1 0x1=0xffff,0xd=0xe7,0xd=0x7 0xe7
  assert_cpuid cpuid-v1 "$(printf '0x%x=0xffff,' {256..510})0xd=0x7" 0x7
  assert_cpuid cpuid-v1 0x1=0xffff 0x3
  assert_cpuid cpuid-v1 none 0x3
}

@test "the latest CPUID counts" {
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

@test "a KVM_SET_CPUID2 that failed changes nothing" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 cpuid-too-many 0xd=0x207 cpuid-null set-xsave 0x207
  assert_printed 'cpuid-too-many 0xd=0x207: E2BIG' 'cpuid-null: EFAULT' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  run_shimmed_standin create 0 cpuid-too-many 0xd=0x7 cpuid-null set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_CPUID=EINVAL create 0 cpuid-v1 0xd=0x7 set-xsave 0x207
  assert_printed 'cpuid-v1 0xd=0x7: EINVAL' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
}

@test "before its first CPUID a vCPU is not trimmed, and KVM is not asked" {
  run_shimmed_standin create 0 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
  assert_vcpu_calls <<<'KVM_SET_XSAVE vcpu=0 xstate_bv=0x207'
}

# ---- which vCPU it is ----

@test "each vCPU is trimmed to its own guest's XCR0, in one VM and in another" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 create 1 cpuid 0xd=0x207 vm create 2 cpuid none create 4095 \
    vcpu 0 set-xsave 0x207 vcpu 1 set-xsave 0x207 vcpu 2 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' \
    'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)" "$(trim_report 2 0x207 0x3 0x3 avx,pkru)"
}

@test "a vCPU with a high id is told by that id" {
  run_shimmed_standin create 4095 cpuid none set-xsave 0x7
  assert_reported "$(trim_report 4095 0x7 0x3 0x3 avx)"
}

@test "a vCPU that could not be created is not one" {
  run_shimmed_standin STANDIN_ANSWER=KVM_CREATE_VCPU=EEXIST XSAVESHIM_LOG_LEVEL=debug create 0
  assert_printed 'create 0: EEXIST'
  assert_no_report
}

@test "a descriptor number that was used before is not taken for the vCPU that had it" {
  run_shimmed_standin create 0 cpuid 0xd=0x3 close create 1 set-xsave 0x207 cpuid 0xd=0x7 set-xsave 0x207
  [[ $(sed -n 's/^create .: //p' <<<"$output" | sort -u | wc -l) == 1 ]] # both had the same number
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_reported "$(trim_report 1 0x207 0x7 0x7 pkru)"
}

@test "a duplicated descriptor has KVM asked, each time" {
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

@test "a duplicate of a vCPU without a CPUID is not trimmed" {
  run_shimmed_standin create 0 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  assert_no_report
}

@test "a descriptor inherited by a child, or by a new program, is trimmed" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 fork set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
  run_shimmed_standin create 0 cpuid 0xd=0x7 exec set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report '?' 0x207 0x7 0x7 pkru)"
}

@test "a descriptor from 65536 up, beyond the table, has KVM asked, however its CPUID was set" {
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

@test "where KVM cannot be asked the payload goes through untouched, and errno is the call's own" {
  local error
  for error in EIO E2BIG EPERM ENOSYS; do
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
    run_shimmed_standin STANDIN_ANSWER="KVM_GET_CPUID2=$error,KVM_SET_XSAVE=EINTR" create 0 dup set-xsave 0x207
    assert_printed 'set-xsave 0x207: EINTR xstate_bv=0x207 rest=same'
  done
}

@test "a vCPU that got its CPUID unseen is asked about once the VMM asks too" {
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

@test "a KVM_GET_CPUID2 that failed has nobody asked" {
  run_shimmed_standin STANDIN_ANSWER=KVM_GET_CPUID2=E2BIG create 0 get-cpuid none set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  [[ $output == *'get-cpuid none: E2BIG'* ]]
  assert_vcpu_calls <<-EOF
	KVM_GET_CPUID2 vcpu=0
	KVM_SET_XSAVE vcpu=0 xstate_bv=0x207
	EOF
}

@test "nothing is learned from what a KVM_GET_CPUID2 up to Linux 6.4 leaves in the VMM's buffer" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 get-cpuid 0xd=0x3 set-xsave 0x207
  [[ $output == *'get-cpuid 0xd=0x3: 0 nent=256 0xd.0=0x3'* ]] # the stale leaf a naive reader would believe
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same'
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup cpuid 0x1=0x1 vcpu 0 get-cpuid 0x0,0xd=0x207 set-xsave 0x207
  [[ $output == *'get-cpuid 0x0,0xd=0x207: 0 nent=256 0xd.0=0x207'* ]]
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
}

@test "with a KVM_GET_CPUID2 up to Linux 6.4 too, a duplicate has its own CPUID, none being none" {
  run_shimmed_standin STANDIN_KEEPS_NENT=1 create 0 dup set-xsave 0x207 cpuid 0xd=0x7 dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x207 rest=same' 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
}

# ---- what goes through as it is ----

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
      case $request in # the shim's own, and the stand-in's KVM_CREATE_VM and KVM_CHECK_EXTENSION
        0xae41 | 0xae01 | 0xae03 | 0x4008ae8a | 0x4008ae90 | 0xc008ae91 | 0xc008ae05 | 0x5000aea5) continue ;;
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

@test "errno is left alone by calls that succeed, whatever the shim did" {
  run_shimmed_standin STANDIN_LEAK=0x200 XSAVESHIM_TRIM=both XSAVESHIM_LOG=/dev/full XSAVESHIM_LOG_LEVEL=debug \
    supported create 0 cpuid 0xd=0x7 set-xsave 0x207 get-xsave get-cpuid none dup set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $output != *errno-touched* ]] || fail "$(outcome)"
}

@test "only the lower 32 bits of the request count, and all of them reach KVM" {
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

# ---- what KVM refuses all the same ----

@test "a refusal for what this host's KVM lacks says so, by what KVM told the VMM" {
  run_shimmed_standin STANDIN_SUPPORTED=0x203 supported create 0 cpuid 0xd=0x207 set-xsave 0x207
  assert_printed 'set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same'
  assert_reported "$(refused_report 0x207 host-lacks:avx)"
}

@test "a refusal for what this host's CPU lacks says so where KVM was not heard telling" {
  run_shimmed_standin STANDIN_SUPPORTED=0x7 create 0 cpuid 0xd=0x4000000000000007 set-xsave 0x4000000000000007
  assert_reported "level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 fd=* errno=EINVAL xstate_bv=0x4000000000000007 `
    `reason=host-lacks:bit62"
  run_shimmed_standin STANDIN_SUPPORTED=0x7 create 0 cpuid 0xd=0x80007 set-xsave 0x80007
  assert_reported "$(refused_report 0x80007 host-lacks:apx)"
}

@test "a refusal for XCOMP_BV, a reserved byte or MXCSR says so, and neither is touched" {
  local payload
  while read -r payload reason; do
    run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave "0x7,$payload"
    assert_printed "set-xsave 0x7,$payload: EINVAL xstate_bv=0x7 rest=same"
    assert_reported "$(refused_report 0x7 "$reason")"
  done <<-EOF
	xcomp_bv=0x8000000000000007 xcomp-bv:0x8000000000000007
	reserved=0 reserved-bytes
	reserved=47 reserved-bytes
	mxcsr=0x80011f80 mxcsr:0x80010000
	EOF
}

@test "a refusal for several reasons names them all, after the trim's own report" {
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x7 \
    set-xsave 0x207,xcomp_bv=0x1,reserved=5,mxcsr=0x10000
  assert_printed 'set-xsave 0x207,xcomp_bv=0x1,reserved=5,mxcsr=0x10000: EINVAL xstate_bv=0x7 rest=same'
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)" \
    "$(refused_report 0x7 'host-lacks:avx;xcomp-bv:0x1;reserved-bytes;mxcsr:0x10000')"
}

@test "a refusal that nothing in the payload explains says so" {
  run_shimmed_standin STANDIN_ANSWER=KVM_SET_XSAVE=EINVAL create 0 cpuid 0xd=0x7 set-xsave 0x7
  assert_reported "$(refused_report 0x7 unknown)"
}

@test "a refusal for the guest's sake says so where the payload is not to be trimmed" {
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

@test "where the CPUID cannot be widened the refusal stands and is reported" {
  run_shimmed_standin STANDIN_STRICT=1 STANDIN_ANSWER=KVM_GET_CPUID2=EIO create 0 cpuid 0x1=0x1 set-xsave 0x3
  assert_printed 'set-xsave 0x3: EINVAL xstate_bv=0x3 rest=same'
  assert_reported "$(refused_report 0x3 guest-lacks:x87,sse)"
}

# ---- what the kernel hands out ----

@test "what KVM_GET_XSAVE returns is left as it is unless it is to be trimmed" {
  local trim
  for trim in restore none; do
    run_shimmed_standin STANDIN_LEAK=0x200 XSAVESHIM_TRIM=$trim XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 \
      set-xsave 0x7 get-xsave get-xsave2
    assert_printed 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    [[ $(grep -cE '^get-xsave2?: 0 xstate_bv=0x207 ' <<<"$output") == 2 ]]
  done
}

@test "what KVM_GET_XSAVE and KVM_GET_XSAVE2 return is trimmed in save mode, and nothing else of it touched" {
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

@test "what a KVM_GET_XSAVE that failed left in the buffer is not touched" {
  run_shimmed_standin STANDIN_ANSWER=KVM_GET_XSAVE=EIO XSAVESHIM_TRIM=both create 0 cpuid 0xd=0x7 get-xsave
  [[ $output == *'get-xsave: EIO xstate_bv=0xa5a5a5a5a5a5a5a5 rest='* ]]
  assert_no_report
}

# ---- what the guest had enabled ----

xcr0_report() { # EVENT FIELDS
  echo "level=error event=$1 ioctl=KVM_SET_XCRS vcpu=0 fd=* $2"
}

@test "a KVM_SET_XCRS that KVM refuses is reported with what the guest's CPUID and the host lack" {
  run_shimmed_standin supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_printed 'set-xcrs 0x7: EINVAL'
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=guest-lacks:avx')"
  run_shimmed_standin STANDIN_SUPPORTED=0x3 supported create 0 cpuid 0xd=0x3 set-xcrs 0x7
  assert_reported "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=host-lacks:avx;guest-lacks:avx')"
}

@test "a KVM_SET_XCRS that KVM refuses after a payload was trimmed says what the trim cost: the guest is lost" {
  run_shimmed_standin create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  assert_printed 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same' 'set-xcrs 0x7: EINVAL'
  assert_reported "$(trim_report 0 0x7 0x3 0x3 avx)" "$(xcr0_report refused 'errno=EINVAL xcr0=0x7 reason=guest-lacks:avx')"
}

@test "XSAVESHIM_REFUSED=abort ends the VMM when KVM refuses KVM_SET_XCRS, or when state was lost" {
  run_shimmed_standin XSAVESHIM_REFUSED=abort create 0 cpuid 0xd=0x3 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  run_shimmed_standin XSAVESHIM_REFUSED=abort STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xcrs 0x7
  ((status == 1)) || fail "$(outcome)"
  [[ $stderr == *' event=lost '* ]] || fail "$(outcome)"
}

@test "an XCR0 that KVM takes before the payload joins what the guest may have, whatever table is set in between" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xcrs 0x7 set-xsave 0x207 cpuid 0xd=0x3 set-xsave 0x7
  assert_printed 'set-xcrs 0x7: 0' 'set-xsave 0x207: EINVAL xstate_bv=0x7 rest=same'
  [[ $stderr == *' xstate_bv=0x207 allowed=0x7 after=0x7 dropped=pkru'* ]] || fail "$(outcome)"
  [[ $stderr != *dropped=avx* ]] || fail "$(outcome)"
}

@test "an XCR0 that KVM takes after one of its bits was dropped is state that was lost, and says so" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xcrs 0x7
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same' 'set-xcrs 0x7: 0'
  assert_reported "$(trim_report 0 0x207 0x3 0x3 avx,pkru)" "$(xcr0_report lost 'xcr0=0x7 lost=avx')"
}

@test "an XCR0 within the guest's CPUID, or a drop of what it does not have, loses nothing and says nothing" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x7 set-xcrs 0x7 set-xcrs 0x1
  assert_printed 'set-xcrs 0x7: 0' 'set-xcrs 0x1: 0'
  assert_no_report
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xsave 0x207 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x207 0x7 0x7 pkru)"
}

@test "a payload that was loaded whole after one that was trimmed has lost nothing" {
  run_shimmed_standin STANDIN_XCR0=0x7 create 0 cpuid 0xd=0x3 set-xsave 0x7 set-xsave 0x3 set-xcrs 0x7
  assert_reported "$(trim_report 0 0x7 0x3 0x3 avx)"
}

@test "KVM_SET_XCRS at an address that cannot be read, and of what is no vCPU, goes through as it is" {
  run_shimmed_standin create 0 cpuid 0xd=0x7 set-xcrs-at 0 set-xcrs-at 0xffff800000000000 fd 0 set-xcrs 0x7
  assert_printed 'set-xcrs-at 0: EFAULT' 'set-xcrs-at 0xffff800000000000: EFAULT'
  assert_no_report
}

# ---- where the call comes from ----

@test "a call from another thread, from a signal handler, and from a forked child's thread is trimmed" {
  local how
  for how in thread signal "fork thread" "thread fork" "thread signal"; do
    # shellcheck disable=SC2086 # several words
    run_shimmed_standin create 0 cpuid 0xd=0x7 $how set-xsave 0x207
    assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  done
}

@test "eight vCPUs changing and restoring at once are trimmed each to its own, and no report is torn" {
  local log=$BATS_TEST_TMPDIR/log report='level=notice event=trim pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=[0-7] fd=[0-9]+'
  timeout 60 env DEVICE=/dev/null XSAVESHIM_LOG="$log" LD_PRELOAD="$shim $standin" STANDIN_SUPPORTED=0xff \
    "$build/test/threads"
  [[ $(wc -l <"$log") -ge 24 ]] # of each vCPU's 175 trims the first, the 10th and the 100th, and those with a new bit
  report+=' xstate_bv=0xff allowed=0x([0-9a-f]+) after=0x\1 dropped=[a-z0-9_,]+( count=[0-9]+)?'
  run grep -vxE "xsaveshim: $report" "$log"
  ((status == 1)) || fail "torn: $output"
}

@test "a call made before the shim's constructor has run is trimmed" {
  local order preload="$shim $standin $build/test/constructor.so"
  run --separate-stderr timeout 60 env DEVICE=/dev/null LD_DEBUG=files LD_PRELOAD="$preload" "$build/test/preinit"
  assert_printed 'preinit: 0 xstate_bv=0x3' 'constructor: 0 xstate_bv=0x3' 'main: 0 xstate_bv=0x3'
  # that it was as early as that
  order=$(grep -oE 'calling init: .*/(libxsaveshim|constructor)\.so' <<<"$stderr")
  [[ $order == *constructor.so*libxsaveshim.so ]]
}

@test "a trim made before the shim's constructor has run is reported, and the settings hold for it" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null LD_PRELOAD="$shim $standin $build/test/constructor.so" \
    "$vmm" ioctl 0
  assert_printed 'constructor: 0 xstate_bv=0x3'
  assert_reported 'level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x7 allowed=0x3 after=0x3 dropped=avx'
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none \
    LD_PRELOAD="$shim $standin $build/test/constructor.so" "$vmm" ioctl 0
  assert_printed 'constructor: EINVAL xstate_bv=0x7'
}

@test "the settings hold in a program that called before libc could tell the environment" {
  run --separate-stderr timeout 60 env DEVICE=/dev/null XSAVESHIM_TRIM=none XSAVESHIM_LOG="$BATS_TEST_TMPDIR/log" \
    LD_PRELOAD="$shim $standin" "$build/test/preinit"
  assert_printed 'main: EINVAL xstate_bv=0x7'
  grep -q ' event=would-trim ' "$BATS_TEST_TMPDIR/log"
}

@test "a program that calls before libc could tell the environment keeps no descriptor of those calls" {
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

@test "a library opened later, and bound to the program's ioctl, is trimmed" {
  run --separate-stderr env DEVICE=/dev/null LD_PRELOAD="$shim $standin" timeout 60 \
    "$build/test/dlopen" "$build/test/constructor.so"
  assert_printed 'constructor: 0 xstate_bv=0x3' 'program: 0 xstate_bv=0x3'
}

@test "other interposers stay in the chain: one in front sees what came, one behind what KVM gets" {
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/front.so"
  cp "$build/test/chain.so" "$BATS_TEST_TMPDIR/behind.so"
  run_standin LD_PRELOAD="$BATS_TEST_TMPDIR/front.so $shim $BATS_TEST_TMPDIR/behind.so $standin" \
    XSAVESHIM_LOG=none create 0 cpuid 0xd=0x7 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x7 rest=same'
  [[ $stderr == $'front.so: xstate_bv=0x207\nbehind.so: xstate_bv=0x7' ]]
}

# ---- system calls ----

# The system calls between the marks of a run, each as its name and, where that is fixed, what it was about.
trace() { # LD_PRELOAD STEP...
  local file=$BATS_TEST_TMPDIR/trace preload=$1
  shift
  DEVICE=/dev/null timeout 60 strace -f -qq -s 200 -o "$file" -E LD_PRELOAD="$preload" \
    "$vmm" "$@" mark end >/dev/null 2>"$BATS_TEST_TMPDIR/stderr"
  sed -n '/mark-begin/,/mark-end/p' "$file" | sed -E 's/^[0-9]+ +//; s/0x[0-9a-f]{6,}/ADDRESS/g'
}

@test "from the process's first CPUID table on, the shim makes no system call of its own on a normal VMM's path" {
  local steps=(supported create 0 cpuid 0xd=0x7 mark begin create 1 get-xsave cpuid 0xd=0x7 set-xsave 0x7 get-cpuid none get-xsave
    cpuid-v1 0xd=0x7 set-xsave 0x7 ioctl 0xae80)
  trace "$standin" "${steps[@]}" >"$BATS_TEST_TMPDIR/without"
  trace "$shim $standin" "${steps[@]}" >"$BATS_TEST_TMPDIR/with"
  grep -q 'set-xsave 0x7: 0' "$BATS_TEST_TMPDIR/without"
  diff -u "$BATS_TEST_TMPDIR/without" "$BATS_TEST_TMPDIR/with"
}

@test "a trim adds the write of its report, and a look at where it goes" {
  local own='/^write\(1,/d' # the VMM's: it has other things to tell
  trace "$standin" create 0 cpuid 0xd=0x7 mark begin set-xsave 0x7 | sed -E "$own" >"$BATS_TEST_TMPDIR/without"
  trace "$shim $standin" create 0 cpuid 0xd=0x7 mark begin set-xsave 0x207 | sed -E "$own" >"$BATS_TEST_TMPDIR/with"
  grep -q pwrite "$BATS_TEST_TMPDIR/without" # the stand-in took the payload
  run diff "$BATS_TEST_TMPDIR/without" "$BATS_TEST_TMPDIR/with"
  [[ $(sed -nE 's/^> ([a-z0-9]+\([0-9]).*/\1/p' <<<"$output" | xargs) == 'fstat(2 write(2' ]] || fail "$output"
  [[ $(grep -c '^[<>]' <<<"$output") == 2 ]] || fail "$output"
}
