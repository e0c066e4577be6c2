// SPDX-License-Identifier: MIT
#include "pins.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <linux/magic.h>

const struct pin_names pin_names[PIN_COUNT] = {
	[PIN_ENTRY] = {"entry", NULL},
	[PIN_AGAIN] = {"again", "again-program"},
	[PIN_AGAIN2] = {"again2", "again2-program"},
	[PIN_AGAIN3] = {"again3", "again3-program"},
	[PIN_EXIT] = {"exit", "exit-program"},
	[PIN_EXIT2] = {"exit2", "exit2-program"},
	[PIN_GONE] = {"gone", NULL},
	[PIN_MADE] = {"made", NULL},
};

const char *pin_path(const char *directory, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

bool pins_are_complete(const char *directory)
{
	struct stat status;

	return !lstat(directory, &status) && S_ISDIR(status.st_mode) && !status.st_uid &&
	       !access(pin_path(directory, pin_names[PIN_ENTRY].link), F_OK);
}

const char *pins_problem(void)
{
	struct statfs fs;
	struct stat status;

	if (statfs(BPFFS, &fs) || fs.f_type != BPF_FS_MAGIC)
		return BPFFS " is not mounted: mount -t bpf -o mode=0700 bpf " BPFFS;
	if (stat(BPFFS, &status) || status.st_uid || status.st_mode & (S_IWGRP | S_IWOTH))
		return BPFFS " can be written by users other than root: chown root " BPFFS
			     "; chmod 0700 " BPFFS;
	return NULL;
}

bool pins_replace(void)
{
	int error;

	if (rename(PINS, OLD_PINS) && errno != ENOENT)
		return false;
	if (!rename(NEW_PINS, PINS))
		return true;
	error = errno;
	rename(OLD_PINS, PINS);
	errno = error;
	return false;
}
