// SPDX-License-Identifier: MIT
#include "xsaveshim/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

// The log's lowest descriptor: VMMs close or expect the lower ones; the usual soft limit is 1024.
#define LOG_FD_MIN 1000

static_assert(sizeof(struct stat) == 144, "the old fstat(2) on x86-64 fills in libc's struct stat");

static const struct sockaddr_un dev_log = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

static struct log_file no_file(void)
{
	return (struct log_file){.fd = -1};
}

// Not fstat(): glibc's makes newfstatat(2), which Firecracker's filter does not allow.
static bool get_status(int fd, struct stat *st)
{
	return fd >= 0 && !syscall(SYS_fstat, fd, st);
}

// Returns the file that the descriptor stands for now.
static struct log_file file_of(int fd)
{
	struct stat st;

	return get_status(fd, &st) ? (struct log_file){fd, st.st_dev, st.st_ino} : no_file();
}

static bool is_still(struct log_file file)
{
	struct stat st;

	return get_status(file.fd, &st) && st.st_dev == file.device && st.st_ino == file.inode;
}

static bool is_null_device(int fd)
{
	struct stat st;

	return get_status(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

void log_init(struct log *log, enum log_target target, const char *path, enum log_level level)
{
	memset(log, 0, sizeof(*log));
	log->target = target;
	log->path = path;
	log->level = level;
	log->standard_error = is_null_device(STDERR_FILENO) ? no_file() : file_of(STDERR_FILENO);
	log->slots[0] = (struct log_files){no_file(), no_file()};
	log->opened = target == LOG_NONE;
}

void log_init_fd(struct log *log, int fd, enum log_level level)
{
	log_init(log, LOG_PATH, NULL, level);
	log->standard_error = no_file();
	log->slots[0].file = file_of(fd);
	log->opened = 1;
}

bool log_is_open(const struct log *log)
{
	return atomic_load_explicit(&log->opened, memory_order_acquire);
}

// O_NONBLOCK: if the path is a FIFO, neither this call nor a later write blocks the VMM.
static int open_path(const char *path)
{
	return open(path,
		    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
		    S_IRUSR | S_IWUSR);
}

static int open_syslog(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0 || !connect(fd, (const struct sockaddr *)&dev_log, sizeof(dev_log)))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

// Gives the file a descriptor of at least LOG_FD_MIN, if there is one.
static struct log_file move_up(int fd)
{
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);

	if (high < 0)
		return file_of(fd);
	close(fd);
	return file_of(high);
}

static void close_files(struct log_files files)
{
	if (files.file.fd >= 0)
		close(files.file.fd);
	if (files.syslog.fd >= 0)
		close(files.syslog.fd);
}

// Returns 0, or the errno of the target.
static int open_files(const struct log *log, struct log_files *files)
{
	int error = 0;
	int fd = -1;

	if (log->target == LOG_PATH) {
		fd = open_path(log->path);
		error = fd < 0 ? errno : 0;
	}
	files->file = move_up(fd);
	fd = open_syslog();
	if (fd < 0 && log->target == LOG_SYSLOG)
		error = errno;
	files->syslog = move_up(fd);
	return error;
}

bool log_open(struct log *log, int *error)
{
	unsigned int unopened = 0;
	unsigned int slot;

	if (log_is_open(log))
		return false;
	slot = atomic_fetch_add_explicit(&log->claimed, 1, memory_order_relaxed);
	if (slot >= LOG_OPENERS)
		return false;
	*error = open_files(log, &log->slots[slot]);
	if (atomic_compare_exchange_strong_explicit(
		    &log->opened, &unopened, slot + 1, memory_order_release, memory_order_relaxed))
		return true;
	close_files(log->slots[slot]);
	return false;
}

static struct log_files files_of(const struct log *log)
{
	unsigned int opened = atomic_load_explicit(&log->opened, memory_order_acquire);

	return opened ? log->slots[opened - 1] : (struct log_files){no_file(), no_file()};
}

void log_close(struct log *log)
{
	close_files(files_of(log));
}

const char *log_fallback(const struct log *log)
{
	if (log->target != LOG_STDERR && log->standard_error.fd >= 0)
		return "stderr";
	return log->target != LOG_SYSLOG && files_of(log).syslog.fd >= 0 ? "syslog" : "none";
}

bool log_takes(const struct log *log, enum log_level level)
{
	static const int verbosity[] = {
		[LOG_LEVEL_ERROR] = 0, [LOG_LEVEL_NOTICE] = 1, [LOG_LEVEL_DEBUG] = 2};

	return log->target != LOG_NONE && verbosity[level] <= verbosity[log->level];
}

// Not write() or sendmsg(): these are cancellation points, and ioctl() is not one.
static bool write_line(const struct log *log, struct log_file file, const char *line, size_t length)
{
	struct pollfd target = {.fd = file.fd, .events = POLLOUT};
	long written;

	if (!is_still(file) || (log->polls && poll(&target, 1, 0) != 1))
		return false;
	do
		written = syscall(SYS_write, file.fd, line, length);
	while (written < 0 && errno == EINTR);
	return written == (long)length;
}

// The priorities are those of facility daemon (RFC 3164, 4.1.1). If syslogd has restarted, the
// socket has lost its peer; then the second sendmsg(2) names the address.
static bool send_line(struct log_file syslog, enum log_level level, char *line, size_t length)
{
	static const char *const priorities[] = {[LOG_LEVEL_NOTICE] = "<29>",
						 [LOG_LEVEL_ERROR] = "<27>",
						 [LOG_LEVEL_DEBUG] = "<31>"};
	struct iovec parts[] = {{(void *)(uintptr_t)priorities[level], 4}, {line, length}};
	struct msghdr to_peer = {.msg_iov = parts, .msg_iovlen = 2};
	struct msghdr to_address = to_peer;
	long sent;

	if (!is_still(syslog))
		return false;
	to_address.msg_name = (void *)(uintptr_t)&dev_log;
	to_address.msg_namelen = sizeof(dev_log);
	do
		sent = syscall(SYS_sendmsg, syslog.fd, &to_peer, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		sent = syscall(SYS_sendmsg, syslog.fd, &to_address, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent == (long)(4 + length);
}

void log_write(const struct log *log, enum log_level level, char *line, size_t length)
{
	struct log_files files = files_of(log);
	int saved = errno;
	bool is_written = false;

	line[length] = '\n';
	if (log->target == LOG_PATH)
		is_written = write_line(log, files.file, line, length + 1);
	else if (log->target == LOG_SYSLOG)
		is_written = send_line(files.syslog, level, line, length);
	if (!is_written)
		is_written = write_line(log, log->standard_error, line, length + 1);
	if (!is_written && log->target != LOG_SYSLOG)
		send_line(files.syslog, level, line, length);
	errno = saved;
}
