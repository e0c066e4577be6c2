// SPDX-License-Identifier: MIT
#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

bool failed;

void same(const char *what, uint64_t got, uint64_t expected)
{
	if (got == expected)
		return;
	printf("%s: got 0x%llx, expected 0x%llx\n", what, (unsigned long long)got,
	       (unsigned long long)expected);
	failed = true;
}

void same_text(const char *what, const char *got, const char *expected)
{
	if (!strcmp(got, expected))
		return;
	printf("%s: got\n%s\nexpected\n%s\n", what, got, expected);
	failed = true;
}

int report_pipe[2];
static char report_text_read[4096];

struct log piped_log(enum log_level level)
{
	struct log log = {0};

	must(!pipe2(report_pipe, O_CLOEXEC | O_NONBLOCK), "pipe2");
	log_init_fd(&log, report_pipe[1], level);
	return log;
}

const char *read_text(int fd)
{
	ssize_t size = read(fd, report_text_read, sizeof(report_text_read) - 1);

	report_text_read[size > 0 ? size : 0] = '\0';
	return report_text_read;
}

const struct vcpu_call restore_call = {"KVM_SET_XSAVE", 14, {VCPU_XCR0, 0, 0, 0}, false};

void hide(const char *directory)
{
	static bool own;

	if (!own)
		must(!unshare(CLONE_NEWNS) || !unshare(CLONE_NEWUSER | CLONE_NEWNS),
		     "unshare(CLONE_NEWNS)");
	own = true;
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount --make-rprivate /");
	must(!mount("none", directory, "tmpfs", 0, NULL), directory);
}

struct settings settings_with(enum setting setting, const char *value)
{
	struct settings settings;

	settings_init(&settings);
	same("setting accepted", settings_set(&settings, setting, value), true);
	return settings;
}
