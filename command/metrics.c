// SPDX-License-Identifier: MIT
// xsaveshim metrics: prints the findings of `xsaveshim probe`, `xsaveshim status` and `xsaveshim
// host status` in the text format of Prometheus.
#include "command.h"

#include <err.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "host_helper.h"
#include "subcommand_json.h"

// If this symbolic link exists, systemd enables the host mode at boot.
#define ENABLED_AT_BOOT "/etc/systemd/system/multi-user.target.wants/xsaveshim-host.service"

struct label {
	const char *name;
	const char *value;
};

static void begin_metric(const char *name, const char *type, const char *help)
{
	printf("# HELP xsaveshim_%s %s\n# TYPE xsaveshim_%s %s\n", name, help, name, type);
}

// Prints a metric's value with its labels. An element without a name ends the array of labels.
static void print_sample(const char *name, const struct label *labels, json_int_t value)
{
	const char *separator = "{";

	printf("xsaveshim_%s", name);
	for (; labels->name; labels++) {
		printf("%s%s=\"", separator, labels->name);
		for (const char *c = labels->value; *c; c++) {
			if (*c == '\n')
				fputs("\\n", stdout);
			else
				printf("%s%c", strchr("\\\"", *c) ? "\\" : "", *c);
		}
		putchar('"');
		separator = ",";
	}
	printf("%s %lld\n", *separator == ',' ? "}" : "", (long long)value);
}

static void print_value(const char *name, const char *label, const char *text, json_int_t value)
{
	print_sample(name, (struct label[]){{label, text}, {0}}, value);
}

static void print_single(const char *name, const char *type, const char *help, json_int_t value)
{
	begin_metric(name, type, help);
	print_value(name, NULL, NULL, value);
}

static void print_xfeatures(const char *name, const char *help, const json_t *xfeatures)
{
	const json_t *names = json_object_get(xfeatures, "names");

	begin_metric(name, "gauge", help);
	for (size_t i = 0; i < json_array_size(names); i++)
		print_value(name, "xfeature", json_string_value(json_array_get(names, i)), 1);
}

static void print_probe(const json_t *probe)
{
	const json_t *source = json_object_get(probe, "source");
	const json_t *destination = json_object_get(probe, "destination");
	const json_t *leaks = json_object_get(source, "leaks");
	const json_t *refuses = json_object_get(destination, "refuses");

	begin_metric(
		"probe_known", "gauge",
		"1 if xsaveshim probe found out how this host behaves in this role (source: it saves guests; destination: it loads guests), else 0.");
	print_value("probe_known", "role", "source", json_is_object(leaks));
	print_value("probe_known", "role", "destination", json_is_object(refuses));
	print_xfeatures(
		"probe_leaks",
		"1 for each xfeature that this host's KVM saves even for guests without it.",
		leaks);
	print_xfeatures(
		"probe_refuses",
		"1 for each xfeature that this host's KVM supports, but refuses to load for guests without it.",
		refuses);
	print_xfeatures(
		"probe_always_refuses",
		"1 for each xfeature that this host's KVM refuses to load because this KVM does not support it.",
		json_object_get(destination, "always_refuses"));
}

static const char *protection_of(const json_t *vmm)
{
	const json_t *protected = json_object_get(vmm, "protected");

	return json_is_true(protected)	 ? "protected"
	       : json_is_null(protected) ? "unknown"
					 : "unprotected";
}

// Returns true if the VMM with this index has the same supervisor as an earlier VMM in the list. A
// supervisor counts the events of all its VMMs together, so the sum over all VMMs must include each
// supervisor's counts only once.
static bool is_counted_already(const json_t *vmms, size_t index)
{
	json_t *supervisor = json_object_get(json_array_get(vmms, index), "supervisor");

	for (size_t i = 0; i < index && json_is_integer(supervisor); i++)
		if (json_equal(json_object_get(json_array_get(vmms, i), "supervisor"), supervisor))
			return true;
	return false;
}

// Adds each number in the object `counts` to the number with the same key in the object `sums`.
static void add_counts(json_t *sums, json_t *counts)
{
	for (void *i = json_object_iter(counts); i; i = json_object_iter_next(counts, i)) {
		const char *key = json_object_iter_key(i);
		json_int_t sum = json_integer_value(json_object_get(sums, key));

		sum += json_integer_value(json_object_iter_value(i));
		json_object_set_new(sums, key, json_integer(sum));
	}
}

static void print_counts(const char *name, const char *label, json_t *counts)
{
	for (void *i = json_object_iter(counts); i; i = json_object_iter_next(counts, i))
		print_value(name, label, json_object_iter_key(i),
			    json_integer_value(json_object_iter_value(i)));
}

static void print_events(const json_t *vmms)
{
	json_t *sums = json_object();

	for (size_t i = 0; i < json_array_size(vmms); i++)
		if (!is_counted_already(vmms, i))
			add_counts(sums, json_object_get(json_array_get(vmms, i), "counts"));
	begin_metric(
		"vmm_events", "gauge",
		"How often each event of libxsaveshim(7) occurred in the running VMMs; events of the host mode are not counted here.");
	print_counts("vmm_events", "event", sums);
	json_decref(sums);
}

static void print_vmms(const json_t *status)
{
	static const char *const states[] = {"protected", "unprotected", "unknown"};
	const json_t *vmms = json_object_get(status, "vmms");

	begin_metric(
		"vmms", "gauge",
		"The number of running VMMs that xsaveshim status shows as protected, unprotected or unknown.");
	for (size_t state = 0; state < 3; state++) {
		json_int_t count = 0;

		for (size_t i = 0; i < json_array_size(vmms); i++)
			count += !strcmp(protection_of(json_array_get(vmms, i)), states[state]);
		print_value("vmms", "state", states[state], count);
	}
	begin_metric("vmm_protected", "gauge",
		     "0 for each VMM that is unprotected or unknown; missing for a protected VMM.");
	for (size_t i = 0; i < json_array_size(vmms); i++) {
		const json_t *vmm = json_array_get(vmms, i);
		const char *protection = protection_of(vmm);
		char pid[16];

		snprintf(pid, sizeof(pid), "%lld",
			 (long long)json_integer_value(json_object_get(vmm, "pid")));
		if (protection != states[0])
			print_sample(
				"vmm_protected",
				(struct label[]){
					{"vm", json_string_value(json_object_get(vmm, "name"))},
					{"pid", pid},
					{"state", protection},
					{0}},
				0);
	}
	print_events(vmms);
	print_single(
		"processes_not_inspected", "gauge",
		"The number of processes that xsaveshim status could not inspect; each may be a VMM.",
		(json_int_t)json_array_size(json_object_get(status, "not_inspected")));
}

static void print_host(json_t *host)
{
	const char *state = "", *pinned = "";
	json_t *counts;

	if (json_unpack(host, "{s:s, s:s, s:o}", "state", &state, "pinned", &pinned, "counts",
			&counts))
		return;
	print_single(
		"host_enabled", "gauge",
		"1 if the host mode's BPF programs are pinned, or if systemd enables the host mode at boot; else 0.",
		strcmp(pinned, "no") || !access(ENABLED_AT_BOOT, F_OK));
	begin_metric(
		"host_active", "gauge",
		"1 if the host mode is active, 0 if it is inactive; missing if its state is unknown.");
	if (strcmp(state, "unknown"))
		print_value("host_active", NULL, NULL, !strcmp(state, "active"));
	begin_metric("host_calls_total", "counter",
		     "The counts of xsaveshim host status since the host mode was enabled.");
	json_object_del(counts, "under_way");
	print_counts("host_calls_total", "outcome", counts);
}

static void print_all(void)
{
	char probe_title[] = "xsaveshim probe", status_title[] = "xsaveshim status";
	char option[] = "--json";
	json_t *probe = subcommand_json(probe_main, (char *[]){probe_title, option, NULL});
	json_t *status = subcommand_json(status_main, (char *[]){status_title, option, NULL});
	json_t *host;

	if (!probe || !status)
		errx(1, "%s failed: run it to see why", probe ? status_title : probe_title);
	begin_metric("build_info", "gauge", "Always 1; the label has the version of xsaveshim.");
	print_value("build_info", "version", XSAVESHIM_VERSION, 1);
	print_probe(probe);
	print_vmms(status);
	host = host_helper_status();
	print_host(host);
	print_single("last_success_timestamp_seconds", "gauge",
		     "When xsaveshim metrics last printed all its metrics, in seconds since 1970.",
		     time(NULL));
	json_decref(probe);
	json_decref(status);
	json_decref(host);
	if (fflush(stdout))
		err(1, "cannot write the metrics");
}

// Writes a new file and renames the new file to `path`, so that nobody reads an incomplete file.
static void write_file(const char *path)
{
	char *new_path;

	if (asprintf(&new_path, "%s.new", path) < 0 || !freopen(new_path, "w", stdout))
		err(1, "%s.new", path);
	print_all();
	if (rename(new_path, path))
		err(1, "%s", path);
	free(new_path);
}

static const char help[] =
	"usage: xsaveshim metrics [--output=FILE [--interval=SECONDS]]\n\n"
	"Prints what probe, status and host status find on this host, in the text format\n"
	"of Prometheus. Run it as root.\n\n"
	"  --output=FILE        write the metrics to FILE instead of stdout\n"
	"  --interval=SECONDS   write FILE again every SECONDS seconds; do not exit\n"
	"  -h, --help           print this\n\n"
	"Exit status: 0 the metrics are printed; 1 probe or status failed, or FILE cannot\n"
	"be written (FILE then stays as it was); 2 the command line is wrong.\n";

static _Noreturn void fail_usage(const char *title)
{
	fprintf(stderr, "usage: %s [--output=FILE [--interval=SECONDS]]\n", title);
	exit(2);
}

static unsigned int read_interval(const char *title, const char *text)
{
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || !seconds || seconds > UINT_MAX) {
		warnx("--interval takes a number of seconds from 1 up, not '%s'", text);
		fail_usage(title);
	}
	return (unsigned int)seconds;
}

int metrics_main(int argc, char **argv)
{
	static const struct option names[] = {
		{"output", required_argument, NULL, 'o'},
		{"interval", required_argument, NULL, 'i'},
		{"help", no_argument, NULL, 'h'},
		{0}};
	const char *path = NULL;
	unsigned int interval = 0;
	int option;

	while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
		switch (option) {
		case 'o':
			path = optarg;
			break;
		case 'i':
			interval = read_interval(argv[0], optarg);
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			fail_usage(argv[0]);
		}
	}
	if (optind < argc) {
		warnx("unexpected argument '%s'", argv[optind]);
		fail_usage(argv[0]);
	}
	if (interval && !path) {
		warnx("--interval needs --output");
		fail_usage(argv[0]);
	}
	if (!path) {
		print_all();
		return 0;
	}
	for (;;) {
		write_file(path);
		if (!interval)
			return 0;
		sleep(interval);
	}
}
