# SPDX-License-Identifier: MIT
# Tests the library libxsaveshim.so under real QEMU and KVM. The guest checks its own registers. When QEMU saves the guest, leak.so
# imitates a leaky host: it adds to the saved state an xfeature that this host's KVM does not support. QEMU then restores the guest,
# once without libxsaveshim.so and once with it.

# bats file_tags=kvm

load lib
load qemu

# a CPU model for QEMU's -cpu; x-force-features is needed because some KVMs give XSAVE to guests but do not report XSAVE to QEMU
with_xsave=qemu64,x-force-features=on,+xsave

setup() {
  need_kvm
  need_no_settings_file
  work=$BATS_TEST_TMPDIR
  leak=$build/test/leak.so
  observe=$build/test/observe.so
  read -r leaked leaked_name < <("$build/test/leakable")
  leak_settings=("LEAK_BITS=$leaked" "LEAK_WHILE=$work/host-leaks")
  touch "$work/host-leaks"
}

teardown() {
  guest_stop_all
  stop_listening
}

# start_leaky NAME [-- QEMU-ARGUMENT...]    starts a guest on a leaky host, which leak.so imitates
start_leaky() {
  local name=$1
  shift
  guest_start "$name" "LD_PRELOAD=$leak" "${leak_settings[@]}" "$@"
  assert_guest_intact "$name"
}

# Creates a disk to which savevm can save snapshots, and sets $disk to QEMU's arguments for this disk.
create_disk() {
  qemu-img create -q -f qcow2 "$work/disk.qcow2" 1M
  disk=(-drive "if=none,format=qcow2,file=$work/disk.qcow2")
}

save_leaky_to_disk() {
  create_disk
  start_leaky source -- "${disk[@]}"
  guest_hmp source "savevm leaky"
  guest_stop source
}

save_leaky_to_file() { # [-- QEMU-ARGUMENT...]
  start_leaky source "$@"
  guest_save source "$work/image"
  guest_stop source
}

# await_migration NAME [VAR=VALUE]... [-- QEMU-ARGUMENT...]    starts a QEMU that awaits a migration on $work/NAME/socket
await_migration() {
  local name=$1
  shift
  [[ " $* " == *" -- "* ]] || set -- "$@" --
  guest_start "$name" "$@" -incoming "unix:$work/$name/socket"
  guest_wait "$name" "it listens" test -S "$work/$name/socket"
}

# assert_trims LOG [IOCTL] [ALLOWED]    checks that LOG has exactly one report for each vCPU: a trim report in the manual's format
# with this ioctl (default: KVM_SET_XSAVE) and this mask of xfeatures that the guest may have (default: 0x3)
assert_trims() {
  local ioctl=${2:-KVM_SET_XSAVE} allowed=${3:-0x3} vcpu line bv expected
  local -a lines
  mapfile -t lines < <(grep '^xsaveshim:' "$1" | sort)
  printf '%s\n' "${lines[@]}"
  ((${#lines[@]} == guest_vcpus))
  for ((vcpu = 0; vcpu < guest_vcpus; vcpu++)); do
    line=${lines[vcpu]}
    [[ $line =~ " xstate_bv="(0x[0-9a-f]+)" " ]]
    bv=${BASH_REMATCH[1]}
    (((bv & ~allowed) == leaked))
    expected="xsaveshim: level=notice event=trim ioctl=$ioctl vcpu=$vcpu fd=F xstate_bv=$bv allowed=$allowed"
    expected+=$(printf ' after=0x%x dropped=%s' $((bv & allowed)) "$leaked_name")
    [[ $(sed -E 's/ pid=[0-9]+ / /; s/ fd=[0-9]+ / fd=F /' <<<"$line") == "$expected" ]]
  done
}

# assert_cured COMMAND...    checks that a guest with leaked xfeatures is lost if COMMAND restores it without the library, and
# intact if COMMAND restores it with the library. COMMAND gets the arguments NAME [VAR=VALUE]....
assert_cured() {
  "$@" bare
  assert_guest_lost bare
  guest_stop bare
  "$@" shimmed "LD_PRELOAD=$shim"
  assert_guest_intact shimmed
  assert_trims "$work/shimmed/stderr"
}

session_of() { # PID
  cut -d ' ' -f 6 "/proc/$1/stat"
}

@test "a guest restored from a savevm snapshot with leaked xfeatures loses its registers without the library, and keeps its registers with the library" {
  load_disk() { guest_start "$@" -- "${disk[@]}" -loadvm leaky; }
  save_leaky_to_disk
  assert_cured load_disk
}

# Upstream KVM's KVM_SET_XCRS refuses an xfeature that the guest's CPUID lacks. PVM, a variant of KVM, accepts such an xfeature.
# So the library reports event=refused on upstream KVM, and event=lost on PVM.
@test "if a guest that has enabled AVX is restored with a CPUID that lacks AVX, the library reports that KVM refuses AVX or that AVX is lost, and with XSAVESHIM_REFUSED=abort also ends QEMU" {
  leak_settings=(LEAK_BITS=0x4 LEAK_XCR0=0x7 "LEAK_WHILE=$work/host-leaks")
  save_leaky_to_file -- -cpu "$with_xsave,+avx"

  guest_restore same "$work/image" "LD_PRELOAD=$shim" -- -cpu "$with_xsave,+avx"
  assert_guest_intact same
  # PVM does not offer AVX to guests, so on PVM, QEMU warns that the host does not support AVX.
  if ! grep -q "host doesn't support requested feature: .*avx" "$work/same/stderr"; then
    [[ ! -s $work/same/stderr ]] || fail "$(<"$work/same/stderr")"
  fi

  guest_restore lacking "$work/image" "LD_PRELOAD=$shim" XSAVESHIM_REFUSED=report -- -cpu "$with_xsave"
  guest_wait lacking "a report on KVM_SET_XCRS" grep -qE \
    'level=error event=(refused .* reason=guest-lacks:avx|lost .* lost=avx)' "$work/lacking/stderr"
  grep -qE 'event=trim .* dropped=(.*,)?avx' "$work/lacking/stderr"
  [[ $(grep -c 'level=error .* ioctl=KVM_SET_XCRS vcpu=0 .* xcr0=0x7 ' "$work/lacking/stderr") == 1 ]]

  guest_restore ended "$work/image" "LD_PRELOAD=$shim" XSAVESHIM_REFUSED=abort -- -cpu "$with_xsave"
  assert_guest_exits ended 1
  grep -qE 'level=error event=(refused|lost) .* ioctl=KVM_SET_XCRS' "$work/ended/stderr"
}

@test "a guest that migrates live from a leaky host loses its registers without the library, and keeps its registers with the library" {
  start_leaky source
  await_migration bare
  guest_qmp source migrate "{\"uri\": \"unix:$work/bare/socket\"}"
  assert_guest_lost bare

  start_leaky another-source
  await_migration shimmed "LD_PRELOAD=$shim"
  guest_migrate another-source "unix:$work/shimmed/socket"
  assert_guest_intact shimmed
  assert_trims "$work/shimmed/stderr"
}

@test "all four vCPUs of a guest restored from a file with leaked xfeatures lose their registers without the library, and keep them with the library" {
  load_file() { guest_restore "$1" "$work/image" "${@:2}"; }
  guest_vcpus=4
  save_leaky_to_file
  assert_cured load_file

  guest_restore observed "$work/image" "LD_PRELOAD=$observe" "OBSERVE_LOG=$work/observed.log"
  assert_guest_lost observed
  if ! qemu_exits_on_refusal; then
    [[ $(grep -c '^KVM_SET_XSAVE .* EINVAL$' "$work/observed.log") == 4 ]]
    [[ -z $(cat "$work"/observed/serial.[1-3]) ]]
  fi
}

@test "if QEMU runs in the seccomp sandbox that libvirt uses, the library trims the payload, and the restored guest is intact" {
  load_in_sandbox() {
    guest_start "$@" -- -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny "${disk[@]}" -loadvm leaky
  }
  save_leaky_to_disk
  assert_cured load_in_sandbox
  grep -q '^Seccomp:[[:space:]]*2$' "/proc/$(<"$work/shimmed/pid")/status"
}

@test "if QEMU runs with -daemonize, the library trims the payload, and writes its report to the file that XSAVESHIM_LOG names" {
  save_leaky_to_disk
  guest_start shimmed "LD_PRELOAD=$shim" "XSAVESHIM_LOG=$work/log" -- "${disk[@]}" -loadvm leaky \
    -daemonize -pidfile "$work/shimmed/pid"
  assert_guest_intact shimmed
  assert_trims "$work/log"
  [[ $(stat -c %a "$work/log") == 600 ]]
  [[ $(session_of "$(<"$work/shimmed/pid")") != "$(session_of $$)" ]]
}

# Restores a guest in a QEMU that LAUNCHER starts. This QEMU daemonizes: before it loads the payload, it points its descriptor 2 at
# /dev/null. Sets $daemon to QEMU's pid.
restore_daemonized() { # LAUNCHER...
  save_leaky_to_file
  listen
  guest_launcher=("${in_private[@]}" "$@")
  guest_restore daemon "$work/image" -- -daemonize -pidfile "$work/daemon/pid"
  guest_launcher=()
  assert_guest_intact daemon
  daemon=$(<"$work/daemon/pid")
  [[ $(readlink "/proc/$daemon/fd/2") == /dev/null && $(session_of "$daemon") != "$(session_of $$)" ]]
  wait_for 10 grep -q dropped= "$messages" "$work/daemon/stderr"
  cat "$messages" "$work/daemon/stderr"
}

trim_of_daemon() { # VIA    prints a pattern for the report's line
  echo "^(<29>)?xsaveshim: level=notice event=trim $1pid=$daemon ioctl=KVM_SET_XSAVE vcpu=0 fd=[0-9]+ .* dropped=$leaked_name$"
}

@test "if QEMU has daemonized before it loads the payload, the library reports the trim to syslog, with the daemon's pid" {
  restore_daemonized env "LD_PRELOAD=$shim"
  [[ $(grep -cE "$(trim_of_daemon '')" "$messages") == 1 && $(grep -c . "$messages") == 1 ]]
  run ! grep xsaveshim "$work/daemon/stderr"
}

# QEMU's first process forks the daemon. Until both have closed or replaced their standard error, the supervisor reports there, and
# afterwards to syslog. So the report can be in either place.
@test "if QEMU under the supervisor has daemonized before it loads the payload, the supervisor reports the trim exactly once, with the daemon's pid" {
  restore_daemonized "$build/xsaveshim" run --supervise --
  [[ $(grep -hcE "$(trim_of_daemon 'via=supervisor ')" "$messages" "$work/daemon/stderr" | xargs) == @("1 0"|"0 1") ]]
  [[ $(grep -hc 'xsaveshim:' "$messages" "$work/daemon/stderr" | xargs) == @("1 0"|"0 1") ]]
}

# Each time the guest reads VMware's I/O port, QEMU gets a payload from KVM and loads this payload back.
@test "if a guest on a leaky host causes 10,000 trims by endless reads of the VMware port, the library writes at most 6 reports" {
  guest_start flood "LD_PRELOAD=$shim:$leak" "${leak_settings[@]}" -- -machine vmport=on -bios "$build/test/vmport.bin"
  # on a busy host, a read of the I/O port takes a millisecond or more, so 10,000 reads get a longer time-out
  XSTEST_SLOW=$((3 * ${XSTEST_SLOW:-1})) guest_wait flood "the 10,000th trim is reported" \
    grep -qs ' count=10000$' "$work/flood/stderr"
  guest_stop flood
  run ! grep -q X "$work/flood/serial.0"
  grep -c . "$work/flood/stderr"
  (($(grep -c '^xsaveshim:' "$work/flood/stderr") <= 6))
  grep -qE "^xsaveshim: level=notice event=trim .* dropped=$leaked_name count=10000$" "$work/flood/stderr"
}

@test "with the library and XSAVESHIM_TRIM=save, QEMU on a leaky host writes a snapshot that QEMU without the library restores intact" {
  guest_start untrimmed "LD_PRELOAD=$shim:$leak" "${leak_settings[@]}"
  assert_guest_intact untrimmed
  guest_save untrimmed "$work/untrimmed.image"
  guest_restore bare "$work/untrimmed.image"
  assert_guest_lost bare

  guest_start trimmed "LD_PRELOAD=$shim:$leak" "${leak_settings[@]}" XSAVESHIM_TRIM=save
  assert_guest_intact trimmed
  guest_save trimmed "$work/trimmed.image"
  assert_trims "$work/trimmed/stderr" 'KVM_GET_XSAVE2'
  guest_restore clean "$work/trimmed.image" "LD_PRELOAD=$observe" "OBSERVE_LOG=$work/observed"
  assert_guest_intact clean
  run ! grep -v ' ok$' "$work/observed"
}

@test "with XSAVESHIM_TRIM=none the library does not trim the payload, but reports which xfeatures it would drop, and why KVM refused the payload" {
  save_leaky_to_file
  guest_restore observed "$work/image" "LD_PRELOAD=$shim" XSAVESHIM_TRIM=none
  assert_guest_lost observed
  local about="pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=0 fd=[0-9]+"
  local would_trim="event=would-trim $about xstate_bv=(0x[0-9a-f]+) allowed=0x3 after=\\1 dropped=$leaked_name"
  local refused="event=refused $about errno=EINVAL xstate_bv=0x[0-9a-f]+ reason=host-lacks:$leaked_name.*"
  grep -xE "xsaveshim: level=notice $would_trim" "$work/observed/stderr"
  grep -xE "xsaveshim: level=error $refused" "$work/observed/stderr"
  [[ $(grep -c '^xsaveshim:' "$work/observed/stderr") == 2 ]]
}

# The payload has an MXCSR bit that no CPU has. So KVM refuses even the trimmed payload.
@test "if KVM refuses a live migration's payload, the library with XSAVESHIM_REFUSED=abort ends the destination's QEMU, and the guest can run on at the source" {
  local return_path
  for return_path in true false; do
    start_leaky "source-$return_path" LEAK_MXCSR=0x10000
    guest_qmp "source-$return_path" migrate-set-capabilities \
      "{\"capabilities\": [{\"capability\": \"return-path\", \"state\": $return_path}]}"
    await_migration "destination-$return_path" "LD_PRELOAD=$shim" XSAVESHIM_REFUSED=abort
    guest_qmp "source-$return_path" migrate "{\"uri\": \"unix:$work/destination-$return_path/socket\"}"
    assert_guest_exits "destination-$return_path" 1
    grep -q '^xsaveshim: level=error event=refused .* reason=mxcsr:0x10000 action=abort' "$work/destination-$return_path/stderr"
    [[ ! -s $work/destination-$return_path/serial.0 ]]
  done

  # With a return path, the source notices that the migration failed, and the guest runs on there. Without a return path, the guest
  # runs on at the source only after the QMP command cont.
  guest_wait source-true "the migration has failed" migration_is source-true failed
  guest_wait source-false "the migration has ended" migration_is source-false completed
  guest_qmp source-false cont
  assert_guest_intact source-true
  assert_guest_intact source-false
}

@test "when the library drops a leaked xfeature, a guest whose CPUID has AVX keeps AVX; if no xfeature leaked, the library reports nothing" {
  local avx=(-cpu "$with_xsave,+avx")
  save_leaky_to_file -- "${avx[@]}"
  guest_restore restored "$work/image" "LD_PRELOAD=$shim" -- "${avx[@]}"
  assert_guest_intact restored
  assert_trims "$work/restored/stderr" KVM_SET_XSAVE 0x7
  rm "$work/host-leaks"
  guest_save restored "$work/clean"
  guest_restore again "$work/clean" "LD_PRELOAD=$shim" -- "${avx[@]}"
  assert_guest_intact again
  run ! grep xsaveshim "$work/again/stderr"
}

@test "if KVM refuses a guest's control registers in KVM_SET_SREGS, the library reports the refused values" {
  local line pattern
  guest_start source -- -cpu qemu64,+smep
  assert_guest_intact source
  # QEMU warns if this host's KVM does not give SMEP to guests. Then the guest does not set CR4.SMEP, and KVM refuses nothing.
  ! grep -q "host doesn't support requested feature: .*smep" "$work/source/stderr" || skip "this host's KVM does not give SMEP to guests"
  guest_save source "$work/image"
  guest_restore destination "$work/image" "LD_PRELOAD=$shim"
  guest_wait destination "the report" grep -q event=refused-state "$work/destination/stderr" || true # QEMU 8.2 and later exit
  line=$(grep event=refused-state "$work/destination/stderr")
  pattern='^xsaveshim: level=notice event=refused-state pid=[0-9]+ ioctl=KVM_SET_SREGS2? vcpu=0 fd=[0-9]+ errno=EINVAL '
  pattern+='cr0=0x[0-9a-f]+ cr4=0x100600 efer=0x[0-9a-f]+ apic_base=0xfee00[0-9a-f]+$'
  [[ $line =~ $pattern ]] || fail "$line"
}
