// SPDX-License-Identifier: MIT
// xsaveshim pair: reads the JSON output of `xsaveshim probe` from several hosts. Judges whether one
// host can load the guests that another host saves.
#include "command.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "shared/helpers.h"
#include "shared/output.h"
#include "subcommand_json.h"
#include "xsaveshim/pair.h"
#include "xsaveshim/xstate.h"

#define SCOPE "xfeatures alone are judged: CPU flags, MSRs and the TSC are not compared"

enum { EXIT_UNKNOWN = 2, EXIT_NOT_ALL = 3 };

static const char help[] =
	"usage: xsaveshim pair [--json] FROM.json [TO.json]\n"
	"       xsaveshim pair --matrix [--json] HOST.json...\n"
	"\n"
	"Judges whether the host TO can load the guests that the host FROM saves. Without\n"
	"TO.json, TO is this host. Each file is the output of `xsaveshim probe --json`.\n"
	"pair compares only xfeatures, not CPU flags, MSRs or the TSC. The answer holds\n"
	"for guests whose CPUID shows only xfeatures that both hosts support.\n"
	"\n"
	"  --matrix    judge every pair of hosts; if probe gives the same answers for\n"
	"              several hosts, these hosts share a row\n"
	"  --json      print JSON\n"
	"  -h, --help  print this\n"
	"\n"
	"Exit status: 0 the guests load; 1 they load only with xsaveshim; 2 unknown, or a\n"
	"file cannot be read; 3 some guests do not load intact, even with xsaveshim:\n"
	"guests whose CPUID shows an xfeature that TO lacks, or guests without XSAVE if\n"
	"FROM does not save their x87 and SSE state.\n";

static const char *const answer_names[] = {
	[PAIR_YES] = "yes", [PAIR_WITH_XSAVESHIM] = "with-xsaveshim", [PAIR_UNKNOWN] = "unknown"};

static const struct {
	enum pair_by by;
	const char *name;
} by_names[] = {{PAIR_BY_LIBRARY, "library"},
		{PAIR_BY_SUPERVISOR, "supervisor"},
		{PAIR_BY_HOST_MODE_ON_TO, "host-mode-on-to"},
		{PAIR_BY_HOST_MODE_ON_FROM, "host-mode-on-from"}};

#define BY_NAMES (sizeof(by_names) / sizeof(by_names[0]))

// Hosts for which `xsaveshim probe` had the same results.
struct group {
	struct pair_host host;
	json_t *names;
};

// Reads the mask of xfeatures from the JSON object that is the key's value. Returns false if the
// key's value is null.
static bool read_mask(const char *file, json_t *json, const char *key, uint64_t *mask)
{
	json_t *object = json_object_get(json, key);
	const char *text = json_string_value(json_object_get(object, "mask"));
	char *end = NULL;

	*mask = 0;
	if (json_is_null(object))
		return false;
	if (text)
		*mask = strtoull(text, &end, 16);
	if (!text || end == text || *end)
		errx(EXIT_UNKNOWN,
		     "%s: the key '%s' has no mask of xfeatures: is this file the output of `xsaveshim probe --json`?",
		     file, key);
	return true;
}

static struct pair_host read_host(const char *file, json_t *json)
{
	json_t *source = json_object_get(json, "source");
	json_t *destination = json_object_get(json, "destination");
	uint64_t not_permitted, refuses = 0, always_refuses = 0;
	struct pair_host host = {0};

	if (json_integer_value(json_object_get(json, "format_version")) != OUTPUT_FORMAT_VERSION ||
	    !source || !destination)
		errx(EXIT_UNKNOWN,
		     "%s: this is not the output of `xsaveshim probe --json` with format_version %d",
		     file, OUTPUT_FORMAT_VERSION);
	host.source_known = read_mask(file, source, "leaks", &host.leaks) &&
			    read_mask(file, source, "loses", &host.loses);
	host.destination_known = read_mask(file, destination, "refuses", &refuses) &&
				 read_mask(file, destination, "always_refuses", &always_refuses) &&
				 read_mask(file, json, "kvm_supported_xcr0", &host.supported);
	read_mask(file, json, "host_xcr0", &host.enabled);
	read_mask(file, json, "not_permitted", &not_permitted);
	host.refuses = host.destination_known ? refuses | always_refuses : 0;
	host.supported = host.destination_known ? host.supported | not_permitted : 0;
	host.needs_permission = not_permitted;
	return host;
}

static bool is_same_host(const struct pair_host *a, const struct pair_host *b)
{
	return a->source_known == b->source_known && a->destination_known == b->destination_known &&
	       a->enabled == b->enabled && a->supported == b->supported &&
	       a->needs_permission == b->needs_permission && a->leaks == b->leaks &&
	       a->loses == b->loses && a->refuses == b->refuses;
}

static json_t *load_file(const char *file)
{
	json_error_t error;
	json_t *json = json_load_file(file, 0, &error);

	if (!json)
		errx(EXIT_UNKNOWN, "%s: %s", file, clean(error.text).text);
	return json;
}

static json_t *probe_this_host(void)
{
	char title[] = "xsaveshim probe", option[] = "--json";
	char *argv[] = {title, option, NULL};
	json_t *json = subcommand_json(probe_main, argv);

	if (!json)
		errx(EXIT_UNKNOWN, "this host could not be probed: run xsaveshim probe to see why");
	return json;
}

static size_t add_host(struct group **groups, size_t count, const char *file, json_t *json)
{
	struct pair_host host = read_host(file, json);
	json_t *name = json_object_get(json, "host");
	size_t i = 0;

	while (i < count && !is_same_host(&(*groups)[i].host, &host))
		i++;
	if (i == count) {
		*groups = grow(*groups, count, sizeof(**groups));
		(*groups)[count++] = (struct group){host, json_array()};
	}
	json_array_append_new((*groups)[i].names,
			      json_is_string(name) ? json_incref(name) : output_text(file));
	json_decref(json);
	return count;
}

static const char *name_of(const struct group *group, size_t i)
{
	return json_string_value(json_array_get(group->names, i));
}

static struct clean_text xfeature_list(uint64_t xfeatures)
{
	struct clean_text list = {""};
	size_t used = 0;

	for (unsigned int bit = 0; bit < 64; bit++) {
		char number[8];

		snprintf(number, sizeof(number), "bit%u", bit);
		if (xfeatures >> bit & 1)
			used += (size_t)snprintf(
				list.text + used, sizeof(list.text) - used, "%s%s", used ? "," : "",
				xfeature_name(bit) ? xfeature_name(bit) : number);
	}
	return list;
}

static json_t *json_by(unsigned int by)
{
	json_t *json = json_array();

	for (size_t i = 0; i < BY_NAMES; i++)
		if (by & by_names[i].by)
			json_array_append_new(json, json_string(by_names[i].name));
	return json;
}

static json_t *json_result(struct pair_result result)
{
	return json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:o, s:b}", "answer", answer_names[result.answer],
		"no_if_shown", output_xfeatures(result.no_if_shown), "lost_when_saved",
		output_xfeatures(result.lost_when_saved), "needs_permission",
		output_xfeatures(result.needs_permission), "refused",
		output_xfeatures(result.refused), "by", json_by(result.by),
		"only_guests_without_xsave", result.only_guests_without_xsave);
}

static void print_result(struct pair_result result)
{
	printf("%-18s %s", "answer", answer_names[result.answer]);
	for (size_t i = 0; i < BY_NAMES; i++)
		if (result.by & by_names[i].by)
			printf("%s%s", result.by & (by_names[i].by - 1) ? ", " : ": ",
			       by_names[i].name);
	putchar('\n');
	if (result.refused)
		printf("%-18s %s: leaked by FROM, refused by TO\n", "refused",
		       xfeature_list(result.refused).text);
	if (result.only_guests_without_xsave)
		printf("%-18s only the payloads of guests without XSAVE\n", "refused");
	if (result.no_if_shown)
		printf("%-18s %s: TO lacks these xfeatures, so choose a CPU model without them\n",
		       "no if shown", xfeature_list(result.no_if_shown).text);
	if (result.lost_when_saved)
		printf("%-18s %s of guests without XSAVE: shut these guests down instead of saving them\n",
		       "lost when saved", xfeature_list(result.lost_when_saved).text);
	if (result.needs_permission)
		printf("%-18s %s: the VMM on TO must request these xfeatures from the kernel\n",
		       "needs permission", xfeature_list(result.needs_permission).text);
}

static int exit_status(struct pair_result result)
{
	if (result.no_if_shown || result.lost_when_saved)
		return EXIT_NOT_ALL;
	return result.answer == PAIR_UNKNOWN ? EXIT_UNKNOWN : result.answer == PAIR_WITH_XSAVESHIM;
}

static int judge_pair(const struct group *from, const struct group *to, bool as_json)
{
	const char *names[] = {name_of(from, 0), name_of(to, from == to ? 1 : 0)};
	struct pair_result result = pair_judge(from->host, to->host);
	json_t *json;

	if (!as_json) {
		printf("%s -> %s: " SCOPE "\n", clean(names[0]).text, clean(names[1]).text);
		print_result(result);
		return exit_status(result);
	}
	json = output_head();
	json_object_update_new(json, json_pack("{s:s, s:s, s:o}", "from", names[0], "to", names[1],
					       "result", json_result(result)));
	output_print(json);
	return exit_status(result);
}

static void print_matrix_json(const struct group *groups, size_t count)
{
	json_t *json = output_head(), *rows = json_array(), *pairs = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append(rows, groups[i].names);
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++)
			json_array_append_new(
				pairs,
				json_pack("{s:i, s:i, s:o}", "from", (int)i, "to", (int)j, "result",
					  json_result(pair_judge(groups[i].host, groups[j].host))));
	json_object_update_new(json, json_pack("{s:o, s:o}", "groups", rows, "pairs", pairs));
	output_print(json);
}

static void print_matrix(const struct group *groups, size_t count)
{
	static const char *const words[] = {"yes", "with", "?"};

	puts(SCOPE
	     ".\nyes: the guests load. with: the guests load only with xsaveshim. ?: unknown.\n"
	     "/no: some guests do not load intact, even with xsaveshim; `xsaveshim pair FROM.json TO.json` says which.\n");
	for (size_t i = 0; i < count; i++) {
		printf("%3zu:", i + 1);
		for (size_t j = 0; j < json_array_size(groups[i].names); j++)
			printf(" %s", clean(name_of(&groups[i], j)).text);
		putchar('\n');
	}
	printf("\nFROM\\TO");
	for (size_t i = 0; i < count; i++)
		printf(" %7zu", i + 1);
	for (size_t i = 0; i < count; i++) {
		printf("\n%7zu", i + 1);
		for (size_t j = 0; j < count; j++) {
			struct pair_result result = pair_judge(groups[i].host, groups[j].host);
			char cell[16];

			snprintf(cell, sizeof(cell), "%s%s", words[result.answer],
				 result.no_if_shown || result.lost_when_saved ? "/no" : "");
			printf(" %7s", cell);
		}
	}
	putchar('\n');
}

static int judge_matrix(const struct group *groups, size_t count, bool as_json)
{
	int worst = 0;

	if (as_json)
		print_matrix_json(groups, count);
	else
		print_matrix(groups, count);
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			int status = exit_status(pair_judge(groups[i].host, groups[j].host));

			worst = status > worst ? status : worst;
		}
	return worst;
}

int pair_main(int argc, char **argv)
{
	static const struct option names[] = {
		{"matrix", no_argument, NULL, 'm'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{0}};
	bool matrix = false, as_json = false;
	struct group *groups = NULL;
	size_t count = 0;
	int option, files;

	while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (option == '?')
			return EXIT_UNKNOWN;
		matrix |= option == 'm';
		as_json |= option == 'j';
	}
	files = argc - optind;
	if (files < 1 || (files > 2 && !matrix))
		errx(EXIT_UNKNOWN,
		     "name the JSON files of one or two hosts, or of any number with --matrix");
	do
		count = add_host(&groups, count, argv[optind], load_file(argv[optind]));
	while (++optind < argc);
	if (matrix)
		return judge_matrix(groups, count, as_json);
	if (files == 1)
		count = add_host(&groups, count, "this host", probe_this_host());
	return judge_pair(&groups[0], &groups[count - 1], as_json);
}
