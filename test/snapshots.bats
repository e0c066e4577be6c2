# SPDX-License-Identifier: MIT
# docs/snapshots.md has recipes that tell whether a QEMU snapshot is poisoned, that is, has xfeatures that its guest never had. This
# suite runs these recipes on clean and on poisoned snapshots.

# bats file_tags=kvm

load lib
load qemu

setup() {
  need_kvm
  need_no_settings_file
  work=$BATS_TEST_TMPDIR
  cd "$work" || return
  read -r leaked leaked_name < <("$build/test/leakable")
  touch "$work/host-leaks"
}

teardown() {
  guest_stop_all
}

# Prints the first code block below a heading of docs/snapshots.md. Changes the block so that QEMU runs the test guest
# (test/guest/canary.S) with the library of the build directory.
recipe() { # HEADING
  local machine="-nodefaults -machine pc,accel=kvm -cpu qemu64 ${guest_machine[*]} -display none -vga none -nic none"
  awk -v heading="## $1" '$0 == heading { here = 1 } /^## / && $0 != heading { here = 0 } here && /^```/ { inside++; next }
    here && inside == 1' "$repo/docs/snapshots.md" |
    sed "s|qemu-system-x86_64 \.\.\.|$qemu $machine -serial file:$work/serial|; s|LD_PRELOAD=|&$build/|; s|-loadvm NAME|-loadvm ${snapshot-}|"
}

# follow RECIPE MONITOR-COMMAND...    runs the recipe's shell commands (they start QEMU), waits until QEMU has loaded the snapshot,
# gives each MONITOR-COMMAND to QEMU's monitor, and quits QEMU
follow() {
  local commands monitor pid
  commands=$1
  shift
  [[ $commands == *"-monitor stdio"* ]] || fail "docs/snapshots.md has no recipe with -monitor stdio for this test" || return
  rm -f monitor.in monitor.out
  mkfifo monitor.in
  bash -euc "$commands" <monitor.in >monitor.out 2>errors 3>&- &
  pid=$!
  exec {monitor}>monitor.in
  wait_for $((20 * ${XSTEST_SLOW:-1})) is_loaded "$monitor" || { cat monitor.out errors; return 1; }
  (printf '%s\n' "$@" quit >&"$monitor") || true # fails, perhaps by SIGPIPE, if QEMU has exited
  exec {monitor}>&-
  wait "$pid"
}

# Returns true if QEMU has loaded the snapshot (its monitor says `paused`, and not `inmigrate`), or if QEMU has exited. QEMU 8.2 and
# later exit if KVM refuses the payload.
is_loaded() { # MONITOR
  (echo "info status" >&"$1") || return 0 # fails if QEMU has exited, because then nobody reads the FIFO
  grep -aq 'VM status: paused' monitor.out && ! grep -a 'VM status' monitor.out | tail -n 1 | grep -q inmigrate
}

is_paused() { [[ $(guest_status "$1") == paused ]]; } # NAME

# Checks that the snapshot is what the argument says, according to the library's log, answer.log. Checks that the recipe has not
# changed the snapshot's original file, whose checksum is in the file originals.
assert_judged() { # poisoned|clean
  local judgement=clean
  grep -q event=learn answer.log || fail "the library's log has no event=learn:" "$(cat answer.log)" || return
  ! grep -q "event=would-trim .*dropped=$leaked_name" answer.log || judgement=poisoned
  [[ $judgement == "$1" ]] || fail "the library's log says $judgement, not $1:" "$(cat answer.log)" || return
  sha256sum --quiet -c originals
}

start_source() { # leaky|clean [QEMU-ARGUMENT...]
  local environment=()
  [[ $1 == clean ]] || environment=("LD_PRELOAD=$build/test/leak.so" "LEAK_BITS=$leaked" "LEAK_WHILE=$work/host-leaks")
  guest_start source "${environment[@]}" -- "${@:2}"
  assert_guest_intact source
}

save_stream() { # leaky|clean
  start_source "$1"
  guest_save source guest.state
  guest_stop source
  sha256sum guest.state >originals
}

save_in_image() { # leaky|clean
  qemu-img create -q -f qcow2 disk.qcow2 1M
  start_source "$1" -drive file=disk.qcow2,if=virtio
  guest_hmp source "savevm before"
  guest_stop source
  sha256sum disk.qcow2 >originals
}

@test "if a file has the stream of a QEMU migration, the recipe of docs/snapshots.md finds the xfeature that leaked into the stream, and does not change the file" {
  save_stream leaky
  follow "$(recipe "QEMU, a stream in a file")" || qemu_exits_on_refusal
  assert_judged poisoned
}

@test "if a file has the stream of a QEMU migration into which no xfeature leaked, the recipe of docs/snapshots.md finds none" {
  save_stream clean
  follow "$(recipe "QEMU, a stream in a file")"
  assert_judged clean
}

@test "the recipe of docs/snapshots.md for QEMU's savevm finds the xfeature that leaked into the snapshot, and does not change the disk image" {
  save_in_image leaky
  snapshot=before
  follow "$(recipe "QEMU, savevm")" || qemu_exits_on_refusal
  assert_judged poisoned
}

@test "the recipe of docs/snapshots.md for QEMU's savevm finds no leaked xfeature in a clean snapshot" {
  save_in_image clean
  snapshot=before
  follow "$(recipe "QEMU, savevm")"
  assert_judged clean
}

@test "if QEMU with XSAVESHIM_TRIM=both loads a stream with a leaked xfeature and saves the guest again, QEMU without the library restores the guest intact from the new stream" {
  save_stream leaky
  follow "$(recipe "QEMU, a stream in a file" | sed 's/XSAVESHIM_TRIM=none/XSAVESHIM_TRIM=both/')" 'migrate "exec:cat >clean.state"'
  sha256sum --quiet -c originals
  mv clean.state guest.state
  sha256sum guest.state >originals
  rm answer.log
  follow "$(recipe "QEMU, a stream in a file")"
  assert_judged clean
  guest_restore bare guest.state
  guest_wait bare "it has loaded the stream" is_paused bare
  guest_hmp bare cont
  assert_guest_intact bare
}

@test "if QEMU with XSAVESHIM_TRIM=both loads a savevm snapshot with a leaked xfeature and saves a new one, QEMU without the library restores the guest intact from the new one" {
  save_in_image leaky
  snapshot=before
  follow "$(recipe "QEMU, savevm" | sed 's/XSAVESHIM_TRIM=none/XSAVESHIM_TRIM=both/')" "savevm clean"
  sha256sum --quiet -c originals
  mv copy.qcow2 disk.qcow2
  sha256sum disk.qcow2 >originals
  rm answer.log
  snapshot=clean
  follow "$(recipe "QEMU, savevm")"
  assert_judged clean
  guest_start bare -- -drive file=disk.qcow2,if=virtio -loadvm clean
  assert_guest_intact bare
}
