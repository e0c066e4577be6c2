// SPDX-License-Identifier: MIT
// The settings. Each has a default; a line of /etc/xsaveshim.conf overrides it, and a variable of
// the environment overrides that.
//
// None of these functions allocates memory. They are thread-safe on different objects, and
// async-signal-safe except settings_load: call it in a constructor or in main.
#ifndef XSAVESHIM_SETTINGS_H
#define XSAVESHIM_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "xsaveshim/log.h"
#include "xsaveshim/policy.h"

#define SETTINGS_FILE "/etc/xsaveshim.conf"

// A larger file is reported, and none of its lines is applied.
#define SETTINGS_FILE_MAX 16384

enum setting { SETTING_TRIM, SETTING_REFUSED, SETTING_LOG, SETTING_LOG_LEVEL, SETTINGS };

// The default comes first.
enum refused_action { REFUSED_REPORT, REFUSED_ABORT };

// A part of the environment or of the file that is no setting, or a value that is not accepted.
struct settings_problem {
	char key[40];	      // cut to fit
	char value[80];	      // cut to fit
	const char *source;   // "environment", SETTINGS_FILE, ...
	unsigned int line;    // in the file; 0 for any other source
	const char *accepted; // the values that the key accepts; NULL if there is no such key
	const char *used;     // the default, which is used instead; NULL if there is no such key
};

struct settings {
	union {
		struct { // in the order of enum setting
			enum trim trim;
			enum refused_action refused;
			enum log_target log;
			enum log_level log_level;
		};
		unsigned int values[SETTINGS];
	};
	char log_path[PATH_MAX]; // with LOG_PATH
	struct settings_problem problem[8];
	unsigned int problems; // counts all; the first 8 are kept
};

// Sets every setting to its default and forgets all problems.
void settings_init(struct settings *settings);

// Sets one setting. If the setting does not accept the value, returns false and changes nothing.
bool settings_set(struct settings *settings, enum setting setting, const char *value);

// The same with the number of an accepted value, which is its place in the setting's enum.
bool settings_set_number(struct settings *settings, enum setting setting, unsigned int number);

// Applies the text of a settings file: lines of KEY=value, and comments, which begin with #. White
// space around a key or a value is ignored. source is the file's name in problems.
void settings_apply_file(struct settings *settings, const char *text, size_t size,
			 const char *source);

// Applies an environment: lookup returns the value of a variable, or NULL, and gets the context.
void settings_apply_environment(struct settings *settings,
				const char *(*lookup)(const char *key, void *context),
				void *context);

// Reads and applies a file. It is a problem if it cannot be read or is too large, not if missing.
void settings_load_file(struct settings *settings, const char *file);

// Applies the defaults, SETTINGS_FILE and this process's environment. A program that gained
// privileges when it was executed ignores its environment.
void settings_load(struct settings *settings);

// The names of a setting: in the environment, as an option (without dashes), and as a key in JSON.
const char *settings_key(enum setting setting);
const char *settings_option(enum setting setting);
const char *settings_json_key(enum setting setting);

// The values that a setting accepts, the default first: "restore,save,both,none".
const char *settings_accepted(enum setting setting);

// A setting's current value as text.
const char *settings_text(const struct settings *settings, enum setting setting);

#endif
