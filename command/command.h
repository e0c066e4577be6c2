// SPDX-License-Identifier: MIT
// The subcommands: each has a main of its own, whose result is the exit status. main() sets argv[0]
// and the name that err() and warnx() print to "xsaveshim SUBCOMMAND", so that every message begins
// with it.
#ifndef XSAVESHIM_COMMAND_H
#define XSAVESHIM_COMMAND_H

int run_main(int argc, char **argv);
int probe_main(int argc, char **argv);
int status_main(int argc, char **argv);
int host_main(int argc, char **argv);

#endif
