// SPDX-License-Identifier: MIT
// The tests preload this library into `xsaveshim status`. If the environment variable HANG_PIDS
// lists a process ID, an open() of /proc/PID never returns. The library simulates a system on which
// an open() of a file in /proc/PID hangs until somebody kills the process that called open().
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int openat_fn(int directory, const char *path, int flags, ...);

static void hang_if_listed(const char *path)
{
	const char *pids = getenv("HANG_PIDS");
	const char *name = strncmp(path, "/proc/", 6) ? path : path + 6;
	size_t length = strlen(name);

	while (pids && *pids) {
		size_t next = strcspn(pids, " ");

		if (length == next && !strncmp(name, pids, next))
			for (;;)
				pause();
		pids += next + (pids[next] == ' ');
	}
}

static int open_next(int directory, const char *path, int flags, mode_t mode)
{
	openat_fn *next;

	*(void **)&next = dlsym(RTLD_NEXT, "openat");
	hang_if_listed(path);
	return next(directory, path, flags, mode);
}

__attribute__((visibility("default"))) int open(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return open_next(AT_FDCWD, path, flags, mode);
}

__attribute__((visibility("default"))) int openat(int directory, const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return open_next(directory, path, flags, mode);
}
