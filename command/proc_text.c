// SPDX-License-Identifier: MIT
#include "proc_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DELETED " (deleted)"
// The flag PF_KTHREAD in /proc/PID/stat (include/linux/sched.h).
#define KERNEL_THREAD 0x00200000u

// A line of /proc/PID/maps is: START-END PERMISSIONS OFFSET DEVICE INODE PATH
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path,
		    size_t path_size)
{
	const size_t suffix = strlen(DELETED), name_length = strlen(name);
	char permissions[5];
	size_t length;
	int start = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &mapping->start,
		   &mapping->end, permissions, &start) != 3 ||
	    !start)
		return false;
	line += start;
	length = strcspn(line, "\n");
	mapping->writable = permissions[1] == 'w';
	mapping->deleted = length > suffix && !strncmp(line + length - suffix, DELETED, suffix);
	if (mapping->deleted)
		length -= suffix;
	if (length <= name_length || line[length - name_length - 1] != '/' ||
	    strncmp(line + length - name_length, name, name_length))
		return false;
	snprintf(path, path_size, "%.*s", (int)length, line);
	return true;
}

// The text of /proc/PID/stat is: PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS ... Only NAME
// may contain parentheses, so NAME ends at the last parenthesis.
bool proc_stat_holds_no_files(const char *stat)
{
	const char *rest = strrchr(stat, ')');
	unsigned int flags;
	char state;

	if (!rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return false;
	return state == 'Z' || state == 'X' || flags & KERNEL_THREAD;
}

bool proc_status_uids(const char *status, uid_t uids[PROC_UIDS])
{
	const char *line = strstr(status, "\nUid:");

	return line && sscanf(line, "\nUid: %u %u %u %u", &uids[0], &uids[1], &uids[2], &uids[3]) ==
			       PROC_UIDS;
}

// In /proc/PID/status, "Seccomp: 2" means SECCOMP_MODE_FILTER (Documentation/filesystems/proc.rst).
bool proc_status_is_filtered(const char *status)
{
	const char *line = strstr(status, "\nSeccomp:");
	int mode;

	return line && sscanf(line, "\nSeccomp: %d", &mode) == 1 && mode == 2;
}

pid_t proc_fdinfo_pid(const char *fdinfo)
{
	const char *line = strstr(fdinfo, "\nPid:");
	int pid;

	return line && sscanf(line, "\nPid: %d", &pid) == 1 ? pid : 0;
}
