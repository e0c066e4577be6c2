# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests the library on real KVM, with the test VMM (test/vmm/vmm.c).

load lib
load shim

setup() {
  need_no_settings_file
  need_kvm
  behind=
  export XSAVESHIM_REFUSED=report
  find_lacking_bit
}

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

@test "without the library, KVM refuses a payload with a leaked xfeature, and the vCPU's state does not change" { assert_bare_refusal; }
@test "with the library, KVM loads a payload with a leaked xfeature, and the vCPU gets the same state as from a clean payload" { assert_trimmed_restore; }
@test "if the VMM sets a CPUID table with KVM_SET_CPUID, or an empty one with KVM_SET_CPUID2, the library trims the vCPU's payload by this table" { assert_v1_and_empty_tables; }
@test "if KVM accepted no CPUID table for a vCPU, the library does not change the vCPU's payload, and reports that KVM refuses this payload" { assert_untrimmed_without_table; }
@test "if the guest's CPUID enumerates an xfeature, the library keeps it in the payload, even if the host's KVM does not support it" { assert_enumerated_kept; }
@test "in a VM with two vCPUs, the library trims each vCPU's payload to the xfeatures in that vCPU's own CPUID table" { assert_vcpus_apart; }
@test "if a new vCPU gets a closed vCPU's descriptor number, the library does not apply the closed vCPU's CPUID table to the new vCPU" { assert_reused_number; }
@test "the library trims a payload that the VMM loads on a second thread or in a signal handler" { assert_trimmed_from thread signal; }
@test "the library can trim a payload at any alignment, even directly before unreadable memory, and changes only its XSTATE_BV" { assert_any_alignment; }
@test "if a payload's address is NULL, 0xfff or in kernel space, the library does not crash, and the VMM gets KVM's EFAULT" { assert_bad_addresses; }
@test "the library never writes to a payload that needs no trim, so that the VMM can load this payload from read-only memory" { assert_read_only_payload; }
@test "if KVM refuses a payload because of a bad XCOMP_BV, reserved byte or MXCSR, the library's report names that reason" { assert_reasons; }
@test "the library trims a payload that a program loads in a .preinit_array function, or in a constructor that runs before the library's own" { assert_early_calls; }
@test "if a program opens a second library with dlopen, xsaveshim's library trims the payloads that this second library loads" { assert_dlopened_library_served; }
@test "after the VMM has set the first vCPU's CPUID table, the library adds no system call when a second vCPU is restored and run" { assert_no_system_call run run; }
@test "to trim a payload and report the trim, the library adds only two system calls, an fstat and a write" { assert_system_calls_of_a_trim; }

@test "if a guest has already run, and the VMM then loads a payload that the library trims, the guest can run again" {
  shimmed "${guest[@]}" run set-xsave "$(leaky)" run
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same"
  [[ $(count_printed 'run: 0 exit=hlt') == 2 ]]
}

@test "if eight threads set CPUID tables and load payloads at once, the library trims each payload by its own vCPU's table" {
  timeout 120 env XSAVESHIM_LOG=none LD_PRELOAD="$shim" "$build/test/threads"
}

@test "if the VMM loads a payload through a duplicated vCPU descriptor, the library trims the payload by the CPUID table that KVM_GET_CPUID2 returns" {
  local kvms allowed
  # on some hosts, KVM_GET_CPUID2 returns a table that differs from the table that the VMM has set
  bare "${guest[@]}" get-cpuid none
  kvms=$(sed -n 's/^get-cpuid none: .* 0xd\.0=//p' <<<"$output")
  allowed=$(or "$kvms" 0x3)
  (((allowed & lacking) == 0))
  shimmed "${guest[@]}" dup set-xsave "$(leaky)" dup-to 1000 set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]] || fail "$(outcome)"
  assert_reported "$(leaky_report '?' "$allowed")" "$(leaky_report '?' "$allowed")"
}

@test "if a process that did not create the VM loads a payload, it gets KVM's EIO, and the library reports nothing" {
  shimmed "${guest[@]}" fork set-xsave 0x3
  assert_printed 'set-xsave 0x3: EIO xstate_bv=0x3 rest=same'
  shimmed "${guest[@]}" exec set-xsave "$(leaky)"
  assert_printed "set-xsave $(leaky): EIO xstate_bv=$(leaky) rest=same"
  assert_no_report
}

@test "with the library, a restore works under a seccomp filter that allows only ioctl, write, writev, fstat, exit and exit_group" {
  shimmed confine mark any-other
  ((status == 128 + $(kill -l SYS))) || fail "$(outcome)"
  shimmed supported "${guest[@]}" confine set-xsave 0x3 get-xsave get-cpuid none set-xsave "$(leaky)" \
    set-xsave 0x3,xcomp_bv=1 cpuid 0xd=0x3 cpuid-v1 0xd=0x3
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" 'cpuid-v1 0xd=0x3: 0'
  [[ $(grep -c 'event=' <<<"$stderr") == 2 ]]
}

@test "if the upper 32 bits of an ioctl's request number are set, the library ignores these bits and still trims the payload" {
  shimmed wide "${guest[@]}" set-xsave "$(leaky)" get-xsave dup set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]]
}

# On a kernel that refuses FP and SSE for a guest without XSAVE, the library adds FP and SSE to the guest's CPUID, loads the
# payload, and then sets the guest's own CPUID again. For this, the library puts a CPUID table of 10 KiB on the stack.
@test "with the library, a thread whose stack has only 16 KiB can load the payload of a guest without XSAVE" {
  shimmed create 0 cpuid 0x1=0x1 small-thread set-xsave 0x3
  assert_printed 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
}

# Returns true if this host's KVM keeps the CPUID leaf 0xD that the VMM sets. PVM, a variant of KVM, rewrites the leaf, and then
# checks XCR0 against the rewritten leaf.
table=0x0=0xd,0x1=0x0/0x4000000,0xd.0=0x3
keeps_the_table() {
  bare create 0 cpuid "$table" get-cpuid none
  grep -q '^get-cpuid none: .* 0xd.0=0x3' <<<"$output"
}

@test "if the VMM sets an XCR0 with an xfeature that the guest's CPUID lacks, and KVM refuses this XCR0, the library reports the refusal; if KVM accepts it, the library keeps the xfeature in a later payload" {
  local keeps=false
  ! keeps_the_table || keeps=true
  shimmed create 0 cpuid "$table" set-xcrs 0x7 set-xsave 0x7
  if $keeps; then
    assert_printed 'set-xcrs 0x7: EINVAL' 'set-xsave 0x7: 0 xstate_bv=0x3 rest=same'
    [[ $stderr == *' event=refused '*' ioctl=KVM_SET_XCRS vcpu=0 '*' xcr0=0x7 reason=guest-lacks:avx'* ]] || fail "$(outcome)"
  else
    assert_printed 'set-xcrs 0x7: 0' 'set-xsave 0x7: 0 xstate_bv=0x7 rest=same'
    assert_no_report
  fi
}

@test "if the VMM sets an XCR0 with an xfeature that the library dropped before, and KVM refuses this XCR0, the library reports the refusal; if KVM accepts it, the library reports that the xfeature's state is lost" {
  local keeps=false
  ! keeps_the_table || keeps=true
  shimmed create 0 cpuid "$table" set-xsave 0x7 set-xcrs 0x7
  if $keeps; then
    assert_printed 'set-xcrs 0x7: EINVAL'
    [[ $stderr == *' event=trim '*' event=refused '*' ioctl=KVM_SET_XCRS vcpu=0 '*' reason=guest-lacks:avx'* ]] ||
      fail "$(outcome)"
  else
    assert_printed 'set-xcrs 0x7: 0'
    [[ $stderr == *' event=trim '*' level=error event=lost '*' ioctl=KVM_SET_XCRS vcpu=0 '*' xcr0=0x7 lost=avx'* ]] ||
      fail "$(outcome)"
  fi
}

@test "if KVM leaks no xfeature, KVM_GET_XSAVE and KVM_GET_XSAVE2 return the same payloads with and without the library" {
  local without
  bare size "${guest[@]}" set-xsave 0x3 get-xsave get-xsave2
  without=$output
  shimmed XSAVESHIM_TRIM=both size "${guest[@]}" set-xsave 0x3 get-xsave get-xsave2
  [[ $status == 0 && $output == "$without" ]]
  assert_no_report
}

@test "the library does not trim a payload that a program loads by a raw system call" {
  shimmed "${guest[@]}" raw set-xsave "$(leaky)" libc set-xsave "$(leaky)"
  assert_printed "set-xsave $(leaky): EINVAL xstate_bv=$(leaky) rest=same" "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same"
}

@test "if a program opens the library with dlopen and calls the library's ioctl, the library trims the payload, even after dlclose" {
  run timeout 60 env XSAVESHIM_LOG=none "$build/test/dlopen" "$shim"
  [[ $output == *$'library: 0 xstate_bv=0x3\nlibrary closed: 0 xstate_bv=0x3\nprogram: '* ]] || fail "$output"
  [[ $output == *xstate_bv=0x7 ]] # the program itself still calls libc's ioctl, so its payload is not trimmed
}

@test "the library trims a payload even if umockdev's library, which also replaces ioctl, follows it in LD_PRELOAD" {
  behind=libumockdev-preload.so.0
  ldconfig -p | grep -q "$behind" || fail "$behind is not installed (it is in Debian's package umockdev)"
  shimmed "${guest[@]}" set-xsave "$(leaky)" run
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" 'run: 0 exit=hlt'
}
