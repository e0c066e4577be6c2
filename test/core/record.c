// SPDX-License-Identifier: MIT
// record.h: the settings that another process reads.
#include <limits.h>
#include <string.h>

#include "check.h"
#include "xsaveshim/record.h"

static void record_keeps(void)
{
	static struct xsaveshim_record record = {.magic = RECORD_MAGIC};
	struct settings in, out;

	settings_init(&in);
	settings_set(&in, SETTING_TRIM, "both");
	settings_set(&in, SETTING_REFUSED, "report");
	settings_set(&in, SETTING_LOG, "/a/log");
	settings_set(&in, SETTING_LOG_LEVEL, "debug");
	record_publish(&record, &in);
	same("read", record_settings(&record, record.log_path, &out), true);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		same_text(settings_key(setting), settings_text(&out, setting),
			  settings_text(&in, setting));
	same("vCPU seen", record.vcpu_seen, 0);
	record_vcpu(&record);
	same("vCPU seen", record.vcpu_seen, 1);
}

static void record_of_another_version(void)
{
	static struct xsaveshim_record record = {.magic = RECORD_MAGIC};
	const char path[PATH_MAX] = "";
	struct settings settings;

	same("not published", record_settings(&record, path, &settings), false);
	record.version = RECORD_VERSION + 1;
	same("newer", record_settings(&record, path, &settings), false);
	record.version = RECORD_VERSION;
	same("this one", record_settings(&record, path, &settings), true);
}

static void record_of_anything(void)
{
	static struct xsaveshim_record record;
	uint32_t *const values[] = {&record.trim, &record.refused, &record.log, &record.log_level};
	const uint32_t too_large[] = {
		TRIM_NONE + 1, REFUSED_REPORT + 1, LOG_PATH + 1, LOG_LEVEL_DEBUG + 1};
	char path[PATH_MAX];
	struct settings settings;

	memset(path, 'x', sizeof(path));
	record.version = RECORD_VERSION;
	for (size_t i = 0; i < 4; i++) {
		*values[i] = too_large[i];
		same("too large by one", record_settings(&record, path, &settings), false);
		*values[i] = UINT32_MAX;
		same("too large", record_settings(&record, path, &settings), false);
		*values[i] = 0;
	}
	same("read", record_settings(&record, path, &settings), true);
	same("length of the path", strlen(settings.log_path), sizeof(settings.log_path) - 1);
}

const struct test_case record_cases[] = {
	{"settings come out of a record as they were put in", record_keeps},
	{"a record that was not published, or has another version, has no settings",
	 record_of_another_version},
	{"a record whose bytes are no settings is refused, and a path that does not end is cut",
	 record_of_anything},
	{NULL, NULL},
};
