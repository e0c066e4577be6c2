// SPDX-License-Identifier: MIT
#include "xsaveshim/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

// A log descriptor is moved up here, out of the way of VMMs that close or expect the low numbers; below the usual soft limit of 1024.
#define LOG_FD_MIN 1000

bool log_takes(const struct log *log, enum log_level level)
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

// syscall() and not write(): the latter is a cancellation point, which ioctl() is not. The same goes for sendmsg().
static bool write_line(int fd, const char *line, size_t length)
{
	long written;

	do
		written = syscall(SYS_write, fd, line, length);
	while (written < 0 && errno == EINTR);
	return written == (long)length;
}

// In front of the line comes the priority that /dev/log wants: facility daemon, severity notice, err or debug (RFC 3164, 4.1.1).
static bool send_line(int fd, enum log_level level, char *line, size_t length)
{
	static const char *const priorities[] = {
		[LOG_LEVEL_NOTICE] = "<29>", [LOG_LEVEL_ERROR] = "<27>", [LOG_LEVEL_DEBUG] = "<31>"};
	struct iovec parts[] = {{(void *)(uintptr_t)priorities[level], 4}, {line, length}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	long sent;

	do
		sent = syscall(SYS_sendmsg, fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (long)(4 + length);
}

void log_write(const struct log *log, enum log_level level, char *line, size_t length)
{
	int saved = errno;
	bool written;

	line[length] = '\n';
	written = log->syslog ? send_line(log->fd, level, line, length) : write_line(log->fd, line, length + 1);
	if (!written && log->fallback_fd >= 0)
		write_line(log->fallback_fd, line, length + 1);
	errno = saved;
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

int log_open(struct log *log, enum log_target target, const char *path, enum log_level level)
{
	int fd;

	// Where a process starts without a stderr, descriptor 2 is the next file that it opens: maybe a disk image.
	log->fd = fcntl(STDERR_FILENO, F_GETFD) < 0 ? -1 : STDERR_FILENO;
	log->fallback_fd = -1;
	log->level = level;
	log->syslog = false;
	if (target == LOG_NONE)
		log->fd = -1;
	if (target == LOG_NONE || target == LOG_STDERR)
		return 0;
	fd = move_up(target == LOG_SYSLOG ? open_syslog() : open_file(path));
	if (fd < 0)
		return errno;
	log->syslog = target == LOG_SYSLOG;
	log->fallback_fd = log->fd;
	log->fd = fd;
	return 0;
}
