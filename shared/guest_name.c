// SPDX-License-Identifier: MIT
#include "shared/guest_name.h"

#include <stdio.h>
#include <string.h>

// Copies one value from the argument of a QEMU option, up to the comma that ends the value. Inside
// the value, two commas stand for one comma. Returns a pointer to the text after the value.
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

// Copies the guest's name from the argument of QEMU's option -name, such as "NAME",
// "NAME,process=P" or "debug-threads=on,guest=NAME".
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

// Returns the string at *at, and moves *at to the next string. Returns NULL if the string has no
// zero byte before end.
static const char *next_string(const char **at, const char *end)
{
	const char *string = *at;
	const char *zero = string < end ? memchr(string, '\0', (size_t)(end - string)) : NULL;

	if (!zero)
		return NULL;
	*at = zero + 1;
	return string;
}

// Copies the guest's name from the option --id of Firecracker or of Firecracker's jailer. The
// jailer passes its --id on to Firecracker.
static void copy_id(const char *argument, const char *next, char *name, size_t size)
{
	if (!strncmp(argument, "--id=", strlen("--id=")))
		snprintf(name, size, "%s", argument + strlen("--id="));
	else if (next && !strcmp(argument, "--id"))
		snprintf(name, size, "%s", next);
}

bool guest_name_from_cmdline(const char *cmdline, size_t size, char *name, size_t name_size)
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

// libvirt gives each QEMU that it starts a chardev named charmonitor, even if libvirt runs in a
// user session or in a container.
bool guest_is_libvirts(const char *cmdline, size_t size)
{
	static const char monitor[] = "socket,id=charmonitor,";
	const char *end = cmdline + size;
	const char *argument;

	while ((argument = next_string(&cmdline, end)))
		if (!strncmp(argument, monitor, strlen(monitor)))
			return true;
	return false;
}
