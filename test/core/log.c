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

// Binds a socket to /dev/log, as a syslogd does, and returns the socket. The caller has called
// hide("/dev"), so other processes do not see the socket.
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
	same("the first line on standard error", was_written(caught), false);
	report_one(&log);
	same("the second line on standard error", was_written(caught), true);
	must(!fstat(fd, &status), "fstat");
	same("one whole line", status.st_size > 100 && status.st_size < 200, true);
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
	same("renamed: line on standard error", was_written(caught), false);
	must(!unlink(SCRATCH "/log.1"), "unlink");
	report_one(&log);
	same("deleted: line on standard error", was_written(caught), true);
	must(!close(log.slots[0].file.fd), "close");
	file = fopen("/proc/self/maps", "re");
	must(file != NULL, "/proc/self/maps");
	maps[fread(maps, 1, sizeof(maps) - 1, file)] = '\0';
	fclose(file);
	pinned = strstr(maps, "/log.1 (deleted)");
	same("the inode is in use", pinned != NULL, true);
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
		same("size", lseek(fd, 0, SEEK_END) > 0, names[i] == NULL);
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
	same_text("standard error, while syslog is there", read_text(caught), "");
	report_one(&log);
	same("the line, after syslog has gone", strlen(read_text(caught)) > 0, true);
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
	same("the next file that is opened", (uint64_t)other, STDERR_FILENO);
	report_one(&log);
	same("its size", fstat(other, &status) ? 1 : (uint64_t)status.st_size, 0);
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
	same("two lines of the same length", (uint64_t)status.st_size % 2, 0);
	same("appended", status.st_size > 200, true);
	open_log_at(&log, SCRATCH "/log");
	fd = log.slots[0].file.fd;
	same("out of the way", fd >= 1000, true);
	same("closed by exec", (uint64_t)fcntl(fd, F_GETFD), FD_CLOEXEC);
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
	same("a file where the link leads", access(SCRATCH "/elsewhere", F_OK) == 0, false);
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
	same("open", in_use, LOG_IN_USE(LOG_PATH));
	report_one(&log);
	same("written", in_use, LOG_IN_USE(LOG_PATH));
	must(!unlink(SCRATCH "/log"), "unlink");
	report_one(&log);
	same("deleted", in_use, LOG_IN_USE(LOG_STDERR));
	close(STDERR_FILENO);
	report_one(&log);
	same("without standard error", in_use, LOG_IN_USE(LOG_SYSLOG));
	close(server);
	report_one(&log);
	same("without syslogd", in_use, LOG_IN_USE(LOG_NONE));
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
		same("fallback", in_use, LOG_IN_USE(fallback));
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
	same("winners", winners, 1);
	// The log opens two descriptors: its file, and a socket for syslog. The log opens the
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
	same_text("where standard error was", read_text(caught), "");
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

// Opens a new file, and makes every descriptor to which the log may write refer to this file.
// Returns the first descriptor of the new file.
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
	{"a report for which the log would exceed RLIMIT_FSIZE goes to standard error, without a SIGXFSZ",
	 file_size_limit},
	{"a renamed log file still gets reports; a deleted one gets none, and its inode stays in use",
	 deleted_file},
	{"if standard error is a deleted file, reports go to syslog; if it is a memfd, they go there",
	 deleted_stderr},
	{"a log that is not a regular file is refused, and a report on standard error says so",
	 no_regular_file},
	{"if /dev/log is a stream socket, each report ends with a NUL", stream_syslog},
	{"a syslogd that starts after the log was opened still gets the reports",
	 syslog_starts_later},
	{"if the log's disk is full, a report goes to standard error, and errno does not change",
	 report_to_a_full_disk},
	{"syslog gets each report with its priority, and without a syslogd standard error gets them",
	 report_to_syslog},
	{"the default log is standard error", open_stderr},
	{"if a process starts without standard error, no report goes to its descriptor 2",
	 open_without_stderr},
	{"XSAVESHIM_LOG=none opens and writes nothing", open_none},
	{"reports are appended to the log file, which has mode 0600 and a high close-on-exec descriptor",
	 open_a_file},
	{"a log file that is a symbolic link is refused, and a report on standard error says so",
	 open_a_link},
	{"XSAVESHIM_LOG=syslog writes to the socket /dev/log", open_syslog_socket},
	{"without /dev/log, XSAVESHIM_LOG=syslog uses standard error and reports that",
	 open_without_syslog},
	{"the log file is not created before log_open() is called", open_later},
	{"the log remembers where its latest report went", note_where},
	{"if the log cannot be opened, it remembers its fallback before the first report",
	 note_where_from_the_start},
	{"if many threads open the same log, one succeeds, and the others leave no descriptor open",
	 open_by_many_threads},
	{"if standard error becomes /dev/null, the reports go to syslog", stderr_becomes_null},
	{"if standard error is /dev/null from the start, the reports go to syslog",
	 stderr_is_null_from_the_start},
	{"if another file gets the log's descriptor number, no report goes to that file",
	 numbers_taken_over},
	{NULL, NULL},
};
