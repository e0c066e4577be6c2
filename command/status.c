// SPDX-License-Identifier: MIT
// xsaveshim status: lists the running VMMs, and says for each VMM whether xsaveshim protects it.
#include "command.h"

#include <ctype.h>
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "host_helper.h"
#include "inspect.h"
#include "options.h"
#include "shared/output.h"

// Each line of the text output names at most this many pids. The JSON output names all pids.
#define NAMED_PIDS 10

// Each of these values is also an exit status of `xsaveshim status`.
enum protection { PROTECTED, UNPROTECTED, UNKNOWN };

static const char *const protection_names[] = {
	[PROTECTED] = "protected", [UNPROTECTED] = "unprotected", [UNKNOWN] = "unknown"};
static const char *const mode_names[] = {
	[MODE_NONE] = "none",
	[MODE_BYPASSED] = "bypassed",
	[MODE_LIBRARY] = "library",
	[MODE_SUPERVISOR] = "supervisor",
	[MODE_HOST] = "host"};

// The keys of the counts in the JSON output. In the text output, each key is a column's heading, in
// upper case and with hyphens instead of underscores.
static const char *const count_names[RECORD_COUNTS] = {
	[RECORD_TRIMMED] = "trimmed",
	[RECORD_WOULD_TRIM] = "would_trim",
	[RECORD_REFUSED] = "refused",
	[RECORD_LOST] = "lost",
	[RECORD_REFUSED_STATE] = "refused_state",
};

static const char *const obstruction_names[] = {
	[NOT_PERMITTED] = "not-permitted", [NO_ANSWER] = "no-answer", [NO_TIME] = "no-time"};

static enum protection protection_of(const struct vmm *vmm)
{
	if (inspect_is_protected(vmm))
		return PROTECTED;
	if (vmm->state.known)
		return UNPROTECTED;
	return vmm->mode == MODE_LIBRARY || vmm->mode == MODE_SUPERVISOR ? UNKNOWN : UNPROTECTED;
}

typedef bool vmm_test(const struct vmm *vmm);

static bool is_unprotected(const struct vmm *vmm)
{
	return protection_of(vmm) == UNPROTECTED;
}

static bool is_unknown(const struct vmm *vmm)
{
	return protection_of(vmm) == UNKNOWN;
}

static size_t count(const struct inspection *inspection, vmm_test *is_counted)
{
	size_t count = 0;

	for (size_t i = 0; i < inspection->vmm_count; i++)
		count += is_counted(&inspection->vmms[i]);
	return count;
}

static enum protection protection_of_all(const struct inspection *inspection)
{
	if (count(inspection, is_unprotected))
		return UNPROTECTED;
	return inspection->not_inspected_count || count(inspection, is_unknown)
		       ? UNKNOWN
		       : PROTECTED;
}

// Returns true if this VMM's value of the setting is known. The host mode has only the settings
// trim and refused.
static bool has_setting(const struct vmm *vmm, enum setting setting)
{
	return vmm->state.known &&
	       (vmm->mode != MODE_HOST || setting == SETTING_TRIM || setting == SETTING_REFUSED);
}

static json_t *json_settings(const struct vmm *vmm)
{
	json_t *json = json_object();

	for (enum setting setting = 0; setting < SETTINGS; setting++)
		json_object_set_new(
			json, settings_json_key(setting),
			has_setting(vmm, setting)
				? output_text(settings_text(&vmm->state.settings, setting))
				: json_null());
	return json;
}

static bool has_library(const struct vmm *vmm)
{
	return vmm->mode == MODE_LIBRARY || vmm->mode == MODE_BYPASSED;
}

static bool is_replaced(const struct vmm *vmm)
{
	return has_library(vmm) && vmm->library.replaced;
}

// Returns true if the event counts of the VMM's library or supervisor are known. Returns false in
// the host mode, which counts the events of all VMMs together.
static bool has_counts(const struct vmm *vmm)
{
	return vmm->state.known && vmm->mode != MODE_HOST;
}

// Returns where the VMM's library or supervisor writes reports. Returns NULL if the place is
// unknown, or if the log is not open.
static const char *log_in_use(const struct vmm *vmm)
{
	static struct settings settings;

	if (!has_counts(vmm) || !vmm->state.log_is_open)
		return NULL;
	settings = vmm->state.settings;
	settings.log = vmm->state.log_in_use;
	return settings_text(&settings, SETTING_LOG);
}

static bool has_fallen_back(const struct vmm *vmm)
{
	return log_in_use(vmm) && vmm->state.log_in_use != vmm->state.settings.log;
}

static json_t *json_counts(const struct vmm *vmm)
{
	json_t *json = json_object();

	for (enum record_count count = 0; count < RECORD_COUNTS; count++)
		json_object_set_new(json, count_names[count],
				    json_integer((json_int_t)vmm->state.counts[count]));
	return json;
}

static json_t *json_vmm(const struct vmm *vmm)
{
	enum protection protection = protection_of(vmm);
	json_t *json = json_pack(
		"{s:i, s:o, s:i, s:b, s:s, s:o, s:o, s:b, s:o}", "pid", vmm->pid, "name",
		output_text(vmm->name), "vcpus", vmm->vcpus, "libvirt", vmm->is_libvirts, "mode",
		mode_names[vmm->mode], "protected",
		protection == UNKNOWN ? json_null() : json_boolean(protection == PROTECTED),
		"library", has_library(vmm) ? output_text(vmm->library.path) : json_null(),
		"library_replaced", is_replaced(vmm), "supervisor",
		vmm->supervisor ? json_integer(vmm->supervisor) : json_null());

	json_object_update_new(
		json,
		json_pack("{s:o, s:o, s:s?, s:o}", "settings",
			  vmm->state.known ? json_settings(vmm) : json_null(), "log_in_use",
			  log_in_use(vmm) ? output_text(log_in_use(vmm)) : json_null(), "counts_of",
			  !has_counts(vmm)  ? NULL
			  : vmm->supervisor ? "supervisor"
					    : "vmm",
			  "counts", has_counts(vmm) ? json_counts(vmm) : json_null()));
	return json;
}

static void print_json(const struct inspection *inspection)
{
	json_t *vmms = json_array(), *not_inspected = json_array();
	json_t *json;

	for (size_t i = 0; i < inspection->vmm_count; i++)
		json_array_append_new(vmms, json_vmm(&inspection->vmms[i]));
	for (size_t i = 0; i < inspection->not_inspected_count; i++)
		json_array_append_new(
			not_inspected,
			json_pack("{s:i, s:s}", "pid", inspection->not_inspected[i].pid, "reason",
				  obstruction_names[inspection->not_inspected[i].obstruction]));
	json = output_head();
	json_object_update_new(
		json, json_pack("{s:o, s:o, s:s}", "vmms", vmms, "not_inspected", not_inspected,
				"verdict", protection_names[protection_of_all(inspection)]));
	output_print(json);
}

static void print_vmm(const struct vmm *vmm, int name_width)
{
	static const char *const words[] = {
		[PROTECTED] = "yes", [UNPROTECTED] = "NO", [UNKNOWN] = "unknown"};
	char mode[32];

	snprintf(mode, sizeof(mode), "%s%s", mode_names[vmm->mode],
		 is_replaced(vmm) ? " (replaced)" : "");
	printf("%7d  %5u  %-9s  %-19s  %-*s", vmm->pid, vmm->vcpus, words[protection_of(vmm)], mode,
	       name_width, clean(vmm->name).text);
	for (enum record_count count = 0; count < RECORD_COUNTS; count++) {
		char number[24] = "-";

		if (has_counts(vmm))
			snprintf(number, sizeof(number), "%" PRIu64 "%s", vmm->state.counts[count],
				 vmm->supervisor ? "*" : "");
		printf("  %*s", (int)strlen(count_names[count]), number);
	}
	putchar(' ');
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		if (has_setting(vmm, setting))
			printf(" %s=%s", settings_json_key(setting),
			       clean(settings_text(&vmm->state.settings, setting)).text);
	if (has_fallen_back(vmm))
		printf(" log_in_use=%s", clean(log_in_use(vmm)).text);
	putchar('\n');
}

static void print_table(const struct inspection *inspection)
{
	int name_width = (int)strlen("NAME");

	for (size_t i = 0; i < inspection->vmm_count; i++) {
		int width = (int)strlen(inspection->vmms[i].name);

		if (width > name_width)
			name_width = width;
	}
	printf("%7s  %5s  %-9s  %-19s  %-*s", "PID", "VCPUS", "PROTECTED", "MODE", name_width,
	       "NAME");
	for (enum record_count count = 0; count < RECORD_COUNTS; count++) {
		fputs("  ", stdout);
		for (const char *c = count_names[count]; *c; c++)
			putchar(*c == '_' ? '-' : toupper(*c));
	}
	puts("  SETTINGS");
	for (size_t i = 0; i < inspection->vmm_count; i++)
		print_vmm(&inspection->vmms[i], name_width);
}

static const char *obstruction_remedy(enum obstruction obstruction)
{
	switch (obstruction) {
	case NOT_PERMITTED:
		return geteuid()
			       ? "run this as root"
			       : "run this with all of root's capabilities, outside of any container";
	case NO_ANSWER:
		return "the kernel gave no answer about them within a second: find out why (perhaps they have mapped a file of a file system that hangs), and run this again";
	case NO_TIME:
		break;
	}
	return "xsaveshim status stopped after 30 seconds, before it reached them: run this again";
}

// Prints each of the first NAMED_PIDS pids. Prints "..." once for all further pids.
static void print_pid(pid_t pid, size_t *printed)
{
	if (*printed < NAMED_PIDS)
		printf(" %d", pid);
	else if (*printed == NAMED_PIDS)
		fputs(" ...", stdout);
	++*printed;
}

static void print_not_inspected(const struct inspection *inspection, enum obstruction obstruction)
{
	size_t count = 0, printed = 0;

	for (size_t i = 0; i < inspection->not_inspected_count; i++)
		count += inspection->not_inspected[i].obstruction == obstruction;
	if (!count)
		return;
	printf("%zu of the running processes could not be inspected (pid", count);
	for (size_t i = 0; i < inspection->not_inspected_count; i++)
		if (inspection->not_inspected[i].obstruction == obstruction)
			print_pid(inspection->not_inspected[i].pid, &printed);
	printf("): %s\n", obstruction_remedy(obstruction));
}

// Counts the VMMs for which is_named() returns true. Prints their number, the text `what`, and
// their pids. If there are no such VMMs, prints nothing and returns false.
static bool print_vmms(const struct inspection *inspection, vmm_test *is_named, const char *what)
{
	size_t named = count(inspection, is_named), printed = 0;

	if (!named)
		return false;
	printf("%zu of %zu VMMs %s (pid", named, inspection->vmm_count, what);
	for (size_t i = 0; i < inspection->vmm_count; i++)
		if (is_named(&inspection->vmms[i]))
			print_pid(inspection->vmms[i].pid, &printed);
	putchar(')');
	return true;
}

static bool is_libvirts_unprotected(const struct vmm *vmm)
{
	return is_unprotected(vmm) && vmm->is_libvirts;
}

static bool is_other_unprotected(const struct vmm *vmm)
{
	return is_unprotected(vmm) && !vmm->is_libvirts;
}

static bool is_bypassed(const struct vmm *vmm)
{
	return vmm->mode == MODE_BYPASSED;
}

static bool is_counted_by_supervisor(const struct vmm *vmm)
{
	return vmm->supervisor && has_counts(vmm);
}

// Explains the words in the printed table, and says what the user can do.
static void print_notes(const struct inspection *inspection)
{
	static const char all_modes[] =
		": restart them under `xsaveshim run` or with libxsaveshim.so preloaded, and with XSAVESHIM_TRIM=restore or XSAVESHIM_TRIM=both; or run `xsaveshim host enable` instead";
	static const char libvirt[] =
		": run `xsaveshim-libvirt enable`, and then do for each VMM what `xsaveshim-libvirt status` says (stop and start it, or save and restore it); or run `xsaveshim host enable` instead";

	if (print_vmms(inspection, is_other_unprotected, "not protected"))
		puts(all_modes);
	if (print_vmms(inspection, is_libvirts_unprotected,
		       "were started by libvirt and are not protected"))
		puts(libvirt);
	if (count(inspection, is_bypassed))
		puts("bypassed: the VMM has the library, but calls the kernel without libc, so the library does not see its calls: restart it under `xsaveshim run --supervise`");
	if (print_vmms(inspection, is_unknown, "unknown"))
		printf(": %s\n",
		       geteuid()
			       ? "only root may read their settings: run this as root"
			       : "the version of their library or supervisor is not the version of this command, so this command cannot read their settings: restart these VMMs");
	if (count(inspection, is_replaced))
		puts("(replaced): the library's file has been removed or replaced, and the VMM still runs with the old library");
	if (count(inspection, has_fallen_back))
		puts("log_in_use: the place after log= takes no reports, so they go to the place after log_in_use= (none: they are lost)");
	if (count(inspection, is_counted_by_supervisor))
		puts("*: counted for all VMMs of the same supervisor together");
	for (enum obstruction obstruction = NOT_PERMITTED; obstruction <= NO_TIME; obstruction++)
		print_not_inspected(inspection, obstruction);
}

static void print_text(const struct inspection *inspection)
{
	if (inspection->vmm_count)
		print_table(inspection);
	else
		puts("no VMM found");
	print_notes(inspection);
}

// ---- the option --check, which follows the convention of monitoring plugins ----

enum { CHECK_OK, CHECK_WARNING, CHECK_CRITICAL, CHECK_UNKNOWN };

static bool has_refused(const struct vmm *vmm)
{
	return has_counts(vmm) && vmm->state.counts[RECORD_REFUSED];
}

static bool has_lost(const struct vmm *vmm)
{
	return has_counts(vmm) && vmm->state.counts[RECORD_LOST];
}

static bool has_refused_state(const struct vmm *vmm)
{
	return has_counts(vmm) && vmm->state.counts[RECORD_REFUSED_STATE];
}

// The checks of `xsaveshim status --check`. The first one that applies to a VMM decides the exit
// status.
static const struct check {
	int status;
	vmm_test *applies;
	const char *what;
} checks[] = {
	{CHECK_CRITICAL, is_unprotected, "not protected"},
	{CHECK_CRITICAL, has_refused, "had a payload or an XCR0 refused by KVM"},
	{CHECK_CRITICAL, has_lost, "lost state"},
	{CHECK_WARNING, has_refused_state,
	 "had vCPU state other than payloads and XCR0s refused by KVM"},
	{CHECK_WARNING, has_fallen_back, "with a log that takes no reports"},
	{CHECK_WARNING, is_replaced, "with a library whose file was replaced"},
	{CHECK_UNKNOWN, is_unknown, "with unknown settings"},
};

#define CHECKS (sizeof(checks) / sizeof(checks[0]))

static int check_status(const struct inspection *inspection)
{
	for (const struct check *check = checks; check < checks + CHECKS; check++)
		if (count(inspection, check->applies))
			return check->status;
	return inspection->not_inspected_count ? CHECK_UNKNOWN : CHECK_OK;
}

// Returns true if an earlier VMM in the list has the same supervisor. A supervisor counts the
// events of all its VMMs together, so a sum must include these counts only once.
static bool is_counted_already(const struct inspection *inspection, size_t index)
{
	const struct vmm *vmms = inspection->vmms;

	for (size_t i = 0; i < index && vmms[index].supervisor; i++)
		if (vmms[i].supervisor == vmms[index].supervisor)
			return true;
	return false;
}

static void print_performance_data(const struct inspection *inspection)
{
	printf(" | vmms=%zu unprotected=%zu unknown=%zu not_inspected=%zu", inspection->vmm_count,
	       count(inspection, is_unprotected), count(inspection, is_unknown),
	       inspection->not_inspected_count);
	for (enum record_count count = 0; count < RECORD_COUNTS; count++) {
		uint64_t sum = 0;

		for (size_t i = 0; i < inspection->vmm_count; i++)
			if (has_counts(&inspection->vmms[i]) && !is_counted_already(inspection, i))
				sum += inspection->vmms[i].state.counts[count];
		printf(" %s=%" PRIu64, count_names[count], sum);
	}
	putchar('\n');
}

// Prints the line of `xsaveshim status --check`, and returns the exit status.
static int report_check(const struct inspection *inspection)
{
	static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
	int status = check_status(inspection);
	const char *separator = "";
	size_t printed = 0;

	printf("xsaveshim %s: ", words[status]);
	if (status == CHECK_OK)
		printf("all of %zu VMMs protected", inspection->vmm_count);
	for (const struct check *check = checks; check < checks + CHECKS; check++) {
		if (!count(inspection, check->applies))
			continue;
		fputs(separator, stdout);
		print_vmms(inspection, check->applies, check->what);
		separator = ", ";
	}
	if (inspection->not_inspected_count) {
		printf("%s%zu processes not inspected (pid", separator,
		       inspection->not_inspected_count);
		for (size_t i = 0; i < inspection->not_inspected_count; i++)
			print_pid(inspection->not_inspected[i].pid, &printed);
		putchar(')');
	}
	print_performance_data(inspection);
	return status;
}

static const char help[] =
	"usage: xsaveshim status [--json | --check]\n\n"
	"Lists the running VMMs, and shows for each VMM whether xsaveshim trims the\n"
	"payloads that the VMM loads, and how often it did. With --check, prints one\n"
	"line, as monitoring plugins do.\n\n"
	"Exit status: 0 all VMMs are protected; 1 a VMM is not protected; 2 no VMM is\n"
	"known to be unprotected, but some processes or settings could not be read.\n"
	"With --check: 0 ok, 1 warning, 2 critical, 3 unknown.\n";

// If the host mode trims the payloads that VMMs load, sets MODE_HOST for each VMM that no other
// mode protects.
static void add_host_mode(struct inspection *inspection)
{
	struct settings settings;

	if (count(inspection, inspect_is_protected) == inspection->vmm_count ||
	    !host_helper_query(&settings) || !policy_trims(settings.trim, XSAVE_RESTORE))
		return;
	for (size_t i = 0; i < inspection->vmm_count; i++) {
		struct vmm *vmm = &inspection->vmms[i];

		if (protection_of(vmm) == PROTECTED)
			continue;
		vmm->mode = MODE_HOST;
		vmm->state = (struct state){.known = true, .settings = settings};
	}
}

int status_main(int argc, char **argv)
{
	struct inspection inspection;
	bool json, is_check = false;
	int status = options_parse_output(argc, argv, help, &json, &is_check);

	if (status >= 0)
		return status && is_check ? CHECK_UNKNOWN : status;
	if (!inspect_processes(&inspection)) {
		warn("cannot read /proc, which must be mounted and readable");
		return is_check ? CHECK_UNKNOWN : UNKNOWN;
	}
	add_host_mode(&inspection);
	status = (int)protection_of_all(&inspection);
	if (json)
		print_json(&inspection);
	else if (is_check)
		status = report_check(&inspection);
	else
		print_text(&inspection);
	free(inspection.vmms);
	free(inspection.not_inspected);
	return status;
}
