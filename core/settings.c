// SPDX-License-Identifier: MIT
#include "xsaveshim/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define VALUES_MAX 4
#define PREFIX "XSAVESHIM_"

// For each setting: its three names, and the texts of its values. A text's index in values[] is the
// value's number in the setting's enum, such as enum trim.
static const struct {
	const char *key;
	const char *option;
	const char *json_key;
	const char *accepted;
	const char *values[VALUES_MAX];
} settings_table[SETTINGS] = {
	[SETTING_TRIM] = {"XSAVESHIM_TRIM",
			  "trim",
			  "trim",
			  "restore,save,both,none",
			  {"restore", "save", "both", "none"}},
	[SETTING_REFUSED] =
		{"XSAVESHIM_REFUSED", "refused", "refused", "abort,report", {"abort", "report"}},
	[SETTING_LOG] = {"XSAVESHIM_LOG",
			 "log",
			 "log",
			 "stderr,syslog,none,/absolute/path",
			 {"stderr", "syslog", "none", "/absolute/path"}},
	[SETTING_LOG_LEVEL] = {"XSAVESHIM_LOG_LEVEL",
			       "log-level",
			       "log_level",
			       "notice,error,debug",
			       {"notice", "error", "debug"}},
};

const char settings_keys[] = "XSAVESHIM_TRIM,XSAVESHIM_REFUSED,XSAVESHIM_LOG,XSAVESHIM_LOG_LEVEL";

const char *settings_key(enum setting setting)
{
	return settings_table[setting].key;
}

const char *settings_option(enum setting setting)
{
	return settings_table[setting].option;
}

const char *settings_json_key(enum setting setting)
{
	return settings_table[setting].json_key;
}

const char *settings_accepted(enum setting setting)
{
	return settings_table[setting].accepted;
}

const char *settings_text(const struct settings *settings, enum setting setting)
{
	if (setting == SETTING_LOG && settings->log == LOG_PATH)
		return settings->log_path;
	return settings_table[setting].values[settings->values[setting]];
}

void settings_init(struct settings *settings)
{
	memset(settings->values, 0, sizeof(settings->values));
	memset(settings->origins, 0, sizeof(settings->origins));
	settings->log_path[0] = '\0';
	settings->problems = 0;
}

bool settings_set_number(struct settings *settings, enum setting setting, unsigned int number)
{
	if (number >= VALUES_MAX || !settings_table[setting].values[number])
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
	for (unsigned int i = 0; i < VALUES_MAX && settings_table[setting].values[i]; i++)
		if (!strcmp(value, settings_table[setting].values[i]))
			return settings_set_number(settings, setting, i);
	return false;
}

static void copy_cut(char *to, size_t size, const char *from)
{
	if (!memccpy(to, from, '\0', size))
		to[size - 1] = '\0';
}

// Counts a problem of the settings. Returns the problem's element of problem[], or NULL if
// problem[] is full.
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

static void set_or_note(struct settings *settings, const char *key, const char *value,
			const char *source, unsigned int line)
{
	struct settings_problem *problem;
	enum setting setting = 0;

	while (setting < SETTINGS && strcmp(key, settings_key(setting)))
		setting++;
	if (setting < SETTINGS && settings_set(settings, setting, value)) {
		settings->origins[setting] = line ? line : ORIGIN_ENVIRONMENT;
		return;
	}
	problem = add_problem(settings, key, value, source, line);
	if (problem)
		problem->accepted = setting < SETTINGS ? settings_accepted(setting) : settings_keys;
	if (setting == SETTINGS)
		return;
	settings->values[setting] = 0;
	settings->origins[setting] = ORIGIN_DEFAULT;
	if (problem)
		problem->used = settings_text(settings, setting);
}

// Cuts off the white space at the end of a text. Returns the address of the first character after
// the white space at the beginning.
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

	if (key[0] == '\0' || key[0] == '#')
		return;
	if (!value) {
		add_problem(settings, "line", "no KEY=value", source, number);
		return;
	}
	*value++ = '\0';
	set_or_note(settings, trim_space(key), trim_space(value), source, number);
}

void settings_apply_file(struct settings *settings, const char *text, size_t size,
			 const char *source)
{
	char line[PATH_MAX + 64];
	const char *end = text + size;

	// A file may contain NUL bytes if the host crashed before it had written the file's blocks
	// to the disk.
	if (memchr(text, '\0', size)) {
		add_problem(settings, "file", "has zero bytes", source, 0);
		return;
	}
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

void settings_apply_environment(struct settings *settings, char *const *environment)
{
	size_t i = 0;

	while (environment && environment[i])
		i++;
	// The loop runs backwards. So if the environment has a variable twice, the first value
	// takes effect, as in getenv().
	while (i-- > 0) {
		const char *variable = environment[i];
		const char *value = strchr(variable, '=');
		char key[sizeof(settings->problem[0].key)];
		size_t length = value ? (size_t)(value - variable) + 1 : 0;

		if (!value || strncmp(variable, PREFIX, strlen(PREFIX)))
			continue;
		copy_cut(key, length < sizeof(key) ? length : sizeof(key), variable);
		set_or_note(settings, key, value + 1, "environment", 0);
	}
}

void settings_load_file(struct settings *settings, const char *file)
{
	char text[SETTINGS_FILE_MAX + 1];
	size_t size = 0;
	ssize_t got = 0;
	int error;
	// If the file is a FIFO, open() without O_NONBLOCK would wait for a writer and delay the
	// VMM's start.
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

void settings_load(struct settings *settings)
{
	settings_init(settings);
	settings_load_file(settings, SETTINGS_FILE);
	if (!getauxval(AT_SECURE))
		settings_apply_environment(settings, environ);
}
