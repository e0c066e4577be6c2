# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# A Linux guest whose processes compute with vector registers all the time (test/guest/load.c) travels between the leaky and the
# affected kernel. Both machines run at the same time and share the snapshots. The guest boots the kernel "fixed".

load lib
load qemu

trips=10

# leg WAY VCPUS NUMBER    prints one leg of a trip as a deed of test/kernels/load. Odd legs lead to the affected kernel, even legs
# to the leaky kernel.
leg() {
  local from=$1$2-$(($3 - 1))
  (($3 > 1)) || from=booted$2
  echo "$1:$2:$from:$1$2-$3"
}

# legs_of WAY TRIPS FIRST    prints the legs FIRST, FIRST + 2 and so on, for both guests in turn
legs_of() {
  local number vcpus
  for ((number = $3; number <= 2 * $2; number += 2)); do
    for vcpus in 1 2; do leg "$1" "$vcpus" "$number"; done
  done
}

travels_on() { # KERNEL DEED...
  XSTEST_OUT=$out XSTEST_SLOW=${XSTEST_SLOW:-6} \
    timeout 2500 "$repo/test/kernels/run" --timeout 2400 "$1" -- "$repo/test/kernels/load" "$1" "$image" "${@:2}" \
    2>"$out/$1.stderr" || { echo "the $1 host failed:" && cat "$out/$1.stderr"; } | sed 's/^/# /' >&3
}

# If a leg fails, its rows are missing, and the tests that look for these rows fail.
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

# Checks that each vCPU's payload from the leaky kernel is trimmed on the affected kernel. A payload from the affected kernel needs
# no trim.
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

@test "without xsaveshim a Linux guest under load panics on the affected kernel without a message of QEMU up to 8.1; later QEMUs exit" {
  if qemu_exits_on_refusal; then
    assert_came_to affected bare 1 booted1 dies exits 0
  else
    assert_came_to affected bare 1 booted1 dies panics 0
    # Results may precede the kernel's message on its line.
    grep -q '^[<>]*traps: PANIC: double fault' "$out/panic" || fail "$(<"$out/panic")"
  fi
}

@test "with the library Linux guests under load, of one vCPU and of two, make ten round trips, and every result is right" {
  assert_trips library $trips
}

@test "supervised, Linux guests under load make two round trips, and every result is right" {
  assert_trips supervised 2
}

@test "with the host mode, on the affected kernel and then on the leaky one, Linux guests make two round trips, and every result is right" {
  local vcpus
  for vcpus in 1 2; do
    assert_came_to affected host "$vcpus" "booted$vcpus" "host$vcpus-1" works "$vcpus"
    assert_came_to leaky host "$vcpus" "host$vcpus-1" "host$vcpus-2" works "$vcpus"
    assert_came_to affected bare "$vcpus" "host$vcpus-2" "host$vcpus-3" works 0
    assert_came_to leaky bare "$vcpus" "host$vcpus-3" "host$vcpus-4" works 0
  done
}
