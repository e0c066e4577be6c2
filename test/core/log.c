// SPDX-License-Identifier: MIT
// Tests log.h, which writes xsaveshim's reports to a target (standard error, syslog or a file), or
// to a fallback if the target fails.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "xsaveshim/log.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

// Makes standard error the write end of a pipe, and returns the read end.
static int catch_stderr(void)
{
	int ends[2];

	must(!pipe2(ends, O_CLOEXEC | O_NONBLOCK) && dup2(ends[1], STDERR_FILENO) >= 0, "pipe2");
	return ends[0];
}

static void open_log_at(struct log *log, const char *target)
{
	static struct settings settings;

	settings = settings_with(SETTING_LOG, target);
	memset(log, 0, sizeof(*log));
	log_init(log, settings.log, settings.log_path, settings.log_level);
	report_open_log(log, &settings);
}

static void report_one(const struct log *log)
{
	report_trim(log, restore_call, (struct trim_result){0x217, 0x3, 0x3}, 1);
}

// Binds a socket to /dev/log, as a syslogd does, and returns the socket. Call hide("/dev") first:
// it mounts an empty file system over /dev, and only this process sees the mount.
static int serve_syslog(void)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	unlink("/dev/log");
	must(server >= 0 && !bind(server, (const struct sockaddr *)&address, sizeof(address)),
	     "/dev/log");
	return server;
}

static bool got_datagram(int server)
{
	return !strncmp(read_text(server), "<29>xsaveshim: level=notice event=trim", 38);
}

static bool was_written(int caught)
{
	return strstr(read_text(caught), "event=trim") != NULL;
}

static void report_to_a_full_disk(void)
{
	static char block[1 << 20];
	int caught = catch_stderr(), fill;
	struct log log;

	hide(SCRATCH);
	must(!mount("none", SCRATCH, "tmpfs", MS_REMOUNT, "size=64k"), "mount -o size=64k");
	open_log_at(&log, SCRATCH "/log");
	fill = open(SCRATCH "/fill", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fill >= 0 && write(fill, block, sizeof(block)) < (ssize_t)sizeof(block), "fill");
	errno = 99;
	report_one(&log);
	same("errno", (uint64_t)errno, 99);
	same("line on standard error", was_written(caught), true);
}

static void file_size_limit(void)
{
	int caught = catch_stderr(), fd;
	struct rlimit limit = {200, RLIM_INFINITY};
	struct stat status;
	struct log log;

	hide(SCRATCH);
	fd = open(SCRATCH "/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0 && !setrlimit(RLIMIT_FSIZE, &limit), "RLIMIT_FSIZE");
	open_log_at(&log, SCRATCH "/log");
	report_one(&log);
	same("the first report is on standard error", was_written(caught), false);
	report_one(&log);
	same("the second report is on standard error", was_written(caught), true);
	must(!fstat(fd, &status), "fstat");
	same("the file has one whole line", status.st_size > 100 && status.st_size < 200, true);
	// Resets the limit, because this process may write larger files later, such as coverage
	// data.
	limit.rlim_cur = limit.rlim_max;
	must(!setrlimit(RLIMIT_FSIZE, &limit), "RLIMIT_FSIZE");
}

static void deleted_file(void)
{
	int caught = catch_stderr();
	char maps[65536], *pinned;
	struct log log;
	FILE *file;

	hide(SCRATCH);
	open_log_at(&log, SCRATCH "/log");
	must(!rename(SCRATCH "/log", SCRATCH "/log.1"), "rename");
	report_one(&log);
	same("after rename: line on standard error", was_written(caught), false);
	must(!unlink(SCRATCH "/log.1"), "unlink");
	report_one(&log);
	same("after unlink: line on standard error", was_written(caught), true);
	must(!close(log.slots[0].file.fd), "close");
	file = fopen("/proc/self/maps", "re");
	must(file != NULL, "/proc/self/maps");
	maps[fread(maps, 1, sizeof(maps) - 1, file)] = '\0';
	fclose(file);
	pinned = strstr(maps, "/log.1 (deleted)");
	same("the deleted log file is mapped", pinned != NULL, true);
}

static void deleted_stderr(void)
{
	static const char *const names[] = {NULL, SCRATCH "/stderr"};

	hide("/dev");
	hide(SCRATCH);
	for (int i = 0; i < 2; i++) {
		int server = serve_syslog();
		int fd = names[i] ? open(names[i], O_RDWR | O_CREAT | O_APPEND, 0600)
				  : (int)syscall(SYS_memfd_create, "stderr", 0);
		struct log log;

		must(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0, "dup2");
		open_log_at(&log, "stderr");
		if (names[i])
			must(!unlink(names[i]), "unlink");
		report_one(&log);
		same("datagram", got_datagram(server), names[i] != NULL);
		same("line in standard error's file", lseek(fd, 0, SEEK_END) > 0, names[i] == NULL);
		close(server);
	}
}

static void no_regular_file(void)
{
	int caught = catch_stderr();
	struct log log;

	hide(SCRATCH);
	must(!mkfifo(SCRATCH "/log", 0600), "mkfifo");
	must(open(SCRATCH "/log", O_RDONLY | O_NONBLOCK | O_CLOEXEC) >= 0, "a reader");
	open_log_at(&log, SCRATCH "/log");
	same_text("line", read_text(caught),
		  "xsaveshim: level=error event=log target=" SCRATCH
		  "/log error=\"Not a regular file\" using=stderr\n");
	report_one(&log);
	same("line on standard error", was_written(caught), true);
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
	int server, caught = catch_stderr();
	struct log log;

	hide("/dev");
	server = serve_syslog();
	open_log_at(&log, "syslog");
	log.level = LOG_LEVEL_DEBUG;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct report_line line;

		report_begin(&line, &log, rows[i].level, "test");
		report_send(&line);
		same_text("datagram", read_text(server), rows[i].expected);
	}
	close(server);
	same_text("standard error while syslogd runs", read_text(caught), "");
	report_one(&log);
	same("line on standard error without syslogd", strlen(read_text(caught)) > 0, true);
	server = serve_syslog();
	report_one(&log);
	same("datagram, after syslogd has restarted", got_datagram(server), true);
}

static void open_stderr(void)
{
	int caught = catch_stderr();
	struct log log;

	open_log_at(&log, "stderr");
	report_one(&log);
	same("line", strlen(read_text(caught)) > 0, true);
}

static void open_without_stderr(void)
{
	char path[] = "/tmp/xsaveshim-core.XXXXXX";
	struct stat status;
	struct log log;
	int other;

	hide("/dev");
	close(STDERR_FILENO);
	open_log_at(&log, "stderr");
	other = mkstemp(path);
	unlink(path);
	same("descriptor of the next file that is opened", (uint64_t)other, STDERR_FILENO);
	report_one(&log);
	same("size of the file with descriptor 2",
	     fstat(other, &status) ? 1 : (uint64_t)status.st_size, 0);
}

static void open_none(void)
{
	int caught = catch_stderr();
	struct log log;

	open_log_at(&log, "none");
	same("descriptors", log.claimed, 0);
	errno = 99;
	report_one(&log);
	same("errno", (uint64_t)errno, 99);
	same_text("line", read_text(caught), "");
}

static void open_a_file(void)
{
	struct stat status;
	struct log log;
	int fd;

	hide(SCRATCH);
	umask(0);
	for (int i = 0; i < 2; i++) {
		open_log_at(&log, SCRATCH "/log");
		report_one(&log);
		log_close(&log);
	}
	must(!stat(SCRATCH "/log", &status), SCRATCH "/log");
	same("mode", status.st_mode & 07777, 0600);
	same("size of two equal lines, modulo 2", (uint64_t)status.st_size % 2, 0);
	same("the file has both lines", status.st_size > 200, true);
	open_log_at(&log, SCRATCH "/log");
	fd = log.slots[0].file.fd;
	same("descriptor is 1000 or higher", fd >= 1000, true);
	same("descriptor flags", (uint64_t)fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void open_a_link(void)
{
	struct log log;
	int caught;

	hide(SCRATCH);
	must(!symlink(SCRATCH "/elsewhere", SCRATCH "/log"), "symlink");
	caught = catch_stderr();
	open_log_at(&log, SCRATCH "/log");
	same_text("line", read_text(caught),
		  "xsaveshim: level=error event=log target=" SCRATCH
		  "/log error=\"Too many levels of symbolic links\" using=stderr\n");
	same("the link's target exists", access(SCRATCH "/elsewhere", F_OK) == 0, false);
}

static void open_syslog_socket(void)
{
	struct log log;
	int server;

	hide("/dev");
	server = serve_syslog();
	open_log_at(&log, "syslog");
	report_one(&log);
	same("datagram", got_datagram(server), true);
}

static void note_where(void)
{
	struct settings settings = settings_with(SETTING_LOG, SCRATCH "/log");
	_Atomic uint32_t in_use = 0;
	struct log log = {0};
	int server;

	hide("/dev");
	hide(SCRATCH);
	server = serve_syslog();
	catch_stderr();
	log_init(&log, settings.log, settings.log_path, settings.log_level);
	log.in_use = &in_use;
	report_open_log(&log, &settings);
	same("in_use after open", in_use, LOG_IN_USE(LOG_PATH));
	report_one(&log);
	same("in_use after a line", in_use, LOG_IN_USE(LOG_PATH));
	must(!unlink(SCRATCH "/log"), "unlink");
	report_one(&log);
	same("in_use after unlink", in_use, LOG_IN_USE(LOG_STDERR));
	close(STDERR_FILENO);
	report_one(&log);
	same("in_use without standard error", in_use, LOG_IN_USE(LOG_SYSLOG));
	close(server);
	report_one(&log);
	same("in_use without syslogd", in_use, LOG_IN_USE(LOG_NONE));
}

static void note_where_from_the_start(void)
{
	struct settings settings = settings_with(SETTING_LOG, SCRATCH "/none/log");
	_Atomic uint32_t in_use = 0;

	hide("/dev");
	for (enum log_target fallback = LOG_STDERR; fallback <= LOG_NONE; fallback++) {
		int server = fallback == LOG_SYSLOG ? serve_syslog() : -1;
		struct log log = {0};

		if (fallback == LOG_STDERR)
			catch_stderr();
		else
			close(STDERR_FILENO);
		log_init(&log, settings.log, settings.log_path, LOG_LEVEL_NOTICE);
		log.in_use = &in_use;
		report_open_log(&log, &settings);
		same("in_use before the first report", in_use, LOG_IN_USE(fallback));
		close(server);
	}
}

static void stream_syslog(void)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	const char *text;
	struct log log;

	hide("/dev");
	must(server >= 0 && !bind(server, (const struct sockaddr *)&address, sizeof(address)) &&
		     !listen(server, 1),
	     "/dev/log");
	open_log_at(&log, "syslog");
	peer = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	report_one(&log);
	report_one(&log);
	text = read_text(peer);
	same("the first line", !strncmp(text, "<29>xsaveshim: ", 15), true);
	text += strlen(text) + 1;
	same("the second line, after a NUL", !strncmp(text, "<29>xsaveshim: ", 15), true);
}

static void syslog_starts_later(void)
{
	int server, caught;
	struct log log;

	hide("/dev");
	caught = catch_stderr();
	open_log_at(&log, "syslog");
	read_text(caught);
	server = serve_syslog();
	report_one(&log);
	same("datagram", got_datagram(server), true);
	same("line on standard error", was_written(caught), false);
}

static void open_without_syslog(void)
{
	struct log log;
	int caught;

	hide("/dev");
	caught = catch_stderr();
	open_log_at(&log, "syslog");
	same_text(
		"line", read_text(caught),
		"xsaveshim: level=error event=log target=syslog error=\"No such file or directory\" using=stderr\n");
}

static void open_later(void)
{
	struct settings settings = settings_with(SETTING_LOG, SCRATCH "/log");
	struct log log = {0};
	const char *error;

	hide(SCRATCH);
	log_init(&log, settings.log, settings.log_path, settings.log_level);
	same("a file", access(SCRATCH "/log", F_OK) == 0, false);
	same("open", log_is_open(&log), false);
	same("opened", log_open(&log, &error), true);
	same_text("error", error ? error : "none", "none");
	same("open", log_is_open(&log), true);
	same("a file", access(SCRATCH "/log", F_OK) == 0, true);
	same("opened again", log_open(&log, &error), false);
}

static pthread_barrier_t all_are_there;

static void *open_and_count(void *argument)
{
	struct log *log = argument;
	const char *error;

	pthread_barrier_wait(&all_are_there);
	return log_open(log, &error) ? log : NULL;
}

static unsigned int open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned int count = 0;

	must(directory != NULL, "/proc/self/fd");
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static void open_by_many_threads(void)
{
	struct settings settings = settings_with(SETTING_LOG, SCRATCH "/log");
	unsigned int before, winners = 0;
	static struct log log;
	pthread_t threads[8];
	void *result;

	hide(SCRATCH);
	log_init(&log, settings.log, settings.log_path, settings.log_level);
	before = open_descriptors();
	must(!pthread_barrier_init(&all_are_there, NULL, COUNT(threads)), "pthread_barrier_init");
	for (size_t i = 0; i < COUNT(threads); i++)
		must(!pthread_create(&threads[i], NULL, open_and_count, &log), "pthread_create");
	for (size_t i = 0; i < COUNT(threads); i++) {
		pthread_join(threads[i], &result);
		winners += result != NULL;
	}
	same("threads that opened the log", winners, 1);
	// log_open() opens two descriptors: the log file, and a socket for syslog. It opens the
	// socket even if no syslogd runs, because a syslogd may start later.
	same("descriptors", open_descriptors() - before, 2);
}

static void stderr_becomes_null(void)
{
	int server, null = open("/dev/null", O_WRONLY | O_CLOEXEC), caught = catch_stderr();
	struct log log;

	must(null >= 0, "/dev/null");
	hide("/dev");
	server = serve_syslog();
	open_log_at(&log, "stderr");
	must(dup2(null, STDERR_FILENO) >= 0, "dup2");
	report_one(&log);
	same("datagram", got_datagram(server), true);
	same_text("text in the old standard error", read_text(caught), "");
}

static void stderr_is_null_from_the_start(void)
{
	int server, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct log log;

	must(null >= 0 && dup2(null, STDERR_FILENO) >= 0, "/dev/null");
	hide("/dev");
	server = serve_syslog();
	open_log_at(&log, "stderr");
	report_one(&log);
	same("datagram", got_datagram(server), true);
}

// Opens a file, and duplicates its descriptor onto standard error and onto the log's own
// descriptors. Returns the descriptor that open() gave the file.
static int take_over_all(const struct log *log)
{
	int disk = open(SCRATCH "/disk", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	must(disk >= 0 && dup2(disk, STDERR_FILENO) >= 0, SCRATCH "/disk");
	if (log->slots[0].file.fd >= 0)
		must(dup2(disk, log->slots[0].file.fd) >= 0, "the log's number");
	if (log->slots[0].syslog.fd >= 0)
		must(dup2(disk, log->slots[0].syslog.fd) >= 0, "syslog's number");
	return disk;
}

static void numbers_taken_over(void)
{
	static const char *const targets[] = {"stderr", "syslog", SCRATCH "/log"};
	int stderr_before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);

	hide("/dev");
	hide(SCRATCH);
	serve_syslog();
	for (size_t i = 0; i < COUNT(targets); i++) {
		struct stat status;
		struct log log;
		int disk;

		must(dup2(stderr_before, STDERR_FILENO) >= 0, "dup2");
		open_log_at(&log, targets[i]);
		disk = take_over_all(&log);
		errno = 99;
		report_one(&log);
		same("errno", (uint64_t)errno, 99);
		same(targets[i], fstat(disk, &status) ? 1 : (uint64_t)status.st_size, 0);
		dup2(stderr_before, STDERR_FILENO);
	}
}

const struct test_case log_cases[] = {
	{"if a report would make the log file exceed RLIMIT_FSIZE, the report goes to standard error, and the process gets no SIGXFSZ",
	 file_size_limit},
	{"if the log file is renamed, reports go to the renamed file; if the file is deleted, reports go to standard error, and xsaveshim keeps the file's inode allocated",
	 deleted_file},
	{"with XSAVESHIM_LOG=stderr, if standard error's file is deleted while the log is open, reports go to syslog; if standard error is a memfd, reports go to the memfd",
	 deleted_stderr},
	{"if XSAVESHIM_LOG names a FIFO, xsaveshim refuses the FIFO, and writes the error and all reports to standard error",
	 no_regular_file},
	{"if /dev/log is a stream socket, xsaveshim ends each report to this socket with a NUL byte",
	 stream_syslog},
	{"with XSAVESHIM_LOG=syslog, if syslogd starts after xsaveshim has opened its log, syslogd gets the reports from then on",
	 syslog_starts_later},
	{"if the log file's disk is full, reports go to standard error, and xsaveshim leaves errno unchanged",
	 report_to_a_full_disk},
	{"with XSAVESHIM_LOG=syslog, syslogd gets each report with the syslog priority for the report's level; while no syslogd runs, reports go to standard error",
	 report_to_syslog},
	{"with XSAVESHIM_LOG=stderr, reports go to standard error", open_stderr},
	{"if a process starts with standard error closed, xsaveshim writes no report to a file that later gets descriptor 2",
	 open_without_stderr},
	{"with XSAVESHIM_LOG=none, xsaveshim opens no log and writes no report", open_none},
	{"xsaveshim creates the log file with mode 0600, appends reports, and keeps the file open as a close-on-exec descriptor above 999",
	 open_a_file},
	{"if XSAVESHIM_LOG names a symbolic link, xsaveshim does not follow the link, and reports an error on standard error",
	 open_a_link},
	{"with XSAVESHIM_LOG=syslog, reports go to the socket /dev/log", open_syslog_socket},
	{"with XSAVESHIM_LOG=syslog, if /dev/log does not exist, a line on standard error gives this error, and says that reports go to standard error",
	 open_without_syslog},
	{"log_init() does not create the log file; log_open() creates the file", open_later},
	{"after each report, xsaveshim records whether the report went to the log file, to standard error, to syslog or nowhere",
	 note_where},
	{"if the log file cannot be opened, xsaveshim records where reports will go instead, even before the first report",
	 note_where_from_the_start},
	{"if eight threads open the same log at once, one thread succeeds, and the other threads leave no descriptor open",
	 open_by_many_threads},
	{"with XSAVESHIM_LOG=stderr, if standard error becomes /dev/null while the log is open, reports go to syslog",
	 stderr_becomes_null},
	{"with XSAVESHIM_LOG=stderr, if standard error is /dev/null from the start, reports go to syslog",
	 stderr_is_null_from_the_start},
	{"if the VMM reuses the log's descriptor number for another file, xsaveshim writes no report to that file",
	 numbers_taken_over},
	{NULL, NULL},
};
