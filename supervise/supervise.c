// SPDX-License-Identifier: MIT
#include "supervise.h"

#include <err.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "guardian.h"
#include "handlers.h"
#include "listener.h"
#include "reports.h"
#include "stderr.h"
#include "tracked.h"
#include "xsaveshim/record.h"
#include "xsaveshim/report.h"

static struct xsaveshim_record record = {.magic = RECORD_MAGIC};
static struct tracked tracked;
static int listener;
static pid_t first_process;
static bool has_stderr;

// Raises the limit of descriptors, because the supervisor needs a descriptor for each process that
// it serves. Returns how many descriptors the supervisor may have.
static unsigned long raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		err(EXIT_FAILURE, "the supervisor ends: getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		err(EXIT_FAILURE, "the supervisor ends: setrlimit");
	return limit.rlim_cur < INT_MAX ? limit.rlim_cur : INT_MAX;
}

static void report_run(const char *program, const char *reason)
{
	struct report_line line;

	if (!reports_take(LOG_LEVEL_DEBUG))
		return;
	report_begin(&line, reports_begin(first_process), LOG_LEVEL_DEBUG, "run");
	report_text(&line, "mode", "supervisor");
	report_text(&line, "reason", reason);
	report_text(&line, "program", program);
	report_send(&line);
	reports_end();
}

void supervise_prepare(int fd, int socket, const struct settings *settings, pid_t vmm,
		       const char *program, const char *reason)
{
	listener = fd;
	first_process = vmm;
	has_stderr = reports_open(settings, vmm, &record.log_in_use);
	report_run(program, reason);
	guardian_start(listener, settings, vmm, socket);
	tracked_init(&tracked, raise_descriptor_limit());
	tracked.owner_bits = guardian_owners();
	handlers_init(listener, settings, &tracked, &record);
	record_publish(&record, settings);
}

void supervise(void)
{
	if (has_stderr)
		stderr_start(&tracked, first_process, guardian_release_stderr);
	listener_serve(listener, &tracked);
}
