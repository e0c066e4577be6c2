# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Boots, saves, restores and observes the canary guest (test/guest/canary.S) under real QEMU and KVM. The caller sources this file
# and sets
#
#     build           the directory that `make test-programs` built in
#     work            a scratch directory, which the caller removes after guest_stop_all
#     guest_vcpus     the number of vCPUs of each guest that starts, 1 to 4 (default 1)
#     guest_machine   QEMU's arguments for memory and firmware or kernel (default: the canary)
#
# Each guest has a directory, $work/NAME, with
#
#     serial.N        the output of vCPU N: T while its canary (a value in xmm7) is intact, X once the canary is lost
#     stderr          the standard error of QEMU, with the reports of a library preloaded into QEMU
#     qmp.in qmp.out  the FIFOs of QEMU's monitor (QMP)
#     pid             QEMU's process ID
#
# Each wait has a time-out. XSTEST_SLOW=N makes each time-out N times as long, for slow machines, such as those that QEMU emulates
# without KVM. If a wait fails, the function prints the event that it waited for, and the last lines of QEMU's stderr.

guest_vcpus=1
guest_machine=(-m 32 -bios "$build/test/canary.bin")
# A command, such as unshare, that stands in front of QEMU's command line and executes it
guest_launcher=()
qemu="qemu-system-x86_64"

# Returns true if this QEMU exits when KVM refuses the vCPU state, as QEMU 8.2 and later do. Earlier versions run on.
qemu_exits_on_refusal() {
  [[ $("$qemu" --version) =~ version\ ([0-9]+)\.([0-9]+) ]] || { echo "$qemu prints no version" >&2; return 2; }
  ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] >= 802))
}

# guest_start NAME [VAR=VALUE]... [-- QEMU-ARGUMENT...]    starts QEMU and returns at once; QEMU's environment has VAR=VALUE
guest_start() {
  local name=$1 dir=$work/$1 environment=() n serials=()
  shift
  while (($#)) && [[ $1 != -- ]]; do environment+=("$1"); shift; done
  shift $(($# > 0))
  mkdir -p "$dir"
  rm -f "$dir"/{pid,stderr,qmp.in,qmp.out}
  mkfifo "$dir/qmp.in" "$dir/qmp.out"
  for ((n = 0; n < guest_vcpus; n++)); do
    : >"$dir/serial.$n"
    serials+=(-serial "file:$dir/serial.$n")
  done
  # bats ends only when every process has closed descriptor 3, which bats opens, so QEMU must not inherit this descriptor.
  (
    echo "$BASHPID" >"$dir/pid"
    exec "${guest_launcher[@]}" env "${environment[@]}" "$qemu" -name "$name" -nodefaults -machine pc,accel=kvm -cpu qemu64 \
      "${guest_machine[@]}" -smp "$guest_vcpus" -display none -vga none -nic none "${serials[@]}" \
      -qmp "pipe:$dir/qmp" "$@"
  ) </dev/null >"$dir/stdout" 2>>"$dir/stderr" 3>&- &
}

guest_running() { # NAME
  [[ -s $work/$1/pid ]] && kill -0 "$(<"$work/$1/pid")" 2>/dev/null
}

# guest_wait NAME WHAT COMMAND...    waits until COMMAND succeeds; if QEMU exits first or the time is up, fails with a message that
# names WHAT as the event that did not happen
guest_wait() {
  local name=$1 what=$2 end=$((SECONDS + 20 * ${XSTEST_SLOW:-1}))
  shift 2
  until "$@"; do
    if [[ -s $work/$name/pid ]] && ! guest_running "$name"; then
      guest_blame "$name" "QEMU has exited before: $what"
      return 1
    fi
    if ((SECONDS >= end)); then
      guest_blame "$name" "timed out before: $what"
      return 1
    fi
    sleep 0.02
  done
}

guest_blame() { # NAME MESSAGE
  echo "guest $1: $2; QEMU said:" >&2
  tail -n 5 "$work/$1/stderr" >&2
}

# guest_wait_for NAME LETTERS    waits until every vCPU has printed three more letters that are in LETTERS
guest_wait_for() {
  local n serial
  for ((n = 0; n < guest_vcpus; n++)); do
    serial=$work/$1/serial.$n
    guest_wait "$1" "vCPU $n prints $2" printed_more "$serial" "$(stat -c %s "$serial")" "$2" || return 1
  done
}

printed_more() { # FILE SIZE-BEFORE LETTERS
  (($(tail -c "+$(($2 + 1))" "$1" | tr -cd "$3" | wc -c) >= 3))
}

# Checks that the guest runs, and that no vCPU has lost its canary.
assert_guest_intact() { # NAME
  guest_wait_for "$1" TX || return 1
  if grep -q X "$work/$1"/serial.*; then
    guest_blame "$1" "it has lost its canary"
    return 1
  fi
}

# Checks that the guest is lost because KVM refused its payload. QEMU 8.2 and later exit with a message. Earlier QEMUs report that
# the guest runs, but the first vCPU has lost its canary. (The other vCPUs never start, because the state that makes them runnable
# is lost, too.)
assert_guest_lost() { # NAME
  if qemu_exits_on_refusal; then
    assert_guest_exits "$1" 1 && grep -q 'Failed to set XSAVE: Invalid argument' "$work/$1/stderr"
  else
    guest_vcpus=1 guest_wait_for "$1" X && [[ $(guest_status "$1") == running ]]
  fi
}

# assert_guest_exits NAME STATUS    checks that QEMU exits with STATUS in time; call it in the shell that called guest_start,
# because no other shell can get the status
assert_guest_exits() {
  local name=$1 pid status=0 end=$((SECONDS + 20 * ${XSTEST_SLOW:-1}))
  guest_wait "$1" "it starts" test -s "$work/$1/pid" || return 1
  pid=$(<"$work/$1/pid")
  while guest_running "$name"; do
    if ((SECONDS >= end)); then
      guest_blame "$name" "timed out before QEMU exited"
      return 1
    fi
    sleep 0.02
  done
  wait "$pid" || status=$?
  ((status == $2)) || { guest_blame "$name" "exit status $status, not $2"; return 1; }
}

# guest_qmp NAME COMMAND [ARGUMENTS-JSON]    sends COMMAND to QEMU's monitor, and prints QEMU's answer, a line of JSON; fails if the
# answer is an error
guest_qmp() {
  local dir=$work/$1 id=$EPOCHREALTIME in out answer=
  guest_wait "$1" "its monitor" test -p "$dir/qmp.in" || return 1
  exec {in}<>"$dir/qmp.in" {out}<>"$dir/qmp.out"
  # QMP requires qmp_capabilities before any other command, so each guest_qmp sends it. QMP refuses a second one; this does no harm.
  printf '{"execute": "%s", "arguments": %s, "id": "%s"}\n' qmp_capabilities '{}' hello "$2" "${3:-{\}}" "$id" >&"$in"
  guest_wait "$1" "an answer to $2" read_answer "$out" "$id"
  exec {in}>&- {out}>&-
  [[ $answer == *"\"$id\""* && $answer != *'"error": {"class"'* ]] || { echo "guest $1: $2: $answer" >&2; return 1; }
  printf '%s\n' "$answer"
}

# read_answer FD ID    reads from FD up to the line with ID, sets $answer to this line, and returns true; if this line has not
# arrived completely, returns false, and leaves the part of an incomplete line in $answer for the next call
read_answer() {
  local part
  while IFS= read -r -t 0.1 -u "$1" part; do
    answer+=$part
    [[ $answer != *"\"id\": \"$2\""* ]] || return 0
    answer=
  done
  answer+=$part
  return 1
}

guest_status() { # NAME    running, paused, postmigrate ...
  [[ $(guest_qmp "$1" query-status) =~ \"status\":\ \"([a-z-]+)\" ]] && echo "${BASH_REMATCH[1]}"
}

# guest_hmp NAME COMMAND    runs COMMAND in QEMU's human monitor; fails if COMMAND prints anything
guest_hmp() {
  local answer
  answer=$(guest_qmp "$1" human-monitor-command "{\"command-line\": \"$2\"}") || return 1
  [[ $answer == *'"return": ""'* ]] || { echo "guest $1: $2: $answer" >&2; return 1; }
}

# guest_migrate NAME URI [completed|failed]    migrates to URI, and waits until the migration has this status (default: completed)
guest_migrate() {
  guest_qmp "$1" migrate "{\"uri\": \"$2\"}" >/dev/null &&
    guest_wait "$1" "migration ${3:-completed}" migration_is "$1" "${3:-completed}"
}

migration_is() { # NAME STATUS
  [[ $(guest_qmp "$1" query-migrate) == *"\"status\": \"$2\""* ]]
}

# guest_save NAME FILE    saves the guest's state to a file, as `virsh save` does; the guest stays stopped
guest_save() {
  guest_migrate "$1" "exec:cat >$2"
}

# guest_restore NAME FILE [VAR=VALUE]... [-- QEMU-ARGUMENT...]    starts a QEMU that loads the guest's state from FILE
guest_restore() {
  local name=$1 file=$2
  shift 2
  [[ " $* " == *" -- "* ]] || set -- "$@" --
  guest_start "$name" "$@" -incoming "exec:cat $file"
}

guest_stop() { # NAME
  local pid
  guest_running "$1" || return 0
  pid=$(<"$work/$1/pid")
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}

guest_stop_all() {
  local dir
  for dir in "$work"/*/; do
    [[ ! -e $dir/pid ]] || guest_stop "$(basename "$dir")"
  done
}
