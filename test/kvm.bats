# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# The library on real KVM, with the small VMM.

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

@test "without the shim KVM refuses the leaky payload and loads nothing of it" { assert_bare_refusal; }
@test "with the shim a leaky payload loads, and the guest gets the same registers as from a clean payload" { assert_trimmed_restore; }
@test "KVM_SET_CPUID and an empty KVM_SET_CPUID2 table also limit the guest" { assert_v1_and_empty_tables; }
@test "a vCPU without an accepted CPUID table is not trimmed, and the refusal is reported" { assert_untrimmed_without_table; }
@test "an xfeature that the guest's CPUID enumerates is kept even if this host's KVM lacks it" { assert_enumerated_kept; }
@test "each vCPU of a VM is trimmed to its own guest's XCR0" { assert_vcpus_apart; }
@test "a descriptor number that is used again does not keep the old vCPU's table" { assert_reused_number; }
@test "a restore on another thread or in a signal handler is trimmed" { assert_trimmed_from thread signal; }
@test "a payload at any alignment, up to the end of its memory, is trimmed and otherwise unchanged" { assert_any_alignment; }
@test "KVM answers EFAULT for NULL, the first page and the kernel's half of the address space" { assert_bad_addresses; }
@test "a payload in read-only memory loads if nothing is to be trimmed" { assert_read_only_payload; }
@test "refusals for XCOMP_BV, a reserved byte and MXCSR are reported with their reason" { assert_reasons; }
@test "calls from .preinit_array and from a constructor before the shim's are trimmed" { assert_early_calls; }
@test "calls of a library that is opened later are trimmed" { assert_dlopened_library_served; }
@test "after the first CPUID table, restoring and running a second vCPU adds no system call" { assert_no_system_call run run; }
@test "a trim adds one fstat and one write" { assert_system_calls_of_a_trim; }

@test "the guest runs before and after a trimmed restore" {
  shimmed "${guest[@]}" run set-xsave "$(leaky)" run
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same"
  [[ $(count_printed 'run: 0 exit=hlt') == 2 ]]
}

@test "if eight vCPUs set CPUID tables and restore at once, each payload is trimmed to its own vCPU's table" {
  timeout 120 env XSAVESHIM_LOG=none LD_PRELOAD="$shim" "$build/test/threads"
}

@test "a duplicated descriptor is trimmed to the table that KVM reports" {
  local kvms allowed
  # some KVMs answer KVM_GET_CPUID2 with another table than the VMM set
  bare "${guest[@]}" get-cpuid none
  kvms=$(sed -n 's/^get-cpuid none: .* 0xd\.0=//p' <<<"$output")
  allowed=$(or "$kvms" 0x3)
  (((allowed & lacking) == 0))
  shimmed "${guest[@]}" dup set-xsave "$(leaky)" dup-to 1000 set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]] || fail "$(outcome)"
  assert_reported "$(leaky_report '?' "$allowed")" "$(leaky_report '?' "$allowed")"
}

@test "a process that did not create the VM gets KVM's EIO, and nothing is reported" {
  shimmed "${guest[@]}" fork set-xsave 0x3
  assert_printed 'set-xsave 0x3: EIO xstate_bv=0x3 rest=same'
  shimmed "${guest[@]}" exec set-xsave "$(leaky)"
  assert_printed "set-xsave $(leaky): EIO xstate_bv=$(leaky) rest=same"
  assert_no_report
}

@test "a restore works under a seccomp filter that allows only ioctl, write, the old fstat and exit" {
  shimmed confine mark any-other
  ((status == 128 + $(kill -l SYS))) || fail "$(outcome)"
  shimmed supported "${guest[@]}" confine set-xsave 0x3 get-xsave get-cpuid none set-xsave "$(leaky)" \
    set-xsave 0x3,xcomp_bv=1 cpuid 0xd=0x3 cpuid-v1 0xd=0x3
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" 'cpuid-v1 0xd=0x3: 0'
  [[ $(grep -c 'event=' <<<"$stderr") == 2 ]]
}

@test "a request whose upper 32 bits are set is handled like the same request without them" {
  shimmed wide "${guest[@]}" set-xsave "$(leaky)" get-xsave dup set-xsave "$(leaky)"
  [[ $(count_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same") == 2 ]]
}

# On a kernel that refuses FP and SSE to a guest without XSAVE, the library loads the payload under a widened CPUID table.
@test "a thread with a stack of 16 KiB can load the payload of a guest without XSAVE" {
  shimmed create 0 cpuid 0x1=0x1 small-thread set-xsave 0x3
  assert_printed 'set-xsave 0x3: 0 xstate_bv=0x3 rest=same'
}

# Returns true if this KVM keeps the leaf 0xD that the VMM sets. PVM rewrites the leaf, and PVM's KVM_SET_XCRS uses the rewritten
# leaf.
table=0x0=0xd,0x1=0x0/0x4000000,0xd.0=0x3
keeps_the_table() {
  bare create 0 cpuid "$table" get-cpuid none
  grep -q '^get-cpuid none: .* 0xd.0=0x3' <<<"$output"
}

@test "an XCR0 before the payload is refused by a KVM that keeps the table; one that rewrites it takes it, and the state is kept" {
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

@test "an XCR0 after a trimmed payload is reported as refused or, if KVM takes it, as lost state" {
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

@test "if nothing is leaked, KVM_GET_XSAVE and KVM_GET_XSAVE2 return the same with and without the shim" {
  local without
  bare size "${guest[@]}" set-xsave 0x3 get-xsave get-xsave2
  without=$output
  shimmed XSAVESHIM_TRIM=both size "${guest[@]}" set-xsave 0x3 get-xsave get-xsave2
  [[ $status == 0 && $output == "$without" ]]
  assert_no_report
}

@test "the shim does not see a raw system call" {
  shimmed "${guest[@]}" raw set-xsave "$(leaky)" libc set-xsave "$(leaky)"
  assert_printed "set-xsave $(leaky): EINVAL xstate_bv=$(leaky) rest=same" "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same"
}

@test "the shim can be opened with dlopen, and still works after dlclose" {
  run timeout 60 env XSAVESHIM_LOG=none "$build/test/dlopen" "$shim"
  [[ $output == *$'library: 0 xstate_bv=0x3\nlibrary closed: 0 xstate_bv=0x3\nprogram: '* ]] || fail "$output"
  [[ $output == *xstate_bv=0x7 ]] # the program calls the ioctl of its own libc, and the payload is not trimmed
}

@test "umockdev's preloaded library works behind the shim" {
  behind=libumockdev-preload.so.0
  ldconfig -p | grep -q "$behind" || fail "$behind is not installed (Debian: umockdev)"
  shimmed "${guest[@]}" set-xsave "$(leaky)" run
  assert_printed "set-xsave $(leaky): 0 xstate_bv=0x3 rest=same" 'run: 0 exit=hlt'
}
