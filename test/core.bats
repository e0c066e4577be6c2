# SPDX-License-Identifier: MIT
# Unit tests of the core, the code in core/ that all modes share. Each test except the first passes its title
# to the program build/test/core, which runs the case of this name.

load lib

check() {
  timeout 20 "$build/test/core" "$BATS_TEST_DESCRIPTION"
}

@test "core.bats has a test for each case that the program build/test/core lists, in the same order" {
  diff <("$build/test/core") <(sed -n 's/^@test "\(.*\)" { check; }$/\1/p' "$BATS_TEST_FILENAME")
}
@test "if a CPUID table is empty or lacks leaf 0xD, xsaveshim takes 0 as the guest's XCR0" { check; }
@test "xsaveshim reads the guest's XCR0 from EAX (low half) and EDX (high half) of CPUID leaf 0xD, index 0" { check; }
@test "to find the guest's XCR0, xsaveshim skips those CPUID entries of leaf 0xD that have KVM_CPUID_FLAG_SIGNIFCANT_INDEX and an index other than 0" { check; }
@test "a CPUID entry of leaf 0xD without KVM_CPUID_FLAG_SIGNIFCANT_INDEX gives the guest's XCR0, whatever index the entry has" { check; }
@test "if several CPUID entries of leaf 0xD have index 0 or lack KVM_CPUID_FLAG_SIGNIFCANT_INDEX, the first of them gives the guest's XCR0, even if this XCR0 is 0" { check; }
@test "to find the guest's XCR0, xsaveshim considers only one flag of a CPUID entry, KVM_CPUID_FLAG_SIGNIFCANT_INDEX" { check; }
@test "if entry 256 of a CPUID table is leaf 0xD, xsaveshim reads this entry if nent (the number of entries) is 256, but not if nent is 255" { check; }
@test "xsaveshim reads the guest's XCR0 correctly from a CPUID table at an odd address" { check; }
@test "in a KVM_SET_CPUID table, whose entries have no index, the first entry of leaf 0xD gives the guest's XCR0" { check; }
@test "if KVM_GET_CPUID2 updates nent, xsaveshim takes nent as the number of CPUID entries" { check; }
@test "if KVM_GET_CPUID2 leaves nent unchanged, xsaveshim counts the CPUID entries up to the last one that is not all zeroes" { check; }
@test "xsaveshim counts at most 256 entries in a table from KVM_GET_CPUID2, even if nent is larger" { check; }
@test "to add xfeatures to a CPUID table, xsaveshim changes only the entry of leaf 0xD from which KVM reads the guest's XCR0" { check; }
@test "to add xfeatures to a CPUID table without leaf 0xD, xsaveshim appends an entry of this leaf" { check; }
@test "if a full CPUID table of 256 entries lacks leaf 0xD, xsaveshim cannot add xfeatures and leaves the table unchanged" { check; }
@test "xsaveshim reads XSTATE_BV, XCOMP_BV and MXCSR correctly from an XSAVE payload at an odd address" { check; }
@test "when xsaveshim sets XSTATE_BV in an XSAVE payload, only the 8 bytes of XSTATE_BV change" { check; }
@test "xsaveshim detects each nonzero byte among the 48 reserved bytes of an XSAVE header, and ignores the bytes before them" { check; }
@test "xsaveshim has names for the xfeatures 0 to 19, and no names for higher bits" { check; }
@test "xsaveshim finds FP and SSE in this host's XCR0, and finds AVX exactly if /proc/cpuinfo lists avx" { check; }
@test "this CPU can load an MXCSR value with every bit set except the bits that xsaveshim counts as reserved" { check; }
@test "if the argument of KVM_SET_XCRS has several entries for XCR0, xsaveshim uses the first" { check; }
@test "at first, the library's vCPU table knows nothing about any file descriptor" { check; }
@test "the library's vCPU table returns the value that was stored for a file descriptor, and the neighbouring descriptors stay unknown" { check; }
@test "the library's vCPU table can store an entry for the lowest file descriptor, 0, and for the highest, 65535" { check; }
@test "the library's vCPU table stores nothing for a file descriptor that is negative or above 65535" { check; }
@test "the library's vCPU table has space for 4,096 vCPUs, and knows nothing about any further vCPU" { check; }
@test "for each vCPU and kind of event, the library reports the events 1, 10, 100 and 1,000, and each event with an xfeature that no earlier event had" { check; }
@test "if a new vCPU gets the descriptor number of a closed vCPU, the library discards the closed vCPU's data and event counts" { check; }
@test "if a 32-bit event count is at its maximum, the count stays there, and xsaveshim reports only events with an xfeature that no earlier event had" { check; }
@test "in an XSAVE payload, xsaveshim always allows FP and SSE, and also the xfeatures that the guest's CPUID enumerates" { check; }
@test "if xsaveshim knows no CPUID table of a guest, it allows every xfeature in the guest's XSAVE payload" { check; }
@test "if the guest's CPUID enumerates an xfeature, a trim keeps the xfeature in the XSAVE payload" { check; }
@test "if xsaveshim trims the same XSAVE payload twice, the second trim changes nothing" { check; }
@test "XSAVESHIM_TRIM selects whether xsaveshim trims restored XSAVE payloads, saved ones, both or neither" { check; }
@test "if xsaveshim knows no CPUID table of a guest, it never trims the guest's XSAVE payload" { check; }
@test "if KVM refuses an XSAVE payload, xsaveshim gives as a reason the payload's xfeatures that the host lacks, except FP and SSE" { check; }
@test "if KVM refuses an XSAVE payload and xsaveshim knows the guest's CPUID table, xsaveshim gives as a reason the payload's xfeatures that the guest lacks" { check; }
@test "if KVM refuses an XSAVE payload in which XCOMP_BV or a reserved byte is not 0, xsaveshim gives that field as a reason" { check; }
@test "if KVM refuses an XSAVE payload, xsaveshim gives a bad MXCSR as a reason only if XSTATE_BV has FP, SSE or AVX" { check; }
@test "if KVM refuses an XSAVE payload, xsaveshim gives the guest's lack of FP and SSE as the reason only if there is no other reason" { check; }
@test "if KVM refused a payload only because of FP and SSE, the library adds both to the guest's CPUID, but adds nothing if XSAVESHIM_TRIM is save or none" { check; }
@test "if KVM refuses an XSAVE payload with AMX, which the host has but the process may not use, xsaveshim gives the missing permission as the reason" { check; }
@test "with XSAVESHIM_REFUSED=abort, a refused payload ends the VMM except in two cases: the reason is unknown, or the only reason is xfeatures that the guest lacks but XSAVESHIM_TRIM forbids xsaveshim to trim" { check; }
@test "if KVM refuses an XCR0, xsaveshim gives as the reason the xfeatures in this XCR0 that the guest or the host lacks" { check; }
@test "if KVM accepts an XCR0 with xfeatures that the guest's CPUID lacks, xsaveshim allows these xfeatures in later payloads; if an earlier trim dropped one of these xfeatures, xsaveshim counts this xfeature as lost" { check; }
@test "if an ioctl fails with EBADF, ENOTTY or EIO, xsaveshim concludes that the file descriptor is not a vCPU of this process" { check; }
@test "xsaveshim reports a trim in one line that names the dropped xfeatures" { check; }
@test "if an XSAVE payload has xfeatures that the guest lacks, but XSAVESHIM_TRIM forbids the trim, xsaveshim reports event=would-trim" { check; }
@test "if an XSAVE payload has only xfeatures that the guest may use, xsaveshim reports nothing" { check; }
@test "if KVM refuses an XSAVE payload, xsaveshim's report names each reason for the refusal" { check; }
@test "if an event ends the VMM because of XSAVESHIM_REFUSED=abort, the report of the event has action=abort" { check; }
@test "if KVM_SET_XSAVE fails with an errno other than EINVAL, the report has the errno's name and reason=not-the-payload" { check; }
@test "at log level debug, xsaveshim reports each new vCPU, and the guest's XCR0 from each CPUID table that the VMM sets" { check; }
@test "at each log level, xsaveshim writes the reports of this level and of the more severe levels" { check; }
@test "in a report, xsaveshim puts quotes around a value that a logfmt parser could not read without quotes" { check; }
@test "xsaveshim writes the least and the greatest 32-bit integer, and the greatest 64-bit mask, correctly into a report" { check; }
@test "a report that lists all 64 xfeatures is complete: xsaveshim does not cut off its end" { check; }
@test "if a report is longer than its buffer, xsaveshim cuts the text, and still ends the line with a newline" { check; }
@test "xsaveshim reports each bad setting in one line, with the value that xsaveshim uses instead" { check; }
@test "if there are more than eight bad settings, xsaveshim reports the first eight, and only the number of the others" { check; }
@test "if the supervisor reports an event in a VMM, the report has the VMM's pid, and says how often this event has happened" { check; }
@test "if KVM refuses an XCR0, xsaveshim reports the refusal in one line; if a trim dropped state that the guest uses, xsaveshim reports the loss in one line" { check; }
@test "if a report would make the log file exceed RLIMIT_FSIZE, the report goes to standard error, and the process gets no SIGXFSZ" { check; }
@test "if the log file is renamed, reports go to the renamed file; if the file is deleted, reports go to standard error, and xsaveshim keeps the file's inode allocated" { check; }
@test "with XSAVESHIM_LOG=stderr, if standard error's file is deleted while the log is open, reports go to syslog; if standard error is a memfd, reports go to the memfd" { check; }
@test "if XSAVESHIM_LOG names a FIFO, xsaveshim refuses the FIFO, and writes the error and all reports to standard error" { check; }
@test "if /dev/log is a stream socket, xsaveshim ends each report to this socket with a NUL byte" { check; }
@test "with XSAVESHIM_LOG=syslog, if syslogd starts after xsaveshim has opened its log, syslogd gets the reports from then on" { check; }
@test "if the log file's disk is full, reports go to standard error, and xsaveshim leaves errno unchanged" { check; }
@test "with XSAVESHIM_LOG=syslog, syslogd gets each report with the syslog priority for the report's level; while no syslogd runs, reports go to standard error" { check; }
@test "with XSAVESHIM_LOG=stderr, reports go to standard error" { check; }
@test "if a process starts with standard error closed, xsaveshim writes no report to a file that later gets descriptor 2" { check; }
@test "with XSAVESHIM_LOG=none, xsaveshim opens no log and writes no report" { check; }
@test "xsaveshim creates the log file with mode 0600, appends reports, and keeps the file open as a close-on-exec descriptor above 999" { check; }
@test "if XSAVESHIM_LOG names a symbolic link, xsaveshim does not follow the link, and reports an error on standard error" { check; }
@test "with XSAVESHIM_LOG=syslog, reports go to the socket /dev/log" { check; }
@test "with XSAVESHIM_LOG=syslog, if /dev/log does not exist, a line on standard error gives this error, and says that reports go to standard error" { check; }
@test "log_init() does not create the log file; log_open() creates the file" { check; }
@test "after each report, xsaveshim records whether the report went to the log file, to standard error, to syslog or nowhere" { check; }
@test "if the log file cannot be opened, xsaveshim records where reports will go instead, even before the first report" { check; }
@test "if eight threads open the same log at once, one thread succeeds, and the other threads leave no descriptor open" { check; }
@test "with XSAVESHIM_LOG=stderr, if standard error becomes /dev/null while the log is open, reports go to syslog" { check; }
@test "with XSAVESHIM_LOG=stderr, if standard error is /dev/null from the start, reports go to syslog" { check; }
@test "if the VMM reuses the log's descriptor number for another file, xsaveshim writes no report to that file" { check; }
@test "the record that the command xsaveshim status reads from a VMM's memory has the settings, and says whether the VMM has used a vCPU" { check; }
@test "the record that the command xsaveshim status reads from memory has a count for each kind of event" { check; }
@test "once the log is open, the record that the command xsaveshim status reads from memory says where the reports go" { check; }
@test "if the record in a VMM's memory is empty, or has another version than xsaveshim status expects, xsaveshim status takes no settings from the record" { check; }
@test "if the record in a VMM's memory has a setting out of range, xsaveshim status refuses the record; if the record's log path lacks a NUL, xsaveshim status shortens the path" { check; }
@test "the defaults are XSAVESHIM_TRIM=restore, XSAVESHIM_REFUSED=abort, XSAVESHIM_LOG=stderr and XSAVESHIM_LOG_LEVEL=notice" { check; }
@test "each setting accepts all of its values; for example, XSAVESHIM_TRIM accepts restore, save, both and none" { check; }
@test "in struct settings, each setting's field, such as trim, shares its memory with the setting's element in the array named values" { check; }
@test "each setting's option and JSON key derive from its environment variable: XSAVESHIM_LOG_LEVEL has --log-level and log_level" { check; }
@test "xsaveshim refuses an empty or misspelt value of a setting, for example Restore instead of restore" { check; }
@test "xsaveshim accepts a log path of 4095 characters, and refuses a path of 4096" { check; }
@test "a settings file may have comments, white space around names and values, and equals signs in values" { check; }
@test "if a settings file has two lines for one setting, xsaveshim uses the last line" { check; }
@test "for each bad line of a settings file, xsaveshim records one problem and the line's number" { check; }
@test "if a settings file contains a NUL byte, xsaveshim records one problem and uses nothing from the file" { check; }
@test "if a settings file is one very long bad line, xsaveshim records one problem, and only the start of a long key or value" { check; }
@test "a bad line of a settings file counts as one problem, whether or not the line fits into xsaveshim's line buffer" { check; }
@test "if the environment and the settings file have different values for a setting, xsaveshim uses the environment's value" { check; }
@test "if the environment has a bad value and an unknown XSAVESHIM_ variable, xsaveshim records two problems, and uses the default instead of the bad value" { check; }
@test "if an unknown XSAVESHIM_ variable in the environment has a very long name, xsaveshim records the problem with a shortened name" { check; }
@test "xsaveshim takes each setting from the environment, or else from the settings file, or else from the defaults" { check; }
@test "if /etc/xsaveshim.conf is missing, xsaveshim records no problem; if /etc/xsaveshim.conf is a directory, xsaveshim records one problem" { check; }
@test "if a settings file is larger than 16 KiB, xsaveshim records one problem and uses nothing from the file" { check; }
@test "if the settings file is a FIFO, xsaveshim does not wait until a process opens the FIFO for writing" { check; }
@test "for over 100,000 pairs of hypothetical hosts, the command xsaveshim pair gives the same answer as a model that tries each possible guest" { check; }
@test "for two equal hosts that leak AVX, the command xsaveshim pair answers yes; if the hosts also refuse leaked AVX, the answer is with-xsaveshim" { check; }
