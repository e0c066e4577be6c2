// SPDX-License-Identifier: MIT
// The subcommands of the xsaveshim command. Each function here runs one subcommand and returns the
// exit status. Before main() calls the function, main() sets argv[0] to "xsaveshim SUBCOMMAND".
// err() and warnx() begin their messages with the same name.
#ifndef XSAVESHIM_COMMAND_H
#define XSAVESHIM_COMMAND_H

int run_main(int argc, char **argv);
int probe_main(int argc, char **argv);
int pair_main(int argc, char **argv);
int status_main(int argc, char **argv);
int metrics_main(int argc, char **argv);
int settings_main(int argc, char **argv);
int host_main(int argc, char **argv);

#endif
