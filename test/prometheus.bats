# SPDX-License-Identifier: MIT
# bats file_tags=fleet
# In these tests a real Prometheus gets the metrics of this host from a real node exporter, and each alert of
# deploy/prometheus/xsaveshim.rules.yml fires and ends. The tests share one Prometheus. So that no test waits for minutes, the tests
# use a copy of the rules with `for: 0s` instead of 10 minutes, and with the period [20s] instead of [1h]. This host may have no VMM
# and no active host mode, and its KVM may refuse nothing. So the tests add to this host's metrics the lines that the alerts
# need. (metrics-kvm.bats checks that `xsaveshim metrics` can print such lines.)

load lib

rules=$repo/deploy/prometheus/xsaveshim.rules.yml
patience=60

setup_file() {
  local port
  export BATS_NO_PARALLELIZE_WITHIN_FILE=true
  for tool in prometheus prometheus-node-exporter curl jq; do
    type "$tool" >/dev/null 2>&1 || skip "there is no $tool here: run 'scripts/setup fleet'"
  done
  cd "$BATS_FILE_TMPDIR" || return
  port=$((20000 + RANDOM % 10000))
  export url=http://127.0.0.1:$port
  mkdir textfile
  sed -E "s/for: 10m/for: 0s/; s/\[1h\]/[20s]/" "$rules" >rules.yml
  cat >prometheus.yml <<END
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [rules.yml]
scrape_configs: [{job_name: node, static_configs: [{targets: ['127.0.0.1:$((port + 1))']}]}]
END
  start_tool node-exporter prometheus-node-exporter --collector.disable-defaults --collector.textfile --collector.textfile.directory=textfile \
    --web.listen-address=127.0.0.1:$((port + 1))
  start_tool prometheus prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address="127.0.0.1:$port" \
    --web.console.templates=. --web.console.libraries=.
  wait_for "$patience" curl -sf -o /dev/null "$url/-/ready" || fail "$(tail prometheus.log node-exporter.log)"
}

start_tool() { # NAME COMMAND...
  "${@:2}" >"$1.log" 2>&1 3>&- &
  echo $! >"$1.pid"
}

teardown_file() {
  cd "$BATS_FILE_TMPDIR" || return
  for file in *.pid; do [[ ! -e $file ]] || kill "$(<"$file")" || true; done
}

# Writes this host's metrics as xsaveshim-metrics.service does, and adds each ADDED-LINE. If the metrics already have a line with
# the same metric and labels, ADDED-LINE replaces that line.
write_metrics() { # [ADDED-LINE...]
  local prom=$BATS_FILE_TMPDIR/textfile/xsaveshim.prom line
  "$build/xsaveshim" metrics >"$prom.new"
  for line; do
    sed -i "/^${line%% *} /d; /^# TYPE ${line%%[\{ ]*} /a $line" "$prom.new"
  done
  for line; do grep -qxF -- "$line" "$prom.new" || fail "not added: $line" || return; done
  mv "$prom.new" "$prom"
}

query() { # PROMQL
  curl -sf --get "$url/api/v1/query" --data-urlencode "query=$1" | jq -c '.data.result[]'
}

has_result() { [[ $(query "$1") ]]; } # PROMQL
has_no_result() { local result; result=$(query "$1") && [[ -z $result ]]; }

assert_query() { # PROMQL
  wait_for "$patience" has_result "$1" || fail "no result of: $1" "$(<"$BATS_FILE_TMPDIR/textfile/xsaveshim.prom")" "$(query ALERTS)"
}

assert_fires() { assert_query "ALERTS{alertname=\"$1\",alertstate=\"firing\"}"; } # ALERT

assert_ends() { # ALERT
  wait_for $((2 * patience)) has_no_result "ALERTS{alertname=\"$1\"}" || fail "$1 does not end" "$(query ALERTS)"
}

@test "Prometheus gets from the node exporter the metrics that xsaveshim metrics printed on this host" {
  write_metrics
  assert_query "xsaveshim_build_info{version=\"$("$build/xsaveshim" --version | cut -d' ' -f2)\"} == 1"
  assert_query "time() - xsaveshim_last_success_timestamp_seconds < 60"
  [[ $(query 'xsaveshim_vmms' | wc -l) == 3 ]]
}

@test "if a VMM is unprotected and the host's KVM refuses xfeatures, the alert for an unprotected VMM fires, and ends when no VMM is unprotected" {
  unprotected='xsaveshim_vmm_protected{vm="guest",pid="7",state="unprotected"} 0'
  refuses='xsaveshim_probe_refuses{xfeature="avx"} 1'
  write_metrics "$unprotected"
  assert_query 'xsaveshim_vmm_protected == 0'
  has_no_result 'ALERTS{alertname="XsaveshimVmmUnprotected"}'
  write_metrics "$unprotected" "$refuses"
  assert_fires XsaveshimVmmUnprotected
  write_metrics "$refuses"
  assert_ends XsaveshimVmmUnprotected
}

@test "if the metrics are two hours old, the alert for outdated metrics fires, and ends when new metrics arrive" {
  write_metrics "xsaveshim_last_success_timestamp_seconds $(($(date +%s) - 7200))"
  assert_fires XsaveshimNoScan
  write_metrics
  assert_ends XsaveshimNoScan
}

@test "if the host mode is enabled but inactive, the alert for an inactive host mode fires, and ends when the host mode is active again" {
  write_metrics 'xsaveshim_host_enabled 1' 'xsaveshim_host_active 1'
  assert_query 'xsaveshim_host_enabled == 1'
  has_no_result 'ALERTS{alertname="XsaveshimHostModeInactive"}'
  write_metrics 'xsaveshim_host_enabled 1' 'xsaveshim_host_active 0'
  assert_fires XsaveshimHostModeInactive
  write_metrics 'xsaveshim_host_enabled 1' 'xsaveshim_host_active 1'
  assert_ends XsaveshimHostModeInactive
}

@test "if the host mode's count of refused calls rises, the alert for corrupted guests fires; if its count of missed calls rises, the alert for missed calls fires; each alert ends when its count rises no more" {
  refused='xsaveshim_host_calls_total{outcome="refused"}' missed='xsaveshim_host_calls_total{outcome="missed_exits"}'
  write_metrics "$refused 3" "$missed 2"
  assert_query "$refused == 3"
  has_no_result 'ALERTS{alertname=~"XsaveshimGuestCorrupted|XsaveshimCallsMissed"}'
  write_metrics "$refused 4" "$missed 3"
  assert_fires XsaveshimGuestCorrupted
  assert_fires XsaveshimCallsMissed
  assert_ends XsaveshimGuestCorrupted
  assert_ends XsaveshimCallsMissed
}
