// SPDX-License-Identifier: MIT
#ifndef TEST_ERRNOS_H
#define TEST_ERRNOS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

// The test programs use this table instead of strerrorname_np(), which musl lacks.
static const struct {
	const char *name;
	int number;
} errnos[] = {
	{"EPERM", EPERM},   {"ENOENT", ENOENT}, {"EINTR", EINTR},   {"EIO", EIO},
	{"ENXIO", ENXIO},   {"E2BIG", E2BIG},	{"EBADF", EBADF},   {"EAGAIN", EAGAIN},
	{"ENOMEM", ENOMEM}, {"EACCES", EACCES}, {"EFAULT", EFAULT}, {"EBUSY", EBUSY},
	{"EEXIST", EEXIST}, {"ENODEV", ENODEV}, {"EINVAL", EINVAL}, {"EMFILE", EMFILE},
	{"ENOTTY", ENOTTY}, {"ENOSYS", ENOSYS},
};

#define ERRNOS (sizeof(errnos) / sizeof(errnos[0]))

static inline const char *errno_name(int number)
{
	for (size_t i = 0; i < ERRNOS; i++)
		if (errnos[i].number == number)
			return errnos[i].name;
	return "an errno that test/include/errnos.h does not list";
}

static inline int errno_number(const char *name)
{
	for (size_t i = 0; i < ERRNOS; i++)
		if (!strcmp(errnos[i].name, name))
			return errnos[i].number;
	return 0;
}

#endif
