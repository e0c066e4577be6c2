// SPDX-License-Identifier: MIT
// A settings file and an environment that hold any bytes, and the lines that report their problems.
#include "fuzz.h"

#include "xsaveshim/settings.h"

static const char *always(const char *key, void *context)
{
	(void)key;
	return context;
}

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
	char *value = strndup((const char *)data, size);

	MUST(value);
	settings_init(&settings);
	settings_apply_file(&settings, text, size, "/etc/xsaveshim.conf");
	check_settings(&settings);
	settings_apply_environment(&settings, always, value);
	check_settings(&settings);
	check_problems(&settings);
	free(value);
	free(text);
	return 0;
}
