// SPDX-License-Identifier: MIT
// xsaveshim status: lists the running VMMs and whether xsaveshim protects them.
#include "command.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "host_helper.h"
#include "inspect.h"
#include "options.h"
#include "shared/output.h"

// The most pids that a line of text names. JSON has all.
#define NAMED_PIDS 10

// Each is also an exit status.
enum protection { PROTECTED, UNPROTECTED, UNKNOWN };

static const char *const protection_names[] = {
	[PROTECTED] = "protected", [UNPROTECTED] = "unprotected", [UNKNOWN] = "unknown"};
static const char *const mode_names[] = {
	[MODE_NONE] = "none",
	[MODE_BYPASSED] = "bypassed",
	[MODE_LIBRARY] = "library",
	[MODE_SUPERVISOR] = "supervisor",
	[MODE_HOST] = "host"};

static const char *const obstruction_names[] = {
	[NOT_PERMITTED] = "not-permitted", [NO_ANSWER] = "no-answer", [NO_TIME] = "no-time"};

static enum protection protection_of(const struct vmm *vmm)
{
	if (inspect_is_protected(vmm))
		return PROTECTED;
	if (vmm->settings_known)
		return UNPROTECTED;
	return vmm->mode == MODE_LIBRARY || vmm->mode == MODE_SUPERVISOR ? UNKNOWN : UNPROTECTED;
}

static size_t count(const struct inspection *inspection, enum protection protection)
{
	size_t count = 0;

	for (size_t i = 0; i < inspection->vmm_count; i++)
		count += protection_of(&inspection->vmms[i]) == protection;
	return count;
}

static enum protection protection_of_all(const struct inspection *inspection)
{
	if (count(inspection, UNPROTECTED))
		return UNPROTECTED;
	return inspection->not_inspected_count || count(inspection, UNKNOWN) ? UNKNOWN : PROTECTED;
}

// The host mode has no log of its own.
static enum setting settings_count(const struct vmm *vmm)
{
	return vmm->mode == MODE_HOST ? SETTING_LOG : SETTINGS;
}

static json_t *json_settings(const struct vmm *vmm)
{
	json_t *json = json_object();

	for (enum setting setting = 0; setting < settings_count(vmm); setting++)
		json_object_set_new(json, settings_json_key(setting),
				    output_text(settings_text(&vmm->settings, setting)));
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

static json_t *json_vmm(const struct vmm *vmm)
{
	enum protection protection = protection_of(vmm);

	return json_pack(
		"{s:i, s:o, s:i, s:s, s:o, s:o, s:b, s:o}", "pid", vmm->pid, "name",
		output_text(vmm->name), "vcpus", vmm->vcpus, "mode", mode_names[vmm->mode],
		"protected",
		protection == UNKNOWN ? json_null() : json_boolean(protection == PROTECTED),
		"library", has_library(vmm) ? output_text(vmm->library.path) : json_null(),
		"library_replaced", is_replaced(vmm), "settings",
		vmm->settings_known ? json_settings(vmm) : json_null());
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
	printf("%7d  %5u  %-9s  %-19s  %-*s ", vmm->pid, vmm->vcpus, words[protection_of(vmm)],
	       mode, name_width, clean(vmm->name).text);
	for (enum setting setting = 0; setting < settings_count(vmm) && vmm->settings_known;
	     setting++)
		printf(" %s=%s", settings_json_key(setting),
		       clean(settings_text(&vmm->settings, setting)).text);
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
	printf("%7s  %5s  %-9s  %-19s  %-*s  %s\n", "PID", "VCPUS", "PROTECTED", "MODE", name_width,
	       "NAME", "SETTINGS");
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
		return "the kernel gave no answer about them within a second, as if a file that they have mapped hung: look at them, and run this again";
	case NO_TIME:
		break;
	}
	return "others took 30 seconds: run this again";
}

static void print_not_inspected(const struct inspection *inspection, enum obstruction obstruction)
{
	size_t count = 0;

	for (size_t i = 0; i < inspection->not_inspected_count; i++)
		count += inspection->not_inspected[i].obstruction == obstruction;
	if (!count)
		return;
	printf("%zu of the running processes could not be inspected (pid", count);
	for (size_t i = 0, printed = 0; i < inspection->not_inspected_count; i++) {
		if (inspection->not_inspected[i].obstruction != obstruction)
			continue;
		if (printed++ == NAMED_PIDS) {
			fputs(" ...", stdout);
			break;
		}
		printf(" %d", inspection->not_inspected[i].pid);
	}
	printf("): %s\n", obstruction_remedy(obstruction));
}

// Explains the words in the table and says what to do.
static void print_notes(const struct inspection *inspection)
{
	size_t unprotected = count(inspection, UNPROTECTED), unknown = count(inspection, UNKNOWN);
	bool any_bypassed = false, any_replaced = false;

	for (size_t i = 0; i < inspection->vmm_count; i++) {
		any_bypassed |= inspection->vmms[i].mode == MODE_BYPASSED;
		any_replaced |= is_replaced(&inspection->vmms[i]);
	}
	if (unprotected)
		printf("%zu of %zu VMMs not protected: restart them under `xsaveshim run` or with libxsaveshim.so preloaded, with XSAVESHIM_TRIM=restore or both, or enable `xsaveshim host`\n",
		       unprotected, inspection->vmm_count);
	if (any_bypassed)
		puts("bypassed: the VMM has the library, but calls the kernel without libc, so the library does not see its calls: restart it under `xsaveshim run --supervise`");
	if (unknown)
		printf("%zu of %zu VMMs unknown: %s\n", unknown, inspection->vmm_count,
		       geteuid()
			       ? "only root may read their settings: run this as root"
			       : "their library or supervisor is of another version than this command, which cannot read its settings: restart them");
	if (any_replaced)
		puts("(replaced): the library's file has been removed or replaced, and the VMM still runs with the old library");
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

static const char help[] =
	"usage: xsaveshim status [--json]\n\n"
	"Lists the running VMMs and whether xsaveshim trims what they restore.\n\n"
	"Exit status: 0 all VMMs are protected; 1 a VMM is not protected; 2 no\n"
	"unprotected VMM was found, but some processes could not be inspected.\n";

// The host mode protects each VMM that no other mode protects.
static void add_host_mode(struct inspection *inspection)
{
	struct settings settings;

	if (count(inspection, PROTECTED) == inspection->vmm_count ||
	    !host_helper_query(&settings) || !policy_trims(settings.trim, XSAVE_RESTORE))
		return;
	for (size_t i = 0; i < inspection->vmm_count; i++) {
		struct vmm *vmm = &inspection->vmms[i];

		if (protection_of(vmm) == PROTECTED)
			continue;
		vmm->mode = MODE_HOST;
		vmm->settings_known = true;
		vmm->settings = settings;
	}
}

int status_main(int argc, char **argv)
{
	struct inspection inspection;
	enum protection protection;
	bool json;
	int ended = options_parse_json(argc, argv, help, &json);

	if (ended >= 0)
		return ended;
	if (!inspect_processes(&inspection)) {
		warn("cannot read /proc, which must be mounted and readable");
		return UNKNOWN;
	}
	add_host_mode(&inspection);
	if (json)
		print_json(&inspection);
	else
		print_text(&inspection);
	protection = protection_of_all(&inspection);
	free(inspection.vmms);
	free(inspection.not_inspected);
	return protection;
}
