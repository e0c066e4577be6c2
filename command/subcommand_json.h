// SPDX-License-Identifier: MIT
// Runs a subcommand in a child process, and reads the JSON that the subcommand prints. Not
// thread-safe.
#ifndef XSAVESHIM_SUBCOMMAND_JSON_H
#define XSAVESHIM_SUBCOMMAND_JSON_H

#include <jansson.h>

// Returns the JSON that the subcommand prints, or NULL on failure. The last element of argv must be
// NULL. The function discards the subcommand's error messages, and ignores the subcommand's exit
// status.
json_t *subcommand_json(int (*subcommand)(int argc, char **argv), char **argv);

#endif
