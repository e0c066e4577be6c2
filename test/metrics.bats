# SPDX-License-Identifier: MIT
# bats file_tags=fleet
# Tests the alert rules for Prometheus with promtool. Also tests xsaveshim-metrics.service, which writes the metrics. To
# run this service, the tests boot a systemd in its own namespaces.

load lib
load libvirt

rules=$repo/deploy/prometheus/xsaveshim.rules.yml
prom=/var/lib/prometheus/node-exporter/xsaveshim.prom

need_promtool() {
  type promtool >/dev/null 2>&1 || skip "there is no promtool here: scripts/setup fleet installs it"
}

teardown() {
  stop_host
}

@test "promtool accepts the alert rules for Prometheus, and each alert fires only on the test metrics that should trigger it" {
  need_promtool
  promtool check rules "$rules"
  promtool test rules "$repo/test/prometheus/alerts.test.yml"
}

@test "xsaveshim metrics prints every metric that an alert rule reads, and xsaveshim(1) explains exactly the metrics that the command prints" {
  printed=$(tr -s '\n\t' ' ' <"$repo/command/metrics.c" | grep -oE '(begin_metric|print_single|print_xfeatures)\( ?"[a-z_]+"' |
    sed -E 's/.*"(.*)"/xsaveshim_\1/' | sort -u)
  [[ $(wc -l <<<"$printed") -ge 11 ]] || fail "$printed"
  diff <(echo "$printed") <(grep -oE '^\.It Li xsaveshim_.*' "$repo/man/xsaveshim.1" | grep -oE 'xsaveshim_[a-z_]+' | sort -u)
  grep -oE '\bxsaveshim_[a-z_]+' "$rules" | sort -u >"$BATS_TEST_TMPDIR/read"
  [[ -z $(comm -13 <(echo "$printed") "$BATS_TEST_TMPDIR/read") ]] || fail "$(<"$BATS_TEST_TMPDIR/read")"
}

@test "every alert rule names a manual page, and a subsection or list item that exists on this page" {
  grep -c 'alert:' "$rules" | diff - <(grep -c 'manual:' "$rules")
  while read -r page section part; do
    for word in ${part//and /}; do
      grep -qE "^\.(Ss|It (Cm|Li)) ${word%,}\$" "$repo/man/$page.$section" ||
        fail "$page($section) has no subsection or list item $word"
    done
  done < <(sed -nE 's/.*manual: "([a-z]+)\(([1-8])\), (.*)"/\1 \2 \3/p' "$rules")
}

@test "after make install, xsaveshim-metrics.timer is not enabled, and xsaveshim-metrics.service, if started, replaces the metrics file by a rename" {
  need_libvirt_host
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/installed"
  mkdir -p "$BATS_TEST_TMPDIR/installed${prom%/*}" "$BATS_TEST_TMPDIR/installed/srv/textfile"
  boot_host "$BATS_TEST_TMPDIR/installed"
  run -1 host systemctl is-enabled xsaveshim-metrics.timer
  host systemctl start xsaveshim-metrics.service
  [[ $(host stat -c '%a %U' "$prom") == "644 root" ]]
  grep -q '^xsaveshim_vmms{state="protected"} 0$' "$host_root$prom"
  before=$(host stat -c %i "$prom")
  exec 9<"$host_root$prom"
  host systemctl start xsaveshim-metrics.service
  [[ $(host stat -c %i "$prom") != "$before" && $(wc -l <&9) -gt 20 ]]
  [[ $(ls "$host_root${prom%/*}") == xsaveshim.prom ]]

  run -0 host systemd-analyze security --no-pager --threshold=50 xsaveshim-metrics.service

  host mkdir -p /etc/systemd/system/xsaveshim-metrics.service.d
  printf '[Service]\nEnvironment=DIRECTORY=/srv/textfile\nReadWritePaths=/srv/textfile\n' |
    host tee /etc/systemd/system/xsaveshim-metrics.service.d/directory.conf
  host systemctl daemon-reload
  host systemctl enable --now xsaveshim-metrics.timer
  wait_for 60 test -e "$host_root/srv/textfile/xsaveshim.prom"
}

@test "if xsaveshim metrics fails, xsaveshim-metrics.service fails and keeps the metrics file of the previous run" {
  need_libvirt_host
  make -s -C "$repo" install BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/installed"
  mkdir -p "$BATS_TEST_TMPDIR/installed${prom%/*}"
  boot_host "$BATS_TEST_TMPDIR/installed"
  host systemctl start xsaveshim-metrics.service
  before=$(sha1sum <"$host_root$prom")
  host mv /usr/bin/xsaveshim /usr/bin/xsaveshim-kept
  printf '#!/bin/sh\necho xsaveshim_vmms\nexit 1\n' | host tee /usr/bin/xsaveshim
  host chmod 755 /usr/bin/xsaveshim
  run -1 host systemctl start xsaveshim-metrics.service
  [[ $(sha1sum <"$host_root$prom") == "$before" ]]
}

@test "xsaveshim metrics --output=FILE --interval=1 replaces FILE again and again, each time by a rename" {
  local file=$BATS_TEST_TMPDIR/xsaveshim.prom before pid
  "$build/xsaveshim" metrics --output="$file" --interval=1 3>&- &
  pid=$!
  wait_for $((20 * ${XSTEST_SLOW:-1})) test -e "$file"
  before=$(stat -c %i "$file")
  exec 9<"$file" # as long as this descriptor is open, no new file gets the old file's inode number
  wait_for $((20 * ${XSTEST_SLOW:-1})) eval '[[ $(stat -c %i "$file") != "$before" ]]'
  kill "$pid"
  [[ $(tail -n 1 <&9) == "xsaveshim_last_success_timestamp_seconds "* ]]
}

@test "xsaveshim metrics prints an error for --interval without --output, for a wrong number of seconds, and for a file that cannot be written" {
  run --separate-stderr -2 "$build/xsaveshim" metrics --interval=5
  [[ ${stderr_lines[0]} == "xsaveshim metrics: --interval needs --output" ]]
  for interval in 0 -1 5s ''; do
    run --separate-stderr -2 "$build/xsaveshim" metrics --output=x --interval="$interval"
    [[ ${stderr_lines[0]} == "xsaveshim metrics: --interval takes a number of seconds from 1 up, not '$interval'" ]]
  done
  run --separate-stderr -1 "$build/xsaveshim" metrics --output="$BATS_TEST_TMPDIR/none/x"
  [[ $stderr == "xsaveshim metrics: $BATS_TEST_TMPDIR/none/x.new: No such file or directory" ]]
}
