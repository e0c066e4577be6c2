// SPDX-License-Identifier: MIT
#include "xsaveshim/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VALUES_MAX 4

// The names of each setting.
static const struct {
	const char *key, *option, *json_key, *accepted;
} names[SETTINGS] = {
	[SETTING_TRIM] = {"XSAVESHIM_TRIM", "trim", "trim", "restore,save,both,none"},
	[SETTING_REFUSED] = {"XSAVESHIM_REFUSED", "refused", "refused", "report,abort"},
	[SETTING_LOG] = {"XSAVESHIM_LOG", "log", "log", "stderr,syslog,none,/absolute/path"},
	[SETTING_LOG_LEVEL] = {"XSAVESHIM_LOG_LEVEL", "log-level", "log_level",
			       "notice,error,debug"},
};

// The values of each setting, in the order of its enum.
static const char *const values[SETTINGS][VALUES_MAX] = {
	[SETTING_TRIM] = {"restore", "save", "both", "none"},
	[SETTING_REFUSED] = {"report", "abort"},
	[SETTING_LOG] = {"stderr", "syslog", "none", "/absolute/path"},
	[SETTING_LOG_LEVEL] = {"notice", "error", "debug"},
};

const char *settings_key(enum setting setting)
{
	return names[setting].key;
}

const char *settings_option(enum setting setting)
{
	return names[setting].option;
}

const char *settings_json_key(enum setting setting)
{
	return names[setting].json_key;
}

const char *settings_accepted(enum setting setting)
{
	return names[setting].accepted;
}

const char *settings_text(const struct settings *settings, enum setting setting)
{
	if (setting == SETTING_LOG && settings->log == LOG_PATH)
		return settings->log_path;
	return values[setting][settings->values[setting]];
}

void settings_init(struct settings *settings)
{
	memset(settings->values, 0, sizeof(settings->values));
	settings->log_path[0] = '\0';
	settings->problems = 0;
}

bool settings_set_number(struct settings *settings, enum setting setting, unsigned int number)
{
	if (number >= VALUES_MAX || !values[setting][number])
		return false;
	settings->values[setting] = number;
	return true;
}

bool settings_set(struct settings *settings, enum setting setting, const char *value)
{
	if (setting == SETTING_LOG && value[0] == '/') {
		if (strlen(value) >= sizeof(settings->log_path))
			return false;
		strcpy(settings->log_path, value);
		settings->log = LOG_PATH;
		return true;
	}
	for (unsigned int i = 0; i < VALUES_MAX && values[setting][i]; i++)
		if (!strcmp(value, values[setting][i]))
			return settings_set_number(settings, setting, i);
	return false;
}

static void copy_cut(char *to, size_t size, const char *from)
{
	if (!memccpy(to, from, '\0', size))
		to[size - 1] = '\0';
}

// Counts a problem. Returns NULL if no more problems are kept.
static struct settings_problem *
add_problem(struct settings *settings, const char *key, const char *value, const char *source,
	    unsigned int line)
{
	unsigned int i = settings->problems++;
	struct settings_problem *problem;

	if (i >= sizeof(settings->problem) / sizeof(settings->problem[0]))
		return NULL;
	problem = &settings->problem[i];
	*problem = (struct settings_problem){.source = source, .line = line};
	copy_cut(problem->key, sizeof(problem->key), key);
	copy_cut(problem->value, sizeof(problem->value), value);
	return problem;
}

static void set_or_note(struct settings *settings, enum setting setting, const char *value,
			const char *source, unsigned int line)
{
	struct settings_problem *problem;

	if (settings_set(settings, setting, value))
		return;
	settings->values[setting] = 0;
	problem = add_problem(settings, settings_key(setting), value, source, line);
	if (!problem)
		return;
	problem->accepted = settings_accepted(setting);
	problem->used = settings_text(settings, setting);
}

// Cuts the white space off the end of a text and returns its first character that is none.
static char *trim_space(char *text)
{
	char *end = text + strlen(text);

	while (end > text && strchr(" \t\r", end[-1]))
		end--;
	*end = '\0';
	return text + strspn(text, " \t\r");
}

static void apply_line(struct settings *settings, char *line, const char *source,
		       unsigned int number)
{
	char *key = trim_space(line);
	char *value = strchr(key, '=');
	enum setting setting = 0;

	if (key[0] == '\0' || key[0] == '#')
		return;
	if (value)
		*value++ = '\0';
	key = trim_space(key);
	value = value ? trim_space(value) : key + strlen(key);
	while (setting < SETTINGS && strcmp(key, settings_key(setting)))
		setting++;
	if (setting < SETTINGS)
		set_or_note(settings, setting, value, source, number);
	else
		add_problem(settings, key, value, source, number);
}

void settings_apply_file(struct settings *settings, const char *text, size_t size,
			 const char *source)
{
	char line[PATH_MAX + 64];
	const char *end = text + size;

	for (unsigned int number = 1; text < end; number++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((newline ? newline : end) - text);

		if (length < sizeof(line)) {
			memcpy(line, text, length);
			line[length] = '\0';
			apply_line(settings, line, source, number);
		} else {
			add_problem(settings, "line", "too long", source, number);
		}
		text += length + 1;
	}
}

void settings_apply_environment(struct settings *settings,
				const char *(*lookup)(const char *key, void *context),
				void *context)
{
	for (enum setting setting = 0; setting < SETTINGS; setting++) {
		const char *value = lookup(settings_key(setting), context);

		if (value)
			set_or_note(settings, setting, value, "environment", 0);
	}
}

void settings_load_file(struct settings *settings, const char *file)
{
	char text[SETTINGS_FILE_MAX + 1];
	size_t size = 0;
	ssize_t got = 0;
	int error;
	// O_NONBLOCK: the open of a FIFO would wait for a writer and hold up the VMM's start.
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		if (errno != ENOENT)
			add_problem(settings, "file", strerror(errno), file, 0);
		return;
	}
	while (size < sizeof(text) && (got = read(fd, text + size, sizeof(text) - size)) > 0)
		size += (size_t)got;
	error = got < 0 ? errno : 0;
	close(fd);
	if (error)
		add_problem(settings, "file", strerror(error), file, 0);
	else if (size > SETTINGS_FILE_MAX)
		add_problem(settings, "file", "too large", file, 0);
	else
		settings_apply_file(settings, text, size, file);
}

static const char *own_environment(const char *key, void *context)
{
	(void)context;
	return secure_getenv(key);
}

void settings_load(struct settings *settings)
{
	settings_init(settings);
	settings_load_file(settings, SETTINGS_FILE);
	settings_apply_environment(settings, own_environment, NULL);
}
