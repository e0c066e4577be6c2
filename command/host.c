// SPDX-License-Identifier: MIT
// xsaveshim host: executes the helper that is installed with the package xsaveshim-host, so that this command works without libbpf.
#include "command.h"

#include <err.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HELPER "xsaveshim-host"

// Where the helper is, seen from this command: beside it in a build tree, or as they are installed.
static const char *const places[] = {HELPER, "../libexec/" HELPER};

int host_main(int argc, char **argv)
{
	char path[PATH_MAX + sizeof("../libexec/" HELPER)];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *name;

	(void)argc;
	if (length < 0)
		err(1, "/proc/self/exe");
	path[length] = '\0';
	name = strrchr(path, '/') + 1;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		strcpy(name, places[i]);
		execv(path, argv);
		if (errno != ENOENT)
			err(1, "%s", path);
	}
	errx(1, "install the package xsaveshim-host, which brings this subcommand");
}
