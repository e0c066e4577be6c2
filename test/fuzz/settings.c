// SPDX-License-Identifier: MIT
// Feeds arbitrary bytes to the functions that read settings from the settings file and from the
// environment (settings.h). Checks the resulting settings, and the log lines that report bad
// settings.
#include "fuzz.h"

#include "xsaveshim/settings.h"

static void check_settings(const struct settings *settings)
{
	for (enum setting setting = 0; setting < SETTINGS; setting++) {
		static struct settings again;

		MUST(settings_set(&again, setting, settings_text(settings, setting)));
		MUST(!strcmp(settings_text(&again, setting), settings_text(settings, setting)));
	}
}

static void check_problems(const struct settings *settings)
{
	struct log log = checked_log();

	report_settings(&log, settings);
	check_log();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings settings;
	struct input input = {data, size};
	char *text = take_rest(&input);
	char *variables[SETTINGS + 2] = {NULL};
	unsigned int count = 0;

	settings_init(&settings);
	settings_apply_file(&settings, text, size, "/etc/xsaveshim.conf");
	check_settings(&settings);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		MUST(asprintf(&variables[count++], "%s=%.*s", settings_key(setting), (int)size,
			      (const char *)data) >= 0);
	MUST(asprintf(&variables[count++], "XSAVESHIM_%.*s", (int)size, (const char *)data) >= 0);
	settings_apply_environment(&settings, variables);
	check_settings(&settings);
	check_problems(&settings);
	while (count)
		free(variables[--count]);
	free(text);
	return 0;
}
