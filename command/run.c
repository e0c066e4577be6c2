// SPDX-License-Identifier: MIT
// xsaveshim run: starts a VMM with the library preloaded where its loader will take it, else under
// a supervisor.
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervise/attach.h"
#include "command.h"
#include "executable.h"
#include "options.h"
#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define LIBRARY "libxsaveshim.so"

// Exits as a shell does after an exec that failed with this errno.
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
		errx(EXIT_NOT_EXECUTABLE,
		     "%s: not an x86-64 program, and xsaveshim serves no other", vmm->program);
	if (vmm->kind == EXECUTABLE_UNKNOWN)
		errx(EXIT_NOT_EXECUTABLE, "%s: neither an ELF program nor a script with a #! line",
		     vmm->program);
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat one;
	struct stat other;

	return !stat(a, &one) && !stat(b, &other) && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

// The library needs the libc that it was built with, and this command was built with the same one.
// A VMM with this command's loader has that libc; one with another loader (musl's, say) could not
// load the library.
static bool has_our_loader(const struct executable *vmm)
{
	static struct executable self;

	return vmm->kind == EXECUTABLE_DYNAMIC && !executable_self(&self) &&
	       is_same_file(vmm->loader, self.loader);
}

// In a build tree the library lies beside the command. The loader finds an installed one by its
// bare name.
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

// The VMM would start, unprotected, without a library that its loader cannot load. So this process
// loads it first, with the log set to none, because the log is the VMM's to open.
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
		errx(EXIT_OWN_FAILURE,
		     "LD_PRELOAD cannot name '%s': move it where its path has no space or colon",
		     name);
}

static void warn_if_ignored(const struct executable *vmm)
{
	const char *gains = executable_gains(vmm);

	if (vmm->kind == EXECUTABLE_STATIC)
		warnx("warning: %s is statically linked, so it will run without the library, and only dynamic programs "
		      "that it "
		      "starts will have it: use --supervise",
		      vmm->program);
	else if (vmm->go)
		warnx("warning: %s is written in Go, whose programs call the kernel without libc, so the library will "
		      "not see its "
		      "calls: use --supervise",
		      vmm->program);
	else if (gains)
		warnx("warning: %s %s, so its loader will ignore LD_PRELOAD: as root, use --supervise",
		      vmm->program, gains);
}

// Puts the library before what LD_PRELOAD names already.
static void put_first(const char *name)
{
	const char *others = getenv("LD_PRELOAD");
	char *value;

	if (asprintf(&value, "%s%s%s", name, others && *others ? ":" : "", others ? others : "") <
		    0 ||
	    setenv("LD_PRELOAD", value, 1))
		err(EXIT_OWN_FAILURE, "LD_PRELOAD");
	free(value);
}

static void preload(const struct settings *settings, const struct executable *vmm,
		    const char *reason)
{
	struct log log;
	struct report_line line;
	const char *name = library();
	const char *error;

	check_library(name);
	warn_if_ignored(vmm);
	put_first(name);
	log_init(&log, settings->log, settings->log_path, settings->log_level);
	if (!log_takes(&log, LOG_LEVEL_DEBUG))
		return;
	// The library reports the settings' problems, and a log that cannot be opened.
	log.pid = getpid();
	log_open(&log, &error);
	report_begin(&line, &log, LOG_LEVEL_DEBUG, "run");
	report_text(&line, "mode", "preload");
	report_text(&line, "reason", reason);
	report_text(&line, "program", vmm->program);
	report_text(&line, "library", name);
	report_send(&line);
}

// The supervisor sees a call before the kernel makes it, so it never sees what KVM returns. A
// setting for every VMM of the host must not keep one from starting, an option that names what is
// impossible must.
static void limit_to_restores(struct settings *settings, bool is_option)
{
	if (!policy_trims(settings->trim, XSAVE_SAVE))
		return;
	if (is_option)
		errx(EXIT_OWN_FAILURE,
		     "a supervisor cannot trim what KVM saves: use --trim=restore, or --preload if the VMM is "
		     "dynamically linked");
	warnx("warning: %s=%s: a supervisor cannot trim what KVM saves, so it trims what the VMM restores and nothing "
	      "else",
	      settings_key(SETTING_TRIM), settings_text(settings, SETTING_TRIM));
	settings->trim = TRIM_RESTORE;
}

static bool is_for_library(const struct executable *vmm)
{
	return has_our_loader(vmm) && !vmm->go;
}

static const char *reason_for(enum run_mode mode, const struct executable *vmm)
{
	if (mode != RUN_AUTO)
		return "asked-for";
	if (vmm->kind == EXECUTABLE_STATIC)
		return "static";
	if (vmm->go)
		return "go";
	return has_our_loader(vmm) ? "dynamic" : "other-loader";
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
	reason = reason_for(options.mode, &vmm);
	if (options.mode == RUN_PRELOAD || (options.mode == RUN_AUTO && is_for_library(&vmm))) {
		preload(&settings, &vmm, reason);
	} else {
		limit_to_restores(&settings, options.trim);
		attach_supervisor(&settings, vmm.program, reason);
	}
	execv(vmm.path, argv);
	fail_exec(vmm.path);
}
