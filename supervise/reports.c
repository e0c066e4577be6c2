// SPDX-License-Identifier: MIT
#include "reports.h"

#include <pthread.h>

#include "stderr.h"
#include "xsaveshim/report.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct log report_log;

bool reports_open(const struct settings *settings, pid_t vmm, _Atomic uint32_t *in_use)
{
	log_init(&report_log, settings->log, settings->log_path, settings->log_level);
	report_log.via = "supervisor";
	report_log.foresees = true;
	report_log.polls = true;
	report_log.in_use = in_use;
	report_log.pid = vmm;
	report_open_log(&report_log, settings);
	return report_log.standard_error.fd >= 0;
}

bool reports_take(enum log_level level)
{
	return log_takes(&report_log, level);
}

struct log *reports_begin(pid_t process)
{
	pthread_mutex_lock(&lock);
	if (report_log.target != LOG_NONE)
		stderr_check_now();
	if (report_log.target == LOG_STDERR)
		stderr_wait_writable();
	report_log.pid = process;
	return &report_log;
}

void reports_end(void)
{
	pthread_mutex_unlock(&lock);
}
