# SPDX-License-Identifier: MIT
# Processes and files at which the supervisor hangs: no other VMM may have to wait for such a process or file. No KVM is needed: the
# supervisor handles the calls before the kernel finds that the descriptor is no vCPU.

load lib

work=$BATS_TEST_TMPDIR
static=$build/test/vmm-static

setup() {
  need_no_settings_file
  [[ $EUID == 0 ]] || skip "only root can mount a file system that hangs"
  [[ -w /dev/fuse ]] || skip "there is no /dev/fuse"
}

teardown() {
  [[ ! ${public:-} ]] || rm -rf "$public"
}

# Runs a script in which $mnt/file is a file of hangfs, whose messages go to $messages.
with_hangfs() { # write|flush SCRIPT ARGUMENT...
  run --separate-stderr timeout -k 5 60 unshare --mount --pid --fork --kill-child --mount-proc bash -c '
    export mnt=$1/mnt messages=$1/messages
    mkdir -p "$mnt"
    "$2" "$mnt" "$3" >"$messages" &
    until grep -qx ready "$messages"; do kill -0 $! || exit; sleep 0.02; done
    shift 3
    bash -c "$@"' - "$public" "$build/test/hangfs" "$@"
}

# Checks the answer to a VMM's call that waited for the supervisor.
assert_answered() { # [ERROR]
  [[ $status == 0 && $output == *"set-xsave 0x7: ${1-ENOTTY} "* ]] || fail "$(outcome)"
}

@test "a process that is stuck in its exec holds up no other VMM" {
  make_public "$build/xsaveshim" "$static"
  # The supervisor takes the perl for an owner, and the perl's exec takes for ever to close its file. All other processes have
  # closed the standard error, so the supervisor checks whether the perl still has it open.
  # shellcheck disable=SC2016 # another shell expands it
  with_hangfs flush 'exec "$0" run --supervise -- bash -c "$@"' "$public/xsaveshim" '
    exec 2>/dev/null
    perl -e "ioctl(STDIN, 0xae41, 0); open(FILE, q(<), q($mnt/file)) or die; exec q(true)" </dev/null &
    until grep -qx hangs "$messages"; do kill -0 $! || exit; sleep 0.02; done
    sleep 0.5 # the check comes after 0.1 s without a call
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static"
  assert_answered
}

@test "a log whose file system hangs holds up no VMM that has nothing to report" {
  make_public "$build/xsaveshim" "$static"
  cp "$static" "$public/unreadable"
  chmod 711 "$public/unreadable" # the supervisor may not read this VMM's memory, and reports that
  chmod 777 "$public"
  # shellcheck disable=SC2016
  with_hangfs write 'exec setpriv --reuid nobody --regid nogroup --clear-groups "$0" run --supervise --log="$mnt/file" -- bash -c "$@"' \
    "$public/xsaveshim" '
    "$1" file /dev/null set-xsave 0x7 &
    until grep -qx hangs "$messages"; do sleep 0.02; done
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static" "$public/unreadable"
  assert_answered
}

@test "calls fail at once after the end of the supervisor, even if the guardian's report hangs" {
  make_public "$build/xsaveshim" "$static"
  # shellcheck disable=SC2016
  with_hangfs write 'exec "$0" run --supervise --log="$mnt/file" -- bash -c "$@"' "$public/xsaveshim" '
    pkill -KILL -x xsaveshim # kills only processes of this PID namespace
    until grep -qx hangs "$messages"; do sleep 0.02; done
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static"
  assert_answered ENOSYS
}
