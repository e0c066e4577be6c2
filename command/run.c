// SPDX-License-Identifier: MIT
// xsaveshim run: starts a VMM, or a script that starts a VMM. Preloads the library into a script,
// and into a VMM whose dynamic loader (ld.so) can load the library. For any other VMM, or if the
// option --supervise is given, starts a supervisor instead.
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/helpers.h"
#include "supervise/attach.h"
#include "command.h"
#include "executable.h"
#include "options.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define LIBRARY "libxsaveshim.so"

// Ends the program with the exit status that a shell has if exec fails: 127 if errno is ENOENT, and
// otherwise 126.
static _Noreturn void fail_exec(const char *path)
{
	err(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, "%s", path);
}

static void find_vmm(struct executable *vmm, const char *name)
{
	errno = executable_find(vmm, name);
	if (errno)
		fail_exec(name);
	if (vmm->kind == EXECUTABLE_OTHER_MACHINE)
		errx(EXIT_NOT_EXECUTABLE,
		     "%s: not an x86-64 program, and xsaveshim serves only x86-64 programs",
		     vmm->path);
	if (vmm->kind == EXECUTABLE_UNKNOWN)
		errx(EXIT_NOT_EXECUTABLE, "%s: neither an ELF program nor a script with a #! line",
		     vmm->path);
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// Returns true if the VMM has the same dynamic loader as this command. This command and the library
// are built for the same libc, so a VMM with the same loader can load the library.
static bool has_our_loader(const struct executable *vmm)
{
	static struct executable self;

	return !executable_find(&self, "/proc/self/exe") && is_same_file(vmm->loader, self.loader);
}

// Returns the library's path if this command runs from a build tree. Otherwise, returns the name by
// which the dynamic loader finds the installed library.
static const char *library_name(void)
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

// If a directory that the dynamic loader searches has the library, but this user may not read the
// library, ends the program with a message. The loader itself would say that the library does not
// exist.
static void check_permission(void)
{
	void *self = dlopen(NULL, RTLD_NOW);
	Dl_serinfo head, *info;
	char path[PATH_MAX];

	if (dlinfo(self, RTLD_DI_SERINFOSIZE, &head))
		return;
	info = grow(NULL, 0, head.dls_size);
	*info = head;
	for (unsigned int i = 0; !dlinfo(self, RTLD_DI_SERINFO, info) && i < info->dls_cnt; i++) {
		snprintf(path, sizeof(path), "%s/" LIBRARY, info->dls_serpath[i].dls_name);
		if (access(path, R_OK) && errno == EACCES)
			err(EXIT_OWN_FAILURE, "%s", path);
	}
	free(info);
}

// Loads the library into this process as a test, because a dynamic loader that cannot preload the
// library starts the VMM without the library.
static void check_library(const char *name)
{
	char *error = dlopen(name, RTLD_NOW | RTLD_LOCAL) ? NULL : strdup(dlerror());

	if (error) {
		check_permission();
		errx(EXIT_OWN_FAILURE, "%s; is xsaveshim installed completely?", error);
	}
	if (strpbrk(name, ": "))
		errx(EXIT_OWN_FAILURE,
		     "LD_PRELOAD cannot name '%s': move the library to a path without space or colon",
		     name);
}

// Puts the library into LD_PRELOAD, before the libraries that are already there.
static void put_first(const char *name)
{
	const char *others = getenv("LD_PRELOAD");
	char *value;

	others = others ? others : "";
	if (asprintf(&value, "%s%s%s", name, *others ? ":" : "", others) < 0 ||
	    setenv("LD_PRELOAD", value, 1))
		err(EXIT_OWN_FAILURE, "LD_PRELOAD");
	free(value);
}

static void preload_library(const struct settings *settings, const struct executable *vmm,
			    const char *reason)
{
	const char *gains = executable_gains(vmm), *library = library_name();
	struct report_line line;
	struct log log;
	const char *error;

	check_library(library);
	if (gains)
		warnx("warning: %s %s, so its loader will ignore LD_PRELOAD: as root, use --supervise",
		      vmm->path, gains);
	put_first(library);
	log_init(&log, settings->log, settings->log_path, settings->log_level);
	if (!log_takes(&log, LOG_LEVEL_DEBUG))
		return;
	// Do not report wrong settings or a log that cannot be opened: the library in the VMM
	// reports them.
	log.pid = getpid();
	log_open(&log, &error);
	report_begin(&line, &log, LOG_LEVEL_DEBUG, "run");
	report_text(&line, "mode", "library");
	report_text(&line, "reason", reason);
	report_text(&line, "program", vmm->path);
	report_text(&line, "library", library);
	report_send(&line);
}

// A supervisor cannot trim the payloads that VMMs save. If the option --trim is save or both, the
// program ends. If the environment or the settings file says save or both, the program warns and
// uses restore instead, because the setting may be meant for other VMMs.
static void limit_to_restores(struct settings *settings, bool is_option)
{
	if (!policy_trims(settings->trim, XSAVE_SAVE))
		return;
	if (is_option)
		errx(EXIT_OWN_FAILURE,
		     "a supervisor cannot trim what KVM saves: use --trim=restore");
	warnx("warning: %s=%s: a supervisor cannot trim what KVM saves, so it trims only what the VMM restores",
	      settings_key(SETTING_TRIM), settings_text(settings, SETTING_TRIM));
	settings->trim = TRIM_RESTORE;
}

// Returns the reason why the VMM gets the library, or NULL if the VMM gets a supervisor.
static const char *reason_for_library(const struct executable *vmm)
{
	if (vmm->kind == EXECUTABLE_SCRIPT)
		return "script";
	return vmm->kind == EXECUTABLE_DYNAMIC && has_our_loader(vmm) ? "dynamic" : NULL;
}

int run_main(int argc, char **argv)
{
	static struct settings settings;
	static struct executable vmm;
	struct run_options options = options_parse_run(argc, argv);
	const char *reason;

	argv += optind;
	find_vmm(&vmm, argv[0]);
	settings_load(&settings);
	reason = options.supervise ? NULL : reason_for_library(&vmm);
	if (reason) {
		preload_library(&settings, &vmm, reason);
	} else {
		reason = vmm.kind == EXECUTABLE_STATIC ? "static" : "other-loader";
		limit_to_restores(&settings, options.trim);
		attach_supervisor(&settings, vmm.path, options.supervise ? "requested" : reason);
	}
	execv(vmm.path, argv);
	fail_exec(vmm.path);
}
