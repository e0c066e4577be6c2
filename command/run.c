// SPDX-License-Identifier: MIT
// xsaveshim run: starts a VMM with the library preloaded where a loader will take it, and supervised where
// none will.
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "executable.h"
#include "supervise.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define LIBRARY "libxsaveshim.so"

enum mode { MODE_AUTO, MODE_PRELOAD, MODE_SUPERVISE };

// The settings' options are numbered as the settings are.
enum { OPTION_PRELOAD = SETTINGS, OPTION_SUPERVISE };

static const struct option options[] = {
	{"trim", required_argument, NULL, SETTING_TRIM},
	{"refused", required_argument, NULL, SETTING_REFUSED},
	{"log", required_argument, NULL, SETTING_LOG},
	{"log-level", required_argument, NULL, SETTING_LOG_LEVEL},
	{"preload", no_argument, NULL, OPTION_PRELOAD},
	{"supervise", no_argument, NULL, OPTION_SUPERVISE},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static const char help[] =
	"usage: xsaveshim run [OPTION]... [--] VMM [ARGUMENT]...\n"
	"\n"
	"Starts a VMM so that what it restores is trimmed to what its guest has: a\n"
	"dynamically linked one with the library preloaded, a statically linked one\n"
	"supervised from outside. The VMM keeps this process's pid, standard input and\n"
	"output, and exit status.\n"
	"\n"
	"  --trim=MODE        restore: trim what the VMM loads (default); save: what it\n"
	"                     saves; both; none: report what would have been dropped\n"
	"  --refused=ACTION   report: report what KVM refuses all the same (default);\n"
	"                     abort: end the VMM, too\n"
	"  --log=TARGET       stderr (default), syslog, none, or an absolute path\n"
	"  --log-level=LEVEL  notice (default), error or debug\n"
	"  --preload          preload the library, whatever VMM is\n"
	"  --supervise        supervise, whatever VMM is: one that makes system calls\n"
	"                     without libc, or that starts static programs\n"
	"  -h, --help         print this\n"
	"\n"
	"Exit status: the VMM's; 127 if it is not found, 126 if it cannot be executed,\n"
	"125 if xsaveshim fails.\n";

static _Noreturn void fail_usage(void)
{
	fputs("Try 'xsaveshim run --help'.\n", stderr);
	exit(EXIT_OWN_FAILURE);
}

// To the VMM and to the supervisor alike, an option is the variable of the same setting.
static void set_variable(enum setting setting, const char *option, const char *value)
{
	struct settings scratch;

	settings_init(&scratch);
	if (!settings_set(&scratch, setting, value))
		errx(EXIT_OWN_FAILURE, "--%s takes one of %s, not '%s'", option, settings_accepted(setting),
		     value);
	if (setenv(settings_key(setting), value, 1))
		err(EXIT_OWN_FAILURE, "--%s", option);
}

// Leaves optind at the VMM.
static enum mode parse_options(int argc, char **argv)
{
	enum mode mode = MODE_AUTO;
	int index;
	int option;

	while ((option = getopt_long(argc, argv, "+h", options, &index)) != -1) {
		switch (option) {
		case OPTION_PRELOAD:
			mode = MODE_PRELOAD;
			break;
		case OPTION_SUPERVISE:
			mode = MODE_SUPERVISE;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case '?':
			fail_usage();
		default:
			set_variable((enum setting)option, options[index].name, optarg);
		}
	}
	if (optind == argc) {
		warnx("run: which VMM?");
		fail_usage();
	}
	return mode;
}

void run_apply_options(struct settings *settings, int argc, char **argv)
{
	int option;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1)
		if (option < SETTINGS)
			settings_set(settings, (enum setting)option, optarg);
}

// As a shell does, for the errno of an exec.
static _Noreturn void fail_exec(const char *what)
{
	err(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, "%s", what);
}

static void find_vmm(struct executable *vmm, const char *name)
{
	int error = executable_find(vmm, name);

	if (error) {
		errno = error;
		fail_exec(*vmm->program ? vmm->program : name);
	}
	if (vmm->kind == EXECUTABLE_FOREIGN)
		errx(EXIT_NOT_EXECUTABLE, "%s: not an x86-64 program, and xsaveshim serves no other", vmm->program);
	if (vmm->kind == EXECUTABLE_UNKNOWN)
		errx(EXIT_NOT_EXECUTABLE, "%s: neither an ELF program nor a script with a #! line", vmm->program);
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat one;
	struct stat other;

	return !stat(a, &one) && !stat(b, &other) && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// The library speaks to the libc that it was built with. So does this command: what its loader finds, the
// VMM's finds where it is the same one, and another's libc (musl's, say) would not take the library.
static bool has_our_loader(const struct executable *vmm)
{
	static struct executable self;

	return vmm->kind == EXECUTABLE_DYNAMIC && !executable_self(&self) &&
	       is_same_file(vmm->loader, self.loader);
}

// In a build tree the library lies beside the command; installed, the loader finds it by its bare name.
static const char *library(void)
{
	static char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - sizeof(LIBRARY));

	if (length > 0) {
		path[length] = '\0';
		strcpy(strrchr(path, '/') + 1, LIBRARY);
		if (!access(path, F_OK))
			return path;
	}
	return LIBRARY;
}

// A library that cannot be loaded would not keep the VMM from starting, unprotected. So it is loaded here
// first, without a log, which is the VMM's to open.
static void check_library(const char *name)
{
	const char *key = settings_key(SETTING_LOG);
	const char *before = getenv(key);
	char *target = before ? strdup(before) : NULL;
	const char *error;

	setenv(key, "none", 1);
	error = dlopen(name, RTLD_NOW | RTLD_LOCAL) ? NULL : dlerror();
	if (target)
		setenv(key, target, 1);
	else
		unsetenv(key);
	free(target);
	if (error)
		errx(EXIT_OWN_FAILURE, "%s; is xsaveshim installed completely?", error);
	if (strpbrk(name, ": "))
		errx(EXIT_OWN_FAILURE, "LD_PRELOAD cannot name '%s': move it where its path has no space or colon",
		     name);
}

static void warn_if_ignored(const struct executable *vmm)
{
	const char *gains = executable_gains(vmm);

	if (vmm->kind == EXECUTABLE_STATIC)
		warnx("warning: %s is statically linked, so the library will not be in it, only in what it starts: use "
		      "--supervise", vmm->program);
	else if (gains)
		warnx("warning: %s %s, so its loader will ignore LD_PRELOAD: as root, use --supervise",
		      vmm->program, gains);
}

// Ours first; what was to be preloaded before stays, behind it.
static void put_first(const char *name)
{
	const char *others = getenv("LD_PRELOAD");
	char *value;

	if (asprintf(&value, "%s%s%s", name, others && *others ? ":" : "", others ? others : "") < 0 ||
	    setenv("LD_PRELOAD", value, 1))
		err(EXIT_OWN_FAILURE, "LD_PRELOAD");
	free(value);
}

static void preload(struct settings *settings, const struct executable *vmm, const char *reason)
{
	struct report_log log = {0};
	struct report_line line;
	const char *name = library();

	check_library(name);
	warn_if_ignored(vmm);
	put_first(name);
	settings->problems = 0; // the library tells
	report_open(&log, settings);
	report_begin(&line, &log, LOG_LEVEL_DEBUG, "run");
	report_text(&line, "mode", "preload");
	report_text(&line, "reason", reason);
	report_text(&line, "program", vmm->program);
	report_text(&line, "library", name);
	report_send(&line);
}

// What KVM returns is not the supervisor's to see.
static void check_settings(const struct settings *settings)
{
	enum trim_mode trim = (enum trim_mode)settings->value[SETTING_TRIM];

	if (trim == TRIM_SAVE || trim == TRIM_BOTH)
		errx(EXIT_OWN_FAILURE, "a supervisor cannot trim what KVM saves: use --trim=restore, or --preload "
		     "if the VMM is dynamically linked");
}

static const char *reason_for(enum mode mode, const struct executable *vmm)
{
	if (mode != MODE_AUTO)
		return "asked-for";
	if (vmm->kind == EXECUTABLE_STATIC)
		return "static";
	return has_our_loader(vmm) ? "dynamic" : "other-loader";
}

int run_main(int argc, char **argv)
{
	static struct settings settings;
	static struct executable vmm;
	enum mode mode = parse_options(argc, argv);
	const char *reason;

	argv += optind;
	find_vmm(&vmm, argv[0]);
	settings_load(&settings);
	reason = reason_for(mode, &vmm);
	if (mode == MODE_AUTO)
		mode = has_our_loader(&vmm) ? MODE_PRELOAD : MODE_SUPERVISE;
	if (mode == MODE_PRELOAD) {
		preload(&settings, &vmm, reason);
	} else {
		check_settings(&settings);
		attach_supervisor(&settings, vmm.program, reason);
	}
	execv(vmm.path, argv);
	fail_exec(vmm.path);
}
