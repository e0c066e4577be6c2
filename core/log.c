// SPDX-License-Identifier: MIT
#include "xsaveshim/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

// The log moves its descriptors to this number or above, because some VMMs close lower descriptors,
// or expect certain lower numbers to be free. LOG_FD_MIN is below 1024, the usual soft limit of
// descriptors.
#define LOG_FD_MIN 1000

static_assert(sizeof(struct stat) == 144,
	      "on x86-64, SYS_fstat fills in 144 bytes, the size of libc's struct stat");

static const struct sockaddr_un syslog_address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

static struct log_file no_file(void)
{
	return (struct log_file){.fd = -1};
}

static struct log_files no_files(void)
{
	return (struct log_files){.file = no_file(), .syslog = no_file()};
}

// Does not call fstat(), because glibc's fstat() makes the system call newfstatat(2), which
// Firecracker's seccomp filter forbids.
static bool get_status(int fd, struct stat *status)
{
	return fd >= 0 && !syscall(SYS_fstat, fd, status);
}

static struct log_file file_of(int fd)
{
	struct stat status;

	if (!get_status(fd, &status))
		return no_file();
	return (struct log_file){
		.fd = fd,
		.is_regular = S_ISREG(status.st_mode),
		.had_name = status.st_nlink > 0,
		.device = status.st_dev,
		.inode = status.st_ino,
	};
}

// Returns true if file.fd still refers to the file that file_of() saw. Returns false if this file
// is a regular file that has been deleted since, or that would grow beyond file_size_limit.
static bool can_take(struct log_file file, size_t length, uint64_t file_size_limit)
{
	struct stat status;

	if (!get_status(file.fd, &status) || status.st_dev != file.device ||
	    status.st_ino != file.inode)
		return false;
	return !file.is_regular || ((status.st_nlink || !file.had_name) &&
				    (uint64_t)status.st_size + length <= file_size_limit);
}

static bool is_null_device(int fd)
{
	struct stat status;

	return get_status(fd, &status) && S_ISCHR(status.st_mode) &&
	       status.st_rdev == makedev(1, 3);
}

static uint64_t file_size_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) ? RLIM_INFINITY : limit.rlim_cur;
}

void log_init(struct log *log, enum log_target target, const char *path, enum log_level level)
{
	log->target = target;
	log->path = path;
	log->level = level;
	log->foresees = false;
	log->polls = false;
	log->via = NULL;
	log->fields = NULL;
	log->in_use = NULL;
	log->send = NULL;
	log->pid = 0;
	log->standard_error = is_null_device(STDERR_FILENO) ? no_file() : file_of(STDERR_FILENO);
	log->claimed = 0;
	log->file_size_limit = file_size_limit();
	log->slots[0] = no_files();
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

// open(), connect() and close() are cancellation points. The log calls syscall() instead, because a
// VMM's thread that calls ioctl() must not be cancelled inside the log.
//
// ThreadSanitizer sees what open() and close() do, but not what syscall() does. If the log opened a
// descriptor with open() and closed it with syscall(), ThreadSanitizer would report a race when
// libc opened another file with the same number. So the log calls syscall() for everything that it
// does with its descriptors, except for poll().
static int open_file(const char *path, int flags)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
			    S_IRUSR | S_IWUSR);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		syscall(SYS_close, fd);
}

// Moves the file to a descriptor number of at least LOG_FD_MIN, if such a number is free.
static struct log_file move_up(int fd)
{
	int high = fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);

	if (high < 0)
		return file_of(fd);
	close_fd(fd);
	return file_of(high);
}

// Opens only a regular file. open_log_file does not accept a FIFO, because a write to a FIFO
// without a reader would end the VMM with SIGPIPE.
static struct log_file open_log_file(const char *path, const char **error)
{
	int fd = open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW);
	struct log_file file = file_of(fd);

	if (fd < 0)
		*error = strerror(errno);
	else if (!file.is_regular)
		*error = "Not a regular file";
	else
		return move_up(fd);
	close_fd(fd);
	return no_file();
}

// Maps a page of a regular file with PROT_NONE. As long as the page is mapped, the kernel keeps the
// file's inode even if the file is deleted. So no other file can get the same inode number.
static void *pin(const char *path, struct log_file file)
{
	void *page = MAP_FAILED;
	struct log_file again;
	int fd;

	if (!file.is_regular)
		return NULL;
	fd = open_file(path, O_RDONLY);
	again = file_of(fd);
	if (again.device == file.device && again.inode == file.inode)
		page = (void *)syscall(SYS_mmap, NULL, 1, PROT_NONE, MAP_PRIVATE, fd, 0);
	close_fd(fd);
	return page == MAP_FAILED ? NULL : page;
}

static int connect_syslog(int type, bool *is_connected)
{
	int fd = (int)syscall(SYS_socket, AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*is_connected =
		fd >= 0 && !syscall(SYS_connect, fd, &syslog_address, sizeof(syslog_address));
	return fd;
}

// Opens a datagram socket or, if /dev/log is a stream socket (EPROTOTYPE), a stream socket. Keeps a
// socket that cannot connect, because syslogd may start later. Returns 0 or an errno.
static int open_syslog(struct log_files *files)
{
	int fd = connect_syslog(SOCK_DGRAM, &files->syslog_is_connected);
	int error = files->syslog_is_connected ? 0 : errno;

	if (error == EPROTOTYPE) {
		close_fd(fd);
		fd = connect_syslog(SOCK_STREAM, &files->syslog_is_stream);
		error = files->syslog_is_stream ? 0 : errno;
		files->syslog_is_connected = files->syslog_is_stream;
	}
	files->syslog = move_up(fd);
	return error;
}

static void close_files(const struct log_files *files)
{
	close_fd(files->file.fd);
	close_fd(files->syslog.fd);
	for (int i = 0; i < 2; i++)
		if (files->pins[i])
			munmap(files->pins[i], 1);
}

static const char *open_files(const struct log *log, struct log_files *files)
{
	const char *reason = NULL;
	int error;

	*files = no_files();
	if (log->target == LOG_PATH) {
		files->file = open_log_file(log->path, &reason);
		files->pins[0] = pin(log->path, files->file);
	}
	files->pins[1] = pin("/proc/self/fd/2", log->standard_error);
	error = open_syslog(files);
	if (error && log->target == LOG_SYSLOG)
		reason = strerror(error);
	return reason;
}

static void note_in_use(const struct log *log, enum log_target target)
{
	if (log->in_use)
		atomic_store_explicit(log->in_use, LOG_IN_USE(target), memory_order_relaxed);
}

static enum log_target fallback(const struct log *log, const struct log_files *files)
{
	if (log->target != LOG_STDERR && log->standard_error.fd >= 0)
		return LOG_STDERR;
	return log->target != LOG_SYSLOG && files->syslog_is_connected ? LOG_SYSLOG : LOG_NONE;
}

bool log_open(struct log *log, const char **error)
{
	unsigned int unopened = 0;
	unsigned int slot;
	bool is_closed;

	if (log_is_open(log))
		return false;
	slot = atomic_fetch_add_explicit(&log->claimed, 1, memory_order_relaxed);
	if (slot >= LOG_OPENERS)
		return false;
	*error = open_files(log, &log->slots[slot]);
	if (atomic_compare_exchange_strong_explicit(&log->opened, &unopened, slot + 1,
						    memory_order_release, memory_order_relaxed)) {
		is_closed = log->target == LOG_STDERR && log->standard_error.fd < 0;
		note_in_use(log,
			    *error || is_closed ? fallback(log, &log->slots[slot]) : log->target);
		return true;
	}
	close_files(&log->slots[slot]);
	return false;
}

static struct log_files files_of(const struct log *log)
{
	unsigned int opened = atomic_load_explicit(&log->opened, memory_order_acquire);

	return opened ? log->slots[opened - 1] : no_files();
}

void log_close(struct log *log)
{
	struct log_files files = files_of(log);

	close_files(&files);
}

const char *log_fallback(const struct log *log)
{
	static const char *const names[] = {
		[LOG_STDERR] = "stderr", [LOG_SYSLOG] = "syslog", [LOG_NONE] = "none"};
	struct log_files files = files_of(log);

	return names[fallback(log, &files)];
}

bool log_takes(const struct log *log, enum log_level level)
{
	static const int verbosity[] = {
		[LOG_LEVEL_ERROR] = 0, [LOG_LEVEL_NOTICE] = 1, [LOG_LEVEL_DEBUG] = 2};

	return log->target != LOG_NONE && verbosity[level] <= verbosity[log->level];
}

// In the library, the log writes while a VMM's thread is inside ioctl(), which is not a cancellation
// point. So the log calls syscall() instead of write() and sendmsg(), which are cancellation points.
static bool write_line(const struct log *log, struct log_file file, char *line, size_t length)
{
	struct pollfd target = {.fd = file.fd, .events = POLLOUT};
	long written;

	line[length++] = '\n';
	if (!can_take(file, length, log->file_size_limit) ||
	    (log->polls && poll(&target, 1, 0) != 1))
		return false;
	do
		written = syscall(SYS_write, file.fd, line, length);
	while (written < 0 && errno == EINTR);
	return written == (long)length;
}

static bool write_stderr(const struct log *log, char *line, size_t length)
{
	return write_line(log, log->standard_error, line, length);
}

// Sends a priority and then the line to /dev/log. The priority stands for the facility daemon and
// the severity notice, err or debug (RFC 3164, 4.1.1). On a stream socket, each line ends with a
// NUL. If syslogd has started or restarted after log_open, the socket has no peer. So if the first
// sendmsg(2) fails, the function calls sendmsg(2) again, with the address of /dev/log.
static bool send_line(const struct log_files *files, enum log_level level, char *line,
		      size_t length)
{
	static const char *const priorities[] = {[LOG_LEVEL_NOTICE] = "<29>",
						 [LOG_LEVEL_ERROR] = "<27>",
						 [LOG_LEVEL_DEBUG] = "<31>"};
	struct iovec parts[] = {{(void *)(uintptr_t)priorities[level], 4},
				{line, length + files->syslog_is_stream}};
	struct msghdr to_peer = {.msg_iov = parts, .msg_iovlen = 2};
	struct msghdr to_address = to_peer;
	long sent;

	if (!can_take(files->syslog, length, 0))
		return false;
	if (files->syslog_is_stream)
		line[length] = '\0';
	to_address.msg_name = (void *)(uintptr_t)&syslog_address;
	to_address.msg_namelen = sizeof(syslog_address);
	do
		sent = syscall(SYS_sendmsg, files->syslog.fd, &to_peer,
			       MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		sent = syscall(SYS_sendmsg, files->syslog.fd, &to_address,
			       MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent == (long)(4 + parts[1].iov_len);
}

// Returns the target or fallback that took the line, or LOG_NONE if the line is lost.
static enum log_target write_to_first(const struct log *log, enum log_level level, char *line,
				      size_t length)
{
	struct log_files files = files_of(log);

	if (log->send && log->send(level, line, length))
		return log->target;
	if (log->target == LOG_PATH && write_line(log, files.file, line, length))
		return LOG_PATH;
	if (log->target == LOG_SYSLOG && send_line(&files, level, line, length))
		return LOG_SYSLOG;
	if (write_stderr(log, line, length))
		return LOG_STDERR;
	if (log->target != LOG_SYSLOG && send_line(&files, level, line, length))
		return LOG_SYSLOG;
	return LOG_NONE;
}

void log_write(const struct log *log, enum log_level level, char *line, size_t length)
{
	int saved = errno;

	note_in_use(log, write_to_first(log, level, line, length));
	errno = saved;
}
