// SPDX-License-Identifier: MIT
// Tests settings.h, which reads xsaveshim's settings from the settings file and the environment.
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "xsaveshim/settings.h"

static void settings_defaults(void)
{
	struct settings settings;

	memset(&settings, 0xff, sizeof(settings));
	settings_init(&settings);
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
	same_text("refused", settings_text(&settings, SETTING_REFUSED), "abort");
	same_text("log", settings_text(&settings, SETTING_LOG), "stderr");
	same_text("log level", settings_text(&settings, SETTING_LOG_LEVEL), "notice");
	same("problems", settings.problems, 0);
}

static void settings_values(void)
{
	static const struct {
		enum setting setting;
		const char *text;
		unsigned int value;
	} rows[] = {
		{SETTING_TRIM, "restore", TRIM_RESTORE},
		{SETTING_TRIM, "save", TRIM_SAVE},
		{SETTING_TRIM, "both", TRIM_BOTH},
		{SETTING_TRIM, "none", TRIM_NONE},
		{SETTING_REFUSED, "report", REFUSED_REPORT},
		{SETTING_REFUSED, "abort", REFUSED_ABORT},
		{SETTING_LOG, "stderr", LOG_STDERR},
		{SETTING_LOG, "syslog", LOG_SYSLOG},
		{SETTING_LOG, "none", LOG_NONE},
		{SETTING_LOG, "/a/path", LOG_PATH},
		{SETTING_LOG_LEVEL, "notice", LOG_LEVEL_NOTICE},
		{SETTING_LOG_LEVEL, "error", LOG_LEVEL_ERROR},
		{SETTING_LOG_LEVEL, "debug", LOG_LEVEL_DEBUG},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct settings settings = settings_with(rows[i].setting, rows[i].text);

		same(rows[i].text, settings.values[rows[i].setting], rows[i].value);
		same_text("as text", settings_text(&settings, rows[i].setting), rows[i].text);
	}
}

static void settings_fields(void)
{
	struct settings settings;

	settings_init(&settings);
	settings.trim = TRIM_NONE;
	settings.refused = REFUSED_REPORT;
	settings.log = LOG_SYSLOG;
	settings.log_level = LOG_LEVEL_DEBUG;
	same("trim", settings.values[SETTING_TRIM], TRIM_NONE);
	same("refused", settings.values[SETTING_REFUSED], REFUSED_REPORT);
	same("log", settings.values[SETTING_LOG], LOG_SYSLOG);
	same("log level", settings.values[SETTING_LOG_LEVEL], LOG_LEVEL_DEBUG);
}

static const char keys[] = "XSAVESHIM_TRIM,XSAVESHIM_REFUSED,XSAVESHIM_LOG,XSAVESHIM_LOG_LEVEL";

// XSAVESHIM_LOG_LEVEL, for example, must have the option log-level and the JSON key log_level.
static void settings_names(void)
{
	size_t length = 0;

	for (enum setting setting = 0; setting < SETTINGS; setting++) {
		char text[2][40] = {"", ""};
		const char *name = settings_key(setting) + strlen("XSAVESHIM_");

		for (size_t i = 0; name[i]; i++) {
			text[0][i] = name[i] == '_' ? '-' : (char)(name[i] | 0x20);
			text[1][i] = name[i] == '_' ? '_' : (char)(name[i] | 0x20);
		}
		same_text("option", settings_option(setting), text[0]);
		same_text("JSON key", settings_json_key(setting), text[1]);
		length += strlen(settings_key(setting)) + 1;
		same("key is in list", strstr(settings_keys, settings_key(setting)) != NULL, true);
	}
	same("length of the list of keys", strlen(settings_keys) + 1, length);
}

static void settings_refuse(void)
{
	static const char *const bad[] = {
		"", "Restore", "restore ", "restor", "restoree", "relative/path", "0"};
	struct settings settings;

	settings_init(&settings);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		for (size_t i = 0; i < COUNT(bad); i++)
			same(bad[i], settings_set(&settings, setting, bad[i]), false);
	same("TRIM accepts a path", settings_set(&settings, SETTING_TRIM, "/path"), false);
}

static void settings_longest_path(void)
{
	struct settings settings;
	char path[PATH_MAX + 1];

	settings_init(&settings);
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[PATH_MAX] = '\0';
	same("4096 characters", settings_set(&settings, SETTING_LOG, path), false);
	same("log", settings.log, LOG_STDERR);
	path[PATH_MAX - 1] = '\0';
	same("4095 characters", settings_set(&settings, SETTING_LOG, path), true);
	same_text("path", settings_text(&settings, SETTING_LOG), path);
}

static struct settings settings_from(const char *text)
{
	struct settings settings;

	settings_init(&settings);
	settings_apply_file(&settings, text, strlen(text), "file");
	return settings;
}

static void file_lines(void)
{
	struct settings settings =
		settings_from("# a comment\n\n  \t\n\tXSAVESHIM_TRIM = both \r\n  # another\n"
			      "XSAVESHIM_LOG=/var/log/a=b c");

	same("problems", settings.problems, 0);
	same_text("trim", settings_text(&settings, SETTING_TRIM), "both");
	same_text("log", settings_text(&settings, SETTING_LOG), "/var/log/a=b c");
}

static void file_last_line_wins(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=both\nXSAVESHIM_TRIM=save\n");

	same_text("trim", settings_text(&settings, SETTING_TRIM), "save");
	settings = settings_from("XSAVESHIM_TRIM=both\nXSAVESHIM_TRIM=nonsense\n");
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
}

static void same_problem(const struct settings *settings, unsigned int i,
			 struct settings_problem expected)
{
	const struct settings_problem *got = &settings->problem[i];

	same_text("key", got->key, expected.key);
	same_text("value", got->value, expected.value);
	same_text("source", got->source, expected.source);
	same("line", got->line, expected.line);
	same_text("accepted", got->accepted ? got->accepted : "none", expected.accepted);
	same_text("used", got->used ? got->used : "nothing", expected.used);
}

static void file_problems(void)
{
	struct settings settings =
		settings_from("XSAVESHIM_TRIM=some\n\nXSAVESHIM_TRIMM=both\nXSAVESHIM_LOG\n=\n");

	same("problems", settings.problems, 4);
	same_problem(&settings, 0,
		     (struct settings_problem){"XSAVESHIM_TRIM", "some", "file", 1,
					       "restore,save,both,none", "restore"});
	same_problem(
		&settings, 1,
		(struct settings_problem){"XSAVESHIM_TRIMM", "both", "file", 3, keys, "nothing"});
	same_problem(
		&settings, 2,
		(struct settings_problem){"line", "no KEY=value", "file", 4, "none", "nothing"});
	same_problem(&settings, 3, (struct settings_problem){"", "", "file", 5, keys, "nothing"});
}

// After a crash of the host, a settings file can end with NUL bytes, or can have only NUL bytes.
static void file_zero_bytes(void)
{
	static const char text[] = "XSAVESHIM_TRIM=both\n\0\0\0";
	struct settings settings;

	for (size_t i = 0; i < 2; i++) {
		settings_init(&settings);
		settings_apply_file(&settings, text + i * 20, sizeof(text) - 1 - i * 20, "file");
		same("problems", settings.problems, 1);
		same_problem(&settings, 0,
			     (struct settings_problem){"file", "has zero bytes", "file", 0, "none",
						       "nothing"});
		same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
	}
}

static void file_hostile(void)
{
	static char text[SETTINGS_FILE_MAX];
	struct settings settings;

	memset(text, 'a', sizeof(text));
	settings_init(&settings);
	settings_apply_file(&settings, text, sizeof(text), "file");
	same("problems, line of 16 KiB", settings.problems, 1);
	same_text("key", settings.problem[0].key, "line");
	same_text("value", settings.problem[0].value, "too long");

	memset(text, '=', 4000);
	settings_init(&settings);
	settings_apply_file(&settings, text, 4000, "file");
	same("problems, line of equals signs", settings.problems, 1);
	same("cut value", strlen(settings.problem[0].value), sizeof(settings.problem[0].value) - 1);

	memset(text, 'k', 4000);
	text[3999] = '=';
	settings_init(&settings);
	settings_apply_file(&settings, text, 4000, "file");
	same("cut key", strlen(settings.problem[0].key), sizeof(settings.problem[0].key) - 1);
}

static void file_line_lengths(void)
{
	static char text[PATH_MAX + 128];

	memset(text, 'a', sizeof(text));
	for (size_t length = PATH_MAX; length <= sizeof(text); length++) {
		struct settings settings;

		settings_init(&settings);
		settings_apply_file(&settings, text, length, "file");
		same("problems", settings.problems, 1);
	}
}

static void environment_over_file(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=both\nXSAVESHIM_REFUSED=report\n");
	char trim[] = "XSAVESHIM_TRIM=save", other[] = "TRIM=none", again[] = "XSAVESHIM_TRIM=none";
	char *const environment[] = {other, trim, again, NULL};

	settings_apply_environment(&settings, environment);
	same("problems", settings.problems, 0);
	same_text("trim", settings_text(&settings, SETTING_TRIM), "save");
	same_text("refused", settings_text(&settings, SETTING_REFUSED), "report");
}

static void environment_problems(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=both\n");
	char empty[] = "XSAVESHIM_TRIM=", unknown[] = "XSAVESHIM_MODE=both",
	     without_value[] = "XSAVESHIM_LOG";
	char *const environment[] = {empty, unknown, without_value, NULL};

	settings_apply_environment(&settings, environment);
	same("problems", settings.problems, 2);
	same_problem(&settings, 0,
		     (struct settings_problem){"XSAVESHIM_MODE", "both", "environment", 0, keys,
					       "nothing"});
	same_problem(&settings, 1,
		     (struct settings_problem){"XSAVESHIM_TRIM", "", "environment", 0,
					       "restore,save,both,none", "restore"});
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
}

static void environment_long_key(void)
{
	static char variable[4096] = "XSAVESHIM_";
	char *const environment[] = {variable, NULL};
	struct settings settings;

	memset(variable + strlen(variable), 'K', sizeof(variable) - 20);
	strcat(variable, "=value");
	settings_init(&settings);
	settings_apply_environment(&settings, environment);
	same("problems", settings.problems, 1);
	same("cut key", strlen(settings.problem[0].key), sizeof(settings.problem[0].key) - 1);
	settings_apply_environment(&settings, NULL);
	same("problems, environment NULL", settings.problems, 1);
}

static void write_file(const char *path, const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, text, size) == (ssize_t)size && !close(fd), path);
}

static void load_everything(void)
{
	static const char text[] = "XSAVESHIM_TRIM=both\nXSAVESHIM_REFUSED=report\n";
	static struct settings settings;

	hide("/etc");
	write_file("/etc/xsaveshim.conf", text, strlen(text));
	clearenv();
	must(!setenv("XSAVESHIM_TRIM", "none", 1), "setenv");
	settings_load(&settings);
	same_text("from the environment", settings_text(&settings, SETTING_TRIM), "none");
	same_text("from the file", settings_text(&settings, SETTING_REFUSED), "report");
	same_text("from neither", settings_text(&settings, SETTING_LOG), "stderr");
	same("problems", settings.problems, 0);
}

static void load_no_file(void)
{
	static struct settings settings;

	hide("/etc");
	clearenv();
	settings_load(&settings);
	same("problems", settings.problems, 0);
	must(!mkdir("/etc/xsaveshim.conf", 0700), "mkdir");
	settings_load(&settings);
	same("problems, the file is a directory", settings.problems, 1);
	same_text("value", settings.problem[0].value, "Is a directory");
}

static void load_size_limit(void)
{
	static char text[SETTINGS_FILE_MAX + 1];
	static struct settings settings;

	hide(SCRATCH);
	memset(text, '\n', sizeof(text));
	settings_init(&settings);
	write_file(SCRATCH "/conf", text, SETTINGS_FILE_MAX);
	settings_load_file(&settings, SCRATCH "/conf");
	same("problems, file of 16384 bytes", settings.problems, 0);
	memcpy(text, "XSAVESHIM_TRIM=both", 19);
	write_file(SCRATCH "/conf", text, SETTINGS_FILE_MAX + 1);
	settings_load_file(&settings, SCRATCH "/conf");
	same("problems, file of 16385 bytes", settings.problems, 1);
	same_text("value", settings.problem[0].value, "too large");
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
}

static void load_fifo(void)
{
	static struct settings settings;

	hide(SCRATCH);
	must(!mkfifo(SCRATCH "/conf", 0600), "mkfifo");
	settings_init(&settings);
	// If settings_load_file() hangs, the time-out of the test suite ends this test case.
	settings_load_file(&settings, SCRATCH "/conf");
	same("problems", settings.problems, 0);
}

const struct test_case settings_cases[] = {
	{"the defaults are XSAVESHIM_TRIM=restore, XSAVESHIM_REFUSED=abort, XSAVESHIM_LOG=stderr and XSAVESHIM_LOG_LEVEL=notice",
	 settings_defaults},
	{"each setting accepts all of its values; for example, XSAVESHIM_TRIM accepts restore, save, both and none",
	 settings_values},
	{"in struct settings, each setting's field, such as trim, shares its memory with the setting's element in the array named values",
	 settings_fields},
	{"each setting's option and JSON key derive from its environment variable: XSAVESHIM_LOG_LEVEL has --log-level and log_level",
	 settings_names},
	{"xsaveshim refuses an empty or misspelt value of a setting, for example Restore instead of restore",
	 settings_refuse},
	{"xsaveshim accepts a log path of 4095 characters, and refuses a path of 4096",
	 settings_longest_path},
	{"a settings file may have comments, white space around names and values, and equals signs in values",
	 file_lines},
	{"if a settings file has two lines for one setting, xsaveshim uses the last line",
	 file_last_line_wins},
	{"for each bad line of a settings file, xsaveshim records one problem and the line's number",
	 file_problems},
	{"if a settings file contains a NUL byte, xsaveshim records one problem and uses nothing from the file",
	 file_zero_bytes},
	{"if a settings file is one very long bad line, xsaveshim records one problem, and only the start of a long key or value",
	 file_hostile},
	{"a bad line of a settings file counts as one problem, whether or not the line fits into xsaveshim's line buffer",
	 file_line_lengths},
	{"if the environment and the settings file have different values for a setting, xsaveshim uses the environment's value",
	 environment_over_file},
	{"if the environment has a bad value and an unknown XSAVESHIM_ variable, xsaveshim records two problems, and uses the default instead of the bad value",
	 environment_problems},
	{"if an unknown XSAVESHIM_ variable in the environment has a very long name, xsaveshim records the problem with a shortened name",
	 environment_long_key},
	{"xsaveshim takes each setting from the environment, or else from the settings file, or else from the defaults",
	 load_everything},
	{"if /etc/xsaveshim.conf is missing, xsaveshim records no problem; if /etc/xsaveshim.conf is a directory, xsaveshim records one problem",
	 load_no_file},
	{"if a settings file is larger than 16 KiB, xsaveshim records one problem and uses nothing from the file",
	 load_size_limit},
	{"if the settings file is a FIFO, xsaveshim does not wait until a process opens the FIFO for writing",
	 load_fifo},
	{NULL, NULL},
};
