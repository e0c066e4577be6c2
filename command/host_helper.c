// SPDX-License-Identifier: MIT
#include "host_helper.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "subcommand_json.h"

// The paths of the helper program xsaveshim-host: in a build tree, and after an installation. Both
// paths are relative to the directory that contains the xsaveshim command.
static const char *const places[] = {HOST_HELPER, "../libexec/" HOST_HELPER};

void host_helper_execute(char **argv)
{
	char path[PATH_MAX + sizeof("../libexec/" HOST_HELPER)];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *name;

	if (length < 0)
		return;
	path[length] = '\0';
	name = strrchr(path, '/') + 1;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		strcpy(name, places[i]);
		execv(path, argv);
		if (errno != ENOENT)
			return;
	}
}

json_t *host_helper_status(void)
{
	static char title[] = "xsaveshim host", word[] = "status", option[] = "--json";
	char *argv[] = {title, word, option, NULL};

	return subcommand_json(host_main, argv);
}

bool host_helper_query(struct settings *settings)
{
	json_t *json = host_helper_status();
	const char *state = "", *trim = "", *refused = "";
	bool is_active;

	settings_init(settings);
	is_active = !json_unpack(json, "{s:s, s:s, s:s}", "state", &state, "trim", &trim, "refused",
				 &refused) &&
		    !strcmp(state, "active") && settings_set(settings, SETTING_TRIM, trim) &&
		    settings_set(settings, SETTING_REFUSED, refused);
	json_decref(json);
	return is_active;
}
