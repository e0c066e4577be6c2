# SPDX-License-Identifier: MIT
# bats file_tags=testbed
# Tests of the host mode on the testbed's kernels, which boot in emulated machines.

load lib
load oracle

setup() {
  cd "$repo" || return
}

# assert_passes [OPTION VALUE]... KERNEL WRAPPER... SUITE    passes the OPTIONs to test/kernels/run, which boots the testbed kernel
# KERNEL and runs `WRAPPER... bats SUITE` there. Checks that every test passes and none is skipped.
assert_passes() {
  local options=()
  while [[ $1 == --* ]]; do options+=("$1" "$2") && shift 2; done
  # bats puts the directory of its internal programs first in PATH. The `bats` in that directory must not run here.
  run env PATH="${PATH#"${BATS_LIBEXEC:+$BATS_LIBEXEC:}"}" timeout -k 30 900 test/kernels/run --timeout 850 "${options[@]}" "$1" -- \
    env XSTEST_SLOW=10 BUILD="$build" "${@:2:$#-2}" bats --formatter tap "${!#}"
  if ((status != 0)) || grep -qE '^not ok|# skip' <<<"$output" || ! grep -q '^ok ' <<<"$output"; then
    fail "$(grep -v '^ok [0-9]* [^#]*$' <<<"$output")"
  fi
}

# inside [--icount] [OPTION VALUE]... KERNEL SCRIPT ARGUMENT...    passes --icount and the OPTIONs to test/kernels/run, which boots
# the testbed kernel KERNEL and runs the text SCRIPT there as a bash script. In SCRIPT, $0 is the build directory, and $1, $2 ... are
# the ARGUMENTs.
inside() {
  local options=()
  [[ $1 != --icount ]] || { options=("$1") && shift; }
  while [[ $1 == --* ]]; do options+=("$1" "$2") && shift 2; done
  run --separate-stderr timeout 600 test/kernels/run --timeout 500 "${options[@]}" "$1" -- bash -c "$2" "$build" "${@:3}"
}

# A prefix for a command: hides the BTF of KVM's module, and then runs the command. (On Proxmox's kernel 5.15, KVM's module has no
# BTF.) Without this BTF, the host mode uses a kretprobe to run at the end of KVM's ioctl.
no_module_btf=(sh -c 'cp /sys/kernel/btf/vmlinux /dev/shm && mount -t tmpfs none /sys/kernel/btf && cp /dev/shm/vmlinux /sys/kernel/btf && exec "$@"' -)

@test "host.bats, the test suite of the host mode, passes on a kernel that neither leaks xfeatures nor refuses leaked xfeatures" {
  assert_passes fixed test/host.bats
}

@test "host.bats, the test suite of the host mode, passes on Debian's kernel even if the BTF of KVM's module is missing" {
  assert_passes debian "${no_module_btf[@]}" test/host.bats
}

crowd_result() { # NAME KERNEL
  result "$1" "the host mode: $2" '64 threads load and save; enabled and disabled 10 times under a guest and 4 threads' \
    'each load trimmed or reported, the guest intact, nothing in the kernel log'
}

@test "host-crowd.bats, the host mode's test under load, passes on Debian's kernel booted with preempt=full" {
  assert_passes --cpus 2 --append preempt=full debian test/host-crowd.bats
  crowd_result host-crowd-full "Debian's kernel, which preempts itself"
}

# Debian's Linux 7.2 does not know preempt=none, and uses preempt=lazy instead.
@test "host-crowd.bats, the host mode's test under load, passes on Debian's kernel booted with preempt=none, even if the BTF of KVM's module is missing" {
  assert_passes --cpus 2 --append preempt=none debian "${no_module_btf[@]}" test/host-crowd.bats
  crowd_result host-crowd-none "Debian's kernel, which preempts itself as little as it can, by a kretprobe"
}

# The host mode reads the kernel's preemption modes from a file. In this test, a file with other modes hides the kernel's own file.
@test "on a kernel that preempts its own code, the host mode attaches two fentry programs, and three if the kernel offers lazy preemption" {
  # shellcheck disable=SC2016 # the inner shell's
  inside --append preempt=full debian '
    attached_with() { echo "$1" >/dev/shm/modes && "$0/xsaveshim" host enable >/dev/null && ls /sys/fs/bpf/xsaveshim | grep -cx "again[0-9]*"; }
    mount -t tracefs tracefs /sys/kernel/tracing
    touch /dev/shm/modes && mount --bind /dev/shm/modes /sys/kernel/debug/sched/preempt || exit
    attached_with "none voluntary (full)"
    attached_with "none voluntary (full) lazy"
    "$0/test/crowd" 8 30 3000 && "$0/xsaveshim" host status --json | jq .counts.trimmed'
  [[ $output == $'2\n3\nloads=240 untrimmed=0 refusals=240 saves=240\n240' ]] || fail "$output" "$stderr"
}

# With preempt=full, the kernel may preempt a process in the middle of a bpf(2) call that reads a BPF map. Until that call ends, the
# kernel skips the BPF programs of all kprobes on the CPU of the call.
@test "while a program reads a large BPF map under preempt=full, the host mode trims at least 98 % of payloads, and counts the rest as not_trimmed" {
  # shellcheck disable=SC2016 # the inner shell's
  inside --append preempt=full debian '
    mount -t tracefs tracefs /sys/kernel/tracing
    "$0/xsaveshim" host enable >/dev/null || exit
    exec {reader}< <(exec nice -n -5 "$0/test/mapreader") && read -r -u "$reader" || exit
    for threads in 1 2 8; do "$0/test/crowd" "$threads" $((240 / threads)) 3000; done
    "$0/xsaveshim" host status --json | jq -c ".counts | [.trimmed + .not_trimmed, .not_trimmed, .seen + .missed_entries + .skipped_by_kernel >= 2160]"'
  [[ $output =~ ^loads=240\ untrimmed=([0-9]+).*loads=240\ untrimmed=([0-9]+).*loads=240\ untrimmed=([0-9]+).*"
[720,"([0-9]+)",true]"$ ]] || fail "$output" "$stderr" || return
  local untrimmed=$((BASH_REMATCH[1] + BASH_REMATCH[2] + BASH_REMATCH[3]))
  ((untrimmed <= 14 && BASH_REMATCH[4] == untrimmed)) || fail "$output"
}

@test "if the host mode's kretprobe missed the end of one KVM_GET_XSAVE, the host mode does not write into this call's buffer when a later KVM_GET_XSAVE ends" {
  # shellcheck disable=SC2016 # the inner shell's
  inside --append preempt=full debian '
    "$@" "$0/xsaveshim" host enable >/dev/null || exit
    exec {reader}< <(exec nice -n -5 "$0/test/mapreader") && read -r -u "$reader" || exit
    "$0/test/stale" 60
    "$0/xsaveshim" host status --json | jq -r .exit' "${no_module_btf[@]}"
  [[ $output == "rounds=60 changed=0
kretprobe" ]] || fail "$output" "$stderr"
}

@test "while 40 VMMs hang in a vCPU ioctl, the host mode still sees the end of another VMM's vCPU ioctl" {
  # shellcheck disable=SC2016 # the inner shell's
  inside debian '
    "$@" "$0/xsaveshim" host enable >/dev/null || exit
    mkfifo /tmp/in
    for i in {1..40}; do "$0/test/hang" vcpu 0x7 <>/tmp/in >/tmp/hang.$i & done
    for i in {1..300}; do [ "$(cat /tmp/hang.* | grep -c ^calls)" = 40 ] && break; sleep 0.2; done
    "$0/xsaveshim" host status | head -n 1
    "$0/test/vmm" create 0 cpuid 0xd=0x3 set-xsave 0x3 >/dev/null
    "$0/xsaveshim" host status --json | jq -c "[.exit, .counts.under_way, .counts.missed_exits]"' "${no_module_btf[@]}"
  [[ $output == "active: the programs cleared avx, which the test guest lacks, from a payload
[\"kretprobe\",40,0]" ]] || fail "$output" "$stderr"
}

@test "if the kernel is locked down, xsaveshim host enable fails, and the message names the lockdown mode" {
  local mode
  for mode in integrity confidentiality; do
    inside --append "lockdown=$mode" fixed '"$0/xsaveshim" host enable'
    ((status == 2)) || fail "$output" "$stderr"
    [[ $stderr == "xsaveshim host: the host mode cannot be enabled: this kernel is locked down (/sys/kernel/security/lockdown says $mode), "* ]] ||
      fail "$stderr"
    [[ $stderr != *$'\n'* ]] || fail "$stderr"
  done
}

@test "while KVM's modules are not loaded, xsaveshim host enable fails; after KVM's modules were reloaded, an enabled host mode is inactive" {
  # shellcheck disable=SC2016 # the inner shell's
  inside debian '
    "$@" "$0/xsaveshim" host enable && rmmod kvm_amd kvm || echo "rmmod failed"
    insmod "$XSTEST_MODULES"/*-kvm.ko && insmod "$XSTEST_MODULES"/*-kvm-amd.ko
    "$0/xsaveshim" host status | head -n 1
    "$0/xsaveshim" host disable
    rmmod kvm_amd kvm
    "$0/xsaveshim" host enable 2>&1' "${no_module_btf[@]}"
  [[ $output == "xsaveshim host: enabled: trim=both refused=report
inactive: the programs are attached, but the kernel does not call them: perhaps KVM was reloaded: enable the host mode again
xsaveshim host: disabled
xsaveshim host: the host mode cannot be enabled: KVM is not loaded: modprobe kvm_amd; if that fails, the kernel's log says why (dmesg)" ]] ||
    fail "$output" "$stderr"
}

@test "if the module kvm is loaded but kvm_amd is not yet, xsaveshim host enable waits for kvm_amd, and then succeeds" {
  # shellcheck disable=SC2016 # the inner shell's
  inside debian '
    rmmod kvm_amd
    "$0/xsaveshim" host enable 2>&1 | cut -d: -f2 &
    sleep 3
    insmod "$XSTEST_MODULES"/*-kvm-amd.ko
    wait'
  [[ $output == " enabled" ]] || fail "$output" "$stderr"
}

@test "a kernel that refuses leaked xfeatures refuses a static VMM's payload, but accepts the payload once the host mode is enabled" {
  # shellcheck disable=SC2016 # the inner shell's
  inside affected '
    restore() { "$0/test/vmm-static" create 0 cpuid 0xd=0x3 set-xsave 0x207 | tail -n 1; }
    restore
    "$0/xsaveshim" host enable
    restore'
  [[ $output == "set-xsave 0x207: EINVAL xstate_bv=0x207 rest=same
xsaveshim host: enabled: trim=both refused=report
set-xsave 0x207: 0 xstate_bv=0x3 rest=same" ]] || fail "$output" "$stderr"
  result host-static 'the host mode: a static VMM' 'a payload with 0x207 of a guest that has 0x3, on the affected kernel' \
    'refused without it, loaded with it'
}

@test "if a kernel refuses a payload that has only FP and SSE, the host mode with refused=abort kills the VMM, unless the VMM or the preloaded library then sets a CPUID table" {
  # shellcheck disable=SC2016 # the inner shell's
  inside affected-strict '
    "$0/xsaveshim" host enable --refused=abort >/dev/null
    LD_PRELOAD=$0/libxsaveshim.so "$0/test/vmm" create 0 cpuid 0x1=0x1 set-xsave 0x3 get-xsave | tail -n 1 | cut -d" " -f1-2
    "$0/test/vmm" create 0 cpuid 0x1=0x1 set-xsave 0x3 cpuid 0x1=0x1 get-xsave | tail -n 1 | cut -d" " -f1-2
    "$0/test/vmm" create 0 cpuid 0x1=0x1 set-xsave 0x3 get-xsave >/dev/null
    echo "$?"
    "$0/xsaveshim" host status --json | jq .counts.killed'
  [[ $output == "get-xsave: 0
get-xsave: 0
137
1" ]] || fail "$output" "$stderr"
}

@test "with 20,000 random CPUID tables and payloads, the host mode clears exactly the XSTATE_BV bits that the vCPU's table does not allow, and changes nothing else" {
  # shellcheck disable=SC2016 # the inner shell's
  inside affected '"$0/xsaveshim" host enable && "$0/test/oracle" payload 20000 "$1"' "$seed"
  [[ $output == *'payloads=20000 mismatches=0'* ]] || fail "$output" "$stderr"
  result oracle-host 'KVM as the oracle: the host mode' '20,000 random payloads, each with a random CPUID table, on the affected kernel' '0 mismatches'
}

# Bugs of the host mode that the program test/oracle must find. Each entry has a source file, and the sed script that puts the bug
# into this file.
declare -gA helper_bugs=(
  [index-ignored]='include/xsaveshim/guest_cpuid.h s/(!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0)/1/'
  [flag-ignored]='include/xsaveshim/guest_cpuid.h s/(!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0)/entry->index == 0/'
  [last-match-wins]='host/programs.bpf.c s/&entries\[i\]/\&entries[nent - 1 - i]/'
  [edx-dropped]='host/programs.bpf.c s/(uint64_t)entry.edx << 32 | entry.eax/entry.eax/'
  [fpsse-dropped]='include/xsaveshim/policy.h s/ | vcpu.enabled_xcr0 | XFEATURE_FPSSE/ | vcpu.enabled_xcr0/'
  [empty-table-unlimited]='host/programs.bpf.c s/state->empty_table = is_empty/state->empty_table = false/'
)

# helper_with BUG    builds the host mode with this bug, as $BATS_TEST_TMPDIR/BUG/build/xsaveshim-host
helper_with() {
  local tree=$BATS_TEST_TMPDIR/$1 file=${helper_bugs[$1]%% *} change=${helper_bugs[$1]#* }
  mkdir "$tree"
  cp -r Makefile core command include host preload shared supervise test packaging "$tree"
  sed -i "$change" "$tree/$file"
  [[ $(diff "$file" "$tree/$file" | grep -c '^>') == 1 ]] || fail "the sed script of the bug $1 does not change exactly one line" || return
  make -s -C "$tree" BUILD=build build/xsaveshim-host
}

@test "the test program test/oracle finds each deliberate bug in the host mode within 1,000 random CPUID tables" {
  local bug
  for bug in "${!helper_bugs[@]}"; do helper_with "$bug"; done
  # shellcheck disable=SC2016 # the inner shell's
  inside affected '
    for bug in "${@:3}"; do
      "$1/$bug/build/xsaveshim-host" enable >/dev/null || echo "$bug: the host mode with this bug cannot be enabled"
      echo "$bug: $("$0/test/oracle" payload 1000 "$2" | tail -n 1)"
      "$1/$bug/build/xsaveshim-host" disable >/dev/null
    done' "$BATS_TEST_TMPDIR" "$seed" "${!helper_bugs[@]}"
  for bug in "${!helper_bugs[@]}"; do
    grep -q "^$bug: mismatch at payload" <<<"$output" || fail "not caught: $bug" "$output" "$stderr"
  done
  result oracle-host-bugs 'the oracle itself: the host mode' "${#helper_bugs[@]} bugs put into the host mode (${!helper_bugs[*]})" 'each caught within 1,000 tables'
}

# Counts the instructions that the whole machine executes for a system call, and checks that the host mode adds none to KVM_RUN and
# to ioctls outside KVM. Checks that the host mode adds at most 1,000 to a vCPU ioctl that it does not watch, or at most 1,200 if
# the kernel preempts its own code. Prints the counts.
assert_cost() { # KERNEL_ARGUMENT
  # shellcheck disable=SC2016 # the inner shell's
  inside --icount --append "$1" debian '
    echo "preemption: $(cat /sys/kernel/debug/sched/preempt)"
    measure() { "$0/test/callcost" | sed "s/^/$1 /"; }
    measure none
    "$0/xsaveshim" host enable >/dev/null && measure fexit
    "$0/xsaveshim" host disable >/dev/null
    for try in {1..100}; do bpftool prog show | grep -q xsaveshim_ || break; sleep 0.1; done
    "$@" bash -c "\"\$0/xsaveshim\" host enable >/dev/null && \"\$0/test/callcost\" | sed \"s/^/kretprobe /\"" "$0"' "${no_module_btf[@]}"
  ((status == 0)) || fail "$output" "$stderr" || return
  local -A ticks=()
  local pair call count limit=1000
  [[ $output != *"("@(full|lazy)")"* ]] || limit=1200
  while read -r pair call count; do ticks[$pair:$call]=$count; done <<<"$output"
  for pair in fexit kretprobe; do
    for call in KVM_RUN other-file; do
      [[ ${ticks[none:$call]} -gt 0 && ${ticks[$pair:$call]} == "${ticks[none:$call]}" ]] || fail "$output" || return
    done
    [[ $((${ticks[$pair:unrelated-vcpu-ioctl]} - ${ticks[none:unrelated-vcpu-ioctl]})) -le $limit ]] || fail "$output" || return
  done
  printf '# %s\n' "${output//$'\n'/$'\n# '}" >&3
}

# Debian's Linux 7.2 uses preempt=lazy instead of preempt=none, so the limit is 1,200 there.
@test "the host mode adds no instruction to KVM_RUN or to ioctls outside KVM, and at most 1,000 to a vCPU ioctl that it does not watch" {
  assert_cost preempt=none
}

@test "on a kernel that preempts its own code, the host mode adds no instruction to KVM_RUN or to ioctls outside KVM, and at most 1,200 to a vCPU ioctl that it does not watch" {
  assert_cost preempt=full
}

@test "xsaveshim-host.service enables the host mode before libvirtd starts, with the options in /etc/default/xsaveshim-host; xsaveshim-host-watch.service logs trims to the journal" {
  make -s install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/stage"
  install -D "$vmm" -t "$BATS_TEST_TMPDIR/stage/srv"
  # shellcheck disable=SC2016 # the inner shell's
  inside fixed '
    export XSTEST_SLOW=10
    host() { test/tools/systemd-ns exec /tmp/host "$@" 2>&1; }
    test/tools/systemd-ns start /tmp/host "$1" || exit
    host systemctl is-enabled xsaveshim-host xsaveshim-host-watch
    host systemd-analyze verify xsaveshim-host.service xsaveshim-host-watch.service
    host systemctl show -p Before --value xsaveshim-host | grep -ow libvirtd.service
    host systemctl start xsaveshim-host xsaveshim-host-watch
    host xsaveshim host status | head -n 1
    host systemd-run --quiet --scope --slice=qemu.slice --unit=101.scope \
      sh -c "\"\$@\" | tail -n 1; until [ -e /srv/done ]; do sleep 0.2; done" - /srv/vmm create 0 cpuid 0xd=0x3 set-xsave 0x207 &
    for _ in {1..100}; do host journalctl -p notice XSAVESHIM_EVENT=trim -o cat | grep -o "event=trim via=host\|cgroup=.*scope" && break; sleep 0.2; done
    host touch /srv/done
    wait
    host sh -c "echo ENABLE_OPTIONS=--trim=restore >/etc/default/xsaveshim-host"
    host systemctl reload xsaveshim-host
    host xsaveshim host enable
    host systemctl kill -s KILL xsaveshim-host-watch
    host xsaveshim host status | head -n 1
    host xsaveshim host disable
    host systemctl is-active xsaveshim-host
    host systemctl start xsaveshim-host
    host systemctl restart xsaveshim-host
    host xsaveshim host status | sed -n 2p
    host systemctl stop xsaveshim-host
    host xsaveshim host status
    test/tools/systemd-ns stop /tmp/host' "$BATS_TEST_TMPDIR/stage"
  [[ $output == "disabled
disabled
libvirtd.service
active: the programs cleared avx, which the test guest lacks, from a payload
set-xsave 0x207: 0 xstate_bv=0x3 rest=same
event=trim via=host
cgroup=/qemu.slice/101.scope
xsaveshim host: enabled: trim=restore refused=report
active: the programs cleared avx, which the test guest lacks, from a payload
xsaveshim host: disabled
inactive
trim=restore refused=report
inactive: the host mode is not enabled" ]] || fail "$output" "$stderr"
}

@test "if xsaveshim host watch hangs, systemd restarts xsaveshim-host-watch.service; systemd-analyze security rates this unit's exposure at 5.0 or less" {
  make -s install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/stage"
  run systemd-analyze security --offline=yes --threshold=50 "$BATS_TEST_TMPDIR/stage/usr/lib/systemd/system/xsaveshim-host-watch.service"
  ((status == 0)) || fail "$output"
  install -D /dev/stdin "$BATS_TEST_TMPDIR/stage/etc/systemd/system/xsaveshim-host-watch.service.d/short.conf" <<<$'[Service]\nWatchdogSec=30'
  # shellcheck disable=SC2016 # the inner shell's
  inside fixed '
    export XSTEST_SLOW=10
    host() { test/tools/systemd-ns exec /tmp/host "$@" 2>&1; }
    show() { host systemctl show -P "$1" xsaveshim-host-watch; }
    test/tools/systemd-ns start /tmp/host "$1" || exit
    host systemctl start xsaveshim-host-watch
    first=$(show WatchdogTimestampMonotonic) pid=$(show MainPID)
    for _ in {1..100}; do [ "$(show WatchdogTimestampMonotonic)" = "$first" ] || break; sleep 0.2; done
    [ "$(show WatchdogTimestampMonotonic)" = "$first" ] || echo "watch notifies systemd"
    host kill -STOP "$pid"
    for _ in {1..300}; do [ "$(show NRestarts)" = 0 ] || break; sleep 0.2; done
    show NRestarts
    test/tools/systemd-ns stop /tmp/host' "$BATS_TEST_TMPDIR/stage"
  [[ $output == "watch notifies systemd
1" ]] || fail "$output" "$stderr"
}
