// SPDX-License-Identifier: MIT
// A settings file, and variables of an environment, with anything in them; and the lines that complain of them.
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
		MUST(again.value[setting] == settings->value[setting]);
	}
}

// What report_open logs of the problems, without the file that the settings name.
static void check_problems(struct settings *settings)
{
	struct report_log log = {.fd = -1};

	MUST(settings_set(settings, SETTING_LOG, "stderr"));
	MUST(dup2(checked_log().fd, STDERR_FILENO) == STDERR_FILENO);
	report_open(&log, settings);
	check_log();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings settings;
	static int real_stderr;
	struct input input = {data, size};
	char *text = take_rest(&input);
	char *value = strndup((const char *)data, size);

	MUST(value);
	settings_init(&settings);
	settings_apply_file(&settings, text, size, "/etc/xsaveshim.conf");
	check_settings(&settings);
	settings_apply_environment(&settings, always, value);
	check_settings(&settings);
	if (!real_stderr)
		real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
	check_problems(&settings);
	dup2(real_stderr, STDERR_FILENO);
	free(value);
	free(text);
	return 0;
}
