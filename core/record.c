// SPDX-License-Identifier: MIT
#include "xsaveshim/record.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(RECORD_MAGIC) == sizeof(((struct xsaveshim_record *)0)->magic),
	      "the magic fills its field");

void record_publish(struct xsaveshim_record *record, const struct settings *settings)
{
	record->trim = settings->trim;
	record->refused = settings->refused;
	record->log = settings->log;
	record->log_level = settings->log_level;
	record->log_path = settings->log_path;
	atomic_store_explicit(&record->version, RECORD_VERSION, memory_order_release);
}

bool record_settings(const struct xsaveshim_record *record, const char log_path[PATH_MAX],
		     struct settings *settings)
{
	bool valid = record->version == RECORD_VERSION && record->trim <= TRIM_NONE &&
		     record->refused <= REFUSED_REPORT && record->log <= LOG_PATH &&
		     record->log_level <= LOG_LEVEL_DEBUG;

	settings_init(settings);
	if (!valid)
		return false;
	settings->trim = (enum trim)record->trim;
	settings->refused = (enum refused_action)record->refused;
	settings->log = (enum log_target)record->log;
	settings->log_level = (enum log_level)record->log_level;
	memcpy(settings->log_path, log_path, sizeof(settings->log_path) - 1);
	settings->log_path[sizeof(settings->log_path) - 1] = '\0';
	return true;
}
