// SPDX-License-Identifier: MIT
#include "xsaveshim/record.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(RECORD_MAGIC) == sizeof(((struct xsaveshim_record *)0)->magic),
	      "RECORD_MAGIC fills the member magic");

void record_publish(struct xsaveshim_record *record, const struct settings *settings)
{
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		record->values[setting] = settings->values[setting];
	record->log_path = settings->log_path;
	if (settings->log == LOG_NONE)
		record->log_in_use = LOG_IN_USE(LOG_NONE);
	atomic_store_explicit(&record->version, RECORD_VERSION, memory_order_release);
}

bool record_settings(const struct xsaveshim_record *record, const char log_path[PATH_MAX],
		     struct settings *settings)
{
	bool valid = record->version == RECORD_VERSION;

	settings_init(settings);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		valid = valid && settings_set_number(settings, setting, record->values[setting]);
	memcpy(settings->log_path, log_path, sizeof(settings->log_path) - 1);
	settings->log_path[sizeof(settings->log_path) - 1] = '\0';
	return valid;
}

bool record_log_in_use(const struct xsaveshim_record *record, enum log_target *target)
{
	uint32_t in_use = record->log_in_use;

	*target = in_use > LOG_IN_USE(LOG_PATH) ? LOG_NONE : (enum log_target)(in_use - 1);
	return in_use && in_use <= LOG_IN_USE(LOG_PATH);
}
