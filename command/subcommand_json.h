// SPDX-License-Identifier: MIT
// Runs a subcommand in a child process. Not thread-safe.
#ifndef XSAVESHIM_SUBCOMMAND_JSON_H
#define XSAVESHIM_SUBCOMMAND_JSON_H

#include <jansson.h>

// Returns the JSON that the subcommand prints, or NULL. The last argument is NULL. The subcommand's
// messages are lost, and its exit status does not matter.
json_t *subcommand_json(int (*subcommand)(int argc, char **argv), char **argv);

#endif
