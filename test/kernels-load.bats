# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Moves a Linux guest, whose processes always compute with vector registers (test/guest/load.c), between two testbed kernels:
# "leaky", which leaks xfeatures, and "affected", which refuses leaked xfeatures. Each of these kernels runs in an emulated machine.
# The two machines run at the same time and share the guest's snapshots. The guest itself boots the testbed's kernel "fixed".

load lib
load qemu

trips=10

# leg WAY VCPUS NUMBER    prints the argument that makes test/kernels/load do leg NUMBER of a trip: restore a guest that has VCPUS
# vCPUs, and save it again. WAY is library or supervised, and says what trims the guest's payloads. Odd legs lead to the affected
# kernel, even legs to the leaky kernel.
leg() {
  local from=$1$2-$(($3 - 1))
  (($3 > 1)) || from=booted$2
  echo "$1:$2:$from:$1$2-$3"
}

# legs_of WAY TRIPS FIRST    prints every second leg of TRIPS round trips, from leg FIRST on: each leg once for a guest with one
# vCPU, and once for a guest with two vCPUs. These legs all lead to the same kernel.
legs_of() {
  local number vcpus
  for ((number = $3; number <= 2 * $2; number += 2)); do
    for vcpus in 1 2; do leg "$1" "$vcpus" "$number"; done
  done
}

travels_on() { # KERNEL DEED...
  XSTEST_OUT=$out XSTEST_SLOW=${XSTEST_SLOW:-6} \
    timeout 2500 "$repo/test/kernels/run" --timeout 2400 "$1" -- "$repo/test/kernels/load" "$1" "$image" "${@:2}" \
    2>"$out/$1.stderr" || { echo "the $1 host failed:" && cut -c1-300 "$out/$1.stderr" && echo; } | sed 's/^/# /' >&3
}

# A leg that fails writes no row of results. Then the test that needs this row fails.
setup_file() {
  local affected
  cd "$repo" || return
  export out=$BATS_FILE_TMPDIR/out
  mkdir "$out"
  image=$(test/kernels/build fixed)
  # shellcheck disable=SC2046 # words
  travels_on affected bare:1:booted1:dies $(legs_of library $trips 1) $(legs_of supervised 2 1) \
    host:{1:booted1:host1-1,2:booted2:host2-1} bare:{1:host1-2:host1-3,2:host2-2:host2-3} &
  affected=$!
  # shellcheck disable=SC2046
  travels_on leaky boot:1:booted1 boot:2:booted2 $(legs_of library $trips 2) $(legs_of supervised 2 2) \
    host:{1:host1-1:host1-2,2:host2-1:host2-2} bare:{1:host1-3:host1-4,2:host2-3:host2-4}
  wait "$affected"
}

assert_came_to() { # KERNEL WAY VCPUS FROM TO FATE TRIMS
  assert_row "$out/$1.tsv" "$@"
}

# Checks that, on the affected kernel, xsaveshim trims each vCPU's payload from the leaky kernel. A payload from the affected kernel
# needs no trim.
assert_trips() { # WAY TRIPS
  local number vcpus leg
  for ((number = 1; number <= 2 * $2; number++)); do
    for vcpus in 1 2; do
      IFS=: read -ra leg < <(leg "$1" "$vcpus" "$number")
      if ((number % 2)); then
        assert_came_to affected "${leg[@]}" works "$vcpus"
      else
        assert_came_to leaky "${leg[@]}" works 0
      fi
    done
  done
}

@test "if a Linux guest is moved without xsaveshim from a kernel that leaks xfeatures to one that refuses them, the guest panics in QEMU up to 8.1; later QEMUs exit" {
  if qemu_exits_on_refusal; then
    assert_came_to affected bare 1 booted1 dies exits 0
  else
    assert_came_to affected bare 1 booted1 dies panics 0
  fi
}

@test "with the library, a Linux guest computes correctly through ten round trips between a kernel that leaks xfeatures and one that refuses them" {
  assert_trips library $trips
}

@test "with the supervisor, a Linux guest computes correctly through two round trips between a kernel that leaks xfeatures and one that refuses them" {
  assert_trips supervised 2
}

@test "a Linux guest computes correctly after a move from a kernel that leaks xfeatures to one that refuses them, if the host mode is enabled on one of the two kernels, no matter which" {
  local vcpus
  for vcpus in 1 2; do
    assert_came_to affected host "$vcpus" "booted$vcpus" "host$vcpus-1" works "$vcpus"
    assert_came_to leaky host "$vcpus" "host$vcpus-1" "host$vcpus-2" works "$vcpus"
    assert_came_to affected bare "$vcpus" "host$vcpus-2" "host$vcpus-3" works 0
    assert_came_to leaky bare "$vcpus" "host$vcpus-3" "host$vcpus-4" works 0
  done
}
