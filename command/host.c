// SPDX-License-Identifier: MIT
// xsaveshim host: executes the helper that is installed with the package xsaveshim-host, so that
// this command works without libbpf.
#include <err.h>
#include <errno.h>

#include "command.h"
#include "host_helper.h"

int host_main(int argc, char **argv)
{
	(void)argc;
	host_helper_execute(argv);
	if (errno != ENOENT)
		err(1, HOST_HELPER);
	errx(1, "install the package xsaveshim-host, which brings this subcommand");
}
