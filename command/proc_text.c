// SPDX-License-Identifier: MIT
#include "proc_text.h"

#include <stdio.h>
#include <string.h>

#define LIBRARY "libxsaveshim.so"
#define DELETED " (deleted)"
// PF_KTHREAD in include/linux/sched.h, part of the flags in /proc/PID/stat.
#define KERNEL_THREAD 0x00200000u

// Copies an option's value. A comma ends it; two commas stand for one. Returns where the next option begins.
static const char *copy_value(const char *value, char *copy, size_t size)
{
	size_t used = 0;

	for (; *value; value++) {
		if (*value == ',' && *++value != ',')
			break;
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

bool proc_cmdline_guest_name(const char *cmdline, size_t size, char *name, size_t name_size)
{
	const char *end = cmdline + size;
	const char *argument;

	name[0] = '\0';
	while ((argument = next_string(&cmdline, end))) {
		if (strcmp(argument, "-name") && strcmp(argument, "--name"))
			continue;
		argument = next_string(&cmdline, end);
		if (argument)
			copy_name(argument, name, name_size);
	}
	return name[0] != '\0';
}

const char *proc_environ_value(const char *environment, size_t size, const char *key)
{
	const char *end = environment + size;
	size_t length = strlen(key);
	const char *string;

	while ((string = next_string(&environment, end)))
		if (!strncmp(string, key, length) && string[length] == '=')
			return string + length + 1;
	return NULL;
}

// ADDRESSES PERMISSIONS OFFSET DEVICE INODE PATH
bool proc_maps_shim(const char *line, char *path, size_t path_size, bool *replaced)
{
	const size_t name = strlen("/" LIBRARY), suffix = strlen(DELETED);
	int start = 0;
	size_t length;
	bool deleted;

	sscanf(line, "%*s %*s %*s %*s %*s %n", &start);
	line += start;
	length = strcspn(line, "\n");
	deleted = length > suffix && !strncmp(line + length - suffix, DELETED, suffix);
	if (deleted)
		length -= suffix;
	if (!start || length < name || strncmp(line + length - name, "/" LIBRARY, name))
		return false;
	snprintf(path, path_size, "%.*s", (int)length, line);
	*replaced = deleted;
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

uid_t proc_status_uid(const char *status)
{
	const char *line = strstr(status, "\nUid:");
	unsigned int uid;

	return line && sscanf(line, "\nUid: %*u %u", &uid) == 1 ? uid : (uid_t)-1;
}

pid_t proc_fdinfo_pid(const char *line)
{
	int pid;

	return sscanf(line, "Pid: %d", &pid) == 1 ? pid : 0;
}
