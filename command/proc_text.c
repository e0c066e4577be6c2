// SPDX-License-Identifier: MIT
#include "proc_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DELETED " (deleted)"
// PF_KTHREAD in include/linux/sched.h, part of the flags in /proc/PID/stat.
#define KERNEL_THREAD 0x00200000u

// Copies an option's value. A comma ends it; two commas stand for one. Returns where the next option begins.
static const char *copy_value(const char *value, char *copy, size_t size)
{
	size_t used = 0;

	for (; *value; value++) {
		if (*value == ',') {
			value++;
			if (*value != ',')
				break;
		}
		if (used + 1 < size)
			copy[used++] = *value;
	}
	copy[used] = '\0';
	return value;
}

// option is the argument of -name: "NAME", "NAME,process=P" or "debug-threads=on,guest=NAME".
static void copy_name(const char *option, char *name, size_t size)
{
	char other[1];
	bool first = true;

	while (*option) {
		bool has_key = option[strcspn(option, "=,")] == '=';

		if (!strncmp(option, "guest=", 6))
			option = copy_value(option + 6, name, size);
		else if (first && !has_key)
			option = copy_value(option, name, size);
		else
			option = copy_value(option, other, sizeof(other));
		first = false;
	}
}

// Returns the next string, or NULL at the end of the text and where the string is cut off.
static const char *next_string(const char **at, const char *end)
{
	const char *string = *at;
	const char *zero = string < end ? memchr(string, '\0', (size_t)(end - string)) : NULL;

	if (!zero)
		return NULL;
	*at = zero + 1;
	return string;
}

// Firecracker's --id, which its jailer takes, too, and passes on.
static void copy_id(const char *argument, const char *next, char *name, size_t size)
{
	if (!strncmp(argument, "--id=", strlen("--id=")))
		snprintf(name, size, "%s", argument + strlen("--id="));
	else if (next && !strcmp(argument, "--id"))
		snprintf(name, size, "%s", next);
}

bool proc_cmdline_guest_name(const char *cmdline, size_t size, char *name, size_t name_size)
{
	const char *end = cmdline + size;
	const char *argument, *next;
	bool named = false;

	name[0] = '\0';
	for (argument = next_string(&cmdline, end); argument; argument = next) {
		next = next_string(&cmdline, end);
		if (next && (!strcmp(argument, "-name") || !strcmp(argument, "--name"))) {
			copy_name(next, name, name_size);
			named = true;
		} else if (!named) {
			copy_id(argument, next, name, name_size);
		}
	}
	return name[0] != '\0';
}

// START-END PERMISSIONS OFFSET DEVICE INODE PATH
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path, size_t path_size)
{
	const size_t suffix = strlen(DELETED), name_length = strlen(name);
	char permissions[5];
	size_t length;
	int start = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &mapping->start, &mapping->end, permissions,
		   &start) != 3 ||
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

// PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS ... The process chooses NAME, but no later field has a bracket.
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

	return line && sscanf(line, "\nUid: %u %u %u %u", &uids[0], &uids[1], &uids[2], &uids[3]) == PROC_UIDS;
}

// Documentation/filesystems/proc.rst: 2 is SECCOMP_MODE_FILTER.
bool proc_status_is_filtered(const char *status)
{
	const char *line = strstr(status, "\nSeccomp:");
	int mode;

	return line && sscanf(line, "\nSeccomp: %d", &mode) == 1 && mode == 2;
}

pid_t proc_fdinfo_pid(const char *line)
{
	int pid;

	return sscanf(line, "Pid: %d", &pid) == 1 ? pid : 0;
}
