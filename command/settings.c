// SPDX-License-Identifier: MIT
// xsaveshim settings: prints the settings in effect, the source of each setting, and every problem
// in the settings file and the environment.
#include "command.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/helpers.h"
#include "shared/output.h"
#include "xsaveshim/settings.h"

#define QEMU_CONF "/etc/libvirt/qemu.conf"
#define USER_MAX 63

static const char help[] =
	"usage: xsaveshim settings [--domain]\n"
	"\n"
	"Prints the settings in effect, where each comes from, and every problem of\n"
	"the settings file and the environment.\n"
	"\n"
	"  --domain    print the settings that a libvirt domain would read: as the user\n"
	"              that runs libvirt's domains, and without the environment\n"
	"  -h, --help  print this\n"
	"\n"
	"Exit status: 0 no problem; 1 a problem was found; 2 --domain failed.\n";

// Reads the user that runs libvirt's domains: the NAME in the last line `user = "NAME"` of
// qemu.conf. Returns false if qemu.conf does not set the user.
static bool read_domain_user(char user[USER_MAX + 1])
{
	static char text[1 << 20];
	bool found = false;
	char *rest = text;
	const char *line;

	if (read_file(AT_FDCWD, QEMU_CONF, text, sizeof(text)) < 0) {
		if (errno != ENOENT)
			err(2, QEMU_CONF);
		return false;
	}
	while ((line = strsep(&rest, "\n")))
		found |= sscanf(line, " user = \"%63[^\"]\"", user) == 1;
	return found;
}

// In qemu.conf, a user can be a name, a number, or a plus sign and a number.
static const struct passwd *find_user(const char *user)
{
	const struct passwd *found = *user == '+' ? NULL : getpwnam(user);

	if (*user == '+')
		user++;
	return found || !isdigit((unsigned char)*user) ? found
						       : getpwuid((uid_t)strtoul(user, NULL, 10));
}

// Returns the user that runs libvirt's domains. If qemu.conf names no user, libvirt uses the
// distribution's default: libvirt-qemu on Debian and Ubuntu, qemu on Fedora.
static const struct passwd *domain_user(void)
{
	static const char *const usual[] = {"libvirt-qemu", "qemu"};
	const struct passwd *found = NULL;
	char user[USER_MAX + 1];

	if (read_domain_user(user)) {
		found = find_user(user);
		if (!found)
			errx(2, "there is no user '%s', whom " QEMU_CONF " names",
			     clean(user).text);
		return found;
	}
	for (size_t i = 0; !found && i < sizeof(usual) / sizeof(usual[0]); i++)
		found = getpwnam(usual[i]);
	if (!found)
		errx(2, "there is no user libvirt-qemu or qemu: is libvirt installed?");
	return found;
}

static void become_domain_user(void)
{
	const struct passwd *user = domain_user();

	if (geteuid())
		errx(2, "--domain must become the user %s to read the settings: run this as root",
		     user->pw_name);
	if (initgroups(user->pw_name, user->pw_gid) || setgid(user->pw_gid) || setuid(user->pw_uid))
		err(2, "cannot become the user %s", user->pw_name);
	printf("the settings of a libvirt domain that runs as the user %s\n", user->pw_name);
}

static void print_source(const char *source, unsigned int line)
{
	fputs(source, stdout);
	if (line)
		printf(", line %u", line);
}

static void print_setting(const struct settings *settings, enum setting setting)
{
	unsigned int origin = settings->origins[setting];

	printf("%s=%s  (", settings_key(setting), clean(settings_text(settings, setting)).text);
	if (origin == ORIGIN_DEFAULT)
		fputs("default", stdout);
	else if (origin == ORIGIN_ENVIRONMENT)
		fputs("environment", stdout);
	else
		print_source(SETTINGS_FILE, origin);
	puts(")");
}

static void print_problem(const struct settings_problem *problem)
{
	fputs("problem: ", stdout);
	print_source(problem->source, problem->line);
	if (!problem->accepted)
		printf(": %s\n", clean(problem->value).text);
	else if (problem->used)
		printf(": %s accepts %s, not '%s': %s is used\n", problem->key, problem->accepted,
		       clean(problem->value).text, problem->used);
	else
		printf(": there is no setting '%s': the settings are %s\n",
		       clean(problem->key).text, problem->accepted);
}

static void print_problems(const struct settings *settings)
{
	unsigned int kept = sizeof(settings->problem) / sizeof(settings->problem[0]);

	for (unsigned int i = 0; i < settings->problems && i < kept; i++)
		print_problem(&settings->problem[i]);
	if (settings->problems > kept)
		printf("problem: %u more problems are not shown\n", settings->problems - kept);
}

static bool parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{"domain", no_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {0}};
	bool domain = false;
	int option;

	while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			exit(0);
		}
		if (option != 'd')
			exit(2);
		domain = true;
	}
	if (optind != argc)
		errx(2, "unexpected argument '%s'", argv[optind]);
	return domain;
}

int settings_main(int argc, char **argv)
{
	static struct settings settings;

	if (parse_options(argc, argv)) {
		become_domain_user();
		clearenv();
	}
	settings_load(&settings);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		print_setting(&settings, setting);
	print_problems(&settings);
	return settings.problems ? 1 : 0;
}
