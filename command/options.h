// SPDX-License-Identifier: MIT
// Parses the options of the subcommands. The functions are not thread-safe, because they use
// getopt_long.
#ifndef XSAVESHIM_OPTIONS_H
#define XSAVESHIM_OPTIONS_H

#include <stdbool.h>

struct run_options {
	bool supervise;
	bool trim; // the command line has --trim
};

// Parses the options of `xsaveshim run`. After the call, argv[optind] names the VMM. Puts each
// setting of the command line into the environment, from which settings_load() and the library read
// the settings. Ends the program if the command line has --help or an error.
struct run_options options_parse_run(int argc, char **argv);

// Parses the options --json, --help and, if check is not NULL, --check. If the command line has
// --help or an error, prints the help or the error, and returns the subcommand's exit status.
// Otherwise returns -1.
int options_parse_output(int argc, char **argv, const char *help, bool *json, bool *check);

#endif
