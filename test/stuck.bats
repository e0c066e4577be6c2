# SPDX-License-Identifier: MIT
# Tests of xsaveshim's supervisor: if its access to one process or file hangs, VMMs that have nothing to do with this access must
# not wait. The tests do not need KVM: they call KVM_SET_XSAVE for /dev/null. The kernel refuses this call with ENOTTY, but only
# after the supervisor has handled the call.

load lib

work=$BATS_TEST_TMPDIR
static=$build/test/vmm-static

setup() {
  need_no_settings_file
  [[ $EUID == 0 ]] || skip "not root: this test mounts a FUSE file system"
  [[ -w /dev/fuse ]] || skip "/dev/fuse does not exist or is not writable"
}

teardown() {
  [[ ! ${public:-} ]] || rm -rf "$public"
}

# Runs SCRIPT with $mnt/file, a file on the tests' file system hangfs. If the first argument is write, each write to the file
# hangs; if it is flush, each close of the file hangs. For each hanging write or close, hangfs prints "hangs" into $messages.
with_hangfs() { # write|flush SCRIPT ARGUMENT...
  run --separate-stderr timeout -k 5 60 unshare --mount --pid --fork --kill-child --mount-proc bash -c '
    export mnt=$1/mnt messages=$1/messages
    mkdir -p "$mnt"
    "$2" "$mnt" "$3" >"$messages" &
    until grep -qx ready "$messages"; do kill -0 $! || exit; sleep 0.02; done
    shift 3
    bash -c "$@"' - "$public" "$build/test/hangfs" "$@"
}

# Checks that the VMM's KVM_SET_XSAVE did not hang, but failed with ERROR. The default is ENOTTY, the kernel's error for /dev/null.
assert_answered() { # [ERROR]
  [[ $status == 0 && $output == *"set-xsave 0x7: ${1-ENOTTY} "* ]] || fail "$(outcome)"
}

@test "if one supervised process hangs in its exec, the supervisor continues to serve the other processes" {
  make_public "$build/xsaveshim" "$static"
  # The perl process makes the ioctl KVM_CREATE_VCPU, so the supervisor takes perl for a VMM. Then perl calls exec, which closes
  # $mnt/file, and this close hangs. The supervisor closes its standard error when no VMM has this file open any more. To find that
  # out, it calls kcmp() for perl. kcmp() waits for the end of perl's exec, so kcmp() hangs, too.
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

@test "after the supervisor is killed, a supervised process's KVM_SET_XSAVE fails at once with ENOSYS, even if writing the report about the supervisor's death hangs" {
  make_public "$build/xsaveshim" "$static"
  # shellcheck disable=SC2016
  with_hangfs write 'exec "$0" run --supervise --log="$mnt/file" -- bash -c "$@"' "$public/xsaveshim" '
    pkill -KILL -x xsaveshim # kills only processes of this PID namespace
    until grep -qx hangs "$messages"; do sleep 0.02; done
    exec timeout 10 "$0" file /dev/null set-xsave 0x7' "$public/vmm-static"
  assert_answered ENOSYS
}
