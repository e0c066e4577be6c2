# SPDX-License-Identifier: MIT
# The core's unit tests: the program of test/core/ runs the case that has the test's name.

load lib

check() {
  timeout 20 "$build/test/core" "$BATS_TEST_DESCRIPTION"
}

@test "every case of the core's test program is a test here" {
  diff <("$build/test/core") <(sed -n 's/^@test "\(.*\)" { check; }$/\1/p' "$BATS_TEST_FILENAME")
}
@test "an empty CPUID table, or one without leaf 0xD, is a guest XCR0 of 0" { check; }
@test "EAX and EDX of leaf 0xD with index 0 are the guest XCR0, up to bit 63" { check; }
@test "leaf 0xD with another significant index is skipped" { check; }
@test "leaf 0xD whose index is not significant is the guest XCR0, whatever the index" { check; }
@test "the first matching entry is the guest XCR0, even if it is 0" { check; }
@test "of an entry's flags only the significant index makes a difference" { check; }
@test "the 256th entry is read, and none past the table's end" { check; }
@test "a CPUID table may lie at an odd address" { check; }
@test "a KVM_SET_CPUID table has the first leaf 0xD as guest XCR0" { check; }
@test "if KVM_GET_CPUID2 writes nent back, the entries are counted by nent" { check; }
@test "if KVM_GET_CPUID2 leaves nent alone, the entries are counted up to the last used one" { check; }
@test "no more than 256 entries are ever counted" { check; }
@test "widening changes the leaf 0xD that KVM uses and nothing else" { check; }
@test "widening appends leaf 0xD if the table has none" { check; }
@test "widening leaves a full table without leaf 0xD unchanged and returns false" { check; }
@test "the header's words are found at any alignment" { check; }
@test "setting XSTATE_BV changes its 8 bytes and no other" { check; }
@test "each of the 48 reserved bytes is seen, and no other" { check; }
@test "xfeatures have the manual's names, and bits from 20 on have no name" { check; }
@test "the host's XCR0 has the xfeatures that the kernel says are enabled" { check; }
@test "every MXCSR bit that is not reserved loads on this CPU" { check; }
@test "KVM_SET_XCRS sets the first XCR0 among its entries" { check; }
@test "every descriptor starts out unknown" { check; }
@test "each value that is set for a vCPU is kept, and its neighbours do not change" { check; }
@test "the first and the last descriptor of the table do not share an entry" { check; }
@test "a descriptor outside the table stays unknown and changes nothing" { check; }
@test "the first 4,096 vCPUs have a slot each, and any further one stays unknown" { check; }
@test "an event is reported at its 1st, 10th, 100th and 1,000th time, and when it has a new bit" { check; }
@test "a new vCPU at the same descriptor has none of the old one's history" { check; }
@test "an event's counter stops at its maximum, and a new bit is still reported" { check; }
@test "a guest may have the xfeatures of its XCR0, and always FP and SSE" { check; }
@test "a vCPU without a known XCR0 may have everything" { check; }
@test "no xfeature that the guest's CPUID enumerates is dropped" { check; }
@test "trimming twice is trimming once" { check; }
@test "each trim setting trims in its own direction" { check; }
@test "a vCPU without a known XCR0 is never trimmed" { check; }
@test "xfeatures that the host lacks are a reason for a refusal, except FP and SSE" { check; }
@test "xfeatures that a known guest lacks are a reason for a refusal" { check; }
@test "XCOMP_BV and reserved bytes that are not 0 are reasons for a refusal" { check; }
@test "MXCSR is a reason for a refusal only if FP, SSE or AVX is loaded" { check; }
@test "FP and SSE are a reason for a refusal only if there is no other" { check; }
@test "a payload is loaded under a widened CPUID only for FP and SSE, and only if restores are trimmed" { check; }
@test "AMX that the process may not use is reported as not permitted, not as a lack of the host" { check; }
@test "abort needs a reason, and more than xfeatures that the settings leave in the payload" { check; }
@test "an XCR0 is refused for xfeatures that the guest or the host lacks" { check; }
@test "an XCR0 that KVM took is allowed from then on, and shows which state was lost" { check; }
@test "EBADF, ENOTTY and EIO mean that the descriptor is no vCPU of this process" { check; }
@test "a trim is one line that names the dropped xfeatures" { check; }
@test "a trim that the settings forbid is reported as would-trim" { check; }
@test "a payload with nothing to drop causes no line" { check; }
@test "a refusal names each reason" { check; }
@test "a report before the VMM is ended has action=abort" { check; }
@test "an errno other than EINVAL does not blame the payload" { check; }
@test "a vCPU's new XCR0 is reported at level debug" { check; }
@test "each log level includes the lines of the more severe levels" { check; }
@test "a value that logfmt could not parse otherwise is quoted" { check; }
@test "the least and the greatest number are written in full" { check; }
@test "the names of all 64 xfeatures fit into a line" { check; }
@test "a line that is too long is cut and still ends with a newline" { check; }
@test "each bad setting is reported in one line, with the value used instead" { check; }
@test "bad settings beyond the eighth are counted" { check; }
@test "each line has the pid of its process and the count of its event" { check; }
@test "a refused XCR0 and lost state are each reported in one line" { check; }
@test "a line that would exceed RLIMIT_FSIZE goes to the fallback, without a signal" { check; }
@test "a renamed log file takes lines, a deleted one has them go to the fallback and keeps its inode" { check; }
@test "a deleted file as standard error takes no line, a memfd does" { check; }
@test "a log that is not a regular file is refused, and standard error says so" { check; }
@test "a stream socket at /dev/log gets each line with a NUL" { check; }
@test "a syslogd that starts after the log was opened gets the lines" { check; }
@test "a line that a full disk does not take goes to the fallback, and errno is kept" { check; }
@test "syslog gets each line with its priority, and the fallback gets a line that syslog does not take" { check; }
@test "the default log is standard error" { check; }
@test "a process that starts without standard error never writes to descriptor 2" { check; }
@test "the log none opens and writes nothing" { check; }
@test "a log file is appended to, has mode 0600, and a high descriptor that exec closes" { check; }
@test "a log file that is a symbolic link is refused, and standard error says so" { check; }
@test "the log syslog is the socket /dev/log" { check; }
@test "without /dev/log the log syslog falls back to standard error and reports that" { check; }
@test "a log is not opened before log_open" { check; }
@test "a log notes where its latest line went" { check; }
@test "a log that cannot be opened notes its fallback before the first line" { check; }
@test "if many threads open a log, one succeeds and the others leave no descriptor" { check; }
@test "if standard error becomes /dev/null, its lines go to syslog" { check; }
@test "if standard error is /dev/null from the start, its lines go to syslog" { check; }
@test "a file that has taken over the log's descriptor number never gets a line" { check; }
@test "a record keeps the settings and whether a vCPU was seen" { check; }
@test "a record counts each kind of event" { check; }
@test "a record says where the log's lines go, unless the log is not open or the number is none of a target" { check; }
@test "a record that was not published, or that has another version, has no settings" { check; }
@test "a record that holds no accepted values is refused, and a path without an end is cut" { check; }
@test "the defaults are restore, abort, stderr and notice" { check; }
@test "each setting accepts each of its values" { check; }
@test "each field of the settings is the value of its setting" { check; }
@test "a setting has one name, as a variable, as an option and in JSON" { check; }
@test "a setting refuses a value that is not one of its own" { check; }
@test "the path of a log may have 4095 characters and no more" { check; }
@test "a settings file may have comments, white space, and values with equals signs" { check; }
@test "the last of two lines for one setting counts" { check; }
@test "a bad line of a settings file is kept with its number" { check; }
@test "a settings file with a zero byte is a problem and is not applied" { check; }
@test "a settings file without newlines or of one character does no harm" { check; }
@test "a line of a settings file that has any length is one problem" { check; }
@test "the environment overrides the settings file" { check; }
@test "a bad value in the environment means the default, and an unknown variable is a problem" { check; }
@test "a key of any length in the environment is cut" { check; }
@test "settings come from the environment, then the file, then the defaults" { check; }
@test "a settings file that cannot be read is a problem, and a missing one is none" { check; }
@test "a settings file of more than 16 KiB is a problem and is not applied" { check; }
@test "a FIFO in place of the settings file does not make its reader wait" { check; }
@test "every pair of small hosts gets the answer of a model that loads every guest" { check; }
@test "a host that leaks loads its own guests unless it refuses what it leaks" { check; }
