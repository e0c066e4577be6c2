// SPDX-License-Identifier: MIT
// The subcommands of the xsaveshim command. Each function runs one subcommand and returns its exit
// status. main() sets argv[0], and the name with which the messages of err() and warnx() begin, to
// "xsaveshim SUBCOMMAND".
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
