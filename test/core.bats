# SPDX-License-Identifier: MIT
# The core, case by case: the program of test/core/ carries out the sentence that a test's name is.

load lib

check() {
  timeout 20 "$build/test/core" "$BATS_TEST_DESCRIPTION"
}

@test "every case of the core's test program is a test here" {
  diff <("$build/test/core") <(sed -n 's/^@test "\(.*\)" { check; }$/\1/p' "$BATS_TEST_FILENAME")
}
@test "an empty CPUID table is a guest XCR0 of 0" { check; }
@test "a CPUID table without leaf 0xD is a guest XCR0 of 0" { check; }
@test "leaf 0xD with index 0 is the guest XCR0" { check; }
@test "EDX is the upper half of the guest XCR0, up to bit 63" { check; }
@test "leaf 0xD with another significant index is passed over" { check; }
@test "leaf 0xD with other significant indices alone is a guest XCR0 of 0" { check; }
@test "leaf 0xD whose index is not significant counts whatever the index" { check; }
@test "the first entry that counts is the guest XCR0, not a later one" { check; }
@test "a first entry of 0 is not passed over for a later one" { check; }
@test "no flag but the significant index makes a difference" { check; }
@test "the 256th entry is read, and none past the table's end" { check; }
@test "a CPUID table may lie at an odd address" { check; }
@test "a KVM_SET_CPUID table has the first leaf 0xD as guest XCR0" { check; }
@test "KVM_GET_CPUID2 that writes nent back has its entries counted by it" { check; }
@test "KVM_GET_CPUID2 that leaves nent has its entries counted up to the last" { check; }
@test "KVM_GET_CPUID2 that writes nothing has no entries" { check; }
@test "no more than 256 entries are ever counted" { check; }
@test "widening adds to the leaf 0xD that counts and to nothing else" { check; }
@test "widening appends leaf 0xD where there is none" { check; }
@test "widening leaves a full table without leaf 0xD as it is, and says so" { check; }
@test "the header's words are found at any alignment" { check; }
@test "setting XSTATE_BV changes its 8 bytes and no other" { check; }
@test "each of the 48 reserved bytes is seen, and no other" { check; }
@test "xfeatures have the names of the manual, and none from bit 20 on" { check; }
@test "the host's XCR0 has what the kernel says it has enabled" { check; }
@test "every MXCSR bit that is not reserved loads on this CPU" { check; }
@test "KVM_SET_XCRS sets the first XCR0 among its entries" { check; }
@test "every descriptor starts out unknown" { check; }
@test "what is set for a vCPU is kept, and its neighbours stay as they were" { check; }
@test "the first and the last descriptor of the table are kept apart" { check; }
@test "a descriptor outside the table stays unknown and changes nothing" { check; }
@test "an event is told at its 1st, 10th, 100th and 1,000th time, and when it has a new bit" { check; }
@test "a vCPU made anew starts anew" { check; }
@test "the count of an event stops at its end, and a new bit is told all the same" { check; }
@test "a guest may have its XCR0 and, whatever that is, FP and SSE" { check; }
@test "a vCPU without a known XCR0 may have everything" { check; }
@test "no component that the guest's CPUID enumerates is dropped" { check; }
@test "trimming twice is trimming once" { check; }
@test "each mode trims in its own direction" { check; }
@test "a vCPU without a known XCR0 is never trimmed" { check; }
@test "what the host lacks speaks against a payload, FP and SSE apart" { check; }
@test "what a known guest lacks speaks against a payload" { check; }
@test "XCOMP_BV and reserved bytes speak against a payload" { check; }
@test "MXCSR speaks against a payload only where FP, SSE or AVX is loaded" { check; }
@test "FP and SSE speak against a payload only where nothing else does" { check; }
@test "a payload is loaded widened only for FP and SSE alone, where restores are trimmed" { check; }
@test "AMX that the process has no permission for is told from what the host lacks" { check; }
@test "an XCR0 is refused for what the guest or the host lacks" { check; }
@test "what KVM took as XCR0 joins what the guest may have, and tells what was lost" { check; }
@test "EBADF, ENOTTY and EIO are the errors of what is no vCPU of this process" { check; }
@test "a trim is one line that names what was dropped" { check; }
@test "a trim that the settings forbid is told as one that would be" { check; }
@test "nothing to drop is no line" { check; }
@test "a refusal names each reason" { check; }
@test "an errno other than EINVAL does not blame the payload" { check; }
@test "what was learned of a vCPU is a line at level debug" { check; }
@test "each log level has its lines and those of the levels above it" { check; }
@test "a value that logfmt could not tell apart is quoted" { check; }
@test "numbers are written whole, from the least to the most" { check; }
@test "the names of all 64 xfeatures fit into a line" { check; }
@test "a line too long is cut and still ends as a line" { check; }
@test "every bad setting is a line that says what is used instead" { check; }
@test "bad settings beyond the eighth are counted" { check; }
@test "each line names the process that it is about, and which time it is" { check; }
@test "an XCR0 that was refused, and state that was lost, are lines" { check; }
@test "a line that a full disk does not take goes to the fallback, and errno is kept" { check; }
@test "syslog gets each line with its priority, the fallback what syslog does not take" { check; }
@test "the default log is standard error" { check; }
@test "a process without a standard error has no log" { check; }
@test "the log none is nowhere" { check; }
@test "a log file is appended to, has mode 0600, and a high descriptor that exec closes" { check; }
@test "a log file that is a symbolic link is refused, and standard error says so" { check; }
@test "the log syslog is the socket /dev/log" { check; }
@test "without /dev/log standard error says so and is the log" { check; }
@test "a log is not opened before it is asked for" { check; }
@test "of many threads that open a log one does, and the others leave no descriptor" { check; }
@test "standard error that becomes /dev/null has its lines go to syslog" { check; }
@test "standard error that is /dev/null from the start has its lines go to syslog" { check; }
@test "a file that has taken over the log's number never gets a line" { check; }
@test "a record keeps the settings and whether a vCPU was seen" { check; }
@test "a record that was not published, or that has another version, has no settings" { check; }
@test "a record that holds no accepted values is refused, and a path that does not end is cut" { check; }
@test "the defaults are restore, report, stderr and notice" { check; }
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
