// SPDX-License-Identifier: MIT
#include "shared/helpers.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void *grow(void *array, size_t count, size_t size)
{
	array = reallocarray(array, count + 1, size);
	if (!array)
		err(2, "out of memory");
	return array;
}

ssize_t read_file(int dirfd, const char *path, char *text, size_t size)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, got;
	int error;

	text[0] = '\0';
	if (fd < 0)
		return -1;
	// One read() of a file in /proc may return only a part of the file.
	while ((got = read(fd, text + length, size - 1 - (size_t)length)) > 0)
		length += got;
	error = errno;
	close(fd);
	errno = error;
	if (got < 0)
		length = 0;
	text[length] = '\0';
	return got < 0 ? -1 : length;
}
