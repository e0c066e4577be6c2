// SPDX-License-Identifier: MIT
#include "xsaveshim/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "xsaveshim/xstate.h"

// A log descriptor is moved up here, out of the way of VMMs that close or expect the low numbers; below the usual soft limit of 1024.
#define LOG_FD_MIN 1000

static const char *const level_names[] = {
	[LOG_LEVEL_NOTICE] = "notice", [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_DEBUG] = "debug"};

static bool is_logged(const struct report_log *log, enum log_level level)
{
	if (log->fd < 0)
		return false;
	switch (log->level) {
	case LOG_LEVEL_ERROR:
		return level == LOG_LEVEL_ERROR;
	case LOG_LEVEL_NOTICE:
		return level != LOG_LEVEL_DEBUG;
	case LOG_LEVEL_DEBUG:
		break;
	}
	return true;
}

static void add_char(struct report_line *line, char c)
{
	// The last byte is the newline's.
	if (line->length && line->length < sizeof(line->text) - 1)
		line->text[line->length++] = c;
}

static void add(struct report_line *line, const char *text)
{
	while (*text)
		add_char(line, *text++);
}

static void add_number(struct report_line *line, uint64_t value, unsigned int base)
{
	char digits[20];
	size_t count = 0;

	do
		digits[count++] = "0123456789abcdef"[value % base];
	while (value /= base);
	while (count)
		add_char(line, digits[--count]);
}

static void add_key(struct report_line *line, const char *key)
{
	add(line, " ");
	add(line, key);
	add(line, "=");
}

static void add_hex(struct report_line *line, uint64_t value)
{
	add(line, "0x");
	add_number(line, value, 16);
}

static void add_xfeatures(struct report_line *line, uint64_t xfeatures)
{
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(xfeatures >> bit & 1))
			continue;
		if (xfeature_name(bit)) {
			add(line, xfeature_name(bit));
		} else {
			add(line, "bit");
			add_number(line, bit, 10);
		}
		// A comma behind each but the last.
		if (bit < 63 && xfeatures >> (bit + 1))
			add(line, ",");
	}
}

void report_begin(struct report_line *line, const struct report_log *log, enum log_level level, const char *event)
{
	line->log = log;
	line->level = level;
	line->length = 0;
	if (!is_logged(log, level))
		return;
	line->text[line->length++] = 'x';
	add(line, "saveshim:");
	report_text(line, "level", level_names[level]);
	report_text(line, "event", event);
	if (log->via)
		report_text(line, "via", log->via);
}

static bool is_bare(const char *value)
{
	const char *c = value;

	while (*c > ' ' && *c < 0x7f && *c != '"' && *c != '=' && *c != '\\')
		c++;
	return *value && !*c;
}

void report_text(struct report_line *line, const char *key, const char *value)
{
	add_key(line, key);
	if (is_bare(value)) {
		add(line, value);
		return;
	}
	add(line, "\"");
	for (; *value; value++) {
		bool plain = *value >= ' ' && *value < 0x7f && *value != '"' && *value != '\\';

		add_char(line, plain ? *value : '?');
	}
	add(line, "\"");
}

void report_int(struct report_line *line, const char *key, int value)
{
	add_key(line, key);
	if (value < 0)
		add(line, "-");
	add_number(line, value < 0 ? (uint64_t) - (int64_t)value : (uint64_t)value, 10);
}

void report_hex(struct report_line *line, const char *key, uint64_t value)
{
	add_key(line, key);
	add_hex(line, value);
}

void report_vcpu_call(struct report_line *line, struct vcpu_call call)
{
	report_text(line, "ioctl", call.ioctl);
	if (call.vcpu.id == VCPU_ID_UNKNOWN)
		report_text(line, "vcpu", "?");
	else
		report_int(line, "vcpu", call.vcpu.id);
	report_int(line, "fd", call.fd);
}

// syscall() and not write(): the latter is a cancellation point, which ioctl() is not.
static bool write_whole(int fd, const char *text, size_t size)
{
	long written;

	do
		written = syscall(SYS_write, fd, text, size);
	while (written < 0 && errno == EINTR);
	return written == (long)size;
}

// The priority that /dev/log wants first: facility daemon, severity notice, err or debug (RFC 3164, 4.1.1).
static bool write_syslog(const struct report_line *line)
{
	static const char *const priorities[] = {
		[LOG_LEVEL_NOTICE] = "<29>", [LOG_LEVEL_ERROR] = "<27>", [LOG_LEVEL_DEBUG] = "<31>"};
	char datagram[4 + sizeof(line->text)];

	memcpy(datagram, priorities[line->level], 4);
	memcpy(datagram + 4, line->text, line->length);
	return write_whole(line->log->fd, datagram, 4 + line->length);
}

void report_send(struct report_line *line)
{
	const struct report_log *log = line->log;
	int saved = errno;
	bool sent;

	if (!line->length)
		return;
	line->text[line->length] = '\n';
	sent = log->syslog ? write_syslog(line) : write_whole(log->fd, line->text, line->length + 1);
	if (!sent && log->fallback_fd >= 0)
		write_whole(log->fallback_fd, line->text, line->length + 1);
	errno = saved;
}

void report_trim(const struct report_log *log, struct vcpu_call call, struct trim trim)
{
	uint64_t dropped = trim.xstate_bv & ~trim.allowed;
	struct report_line line;

	if (!dropped || !is_logged(log, LOG_LEVEL_NOTICE))
		return;
	report_begin(&line, log, LOG_LEVEL_NOTICE, trim.written == trim.xstate_bv ? "would-trim" : "trim");
	report_vcpu_call(&line, call);
	report_hex(&line, "xstate_bv", trim.xstate_bv);
	report_hex(&line, "allowed", trim.allowed);
	report_hex(&line, "written", trim.written);
	add_key(&line, "dropped");
	add_xfeatures(&line, dropped);
	report_send(&line);
}

// The names of the errors that KVM_SET_XSAVE, a seccomp filter or a dead supervisor give; NULL for any other.
static const char *error_name(int error)
{
	switch (error) {
	case EINVAL:
		return "EINVAL";
	case EFAULT:
		return "EFAULT";
	case EIO:
		return "EIO";
	case EINTR:
		return "EINTR";
	case ENOMEM:
		return "ENOMEM";
	case ENOSYS:
		return "ENOSYS";
	case EPERM:
		return "EPERM";
	case EACCES:
		return "EACCES";
	case EBADF:
		return "EBADF";
	case ENOTTY:
		return "ENOTTY";
	default:
		return NULL;
	}
}

static void add_reason(struct report_line *line, const char **separator, const char *reason)
{
	add(line, *separator);
	add(line, reason);
	*separator = ";";
}

void report_reason(struct report_line *line, struct refusal refusal)
{
	const char *separator = "";

	add_key(line, "reason");
	if (refusal.host_lacks) {
		add_reason(line, &separator, "host-lacks:");
		add_xfeatures(line, refusal.host_lacks);
	}
	if (refusal.guest_lacks) {
		add_reason(line, &separator, "guest-lacks:");
		add_xfeatures(line, refusal.guest_lacks);
	}
	if (refusal.xcomp_bv) {
		add_reason(line, &separator, "xcomp-bv:");
		add_hex(line, refusal.xcomp_bv);
	}
	if (refusal.reserved_bytes)
		add_reason(line, &separator, "reserved-bytes");
	if (refusal.mxcsr) {
		add_reason(line, &separator, "mxcsr:");
		add_hex(line, refusal.mxcsr);
	}
	if (!*separator)
		add(line, "unknown");
}

void report_refused(const struct report_log *log, struct vcpu_call call, int error, uint64_t xstate_bv,
		    struct refusal refusal)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_ERROR, "refused");
	report_vcpu_call(&line, call);
	if (error_name(error))
		report_text(&line, "errno", error_name(error));
	else
		report_int(&line, "errno", error);
	report_hex(&line, "xstate_bv", xstate_bv);
	if (error == EINVAL)
		report_reason(&line, refusal);
	else
		report_text(&line, "reason", "not-the-payload");
	report_send(&line);
}

void report_learn(const struct report_log *log, struct vcpu_call call)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_DEBUG, "learn");
	report_vcpu_call(&line, call);
	if (call.vcpu.knowledge == VCPU_XCR0) {
		report_hex(&line, "guest_xcr0", call.vcpu.guest_xcr0);
		report_hex(&line, "allowed", policy_allowed(call.vcpu));
	}
	report_send(&line);
}

static void report_problems(const struct report_log *log, const struct settings *settings)
{
	unsigned int kept = sizeof(settings->problem) / sizeof(settings->problem[0]);
	struct report_line line;

	for (unsigned int i = 0; i < settings->problems && i < kept; i++) {
		const struct settings_problem *problem = &settings->problem[i];

		report_begin(&line, log, LOG_LEVEL_ERROR, "setting");
		report_text(&line, "source", problem->source);
		if (problem->line)
			report_int(&line, "line", (int)problem->line);
		report_text(&line, "key", problem->key);
		report_text(&line, "value", problem->value);
		if (problem->used) {
			report_text(&line, "using", problem->used);
			report_text(&line, "accepted", problem->accepted);
		} else {
			report_text(&line, "using", "nothing-of-it");
		}
		report_send(&line);
	}
	if (settings->problems > kept) {
		report_begin(&line, log, LOG_LEVEL_ERROR, "setting");
		report_int(&line, "further-problems", (int)(settings->problems - kept));
		report_send(&line);
	}
}

// Neither call may hold up the VMM's start, nor a later write the VMM: O_NONBLOCK is for a FIFO in the file's place.
static int open_file(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
		    S_IRUSR | S_IWUSR);
}

static int open_syslog(void)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

// Returns fd, or a higher number for it where there is one.
static int move_up(int fd)
{
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static void open_target(struct report_log *log, const struct settings *settings)
{
	const char *target = settings_text(settings, SETTING_LOG);
	struct report_line line;
	int fd;

	log->syslog = settings->value[SETTING_LOG] == LOG_SYSLOG;
	fd = move_up(log->syslog ? open_syslog() : open_file(target));
	if (fd < 0) {
		const char *problem = strerror(errno);

		log->syslog = false;
		report_begin(&line, log, LOG_LEVEL_ERROR, "log");
		report_text(&line, "target", target);
		report_text(&line, "error", problem);
		report_text(&line, "using", "stderr");
		report_send(&line);
		return;
	}
	log->fallback_fd = log->fd;
	log->fd = fd;
}

void report_open(struct report_log *log, const struct settings *settings)
{
	// Where a process starts without a stderr, descriptor 2 is the next file that it opens: maybe a disk image.
	log->fd = fcntl(STDERR_FILENO, F_GETFD) < 0 ? -1 : STDERR_FILENO;
	log->fallback_fd = -1;
	log->level = (enum log_level)settings->value[SETTING_LOG_LEVEL];
	log->syslog = false;
	switch ((enum log_target)settings->value[SETTING_LOG]) {
	case LOG_STDERR:
		break;
	case LOG_NONE:
		log->fd = -1;
		break;
	case LOG_SYSLOG:
	case LOG_PATH:
		open_target(log, settings);
		break;
	}
	report_problems(log, settings);
}
