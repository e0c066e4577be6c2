// SPDX-License-Identifier: MIT
// The command's parts, each with a main of its own: argv[0] is what messages call it, "xsaveshim run", the result the exit
// status.
#ifndef XSAVESHIM_COMMAND_H
#define XSAVESHIM_COMMAND_H

#include <stdbool.h>

#include "xsaveshim/settings.h"

// What `run` itself could not do, as with env(1) and timeout(1); below 125 are the VMM's.
#define EXIT_OWN_FAILURE 125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

int run_main(int argc, char **argv);
int probe_main(int argc, char **argv);
int status_main(int argc, char **argv);

// The command line of a part that knows --json and --help alone. -1: go on, json says whether it was given; else the
// exit status, having said why.
int json_option(int argc, char **argv, const char *help, bool *json);

// How status tells a supervised VMM from /proc, and what the supervisor keeps for it: it holds the listener
// ("anon_inode:seccomp notify"), and of each process whose vCPUs it keeps track of a pidfd, whose fdinfo names the
// process ("Pid:"). Its settings are /etc/xsaveshim.conf, its environment and the options of its own command line,
// which stays that of `xsaveshim run ...`.

// Applies the settings that are among the options of a command line of `run`, from "run" on. What else there is, it
// leaves alone. Starts getopt anew.
void run_apply_options(struct settings *settings, int argc, char **argv);

#endif
