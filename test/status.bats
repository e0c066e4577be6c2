# SPDX-License-Identifier: MIT
# bats file_tags=kvm
# Tests of `xsaveshim status`, which lists the running VMMs, and says which of them are protected. A VMM is protected if xsaveshim
# trims the payloads that the VMM loads. Some tests run the program pretender, which only imitates the supervisor of
# `xsaveshim run --supervise`.

load lib

command=$build/xsaveshim
idle=$build/test/idle
pretender=$build/test/pretender
standins=$build/test
work=$BATS_TEST_TMPDIR

setup() {
  need_kvm
}

# in_world    runs the test's function `scenario` in new PID and mount namespaces: see in_namespaces in lib.bash. In the scenario,
# every user may open /dev/kvm.
in_world() {
  in_namespaces 'start_world; scenario' build command idle pretender shim standins work BATS_FILE_TMPDIR ${manual+manual}
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
  # perhaps the user nobody may not enter a directory above the build tree, so the build tree is also mounted at /media
  mount --bind "$build" /media
  command=/media/xsaveshim
  shim=/media/libxsaveshim.so
  idle=/media/test/idle
  pretender=/media/test/pretender
  standins=/media/test
  cp "$pretender" "$work/world/xsaveshim"
}

# start [VARIABLE=VALUE]... COMMAND...    starts COMMAND with these environment variables, sends its output to a new file $said,
# waits until COMMAND has printed "ready", and sets $pid to the process ID of COMMAND
start() {
  said=$(mktemp -p "$work")
  env "$@" <&9 >"$said" &
  pid=$!
  until grep -q ready "$said"; do
    kill -0 "$pid" || fail "it has ended: $*"
    sleep 0.02
  done
}

# start_qemu NAME PREFIX...    runs QEMU with a guest called NAME, waits until QEMU has two vCPUs, and sets $pid to QEMU's process
# ID. PREFIX is a command that executes QEMU, for example env or setpriv.
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

# kill_supervisor    kills the only supervisor and its guardian, the process that reports a supervisor's death. Only these two hold
# a seccomp listener. If a process ends while `find` reads its /proc files, `find` fails; this does not matter.
kill_supervisor() {
  local process processes
  processes=$({ find /proc/[0-9]*/fd -lname "anon_inode:seccomp notify" 2>/dev/null || true; } | cut -d / -f 3)
  # shellcheck disable=SC2086 # two words
  kill -KILL $processes
  for process in $processes; do
    while [[ -e /proc/$process ]]; do sleep 0.02; done
  done
}

# start_orphan [PREFIX...]    starts a VMM under a supervisor, kills the supervisor, and sets $pid to the VMM's process ID. The VMM
# continues to run, and keeps the supervisor's seccomp filter. PREFIX is a command that executes xsaveshim, for example setpriv.
start_orphan() {
  start "$@" "$command" run --supervise -- "$idle" 1
  kill_supervisor
}

# assert_mode STATUS MODE PROTECTED    checks that `xsaveshim status` exits with STATUS, and that it shows the mode MODE and the
# protection PROTECTED (true, false or null) for the only VMM
assert_mode() {
  assert_status "$1"
  assert_json ".vmms[] | [.mode, .protected] | @json" "[\"$2\",$3]"
}

# assert_status STATUS [PREFIX...]    runs `xsaveshim status` with and without --json, checks that both runs exit with STATUS, and
# sets $text and $json to their outputs. PREFIX is a command that executes xsaveshim, for example setpriv.
assert_status() {
  local expected=$1 result=0
  shift
  "$@" "$command" status >"$work/text" || result=$?
  text=$(<"$work/text")
  ((result == expected)) || fail "xsaveshim status exited with $result, not with $expected, and printed:" "$text"
  result=0
  "$@" "$command" status --json >"$work/json" || result=$?
  json=$(<"$work/json")
  ((result == expected)) || fail "xsaveshim status --json exited with $result, not with $expected, and printed:" "$json"
  collect_json "$json" || fail "not JSON: $json"
}

# assert_json EXPRESSION EXPECTED
assert_json() {
  local value
  value=$(jq -r "$1" <<<"$json")
  [[ $value == "$2" ]] || fail "the jq filter $1 gives $value instead of $2 for this output of xsaveshim status:" "$json" "$text"
}

# line_of PID    prints the table line of the VMM whose process ID is PID, from the output $text of `xsaveshim status`
line_of() {
  grep -E "^ *$1 " <<<"$text" || fail "no line for $1:" "$text"
}

@test "if no VMM runs, xsaveshim status says that it found no VMM, and exits with 0" {
  scenario() {
    assert_status 0
    [[ $text == "no VMM found" ]]
    assert_json ".vmms | length" 0
    assert_json .verdict protected
  }
  in_world
}

@test "xsaveshim status shows each VMM's number of vCPUs and its mode: 'library' if libxsaveshim.so is preloaded, 'none' for a VMM without xsaveshim" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 3; preloaded=$pid
    start "$idle" 2; bare=$pid
    assert_status 1
    assert_json ".vmms | length" 2
    assert_json ".vmms[] | select(.pid == $preloaded) | [.vcpus, .mode, .protected, .library] | @tsv" \
      "3	library	true	$(realpath "$shim")"
    assert_json ".vmms[] | select(.pid == $bare) | [.vcpus, .mode, .protected, .library, .settings] | @json" \
      "[2,\"none\",false,null,null]"
    assert_json .verdict unprotected
    [[ $(line_of "$preloaded") =~ ^\ *$preloaded\ +3\ +yes\ +library\ +idle(\ +0){5}\ +trim=restore ]]
    [[ $(line_of "$bare") =~ ^\ *$bare\ +2\ +NO\ +none\ +idle(\ +-){5}\ *$ ]]
    [[ $text == *"1 of 2 VMMs not protected (pid $bare): restart them under \`xsaveshim run\`"* ]]
  }
  in_world
}

@test "if all VMMs are protected, xsaveshim status prints only the table of the VMMs, and no advice below the table" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1
    start LD_PRELOAD="$shim" XSAVESHIM_TRIM=both "$idle" 1
    assert_status 0
    assert_json .verdict protected
    [[ $(wc -l <<<"$text") == 3 ]]
  }
  in_world
}

@test "if access to a process's /proc files hangs, xsaveshim status skips and names this process, and inspects the other processes" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1
    start "$idle" 0; hanging=$pid
    start LD_PRELOAD="$shim" "$idle" 2
    export HANG_PIDS=$hanging
    assert_status 2 env LD_PRELOAD="$standins/hang.so"
    assert_json "[.vmms[].vcpus] | @json" "[1,2]"
    assert_json ".not_inspected | @json" "[{\"pid\":$hanging,\"reason\":\"no-answer\"}]"
    assert_json .verdict unknown
    grep -qF "1 of the running processes could not be inspected (pid $hanging): the kernel gave no answer" <<<"$text" || fail "$text"
    # an unprotected VMM makes the exit status 1, even if `status` could not inspect another process
    start "$idle" 1
    assert_status 1 env LD_PRELOAD="$standins/hang.so"
  }
  in_world
}

@test "if access to the /proc files of 40 processes hangs, xsaveshim status stops after 30 seconds, and names the processes that it did not inspect" {
  scenario() {
    start IDLE_CHILDREN=40 "$idle" 0
    mapfile -t children < <(ps --ppid "$pid" -o pid= | tr -d " ")
    ((${#children[@]} == 40))
    export HANG_PIDS="${children[*]}"
    result=0
    json=$(LD_PRELOAD="$standins/hang.so" timeout 50 "$command" status --json) || result=$?
    ((result == 2)) || fail "xsaveshim status --json exited with $result, not with 2, and printed: $json"
    assert_json ".not_inspected | [.[] | select(.pid == (env.HANG_PIDS | split(\" \")[] | tonumber))] | length" 40
    assert_json "[.not_inspected[].reason] | unique | @json" "[\"no-answer\",\"no-time\"]"
  }
  in_world
}

@test "xsaveshim status inspects 5,000 idle processes within 2 seconds" {
  scenario() {
    # a kernel that is configured to be small has a default pid_max of 4,096, which is too low for this test
    (($(</proc/sys/kernel/pid_max) > 10000)) || echo 32768 >/proc/sys/kernel/pid_max
    local processes=5000
    # With a sanitizer on a busy emulated CPU, status reached only 4,000 processes within its limit of 30 seconds.
    [[ ! -v ASAN_OPTIONS ]] || processes=1000
    start IDLE_CHILDREN="$processes" LD_PRELOAD="$shim" "$idle" 1
    start=${EPOCHREALTIME/./}
    assert_status 0 # assert_status runs status twice, once with --json
    ((${EPOCHREALTIME/./} - start < 2 * 2000000 * ${XSTEST_SLOW:-1})) ||
      fail "two runs of xsaveshim status took $((${EPOCHREALTIME/./} - start)) us"
    assert_json ".vmms | length" 1
  }
  in_world
}

@test "xsaveshim status finds a VMM's vCPUs even if the VMM's main thread has ended, or has another descriptor table than the thread that created the vCPUs" {
  scenario() {
    local where
    for where in IDLE_THREAD IDLE_END; do
      start "$where=1" LD_PRELOAD="$shim" "$idle" 3
      [[ $where == IDLE_THREAD ]] || until grep -q "^State:.Z" "/proc/$pid/status"; do sleep 0.02; done
      assert_status 0
      assert_json ".vmms[] | [.pid, .vcpus, .mode, .protected, .name] | @tsv" "$pid	3	library	true	idle"
      stop
      start "${as_nobody[@]}" env "$where=1" "$idle" 3
      assert_status 1
      assert_json ".vmms[] | [.vcpus, .mode] | @tsv" "3	none"
      assert_status 2 setpriv --reuid daemon --clear-groups
      assert_json ".not_inspected[] | select(.pid == $pid) | .reason" not-permitted
      stop
    done
  }
  in_world
}

@test "xsaveshim status does not list a process that has no vCPU" {
  scenario() {
    start "$idle" 0
    assert_status 0
    assert_json ".vmms | length" 0
  }
  in_world
}

@test "the columns of xsaveshim status are aligned under their headings, even if the VMMs' names differ in length" {
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1 -name a
    start LD_PRELOAD="$shim" "$idle" 12 -name a-much-longer-name
    assert_status 0
    heading=${text%%$'\n'*} column=${heading%%SETTINGS*}
    while IFS= read -r line; do
      [[ ${line:${#column}:5} == trim= ]] || fail "not aligned:" "$text"
    done < <(tail -n +2 <<<"$text")
  }
  in_world
}

@test "if XSAVESHIM_TRIM is none or save, the library does not trim the payloads that a VMM loads, and xsaveshim status shows the VMM as unprotected" {
  scenario() {
    for trim in none save; do
      start LD_PRELOAD="$shim" XSAVESHIM_TRIM="$trim" "$idle" 1
      assert_status 1
      assert_json ".vmms[] | [.mode, .protected, .settings.trim] | @tsv" "library	false	$trim"
      stop
    done
  }
  in_world
}

@test "for each setting, xsaveshim status shows the value from the VMM's environment or, if it is not set there, from the settings file in the VMM's mount namespace" {
  # the settings file is a symbolic link, and its target exists only in the VMM's mount namespace
  scenario() {
    start LD_PRELOAD="$shim" XSAVESHIM_LOG_LEVEL=error XSAVESHIM_LOG=/a/b XSAVESHIM_TRIM=bad unshare --mount sh -c "
      mount -t tmpfs none /etc && mount -t tmpfs none /mnt && ln -s /mnt/conf /etc/xsaveshim.conf &&
      echo XSAVESHIM_REFUSED=report >/mnt/conf && echo XSAVESHIM_LOG=none >>/mnt/conf &&
      echo XSAVESHIM_TRIM=none >>/mnt/conf && exec \"$idle\" 1" 2>/dev/null
    assert_status 0
    assert_json ".vmms[].settings | tostring" \
      "{\"trim\":\"restore\",\"refused\":\"report\",\"log\":\"/a/b\",\"log_level\":\"error\"}"
    [[ $(line_of "$pid") == *" trim=restore refused=report log=/a/b log_level=error"* ]]
  }
  in_world
}

@test "xsaveshim status shows the settings that a VMM started with, even if the settings file has changed since" {
  scenario() {
    start LD_PRELOAD="$shim" unshare --mount sh -c "
      mount -t tmpfs none /etc && echo XSAVESHIM_REFUSED=report >/etc/xsaveshim.conf && exec \"$idle\" 1"
    echo XSAVESHIM_TRIM=none >"/proc/$pid/root/etc/xsaveshim.conf"
    assert_status 0
    assert_json ".vmms[].settings | [.trim, .refused] | @tsv" "restore	report"
    stop
    start unshare --mount sh -c "
      mount -t tmpfs none /etc && echo XSAVESHIM_REFUSED=report >/etc/xsaveshim.conf && exec \"$command\" run --supervise -- \"$idle\" 1"
    echo XSAVESHIM_TRIM=none >"/proc/$pid/root/etc/xsaveshim.conf"
    assert_status 0
    assert_json ".vmms[] | [.mode, .settings.trim, .settings.refused] | @tsv" "supervisor	restore	report"
  }
  in_world
}

@test "xsaveshim status shows the default settings for a VMM whose user could not read the settings file" {
  scenario() {
    start LD_PRELOAD="$shim" unshare --mount sh -c "
      mount -t tmpfs none /etc && echo XSAVESHIM_REFUSED=report >/etc/xsaveshim.conf && chmod 600 /etc/xsaveshim.conf &&
      exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$idle\" 1" 2>/dev/null
    assert_status 0
    assert_json ".vmms[].settings.refused" abort
  }
  in_world
}

@test "if the user who runs xsaveshim status may not read a VMM's memory, the command shows the VMM's protection and settings as unknown" {
  scenario() {
    start "${as_nobody[@]}" env LD_PRELOAD="$shim" "$idle" 1
    install -m 000 /dev/null "$work/world/closed"
    mount --bind "$work/world/closed" "/proc/$pid/mem"
    # even without this VMM, status would exit with 2, because the user nobody may not inspect the shell, which runs as root
    assert_status 2 "${as_nobody[@]}"
    assert_json ".vmms[] | [.mode, .protected, .settings] | @json" "[\"library\",null,null]"
    [[ $(line_of "$pid") =~ ^\ *$pid\ +1\ +unknown\ +library\ +idle(\ +-){5}\ *$ ]]
    grep -q "^1 of 1 VMMs unknown (pid $pid): .*: run this as root$" <<<"$text" || fail "$text"
  }
  in_world
}

@test "if xsaveshim status does not find the record that the library keeps in a VMM's memory, status shows the VMM's protection as unknown" {
  scenario() {
    mkdir "$work/other"
    sed "s/xsaveshimrecord/xsaveshimRECORD/" "$shim" >"$work/other/libxsaveshim.so"
    start LD_PRELOAD="$work/other/libxsaveshim.so" "$idle" 1
    assert_mode 2 library null
    assert_json ".not_inspected | length" 0
    assert_json .verdict unknown
    grep -q "^1 of 1 VMMs unknown (pid $pid): .*: restart these VMMs$" <<<"$text" || fail "$text"
    # a second VMM, which is known to be unprotected, makes the exit status 1
    start "$idle" 1
    assert_status 1
    assert_json .verdict unprotected
  }
  in_world
}

@test "if a VMM has the library but makes its system calls without libc, xsaveshim status shows the VMM as 'bypassed' and unprotected" {
  scenario() {
    start LD_PRELOAD="$shim" IDLE_RAW=1 "$idle" 1
    assert_mode 1 bypassed false
    assert_json ".vmms[] | [.library, .settings] | @json" "[\"$(realpath "$shim")\",null]"
    [[ $(line_of "$pid") =~ ^\ *$pid\ +1\ +NO\ +bypassed\ +idle(\ +-){5}\ *$ ]]
    grep -q "^bypassed: .*xsaveshim run --supervise" <<<"$text" || fail "$text"
    stop
    start LD_PRELOAD="$shim" IDLE_RAW=1 "$command" run --supervise -- "$idle" 1
    assert_mode 0 supervisor true
  }
  in_world
}

@test "xsaveshim status counts each vCPU only once, even if the VMM also has an open descriptor of the vCPU's statistics" {
  scenario() {
    start IDLE_STATS=1 "$idle" 3
    [[ $(find "/proc/$pid/fd" -lname "anon_inode:kvm-vcpu-stats:*" | wc -l) == 3 ]] || fail "no statistics"
    assert_status 1
    assert_json ".vmms[].vcpus" 3
  }
  in_world
}

@test "xsaveshim status shows a VMM's settings without opening the VMM's settings file" {
  # The settings file is a FIFO, and a subshell waits to write into it. If `xsaveshim status` opened the FIFO, the subshell would
  # write and end, and then cat would get nothing.
  scenario() {
    start LD_PRELOAD="$shim" unshare --mount sh -c "
      mount -t tmpfs none /etc && mkfifo /etc/xsaveshim.conf && exec \"$idle\" 1"
    (echo XSAVESHIM_TRIM=none >"/proc/$pid/root/etc/xsaveshim.conf") &
    assert_status 0
    assert_json ".vmms[].settings.trim" restore
    [[ $(timeout 10 cat "/proc/$pid/root/etc/xsaveshim.conf") == XSAVESHIM_TRIM=none ]]
  }
  in_world
}

@test "if the library's file is replaced or removed while a VMM runs, xsaveshim status shows the VMM as protected, and the library as replaced" {
  scenario() {
    for change in "cp -f --remove-destination $shim $work/libxsaveshim.so" "rm $work/libxsaveshim.so"; do
      cp "$shim" "$work/libxsaveshim.so"
      start LD_PRELOAD="$work/libxsaveshim.so" "$idle" 1
      assert_status 0
      assert_json ".vmms[].library_replaced" false
      $change
      assert_status 0
      assert_json ".vmms[] | [.mode, .protected, .library_replaced, .library] | @tsv" \
        "library	true	true	$work/libxsaveshim.so"
      [[ $(line_of "$pid") =~ \ yes\ +library\ \(replaced\)\ +idle ]]
      grep -q "^(replaced): " <<<"$text"
      stop
    done
  }
  in_world
}

@test "if a VMM's preloaded copy of the library is not named libxsaveshim.so, xsaveshim status shows the mode 'none' for the VMM" {
  scenario() {
    cp "$shim" "$work/not-libxsaveshim.so"
    start LD_PRELOAD="$work/not-libxsaveshim.so" "$idle" 1
    assert_status 1
    assert_json ".vmms[].mode" none
  }
  in_world
}

@test "xsaveshim status takes a VMM's name from QEMU's option -name or Firecracker's option --id, and otherwise shows the name of the VMM's program" {
  scenario() {
    name_is() {
      start "$idle" 1 "${@:2}"
      assert_status 1
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

@test "a VMM's name can neither add a line to the output of xsaveshim status nor send control characters to the terminal" {
  scenario() {
    name=$(printf "a\nb\e[31m\rc\xe2\x80\xae\x7f\xc2\x9b")
    start "$idle" 1 -name "guest=$name"
    assert_status 1
    assert_json ".vmms[].name" "$name"
    LC_ALL=C
    [[ $(line_of "$pid") == *" a?b?[31m?c?????? "* ]] || fail "$text"
    run_of_text=$(tr -d "\n -~" <<<"$text")
    [[ ! $run_of_text ]] || fail "$text"
    [[ $(wc -l <<<"$text") == 3 ]] || fail "$text"
    # somebody may print the JSON on a terminal, so the JSON must be ASCII without control characters, except newline and DEL
    [[ ! $(tr -d "\n -~\177" <<<"$json") ]] || fail "$json"
  }
  in_world
}

@test "xsaveshim status prints valid JSON even if a VMM's name is not valid UTF-8" {
  scenario() {
    start "$idle" 1 -name "$(printf "a\xff\xfe\nb")"
    assert_status 1
    assert_json ".vmms[].name" "a???b"
  }
  in_world
}

@test "xsaveshim status lists a VMM even if the name of the VMM's program makes /proc/PID/stat look like that of an ended process" {
  scenario() {
    cp "$idle" "$work/world/) Z 0 0 0 0 0 0"
    start "$work/world/) Z 0 0 0 0 0 0" 1
    assert_status 1
    assert_json ".vmms[].name" ") Z 0 0 0 0 0 0"
    assert_status 2 "${as_nobody[@]}"
    assert_json ".not_inspected | length" 2
  }
  in_world
}

@test "xsaveshim status finds a VMM's name even behind a megabyte of other arguments, and shortens the name to at most 255 bytes" {
  scenario() {
    mapfile -t many < <(seq -f "%0100000g" 12)
    long=$(printf "%0300d" 7)
    start "$idle" 1 "${many[@]}" -name "$long"
    assert_status 1
    assert_json ".vmms[].name" "${long::255}"
  }
  in_world
}

@test "if the user who runs xsaveshim status may not inspect some processes, the command counts them, and does not say that all VMMs are protected" {
  scenario() {
    start "$idle" 1
    # starts a process whose child is a zombie
    bash -c 'until grep -qx sleep "/proc/$$/comm"; do sleep 0.02; done & exec sleep 60' &
    until [[ $(ps --ppid $! -o stat=) == Z* && $(<"/proc/$!/comm") == sleep ]]; do sleep 0.02; done
    hidden=3 # the shell, the VMM and the sleeping process
    assert_status 2 "${as_nobody[@]}"
    assert_json ".not_inspected | length" "$hidden"
    assert_json ".vmms | length" 0
    assert_json .verdict unknown
    [[ $text == "no VMM found"*"$hidden of the running processes could not be inspected (pid "*"): run this as root" ]]
    # root without CAP_SYS_PTRACE may not inspect processes that have more capabilities
    assert_status 2 setpriv --bounding-set -sys_ptrace
    [[ $text == *" could not be inspected (pid "*"): run this with all of root's capabilities, "* ]]
    assert_json ".not_inspected | length" "$hidden"
    assert_json ".vmms | length" 0
    assert_status 1
    assert_json ".not_inspected | length" 0
    # an unprotected VMM that the caller may inspect makes the exit status 1, even if `status` could not inspect other processes
    start "${as_nobody[@]}" "$idle" 1
    assert_status 1 "${as_nobody[@]}"
    assert_json ".not_inspected | length > 0" true
    assert_json ".vmms[].pid" "$pid"
    assert_json .verdict unprotected
  }
  in_world
}

@test "if /proc hides other users' processes (hidepid=2), xsaveshim status counts all hidden processes as one process that was not inspected" {
  scenario() {
    mount -o remount,hidepid=2 /proc
    start "$idle" 1
    assert_status 2 "${as_nobody[@]}"
    assert_json ".not_inspected | length" 1
  }
  in_world
}

@test "if root or a QEMU's owner runs xsaveshim status, the command shows whether this QEMU has the library, a supervisor, or neither" {
  scenario() {
    local -A pids
    for owner in root nobody; do
      as_owner=(setpriv --reuid "$owner" --clear-groups)
      start_qemu "library-$owner" "${as_owner[@]}" env LD_PRELOAD="$shim" XSAVESHIM_REFUSED=report \
        XSAVESHIM_LOG_LEVEL=error XSAVESHIM_LOG=none
      pids[library]=$pid
      start_qemu "supervisor-$owner" "${as_owner[@]}" env XSAVESHIM_LOG_LEVEL=error XSAVESHIM_LOG=none \
        "$command" run --supervise --log /a/log -- env -i
      pids[supervisor]=$pid
      start_qemu "none-$owner" "${as_owner[@]}"
      pids[none]=$pid
      for seen_by in root "$owner"; do
        assert_status 1 setpriv --reuid "$seen_by" --clear-groups
        assert_json ".vmms | length" 3
        for mode in library supervisor none; do
          assert_json ".vmms[] | select(.pid == ${pids[$mode]}) | [.mode, .vcpus] | @tsv" "$mode	2"
        done
        assert_json "[.vmms[].name] | join(\" \")" "library-$owner supervisor-$owner none-$owner"
        # Yama may keep a plain user from reading the settings; yama.bats tests this
        [[ $seen_by == root || $(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0) == 0 ]] || continue
        assert_json ".vmms[0].settings | [.trim, .refused, .log, .log_level] | @tsv" "restore	report	none	error"
        assert_json ".vmms[1].settings | [.trim, .refused, .log, .log_level] | @tsv" "restore	abort	/a/log	error"
      done
      stop
      assert_status 0
      kill -KILL "${pids[library]}" "${pids[supervisor]}"
      wait "${pids[@]}" || true
    done
  }
  in_world
}

@test "after a VMM's supervisor and the supervisor's guardian process were killed, xsaveshim status shows the VMM as unprotected" {
  scenario() {
    start "$command" run --supervise -- "$idle" 2
    assert_status 0
    assert_json ".vmms[] | [.mode, .protected, .name] | @tsv" "supervisor	true	idle"
    kill_supervisor
    assert_status 1
    assert_json ".vmms[].mode" none
  }
  in_world
}

@test "xsaveshim status shows the mode 'supervisor' for a supervised VMM even if the VMM's parent process has ended" {
  scenario() {
    "$command" run --supervise -- sh -c "$idle 1 <&9 9<&- >$work/said & echo \$!" >"$work/pid"
    pid=$(<"$work/pid")
    until grep -q ready "$work/said"; do sleep 0.02; done
    assert_status 0
    assert_json ".vmms[] | [.pid, .mode] | @tsv" "$pid	supervisor"
  }
  in_world
}

@test "if a VMM's supervisor runs with --trim=none, xsaveshim status shows the VMM as unprotected" {
  scenario() {
    start "$command" run --supervise --trim=none -- "$idle" 1
    assert_status 1
    assert_json ".vmms[] | [.mode, .protected, .settings.trim] | @tsv" "supervisor	false	none"
  }
  in_world
}

@test "xsaveshim status recognizes a VMM's supervisor if the supervisor runs as the VMM's user, or if it runs as root and the VMM does not" {
  scenario() {
    start "${as_nobody[@]}" "$command" run --supervise -- "$idle" 1
    assert_mode 0 supervisor true
    stop
    start "$command" run --supervise -- "${as_nobody[@]}" "$idle" 1
    assert_mode 0 supervisor true
  }
  in_world
}

@test "xsaveshim status does not take another program for a VMM's supervisor, even if the program is named xsaveshim and is set-user-ID root" {
  scenario() {
    start_orphan; vmm=$pid
    start "$work/world/xsaveshim" "$vmm"
    assert_mode 1 none false
    stop
    chmod u+s "$work/world/xsaveshim"
    start "${as_nobody[@]}" "$work/world/xsaveshim" "$vmm"
    [[ $(ps -o euser= "$pid") == root ]]
    assert_mode 1 none false
  }
  in_world
}

@test "xsaveshim status takes an xsaveshim process for a VMM's supervisor only if the process runs as root or as the VMM's user" {
  # test/tools/pretender.c starts an xsaveshim process, and stops it before its first instruction. So the process has not recorded
  # any settings, and status shows the protection as unknown (null).
  scenario() {
    start_orphan "${as_nobody[@]}"; vmm=$pid
    start setpriv --reuid daemon --regid daemon --clear-groups "$pretender" "$vmm" -- "$command" status
    assert_mode 1 none false
    stop
    # the next xsaveshim process has root's effective user ID, but the real user ID of the user daemon
    start setpriv --ruid daemon --euid root --clear-groups "$pretender" "$vmm" -- "$command" status
    assert_mode 1 none false
    stop
    for owner in root nobody; do
      start setpriv --reuid "$owner" --clear-groups "$pretender" "$vmm" -- "$command" status
      assert_mode 2 supervisor null
      stop
    done
  }
  in_world
}

@test "if a VMM has no seccomp filter, xsaveshim status shows the mode 'none' for the VMM, even if an xsaveshim process holds the VMM's pidfd" {
  scenario() {
    start "$idle" 1; vmm=$pid
    start "$pretender" "$vmm" -- "$command" status
    assert_mode 1 none false
  }
  in_world
}

@test "if a supervisor does not run from the same file as xsaveshim status, status recognizes the supervisor only after the supervisor's file was replaced or removed" {
  scenario() {
    mkdir "$work/old"
    cp "$command" "$work/old/xsaveshim"
    start "$work/old/xsaveshim" run --supervise -- "$idle" 1
    assert_mode 1 none false
    cp --remove-destination "$command" "$work/old/xsaveshim"
    assert_mode 0 supervisor true
    rm "$work/old/xsaveshim"
    assert_mode 0 supervisor true
    stop
    # if the deleted program file of a process was not called xsaveshim, the process does not count as a supervisor
    cp "$command" "$work/old/other"
    start "$work/old/other" run --supervise -- "$idle" 1
    rm "$work/old/other"
    assert_mode 1 none false
  }
  in_world
}

@test "if two VMMs have a supervisor's seccomp filter, xsaveshim status shows the mode 'supervisor' only for the VMM whose pidfd a supervisor holds" {
  scenario() {
    start_orphan; vmm=$pid
    start "$command" run --supervise -- "$idle" 1
    assert_status 1
    assert_json ".vmms[] | select(.pid == $vmm) | .mode" none
    assert_json ".vmms[] | select(.pid == $pid) | .mode" supervisor
  }
  in_world
}

@test "if a program other than xsaveshim holds a VMM's pidfd and a seccomp listener, xsaveshim status shows the mode 'none' for the VMM" {
  scenario() {
    start_orphan; vmm=$pid
    start "$pretender" "$vmm"
    assert_mode 1 none false
  }
  in_world
}

@test "xsaveshim status prints valid JSON and exits with 0 or 1 while VMMs start and end" {
  scenario() {
    (while :; do timeout 0.02 "$idle" 4 <&9 >/dev/null || true; done) &
    (while :; do LD_PRELOAD="$shim" timeout 0.02 "$idle" 4 <&9 >/dev/null || true; done) &
    for ((i = 0; i < 10; i++)); do
      result=0
      json=$("$command" status --json) || result=$?
      ((result <= 1)) || fail "xsaveshim status --json exited with $result, not with 0 or 1"
      jq -e ".vmms | all(.vcpus > 0 and .vcpus <= 4 and .pid > 0)" <<<"$json" >/dev/null || fail "$json"
    done
  }
  in_world
}

@test "xsaveshim status does not show a protected VMM as unprotected while the VMM ends" {
  # When a VMM ends, the kernel first frees the VMM's memory, which takes a while, and then closes the VMM's descriptors. In
  # between, the VMM still has vCPUs, but no library in its memory.
  scenario() {
    for ((i = 0; i < 3; i++)); do
      start LD_PRELOAD="$shim" IDLE_MIB=256 "$idle" 1
      kill "$pid"
      until assert_status 0; assert_json ".vmms | length" 0 2>/dev/null; do
        assert_json ".vmms[].mode" library
      done
    done
  }
  in_world
}

# Sets $eventful to arguments for test/vmm/vmm.c: xsaveshim trims the first two payloads. The second trim drops an xfeature that the
# guest's XCR0 enables afterwards, so the guest loses state. Then KVM refuses the third payload and an MSR.
set_eventful() {
  local table=0xd=0x7
  # Some versions of PVM, a variant of KVM, accept an XCR0 with AVX only if the CPUID table has no leaf 0xD.
  [[ $("$standins/vmm" create 0 cpuid "$table" set-xcrs 0x7) == *"set-xcrs 0x7: 0"* ]] || table=0x1=0x1
  eventful=(create 0 cpuid 0xd=0x3 set-xsave 0x217 set-xsave 0x7 cpuid "$table" set-xcrs 0x7 set-xsave "0x3,xcomp_bv=1"
    set-msrs "0x10,0xc0ffee00=1" mark ready pause)
}

@test "xsaveshim status counts for each VMM: trims, trims that XSAVESHIM_TRIM=none prevented, payloads that KVM refused, losses of guest state, and MSRs that KVM refused" {
  scenario() {
    set_eventful
    local counts=".vmms[] | select(.pid == \$pid) | [.counts_of, .counts.trimmed, .counts.would_trim, .counts.refused, .counts.lost, .counts.refused_state] | @tsv"
    start LD_PRELOAD="$shim" XSAVESHIM_REFUSED=report XSAVESHIM_LOG=none "$standins/vmm" "${eventful[@]}"
    assert_status 0
    assert_json "${counts/\$pid/$pid}" "vmm	2	0	1	1	1"
    [[ $(line_of "$pid") =~ \ library\ +vmm\ +2\ +0\ +1\ +1\ +1\ +trim= ]] || fail "$text"
    start LD_PRELOAD="$shim" XSAVESHIM_TRIM=none XSAVESHIM_LOG=none "$standins/vmm" create 0 cpuid 0xd=0x3 set-xsave 0x7 mark ready pause
    assert_status 1
    assert_json "${counts/\$pid/$pid}" "vmm	0	1	0	0	0"
  }
  in_world
}

@test "for each VMM of a supervisor, xsaveshim status shows the sum of the counts of all this supervisor's VMMs, with an asterisk" {
  scenario() {
    set_eventful
    local one="$standins/vmm create 0 cpuid 0xd=0x3 set-xsave 0x217 mark ready pause"
    start "$command" run --supervise --refused=report -- "$standins/vmm" "${eventful[@]}"
    assert_status 0
    assert_json ".vmms[] | [.mode, .counts_of, .counts.trimmed, .counts.refused, .counts.lost] | @tsv" "supervisor	supervisor	2	1	1"
    stop
    start "$command" run --supervise -- sh -c "exec 3<&0; $one <&3 & $one"
    until assert_status 0; assert_json ".vmms | length" 2 2>/dev/null && assert_json "[.vmms[].counts.trimmed] | @json" "[2,2]" 2>/dev/null; do
      sleep 0.02
    done
    assert_json ".vmms | map(.supervisor) | unique | length" 1
    [[ $(grep -cE " supervisor +vmm +2\*( +0\*){4} +trim=" <<<"$text") == 2 ]] || fail "$text"
    grep -q "^\*: counted for all VMMs of the same supervisor together$" <<<"$text"
    # --check adds each supervisor's counts only once, even if the supervisor has two VMMs
    [[ $("$command" status --check) == *" | vmms=2 "*" trimmed=2 would_trim=0 refused=0 lost=0 refused_state=0" ]]
  }
  in_world
}

@test "if reports cannot go to the log in a VMM's settings, xsaveshim status shows where the reports go instead" {
  scenario() {
    local log=$work/world/log
    in_use_is() { # EXIT-STATUS LOG LOG-IN-USE
      assert_status "$1"
      assert_json ".vmms[] | [.settings.log, .log_in_use] | @tsv" "$2	$3"
      if [[ $2 == "$3" ]]; then
        [[ $text != *log_in_use* ]] || fail "$text"
      else
        [[ $(line_of "$pid") == *" log=$2 "*" log_in_use=$3" && $text == *$'\n'"log_in_use: "* ]] || fail "$text"
      fi
    }
    local once=(set-xsave 0x7)
    start LD_PRELOAD="$shim" XSAVESHIM_LOG="$work/none/log" "$standins/vmm" create 0 cpuid 0xd=0x3 mark ready pause
    in_use_is 0 "$work/none/log" stderr
    stop
    for mode in "env LD_PRELOAD=$shim" "$command run --supervise --"; do
      # shellcheck disable=SC2086 # words
      start XSAVESHIM_LOG="$log" $mode "$standins/vmm" create 0 cpuid 0xd=0x3 mark ready pause "${once[@]}" mark again pause
      in_use_is 0 "$log" "$log"
      rm "$log"
      echo >&9
      until grep -q again "$said"; do sleep 0.02; done
      in_use_is 0 "$log" stderr
      stop
    done
    # the library in the next VMM can write its reports neither to the log file nor to standard error nor to syslog
    mount -t tmpfs none /dev/shm
    start LD_PRELOAD="$shim" XSAVESHIM_LOG="$work/none/log" unshare --mount sh -c "
      exec 2>/dev/null; rm -f /dev/log; exec $standins/vmm create 0 cpuid 0xd=0x3 mark ready pause"
    in_use_is 0 "$work/none/log" none
    stop
    start LD_PRELOAD="$shim" XSAVESHIM_LOG=none "$standins/vmm" create 0 cpuid 0xd=0x3 mark ready pause
    assert_status 0
    assert_json ".vmms[].log_in_use" none
  }
  in_world
}

@test "xsaveshim status names the unprotected VMMs of libvirt in a separate line, which advises to run xsaveshim-libvirt enable" {
  scenario() {
    start "$idle" 1 -chardev socket,id=charmonitor,fd=21,server=on,wait=off; libvirts=$pid
    start "$idle" 1 -name socket,id=charmonitor; other=$pid
    assert_status 1
    assert_json ".vmms[] | select(.libvirt) | .pid" "$libvirts"
    grep -q "^1 of 2 VMMs were started by libvirt and are not protected (pid $libvirts): run .xsaveshim-libvirt enable., " <<<"$text" || fail "$text"
    grep -q "^1 of 2 VMMs not protected (pid $other): restart them under .xsaveshim run. " <<<"$text" || fail "$text"
  }
  in_world
}

@test "xsaveshim status --check prints one line with performance data, and exits with 0 to 3 as monitoring plugins do" {
  scenario() {
    set_eventful
    check_says() { # EXIT-STATUS LINE [PREFIX...]
      local result=0 line
      line=$("${@:3}" "$command" status --check) || result=$?
      ((result == $1)) || fail "xsaveshim status --check exited with $result, not with $1, and printed: $line"
      # shellcheck disable=SC2053 # a pattern
      [[ $line == $2 ]] || fail "xsaveshim status --check printed a line that does not match $2: $line"
    }
    local none="trimmed=0 would_trim=0 refused=0 lost=0 refused_state=0"
    check_says 0 "xsaveshim OK: all of 0 VMMs protected | vmms=0 unprotected=0 unknown=0 not_inspected=0 $none"
    check_says 3 "xsaveshim UNKNOWN: * processes not inspected (pid 1*) | vmms=0 * not_inspected=[1-9]* $none" "${as_nobody[@]}"
    cp "$shim" "$work/world/libxsaveshim.so"
    start LD_PRELOAD="$work/world/libxsaveshim.so" "$idle" 1; replaced=$pid
    check_says 0 "xsaveshim OK: all of 1 VMMs protected | vmms=1 *"
    rm "$work/world/libxsaveshim.so"
    check_says 1 "xsaveshim WARNING: 1 of 1 VMMs with a library whose file was replaced (pid $replaced) | *"
    start LD_PRELOAD="$shim" XSAVESHIM_LOG=/none/log "$idle" 1; fallen=$pid
    check_says 1 "xsaveshim WARNING: 1 of 2 VMMs with a log that takes no reports (pid $fallen), 1 of 2 *replaced (pid $replaced) | *"
    start "$idle" 1 -name "a|b"; bare=$pid
    check_says 2 "xsaveshim CRITICAL: 1 of 3 VMMs not protected (pid $bare), * | vmms=3 unprotected=1 *"
    stop
    start LD_PRELOAD="$shim" XSAVESHIM_REFUSED=report "$standins/vmm" "${eventful[@]}"
    check_says 2 "xsaveshim CRITICAL: 1 of 3 VMMs had a payload or an XCR0 refused by KVM (pid $pid), 1 of 3 VMMs lost state (pid $pid), \
1 of 3 VMMs had vCPU state other than payloads and XCR0s refused by KVM (pid $pid), * trimmed=2 would_trim=0 refused=1 lost=1 refused_state=1"
    chmod 111 /proc
    check_says 3 "" "${as_nobody[@]}"
    result=0
    "$command" status --check now || result=$?
    ((result == 3))
  }
  in_world
}

@test "the JSON of xsaveshim status has exactly the keys that xsaveshim(1) names" {
  manual=$(sed -n '/^\.Ss status/,/^\.S[hs] /p' "$repo/man/xsaveshim.1")
  scenario() {
    start LD_PRELOAD="$shim" "$idle" 1
    assert_status 0
    assert_json "keys_unsorted | join(\" \")" "$(sed -n "s/^\.It Li //p" <<<"$manual" | paste -sd " ")"
    for key in $(jq -r ".vmms[0] | keys[], (.settings, .counts | keys[])" <<<"$json"); do
      grep -q "^\.\(Pf ( \)\?Li $key\b" <<<"$manual" || fail "the manual page xsaveshim(1) does not name the JSON key $key"
    done
    assert_json "[paths | map(if type == \"number\" then 0 else . end | tostring) | join(\".\")] | join(\" \")" \
      "format_version version time host vmms vmms.0 vmms.0.pid vmms.0.name vmms.0.vcpus vmms.0.libvirt vmms.0.mode vmms.0.protected \
vmms.0.library vmms.0.library_replaced vmms.0.supervisor vmms.0.settings vmms.0.settings.trim vmms.0.settings.refused \
vmms.0.settings.log vmms.0.settings.log_level vmms.0.log_in_use vmms.0.counts_of vmms.0.counts vmms.0.counts.trimmed \
vmms.0.counts.would_trim vmms.0.counts.refused vmms.0.counts.lost vmms.0.counts.refused_state not_inspected verdict"
  }
  in_world
}

@test "if /proc cannot be read, xsaveshim status prints an error that says so, and exits with 2" {
  scenario() {
    local result=0
    chmod 111 /proc
    "${as_nobody[@]}" "$command" status --json >"$work/out" 2>"$work/err" || result=$?
    ((result == 2))
    [[ ! -s $work/out && $(<"$work/err") == "xsaveshim status: cannot read /proc, which must be mounted and readable: Permission denied" ]]
  }
  in_world
}

@test "for --help, xsaveshim status prints its usage and exits with 0; for an unknown argument, it prints its usage and exits with 2" {
  run --separate-stderr "$command" status --help
  [[ $status == 0 && $output == 'usage: xsaveshim status [--json | --check]'* ]]
  for word in --jsonn now; do
    run --separate-stderr "$command" status "$word"
    [[ $status == 2 && $output == '' && $stderr == *'usage: xsaveshim status [--json | --check]'* ]]
  done
}

@test "the JSON that xsaveshim status printed in this suite is valid against schemas/status.schema.json, and has every verdict, and every mode except 'host'" {
  local shapes
  assert_collected_valid status
  shapes=$(jq -rs '[.[].vmms[] | .mode, "protected=\(.protected)", "counts_of=\(.counts_of)", "settings=\(.settings | type)",
    "log_in_use=\(.log_in_use | type)"] + [.[] | .verdict, .not_inspected[].reason] | unique | join(" ")' "$BATS_FILE_TMPDIR/json")
  # the following check needs the JSON of all tests, so it runs only if all tests have run
  ((BATS_TEST_NUMBER < $(grep -c "^@test" "$BATS_TEST_FILENAME"))) || [[ $shapes == "bypassed counts_of=null counts_of=supervisor counts_of=vmm library log_in_use=null \
log_in_use=string no-answer none not-permitted protected protected=false protected=null protected=true settings=null \
settings=object supervisor unknown unprotected" ]] || fail "$shapes"
}
