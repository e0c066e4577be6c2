# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Functions that the suites with the oracle (test/oracle/oracle.c) share. A suite sources this file after lib.bash.

seed=${XSTEST_SEED:-$(($(date +%s%N) / 1000))}

# The bugs that an oracle must catch: `sed` makes them in core/guest_cpuid.c or in its header.
declare -gA bugs=(
  [index-ignored]='s/(!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0)/1/'
  [flag-ignored]='s/(!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0)/entry->index == 0/'
  [last-match-wins]='/^uint64_t guest_cpuid_xcr0/,/^}/s/ + i \* / + (nent - 1 - i) * /'
  [last-match-wins-v1]='/^uint64_t guest_cpuid_v1_xcr0/,/^}/s/ + i \* / + (nent - 1 - i) * /'
  [edx-dropped]='s/(uint64_t)edx << 32 | eax/(uint64_t)(edx \& 0) << 32 | eax/'
)

# oracle_with BUG    builds an oracle over a core with this bug, as $BATS_TEST_TMPDIR/BUG
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

# Checks the oracle's output on standard input: it must name a mismatch, in a table of one or two entries.
assert_caught() {
  local said
  said=$(cat)
  [[ $said == *'mismatch at table '* && $said == *'cut down: '* && $said =~ of\ [12]\ entries ]] || fail "$said"
}
