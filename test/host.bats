# SPDX-License-Identifier: MIT
# bats file_tags=bpf
# Tests of the host mode on the running kernel. They need root, and a kernel that lets BPF programs write to a VMM's memory.
# kernels-host.bats runs this suite inside the testbed's kernels, which boot in emulated machines.

load lib
load host

setup_file() {
  find_unmet_requirement
}

setup() {
  [[ ! $unmet ]] || skip "cannot run here: $unmet; make check-kernels runs this test in an emulated machine"
}

teardown() {
  [[ ! $unmet ]] || return 0
  [[ ! -v public ]] || rm -r "$public"
  [[ ! -v holder ]] || kill "$holder"
  [[ ! -v watcher ]] || kill -KILL "$watcher" 2>/dev/null || true
  host disable >/dev/null
  assert_no_pins
}

is_active='active: the programs cleared *, which the test guest lacks, from a payload'

@test "while the host mode is enabled, it trims the XSAVE payload that a VMM loads; before and after that time, it does not" {
  assert_loads 0x207
  XSAVESHIM_TRIM=none XSAVESHIM_REFUSED=abort enable # the host mode ignores XSAVESHIM_* variables
  [[ $output == "xsaveshim host: enabled: trim=both refused=report" ]]
  assert_status 0 "$is_active"
  assert_loads 0x3
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_counts seen=1 missed_entries=0 missed_exits=0 under_way=0 trimmed=1 not_trimmed=0 refused=0 killed=0
  run host disable
  [[ $status == 0 && $output == "xsaveshim host: disabled" ]]
  assert_status 1 'inactive: the host mode is not enabled'
  run host disable
  [[ $status == 0 && $output == "xsaveshim host: the host mode was not enabled" ]]
  assert_loads 0x207
}

@test "whether the host mode is enabled or not, the output of xsaveshim host status --json matches its JSON schema" {
  local all
  all=$(host status --json) || true # status fails, because the host mode is not enabled
  enable --refused=abort
  all+=$(host status --json)
  validate host-status <<<"$all"
  [[ $(jq -c '[.trim, .refused, .exit != null, .counts.seen != null]' <<<"$all" | xargs) == '[null,null,false,false] [both,abort,true,true]' ]] ||
    fail "$all"
}

@test "with the setting trim=none or trim=save, the host mode does not change a payload that a VMM loads; with trim=none, it counts the payload in would_trim" {
  enable --trim=none
  assert_status 0 'active: the programs counted the ioctls of a test VM'
  assert_loads 0x207
  assert_counts would_trim=1 trimmed=0
  enable --trim=save
  assert_status 0 'active: the programs counted the ioctls of a test VM'
  assert_loads 0x207
}

@test "while a second xsaveshim host enable applies new settings, the host mode still trims every payload that a VMM loads" {
  local loader
  enable
  while :; do "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x207; done >"$BATS_TEST_TMPDIR/loads" 3>&- &
  loader=$!
  wait_for 20 grep -q set-xsave "$BATS_TEST_TMPDIR/loads"
  for _ in 1 2 3; do enable --trim=restore; done
  [[ $output == "xsaveshim host: enabled: trim=restore refused=report" ]]
  kill "$loader"
  wait "$loader" || true
  (($(grep -c 'set-xsave 0x207: 0 xstate_bv=0x3 ' "$BATS_TEST_TMPDIR/loads") > 3))
  assert_counts missed_entries=0 missed_exits=0
  run grep -v -e '^create' -e '^cpuid' -e '^set-xsave 0x207: 0 xstate_bv=0x3 ' "$BATS_TEST_TMPDIR/loads"
  [[ -z $output ]] || fail "$output"
  [[ $(find /sys/fs/bpf -path '*/xsaveshim/entry' -o -name 'xsaveshim-new' -o -name 'xsaveshim-old') == /sys/fs/bpf/xsaveshim/entry ]]
}

@test "if the host mode is already enabled, xsaveshim host enable keeps each setting for which no option is given" {
  enable --trim=none --refused=abort
  enable
  [[ $output == "xsaveshim host: enabled: trim=none refused=abort" ]]
  enable --trim=save
  [[ $output == "xsaveshim host: enabled: trim=save refused=abort" ]]
}

@test "after a second xsaveshim host enable, the host mode's total counts and the counts of each vCPU continue from their previous values" {
  local pid
  enable
  mkfifo "$BATS_TEST_TMPDIR/in"
  "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x203 pause set-xsave 0x203 set-xsave 0x207 pause <>"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 3>&- &
  pid=$!
  wait_for 20 grep -q set-xsave "$BATS_TEST_TMPDIR/out"
  enable
  echo >>"$BATS_TEST_TMPDIR/in"
  wait_for 20 grep -q 'set-xsave 0x207' "$BATS_TEST_TMPDIR/out"
  kill "$pid"
  assert_counts seen=3 trimmed=3 missed_entries=0 missed_exits=0 under_way=0
  start_watch
  wait_for 20 eval '(($(grep -c event=trim "$BATS_TEST_TMPDIR/watch") == 2))'
  [[ $(grep -oE 'xstate_bv=.*' "$BATS_TEST_TMPDIR/watch") == "xstate_bv=0x203 allowed=0x3 after=0x3 dropped=pkru
xstate_bv=0x207 allowed=0x3 after=0x3 dropped=avx,pkru count=3" ]] || fail "$(cat "$BATS_TEST_TMPDIR/watch")"
}

@test "if xsaveshim host enable runs twice at the same time, both runs succeed, and only one set of BPF programs stays loaded" {
  "$build/xsaveshim" host enable >"$BATS_TEST_TMPDIR/first" 2>&1 3>&- &
  enable --trim=both
  wait $!
  assert_status 0 "$is_active"
  [[ $(bpftool prog show name xsaveshim_entry | grep -c xsaveshim_entry) == 1 ]]
}

@test "no matter when SIGTERM ends xsaveshim host enable, the next xsaveshim host status keeps a complete set of BPF pins, and removes an incomplete one" {
  local i enabler
  for i in {1..12}; do
    "$build/xsaveshim" host enable >/dev/null 2>&1 3>&- &
    enabler=$!
    sleep "0.$((i * 7 % 10))$i"
    kill -TERM "$enabler" 2>/dev/null || true
    wait "$enabler" || true
    host status >/dev/null || true
    if [[ -e /sys/fs/bpf/xsaveshim ]]; then
      [[ -e /sys/fs/bpf/xsaveshim/entry ]]
      host disable
    fi
    assert_no_pins
  done
}

@test "after xsaveshim host enable was killed, host status renames the directory /sys/fs/bpf/xsaveshim-new to xsaveshim if no BPF pin is missing in it, or removes it if a pin is missing" {
  enable
  mv /sys/fs/bpf/xsaveshim /sys/fs/bpf/xsaveshim-new
  assert_status 0 "$is_active"
  [[ -e /sys/fs/bpf/xsaveshim/entry && ! -e /sys/fs/bpf/xsaveshim-new ]]
  mkdir /sys/fs/bpf/xsaveshim-new
  bpftool link pin id "$(bpftool -j link show pinned /sys/fs/bpf/xsaveshim/exit | jq .id)" /sys/fs/bpf/xsaveshim-new/exit
  assert_status 0 "$is_active"
  [[ ! -e /sys/fs/bpf/xsaveshim-new ]]
  rm /sys/fs/bpf/xsaveshim/entry
  wait_for 30 assert_status 1 'inactive: the host mode is not enabled' # waits until the kernel has detached the programs
  assert_no_pins
}

@test "fentry and fexit programs that a second xsaveshim host enable replaces stay pinned until host disable, even if an earlier xsaveshim version loaded them" {
  enable
  if [[ ! -e /sys/fs/bpf/xsaveshim/again ]]; then # without the BTF of KVM's module, the host mode has no fentry or fexit program
    enable
    run ! compgen -G '/sys/fs/bpf/xsaveshim-retired-*'
    return
  fi
  rm /sys/fs/bpf/xsaveshim/*-program # an earlier version of xsaveshim pinned only the links, not the programs
  enable
  [[ -e $(retired)/again-program && ! -e $(retired)/again ]]
  assert_loads 0x3
  host disable
  assert_no_pins
}

@test "xsaveshim host status unpins BPF programs that were replaced more than 10 minutes ago, but no programs that were replaced more recently" {
  enable
  mkdir /sys/fs/bpf/xsaveshim-retired-{-700,9999999}-1-1-0
  assert_status 0 "$is_active"
  [[ $(retired) == /sys/fs/bpf/xsaveshim-retired-9999999-1-1-0 ]]
  rmdir /sys/fs/bpf/xsaveshim-retired-9999999-1-1-0
}

@test "if the BPF programs saw a vCPU ioctl begin but not end, the host mode adds 1 to missed_exits when the vCPU is destroyed" {
  local pid
  enable
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x3
  assert_counts seen=1 missed_exits=0 under_way=0
  mkfifo "$BATS_TEST_TMPDIR/in"
  "$vmm" create 0 cpuid 0xd=0x3 pause set-xsave 0x3 pause <>"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 3>&- &
  pid=$!
  wait_for 20 grep -q cpuid "$BATS_TEST_TMPDIR/out"
  # unpins the BPF programs that run at the end of an ioctl, so that the kernel detaches them
  rm -f /sys/fs/bpf/xsaveshim/exit{,2}
  wait_for 30 eval '! host status | grep -q ^active'
  echo >>"$BATS_TEST_TMPDIR/in"
  wait_for 20 grep -q set-xsave "$BATS_TEST_TMPDIR/out"
  assert_counts seen=2 missed_exits=0 under_way=1
  run host status --check
  [[ $status == 1 ]]
  kill "$pid"
  wait "$pid" || true
  wait_for 20 assert_counts seen=2 missed_exits=1 under_way=0
}

@test "if a second bpffs mount hides the host mode's pinned BPF programs, xsaveshim host status says that the programs are active, and host disable fails" {
  enable
  mount -t bpf -o mode=0700 bpf /sys/fs/bpf
  assert_status 0 "active, pinned elsewhere: *"
  run --separate-stderr host disable
  umount /sys/fs/bpf
  [[ $status == 1 && $stderr == 'xsaveshim host: the host mode cannot be disabled: '*'another bpffs instance'* ]]
  assert_loads 0x3
}

@test "after sysctl kernel.ftrace_enabled=0, an enabled host mode becomes inactive, and xsaveshim host enable fails" {
  enable
  sysctl -q kernel.ftrace_enabled=0
  assert_status 1 'inactive: *sysctl kernel.ftrace_enabled=1'
  host disable
  assert_cannot_enable 1 '*sysctl kernel.ftrace_enabled=1' || { sysctl -q kernel.ftrace_enabled=1; false; }
  sysctl -q kernel.ftrace_enabled=1
}

@test "xsaveshim host enable fails for a plain user, for root without CAP_SYS_ADMIN, and for the root of a user namespace" {
  make_public "$build"/xsaveshim{,-host}
  build=$public assert_cannot_enable 2 'run this as root' setpriv --reuid 65534 --clear-groups
  assert_cannot_enable 2 'root lacks CAP_SYS_ADMIN: *' setpriv --bounding-set -sys_admin
  assert_cannot_enable 2 'this user is root only in a user namespace: *' unshare --user --map-root-user
}

@test "if the kernel's BTF is missing, or no bpffs is mounted, xsaveshim host enable fails and names what is missing" {
  local hiding=(unshare --mount sh -c 'mount -t tmpfs none "$0" && exec "$@"')
  assert_cannot_enable 2 '*/sys/kernel/btf/vmlinux*' "${hiding[@]}" /sys/kernel/btf
  assert_cannot_enable 1 '/sys/fs/bpf is not mounted: *' "${hiding[@]}" /sys/fs/bpf
}

@test "while other users may write to /sys/fs/bpf, xsaveshim host enable and disable fail; once only root may write there, both delete the users' symbolic links, but not the linked directory" {
  chmod 1777 /sys/fs/bpf
  mkdir /sys/fs/bpf/other
  ln -s /sys/fs/bpf/other /sys/fs/bpf/xsaveshim-old
  run --separate-stderr host enable
  [[ $status == 1 && $stderr == 'xsaveshim host: the host mode cannot be enabled: /sys/fs/bpf can be written by users other than root: '* ]] || { chmod 700 /sys/fs/bpf; false; }
  run --separate-stderr host disable
  chmod 700 /sys/fs/bpf
  [[ $status == 1 && $stderr == 'xsaveshim host: the host mode cannot be disabled: /sys/fs/bpf can be written by users other than root: '* ]]
  enable
  mkdir /sys/fs/bpf/other/{entry,exit}
  bpftool map pin id "$(bpftool -j map show name counts | jq '[.] | flatten | .[0].id')" /sys/fs/bpf/other/gone
  ln -s /sys/fs/bpf/other /sys/fs/bpf/xsaveshim-new
  host disable
  [[ -e /sys/fs/bpf/other/gone && ! -L /sys/fs/bpf/xsaveshim-new ]]
  rm /sys/fs/bpf/other/gone
  rmdir /sys/fs/bpf/other/{entry,exit} /sys/fs/bpf/other
}

@test "even if the directory /sys/fs/bpf/xsaveshim-old already exists, a second xsaveshim host enable applies the new settings" {
  enable --trim=both
  mkdir -p /sys/fs/bpf/xsaveshim-old/other
  enable --trim=none
  assert_status 0 'active: the programs counted the ioctls of a test VM'
  [[ ${lines[1]} == 'trim=none refused=report' ]]
  rmdir /sys/fs/bpf/xsaveshim-retired-*-0-*/other
  rmdir /sys/fs/bpf/xsaveshim-retired-*-0-*
}

@test "xsaveshim host exits with 2 on a wrong option value, command or argument, and its error message names the wrong word" {
  run --separate-stderr host enable --trim=all
  [[ $status == 2 && ${stderr_lines[0]} == "xsaveshim host: --trim takes one of restore,save,both,none, not 'all'" ]]
  run --separate-stderr host stop
  [[ $status == 2 && $stderr == "xsaveshim host: unknown command 'stop': use enable, disable, status, watch or --help" ]]
  run --separate-stderr host disable now
  [[ $status == 2 && ${stderr_lines[0]} == "xsaveshim host: unexpected argument 'now'" ]]
}

@test "xsaveshim host watch reports a VMM's trimmed and refused payloads, but not the payloads of the host mode's self-test" {
  start_watch
  enable
  wait_for 20 watch_reported event=active
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x203,xcomp_bv=1
  wait_for 20 watch_reported event=refused
  assert_watch_reported trim \
    'level=notice event=trim via=host pid=* comm=vmm ioctl=KVM_SET_XSAVE vcpu=0 xstate_bv=0x207 allowed=0x3 after=0x3 dropped=avx,pkru'
  assert_watch_reported refused \
    'level=error event=refused via=host pid=* comm=vmm ioctl=KVM_SET_XSAVE vcpu=0 errno=EINVAL xstate_bv=0x3 reason=xcomp-bv:0x1'
}

@test "if xsaveshim host watch starts after a VMM has ended, watch still reports the trim of this VMM's payload, with guest name, event time and VMM start time" {
  enable
  # xsaveshim takes the guest's name from the argument after -name. The test VMM does not know -name, and exits when it gets there.
  run "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x207 -name guest=honest,debug-threads=on
  start_watch
  wait_for 20 watch_reported event=trim
  watch_reported ' comm=vmm vm=honest .*time=20..-..-..T..:..:..Z started=20..-..-..T..:..:..Z ioctl=' || fail "$(cat "$BATS_TEST_TMPDIR/watch")"
}

@test "if another process holds the host mode's lock file, xsaveshim host disable fails and names that process, but host status and watch still work" {
  enable
  perl -e 'use Fcntl; open(LOCK, "+>", "/run/xsaveshim-host.lock") or die;
    my $lock = pack("ssx4qqix4", F_WRLCK, 0, 0, 0, 0); fcntl(LOCK, F_SETLK, $lock) or die;
    $| = 1; print "held\n"; sleep' >"$BATS_TEST_TMPDIR/held" 3>&- &
  holder=$!
  wait_for 20 grep -q held "$BATS_TEST_TMPDIR/held"
  assert_status 0 "$is_active"
  start_watch
  wait_for 20 watch_reported event=active
  run --separate-stderr timeout 60 "$build/xsaveshim" host disable
  [[ $status == 1 && $stderr == "xsaveshim host: the host mode cannot be disabled: process $holder holds /run/xsaveshim-host.lock: wait until that process ends, or end it" ]] ||
    fail "$output" "$stderr"
  kill "$holder"
  unset holder
}

@test "for each vCPU, the host mode reports the 1st, 10th, 100th ... trim, and each trim that drops an xfeature for the first time" {
  local hundred=()
  for _ in {1..99}; do hundred+=(set-xsave 0x203); done
  enable
  start_watch
  wait_for 20 watch_reported event=active
  run_vmm create 0 cpuid 0xd=0x3 "${hundred[@]}" set-xsave 0x207 create 1 cpuid 0xd=0x3 set-xsave 0x203
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x203
  wait_for 20 eval '(($(grep -c event=trim "$BATS_TEST_TMPDIR/watch") == 5))'
  assert_counts trimmed=102 lost_reports=0
  [[ $(grep -oE 'vcpu=.*' "$BATS_TEST_TMPDIR/watch") == "vcpu=0 xstate_bv=0x203 allowed=0x3 after=0x3 dropped=pkru
vcpu=0 xstate_bv=0x203 allowed=0x3 after=0x3 dropped=pkru count=10
vcpu=0 xstate_bv=0x207 allowed=0x3 after=0x3 dropped=avx,pkru count=100
vcpu=1 xstate_bv=0x203 allowed=0x3 after=0x3 dropped=pkru
vcpu=0 xstate_bv=0x203 allowed=0x3 after=0x3 dropped=pkru" ]] || fail "$(cat "$BATS_TEST_TMPDIR/watch")"
}

# Prints arguments that make the test VMM create NUMBER vCPUs and load TIMES payloads into each vCPU.
vcpus() { # NUMBER TIMES
  local i j
  for ((i = 0; i < $1; i++)); do
    echo create $i cpuid 0xd=0x3
    for ((j = 0; j < $2; j++)); do echo set-xsave 0x203; done
  done
}

# Runs a command as another user. For each group of processes, the host mode limits the vCPUs in its vCPU table and the unread
# reports. In the root cgroup, where the tests run, each user's processes are a group.
other_group() {
  chmod 666 /dev/kvm
  setpriv --reuid 65534 --clear-groups "$@"
}

# set_groups_parts VCPUS REPORTS    lets each group have only VCPUS vCPUs in the host mode's vCPU table, and only REPORTS unread
# reports. These two limits are the last two numbers of the BPF map "settings".
set_groups_parts() {
  local map value
  map=$(for map in $(bpftool -j prog show name xsaveshim_entry | jq '[.] | flatten | .[0].map_ids[]'); do
    bpftool -j map show id "$map" | jq 'select(.name == "settings") | .id'
  done)
  value=$(bpftool -j map dump id "$map" | jq -r '.[0].value | .[0:48] | join(" ")')
  # shellcheck disable=SC2046,SC2086 # words
  bpftool map update id "$map" key 0 0 0 0 value $value $(printf '%d %d 0 0 %d %d 0 0' $(($1 % 256)) $(($1 / 256)) $(($2 % 256)) $(($2 / 256)))
}

@test "if one user's VMMs cause too many reports, the host mode drops and counts the excess, but still reports events of another user's VMMs" {
  local flooding
  make_public "$vmm"
  enable
  set_groups_parts 4096 50
  # shellcheck disable=SC2046 # words
  run "$vmm" $(vcpus 60 1)
  other_group "$public/vmm" create 0 cpuid 0xd=0x3 set-xsave 0x207
  start_watch
  wait_for 30 watch_reported 'level=error event=overload via=host lost_reports=10 untracked=0 unmarked=0'
  flooding=$(grep -c 'event=trim .* xstate_bv=0x203' "$BATS_TEST_TMPDIR/watch")
  ((flooding == 50)) || fail "$flooding reports"
  watch_reported 'event=trim .* xstate_bv=0x207'
  # `host watch` has now read all reports of the first user, so the host mode accepts 50 new ones
  # shellcheck disable=SC2046
  run "$vmm" $(vcpus 20 1)
  wait_for 30 eval '(($(grep -c "event=trim .* xstate_bv=0x203" "$BATS_TEST_TMPDIR/watch") == 70))'
}

@test "if the host mode's ring buffer is more than three quarters full, the host mode writes only each vCPU's first report of each kind into it" {
  local fill lost
  make_public "$vmm"
  enable
  fill=$(($(bpftool -j map show name events | jq '[.] | flatten | .[0].max_entries') / 400)) # a report has more than 400 bytes
  set_groups_parts 1 65535
  # The host mode's vCPU table now has room for one vCPU per user. The second vCPU is not in the table, so the host mode tries to
  # report every trim of this vCPU.
  # shellcheck disable=SC2046 # words
  run "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x207 create 1 cpuid 0xd=0x3 $(printf 'set-xsave 0x203 %.0s' $(seq "$fill"))
  lost=$(host status --json | jq .counts.lost_reports)
  ((lost > fill / 4)) || fail "only $lost of about $fill reports were lost; expected: more than a quarter"
  other_group "$public/vmm" create 0 cpuid 0xd=0x3 set-xsave 0x207
  assert_counts lost_reports="$lost"
  start_watch
  wait_for 60 eval '(($(grep -c "event=trim .* xstate_bv=0x203" "$BATS_TEST_TMPDIR/watch") == fill - lost))'
  wait_for 20 eval '(($(grep -c "event=trim .* xstate_bv=0x207" "$BATS_TEST_TMPDIR/watch") == 2))'
  wait_for 20 watch_reported "event=overload via=host lost_reports=$lost"
}

@test "if one user's vCPUs exceed the user's share of the host mode's vCPU table, the host mode reports every event of the excess vCPUs" {
  make_public "$vmm"
  enable
  set_groups_parts 2 100
  # shellcheck disable=SC2046
  run "$vmm" $(vcpus 3 3)
  assert_counts untracked=3
  # shellcheck disable=SC2046
  run "$vmm" $(vcpus 2 3)
  # shellcheck disable=SC2046
  other_group "$public/vmm" $(vcpus 2 3)
  assert_counts untracked=3
  start_watch
  wait_for 20 eval '(($(grep -c event=trim "$BATS_TEST_TMPDIR/watch") == 9))'
}

@test "if the host mode did not see a vCPU being destroyed, it still reports the first trim of a new vCPU at the same kernel address" {
  enable
  rm -f /sys/fs/bpf/xsaveshim/{gone,made}
  wait_for 30 eval '! bpftool prog show | grep -qE "xsaveshim_(gone|made)"'
  for _ in {1..10}; do run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x207; done
  start_watch
  wait_for 20 eval '(($(grep -c event=trim "$BATS_TEST_TMPDIR/watch") == 10))'
}

@test "xsaveshim host watch reports when the host mode becomes inactive or active; if watch is killed, the host mode still trims" {
  enable
  start_watch
  wait_for 20 watch_reported event=active
  host disable
  wait_for 20 watch_reported 'level=error event=inactive via=host reason="the host mode is not enabled"'
  enable
  wait_for 20 eval '(($(grep -c event=active "$BATS_TEST_TMPDIR/watch") == 2))'
  assert_loads 0x3
  wait_for 20 watch_reported event=trim
  run --separate-stderr host watch
  [[ $status == 1 && $stderr == 'xsaveshim host: another `xsaveshim host watch` is running' ]]
  kill -KILL "$watcher"
  wait "$watcher" || true
  assert_loads 0x3
}

@test "xsaveshim host watch runs the host mode's self-test soon after SIGHUP, and reports event=inactive within seconds after sysctl kernel.ftrace_enabled=0" {
  probe_calls() { bpftool -j map dump name counts | jq '.[] | (.formatted // .) | select(.key == 13) | .value'; }
  local before
  enable
  start_watch
  wait_for 20 watch_reported event=active
  before=$(probe_calls)
  sleep 12 # `host watch` checks the host mode twice in this time
  [[ $(probe_calls) == "$before" ]]
  kill -HUP "$watcher"
  wait_for 20 eval '(($(probe_calls) > before))'
  sysctl -q kernel.ftrace_enabled=0
  wait_for 30 watch_reported event=inactive || { sysctl -q kernel.ftrace_enabled=1; false; }
  sysctl -q kernel.ftrace_enabled=1
}

@test "if the host mode cannot write to the memory of a VMM's payload, it reports this, and KVM gives the VMM the same answer as without the host mode" {
  local kind before after
  for kind in readonly copied absent split userfaultfd; do
    before+=$("$build/test/pages" "$kind")$'\n'
  done
  enable
  start_watch
  wait_for 20 watch_reported event=active
  for kind in readonly copied absent split userfaultfd; do
    after+=$("$build/test/pages" "$kind")$'\n'
  done
  [[ $before == "$after" ]] || fail "before:" "$before" "after:" "$after"
  wait_for 20 eval '(($(grep -oE "event=(not-trimmed|refused) .*pid=[0-9]*" "$BATS_TEST_TMPDIR/watch" | sort -u -t= -k4 | wc -l) == 5))'
}

@test "with the setting refused=abort, the host mode kills a VMM whose payload KVM refuses with EINVAL, and kills no other VMM" {
  enable --refused=abort
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x203
  ((status == 0))
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x203,xcomp_bv=1
  ((status == 137)) || fail "$(outcome)"
  run_vmm create 0 cpuid 0xd=0x3 set-xsave-at 0
  ((status == 0)) || fail "$(outcome)"
  run "$build/xsaveshim" probe
  ((status <= 2)) || fail "exit status $status" "$output"
  assert_counts killed=1
}

@test "the host mode reports event=refused if KVM refuses KVM_SET_XCRS, and event=lost if KVM_SET_XCRS enables an xfeature that the host mode dropped from the vCPU's payload" {
  enable
  start_watch
  wait_for 20 watch_reported event=active
  run_vmm create 0 cpuid 0xd=0x3 set-xcrs 0x7
  # Here the VMM sets a CPUID table with AVX after the trim, to imitate a KVM that allows AVX to a guest whose table lacks AVX.
  run_vmm create 0 cpuid 0xd=0x3 set-xsave 0x7 cpuid 0xd=0x7 set-xcrs 0x7
  run_vmm create 0 cpuid 0xd=0x7 set-xcrs 0x7 cpuid 0xd=0x3 set-xsave 0x7
  [[ ${lines[4]} == 'set-xsave 0x7: '*' xstate_bv=0x7 rest=same' ]] || fail "$(outcome)"
  wait_for 20 watch_reported event=lost
  assert_watch_reported lost 'level=error event=lost via=host pid=* comm=vmm ioctl=KVM_SET_XCRS vcpu=0 xcr0=0x7 lost=avx'
  assert_watch_reported refused \
    'level=error event=refused via=host pid=* comm=vmm ioctl=KVM_SET_XCRS vcpu=0 errno=EINVAL xcr0=0x7 reason=guest-lacks:avx'
}

@test "the host mode trims a static VMM's payload, but finds nothing to trim in payloads that the supervisor or the library has already trimmed" {
  enable
  run --separate-stderr "$build/test/vmm-static" create 0 cpuid 0xd=0x3 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  run --separate-stderr "$build/xsaveshim" run --supervise -- "$build/test/vmm-static" create 0 cpuid 0xd=0x3 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  run --separate-stderr "$build/xsaveshim" run -- "$vmm" create 0 cpuid 0xd=0x3 set-xsave 0x207
  assert_printed 'set-xsave 0x207: 0 xstate_bv=0x3 rest=same'
  assert_reported 'level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=* xstate_bv=0x207 allowed=0x3 after=0x3 dropped=avx,pkru'
  assert_counts trimmed=1
}

@test "while the host mode trims loaded payloads, xsaveshim status shows host as the mode of a VMM that has neither the library nor the supervisor" {
  local pid
  mkfifo "$BATS_TEST_TMPDIR/in"
  "$vmm" create 0 pause <>"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 3>&- &
  pid=$!
  wait_for 20 grep -q create "$BATS_TEST_TMPDIR/out"
  mode_of() { "$build/xsaveshim" status --json | jq -c ".vmms[] | select(.pid == $pid) | [.mode, .protected, .settings]"; }
  [[ $(mode_of) == '["none",false,null]' ]] || fail "$(mode_of)"
  enable
  [[ $(mode_of) == '["host",true,{"trim":"both","refused":"report","log":null,"log_level":null}]' ]] || fail "$(mode_of)"
  "$build/xsaveshim" status --json | validate status
  enable --trim=save
  [[ $(mode_of) == '["none",false,null]' ]] || fail "$(mode_of)"
  kill "$pid"
}
