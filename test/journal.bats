# SPDX-License-Identifier: MIT
# Tests of xsaveshim's reports in a real systemd journal. systemd runs in namespaces, and the preloaded standin.so imitates KVM.

load lib
load libvirt

setup() {
  need_libvirt_host
  make -s install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/stage"
  install -D -t "$BATS_TEST_TMPDIR/stage/srv" "$shim" "$standin" "$vmm"
  boot_host "$BATS_TEST_TMPDIR/stage"
}

teardown() {
  stop_host
}

# Prints xsaveshim's messages in the journal that have the priority PRIORITY or a higher one.
messages_of() { host journalctl --quiet --output=cat --identifier=xsaveshim --priority="$1"; } # PRIORITY

@test "journalctl -p err shows the library's report of a refused payload, and journalctl -p notice also shows the report of a trim" {
  host env LD_PRELOAD="/srv/libxsaveshim.so /srv/standin.so" DEVICE=/dev/null XSAVESHIM_LOG=syslog XSAVESHIM_LOG_LEVEL=debug \
    XSAVESHIM_REFUSED=report /srv/vmm create 0 cpuid 0xd=0x3 set-xsave 0x207 set-xsave 0x3,xcomp_bv=1
  host journalctl --quiet --sync
  run -0 messages_of err
  [[ $output == "level=error event=refused "* && $output != *$'\n'* ]] || fail "$output"
  run -0 messages_of notice
  [[ $output == *"level=notice event=trim "* && $output != *event=learn* ]] || fail "$output"
  run -0 messages_of debug
  [[ $output == *"level=debug event=learn "* ]] || fail "$output"
  run ! grep -v '^level=' <<<"$output"
}

# `xsaveshim host watch` reports inactive or state-unknown, depending on this machine's KVM and kernel.
@test "xsaveshim host watch writes a report into the journal as an entry with a priority, the field XSAVESHIM_EVENT, and a MESSAGE_ID" {
  local event
  host systemctl start xsaveshim-host-watch
  wait_for 60 eval '[[ $(messages_of err) ]]'
  run -0 host journalctl --quiet --output=json --identifier=xsaveshim
  event=$(jq -r .XSAVESHIM_EVENT <<<"$output")
  [[ $event == @(inactive|state-unknown) ]] || fail "$output"
  jq -e --arg event "$event" '.PRIORITY == "3" and (.MESSAGE | startswith("level=error event=" + $event + " via=host "))
    and (.MESSAGE_ID | test("^[0-9a-f]{32}$")) and (has("XSAVESHIM_VM") | not)' <<<"$output" || fail "$output"
}
