# SPDX-License-Identifier: MIT
# The reports that the library sends to syslog, as a real journal keeps them: systemd in namespaces, with the stand-in for KVM.

load lib
load libvirt

setup() {
  need_libvirt_host
  install -D -t "$BATS_TEST_TMPDIR/stage/srv" "$shim" "$standin" "$vmm"
  boot_host "$BATS_TEST_TMPDIR/stage"
}

teardown() {
  stop_host
}

# Prints the messages of the journal with this priority or a higher one.
messages_of() { host journalctl --quiet --output=cat --identifier=xsaveshim --priority="$1"; } # PRIORITY

@test "journalctl -p err finds refused, -p notice finds trim, and no message begins with the program's name" {
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
