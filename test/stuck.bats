# SPDX-License-Identifier: MIT
# If the supervisor's access to one process or file hangs, VMMs that have nothing to do with this access must not have to wait. The
# tests do not need KVM, because the supervisor handles each call before the kernel finds that the descriptor is not a vCPU.

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

# Runs a script in which $mnt/file is a file on hangfs, a file system in which each write (with the argument write) or each close
# (flush) hangs. hangfs prints its messages into the file $messages.
with_hangfs() { # write|flush SCRIPT ARGUMENT...
  run --separate-stderr timeout -k 5 60 unshare --mount --pid --fork --kill-child --mount-proc bash -c '
    export mnt=$1/mnt messages=$1/messages
    mkdir -p "$mnt"
    "$2" "$mnt" "$3" >"$messages" &
    until grep -qx ready "$messages"; do kill -0 $! || exit; sleep 0.02; done
    shift 3
    bash -c "$@"' - "$public" "$build/test/hangfs" "$@"
}

# Checks that the supervisor has let a VMM's KVM_SET_XSAVE go on: the call has returned ERROR.
assert_answered() { # [ERROR]
  [[ $status == 0 && $output == *"set-xsave 0x7: ${1-ENOTTY} "* ]] || fail "$(outcome)"
}

@test "if a process of one supervised VMM hangs in its exec, the supervisor still serves the other VMMs" {
  make_public "$build/xsaveshim" "$static"
  # The perl process makes an ioctl that the supervisor watches, so the supervisor takes perl for a VMM. Then perl calls exec,
  # which closes a file, and this close hangs. All other processes have closed standard error. So the supervisor checks whether the
  # perl process still has standard error open, and this check hangs, too.
  # shellcheck disable=SC2016 # another shell expands it
  with_hangfs flush 'exec "$0" run --supervise -- bash -c "$@"' "$public/xsaveshim" '
    exec 2>/dev/null
    perl -e "ioctl(STDIN, 0xae41, 0); open(FILE, q(<), q($mnt/file)) or die; exec q(true)" </dev/null &
    until grep -qx hangs "$messages"; do kill -0 $! || exit; sleep 0.02; done
    sleep 0.5 # the supervisor checks standard error after 0.1 s without a call
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static"
  assert_answered
}

@test "if writes to the supervisor's log file hang, the supervisor still serves a VMM whose calls cause no report" {
  make_public "$build/xsaveshim" "$static"
  cp "$static" "$public/unreadable"
  chmod 711 "$public/unreadable" # the supervisor may not read the memory of the VMM that runs this file, and reports that
  chmod 777 "$public"
  # shellcheck disable=SC2016
  with_hangfs write 'exec setpriv --reuid nobody --regid nogroup --clear-groups "$0" run --supervise --log="$mnt/file" -- bash -c "$@"' \
    "$public/xsaveshim" '
    "$1" file /dev/null set-xsave 0x7 &
    until grep -qx hangs "$messages"; do sleep 0.02; done
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static" "$public/unreadable"
  assert_answered
}

@test "after the supervisor is killed, a supervised process's KVM_SET_XSAVE fails at once with ENOSYS, even if the report of the supervisor's death hangs" {
  make_public "$build/xsaveshim" "$static"
  # shellcheck disable=SC2016
  with_hangfs write 'exec "$0" run --supervise --log="$mnt/file" -- bash -c "$@"' "$public/xsaveshim" '
    pkill -KILL -x xsaveshim # kills only processes of this PID namespace
    until grep -qx hangs "$messages"; do sleep 0.02; done
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static"
  assert_answered ENOSYS
}
