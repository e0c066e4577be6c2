// SPDX-License-Identifier: MIT
#include "command.h"

#include <getopt.h>
#include <stdio.h>

int json_option(int argc, char **argv, const char *help, bool *json)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	int option;

	*json = false;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) == 'j')
		*json = true;
	if (option == 'h') {
		fputs(help, stdout);
		return 0;
	}
	if (option != -1 || optind != argc) {
		fprintf(stderr, "usage: %s [--json]\n", argv[0]);
		return 2;
	}
	return -1;
}
