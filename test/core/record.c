// SPDX-License-Identifier: MIT
// Tests record.h. xsaveshim's library and supervisor each keep their settings and event counts in a
// struct, the record. `xsaveshim status` reads the record from the memory of the VMM or of the
// supervisor.
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
	same("settings are valid", record_settings(&record, record.log_path, &out), true);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		same_text(settings_key(setting), settings_text(&out, setting),
			  settings_text(&in, setting));
	same("vCPU seen", record.vcpu_seen, 0);
	record_vcpu(&record);
	same("vCPU seen", record.vcpu_seen, 1);
}

static void record_counts(void)
{
	static struct xsaveshim_record record = {.magic = RECORD_MAGIC};

	for (enum record_count event = 0; event < RECORD_COUNTS; event++)
		for (unsigned int times = 0; times <= event; times++)
			record_event(&record, event);
	for (enum record_count event = 0; event < RECORD_COUNTS; event++)
		same("count", record.counts[event], event + 1);
}

static void record_has_log(void)
{
	static struct xsaveshim_record record = {.magic = RECORD_MAGIC};
	struct settings none = settings_with(SETTING_LOG, "none");
	enum log_target target;

	same("an unpublished record has an open log", record_log_in_use(&record, &target), false);
	record_publish(&record, &none);
	same("log=none is open", record_log_in_use(&record, &target), true);
	same("log=none", target, LOG_NONE);
	for (enum log_target used = LOG_STDERR; used <= LOG_PATH; used++) {
		record.log_in_use = LOG_IN_USE(used);
		same("open", record_log_in_use(&record, &target), true);
		same("target", target, used);
	}
	record.log_in_use = LOG_IN_USE(LOG_PATH) + 1;
	same("log_in_use too large by one", record_log_in_use(&record, &target), false);
	record.log_in_use = UINT32_MAX;
	same("log_in_use of all ones", record_log_in_use(&record, &target), false);
}

static void record_of_another_version(void)
{
	static struct xsaveshim_record record = {.magic = RECORD_MAGIC};
	const char path[PATH_MAX] = "";
	struct settings settings;

	same("record that was not published", record_settings(&record, path, &settings), false);
	record.version = RECORD_VERSION + 1;
	same("record of a newer version", record_settings(&record, path, &settings), false);
	record.version = RECORD_VERSION;
	same("record of this version", record_settings(&record, path, &settings), true);
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
		same("value too large by one", record_settings(&record, path, &settings), false);
		record.values[setting] = UINT32_MAX;
		same("value of all ones", record_settings(&record, path, &settings), false);
		record.values[setting] = largest[setting];
		same("the largest value", record_settings(&record, path, &settings), true);
		same(settings_key(setting), settings.values[setting], largest[setting]);
	}
	same("length of the path", strlen(settings.log_path), sizeof(settings.log_path) - 1);
}

const struct test_case record_cases[] = {
	{"the record that the command xsaveshim status reads from a VMM's memory has the settings, and says whether the VMM has used a vCPU",
	 record_keeps},
	{"the record that the command xsaveshim status reads from memory has a count for each kind of event",
	 record_counts},
	{"once the log is open, the record that the command xsaveshim status reads from memory says where the reports go",
	 record_has_log},
	{"if the record in a VMM's memory is empty, or has another version than xsaveshim status expects, xsaveshim status takes no settings from the record",
	 record_of_another_version},
	{"if the record in a VMM's memory has a setting out of range, xsaveshim status refuses the record; if the record's log path lacks a NUL, xsaveshim status shortens the path",
	 record_of_any_bytes},
	{NULL, NULL},
};
