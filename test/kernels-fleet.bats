# SPDX-License-Identifier: MIT
# bats file_tags=fleet
# Tests the fleet tools that need the host mode, under systemd in namespaces, in a testbed kernel: the unit
# xsaveshim-metrics.service, and the Ansible collection's playbooks evacuate.yml, rollout.yml and rollback.yml.

load lib

@test "while the host mode is active, xsaveshim-metrics.service writes xsaveshim_host_active 1; the Ansible playbook evacuate.yml enables the host mode only while the evacuation command runs" {
  type ansible-playbook >/dev/null 2>&1 || skip "there is no ansible-playbook here: scripts/setup fleet installs it"
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/installed"
  mkdir -p "$BATS_TEST_TMPDIR/installed"/{srv/ansible_collections/xsaveshim,var/lib/prometheus/node-exporter}
  cp -r "$repo/deploy/ansible" "$BATS_TEST_TMPDIR/installed/srv/ansible_collections/xsaveshim/fleet"
  # shellcheck disable=SC2016 # the inner shell's
  run --separate-stderr timeout 900 "$repo/test/kernels/run" --timeout 850 fixed -- bash -c '
    export XSTEST_SLOW=10
    host() { "$0/test/tools/systemd-ns" exec /tmp/host "$@" 2>&1; }
    "$0/test/tools/systemd-ns" start /tmp/host "$1" || exit
    host mount -t bpf -o mode=0700 bpf /sys/fs/bpf
    host xsaveshim host enable
    host systemctl start xsaveshim-metrics.service
    host grep -E "^xsaveshim_host_(active|enabled)|not_inspected |outcome=\"lost\"" /var/lib/prometheus/node-exporter/xsaveshim.prom
    host xsaveshim host disable
    host env ANSIBLE_COLLECTIONS_PATH=/srv LC_ALL=C.UTF-8 ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 HOME=/tmp \
      ansible-playbook -i localhost, -c local -e xsaveshim_hosts=localhost \
      -e "{\"xsaveshim_evacuate_command\": \"sh -c \\\"xsaveshim host status >/tmp/during\\\"\"}" xsaveshim.fleet.evacuate
    host head -n 1 /tmp/during
    host xsaveshim host status | head -n 1
    "$0/test/tools/systemd-ns" stop /tmp/host' "$repo" "$BATS_TEST_TMPDIR/installed"
  for line in "xsaveshim_host_enabled 1" "xsaveshim_host_active 1" "xsaveshim_processes_not_inspected 0" \
    'xsaveshim_host_calls_total{outcome="lost"} 0'; do
    grep -qxF "$line" <<<"$output" || fail "not printed: $line" "$output" "$stderr"
  done
  grep -q '^localhost .* failed=0 ' <<<"$output" || fail "$output" "$stderr"
  [[ $(tail -n 2 <<<"$output") == "active: "*$'\n'"inactive: "* ]] || fail "$output" "$stderr"
}

@test "with xsaveshim_mode=host, the Ansible playbook rollout.yml installs the packages and enables the host mode and its units, and rollback.yml removes everything" {
  type ansible-playbook dpkg-buildpackage >/dev/null 2>&1 ||
    skip "there is no ansible-playbook or no dpkg-buildpackage here: scripts/setup fleet packages installs them"
  make -s -C "$repo" deb BUILD="$BATS_TEST_TMPDIR" >"$BATS_TEST_TMPDIR/log" 2>&1 || fail "$(<"$BATS_TEST_TMPDIR/log")"
  mkdir -p "$BATS_TEST_TMPDIR/stage/srv/ansible_collections/xsaveshim"
  cp "$BATS_TEST_TMPDIR"/xsaveshim{,-host}_*_amd64.deb "$BATS_TEST_TMPDIR/stage/srv/"
  cp -r "$repo/deploy/ansible" "$BATS_TEST_TMPDIR/stage/srv/ansible_collections/xsaveshim/fleet"
  # Emulated, apt would take minutes to read the lists of all packages, and man-db to read all manuals. So the script removes both.
  # shellcheck disable=SC2016 # the inner shell's
  run --separate-stderr timeout 1800 "$repo/test/kernels/run" --timeout 1750 fixed -- bash -c '
    export XSTEST_SLOW=10
    host() { "$0/test/tools/systemd-ns" exec /tmp/host "$@" 2>&1; }
    play() {
      host sh -c "ANSIBLE_COLLECTIONS_PATH=/srv LC_ALL=C.UTF-8 ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 HOME=/tmp \
        ansible-playbook -i localhost, -c local -e xsaveshim_hosts=localhost -e xsaveshim_mode=host \
        -e ansible_python_interpreter=/usr/bin/python3 -e \"{xsaveshim_package_files: [\$(echo /srv/*.deb | tr \" \" ,)]}\" xsaveshim.fleet.$1 >/tmp/said 2>&1
        grep ^fatal: /tmp/said; grep \"^localhost .* failed=\" /tmp/said"
    }
    "$0/test/tools/systemd-ns" start /tmp/host "$1" || exit
    host sh -c "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/lib/man-db/auto-update"
    host mount -t bpf -o mode=0700 bpf /sys/fs/bpf
    play rollout
    host xsaveshim host status | head -n 1
    host systemctl is-enabled xsaveshim-host xsaveshim-host-watch
    host systemctl is-active xsaveshim-host xsaveshim-host-watch
    play rollback
    echo "left: $(host sh -c "command -v xsaveshim; find /sys/fs/bpf /etc/systemd/system -name xsaveshim\*" | xargs)"
    "$0/test/tools/systemd-ns" stop /tmp/host' "$repo" "$BATS_TEST_TMPDIR/stage"
  [[ $output == "localhost "*" failed=0 "*"active: "*$'\nenabled\nenabled\nactive\nactive\n'"localhost "*" failed=0 "*$'\n'"left: " ]] ||
    fail "$output" "$stderr"
}
