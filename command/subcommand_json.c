// SPDX-License-Identifier: MIT
#include "subcommand_json.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

json_t *subcommand_json(int (*subcommand)(int argc, char **argv), char **argv)
{
	json_t *json = NULL;
	int argc = 0;
	int ends[2];
	pid_t child;

	while (argv[argc])
		argc++;
	if (pipe2(ends, O_CLOEXEC))
		return NULL;
	child = fork();
	if (!child) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		dup2(ends[1], STDOUT_FILENO);
		if (null >= 0)
			dup2(null, STDERR_FILENO);
		close(ends[0]);
		optind = 0;
		exit(subcommand(argc, argv));
	}
	close(ends[1]);
	if (child > 0) {
		json = json_loadfd(ends[0], 0, NULL);
		waitpid(child, NULL, 0);
	}
	close(ends[0]);
	return json;
}
