// SPDX-License-Identifier: MIT
// What all the JSON that xsaveshim prints has in common, and text that is safe for a terminal.
#ifndef XSAVESHIM_OUTPUT_H
#define XSAVESHIM_OUTPUT_H

#include <limits.h>
#include <stdint.h>

#include <jansson.h>

// Increase it if a key vanishes or changes its meaning, in any JSON that xsaveshim prints.
#define OUTPUT_FORMAT_VERSION 1

// Returns an object with the keys that all JSON begins with: format_version, version, time, host.
json_t *output_head(void);

// Prints an object and releases it.
void output_print(json_t *json);

// Returns a string. A byte of a text that is not UTF-8 becomes a question mark.
json_t *output_text(const char *text);

// Returns an object with the mask of xfeatures and their names.
json_t *output_xfeatures(uint64_t xfeatures);

struct clean_text {
	char text[PATH_MAX];
};

// Makes a text safe for a terminal: any byte that is not printable ASCII becomes a question mark.
struct clean_text clean(const char *text);

#endif
