// SPDX-License-Identifier: MIT
#include "shared/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <time.h>

#include "xsaveshim/xstate.h"

json_t *output_head(void)
{
	time_t now = time(NULL);
	struct utsname host;
	struct tm utc;
	char text[32];

	uname(&host);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	return json_pack("{s:i, s:s, s:s, s:o}", "format_version", OUTPUT_FORMAT_VERSION, "version",
			 XSAVESHIM_VERSION, "time", text, "host", output_text(host.nodename));
}

void output_print(json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(json);
}

json_t *output_text(const char *text)
{
	json_t *json = json_string(text);

	return json ? json : json_string(clean(text).text);
}

json_t *output_xfeatures(uint64_t xfeatures)
{
	json_t *names = json_array();

	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(xfeatures >> bit & 1))
			continue;
		json_array_append_new(names, xfeature_name(bit) ? json_string(xfeature_name(bit))
								: json_sprintf("bit%u", bit));
	}
	return json_pack("{s:o, s:o}", "mask", json_sprintf("0x%" PRIx64, xfeatures), "names",
			 names);
}

struct clean_text clean(const char *text)
{
	struct clean_text clean;

	snprintf(clean.text, sizeof(clean.text), "%s", text);
	for (char *c = clean.text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return clean;
}
