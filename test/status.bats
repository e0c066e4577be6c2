# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# `xsaveshim status`: which VMMs are running, which of them the shim serves, and what it makes of hostile ones.

load lib

command=$build/xsaveshim
idle=$build/test/idle
pretender=$build/test/pretender
work=$BATS_TEST_TMPDIR

setup() {
  need_kvm
}

# in_world    runs the test's function `scenario` as root, where there are no other processes and everybody may open
# /dev/kvm. What it starts ends with it; a command of it that fails, fails the test.
in_world() {
  {
    declare -p build command idle pretender shim work ${manual+manual}
    declare -f
    echo "trap 'echo \"failed: \$BASH_COMMAND\" >&2' ERR; start_world; scenario"
  } >"$work/script"
  timeout $((60 * ${XSTEST_SLOW:-1})) unshare --mount --pid --fork --kill-child --mount-proc \
    bash -Eeuo pipefail "$work/script" 3>&-
}

start_world() {
  local numbers
  numbers=$((16#$(stat -c %t /dev/kvm)))\ $((16#$(stat -c %T /dev/kvm)))
  mkdir "$work/world"
  mount -t tmpfs -o mode=755 none "$work/world"
  # shellcheck disable=SC2086 # two numbers
  mknod -m 666 "$work/world/kvm" c $numbers
  mount --bind "$work/world/kvm" /dev/kvm
  mkfifo "$work/stdin"
  exec 9<>"$work/stdin"
  as_nobody=(setpriv --reuid nobody --regid nogroup --clear-groups)
  # nobody could not enter a work tree below somebody's home
  mount --bind "$build" /media
  command=/media/xsaveshim
  shim=/media/libxsaveshim.so
  idle=/media/test/idle
  pretender=/media/test/pretender
  cp "$pretender" "$work/world/xsaveshim"
}

# start [VARIABLE=VALUE]... COMMAND...    until it says that it is ready; sets pid
start() {
  local said
  said=$(mktemp -p "$work")
  env "$@" <&9 >"$said" &
  pid=$!
  until grep -q ready "$said"; do
    kill -0 "$pid" || fail "it has ended: $*"
    sleep 0.02
  done
}

# start_qemu NAME COMMAND...    COMMAND is what QEMU's command line is appended to
start_qemu() {
  local name=$1
  shift
  "$@" qemu-system-x86_64 -name "guest=$name,debug-threads=on" -nodefaults -machine pc,accel=kvm -cpu qemu64 -m 16 \
    -smp 2 -display none -vga none -nic none -S <&9 >"$work/said.$name" 2>&1 &
  pid=$!
  until [[ $(find "/proc/$pid/fd" -lname 'anon_inode:kvm-vcpu:*' | wc -l) == 2 ]]; do
    kill -0 "$pid" || fail "QEMU has ended: $(<"$work/said.$name")"
    sleep 0.02
  done
}

stop() {
  kill "$pid"
  wait "$pid" || true
}

# kill_supervisor    the only one; processes come and go while find looks
kill_supervisor() {
  local supervisor
  supervisor=$({ find /proc/[0-9]*/fd -lname "anon_inode:seccomp notify" 2>/dev/null || true; } | cut -d / -f 3)
  kill -KILL "$supervisor"
  while [[ -e /proc/$supervisor ]]; do sleep 0.02; done
}

# start_orphan [COMMAND...]    a VMM with the filter of a supervisor that was killed; sets pid
start_orphan() {
  start "$@" "$command" run --supervise -- "$idle" 1
  kill_supervisor
}

# assert_shim STATUS SHIM PROTECTED    of the only VMM
assert_shim() {
  status "$1"
  assert_json ".vmms[] | [.shim, .protected] | @json" "[\"$2\",$3]"
}

# status STATUS [COMMAND...]    run by COMMAND, it exits so; sets text and json
status() {
  local expected=$1 result=0
  shift
  "$@" "$command" status >"$work/text" || result=$?
  text=$(<"$work/text")
  ((result == expected)) || fail "exit status $result, not $expected:" "$text"
  result=0
  "$@" "$command" status --json >"$work/json" || result=$?
  json=$(<"$work/json")
  ((result == expected)) || fail "exit status $result, not $expected, with --json:" "$json"
  jq -e . <<<"$json" >/dev/null || fail "not JSON: $json"
}

# has EXPRESSION EXPECTED    in what status says in JSON
assert_json() {
  local value
  value=$(jq -r "$1" <<<"$json")
  [[ $value == "$2" ]] || fail "expected $2, got $value from $1 in" "$json" "$text"
}

# line_of PID    in what status says in words
line_of() {
  grep -E "^ *$1 " <<<"$text" || fail "no line for $1:" "$text"
}

@test "where no VMM runs status says so, and all is well" {
  scenario() {
    status 0
    [[ $text == "no VMM found" ]]
    assert_json ".vmms | length" 0
    assert_json .verdict protected
  }
  in_world
}

@test "a preloaded VMM and a bare one are told apart, with their vCPUs" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 3; preloaded=$pid
    start "$idle" 2; bare=$pid
    status 1
    assert_json ".vmms | length" 2
    assert_json ".vmms[] | select(.pid == $preloaded) | [.vcpus, .shim, .protected, .library] | @tsv" \
      "3	preload	true	$(realpath "$shim")"
    assert_json ".vmms[] | select(.pid == $bare) | [.vcpus, .shim, .protected, .library, .settings] | @json" \
      "[2,\"none\",false,null,null]"
    assert_json .verdict unprotected
    [[ $(line_of "$preloaded") =~ ^\ *$preloaded\ +3\ +yes\ +preload\ +idle\ +trim=restore ]]
    [[ $(line_of "$bare") =~ ^\ *$bare\ +2\ +NO\ +none\ +idle\ *$ ]]
    [[ $text == *"1 of 2 VMMs not protected: restart them under \`xsaveshim run\`"* ]]
  }
  in_world
}

@test "where all VMMs are protected status says nothing more" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1
    start LD_PRELOAD="$shim" XSAVESHIM_TRIM=both "$idle" 1
    status 0
    assert_json .verdict protected
    [[ $(wc -l <<<"$text") == 3 ]]
  }
  in_world
}

@test "a process without a vCPU is not a VMM" {
  scenario() {
    start "$idle" 0
    status 0
    assert_json ".vmms | length" 0
  }
  in_world
}

@test "the columns are aligned under their headings" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1 -name a
    start LD_PRELOAD="$shim" "$idle" 12 -name a-much-longer-name
    status 0
    heading=${text%%$'\n'*} column=${heading%%SETTINGS*}
    while IFS= read -r line; do
      [[ ${line:${#column}:5} == trim= ]] || fail "not aligned:" "$text"
    done < <(tail -n +2 <<<"$text")
  }
  in_world
}

@test "a VMM whose shim does not trim what it restores is not protected" {
  scenario() {
    for trim in none save; do
      start LD_PRELOAD="$shim" XSAVESHIM_TRIM="$trim" "$idle" 1
      status 1
      assert_json ".vmms[] | [.shim, .protected, .settings.trim] | @tsv" "preload	false	$trim"
      stop
    done
  }
  in_world
}

@test "settings are those of the VMM's environment, then of the settings file as the VMM sees it" {
  # the file is a link whose target exists only there
  scenario() {
    start LD_PRELOAD="$shim" XSAVESHIM_LOG_LEVEL=error XSAVESHIM_LOG=/a/b XSAVESHIM_TRIM=bad unshare --mount sh -c "
      mount -t tmpfs none /etc && mount -t tmpfs none /mnt && ln -s /mnt/conf /etc/xsaveshim.conf &&
      echo XSAVESHIM_REFUSED=abort >/mnt/conf && echo XSAVESHIM_LOG=none >>/mnt/conf &&
      echo XSAVESHIM_TRIM=none >>/mnt/conf && exec \"$idle\" 1" 2>/dev/null
    status 0
    assert_json ".vmms[].settings | tostring" \
      "{\"trim\":\"restore\",\"refused\":\"abort\",\"log\":\"/a/b\",\"log_level\":\"error\"}"
    [[ $(line_of "$pid") == *" trim=restore refused=abort log=/a/b log_level=error" ]]
  }
  in_world
}

@test "the settings are those that the VMM read, whatever its file says by now" {
  scenario() {
    start LD_PRELOAD="$shim" unshare --mount sh -c "
      mount -t tmpfs none /etc && echo XSAVESHIM_REFUSED=abort >/etc/xsaveshim.conf && exec \"$idle\" 1"
    echo XSAVESHIM_TRIM=none >"/proc/$pid/root/etc/xsaveshim.conf"
    status 0
    assert_json ".vmms[].settings | [.trim, .refused] | @tsv" "restore	abort"
    stop
    start unshare --mount sh -c "
      mount -t tmpfs none /etc && echo XSAVESHIM_REFUSED=abort >/etc/xsaveshim.conf && exec \"$command\" run --supervise -- \"$idle\" 1"
    echo XSAVESHIM_TRIM=none >"/proc/$pid/root/etc/xsaveshim.conf"
    status 0
    assert_json ".vmms[] | [.shim, .settings.trim, .settings.refused] | @tsv" "supervised	restore	abort"
  }
  in_world
}

@test "a settings file that the VMM's user could not read is not taken for the VMM's settings" {
  scenario() {
    start LD_PRELOAD="$shim" unshare --mount sh -c "
      mount -t tmpfs none /etc && echo XSAVESHIM_REFUSED=abort >/etc/xsaveshim.conf && chmod 600 /etc/xsaveshim.conf &&
      exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$idle\" 1" 2>/dev/null
    status 0
    assert_json ".vmms[].settings.refused" report
  }
  in_world
}

@test "where the caller may not read a VMM's memory its settings are unknown, with exit status 2" {
  scenario() {
    start "${as_nobody[@]}" env LD_PRELOAD="$shim" "$idle" 1
    install -m 000 /dev/null "$work/world/closed"
    mount --bind "$work/world/closed" "/proc/$pid/mem"
    # what else this user may not inspect would be exit status 2 anyway
    status 2 "${as_nobody[@]}"
    assert_json ".vmms[] | [.shim, .protected, .settings] | @json" "[\"preload\",null,null]"
    [[ $(line_of "$pid") =~ ^\ *$pid\ +1\ +unknown\ +preload\ +idle\ *$ ]]
    grep -q "^1 of 1 VMMs unknown: .*: run this as root$" <<<"$text" || fail "$text"
  }
  in_world
}

@test "a library that keeps no record, as those of other versions, leaves its VMM's protection unknown" {
  scenario() {
    mkdir "$work/other"
    sed "s/xsaveshimrecord/xsaveshimRECORD/" "$shim" >"$work/other/libxsaveshim.so"
    start LD_PRELOAD="$work/other/libxsaveshim.so" "$idle" 1
    assert_shim 2 preload null
    assert_json .not_inspected 0
    assert_json .verdict unknown
    grep -q "^1 of 1 VMMs unknown: .*: restart them$" <<<"$text" || fail "$text"
    # one that is known not to be protected counts for more
    start "$idle" 1
    status 1
    assert_json .verdict unprotected
  }
  in_world
}

@test "a VMM that has the library, but calls the kernel past libc, is not protected" {
  scenario() {
    start LD_PRELOAD="$shim" IDLE_RAW=1 "$idle" 1
    assert_shim 1 bypassed false
    assert_json ".vmms[] | [.library, .settings] | @json" "[\"$(realpath "$shim")\",null]"
    [[ $(line_of "$pid") =~ ^\ *$pid\ +1\ +NO\ +bypassed\ +idle\ *$ ]]
    grep -q "^bypassed: .*xsaveshim run --supervise" <<<"$text" || fail "$text"
    stop
    start LD_PRELOAD="$shim" IDLE_RAW=1 "$command" run --supervise -- "$idle" 1
    assert_shim 0 supervised true
  }
  in_world
}

@test "vCPUs are counted once, though their statistics have descriptors of a like name" {
  scenario() {
    start IDLE_STATS=1 "$idle" 3
    [[ $(find "/proc/$pid/fd" -lname "anon_inode:kvm-vcpu-stats:*" | wc -l) == 3 ]] || fail "no statistics"
    status 1
    assert_json ".vmms[].vcpus" 3
  }
  in_world
}

@test "status opens nothing in the place of the settings file" {
  # a FIFO: had status opened it, its writer would have been let go
  scenario() {
    start LD_PRELOAD="$shim" unshare --mount sh -c "
      mount -t tmpfs none /etc && mkfifo /etc/xsaveshim.conf && exec \"$idle\" 1"
    (echo XSAVESHIM_TRIM=none >"/proc/$pid/root/etc/xsaveshim.conf") &
    status 0
    assert_json ".vmms[].settings.trim" restore
    [[ $(timeout 10 cat "/proc/$pid/root/etc/xsaveshim.conf") == XSAVESHIM_TRIM=none ]]
  }
  in_world
}

@test "a library whose file was replaced or removed is still the VMM's shim, and status says so" {
  scenario() {
    for change in "cp -f --remove-destination $shim $work/libxsaveshim.so" "rm $work/libxsaveshim.so"; do
      cp "$shim" "$work/libxsaveshim.so"
      start LD_PRELOAD="$work/libxsaveshim.so" "$idle" 1
      status 0
      assert_json ".vmms[].library_replaced" false
      $change
      status 0
      assert_json ".vmms[] | [.shim, .protected, .library_replaced, .library] | @tsv" \
        "preload	true	true	$work/libxsaveshim.so"
      [[ $(line_of "$pid") =~ \ yes\ +preload\ \(replaced\)\ +idle ]]
      grep -q "^(replaced): " <<<"$text"
      stop
    done
  }
  in_world
}

@test "a library of another name is no shim" {
  scenario() {
    cp "$shim" "$work/not-libxsaveshim.so"
    start LD_PRELOAD="$work/not-libxsaveshim.so" "$idle" 1
    status 1
    assert_json ".vmms[].shim" none
  }
  in_world
}

@test "names are those that QEMU's options or Firecracker's give, else the program's" {
  scenario() {
    name_is() {
      start "$idle" 1 "${@:2}"
      status 1
      assert_json ".vmms[].name" "$1"
      stop
    }
    name_is idle
    name_is web -name web
    name_is web --name web,process=x
    name_is web -m 16 -name guest=web,debug-threads=on -S
    name_is web -name debug-threads=on,guest=web
    name_is web -name guest=web,on
    name_is a,b=c -name guest=a,,b=c,debug-threads=on
    name_is last -name first -name guest=last
    name_is idle -name guest=
    name_is idle -name
    name_is web --id web --start-time-us 1 --api-sock /run/firecracker.socket
    name_is web --api-sock /run/firecracker.socket --id=web
    name_is idle --id
    name_is web -name web --id other
    name_is web --id other -name web
  }
  in_world
}

@test "a name can neither forge a line nor reach the terminal" {
  scenario() {
    name=$(printf "a\nb\e[31m\rc\xe2\x80\xae\x7f\xc2\x9b")
    start "$idle" 1 -name "guest=$name"
    status 1
    assert_json ".vmms[].name" "$name"
    LC_ALL=C
    [[ $(line_of "$pid") == *" a?b?[31m?c??????" || $(line_of "$pid") == *" a?b?[31m?c?????? "* ]] || fail "$text"
    run_of_text=$(tr -d "\n -~" <<<"$text")
    [[ ! $run_of_text ]] || fail "$text"
    [[ $(wc -l <<<"$text") == 3 ]] || fail "$text"
    # JSON as it stands on the terminal, too
    [[ ! $(tr -d "\n -~\177" <<<"$json") ]] || fail "$json"
  }
  in_world
}

@test "a name that is not UTF-8 is still JSON" {
  scenario() {
    start "$idle" 1 -name "$(printf "a\xff\xfe\nb")"
    status 1
    assert_json ".vmms[].name" "a???b"
  }
  in_world
}

@test "a program cannot pretend to have ended, or to be the kernel's, by its name" {
  scenario() {
    cp "$idle" "$work/world/) Z 0 0 0 0 0 0"
    start "$work/world/) Z 0 0 0 0 0 0" 1
    status 1
    assert_json ".vmms[].name" ") Z 0 0 0 0 0 0"
    status 2 "${as_nobody[@]}"
    assert_json .not_inspected 2
  }
  in_world
}

@test "a command line of any length is read, and a name of any length cut" {
  scenario() {
    mapfile -t many < <(seq -f "%0100000g" 12)
    long=$(printf "%0300d" 7)
    start "$idle" 1 "${many[@]}" -name "$long"
    status 1
    assert_json ".vmms[].name" "${long::255}"
  }
  in_world
}

@test "processes that the caller may not inspect are counted, and nothing is claimed of them" {
  scenario() {
    start "$idle" 1
    # a child that has ended, and that nobody waits for
    bash -c 'until grep -qx sleep "/proc/$$/comm"; do sleep 0.02; done & exec sleep 60' &
    until [[ $(ps --ppid $! -o stat=) == Z* && $(<"/proc/$!/comm") == sleep ]]; do sleep 0.02; done
    hidden=3 # the shell, the VMM and the one that sleeps
    status 2 "${as_nobody[@]}"
    assert_json .not_inspected "$hidden"
    assert_json ".vmms | length" 0
    assert_json .verdict unknown
    [[ $text == "no VMM found"*"$hidden of the running processes could not be inspected: run this as root" ]]
    # root, but not over those who can do more
    status 2 setpriv --bounding-set -sys_ptrace
    [[ $text == *" could not be inspected: run this with all of root's capabilities, "* ]]
    assert_json .not_inspected "$hidden"
    assert_json ".vmms | length" 0
    status 1
    assert_json .not_inspected 0
    # one that is seen not to be protected is told, whatever else there is
    start "${as_nobody[@]}" "$idle" 1
    status 1 "${as_nobody[@]}"
    assert_json ".not_inspected > 0" true
    assert_json ".vmms[].pid" "$pid"
    assert_json .verdict unprotected
  }
  in_world
}

@test "where /proc hides what the caller may not inspect, status does not take it for nothing" {
  scenario() {
    mount -o remount,hidepid=2 /proc
    start "$idle" 1
    status 2 "${as_nobody[@]}"
    assert_json .not_inspected 1
  }
  in_world
}

@test "a preloaded QEMU, a supervised one and a bare one are told apart, by root and by their owner" {
  scenario() {
    local -A pids
    for owner in root nobody; do
      as_owner=(setpriv --reuid "$owner" --clear-groups)
      start_qemu "preloaded-$owner" "${as_owner[@]}" env LD_PRELOAD="$shim" XSAVESHIM_REFUSED=abort \
        XSAVESHIM_LOG_LEVEL=error XSAVESHIM_LOG=none
      pids[preload]=$pid
      start_qemu "supervised-$owner" "${as_owner[@]}" env XSAVESHIM_LOG_LEVEL=error XSAVESHIM_LOG=none \
        "$command" run --supervise --log /a/log -- env -i
      pids[supervised]=$pid
      start_qemu "bare-$owner" "${as_owner[@]}"
      pids[none]=$pid
      for seen_by in root "$owner"; do
        status 1 setpriv --reuid "$seen_by" --clear-groups
        assert_json ".vmms | length" 3
        for shim_kind in preload supervised none; do
          assert_json ".vmms[] | select(.pid == ${pids[$shim_kind]}) | [.shim, .vcpus] | @tsv" "$shim_kind	2"
        done
        assert_json "[.vmms[].name] | join(\" \")" "preloaded-$owner supervised-$owner bare-$owner"
        # yama.bats has what a plain user sees under Yama
        [[ $seen_by == root || $(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0) == 0 ]] || continue
        assert_json ".vmms[0].settings | [.trim, .refused, .log, .log_level] | @tsv" "restore	abort	none	error"
        assert_json ".vmms[1].settings | [.trim, .refused, .log, .log_level] | @tsv" "restore	report	/a/log	error"
      done
      stop
      status 0
      kill -KILL "${pids[preload]}" "${pids[supervised]}"
      wait "${pids[@]}" || true
    done
  }
  in_world
}

@test "a VMM whose supervisor was killed is not protected" {
  scenario() {
    start "$command" run --supervise -- "$idle" 2
    status 0
    assert_json ".vmms[] | [.shim, .protected, .name] | @tsv" "supervised	true	idle"
    kill_supervisor
    status 1
    assert_json ".vmms[].shim" none
  }
  in_world
}

@test "a supervised VMM that lets its parent end is still told to be supervised" {
  scenario() {
    "$command" run --supervise -- sh -c "$idle 1 <&9 9<&- >$work/said & echo \$!" >"$work/pid"
    pid=$(<"$work/pid")
    until grep -q ready "$work/said"; do sleep 0.02; done
    status 0
    assert_json ".vmms[] | [.pid, .shim] | @tsv" "$pid	supervised"
  }
  in_world
}

@test "a supervised VMM whose calls are not trimmed is not protected" {
  scenario() {
    start "$command" run --supervise --trim=none -- "$idle" 1
    status 1
    assert_json ".vmms[] | [.shim, .protected, .settings.trim] | @tsv" "supervised	false	none"
  }
  in_world
}

@test "a VMM that root or its own user has under a supervisor is supervised, whoever it has become since" {
  scenario() {
    start "${as_nobody[@]}" "$command" run --supervise -- "$idle" 1
    assert_shim 0 supervised true
    stop
    start "$command" run --supervise -- "${as_nobody[@]}" "$idle" 1
    assert_shim 0 supervised true
  }
  in_world
}

@test "neither a process named xsaveshim is a supervisor nor a set-uid program behind that name" {
  scenario() {
    start_orphan; vmm=$pid
    start "$work/world/xsaveshim" "$vmm"
    assert_shim 1 none false
    stop
    chmod u+s "$work/world/xsaveshim"
    start "${as_nobody[@]}" "$work/world/xsaveshim" "$vmm"
    [[ $(ps -o euser= "$pid") == root ]]
    assert_shim 1 none false
  }
  in_world
}

@test "this command is a supervisor for root and for the VMM's own user, not for another" {
  # without settings yet, as it is stopped before its first instruction: unknown
  scenario() {
    start_orphan "${as_nobody[@]}"; vmm=$pid
    start setpriv --reuid daemon --regid daemon --clear-groups "$pretender" "$vmm" -- "$command" status
    assert_shim 1 none false
    stop
    # root's, but for the real uid
    start setpriv --ruid daemon --euid root --clear-groups "$pretender" "$vmm" -- "$command" status
    assert_shim 1 none false
    stop
    for owner in root nobody; do
      start setpriv --reuid "$owner" --clear-groups "$pretender" "$vmm" -- "$command" status
      assert_shim 2 supervised null
      stop
    done
  }
  in_world
}

@test "a VMM without a seccomp filter is not supervised, whoever watches it" {
  scenario() {
    start "$idle" 1; vmm=$pid
    start "$pretender" "$vmm" -- "$command" status
    assert_shim 1 none false
  }
  in_world
}

@test "a supervisor whose file was removed, by an upgrade say, still counts; another file of that name does not" {
  scenario() {
    mkdir "$work/old"
    cp "$command" "$work/old/xsaveshim"
    start "$work/old/xsaveshim" run --supervise -- "$idle" 1
    assert_shim 1 none false
    cp --remove-destination "$command" "$work/old/xsaveshim"
    assert_shim 0 supervised true
    rm "$work/old/xsaveshim"
    assert_shim 0 supervised true
    stop
    # a removed file of another name is another program
    cp "$command" "$work/old/other"
    start "$work/old/other" run --supervise -- "$idle" 1
    rm "$work/old/other"
    assert_shim 1 none false
  }
  in_world
}

@test "a supervisor of another VMM is none of this one" {
  scenario() {
    start_orphan; vmm=$pid
    start "$command" run --supervise -- "$idle" 1
    status 1
    assert_json ".vmms[] | select(.pid == $vmm) | .shim" none
    assert_json ".vmms[] | select(.pid == $pid) | .shim" supervised
  }
  in_world
}

@test "what another program watches is not supervised" {
  scenario() {
    start_orphan; vmm=$pid
    start "$pretender" "$vmm"
    assert_shim 1 none false
  }
  in_world
}

@test "VMMs that come and go while status looks do not confuse it" {
  scenario() {
    (while :; do timeout 0.02 "$idle" 4 <&9 >/dev/null || true; done) &
    (while :; do LD_PRELOAD="$shim" timeout 0.02 "$idle" 4 <&9 >/dev/null || true; done) &
    for ((i = 0; i < 10; i++)); do
      result=0
      json=$("$command" status --json) || result=$?
      ((result <= 1)) || fail "exit status $result"
      jq -e ".vmms | all(.vcpus > 0 and .vcpus <= 4 and .pid > 0)" <<<"$json" >/dev/null || fail "$json"
    done
  }
  in_world
}

@test "a VMM that is ending is not taken for one without a shim" {
  # its memory goes first, and takes a while, as it does with guests of many GiB
  scenario() {
    for ((i = 0; i < 3; i++)); do
      start LD_PRELOAD="$shim" IDLE_MIB=256 "$idle" 1
      kill "$pid"
      until status 0; assert_json ".vmms | length" 0 2>/dev/null; do
        assert_json ".vmms[].shim" preload
      done
    done
  }
  in_world
}

@test "status's JSON has the keys that the manual names and no others" {
  manual=$(sed -n '/^\.Ss status/,/^\.Sh /p' "$repo/man/xsaveshim.1")
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1
    status 0
    assert_json "keys_unsorted | join(\" \")" "$(sed -n "s/^\.It Li //p" <<<"$manual" | paste -sd " ")"
    for key in $(jq -r ".vmms[0] | keys[], (.settings | keys[])" <<<"$json"); do
      grep -q "^\.\(Pf ( \)\?Li $key\b" <<<"$manual" || fail "the manual does not tell of $key"
    done
    assert_json "[paths | map(if type == \"number\" then 0 else . end | tostring) | join(\".\")] | join(\" \")" \
      "vmms vmms.0 vmms.0.pid vmms.0.name vmms.0.vcpus vmms.0.shim vmms.0.protected vmms.0.library \
vmms.0.library_replaced vmms.0.settings vmms.0.settings.trim vmms.0.settings.refused vmms.0.settings.log \
vmms.0.settings.log_level not_inspected verdict"
  }
  in_world
}

@test "where /proc cannot be read status says so, and claims nothing" {
  scenario() {
    local result=0
    chmod 111 /proc
    "${as_nobody[@]}" "$command" status --json >"$work/out" 2>"$work/err" || result=$?
    ((result == 2))
    [[ ! -s $work/out && $(<"$work/err") == "xsaveshim status: cannot read /proc, which must be mounted and readable: Permission denied" ]]
  }
  in_world
}

@test "status knows --json and --help, and any other option is an error" {
  run --separate-stderr "$command" status --help
  [[ $status == 0 && $output == 'usage: xsaveshim status [--json]'* ]]
  for word in --jsonn now; do
    run --separate-stderr "$command" status "$word"
    [[ $status == 2 && $output == '' && $stderr == *'usage: xsaveshim status [--json]'* ]]
  done
}
