# SPDX-License-Identifier: MIT
# bats file_tags=fleet
# Tests the Ansible collection over ssh on three hosts. Each host is a set of namespaces, with systemd as PID 1 and this machine's
# libvirtd and QEMU. The tests share the hosts, so the tests must run in the order of this file.

load lib
load libvirt

setup_file() {
  local tool
  export BATS_NO_PARALLELIZE_WITHIN_FILE=true
  need_libvirt_host
  for tool in ansible-playbook sshd ssh-keygen dpkg-buildpackage dh; do
    type "$tool" >/dev/null 2>&1 || skip "there is no $tool here: scripts/setup fleet packages installs it"
  done
  make -s -C "$repo" deb BUILD="$BATS_FILE_TMPDIR" >"$BATS_FILE_TMPDIR/log" 2>&1 || fail "$(<"$BATS_FILE_TMPDIR/log")"
  mkdir -p "$BATS_FILE_TMPDIR/ansible_collections/xsaveshim"
  ln -s "$repo/deploy/ansible" "$BATS_FILE_TMPDIR/ansible_collections/xsaveshim/fleet"
  boot_fleet
}

# Boots the hosts kvm1, kvm2 and kvm3, each with an sshd on a port of its own, and writes Ansible's inventory of these hosts.
boot_fleet() {
  local port=$((20000 + RANDOM % 10000)) name
  ssh-keygen -q -t ed25519 -N '' -f "$BATS_FILE_TMPDIR/key"
  mkdir -p "$BATS_FILE_TMPDIR/stage"/{srv,root,var/lib/prometheus/node-exporter}
  # For each command that arrives over ssh, bash reads /root/.bashrc. Without this empty file, the hosts would see this machine's
  # /root/.bashrc, which may be slow.
  : >"$BATS_FILE_TMPDIR/stage/root/.bashrc"
  cp "$BATS_FILE_TMPDIR/key" "$BATS_FILE_TMPDIR/key.pub" "$BATS_FILE_TMPDIR/stage/srv/"
  echo '[xsaveshim]' >"$BATS_FILE_TMPDIR/hosts"
  for name in kvm1 kvm2 kvm3; do
    on "$name"
    boot_host "$BATS_FILE_TMPDIR/stage"
    host systemd-run --quiet --unit=fleet-sshd --property=RuntimeDirectory=sshd /usr/sbin/sshd -D -f /dev/null -p "$port" \
      -o ListenAddress=127.0.0.1 -o HostKey=/srv/key -o AuthorizedKeysFile=/srv/key.pub -o StrictModes=no \
      -o PermitRootLogin=prohibit-password -o Subsystem="sftp internal-sftp"
    echo "$name ansible_host=127.0.0.1 ansible_port=$port" >>"$BATS_FILE_TMPDIR/hosts"
    port=$((port + 1))
  done
  cat >>"$BATS_FILE_TMPDIR/hosts" <<END
[xsaveshim:vars]
ansible_user=root
ansible_ssh_private_key_file=$BATS_FILE_TMPDIR/key
ansible_python_interpreter=/usr/bin/python3
xsaveshim_mode=libvirt
xsaveshim_package_files=["$(echo "$BATS_FILE_TMPDIR"/xsaveshim_*_amd64.deb)"]
xsaveshim_metrics=true
xsaveshim_settings={"XSAVESHIM_REFUSED": "abort", "XSAVESHIM_LOG_LEVEL": "error"}
END
}

# After `on NAME`, the function `host` runs its commands on the host NAME.
on() { host_dir=$BATS_FILE_TMPDIR/$1; } # NAME

teardown_file() {
  local name
  for name in kvm1 kvm2 kvm3; do
    on "$name"
    stop_host
  done
}

# Runs the collection's PLAYBOOK on the hosts, and checks that ansible-playbook exits with STATUS. Sets $output. The playbook
# rollout.yml changes one host at a time, because xsaveshim_serial is 1.
play() { # STATUS PLAYBOOK [ARGUMENT...]
  run "-$1" timeout $((900 * ${XSTEST_SLOW:-1})) env HOME="$BATS_FILE_TMPDIR" ANSIBLE_COLLECTIONS_PATH="$BATS_FILE_TMPDIR" ANSIBLE_HOST_KEY_CHECKING=False ANSIBLE_NOCOLOR=1 \
    ANSIBLE_PIPELINING=True ANSIBLE_TIMEOUT=$((30 * ${XSTEST_SLOW:-1})) ansible-playbook -i "$BATS_FILE_TMPDIR/hosts" "xsaveshim.fleet.$2" \
    -e '{"xsaveshim_serial": [1, 1, 1]}' "${@:3}" 3>&-
}

# Checks the summary (PLAY RECAP) of the last `play`: the line of the host NAME must match PATTERN.
assert_recap() { # NAME PATTERN
  grep -qE "^$1 +: .*$2" <<<"$output" || fail "expected of $1: $2" "$output"
}

# Prints the packages and files whose names contain xsaveshim, on the host that `on` chose.
traces() {
  host sh -c 'find /etc /usr /var/cache /var/lib/dpkg/info /var/lib/prometheus /var/lib/systemd -name "*xsaveshim*" ! -path "/usr/share/man/*/index.db" | sort; dpkg-query -W "xsaveshim*" 2>/dev/null' || true
}

@test "the Ansible playbook plan.yml probes and compares all hosts, and installs nothing on them" {
  play 0 plan -e "xsaveshim_controllers_command=$build/xsaveshim"
  [[ $output == *"1: kvm1 kvm2 kvm3"* ]]
  for name in kvm1 kvm2 kvm3; do
    on "$name"
    [[ -z $(traces) ]] || fail "$(traces)"
  done
}

@test "the Ansible playbook rollout.yml in check mode changes nothing on the hosts" {
  play 0 rollout --check
  for name in kvm1 kvm2 kvm3; do
    on "$name"
    [[ -z $(traces) ]] || fail "$(traces)"
  done
}

@test "if libvirt on the second of three hosts cannot start a domain, the Ansible playbook rollout.yml fails on that host, and installs nothing on the third host" {
  on kvm2
  host mv /usr/bin/qemu-system-x86_64 /usr/bin/qemu-kept
  play 2 rollout
  assert_recap kvm1 "failed=0"
  assert_recap kvm2 "failed=1"
  [[ $output == *"cannot start a probe domain"* ]]
  run ! assert_recap kvm3 "."
  host mv /usr/bin/qemu-kept /usr/bin/qemu-system-x86_64
  run -1 host xsaveshim-libvirt status
  [[ $output == *"libvirtd.service: not enabled"* ]]
  on kvm1
  host xsaveshim-libvirt status
  on kvm3
  [[ -z $(traces) ]] || fail "$(traces)"
}

@test "the Ansible playbook rollout.yml enables xsaveshim for libvirt on every host, and a second run of the playbook changes nothing" {
  play 0 rollout
  assert_recap kvm1 "changed=0 "
  play 0 rollout
  for name in kvm1 kvm2 kvm3; do
    assert_recap "$name" "changed=0 .*failed=0"
    on "$name"
    host xsaveshim-libvirt status
    host grep -qx XSAVESHIM_LOG_LEVEL=error /etc/xsaveshim.conf
    host systemctl is-enabled xsaveshim-metrics.timer
    host grep -q ^xsaveshim_vmms /var/lib/prometheus/node-exporter/xsaveshim.prom
  done
}

@test "if the dynamic loader of a host does not find libxsaveshim.so, the Ansible playbook rollout.yml with xsaveshim_mode=library fails on that host" {
  play 0 rollout --limit kvm3 -e xsaveshim_mode=library
  assert_recap kvm3 "changed=0 .*failed=0"
  on kvm3
  host mv /usr/lib/x86_64-linux-gnu/libxsaveshim.so /srv/
  play 2 rollout --limit kvm3 -e xsaveshim_mode=library
  host mv /srv/libxsaveshim.so /usr/lib/x86_64-linux-gnu/
}

@test "the Ansible playbook rollback.yml removes every file and package of xsaveshim from all hosts" {
  play 0 rollback
  for name in kvm1 kvm2 kvm3; do
    on "$name"
    [[ -z $(traces) ]] || fail "$(traces)"
    [[ $(host systemctl show -P Environment libvirtd) != *LD_PRELOAD* ]]
  done
}
