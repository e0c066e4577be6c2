# SPDX-License-Identifier: MIT
# bats file_tags=fleet
# Tests two fleet tools that need the host mode: the unit xsaveshim-metrics.service and the playbook evacuate.yml. They run under
# systemd in namespaces, in a testbed kernel.

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
    host env ANSIBLE_COLLECTIONS_PATH=/srv LC_ALL=C.UTF-8 ANSIBLE_NOCOLOR=1 HOME=/tmp ansible-playbook -i localhost, -c local \
      -e xsaveshim_hosts=localhost \
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
