# SPDX-License-Identifier: MIT
# Unit tests of the core, the code in core/ that all modes share. Each test runs the case of build/test/core that has the test's
# title.

load lib

check() {
  timeout 20 "$build/test/core" "$BATS_TEST_DESCRIPTION"
}

@test "this file has a test for each case of the program build/test/core" {
  diff <("$build/test/core") <(sed -n 's/^@test "\(.*\)" { check; }$/\1/p' "$BATS_TEST_FILENAME")
}
@test "if a CPUID table is empty or lacks leaf 0xD, the guest's XCR0 is 0" { check; }
@test "EAX and EDX of leaf 0xD, index 0, are the 64 bits of the guest's XCR0" { check; }
@test "an entry of leaf 0xD with a significant index other than 0 is skipped" { check; }
@test "an entry of leaf 0xD whose index is not significant is the guest's XCR0" { check; }
@test "of several entries of leaf 0xD, the first is the guest's XCR0, even if its value is 0" { check; }
@test "KVM_CPUID_FLAG_SIGNIFCANT_INDEX is the only flag of a CPUID entry that matters" { check; }
@test "the 256th entry of a CPUID table is read, and no entry after the table's end" { check; }
@test "a CPUID table may lie at an odd address" { check; }
@test "in a KVM_SET_CPUID table, the first entry of leaf 0xD is the guest's XCR0" { check; }
@test "if KVM_GET_CPUID2 writes nent back, nent is the number of entries" { check; }
@test "if KVM_GET_CPUID2 does not change nent, the table ends with the last entry in use" { check; }
@test "a CPUID table has at most 256 entries, whatever its nent says" { check; }
@test "to add xfeatures to a CPUID table, only the entry of leaf 0xD that KVM uses is changed" { check; }
@test "to add xfeatures to a CPUID table without leaf 0xD, the leaf is appended" { check; }
@test "a full CPUID table without leaf 0xD cannot be widened, and stays unchanged" { check; }
@test "XSTATE_BV, XCOMP_BV and MXCSR are read correctly at any alignment of the payload" { check; }
@test "to set XSTATE_BV, only its 8 bytes of the payload are changed" { check; }
@test "a payload with any of its 48 reserved bytes set is recognized, and other bytes do not matter" { check; }
@test "the xfeatures 0 to 19 have names, and higher bits have none" { check; }
@test "the host's XCR0 has FP and SSE, and has AVX if /proc/cpuinfo shows avx" { check; }
@test "this CPU loads every MXCSR bit that the core does not take for reserved" { check; }
@test "if KVM_SET_XCRS has several entries for XCR0, the first one counts" { check; }
@test "at first the vCPU table knows no descriptor" { check; }
@test "the vCPU table keeps each value that is set for a descriptor, and other descriptors do not change" { check; }
@test "the first and the last descriptor of the vCPU table do not share an entry" { check; }
@test "a descriptor outside the vCPU table stays unknown, and does not change the table" { check; }
@test "the vCPU table has slots for 4,096 vCPUs, and any further vCPU stays unknown" { check; }
@test "an event of a vCPU is reported the 1st, 10th, 100th and 1,000th time, and when it has a new xfeature" { check; }
@test "a new vCPU with a closed vCPU's descriptor number starts without that vCPU's data and counts" { check; }
@test "the counter of an event stops at its maximum, and an event with a new xfeature is still reported" { check; }
@test "a guest is allowed the xfeatures of its XCR0, and always FP and SSE" { check; }
@test "if a vCPU's XCR0 is not known, it is allowed every xfeature" { check; }
@test "a trim never drops an xfeature that the guest's CPUID enumerates" { check; }
@test "a second trim of the same payload changes nothing" { check; }
@test "XSAVESHIM_TRIM selects whether saved payloads, restored payloads, both or none are trimmed" { check; }
@test "if a vCPU's XCR0 is not known, its payload is never trimmed" { check; }
@test "xfeatures that the host lacks, except FP and SSE, are a reason for KVM's refusal" { check; }
@test "xfeatures that the guest lacks are a reason for KVM's refusal if the guest's XCR0 is known" { check; }
@test "if XCOMP_BV or a reserved byte is not 0, that is a reason for KVM's refusal" { check; }
@test "a bad MXCSR is a reason for KVM's refusal only if the payload has FP, SSE or AVX" { check; }
@test "FP and SSE are a reason for KVM's refusal only if there is no other reason" { check; }
@test "the library adds xfeatures to a guest's CPUID only for FP and SSE, and only if it trims restores" { check; }
@test "if the host has AMX but the process may not use it, the reason for KVM's refusal is the permission" { check; }
@test "XSAVESHIM_REFUSED=abort ends the VMM only for a known reason other than untrimmed xfeatures" { check; }
@test "the reasons for a refused XCR0 are the xfeatures that the guest or the host lacks" { check; }
@test "the xfeatures of an XCR0 that KVM accepted are allowed from then on; those already dropped are lost" { check; }
@test "EBADF, ENOTTY and EIO mean that the descriptor is not a vCPU of this process" { check; }
@test "a trim is reported in one line, which names the dropped xfeatures" { check; }
@test "if XSAVESHIM_TRIM forbids a trim, it is reported as event=would-trim" { check; }
@test "a payload without leaked xfeatures causes no report" { check; }
@test "the report of a refusal names each reason" { check; }
@test "if XSAVESHIM_REFUSED=abort ends the VMM, the last report has action=abort" { check; }
@test "if KVM fails a payload with another errno than EINVAL, the report does not blame the payload" { check; }
@test "at log level debug, a new vCPU and its XCR0 are reported" { check; }
@test "each log level includes the reports of the more severe levels" { check; }
@test "a value in a report is quoted if logfmt could not parse it without quotes" { check; }
@test "a report can have the least and the greatest number" { check; }
@test "the names of all 64 xfeatures fit into the line of a report" { check; }
@test "a report that is too long is cut, and still ends with a newline" { check; }
@test "each bad setting is reported in one line, with the value that is used instead" { check; }
@test "the first eight bad settings are reported, and the further ones are counted" { check; }
@test "each report has the pid of its process and the count of its event" { check; }
@test "a refused XCR0 and lost state are each reported in one line" { check; }
@test "a report for which the log would exceed RLIMIT_FSIZE goes to standard error, without a SIGXFSZ" { check; }
@test "a renamed log file still gets reports; a deleted one gets none, and its inode stays in use" { check; }
@test "if standard error is a deleted file, reports go to syslog; if it is a memfd, they go there" { check; }
@test "a log that is not a regular file is refused, and a report on standard error says so" { check; }
@test "if /dev/log is a stream socket, each report ends with a NUL" { check; }
@test "a syslogd that starts after the log was opened still gets the reports" { check; }
@test "if the log's disk is full, a report goes to standard error, and errno does not change" { check; }
@test "syslog gets each report with its priority, and without a syslogd standard error gets them" { check; }
@test "the default log is standard error" { check; }
@test "if a process starts without standard error, no report goes to its descriptor 2" { check; }
@test "XSAVESHIM_LOG=none opens and writes nothing" { check; }
@test "reports are appended to the log file, which has mode 0600 and a high close-on-exec descriptor" { check; }
@test "a log file that is a symbolic link is refused, and a report on standard error says so" { check; }
@test "XSAVESHIM_LOG=syslog writes to the socket /dev/log" { check; }
@test "without /dev/log, XSAVESHIM_LOG=syslog uses standard error and reports that" { check; }
@test "the log file is not created before log_open() is called" { check; }
@test "the log remembers where its latest report went" { check; }
@test "if the log cannot be opened, it remembers its fallback before the first report" { check; }
@test "if many threads open the same log, one succeeds, and the others leave no descriptor open" { check; }
@test "if standard error becomes /dev/null, the reports go to syslog" { check; }
@test "if standard error is /dev/null from the start, the reports go to syslog" { check; }
@test "if another file gets the log's descriptor number, no report goes to that file" { check; }
@test "the record that xsaveshim status reads keeps the settings and whether a vCPU was seen" { check; }
@test "the record that xsaveshim status reads counts each kind of event" { check; }
@test "the record that xsaveshim status reads says where reports go if the log is open" { check; }
@test "xsaveshim status takes no settings from a record that is empty or has another version" { check; }
@test "xsaveshim status refuses a record with a value out of range, and cuts a log path without an end" { check; }
@test "the defaults of the settings are TRIM=restore, REFUSED=abort, LOG=stderr and LOG_LEVEL=notice" { check; }
@test "each setting accepts each of its values" { check; }
@test "each named field of struct settings is the value of the same setting" { check; }
@test "a setting has the same name as a variable, as a command-line option and in JSON" { check; }
@test "a setting refuses a value that it does not know" { check; }
@test "the path of a log may have at most 4095 characters" { check; }
@test "a settings file may have comments, white space, and values with equals signs" { check; }
@test "if a settings file has two lines for one setting, the last line counts" { check; }
@test "each bad line of a settings file is recorded as a problem, with its line number" { check; }
@test "a settings file with a zero byte is recorded as a problem and is not applied" { check; }
@test "a settings file that is one long line is recorded as one problem, and a long key or value is cut" { check; }
@test "a bad line of a settings file is one problem, whatever its length" { check; }
@test "the environment overrides the settings file" { check; }
@test "for a bad value in the environment the default is used, and an unknown variable is a problem" { check; }
@test "if an unknown variable in the environment has a very long name, the name is cut" { check; }
@test "a setting comes from the environment, or else from the settings file, or else from the defaults" { check; }
@test "a missing settings file is accepted, and a settings file that cannot be read is a problem" { check; }
@test "a settings file of more than 16 KiB is recorded as a problem and is not applied" { check; }
@test "if the settings file is a FIFO, xsaveshim does not wait for the FIFO's writer" { check; }
@test "for each pair of hosts, xsaveshim pair answers like a model that tries to load every guest" { check; }
@test "a leaky host loads its own guests, unless it refuses the xfeatures that it leaks" { check; }
