// SPDX-License-Identifier: MIT
#include "options.h"

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "xsaveshim/settings.h"
#include "supervise/attach.h"

// The options that are settings have the settings' numbers.
enum { OPTION_PRELOAD = SETTINGS, OPTION_SUPERVISE };

static const struct option run_options[] = {
	{"trim", required_argument, NULL, SETTING_TRIM},
	{"refused", required_argument, NULL, SETTING_REFUSED},
	{"log", required_argument, NULL, SETTING_LOG},
	{"log-level", required_argument, NULL, SETTING_LOG_LEVEL},
	{"preload", no_argument, NULL, OPTION_PRELOAD},
	{"supervise", no_argument, NULL, OPTION_SUPERVISE},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static const char run_help[] =
	"usage: xsaveshim run [OPTION]... [--] VMM [ARGUMENT]...\n"
	"\n"
	"Starts a VMM and trims what it restores to what its guest has. A dynamically\n"
	"linked VMM gets the library preloaded; a supervisor process serves any other,\n"
	"and one written in Go.\n"
	"The VMM keeps this process's pid, standard streams and exit status.\n"
	"\n"
	"  --trim=MODE        restore: trim what the VMM restores (default); save: trim\n"
	"                     what it saves; both; none: report, but trim nothing\n"
	"  --refused=ACTION   what to do when KVM refuses a payload all the same:\n"
	"                     report: report it (default); abort: also end the VMM\n"
	"  --log=TARGET       stderr (default), syslog, none, or an absolute path\n"
	"  --log-level=LEVEL  notice (default), error or debug\n"
	"  --preload          preload the library, whatever kind of program VMM is\n"
	"  --supervise        use the supervisor, whatever kind of program VMM is: for a\n"
	"                     VMM that calls the kernel without libc, or starts static\n"
	"                     programs\n"
	"  -h, --help         print this\n"
	"\n"
	"Exit status: the VMM's; 127 if VMM is not found, 126 if it cannot be executed,\n"
	"125 if xsaveshim fails.\n";

static _Noreturn void fail_usage(void)
{
	fputs("Try 'xsaveshim run --help'.\n", stderr);
	exit(EXIT_OWN_FAILURE);
}

static void set_variable(enum setting setting, const char *option, const char *value)
{
	struct settings scratch;

	settings_init(&scratch);
	if (!settings_set(&scratch, setting, value))
		errx(EXIT_OWN_FAILURE, "--%s takes one of %s, not '%s'", option,
		     settings_accepted(setting), value);
	if (setenv(settings_key(setting), value, 1))
		err(EXIT_OWN_FAILURE, "--%s", option);
}

struct run_options options_parse_run(int argc, char **argv)
{
	struct run_options options = {RUN_AUTO, false};
	int index;
	int option;

	while ((option = getopt_long(argc, argv, "+h", run_options, &index)) != -1) {
		switch (option) {
		case OPTION_PRELOAD:
			options.mode = RUN_PRELOAD;
			break;
		case OPTION_SUPERVISE:
			options.mode = RUN_SUPERVISE;
			break;
		case 'h':
			fputs(run_help, stdout);
			exit(0);
		case '?':
			fail_usage();
		default:
			options.trim |= option == SETTING_TRIM;
			set_variable((enum setting)option, run_options[index].name, optarg);
		}
	}
	if (optind == argc) {
		warnx("the command line names no VMM");
		fail_usage();
	}
	return options;
}

int options_parse_json(int argc, char **argv, const char *help, bool *json)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	int option;

	*json = false;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) == 'j')
		*json = true;
	if (option == 'h') {
		fputs(help, stdout);
		return 0;
	}
	if (option == -1 && optind != argc)
		warnx("unexpected argument '%s'", argv[optind]);
	if (option != -1 || optind != argc) {
		fprintf(stderr, "usage: %s [--json]\n", argv[0]);
		return 2;
	}
	return -1;
}
