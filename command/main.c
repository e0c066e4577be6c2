// SPDX-License-Identifier: MIT
// The xsaveshim command: picks the part that is asked for.
#include <stdio.h>
#include <string.h>

#include "command.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} parts[] = {{"run", run_main}, {"probe", probe_main}, {"status", status_main}};

static const char help[] =
	"usage: xsaveshim run [OPTION]... [--] VMM [ARGUMENT]...\n"
	"       xsaveshim probe [--json]\n"
	"       xsaveshim status [--json]\n"
	"       xsaveshim --help | --version\n"
	"\n"
	"Lets unmodified VMMs restore guests that a leaky KVM host saved.\n"
	"\n"
	"  run     start a VMM so that what it restores is trimmed to what its guest has\n"
	"  probe   does KVM on this host refuse such guests, or save them?\n"
	"  status  which of the VMMs that are running here are protected?\n"
	"\n"
	"Each of them has a --help of its own; the manual is xsaveshim(1).\n";

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	char title[32];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (!strcmp(word, parts[i].name)) {
			snprintf(title, sizeof(title), "xsaveshim %s", word);
			argv[1] = title;
			return parts[i].main(argc - 1, argv + 1);
		}
	}
	if (!strcmp(word, "--version")) {
		puts("xsaveshim " XSAVESHIM_VERSION);
		return 0;
	}
	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		fputs(help, stdout);
		return 0;
	}
	if (*word)
		fprintf(stderr, "xsaveshim: unknown command '%s': there are run, probe, status, --help, --version\n", word);
	else
		fputs(help, stderr);
	return 2;
}
