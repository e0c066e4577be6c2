// SPDX-License-Identifier: MIT
// The xsaveshim command: calls the subcommand that the command line names.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

static const struct subcommand {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *synopsis;
	const char *summary;
} subcommands[] = {
#ifndef WITHOUT_RUN // defined for the container image, whose xsaveshim has no subcommand `run`
	{"run", run_main, "[OPTION]... [--] VMM [ARGUMENT]...",
	 "start a VMM, and drop the xfeatures that a restored guest lacks"},
#endif
	{"probe", probe_main, "[--json]", "show which xfeatures this host's KVM leaks and refuses"},
	{"pair", pair_main, "[--matrix] [--json] HOST.json...",
	 "judge whether one host can load the guests that another host saves"},
	{"status", status_main, "[--json]",
	 "list the running VMMs and whether xsaveshim protects them"},
	{"metrics", metrics_main, "[--output=FILE]",
	 "print, for Prometheus, what probe, status and host status find"},
	{"settings", settings_main, "[--domain]",
	 "show the settings of a VMM started now, their sources, and errors"},
	{"host", host_main, "enable|disable|status|watch",
	 "protect all VMMs of this host, even running ones, by BPF programs"},
};

#define SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static void print_help(FILE *to)
{
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		fprintf(to, "%s xsaveshim %s%s%s\n", i ? "      " : "usage:", subcommands[i].name,
			*subcommands[i].synopsis ? " " : "", subcommands[i].synopsis);
	fputs("       xsaveshim --help | --version\n\n"
	      "Lets unmodified VMMs restore guests that a leaky KVM host saved.\n\n",
	      to);
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		fprintf(to, "  %-8s  %s\n", subcommands[i].name, subcommands[i].summary);
	fputs("\nEach subcommand has its own --help. The manual is xsaveshim(1).\n", to);
}

static void print_unknown(const char *word)
{
	fprintf(stderr, "xsaveshim: unknown command '%s': use ", word);
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		fprintf(stderr, "%s, ", subcommands[i].name);
	fputs("--help or --version\n", stderr);
}

int main(int argc, char **argv)
{
	static char title[32];
	const char *word = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < SUBCOMMANDS; i++) {
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
		print_help(stdout);
		return 0;
	}
	if (*word)
		print_unknown(word);
	else
		print_help(stderr);
	return 2;
}
