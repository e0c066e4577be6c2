// SPDX-License-Identifier: MIT
// log.h: where lines go.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "xsaveshim/log.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

static void report_nowhere(void)
{
	struct log log = {.fd = -1, .fallback_fd = -1, .level = LOG_LEVEL_DEBUG};
	struct report_line line;

	report_begin(&line, &log, LOG_LEVEL_ERROR, "test");
	report_text(&line, "key", "value");
	same("length", line.length, 0);
	errno = 99;
	report_send(&line);
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("errno", (uint64_t)errno, 99);
}

static void report_to_a_full_disk(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	log.fallback_fd = log.fd;
	log.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	must(log.fd >= 0, "/dev/full");
	errno = 99;
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("errno", (uint64_t)errno, 99);
	same("line", strlen(read_text(report_pipe[0])) > 0, true);
	log.fallback_fd = -1;
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("errno", (uint64_t)errno, 99);
}

static void report_to_syslog(void)
{
	static const struct {
		enum log_level level;
		const char *expected;
	} rows[] = {
		{LOG_LEVEL_NOTICE, "<29>xsaveshim: level=notice event=test"},
		{LOG_LEVEL_ERROR, "<27>xsaveshim: level=error event=test"},
		{LOG_LEVEL_DEBUG, "<31>xsaveshim: level=debug event=test"},
	};
	struct log log = piped_log(LOG_LEVEL_DEBUG);
	int sockets[2];

	must(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), "socketpair");
	log.fallback_fd = log.fd;
	log.fd = sockets[0];
	log.syslog = true;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct report_line line;

		report_begin(&line, &log, rows[i].level, "test");
		report_send(&line);
		same_text("datagram", read_text(sockets[1]), rows[i].expected);
	}
	close(sockets[1]);
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("the line, after syslog has gone", strlen(read_text(report_pipe[0])) > 0, true);
}

// Standard error becomes a pipe, whose other end is returned.
static int catch_stderr(void)
{
	int ends[2];

	must(!pipe2(ends, O_CLOEXEC | O_NONBLOCK) && dup2(ends[1], STDERR_FILENO) >= 0, "pipe2");
	return ends[0];
}

// As a front door opens its log.
static void open_log(struct log *log, const struct settings *settings)
{
	int error = log_open(log, settings->log, settings->log_path, settings->log_level);

	if (error)
		report_log_failure(log, settings_text(settings, SETTING_LOG), error);
	report_settings(log, settings);
}

static void open_stderr(void)
{
	struct settings settings = settings_with(SETTING_LOG, "stderr");
	struct log log = {0};

	open_log(&log, &settings);
	same("fd", (uint64_t)log.fd, STDERR_FILENO);
	same("fallback", (uint64_t)log.fallback_fd, (uint64_t)-1);
}

static void open_without_stderr(void)
{
	struct settings settings = settings_with(SETTING_LOG, "stderr");
	struct log log = {0};

	close(STDERR_FILENO);
	open_log(&log, &settings);
	same("fd", (uint64_t)log.fd, (uint64_t)-1);
}

static void open_none(void)
{
	struct settings settings = settings_with(SETTING_LOG, "none");
	struct log log = {0};

	open_log(&log, &settings);
	same("fd", (uint64_t)log.fd, (uint64_t)-1);
}

static void open_a_file(void)
{
	struct settings settings;
	struct log log = {0};
	struct stat status;

	hide(SCRATCH);
	umask(0);
	settings = settings_with(SETTING_LOG, SCRATCH "/log");
	for (int i = 0; i < 2; i++) {
		open_log(&log, &settings);
		report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
		close(log.fd);
	}
	must(!stat(SCRATCH "/log", &status), SCRATCH "/log");
	same("mode", status.st_mode & 07777, 0600);
	same("two lines of the same length", (uint64_t)status.st_size % 2, 0);
	same("appended", status.st_size > 200, true);
	same("out of the way", log.fd >= 1000, true);
	same("fallback", (uint64_t)log.fallback_fd, STDERR_FILENO);
	same("closed by exec", (uint64_t)fcntl(log.fd, F_GETFD), (uint64_t)-1);
	open_log(&log, &settings);
	same("closed by exec", (uint64_t)fcntl(log.fd, F_GETFD), FD_CLOEXEC);
}

static void open_a_link(void)
{
	struct settings settings;
	struct log log = {0};
	int caught;

	hide(SCRATCH);
	must(!symlink(SCRATCH "/elsewhere", SCRATCH "/log"), "symlink");
	settings = settings_with(SETTING_LOG, SCRATCH "/log");
	caught = catch_stderr();
	open_log(&log, &settings);
	same_text("line", read_text(caught),
		  "xsaveshim: level=error event=log target=" SCRATCH "/log "
		  "error=\"Too many levels of symbolic links\" using=stderr\n");
	same("fd", (uint64_t)log.fd, STDERR_FILENO);
	same("a file where the link leads", access(SCRATCH "/elsewhere", F_OK) == 0, false);
}

static void open_syslog_socket(void)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	struct settings settings = settings_with(SETTING_LOG, "syslog");
	struct log log = {0};
	int server;

	hide("/dev");
	server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	must(!bind(server, (const struct sockaddr *)&address, sizeof(address)), "/dev/log");
	open_log(&log, &settings);
	same("syslog", log.syslog, true);
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("datagram", !strncmp(read_text(server), "<29>xsaveshim: level=notice event=trim", 38), true);
}

static void open_without_syslog(void)
{
	struct settings settings = settings_with(SETTING_LOG, "syslog");
	struct log log = {0};
	int caught;

	hide("/dev");
	caught = catch_stderr();
	open_log(&log, &settings);
	same_text("line", read_text(caught),
		  "xsaveshim: level=error event=log target=syslog "
		  "error=\"No such file or directory\" using=stderr\n");
	same("syslog", log.syslog, false);
	same("fd", (uint64_t)log.fd, STDERR_FILENO);
}

const struct test_case log_cases[] = {
	{"a log that is nowhere takes reports and keeps errno", report_nowhere},
	{"a line that a full disk does not take goes to the fallback, and errno is kept", report_to_a_full_disk},
	{"syslog gets each line with its priority, the fallback what syslog does not take", report_to_syslog},
	{"the default log is standard error", open_stderr},
	{"a process without a standard error has no log", open_without_stderr},
	{"the log none is nowhere", open_none},
	{"a log file is appended to, has mode 0600, and a high descriptor that exec closes", open_a_file},
	{"a log file that is a symbolic link is refused, and standard error says so", open_a_link},
	{"the log syslog is the socket /dev/log", open_syslog_socket},
	{"without /dev/log standard error says so and is the log", open_without_syslog},
	{NULL, NULL},
};
