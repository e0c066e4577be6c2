// SPDX-License-Identifier: MIT
// The xsaveshim command: calls the subcommand that the command line names.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} subcommands[] = {
	{"run", run_main}, {"probe", probe_main}, {"status", status_main}, {"host", host_main}};

static const char help[] =
	"usage: xsaveshim run [OPTION]... [--] VMM [ARGUMENT]...\n"
	"       xsaveshim probe [--json]\n"
	"       xsaveshim status [--json]\n"
	"       xsaveshim host enable|disable|status|watch\n"
	"       xsaveshim --help | --version\n"
	"\n"
	"Lets unmodified VMMs restore guests that a leaky KVM host saved.\n"
	"\n"
	"  run     start a VMM and trim what it restores to what its guest has\n"
	"  probe   ask this host's KVM whether it refuses such guests or leaks xfeatures\n"
	"  status  list the running VMMs and whether xsaveshim protects them\n"
	"  host    protect every VMM of this host, running ones too, in its kernel\n"
	"\n"
	"Each subcommand has its own --help. The manual is xsaveshim(1).\n";

int main(int argc, char **argv)
{
	static char title[32];
	const char *word = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
		if (!strcmp(word, subcommands[i].name)) {
			snprintf(title, sizeof(title), "xsaveshim %s", word);
			argv[1] = title;
			program_invocation_short_name = title;
			return subcommands[i].main(argc - 1, argv + 1);
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
		fprintf(stderr,
			"xsaveshim: unknown command '%s': use run, probe, status, host, --help or --version\n",
			word);
	else
		fputs(help, stderr);
	return 2;
}
