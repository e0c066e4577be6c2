// SPDX-License-Identifier: MIT
// The settings: an environment variable, else the same key in /etc/xsaveshim.conf, else the
// default.
//
// None of these functions allocates. They are thread-safe on different objects; settings_load reads
// the environment and a file, so it belongs in a constructor or in main. The rest is
// async-signal-safe as well.
#ifndef XSAVESHIM_SETTINGS_H
#define XSAVESHIM_SETTINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "xsaveshim/log.h"
#include "xsaveshim/policy.h"

#define SETTINGS_FILE "/etc/xsaveshim.conf"

// A larger file is not a settings file: it is reported and left alone.
#define SETTINGS_FILE_MAX 16384

enum setting { SETTING_TRIM, SETTING_REFUSED, SETTING_LOG, SETTING_LOG_LEVEL, SETTINGS };

// The default first.
enum refused_action { REFUSED_ABORT, REFUSED_REPORT };

// Something in the environment or in the file that is not a setting or not a value of one.
struct settings_problem {
	char key[40];	      // cut to fit
	char value[80];	      // cut to fit
	const char *source;   // "environment", SETTINGS_FILE, ...
	unsigned int line;    // in the file; 0 elsewhere
	const char *accepted; // the values the key takes; NULL: there is no such key
	const char *used;     // the default in use instead; NULL: there is no such key
};

struct settings {
	enum trim trim;
	enum refused_action refused;
	enum log_target log;
	enum log_level log_level;
	char log_path[PATH_MAX]; // with LOG_PATH
	struct settings_problem problem[8];
	unsigned int problems; // how many there were; the first 8 are kept
};

// Every setting at its default, no problem.
void settings_init(struct settings *settings);

// Sets one setting. False, with nothing changed, where the value is not one it takes.
bool settings_set(struct settings *settings, enum setting setting, const char *value);

// Applies a settings file's text: KEY=value lines, # comments, white space around both ignored.
// source names the file in problems.
void settings_apply_file(struct settings *settings, const char *text, size_t size,
			 const char *source);

// Applies an environment: lookup returns the value of a variable, or NULL. context is passed on to
// it.
void settings_apply_environment(struct settings *settings,
				const char *(*lookup)(const char *key, void *context),
				void *context);

// Applies file. A missing file is no problem; one that cannot be read, or is too large, is.
void settings_load_file(struct settings *settings, const char *file);

// Everything: defaults, SETTINGS_FILE, this process's environment (not in a program that gained
// privileges by exec).
void settings_load(struct settings *settings);

// The environment variable of a setting, its current value as text, the values it takes
// ("restore,save,both,none").
const char *settings_key(enum setting setting);
const char *settings_text(const struct settings *settings, enum setting setting);
const char *settings_accepted(enum setting setting);

#endif
