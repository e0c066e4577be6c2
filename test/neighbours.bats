# SPDX-License-Identifier: MIT
# Tests that programs other than VMMs do not notice the library. If a daemon has LD_PRELOAD, each program that the daemon starts
# loads the library.

load lib

setup() {
  need_no_settings_file
  log=$BATS_TEST_TMPDIR/log
  mkdir "$etc"
  printf '%s\n' "XSAVESHIM_LOG=$log" XSAVESHIM_TRIM=mistake XSAVESHIM_REFUSED= 'no setting' XSAVESHIM_LOG_LEVEL=debug \
    >"$etc/xsaveshim.conf"
}

# traced NAME COMMAND...    runs COMMAND, and traces the system calls of each of its processes into the file
# $BATS_TEST_TMPDIR/NAME.PID. If NAME is shimmed, COMMAND preloads the library.
traced() {
  local name=$1 preload=()
  shift
  [[ $name != shimmed ]] || preload=(-E "LD_PRELOAD=$shim")
  run privately timeout 120 strace -ff -qq -o "$BATS_TEST_TMPDIR/$name" "${preload[@]}" "$@"
  ((status == 0)) || fail "exit status $status" "$output"
}

# Prints, sorted, the system calls in the traces NAME.PID. Prints only the kinds that the library must not add to a program.
# Omits pids and addresses, which differ between runs.
effects() { # NAME
  local calls='write|writev|pwrite64|pwritev2?|sendto|sendmsg|sendmmsg|socket|socketpair|connect|bind|dup[23]?|fcntl|pipe2?|eventfd2'
  calls+='|memfd_create|openat|open|creat|mkdir|mknod|rename|unlink|ftruncate|kill|tgkill|getpid|prctl|rt_sigaction|ioctl'
  cat "$BATS_TEST_TMPDIR/$1".* | grep -E "^($calls)\(" |
    sed -E 's/0x[0-9a-f]+/ADDRESS/g; s/^(write\([0-9]+), .*/\1/; s/= [0-9]+$/= NUMBER/; s/\(([0-9]+), F_/(FD, F_/' | sort
}

# Checks that at least PROGRAMS programs ran with the library. In each program, the library must read the settings file once.
# Directly after that, the library must call fstat() for standard error and read RLIMIT_FSIZE.
assert_settings_read_once() { # PROGRAMS
  local file calls programs=0 loads
  for file in "$BATS_TEST_TMPDIR"/shimmed.*; do
    loads=$(grep -c '^execve(.* = 0$' "$file") || continue
    programs=$((programs + loads))
    [[ $loads == "$(grep -c 'xsaveshim\.conf' "$file")" ]] || fail "$file: $loads programs" "$(grep xsaveshim "$file")" || return
    calls=$(grep -A 6 'xsaveshim\.conf' "$file" | sed -nE 's/^(fstat\(2|[a-z0-9]+).*/\1/p' | head -n 7 | xargs)
    [[ $calls == 'openat read read close fstat(2 fstat(2 prlimit64' ]] || fail "$calls" "$(grep -A 5 'xsaveshim\.conf' "$file")" || return
  done
  ((programs >= $1)) || fail "only $programs programs ran with the library, not $1"
}

assert_goes_unnoticed() { # PROGRAMS COMMAND...
  local bare_output
  traced bare "${@:2}"
  bare_output=$output
  traced shimmed "${@:2}"
  [[ $output == "$bare_output" ]] || fail "the output differs" "$(diff <(echo "$bare_output") <(echo "$output"))" || return
  grep -q 'libxsaveshim\.so.* = [0-9]' "$BATS_TEST_TMPDIR"/shimmed.* || fail "the library was not loaded" || return
  diff -u <(effects bare) <(effects shimmed | grep -vE '^openat\(AT_FDCWD, "[^"]*/(libxsaveshim\.so|xsaveshim\.conf)", O_RDONLY') ||
    fail "the effects differ" || return
  [[ ! -e $log ]] || fail "there is a log: $(<"$log")" || return
  assert_settings_read_once "$1"
}

@test "even with a bad settings file, the library preloaded into true(1) writes nothing, opens no log and keeps no descriptor open" {
  assert_goes_unnoticed 1 /bin/true
}

@test "even with a bad settings file, the library preloaded into a shell and its children writes nothing, opens no log and keeps no descriptor open" {
  assert_goes_unnoticed 4 bash -c 'echo out; echo error >&2; /bin/true | cat; ls /proc/self/fd'
}

@test "even with a bad settings file, the library preloaded into Python and ten child processes writes nothing, opens no log and keeps no descriptor open" {
  assert_goes_unnoticed 6 /usr/bin/python3 -c '
import os, subprocess
print(os.listdir("/proc/self/fd"), flush=True)
for _ in range(5):
    subprocess.run(["/bin/true"], check=True)
    child = os.fork()
    if not child:
        print(os.listdir("/proc/self/fd"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
'
}
