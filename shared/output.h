// SPDX-License-Identifier: MIT
// Makes and prints JSON, and makes text safe for a terminal.
#ifndef XSAVESHIM_OUTPUT_H
#define XSAVESHIM_OUTPUT_H

#include <limits.h>
#include <stdint.h>

#include <jansson.h>

// The version number of xsaveshim's JSON format. Increase OUTPUT_FORMAT_VERSION if a key vanishes
// or changes its meaning.
#define OUTPUT_FORMAT_VERSION 1

// Returns a JSON object with the keys format_version, version, time and host. All JSON that
// xsaveshim prints begins with these keys.
json_t *output_head(void);

// Prints a JSON object and frees the object.
void output_print(json_t *json);

// Returns a JSON string. If the text is not UTF-8, each byte that is not printable ASCII becomes a
// question mark.
json_t *output_text(const char *text);

// Returns a JSON object with the mask and the names of the xfeatures.
json_t *output_xfeatures(uint64_t xfeatures);

struct clean_text {
	char text[PATH_MAX];
};

// Makes a text safe for a terminal: replaces each byte that is not printable ASCII with a question
// mark.
struct clean_text clean(const char *text);

#endif
