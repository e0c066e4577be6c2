// SPDX-License-Identifier: MIT
// The options of the subcommands.
//
// These functions use getopt, so they are not thread-safe.
#ifndef XSAVESHIM_OPTIONS_H
#define XSAVESHIM_OPTIONS_H

#include <stdbool.h>

enum run_mode { RUN_AUTO, RUN_PRELOAD, RUN_SUPERVISE };

struct run_options {
	enum run_mode mode;
	bool trim; // --trim was given
};

// Parses the options of `run` and leaves optind at the VMM. An option that is a setting is put into
// this process's environment, from which settings_load, the library and the supervisor read it.
// Exits after --help and after an error.
struct run_options options_parse_run(int argc, char **argv);

// Parses the options of a subcommand that has --json and --help only. Returns -1 where the
// subcommand is to go on, else the exit status, having printed the help or the error.
int options_parse_json(int argc, char **argv, const char *help, bool *json);

#endif
