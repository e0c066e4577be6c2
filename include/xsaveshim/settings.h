// SPDX-License-Identifier: MIT
// xsaveshim's settings. Each setting has a default. A line of /etc/xsaveshim.conf overrides the
// default. An environment variable overrides the file and the default.
//
// No function allocates memory. All functions are thread-safe if each thread has a struct settings
// of its own. All functions except settings_load and settings_load_file are async-signal-safe.
// settings_load reads the environment, so call settings_load in a constructor or in main, before
// other threads can change the environment.
#ifndef XSAVESHIM_SETTINGS_H
#define XSAVESHIM_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "xsaveshim/log.h"
#include "xsaveshim/policy.h"

#define SETTINGS_FILE "/etc/xsaveshim.conf"

// If the settings file has more bytes than this, xsaveshim reports a problem and applies none of
// the file's lines.
#define SETTINGS_FILE_MAX 16384

enum setting { SETTING_TRIM, SETTING_REFUSED, SETTING_LOG, SETTING_LOG_LEVEL, SETTINGS };

// REFUSED_ABORT is the default.
enum refused_action { REFUSED_ABORT, REFUSED_REPORT };

// A problem of the environment or of the settings file: an unknown key, a value that the setting
// does not accept, or a file or line that xsaveshim cannot apply.
struct settings_problem {
	char key[40];	      // the key, or "file" or "line"; cut to fit
	char value[80];	      // the value, or what is wrong with the file or line; cut to fit
	const char *source;   // "environment", or the name of the settings file
	unsigned int line;    // the line's number in the settings file, or 0
	const char *accepted; // the accepted values or keys; NULL if the problem is a file or line
	const char *used; // the default, which replaces the value; NULL if no setting has the key
};

// The origin of a setting's value is one of these two numbers, or the number of a line of the
// settings file.
#define ORIGIN_DEFAULT 0
#define ORIGIN_ENVIRONMENT UINT_MAX

struct settings {
	union {
		struct { // the fields have the order of enum setting
			enum trim trim;
			enum refused_action refused;
			enum log_target log;
			enum log_level log_level;
		};
		unsigned int values[SETTINGS];
	};
	char log_path[PATH_MAX]; // the path of the log's file if log is LOG_PATH
	unsigned int origins[SETTINGS];
	struct settings_problem problem[8];
	unsigned int problems; // how many problems were found; problem[] keeps the first 8
};

// Sets every setting to its default and forgets all problems.
void settings_init(struct settings *settings);

// Sets one setting. Returns false, and changes nothing, if the setting does not accept the value.
bool settings_set(struct settings *settings, enum setting setting, const char *value);

// Sets one setting to the value with this number in the setting's enum. Returns false, and changes
// nothing, if the enum has no value with this number.
bool settings_set_number(struct settings *settings, enum setting setting, unsigned int number);

// Applies the text of a settings file. The text has lines of KEY=value, and comments, which begin
// with #. The function ignores white space around a key or a value. If the text contains a NUL
// byte, the function notes a problem and applies no line. source: the file's name for struct
// settings_problem.
void settings_apply_file(struct settings *settings, const char *text, size_t size,
			 const char *source);

// Applies the variables of an environment, an array whose last element is NULL. A variable whose
// name begins with XSAVESHIM_ counts as a problem if no setting has this name.
void settings_apply_environment(struct settings *settings, char *const *environment);

// Reads and applies a settings file. A file that cannot be read or is too large counts as a
// problem. A missing file is not a problem.
void settings_load_file(struct settings *settings, const char *file);

// Applies the defaults, then SETTINGS_FILE, then this process's environment. settings_load ignores
// the environment if the program gained privileges when it was executed (AT_SECURE).
void settings_load(struct settings *settings);

// These three functions return a setting's names: its environment variable, its option of
// `xsaveshim run` without the dashes, and its key in JSON output.
const char *settings_key(enum setting setting);
const char *settings_option(enum setting setting);
const char *settings_json_key(enum setting setting);

// The environment variables of all settings, separated by commas.
extern const char settings_keys[];

// Returns the values that a setting accepts, such as "restore,save,both,none". The default is
// first.
const char *settings_accepted(enum setting setting);

const char *settings_text(const struct settings *settings, enum setting setting);

#endif
