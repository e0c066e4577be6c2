// SPDX-License-Identifier: MIT
#include "watch.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <bpf/libbpf.h>
#include <linux/kvm.h>

#include "journal.h"
#include "loader.h"
#include "requirements.h"
#include "shared/guest_name.h"
#include "shared/helpers.h"
#include "xsaveshim/log.h"
#include "xsaveshim/report.h"
#include "xsaveshim/xstate.h"

// Each check of the host mode creates a VM, and each new VM wakes udev. On a host without other
// VMs, this VM also makes KVM switch virtualization on and off on every CPU. So the watcher checks
// the host mode only when the watcher starts, on SIGHUP, when a member of struct conditions has
// changed, and CHECK_SECONDS after the last check (INACTIVE_CHECK_SECONDS after it if BPF programs
// are attached, but the host mode is not active).
#define LOOK_SECONDS 5
#define CHECK_SECONDS 600
#define INACTIVE_CHECK_SECONDS 60
#define LOCK_SECONDS 5
#define WATCH_LOCK "/run/xsaveshim-host-watch.lock"

#define CGROUPS "/sys/fs/cgroup"
// The type of a file handle that holds the id of a cgroup (include/linux/exportfs.h).
#define FILEID_KERNFS 0xfe

// If one of these conditions changes, the host mode may have become inactive, although no command
// has disabled it.
struct conditions {
	uint32_t program;
	unsigned int links;
	const char *tracing; // says which tracing the kernel has switched off; NULL: none
	ino_t modules[3];    // inode numbers of KVM's modules: a reload changes the number
};

struct watcher {
	struct log log;
	struct host_caps host;
	uint32_t program; // the id of the BPF program xsaveshim_entry; 0: it is not attached
	struct ring_buffer *ring;
	struct conditions conditions;
	time_t checked;
	bool has_state;		      // the watcher has reported a state
	uint64_t counts[HOST_COUNTS]; // the BPF programs' counts when report_overload() last ran
	enum host_state state;
};

// ---- the process that a report is about ----

struct process {
	char vm[HOST_COMMAND_LINE_SIZE];
	char cgroup[512];
	char time[32];
	char started[32];
	struct log_field fields[6];
};

// Undoes systemd's escapes. In the name of a unit, systemd writes an unusual byte as \xNN.
static void unescape(char *text)
{
	char *to = text;

	while (*text) {
		char digits[3] = "";
		char *end = digits;
		unsigned long byte = 0;

		if (text[0] == '\\' && text[1] == 'x') {
			memcpy(digits, text + 2, strnlen(text + 2, 2));
			byte = strtoul(digits, &end, 16);
		}
		// Leaves \x00 as it is, because a zero byte would end the text. A unit's name never
		// has \x00, but the name of a cgroup that systemd did not create may have \x00.
		*to++ = end == digits + 2 && byte ? (char)byte : *text;
		text += end == digits + 2 && byte ? 4 : 1;
	}
	*to = '\0';
}

// Finds the name of the cgroup with this id. Returns false for the root cgroup, and for a cgroup
// that is gone.
static bool read_cgroup_name(uint64_t id, char *name, size_t size)
{
	_Alignas(struct file_handle) char memory[sizeof(struct file_handle) + sizeof(id)];
	struct file_handle *handle = (struct file_handle *)memory;
	char link[32], path[512] = "";
	int root = open(CGROUPS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t length;
	int fd;

	handle->handle_bytes = sizeof(id);
	handle->handle_type = FILEID_KERNFS;
	memcpy(handle->f_handle, &id, sizeof(id));
	fd = open_by_handle_at(root, handle, O_PATH | O_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	close(fd);
	close(root);
	if (length <= (ssize_t)strlen(CGROUPS))
		return false;
	unescape(path);
	snprintf(name, size, "%s", path + strlen(CGROUPS));
	return true;
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

// Writes a time, given in nanoseconds since boot, in the form 2026-11-30T12:00:00Z.
static void write_time(uint64_t since_boot, char *text, size_t size)
{
	int64_t boot = now_ns(CLOCK_REALTIME) - now_ns(CLOCK_BOOTTIME);
	time_t seconds = (boot + (int64_t)since_boot) / 1000000000;
	struct tm parts;

	strftime(text, size, "%FT%TZ", gmtime_r(&seconds, &parts));
}

// Describes the process that a report is about. Does not read the process's /proc/PID, because the
// process may have ended, or may make every reader of /proc/PID wait.
static void describe(struct process *process, const struct host_event *event)
{
	struct log_field *field = process->fields;

	*field++ = (struct log_field){"comm", event->comm};
	if (guest_name_from_cmdline(event->command_line, event->command_line_size, process->vm,
				    sizeof(process->vm)))
		*field++ = (struct log_field){"vm", process->vm};
	if (read_cgroup_name(event->cgroup, process->cgroup, sizeof(process->cgroup)))
		*field++ = (struct log_field){"cgroup", process->cgroup};
	write_time(event->time, process->time, sizeof(process->time));
	*field++ = (struct log_field){"time", process->time};
	write_time(event->started, process->started, sizeof(process->started));
	*field++ = (struct log_field){"started", process->started};
	*field = (struct log_field){NULL, NULL};
}

// ---- reports ----

static const char *request_name(uint32_t request)
{
	return request == KVM_SET_XSAVE	   ? "KVM_SET_XSAVE"
	       : request == KVM_GET_XSAVE  ? "KVM_GET_XSAVE"
	       : request == KVM_GET_XSAVE2 ? "KVM_GET_XSAVE2"
					   : "KVM_SET_XCRS";
}

static struct refusal diagnose(const struct host_event *event, struct host_caps host)
{
	unsigned char head[XSTATE_HEAD_SIZE] = {0};

	memcpy(head + XSTATE_BV_OFFSET, event->header, sizeof(event->header));
	memcpy(head + XSTATE_MXCSR_OFFSET, &event->mxcsr, sizeof(event->mxcsr));
	return policy_diagnose(head, event->vcpu, host);
}

static void report_not_trimmed(const struct log *log, struct vcpu_call call,
			       const struct host_event *event)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_ERROR, "not-trimmed");
	report_vcpu_call(&line, call);
	report_hex(&line, "xstate_bv", event->trim.xstate_bv);
	report_hex(&line, "allowed", event->trim.allowed);
	report_text(&line, "reason", "memory-not-writable");
	report_count(&line, event->count);
	report_send(&line);
}

static int handle_event(void *context, void *data, size_t size)
{
	struct watcher *watcher = context;
	const struct host_event *event = data;
	struct vcpu_call call = {
		.ioctl_name = request_name(event->ioctl), .fd = -1, .vcpu = event->vcpu};
	struct log *log = &watcher->log;
	struct process process = {.vm = ""};

	if (size != sizeof(*event))
		return 0;
	describe(&process, event);
	log->pid = (int)event->pid;
	log->fields = process.fields;
	switch ((enum host_event_kind)event->kind) {
	case HOST_EVENT_TRIM:
		report_trim(log, call, event->trim, event->count);
		break;
	case HOST_EVENT_NOT_TRIMMED:
		report_not_trimmed(log, call, event);
		break;
	case HOST_EVENT_REFUSED:
		report_refused(log, call, event->error, event->trim.xstate_bv,
			       diagnose(event, watcher->host), event->count);
		break;
	case HOST_EVENT_XCR0_REFUSED:
		report_xcr0_refused(log, call, event->error, event->xcr0,
				    policy_diagnose_xcr0(event->xcr0, event->vcpu, watcher->host),
				    event->count);
		break;
	case HOST_EVENT_LOST:
		report_lost(log, call, event->xcr0, event->lost, event->count);
		break;
	case HOST_EVENT_KINDS:
		break;
	}
	log->pid = 0;
	log->fields = NULL;
	return 0;
}

static void report_state(struct watcher *watcher, const struct host_check *check)
{
	// The events are in the order of enum host_state.
	static const char *const events[] = {"active", "inactive", "state-unknown"};
	struct report_line line;
	bool is_active = check->state == HOST_ACTIVE;

	if (watcher->has_state && watcher->state == check->state)
		return;
	watcher->has_state = true;
	watcher->state = check->state;
	report_begin(&line, &watcher->log, is_active ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR,
		     events[check->state]);
	report_text(&line, "reason", check->reason);
	report_send(&line);
}

// ---- the programs ----

// If a new set of BPF programs is attached, makes the watcher read the reports of this set.
static void follow(struct watcher *watcher, const struct attachment *attachment)
{
	if (watcher->program == attachment->program)
		return;
	ring_buffer__free(watcher->ring);
	watcher->ring = NULL;
	if (attachment->events_map >= 0)
		watcher->ring =
			ring_buffer__new(attachment->events_map, handle_event, watcher, NULL);
	watcher->program = attachment->program;
}

// Writes event=overload if, since this function last ran, the BPF programs found no place for a
// report in the ring buffer, for a vCPU in the table of vCPUs, or for a call in the table of calls
// in progress.
static void report_overload(struct watcher *watcher)
{
	static const struct {
		const char *key;
		enum host_count count;
	} places[] = {{"lost_reports", HOST_COUNT_LOST_REPORTS},
		      {"untracked", HOST_COUNT_UNTRACKED},
		      {"unmarked", HOST_COUNT_UNMARKED}};
	enum { PLACES = sizeof(places) / sizeof(places[0]) };
	uint64_t counts[HOST_COUNTS] = {0}, more[PLACES], sum = 0;
	struct attachment attachment;
	struct report_line line;
	char text[24];

	loader_find(&attachment);
	loader_counts(&attachment, counts);
	loader_close(&attachment);
	for (size_t i = 0; i < PLACES; i++) {
		uint64_t count = counts[places[i].count], before = watcher->counts[places[i].count];

		// After `xsaveshim host disable`, the counts begin again at 0.
		more[i] = count < before ? count : count - before;
		sum += more[i];
	}
	memcpy(watcher->counts, counts, sizeof(counts));
	if (!sum)
		return;
	report_begin(&line, &watcher->log, LOG_LEVEL_ERROR, "overload");
	for (size_t i = 0; i < PLACES; i++) {
		snprintf(text, sizeof(text), "%" PRIu64, more[i]);
		report_text(&line, places[i].key, text);
	}
	report_send(&line);
}

static time_t now(void)
{
	return now_ns(CLOCK_MONOTONIC) / 1000000000;
}

static struct conditions look(void)
{
	static const char *const modules[] = {
		"/sys/module/kvm", "/sys/module/kvm_intel", "/sys/module/kvm_amd"};
	struct conditions conditions;
	struct attachment attachment;
	struct stat status;

	// Clears the whole structure with memset(), because has_to_check() compares the padding,
	// too.
	memset(&conditions, 0, sizeof(conditions));
	loader_find(&attachment);
	conditions.program = attachment.program;
	loader_close(&attachment);
	conditions.links = loader_links();
	conditions.tracing = missing_tracing();
	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		conditions.modules[i] = stat(modules[i], &status) ? 0 : status.st_ino;
	return conditions;
}

static void check(struct watcher *watcher)
{
	struct host_check check;
	struct attachment attachment;
	// Waits at most LOCK_SECONDS for a running `xsaveshim host enable` or `disable` to end.
	bool locked = !loader_lock(LOCK_SECONDS);

	if (locked)
		loader_clean_up();
	if (watcher->ring)
		ring_buffer__consume(watcher->ring);
	watcher->conditions = look();
	loader_find(&attachment);
	follow(watcher, &attachment);
	check = loader_check(&attachment);
	loader_close(&attachment);
	if (locked)
		loader_unlock();
	if (check.selftest.supported)
		watcher->host.xfeatures = check.selftest.supported;
	watcher->checked = now();
	report_state(watcher, &check);
}

static bool has_to_check(const struct watcher *watcher)
{
	bool is_inactive = watcher->program && watcher->state != HOST_ACTIVE;
	time_t interval = is_inactive ? INACTIVE_CHECK_SECONDS : CHECK_SECONDS;
	struct conditions conditions = look();

	return memcmp(&conditions, &watcher->conditions, sizeof(conditions)) ||
	       now() >= watcher->checked + interval;
}

static volatile sig_atomic_t is_hung_up;

static void on_hangup(int number)
{
	(void)number;
	is_hung_up = true;
}

static void read_reports(const struct watcher *watcher)
{
	time_t end = now() + LOOK_SECONDS;

	while (now() < end && !is_hung_up) {
		if (!watcher->ring || ring_buffer__poll(watcher->ring, 1000) < 0)
			sleep(1);
	}
}

// Tells systemd's watchdog that this process does not hang.
static void notify_watchdog(void)
{
	static const char message[] = "WATCHDOG=1";
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = path ? strlen(path) : 0;
	int fd;

	if (!length || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, length);
	// A path that begins with @ means the address of an abstract socket.
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sendto(fd, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT,
	       (struct sockaddr *)&address,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}

// A BPF ring buffer gives each report to one reader only, so a second watcher would take reports
// from the first watcher.
static bool is_only_watcher(void)
{
	int fd = open(WATCH_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
}

int watch(void)
{
	static struct watcher watcher;

	if (!is_only_watcher()) {
		warnx("another `xsaveshim host watch` is running");
		return 1;
	}
	log_init_fd(&watcher.log, STDOUT_FILENO, LOG_LEVEL_DEBUG);
	watcher.log.via = "host";
	if (journal_has_stdout())
		watcher.log.send = journal_send;
	watcher.host = (struct host_caps){
		xstate_host_xcr0(), xstate_host_xcr0(), xstate_host_mxcsr_reserved()};
	sigaction(SIGHUP, &(struct sigaction){.sa_handler = on_hangup}, NULL);
	for (;;) {
		is_hung_up = false;
		check(&watcher);
		do {
			notify_watchdog();
			report_overload(&watcher);
			read_reports(&watcher);
		} while (!is_hung_up && !has_to_check(&watcher));
	}
}
