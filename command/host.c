// SPDX-License-Identifier: MIT
// xsaveshim host: executes the helper that is installed with the package xsaveshim-host, so that this command works without libbpf.
#include "host.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "command.h"

#define HELPER "xsaveshim-host"

// Where the helper is, seen from this command: beside it in a build tree, or as they are installed.
static const char *const places[] = {HELPER, "../libexec/" HELPER};

// Returns where the helper cannot be executed, with errno set.
static void execute_helper(char **argv)
{
	char path[PATH_MAX + sizeof("../libexec/" HELPER)];
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

int host_main(int argc, char **argv)
{
	(void)argc;
	execute_helper(argv);
	if (errno != ENOENT)
		err(1, HELPER);
	errx(1, "install the package xsaveshim-host, which brings this subcommand");
}

// What the helper's status prints as JSON, or NULL.
static json_t *ask_helper(void)
{
	static char title[] = "xsaveshim host", word[] = "status", option[] = "--json";
	char *argv[] = {title, word, option, NULL};
	json_t *json = NULL;
	int ends[2], status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return NULL;
	pid = fork();
	if (!pid) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		execute_helper(argv);
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

bool host_in_force(struct settings *settings)
{
	json_t *json = ask_helper();
	const char *in_force = "", *trim = "", *refused = "";
	bool is_in_force =
		json &&
		!json_unpack(json, "{s:s, s:s, s:s}", "in_force", &in_force, "trim", &trim, "refused", &refused) &&
		!strcmp(in_force, "yes");

	settings_init(settings);
	is_in_force = is_in_force && settings_set(settings, SETTING_TRIM, trim) &&
		      settings_set(settings, SETTING_REFUSED, refused);
	json_decref(json);
	return is_in_force;
}
