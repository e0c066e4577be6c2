// SPDX-License-Identifier: MIT
// xsaveshim host: the host mode.
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "loader.h"
#include "requirements.h"
#include "watch.h"
#include "xsaveshim/settings.h"

#define EXIT_USAGE 2

static const char help[] =
	"usage: xsaveshim host enable [--trim=MODE] [--refused=ACTION]\n"
	"       xsaveshim host disable\n"
	"       xsaveshim host status [--json]\n"
	"       xsaveshim host watch\n"
	"\n"
	"Trims what every VMM of this host restores and saves to what its guest has,\n"
	"running VMMs and static ones too: BPF programs do it inside the kernel.\n"
	"\n"
	"  enable   load the programs, and prove with a VM that they work. Where they are\n"
	"           enabled already, new ones with the new settings take their place\n"
	"  disable  remove the programs\n"
	"  status   ask KVM whether the programs are active, and count what they did\n"
	"  watch    print what they report, until this is ended\n"
	"\n"
	"  --trim=MODE       both: trim what VMMs restore and save (default); restore;\n"
	"                    save; none: report, but trim nothing\n"
	"  --refused=ACTION  what to do when KVM refuses a payload all the same:\n"
	"                    report: report it (default); abort: also end the VMM\n"
	"  -h, --help        print this\n"
	"\n"
	"Exit status: 0 done, or active; 1 not; 2 could not tell.\n";

// How it is called to account for its words: as the command that starts it.
static char title[] = "xsaveshim host";

static int fail_usage(void)
{
	fputs("Try 'xsaveshim host --help'.\n", stderr);
	return EXIT_USAGE;
}

static bool lock(void)
{
	if (loader_lock())
		return true;
	warn(BPFFS);
	return false;
}

// ---- enable ----

static bool parse_settings(int argc, char **argv, struct settings *settings)
{
	static const struct option options[] = {
		{"trim", required_argument, NULL, SETTING_TRIM},
		{"refused", required_argument, NULL, SETTING_REFUSED},
		{0}};
	int index, option;

	settings_init(settings);
	settings->trim = TRIM_BOTH;
	while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
		if (option == '?')
			return false;
		if (!settings_set(settings, (enum setting)option, optarg)) {
			warnx("--%s takes one of %s, not '%s'", options[index].name,
			      settings_accepted((enum setting)option), optarg);
			return false;
		}
	}
	if (optind != argc)
		warnx("unexpected argument '%s'", argv[optind]);
	return optind == argc;
}

static int enable(int argc, char **argv)
{
	struct settings settings;
	const char *obstacle;

	if (!parse_settings(argc, argv, &settings))
		return fail_usage();
	obstacle = obstacle_to_enabling();
	if (obstacle) {
		warnx("cannot be enabled: %s", obstacle);
		return 1;
	}
	if (!lock())
		return 1;
	loader_clean_up();
	if (!loader_enable((struct host_settings){
		    .trim = settings.trim, .abort = settings.refused == REFUSED_ABORT}))
		return 1;
	printf("enabled: trim=%s refused=%s\n", settings_text(&settings, SETTING_TRIM),
	       settings_text(&settings, SETTING_REFUSED));
	return 0;
}

// ---- disable ----

static bool has_privilege(void)
{
	if (!geteuid())
		return true;
	warnx("run this as root");
	return false;
}

static int disable(int argc, char **argv)
{
	struct host_check check;
	struct attachment attachment;

	if (argc > 1) {
		warnx("unexpected argument '%s'", argv[1]);
		return fail_usage();
	}
	if (!has_privilege() || !lock())
		return 1;
	loader_clean_up();
	if (!loader_find(&attachment)) {
		puts("it is not enabled");
		return 0;
	}
	loader_close(&attachment);
	if (!attachment.pinned) {
		warnx("cannot be disabled from here: the programs are pinned in another bpffs instance, a container's "
		      "maybe: run this "
		      "where they were enabled");
		return 1;
	}
	loader_unpin();
	if (!loader_wait_gone(&attachment)) {
		warnx("the programs are still attached: another process or bpffs instance holds them, too");
		loader_close(&attachment);
		return 1;
	}
	check = loader_wait_detached(&attachment);
	if (check.selftest.cleared) {
		warnx("the pins are gone, but %s", check.reason);
		return 1;
	}
	puts("disabled");
	return 0;
}

// ---- status ----

static const struct {
	const char *key;
	const char *text;
	enum host_count count;
} shown_counts[] = {
	{"seen", "calls seen", HOST_COUNT_ENTRIES},
	{"trimmed", "trimmed", HOST_COUNT_TRIMMED},
	{"would_trim", "would have been trimmed", HOST_COUNT_WOULD_TRIM},
	{"not_trimmed", "could not be trimmed", HOST_COUNT_NOT_TRIMMED},
	{"refused", "refused by KVM", HOST_COUNT_REFUSED},
	{"lost", "lost by guests", HOST_COUNT_LOST},
	{"killed", "VMMs ended", HOST_COUNT_KILLED},
	{"lost_reports", "reports that nobody read", HOST_COUNT_LOST_REPORTS},
};

#define SHOWN_COUNTS (sizeof(shown_counts) / sizeof(shown_counts[0]))

static const char *const state_names[] = {
	[HOST_ACTIVE] = "active", [HOST_INACTIVE] = "inactive", [HOST_UNKNOWN] = "unknown"};

struct status {
	struct attachment attachment;
	struct host_check check;
	bool counted;
	uint64_t counts[HOST_COUNTS];
	struct settings settings;
};

// Calls whose exit no program saw; those that are under way are among them. An entry can be missed,
// too.
static uint64_t missed(const struct status *status)
{
	uint64_t entries = status->counts[HOST_COUNT_ENTRIES],
		 exits = status->counts[HOST_COUNT_EXITS];

	return entries > exits ? entries - exits : 0;
}

static const char *where_pinned(const struct status *status)
{
	return !status->attachment.program ? "no"
	       : status->attachment.pinned ? "here"
					   : "elsewhere";
}

static void print_json(const struct status *status)
{
	json_t *json = json_pack("{s:s, s:s, s:s}", "state", state_names[status->check.state],
				 "reason", status->check.reason, "pinned", where_pinned(status));
	json_t *counts = json_object();

	if (status->attachment.program) {
		json_object_set_new(json, "trim",
				    json_string(settings_text(&status->settings, SETTING_TRIM)));
		json_object_set_new(json, "refused",
				    json_string(settings_text(&status->settings, SETTING_REFUSED)));
		json_object_set_new(json, "exit",
				    json_string(status->attachment.settings.exit == HOST_EXIT_FEXIT
							? "fexit"
							: "kretprobe"));
	}
	for (size_t i = 0; i < SHOWN_COUNTS && status->counted; i++)
		json_object_set_new(
			counts, shown_counts[i].key,
			json_integer((json_int_t)status->counts[shown_counts[i].count]));
	if (status->counted)
		json_object_set_new(counts, "missed", json_integer((json_int_t)missed(status)));
	json_object_set_new(json, "counts", counts);
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(json);
}

static void print_text(const struct status *status)
{
	static const char *const states[] = {
		[HOST_ACTIVE] = "active", [HOST_INACTIVE] = "inactive", [HOST_UNKNOWN] = "unknown"};

	printf("%s%s: %s\n", states[status->check.state],
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
	printf("%12" PRIu64 " missed at their exit\n", missed(status));
}

static int show_status(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct status status = {.counted = false};
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) == 'j')
		json = true;
	if (option == -1 && optind != argc)
		warnx("unexpected argument '%s'", argv[optind]);
	if (option != -1 || optind != argc)
		return fail_usage();
	if (!has_privilege())
		return HOST_UNKNOWN;
	if (loader_lock())
		loader_clean_up();
	loader_find(&status.attachment);
	status.check = loader_check(&status.attachment);
	status.counted = loader_counts(&status.attachment, status.counts);
	settings_init(&status.settings);
	status.settings.trim = status.attachment.settings.trim;
	status.settings.refused = status.attachment.settings.abort ? REFUSED_ABORT : REFUSED_REPORT;
	if (json)
		print_json(&status);
	else
		print_text(&status);
	loader_close(&status.attachment);
	return status.check.state;
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
