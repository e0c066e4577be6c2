// SPDX-License-Identifier: MIT
// xsaveshim host: executes the helper program, which the package xsaveshim-host installs. The
// helper is a separate program, so that the xsaveshim command does not need libbpf.
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
	errx(1, "this subcommand needs the package xsaveshim-host: install it");
}
