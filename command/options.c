// SPDX-License-Identifier: MIT
#include "options.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "xsaveshim/settings.h"
#include "supervise/attach.h"

// The numbers that getopt_long returns for --supervise and --help. For a setting's option,
// getopt_long returns the setting's number (enum setting).
enum { OPTION_SUPERVISE = SETTINGS, OPTION_HELP = 'h' };

static void print_run_help(void)
{
	puts("usage: xsaveshim run [OPTION]... [--] VMM [ARGUMENT]...\n\n"
	     "Starts a VMM. If the VMM restores a guest, xsaveshim drops the xfeatures that\n"
	     "the guest lacks. A script, or a VMM with the same dynamic loader (ld.so) as\n"
	     "xsaveshim, gets libxsaveshim.so preloaded; any other VMM gets a supervisor\n"
	     "process. The VMM keeps xsaveshim's pid and standard streams.\n\n"
	     "  --supervise   start a supervisor in any case: necessary if the VMM calls the\n"
	     "                kernel without libc (as a Go program may), is setuid or setgid,\n"
	     "                or has file capabilities, or if a script starts a static VMM\n"
	     "  -h, --help    print this\n\n"
	     "Settings (see xsaveshim.conf(5)); the first value of each is the default:");
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		printf("  --%s=%s\n", settings_option(setting), settings_accepted(setting));
	puts("\nExit status: the VMM's; 127 if VMM is not found, 126 if it cannot be executed,\n"
	     "125 if xsaveshim fails.");
}

static _Noreturn void fail_usage(void)
{
	fputs("Try 'xsaveshim run --help'.\n", stderr);
	exit(EXIT_OWN_FAILURE);
}

static void set_variable(enum setting setting, const char *value)
{
	struct settings scratch;

	settings_init(&scratch);
	if (!settings_set(&scratch, setting, value))
		errx(EXIT_OWN_FAILURE, "--%s takes one of %s, not '%s'", settings_option(setting),
		     settings_accepted(setting), value);
	if (setenv(settings_key(setting), value, 1))
		err(EXIT_OWN_FAILURE, "--%s", settings_option(setting));
}

struct run_options options_parse_run(int argc, char **argv)
{
	struct option names[SETTINGS + 3] = {
		[SETTINGS] = {"supervise", no_argument, NULL, OPTION_SUPERVISE},
		[SETTINGS + 1] = {"help", no_argument, NULL, OPTION_HELP},
	};
	struct run_options options = {false, false};
	int option;

	for (enum setting i = 0; i < SETTINGS; i++)
		names[i] = (struct option){settings_option(i), required_argument, NULL, (int)i};
	while ((option = getopt_long(argc, argv, "+h", names, NULL)) != -1) {
		switch (option) {
		case OPTION_SUPERVISE:
			options.supervise = true;
			break;
		case OPTION_HELP:
			print_run_help();
			exit(0);
		case '?':
			fail_usage();
		default:
			options.trim |= option == SETTING_TRIM;
			set_variable((enum setting)option, optarg);
		}
	}
	if (optind == argc) {
		warnx("the command line names no VMM");
		fail_usage();
	}
	return options;
}

int options_parse_output(int argc, char **argv, const char *help, bool *json, bool *check)
{
	const struct option names[] = {{"json", no_argument, NULL, 'j'},
				       {"help", no_argument, NULL, 'h'},
				       {check ? "check" : NULL, no_argument, NULL, 'c'},
				       {0}};
	int option;

	*json = false;
	while ((option = getopt_long(argc, argv, "h", names, NULL)) == 'j' ||
	       (option == 'c' && check)) {
		if (option == 'j')
			*json = true;
		else
			*check = true;
	}
	if (option == 'h') {
		fputs(help, stdout);
		return 0;
	}
	if (option == -1 && optind == argc)
		return -1;
	if (option == -1)
		warnx("unexpected argument '%s'", argv[optind]);
	fprintf(stderr, "usage: %s [--json%s]\n", argv[0], check ? " | --check" : "");
	return 2;
}
