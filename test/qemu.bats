# SPDX-License-Identifier: MIT
# The shim under real QEMU and real KVM: a guest that watches its own registers is saved on a host that leaks
# (leak.so) an xfeature which this host's KVM does not support, and restored here without the shim and with it.

# bats file_tags=kvm

load lib
load qemu

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

# start_leaky NAME [-- QEMU-ARGUMENT...]    a guest on a leaky host, up and running
start_leaky() {
  local name=$1
  shift
  guest_start "$name" "LD_PRELOAD=$leak" "${leak_settings[@]}" "$@"
  assert_guest_intact "$name"
}

# sets disk: QEMU's arguments for a new disk that keeps savevm's snapshots
create_disk() {
  qemu-img create -q -f qcow2 "$work/disk.qcow2" 1M
  disk=(-drive "if=none,format=qcow2,file=$work/disk.qcow2")
}

# await_migration NAME [VAR=VALUE]... [-- QEMU-ARGUMENT...]    a destination that listens on $work/NAME/socket
await_migration() {
  local name=$1
  shift
  [[ " $* " == *" -- "* ]] || set -- "$@" --
  guest_start "$name" "$@" -incoming "unix:$work/$name/socket"
  guest_wait "$name" "it listens" test -S "$work/$name/socket"
}

# assert_trims LOG [IOCTL] [ALLOWED]    one drop told for each vCPU, in just the words that the manual promises
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

session_of() { # PID
  cut -d ' ' -f 6 "/proc/$1/stat"
}

@test "QEMU restores a leaky savevm snapshot: registers lost without the shim, intact with it" {
  create_disk
  start_leaky source -- "${disk[@]}"
  guest_hmp source "savevm leaky"
  guest_stop source

  guest_start bare -- "${disk[@]}" -loadvm leaky
  assert_guest_lost bare
  guest_stop bare

  guest_start shimmed "LD_PRELOAD=$shim" -- "${disk[@]}" -loadvm leaky
  assert_guest_intact shimmed
  assert_trims "$work/shimmed/stderr"
}

@test "QEMU restores a leaky guest saved to a file: registers lost without the shim, intact with it" {
  start_leaky source
  guest_save source "$work/image"

  guest_restore bare "$work/image"
  assert_guest_lost bare

  guest_restore shimmed "$work/image" "LD_PRELOAD=$shim"
  assert_guest_intact shimmed
  assert_trims "$work/shimmed/stderr"
}

# Whatever this KVM makes of KVM_SET_XCRS: upstream's refuses what the guest's CPUID lacks, PVM's takes it.
@test "a guest that had enabled AVX is told lost where its CPUID lacks AVX, and restored whole where it has it" {
  leak_settings=(LEAK_BITS=0x4 LEAK_XCR0=0x7 "LEAK_WHILE=$work/host-leaks")
  start_leaky source -- -cpu qemu64,+xsave,+avx
  guest_save source "$work/image"

  guest_restore same "$work/image" "LD_PRELOAD=$shim" -- -cpu qemu64,+xsave,+avx
  assert_guest_intact same
  # PVM offers no guest AVX, so that the CPUID lacks it here as well
  if ! grep -q "host doesn't support requested feature: .*avx" "$work/same/stderr"; then
    [[ ! -s $work/same/stderr ]] || fail "$(<"$work/same/stderr")"
  fi

  guest_restore lacking "$work/image" "LD_PRELOAD=$shim" XSAVESHIM_REFUSED=report -- -cpu qemu64,+xsave
  guest_wait lacking "a report on KVM_SET_XCRS" grep -qE \
    'level=error event=(refused .* reason=guest-lacks:avx|lost .* lost=avx)' "$work/lacking/stderr"
  grep -qE 'event=trim .* dropped=(.*,)?avx' "$work/lacking/stderr"
  [[ $(grep -c 'level=error .* ioctl=KVM_SET_XCRS vcpu=0 .* xcr0=0x7 ' "$work/lacking/stderr") == 1 ]]
}

@test "with XSAVESHIM_REFUSED=abort QEMU ends where a guest's AVX is lost" {
  leak_settings=(LEAK_BITS=0x4 LEAK_XCR0=0x7 "LEAK_WHILE=$work/host-leaks")
  start_leaky source -- -cpu qemu64,+xsave,+avx
  guest_save source "$work/image"
  guest_restore lacking "$work/image" "LD_PRELOAD=$shim" XSAVESHIM_REFUSED=abort -- -cpu qemu64,+xsave
  assert_guest_exits lacking 1
  grep -qE 'level=error event=(refused|lost) .* ioctl=KVM_SET_XCRS' "$work/lacking/stderr"
}

@test "a live migration from a leaky host: registers lost without the shim, intact with it" {
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

@test "all four vCPUs of a leaky guest lose their registers without the shim, and keep them with it" {
  guest_vcpus=4
  start_leaky source
  guest_save source "$work/image"
  guest_stop source

  guest_restore bare "$work/image" "LD_PRELOAD=$observe" "OBSERVE_LOG=$work/bare.observed"
  assert_guest_lost bare
  guest_stop bare
  if ! qemu_exits_on_refusal; then
    [[ $(grep -c '^KVM_SET_XSAVE .* EINVAL$' "$work/bare.observed") == 4 ]]
    [[ -z $(cat "$work"/bare/serial.[1-3]) ]]
  fi

  guest_restore shimmed "$work/image" "LD_PRELOAD=$shim"
  assert_guest_intact shimmed
  assert_trims "$work/shimmed/stderr"
}

@test "the shim works in the sandbox that libvirt puts QEMU in" {
  local sandbox=(-sandbox "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
  create_disk
  start_leaky source -- "${disk[@]}"
  guest_hmp source "savevm leaky"
  guest_stop source

  guest_start bare -- "${sandbox[@]}" "${disk[@]}" -loadvm leaky
  assert_guest_lost bare
  guest_stop bare

  guest_start shimmed "LD_PRELOAD=$shim" -- "${sandbox[@]}" "${disk[@]}" -loadvm leaky
  assert_guest_intact shimmed
  assert_trims "$work/shimmed/stderr"
  grep -q '^Seccomp:[[:space:]]*2$' "/proc/$(<"$work/shimmed/pid")/status"
}

@test "a QEMU that daemonizes keeps the shim and writes its reports to the log file" {
  create_disk
  start_leaky source -- "${disk[@]}"
  guest_hmp source "savevm leaky"
  guest_stop source

  guest_start shimmed "LD_PRELOAD=$shim" "XSAVESHIM_LOG=$work/log" -- "${disk[@]}" -loadvm leaky \
    -daemonize -pidfile "$work/shimmed/pid"
  assert_guest_intact shimmed
  assert_trims "$work/log"
  [[ $(stat -c %a "$work/log") == 600 ]]
  [[ $(session_of "$(<"$work/shimmed/pid")") != "$(session_of $$)" ]]
}

# With its default settings QEMU points descriptor 2 at /dev/null before the payload is loaded. Sets daemon, its pid.
restore_daemonized() { # LAUNCHER...
  start_leaky source
  guest_save source "$work/image"
  guest_stop source
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

trim_of_daemon() { # VIA    a pattern for the line
  echo "^(<29>)?xsaveshim: level=notice event=trim $1pid=$daemon ioctl=KVM_SET_XSAVE vcpu=0 fd=[0-9]+ .* dropped=$leaked_name$"
}

@test "a QEMU that daemonizes before its payload comes in is reported in syslog, with the daemon's pid" {
  restore_daemonized env "LD_PRELOAD=$shim"
  [[ $(grep -cE "$(trim_of_daemon '')" "$messages") == 1 && $(grep -c . "$messages") == 1 ]]
  run ! grep xsaveshim "$work/daemon/stderr"
}

# The supervisor keeps to standard error while QEMU's parent still has it, and so whoever reads it is there.
@test "a supervised QEMU that daemonizes before its payload comes in is reported once, where somebody reads, with the daemon's pid" {
  restore_daemonized "$build/xsaveshim" run --supervise --
  [[ $(grep -hcE "$(trim_of_daemon 'via=supervisor ')" "$messages" "$work/daemon/stderr" | xargs) == @("1 0"|"0 1") ]]
  [[ $(grep -hc 'xsaveshim:' "$messages" "$work/daemon/stderr" | xargs) == @("1 0"|"0 1") ]]
}

# Each read of the port makes QEMU get a payload from KVM and set it again.
@test "a guest that reads VMware's port for ever on a leaky host gets a handful of reports, at growing counts" {
  guest_start flood "LD_PRELOAD=$shim:$leak" "${leak_settings[@]}" -- -machine vmport=on -bios "$build/test/vmport.bin"
  # a read takes a millisecond and more where the host is busy
  XSTEST_SLOW=$((3 * ${XSTEST_SLOW:-1})) guest_wait flood "the 10,000th trim is reported" \
    grep -qs ' count=10000$' "$work/flood/stderr"
  guest_stop flood
  run ! grep -q X "$work/flood/serial.0"
  grep -c . "$work/flood/stderr"
  (($(grep -c '^xsaveshim:' "$work/flood/stderr") <= 6))
  grep -qE "^xsaveshim: level=notice event=trim .* dropped=$leaked_name count=10000$" "$work/flood/stderr"
}

@test "XSAVESHIM_TRIM=save on the leaky host writes a snapshot that restores without the shim" {
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

@test "XSAVESHIM_TRIM=none drops nothing, and tells what it would have dropped and why KVM refused" {
  start_leaky source
  guest_save source "$work/image"
  guest_restore observed "$work/image" "LD_PRELOAD=$shim" XSAVESHIM_TRIM=none
  assert_guest_lost observed
  local about="pid=[0-9]+ ioctl=KVM_SET_XSAVE vcpu=0 fd=[0-9]+"
  local would_trim="event=would-trim $about xstate_bv=(0x[0-9a-f]+) allowed=0x3 after=\\1 dropped=$leaked_name"
  local refused="event=refused $about errno=EINVAL xstate_bv=0x[0-9a-f]+ reason=host-lacks:$leaked_name.*"
  grep -xE "xsaveshim: level=notice $would_trim" "$work/observed/stderr"
  grep -xE "xsaveshim: level=error $refused" "$work/observed/stderr"
  [[ $(grep -c '^xsaveshim:' "$work/observed/stderr") == 2 ]]
}

# What nothing can rescue, here: a payload that the shim is told to leave alone.
@test "XSAVESHIM_REFUSED=abort fails a live migration that KVM refuses, and the source goes on with the guest" {
  local return_path
  for return_path in true false; do
    start_leaky "source-$return_path"
    guest_qmp "source-$return_path" migrate-set-capabilities \
      "{\"capabilities\": [{\"capability\": \"return-path\", \"state\": $return_path}]}"
    await_migration "destination-$return_path" "LD_PRELOAD=$shim" XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort
    guest_qmp "source-$return_path" migrate "{\"uri\": \"unix:$work/destination-$return_path/socket\"}"
    assert_guest_exits "destination-$return_path" 1
    grep -q '^xsaveshim: level=error event=refused .* reason=host-lacks:' "$work/destination-$return_path/stderr"
    [[ ! -s $work/destination-$return_path/serial.0 ]]
  done

  # with a return path the source learns of it; without, it must be told
  guest_wait source-true "the migration has failed" migration_is source-true failed
  guest_wait source-false "the migration has ended" migration_is source-false completed
  guest_qmp source-false cont
  assert_guest_intact source-true
  assert_guest_intact source-false
}

@test "where nothing was leaked the shim says nothing and the guest keeps its registers" {
  guest_start source "LD_PRELOAD=$shim"
  assert_guest_intact source
  guest_save source "$work/image"
  guest_restore restored "$work/image" "LD_PRELOAD=$shim"
  assert_guest_intact restored
  run ! grep -h xsaveshim "$work"/{source,restored}/{stdout,stderr}
}

@test "a guest keeps what its own CPUID enumerates when what was leaked is dropped" {
  # forced: some KVMs have XSAVE for their guests and do not tell
  local avx=(-cpu "qemu64,x-force-features=on,+xsave,+avx")
  start_leaky source -- "${avx[@]}"
  guest_save source "$work/image"
  guest_restore restored "$work/image" "LD_PRELOAD=$shim" -- "${avx[@]}"
  assert_guest_intact restored
  assert_trims "$work/restored/stderr" KVM_SET_XSAVE 0x7
}

@test "the shim does its work before and behind another interposer" {
  local order
  create_disk
  for order in "$shim:$leak" "$leak:$shim" "$leak"; do
    rm -rf "$work/guest"
    touch "$work/host-leaks"
    guest_start guest "LD_PRELOAD=$order" "${leak_settings[@]}" -- "${disk[@]}"
    assert_guest_intact guest
    guest_hmp guest "savevm leaky"
    rm "$work/host-leaks"
    if [[ $order == "$leak" ]]; then
      guest_qmp guest human-monitor-command '{"command-line": "loadvm leaky"}' || qemu_exits_on_refusal
      assert_guest_lost guest
    else
      guest_hmp guest "loadvm leaky"
      assert_guest_intact guest
      assert_trims "$work/guest/stderr"
    fi
    guest_stop guest
  done
}
