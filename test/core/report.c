// SPDX-License-Identifier: MIT
// Tests report.h, which writes the lines of xsaveshim's log, for example about a refused payload.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

static void report_a_trim(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	report_trim(&log, restore_call, (struct trim_result){0x217, 0x3, 0x3}, 1);
	same_text(
		"line", read_text(report_pipe[0]),
		"xsaveshim: level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=14 xstate_bv=0x217 allowed=0x3 "
		"after=0x3 dropped=avx,bndcsr,pkru\n");
}

static void report_a_would_be_trim(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct vcpu_call call = {"KVM_GET_XSAVE2", 9, {VCPU_XCR0, VCPU_ID_UNKNOWN, 0, 0}, false};

	log.via = "supervisor";
	report_trim(&log, call,
		    (struct trim_result){UINT64_C(0x8000000000000001), 0x3,
					 UINT64_C(0x8000000000000001)},
		    1);
	same_text(
		"line", read_text(report_pipe[0]),
		"xsaveshim: level=notice event=would-trim via=supervisor ioctl=KVM_GET_XSAVE2 vcpu=? fd=9 "
		"xstate_bv=0x8000000000000001 allowed=0x3 after=0x8000000000000001 dropped=bit63\n");
}

static void report_no_trim(void)
{
	struct log log = piped_log(LOG_LEVEL_DEBUG);

	report_trim(&log, restore_call, (struct trim_result){0x3, 0x7, 0x3}, 1);
	same_text("line", read_text(report_pipe[0]), "");
}

static void report_a_refusal(void)
{
	static const struct {
		struct refusal refusal;
		const char *reason;
	} rows[] = {
		{{.host_lacks = 0xe0}, "host-lacks:opmask,zmm_hi256,hi16_zmm"},
		{{.guest_lacks = 0x200}, "guest-lacks:pkru"},
		{{.xcomp_bv = 0x7}, "xcomp-bv:0x7"},
		{{.reserved_bytes = true}, "reserved-bytes"},
		{{.mxcsr = 0x10000}, "mxcsr:0x10000"},
		{{.host_lacks = 0x100}, "host-lacks:pt"},
		{{0}, "unknown"},
		{{.not_permitted = 0x60000}, "not-permitted:xtilecfg,xtiledata"},
		{{0x1, 0x60000, 0x2, 0x3, true, 0x4},
		 "host-lacks:x87;not-permitted:xtilecfg,xtiledata;guest-lacks:sse;xcomp-bv:0x3;reserved-bytes;mxcsr:"
		 "0x4"},
	};
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	for (size_t i = 0; i < COUNT(rows); i++) {
		char expected[256];

		snprintf(expected, sizeof(expected),
			 "xsaveshim: level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 "
			 "fd=14 errno=EINVAL xstate_bv=0xe7 reason=%s\n",
			 rows[i].reason);
		report_refused(&log, restore_call, EINVAL, 0xe7, rows[i].refusal, 1);
		same_text("line", read_text(report_pipe[0]), expected);
	}
}

static void report_an_abort(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct vcpu_call call = restore_call;

	call.ends_vmm = true;
	report_refused(&log, call, EINVAL, 0xe7, (struct refusal){.host_lacks = 0xe0}, 2);
	same("line", strstr(read_text(report_pipe[0]), "_zmm action=abort count=2\n") != NULL,
	     true);
	report_lost(&log, call, 0x7, 0x4, 1);
	same("line", strstr(read_text(report_pipe[0]), " lost=avx action=abort\n") != NULL, true);
}

static void report_other_errors(void)
{
	static const struct {
		int error;
		const char *name;
	} rows[] = {{EFAULT, "EFAULT"}, {EIO, "EIO"},	  {EINTR, "EINTR"},   {ENOMEM, "ENOMEM"},
		    {ENOSYS, "ENOSYS"}, {EPERM, "EPERM"}, {EACCES, "EACCES"}, {EBADF, "EBADF"},
		    {ENOTTY, "ENOTTY"}, {EDOM, "33"}};
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	for (size_t i = 0; i < COUNT(rows); i++) {
		char expected[256];

		snprintf(expected, sizeof(expected),
			 "xsaveshim: level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 "
			 "fd=14 errno=%s xstate_bv=0x3 reason=not-the-payload\n",
			 rows[i].name);
		report_refused(&log, restore_call, rows[i].error, 0x3,
			       (struct refusal){.host_lacks = 1}, 1);
		same_text("line", read_text(report_pipe[0]), expected);
	}
}

static void report_what_was_learned(void)
{
	struct log log = piped_log(LOG_LEVEL_DEBUG);

	report_learn(&log,
		     (struct vcpu_call){"KVM_CREATE_VCPU", 14, {VCPU_NO_CPUID, 2, 0, 0}, false});
	same_text("a new vCPU", read_text(report_pipe[0]),
		  "xsaveshim: level=debug event=learn ioctl=KVM_CREATE_VCPU vcpu=2 fd=14\n");
	report_learn(&log,
		     (struct vcpu_call){"KVM_SET_CPUID2", 14, {VCPU_XCR0, 2, 0x204, 0}, false});
	same_text(
		"its CPUID", read_text(report_pipe[0]),
		"xsaveshim: level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=2 fd=14 guest_xcr0=0x204 "
		"allowed=0x207\n");
}

static void report_levels(void)
{
	// For each log level: does the log write an error line, a notice line and a debug line?
	static const bool expected[][3] = {
		[LOG_LEVEL_ERROR] = {true, false, false},
		[LOG_LEVEL_NOTICE] = {true, true, false},
		[LOG_LEVEL_DEBUG] = {true, true, true},
	};

	for (enum log_level level = LOG_LEVEL_NOTICE; level <= LOG_LEVEL_DEBUG; level++) {
		struct log log = piped_log(level);

		report_refused(&log, restore_call, EINVAL, 0x3, (struct refusal){0}, 1);
		same("error line", strlen(read_text(report_pipe[0])) > 0, expected[level][0]);
		report_trim(&log, restore_call, (struct trim_result){0x217, 0x3, 0x3}, 1);
		same("notice line", strlen(read_text(report_pipe[0])) > 0, expected[level][1]);
		report_learn(&log, restore_call);
		same("debug line", strlen(read_text(report_pipe[0])) > 0, expected[level][2]);
	}
}

static void report_quotes(void)
{
	static const struct {
		const char *value, *expected;
	} rows[] = {
		{"plain-1.0/x:y,z;?", "plain-1.0/x:y,z;?"},
		{"", "\"\""},
		{"two words", "\"two words\""},
		{"a=b", "\"a=b\""},
		{"say \"hi\" \\", "\"say ?hi? ?\""},
		{"two\nlines\t", "\"two?lines?\""},
		{"\xc3\xa9\x7f", "\"???\""},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct log log = piped_log(LOG_LEVEL_NOTICE);
		struct report_line line;
		char expected[128];

		snprintf(expected, sizeof(expected), "xsaveshim: level=notice event=test key=%s\n",
			 rows[i].expected);
		report_begin(&line, &log, LOG_LEVEL_NOTICE, "test");
		report_text(&line, "key", rows[i].value);
		report_send(&line);
		same_text("line", read_text(report_pipe[0]), expected);
	}
}

static void report_numbers(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct report_line line;

	report_begin(&line, &log, LOG_LEVEL_NOTICE, "test");
	report_int(&line, "zero", 0);
	report_int(&line, "least", -2147483647 - 1);
	report_int(&line, "most", 2147483647);
	report_hex(&line, "none", 0);
	report_hex(&line, "all", UINT64_MAX);
	report_send(&line);
	same_text(
		"line", read_text(report_pipe[0]),
		"xsaveshim: level=notice event=test zero=0 least=-2147483648 most=2147483647 none=0x0 "
		"all=0xffffffffffffffff\n");
}

static void report_the_longest(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct vcpu_call call = {
		"KVM_SET_XSAVE", -2147483647 - 1, {VCPU_XCR0, 2147483647, 0, 0}, false};
	const char *line;
	size_t bits = 1;

	report_trim(&log, call, (struct trim_result){UINT64_MAX, 0, UINT64_MAX}, 1);
	line = read_text(report_pipe[0]);
	for (const char *c = line; *c; c++)
		bits += *c == ',';
	same("number of names", bits, 64);
	same("last name", strlen(line) > 7 && !strcmp(line + strlen(line) - 7, ",bit63\n"), true);
}

static void report_cut(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct report_line line;
	char word[400];
	const char *text;

	memset(word, 'w', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	report_begin(&line, &log, LOG_LEVEL_NOTICE, "test");
	for (int i = 0; i < 4; i++)
		report_text(&line, "word", word);
	report_send(&line);
	text = read_text(report_pipe[0]);
	same("length", strlen(text), sizeof(line.text));
	same("one newline, as the last byte", strchr(text, '\n') == text + strlen(text) - 1, true);
}

static void report_bad_settings(void)
{
	static const char text[] = "XSAVESHIM_TRIM=all of it\nnonsense\n";
	struct settings settings;
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	settings_init(&settings);
	settings_apply_file(&settings, text, strlen(text), "/etc/xsaveshim.conf");
	report_settings(&log, &settings);
	same_text(
		"lines", read_text(report_pipe[0]),
		"xsaveshim: level=error event=setting source=/etc/xsaveshim.conf line=1 key=XSAVESHIM_TRIM "
		"value=\"all of it\" using=restore accepted=restore,save,both,none\n"
		"xsaveshim: level=error event=setting source=/etc/xsaveshim.conf line=2 key=line "
		"value=\"no KEY=value\" using=nothing-of-it\n");
}

static void report_many_bad_settings(void)
{
	static const char text[] = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n";
	struct settings settings;
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	const char *lines;

	settings_init(&settings);
	settings_apply_file(&settings, text, strlen(text), "file");
	report_settings(&log, &settings);
	lines = read_text(report_pipe[0]);
	same("problem 8 is reported", strstr(lines, "line=8 ") != NULL, true);
	same("problem 9 is reported", strstr(lines, "line=9 ") != NULL, false);
	same("further problems", strstr(lines, "event=setting further-problems=3\n") != NULL, true);
}

static void lines_name_the_process(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	log.pid = 4711;
	log.via = "supervisor";
	report_trim(&log, restore_call, (struct trim_result){0x217, 0x3, 0x3}, 100);
	same_text(
		"line", read_text(report_pipe[0]),
		"xsaveshim: level=notice event=trim via=supervisor pid=4711 ioctl=KVM_SET_XSAVE vcpu=0 fd=14 "
		"xstate_bv=0x217 allowed=0x3 after=0x3 dropped=avx,bndcsr,pkru count=100\n");
}

static void report_xcr0(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct vcpu_call call = {"KVM_SET_XCRS", 14, {VCPU_XCR0, 0, 0x3, 0}, false};

	report_xcr0_refused(&log, call, EINVAL, 0x7, (struct refusal){.guest_lacks = 0x4}, 1);
	same_text(
		"refused", read_text(report_pipe[0]),
		"xsaveshim: level=error event=refused ioctl=KVM_SET_XCRS vcpu=0 fd=14 errno=EINVAL xcr0=0x7 "
		"reason=guest-lacks:avx\n");
	report_lost(&log, call, 0x7, 0x4, 10);
	same_text(
		"lost", read_text(report_pipe[0]),
		"xsaveshim: level=error event=lost ioctl=KVM_SET_XCRS vcpu=0 fd=14 xcr0=0x7 lost=avx count=10\n");
}

const struct test_case report_cases[] = {
	{"xsaveshim reports a trim in one line that names the dropped xfeatures", report_a_trim},
	{"if an XSAVE payload has xfeatures that the guest lacks, but XSAVESHIM_TRIM forbids the trim, xsaveshim reports event=would-trim",
	 report_a_would_be_trim},
	{"if an XSAVE payload has only xfeatures that the guest may use, xsaveshim reports nothing",
	 report_no_trim},
	{"if KVM refuses an XSAVE payload, xsaveshim's report names each reason for the refusal",
	 report_a_refusal},
	{"if an event ends the VMM because of XSAVESHIM_REFUSED=abort, the report of the event has action=abort",
	 report_an_abort},
	{"if KVM_SET_XSAVE fails with an errno other than EINVAL, the report has the errno's name and reason=not-the-payload",
	 report_other_errors},
	{"at log level debug, xsaveshim reports each new vCPU, and the guest's XCR0 from each CPUID table that the VMM sets",
	 report_what_was_learned},
	{"at each log level, xsaveshim writes the reports of this level and of the more severe levels",
	 report_levels},
	{"in a report, xsaveshim puts quotes around a value that a logfmt parser could not read without quotes",
	 report_quotes},
	{"xsaveshim writes the least and the greatest 32-bit integer, and the greatest 64-bit mask, correctly into a report",
	 report_numbers},
	{"a report that lists all 64 xfeatures is complete: xsaveshim does not cut off its end",
	 report_the_longest},
	{"if a report is longer than its buffer, xsaveshim cuts the text, and still ends the line with a newline",
	 report_cut},
	{"xsaveshim reports each bad setting in one line, with the value that xsaveshim uses instead",
	 report_bad_settings},
	{"if there are more than eight bad settings, xsaveshim reports the first eight, and only the number of the others",
	 report_many_bad_settings},
	{"if the supervisor reports an event in a VMM, the report has the VMM's pid, and says how often this event has happened",
	 lines_name_the_process},
	{"if KVM refuses an XCR0, xsaveshim reports the refusal in one line; if a trim dropped state that the guest uses, xsaveshim reports the loss in one line",
	 report_xcr0},
	{NULL, NULL},
};
