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

static void record_of_any_bytes(void)
{
	static struct xsaveshim_record record;
	static const uint32_t largest[SETTINGS] = {
		TRIM_NONE, REFUSED_REPORT, LOG_PATH, LOG_LEVEL_DEBUG};
	char path[PATH_MAX];
	struct settings settings;

	memset(path, 'x', sizeof(path));
	record.version = RECORD_VERSION;
	for (enum setting setting = 0; setting < SETTINGS; setting++) {
		record.values[setting] = largest[setting] + 1;
		same("too large by one", record_settings(&record, path, &settings), false);
		record.values[setting] = UINT32_MAX;
		same("too large", record_settings(&record, path, &settings), false);
		record.values[setting] = largest[setting];
		same("the largest", record_settings(&record, path, &settings), true);
		same(settings_key(setting), settings.values[setting], largest[setting]);
	}
	same("length of the path", strlen(settings.log_path), sizeof(settings.log_path) - 1);
}

const struct test_case record_cases[] = {
	{"a record keeps the settings and whether a vCPU was seen", record_keeps},
	{"a record that was not published, or that has another version, has no settings",
	 record_of_another_version},
	{"a record that holds no accepted values is refused, and a path without an end is cut",
	 record_of_any_bytes},
	{NULL, NULL},
};
