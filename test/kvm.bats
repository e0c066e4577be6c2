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

@test "without the library, KVM refuses a leaky payload and loads nothing of it" { assert_bare_refusal; }
@test "with the library, a leaky payload loads, and the guest gets the same registers as from a clean payload" { assert_trimmed_restore; }
@test "after KVM_SET_CPUID, or KVM_SET_CPUID2 with an empty table, the library also trims the payload" { assert_v1_and_empty_tables; }
@test "if KVM accepted no CPUID table for a vCPU, the library does not change the vCPU's payload, and reports KVM's refusal" { assert_untrimmed_without_table; }
@test "the library keeps an xfeature that the guest's CPUID enumerates, even if the host's KVM does not support it" { assert_enumerated_kept; }
@test "in a VM with two vCPUs, each vCPU's payload is trimmed to the xfeatures of that vCPU's own CPUID table" { assert_vcpus_apart; }
@test "if a new vCPU gets a closed vCPU's descriptor number, the library forgets the closed vCPU's CPUID table" { assert_reused_number; }
@test "the library trims a payload that is loaded on another thread or in a signal handler" { assert_trimmed_from thread signal; }
@test "the library trims a payload at any alignment, even at the end of readable memory, and changes only XSTATE_BV" { assert_any_alignment; }
@test "with the library, KVM still answers EFAULT if a payload's address is NULL, in the first page or in the kernel's half" { assert_bad_addresses; }
@test "a clean payload loads from read-only memory, because the library does not write to it" { assert_read_only_payload; }
@test "if KVM refuses a payload for its XCOMP_BV, a reserved byte or its MXCSR, the library's report names that reason" { assert_reasons; }
@test "the library trims payloads that a program loads from .preinit_array, or from a constructor that runs before the library's" { assert_early_calls; }
@test "if a program opens another library with dlopen, the payloads that this other library loads are trimmed, too" { assert_dlopened_library_served; }
@test "after the first vCPU's CPUID table, the library adds no system call when a second vCPU is restored and run" { assert_no_system_call run run; }
@test "a trim with its report adds two system calls: one fstat and one write" { assert_system_calls_of_a_trim; }

@test "the guest runs before and after its trimmed payload is loaded" {
  shimmed "${guest[@]}" run set-xsave "$(leaky)" run
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same"
  [[ $(count_printed 'run: 0 exit=hlt') == 2 ]]
}

@test "if eight threads set CPUID tables and load payloads at once, each payload is trimmed by its own vCPU's table" {
  timeout 120 env XSAVESHIM_LOG=none LD_PRELOAD="$shim" "$build/test/threads"
}

@test "a payload through a duplicated vCPU descriptor is trimmed by the CPUID table that KVM_GET_CPUID2 returns" {
  local kvms allowed
  # on some hosts, KVM_GET_CPUID2 returns a table that differs from the VMM's table
  bare "${guest[@]}" get-cpuid none
  kvms=$(sed -n 's/^get-cpuid none: .* 0xd\.0=//p' <<<"$output")
  allowed=$(or "$kvms" 0x3)
  (((allowed & lacking) == 0))
  shimmed "${guest[@]}" dup set-xsave "$(leaky)" dup-to 1000 set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]] || fail "$(outcome)"
  assert_reported "$(leaky_report '?' "$allowed")" "$(leaky_report '?' "$allowed")"
}

@test "a process that did not create the VM gets KVM's EIO for a payload, and the library reports nothing" {
  shimmed "${guest[@]}" fork set-xsave 0x3
  assert_printed 'set-xsave 0x3: EIO xstate_bv=0x3 rest=same'
  shimmed "${guest[@]}" exec set-xsave "$(leaky)"
  assert_printed "set-xsave $(leaky): EIO xstate_bv=$(leaky) rest=same"
  assert_no_report
}

@test "a restore works under a seccomp filter that allows only ioctl, write, fstat and exit" {
  shimmed confine mark any-other
  ((status == 128 + $(kill -l SYS))) || fail "$(outcome)"
  shimmed supported "${guest[@]}" confine set-xsave 0x3 get-xsave get-cpuid none set-xsave "$(leaky)" \
    set-xsave 0x3,xcomp_bv=1 cpuid 0xd=0x3 cpuid-v1 0xd=0x3
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" 'cpuid-v1 0xd=0x3: 0'
  [[ $(grep -c 'event=' <<<"$stderr") == 2 ]]
}

@test "the library handles an ioctl request whose upper 32 bits are set like the same request without these bits" {
  shimmed wide "${guest[@]}" set-xsave "$(leaky)" get-xsave dup set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]]
}

# On a kernel that refuses FP and SSE for a guest without XSAVE, the library adds FP and SSE to the guest's CPUID, loads the
# payload, and then sets the guest's own CPUID again.
@test "a thread with a stack of 16 KiB can load the payload of a guest without XSAVE" {
  shimmed create 0 cpuid 0x1=0x1 small-thread set-xsave 0x3
  assert_printed 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
}

# Returns true if this host's KVM keeps the CPUID leaf 0xD that the VMM sets. PVM, a variant of KVM, rewrites the leaf, and its
# KVM_SET_XCRS uses the rewritten leaf.
table=0x0=0xd,0x1=0x0/0x4000000,0xd.0=0x3
keeps_the_table() {
  bare create 0 cpuid "$table" get-cpuid none
  grep -q '^get-cpuid none: .* 0xd.0=0x3' <<<"$output"
}

@test "before the payload, the library reports an XCR0 that KVM refuses, and keeps the xfeatures of an XCR0 that KVM accepts" {
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

@test "after a trimmed payload, the library reports an XCR0 with the dropped xfeature as refused or, if KVM accepts it, as lost state" {
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

@test "if KVM leaks nothing, KVM_GET_XSAVE and KVM_GET_XSAVE2 return the same with and without the library" {
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

@test "a program can open the library with dlopen, and the library still trims after dlclose" {
  run timeout 60 env XSAVESHIM_LOG=none "$build/test/dlopen" "$shim"
  [[ $output == *$'library: 0 xstate_bv=0x3\nlibrary closed: 0 xstate_bv=0x3\nprogram: '* ]] || fail "$output"
  [[ $output == *xstate_bv=0x7 ]] # the program itself still calls libc's ioctl, so its payload is not trimmed
}

@test "umockdev's preloaded library works behind xsaveshim's library" {
  behind=libumockdev-preload.so.0
  ldconfig -p | grep -q "$behind" || fail "$behind is not installed (Debian: umockdev)"
  shimmed "${guest[@]}" set-xsave "$(leaky)" run
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" 'run: 0 exit=hlt'
}
