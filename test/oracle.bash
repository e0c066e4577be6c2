# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Functions for the suites that run the oracle, the program that compares xsaveshim with KVM (test/oracle/oracle.c). A suite sources
# this file after lib.bash.

seed=${XSTEST_SEED:-$(($(date +%s%N) / 1000))}

# Bugs that the oracle must find. Each entry is a sed script that puts the bug into core/guest_cpuid.c or into its header.
declare -gA bugs=(
  [index-ignored]='s/(!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0)/1/'
  [flag-ignored]='s/(!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0)/entry->index == 0/'
  [last-match-wins]='/^uint64_t guest_cpuid_xcr0/,/^}/s/ + i \* / + (nent - 1 - i) * /'
  [last-match-wins-v1]='/^uint64_t guest_cpuid_v1_xcr0/,/^}/s/ + i \* / + (nent - 1 - i) * /'
  [edx-dropped]='s/(uint64_t)edx << 32 | eax/(uint64_t)(edx \& 0) << 32 | eax/'
)

# oracle_with BUG    builds the oracle with this bug in core/, as $BATS_TEST_TMPDIR/BUG
oracle_with() {
  local tree=$BATS_TEST_TMPDIR/tree-$1 part changed
  mkdir "$tree"
  cp -r "$repo/core" "$repo/include" "$tree"
  sed -i "${bugs[$1]}" "$tree"/core/guest_cpuid.c "$tree"/include/xsaveshim/guest_cpuid.h
  changed=$(for part in core include; do diff -r "$repo/$part" "$tree/$part"; done | grep -c '^>') || true
  [[ $changed == 1 ]] || fail "the bug $1 changes $changed lines of the core, and should change one" || return
  gcc -std=gnu11 -D_GNU_SOURCE -O2 -I"$tree/include" -o "$BATS_TEST_TMPDIR/$1" "$repo/test/oracle/oracle.c" \
    "$tree"/core/{guest_cpuid,policy,xstate}.c
}

# Reads the oracle's output from standard input, and checks the output. The oracle must have found a mismatch, and must have cut the
# mismatching CPUID table down to one or two entries.
assert_caught() {
  local said
  said=$(cat)
  [[ $said == *'mismatch at table '* && $said == *'cut down: '* && $said =~ of\ [12]\ entries ]] || fail "$said"
}
