// SPDX-License-Identifier: MIT
#include "kretprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/perf_event.h>

#include "shared/helpers.h"

#define FUNCTION "kvm_arch_vcpu_ioctl"
#define GROUP "xsaveshim"
#define PREFIX "xsaveshim_exit_"
#define INSTANCES "4096"

static const char *tracefs(void)
{
	return access("/sys/kernel/tracing/kprobe_events", F_OK)
		       ? "/sys/kernel/debug/tracing"
		       : "/sys/kernel/tracing";
}

// Adds or removes a kprobe event in tracefs.
static bool write_definition(const char *definition)
{
	char path[64];
	bool written;
	int fd;

	snprintf(path, sizeof(path), "%s/kprobe_events", tracefs());
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return false;
	written = write(fd, definition, strlen(definition)) > 0;
	close(fd);
	return written;
}

static int open_event(const char *name)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_TRACEPOINT, .size = sizeof(attributes)};
	char path[128], text[24];

	snprintf(path, sizeof(path), "%s/events/" GROUP "/%s/id", tracefs(), name);
	if (read_file(AT_FDCWD, path, text, sizeof(text)) < 0)
		return -1;
	attributes.config = strtoull(text, NULL, 10);
	return (int)syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
}

// Attaches the BPF program to the tracefs event of this name. Returns a BPF link that owns the
// event's descriptor.
static struct bpf_link *attach_event(const struct bpf_program *program, const char *name)
{
	int fd = open_event(name);
	struct bpf_link *link = fd < 0 ? NULL : bpf_program__attach_perf_event(program, fd);

	if (fd >= 0 && !link)
		close(fd);
	return link;
}

struct bpf_link *kretprobe_attach(const struct bpf_program *program)
{
	char name[48], definition[128];
	struct timespec now;
	struct bpf_link *link;

	clock_gettime(CLOCK_BOOTTIME, &now);
	snprintf(name, sizeof(name), PREFIX "%d_%lld", getpid(), (long long)now.tv_sec);
	snprintf(definition, sizeof(definition), "r" INSTANCES ":" GROUP "/%s " FUNCTION, name);
	link = write_definition(definition) ? attach_event(program, name) : NULL;
	return link ? link : bpf_program__attach_kprobe(program, true, FUNCTION);
}

static FILE *open_list(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", tracefs(), name);
	return fopen(path, "re");
}

uint64_t kretprobe_misses(void)
{
	FILE *profile = open_list("kprobe_profile");
	uint64_t hits, misses, sum = 0;
	char line[256], name[64];

	while (profile && fgets(line, sizeof(line), profile))
		if (sscanf(line, " %63s %" SCNu64 " %" SCNu64, name, &hits, &misses) == 3 &&
		    !strncmp(name, PREFIX, strlen(PREFIX)))
			sum += misses;
	if (profile)
		fclose(profile);
	return sum;
}

void kretprobe_remove_unused(void)
{
	FILE *events = open_list("kprobe_events");
	char line[256];

	while (events && fgets(line, sizeof(line), events)) {
		char name[64], definition[96];

		if (sscanf(line, "r%*[0-9]:" GROUP "/%63[a-z0-9_]", name) != 1)
			continue;
		snprintf(definition, sizeof(definition), "-:" GROUP "/%s", name);
		// The kernel refuses to remove an event that is in use.
		write_definition(definition);
	}
	if (events)
		fclose(events);
}
