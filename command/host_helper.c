// SPDX-License-Identifier: MIT
#include "host_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

// Where the helper is, seen from this command: beside it in a build tree, or as they are installed.
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

// What the helper's status prints as JSON, or NULL.
static json_t *ask_helper(void)
{
	static char title[] = "xsaveshim host", word[] = "status", option[] = "--json";
	char *argv[] = {title, word, option, NULL};
	json_t *json = NULL;
	int ends[2], status, silence;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return NULL;
	pid = fork();
	if (!pid) {
		dup2(ends[1], STDOUT_FILENO);
		silence = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (silence >= 0)
			dup2(silence, STDERR_FILENO);
		host_helper_execute(argv);
		_exit(1);
	}
	close(ends[1]);
	if (pid > 0) {
		json = json_loadfd(ends[0], 0, NULL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(ends[0]);
	return json;
}

bool host_is_active(struct settings *settings)
{
	json_t *json = ask_helper();
	const char *state = "", *trim = "", *refused = "";
	bool is_active = json &&
			 !json_unpack(json, "{s:s, s:s, s:s}", "state", &state, "trim", &trim,
				      "refused", &refused) &&
			 !strcmp(state, "yes");

	settings_init(settings);
	is_active = is_active && settings_set(settings, SETTING_TRIM, trim) &&
		    settings_set(settings, SETTING_REFUSED, refused);
	json_decref(json);
	return is_active;
}
