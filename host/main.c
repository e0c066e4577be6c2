// SPDX-License-Identifier: MIT
// `xsaveshim host`: enables, disables, shows and watches the host mode.
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "loader.h"
#include "requirements.h"
#include "shared/output.h"
#include "watch.h"
#include "xsaveshim/settings.h"

#define EXIT_USAGE 2
#define EXIT_NEVER 2 // after this exit status, systemd does not start UNIT again

#define LOCK_SECONDS 30
#define STATUS_LOCK_SECONDS 5

#define UNIT "xsaveshim-host.service"

static const char help[] =
	"usage: xsaveshim host enable [--trim=WHAT] [--refused=ACTION]\n"
	"       xsaveshim host disable\n"
	"       xsaveshim host status [--json | --check]\n"
	"       xsaveshim host watch\n"
	"\n"
	"BPF programs in the kernel trim the payloads of every VMM of this host, even\n"
	"if the VMM is statically linked or was already running.\n"
	"\n"
	"  enable   load the BPF programs, and prove with a VM that they work. A second\n"
	"           enable replaces them, but keeps each setting that no option changes\n"
	"  disable  remove the BPF programs\n"
	"  status   test the programs with a VM, and show counts; with --check, exit with\n"
	"           0 only if no payload can have passed untrimmed and no call is running\n"
	"  watch    print the programs' reports until a signal ends this command\n"
	"\n"
	"  --trim=WHAT       restore: trim payloads that VMMs restore; save: trim\n"
	"                    payloads that VMMs save; both (default); none: only report\n"
	"  --refused=ACTION  if KVM refuses a payload: with report (default), report the\n"
	"                    refusal; with abort, report the refusal and end the VMM\n"
	"  -h, --help        print this help\n"
	"\n"
	"Exit status: 0 success (status: active); 1 failure (status: inactive); 2 wrong\n"
	"command line (status: unknown; watch: not root; enable: on this kernel, or with\n"
	"the rights of this process, the host mode can never be enabled).\n";

// Each message begins with the command that the user ran, not with the name of this helper program.
static char title[] = "xsaveshim host";

static int fail_usage(void)
{
	fputs("Try 'xsaveshim host --help'.\n", stderr);
	return EXIT_USAGE;
}

static bool has_privilege(void)
{
	if (!geteuid())
		return true;
	warnx("run this as root");
	return false;
}

// ---- enable ----

static void set_from(struct settings *settings, const struct host_settings *active)
{
	settings->trim = active->trim;
	settings->refused = active->abort ? REFUSED_ABORT : REFUSED_REPORT;
}

// Sets given[S] to true if an option on the command line sets the setting S.
static bool parse_settings(int argc, char **argv, struct settings *settings, bool *given)
{
	static const struct option options[] = {
		{"trim", required_argument, NULL, SETTING_TRIM},
		{"refused", required_argument, NULL, SETTING_REFUSED},
		{0}};
	int index, option;

	settings_init(settings);
	settings->trim = TRIM_BOTH;
	settings->refused = REFUSED_REPORT;
	while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (option == '?')
			return false;
		if (!settings_set(settings, (enum setting)option, optarg)) {
			warnx("--%s takes one of %s, not '%s'", options[index].name,
			      settings_accepted((enum setting)option), optarg);
			return false;
		}
		given[option] = true;
	}
	if (optind != argc)
		warnx("unexpected argument '%s'", argv[optind]);
	return optind == argc;
}

// If no option sets a setting, keeps the value that the attached BPF programs use.
static void keep_active(struct settings *settings, const bool *given)
{
	struct settings active = *settings;
	struct attachment attachment;

	if (loader_find(&attachment) && attachment.has_settings)
		set_from(&active, &attachment.settings);
	loader_close(&attachment);
	if (!given[SETTING_TRIM])
		settings->trim = active.trim;
	if (!given[SETTING_REFUSED])
		settings->refused = active.refused;
}

static int enable(int argc, char **argv)
{
	bool given[SETTINGS] = {false}, is_final = false, forgets = false;
	struct settings settings;
	const char *reason;

	if (!parse_settings(argc, argv, &settings, given))
		return fail_usage();
	reason = missing_requirement(&is_final);
	if (!reason)
		reason = loader_lock(LOCK_SECONDS);
	if (!reason) {
		loader_clean_up();
		keep_active(&settings, given);
		reason = loader_enable(
			(struct host_settings){.trim = settings.trim,
					       .abort = settings.refused == REFUSED_ABORT},
			&forgets);
	}
	if (reason) {
		warnx("the host mode cannot be enabled: %s", reason);
		return is_final ? EXIT_NEVER : 1;
	}
	printf("%s: enabled: trim=%s refused=%s\n", title, settings_text(&settings, SETTING_TRIM),
	       settings_text(&settings, SETTING_REFUSED));
	if (forgets)
		printf("%s: the counts begin again at 0, and reports may be repeated, because the replaced programs come from a version of xsaveshim with different BPF maps\n",
		       title);
	return 0;
}

// ---- disable ----

// Stops the systemd unit after a user's `xsaveshim host disable`, because systemd would otherwise
// still show the unit as active. If systemd itself runs `disable` to stop or restart the unit, the
// unit is no longer active. Then this function does nothing, because `systemctl stop` would replace
// the job with which systemd stops or restarts the unit.
static void stop_unit(void)
{
	char shell[] = "sh", option[] = "-c",
	     command[] = "systemctl --quiet is-active " UNIT " && systemctl --quiet stop " UNIT;
	char *argv[] = {shell, option, command, NULL};
	pid_t pid;

	fflush(stdout);
	if (!access("/run/systemd/system", F_OK) &&
	    !posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
}

static const char *remove_programs(bool *was_enabled)
{
	struct attachment attachment;

	loader_clean_up();
	*was_enabled = loader_find(&attachment);
	loader_close(&attachment);
	return *was_enabled ? loader_disable(&attachment) : NULL;
}

static int disable(int argc, char **argv)
{
	bool was_enabled = false;
	const char *reason;

	if (argc > 1) {
		warnx("unexpected argument '%s'", argv[1]);
		return fail_usage();
	}
	if (!has_privilege())
		return 1;
	reason = loader_lock(LOCK_SECONDS);
	if (!reason)
		reason = remove_programs(&was_enabled);
	if (reason) {
		warnx("the host mode cannot be disabled: %s", reason);
		return 1;
	}
	loader_unlock();
	printf("%s: %s\n", title, was_enabled ? "disabled" : "the host mode was not enabled");
	stop_unit();
	return 0;
}

// ---- status ----

static const struct {
	const char *key;
	const char *text;
	enum host_count count;
} shown_counts[] = {
	{"seen", "calls whose entry a program saw", HOST_COUNT_ENTRIES},
	{"missed_entries", "calls whose entry no program saw", HOST_COUNT_MISSED_ENTRIES},
	{"missed_exits", "calls whose exit no program saw", HOST_COUNT_MISSED_EXITS},
	{"trimmed", "payloads trimmed", HOST_COUNT_TRIMMED},
	{"would_trim", "payloads that stayed untrimmed because of --trim", HOST_COUNT_WOULD_TRIM},
	{"not_trimmed", "payloads that the programs failed to trim", HOST_COUNT_NOT_TRIMMED},
	{"refused", "calls refused by KVM", HOST_COUNT_REFUSED},
	{"lost", "losses of guest state because of a trim", HOST_COUNT_LOST},
	{"killed", "VMMs ended", HOST_COUNT_KILLED},
	{"lost_reports", "reports that found no place in the ring buffer", HOST_COUNT_LOST_REPORTS},
	{"untracked", "events of vCPUs that have no entry in the vCPU map", HOST_COUNT_UNTRACKED},
	{"unmarked", "calls that have no entry in the map of running calls", HOST_COUNT_UNMARKED},
};

#define SHOWN_COUNTS (sizeof(shown_counts) / sizeof(shown_counts[0]))

static const char *const state_names[] = {
	[HOST_ACTIVE] = "active", [HOST_INACTIVE] = "inactive", [HOST_UNKNOWN] = "unknown"};

struct status {
	struct attachment attachment;
	struct host_check check;
	bool counted;
	uint64_t counts[HOST_COUNTS];
	uint64_t skipped;
	struct settings settings;
};

static uint64_t under_way(const struct status *status)
{
	const uint64_t *counts = status->counts;

	return counts[HOST_COUNT_ENTRIES] + counts[HOST_COUNT_MISSED_ENTRIES] -
	       counts[HOST_COUNT_EXITS] - counts[HOST_COUNT_MISSED_EXITS];
}

// Returns true if three conditions are met: the BPF programs have missed no call, they have trimmed
// every payload that they had to trim, and no call that they watch is running.
static bool is_clean(const struct status *status)
{
	const uint64_t *counts = status->counts;

	return status->counted && !counts[HOST_COUNT_MISSED_ENTRIES] &&
	       !counts[HOST_COUNT_MISSED_EXITS] && !counts[HOST_COUNT_NOT_TRIMMED] &&
	       !under_way(status);
}

static const char *pinned_place(const struct status *status)
{
	return !status->attachment.program ? "no"
	       : status->attachment.pinned ? "here"
					   : "elsewhere";
}

static json_t *json_counts(const struct status *status)
{
	json_t *json = json_object();

	for (size_t i = 0; i < SHOWN_COUNTS; i++)
		json_object_set_new(
			json, shown_counts[i].key,
			json_integer((json_int_t)status->counts[shown_counts[i].count]));
	json_object_set_new(json, "under_way", json_integer((json_int_t)under_way(status)));
	json_object_set_new(json, "skipped_by_kernel", json_integer((json_int_t)status->skipped));
	return json;
}

static void print_json(const struct status *status)
{
	static const char *const exits[] = {
		[HOST_EXIT_FEXIT] = "fexit", [HOST_EXIT_KRETPROBE] = "kretprobe"};
	const struct settings *settings = status->attachment.program ? &status->settings : NULL;
	json_t *json = output_head();

	json_object_update_new(
		json, json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?, s:o}", "state",
				state_names[status->check.state], "reason", status->check.reason,
				"pinned", pinned_place(status), "trim",
				settings ? settings_text(settings, SETTING_TRIM) : NULL, "refused",
				settings ? settings_text(settings, SETTING_REFUSED) : NULL, "exit",
				settings ? exits[status->attachment.settings.exit] : NULL, "counts",
				status->counted ? json_counts(status) : json_null()));
	output_print(json);
}

static void print_text(const struct status *status)
{
	printf("%s%s: %s\n", state_names[status->check.state],
	       status->attachment.program && !status->attachment.pinned ? ", pinned elsewhere" : "",
	       status->check.reason);
	if (status->attachment.program)
		printf("trim=%s refused=%s\n", settings_text(&status->settings, SETTING_TRIM),
		       settings_text(&status->settings, SETTING_REFUSED));
	if (!status->counted)
		return;
	for (size_t i = 0; i < SHOWN_COUNTS; i++)
		printf("%12" PRIu64 " %s\n", status->counts[shown_counts[i].count],
		       shown_counts[i].text);
	printf("%12" PRIu64 " calls under way\n", under_way(status));
	printf("%12" PRIu64 " times that the kernel skipped a program\n", status->skipped);
}

static int show_status(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'}, {"check", no_argument, NULL, 'c'}, {0}};
	struct status status = {.counted = false};
	bool json = false, checks = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) == 'j' || option == 'c') {
		json |= option == 'j';
		checks |= option == 'c';
	}
	if (option == -1 && optind != argc)
		warnx("unexpected argument '%s'", argv[optind]);
	if (option != -1 || optind != argc)
		return fail_usage();
	if (!has_privilege())
		return HOST_UNKNOWN;
	if (!loader_lock(STATUS_LOCK_SECONDS))
		loader_clean_up();
	loader_find(&status.attachment);
	status.check = loader_check(&status.attachment);
	status.counted = loader_counts(&status.attachment, status.counts);
	status.skipped = loader_skipped();
	settings_init(&status.settings);
	set_from(&status.settings, &status.attachment.settings);
	if (json)
		print_json(&status);
	else
		print_text(&status);
	loader_close(&status.attachment);
	return status.check.state == HOST_ACTIVE && checks ? !is_clean(&status)
							   : (int)status.check.state;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";

	program_invocation_short_name = title;
	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		fputs(help, stdout);
		return 0;
	}
	argc--;
	argv++;
	if (argc)
		argv[0] = title;
	if (!strcmp(word, "enable"))
		return enable(argc, argv);
	if (!strcmp(word, "disable"))
		return disable(argc, argv);
	if (!strcmp(word, "status"))
		return show_status(argc, argv);
	if (!strcmp(word, "watch")) {
		if (argc > 1) {
			warnx("unexpected argument '%s'", argv[1]);
			return fail_usage();
		}
		return has_privilege() ? watch() : HOST_UNKNOWN;
	}
	if (*word)
		warnx("unknown command '%s': use enable, disable, status, watch or --help", word);
	else
		fputs(help, stderr);
	return EXIT_USAGE;
}
