# SPDX-License-Identifier: MIT
# bats file_tags=fleet
# Tests the host mode's container image and DaemonSet, in a testbed kernel whose KVM leaks xfeatures. There is no Kubernetes
# cluster: runc runs the containers that the DaemonSet describes.

load lib

setup() {
  local tool
  for tool in buildah runc kubectl capsh; do
    type "$tool" >/dev/null 2>&1 || skip "there is no $tool here: scripts/setup image installs it"
  done
  cd "$repo" || return
}

pods() { kubectl kustomize "deploy/kubernetes/$1" 2>/dev/null; } # base|disable-at-exit

# For each container of the DaemonSet, writes a bundle for runc into DIRECTORY, with the container image as the root file system.
make_bundles() { # DIRECTORY
  local container root name
  container=$(buildah from --quiet "oci-archive:$(echo "$build"/xsaveshim-*.oci.tar)")
  root=$(buildah mount "$container")
  for name in enable watch metrics; do
    mkdir "$1/$name"
    cp -a "$root" "$1/$name/rootfs"
    pods base | test/tools/bundle "$name" >"$1/$name/config.json"
  done
  buildah rm "$container" >/dev/null
}

@test "two builds of the container image are equal bit for bit, and the DaemonSet's variant disable-at-exit adds only a preStop hook that disables the host mode" {
  local first
  make -s image BUILD="$build" >/dev/null
  first=$(sha256sum "$build"/xsaveshim-*.oci.tar)
  rm -r "$build"/xsaveshim-*.oci.tar "$build/image"
  make -s image BUILD="$build" >/dev/null
  [[ $(sha256sum "$build"/xsaveshim-*.oci.tar) == "$first" ]]
  [[ $(pods base) == *"image: xsaveshim:$(sed -n 's/^VERSION := //p' Makefile)"$'\n'* ]]
  [[ $(pods base) != *preStop* && $(pods disable-at-exit) == *preStop* ]]
  diff <(pods base) <(pods disable-at-exit | sed '/lifecycle:/,/- disable/d')
}

@test "if one container enables the host mode, the host mode trims the payloads that a VMM in a second container saves, even after the container of xsaveshim host watch was killed" {
  make -s image BUILD="$build" >/dev/null
  make_bundles "$BATS_TEST_TMPDIR"
  mkdir -p "$BATS_TEST_TMPDIR/vmm/rootfs/dev"
  cp "$build/test/vmm-static" "$BATS_TEST_TMPDIR/vmm/rootfs/vmm"
  # shellcheck disable=SC2016 # the inner shell's
  run --separate-stderr timeout 600 test/kernels/run --timeout 500 leaky -- bash -c '
    cp -r "$1" /tmp/bundles && cd /tmp/bundles && mkfifo steps
    mkdir -p /var/lib/prometheus/node-exporter
    start() { runc --root /tmp/runc run --no-pivot --bundle "$1" "$1"; }
    (cd vmm && runc spec && jq ".process.args = [\"/vmm\", \"create\", \"0\", \"cpuid\", \"0xd=0x3\", \"run\", \"get-xsave\",
      \"pause\", \"get-xsave\", \"pause\", \"get-xsave\", \"pause\", \"get-xsave\"] | .process.terminal = false |
      .linux.resources.devices = [{allow: true, access: \"rwm\"}] | .mounts += [{destination: \"/dev/kvm\", type: \"bind\",
      source: \"/dev/kvm\", options: [\"bind\"]}]" config.json >new && mv new config.json)
    start vmm <steps >saved & exec 5>steps
    wait_until() { for _ in {1..200}; do "$@" && return; sleep 0.1; done; echo "in vain: $*"; }
    has_saved() { (($(grep -c ^get-xsave: saved) == $1)); }
    is_active() { (($(grep -c event=active reports) == $1)); }
    is_gone() { ! runc --root /tmp/runc list -q | grep -q "$1"; }
    wait_until has_saved 1
    start enable
    start watch >reports &
    wait_until is_active 1
    echo >&5; wait_until has_saved 2
    start metrics & wait_until test -e /var/lib/prometheus/node-exporter/xsaveshim.prom
    grep ^xsaveshim_host_active /var/lib/prometheus/node-exporter/xsaveshim.prom
    runc --root /tmp/runc exec watch /bin/xsaveshim host status | head -n 1
    runc --root /tmp/runc kill watch KILL
    wait_until is_gone watch
    echo >&5; wait_until has_saved 3
    start watch >>reports &
    wait_until is_active 2
    runc --root /tmp/runc exec watch /bin/xsaveshim host disable
    echo >&5; wait_until has_saved 4
    "$0/xsaveshim" host status | head -n 1
    grep -o "^get-xsave: 0 xstate_bv=0x[0-9a-f]*" saved
    grep -o "event=trim.*via=host.*dropped=.*" reports | head -n 1' "$build" "$BATS_TEST_TMPDIR"
  [[ $output == "xsaveshim host: enabled: trim=both refused=report
xsaveshim_host_active 1
active: the programs cleared avx, which the test guest lacks, from a payload
xsaveshim host: disabled
inactive: the host mode is not enabled
get-xsave: 0 xstate_bv=0x217
get-xsave: 0 xstate_bv=0x3
get-xsave: 0 xstate_bv=0x3
get-xsave: 0 xstate_bv=0x217
event=trim via=host "*"dropped=avx,bndcsr,pkru" ]] || fail "$output" "$stderr"
}
