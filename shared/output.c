// SPDX-License-Identifier: MIT
#include "shared/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <time.h>

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

json_t *output_mask(uint64_t mask)
{
	return json_sprintf("0x%" PRIx64, mask);
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
