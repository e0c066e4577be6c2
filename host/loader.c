// SPDX-License-Identifier: MIT
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "programs.skel.h"
#include "requirements.h"
#include "xsaveshim/xstate.h"

#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

#define ENTRY_PROGRAM "xsaveshim_entry"

#define COUNTS_SIZE (HOST_COUNTS * sizeof(uint64_t))

// A kernel that preempts itself can skip a program now and then: one success is proof.
#define CHECK_TRIES 20
#define GONE_TRIES 100
#define DETACHED_TRIES 600
#define PAUSE_NS 50000000

static const char *const pin_names[] = {"entry", "exit", "gone"};

#define PIN_COUNT (sizeof(pin_names) / sizeof(pin_names[0]))

static int lock_fd = -1;

// libbpf's first warning: the reason if libbpf fails.
static char warning[200];

__attribute__((format(printf, 2, 0))) static int
keep_warning(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN && !warning[0]) {
		vsnprintf(warning, sizeof(warning), format, arguments);
		warning[strcspn(warning, "\n")] = '\0';
	}
	return 0;
}

// error: an errno, negative as libbpf returns it.
static const char *failure(const char *what, int error)
{
	static char reason[320];

	snprintf(reason, sizeof(reason), "%s: %s", what, strerror(-error));
	return reason;
}

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

const char *loader_lock(void)
{
	lock_fd = open(BPFFS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return lock_fd < 0 || flock(lock_fd, LOCK_EX) ? failure(BPFFS, -errno) : NULL;
}

void loader_unlock(void)
{
	close(lock_fd);
}

// ---- pins ----

static const char *pin_path(const char *directory, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static bool is_complete(const char *directory)
{
	for (size_t i = 0; i < PIN_COUNT; i++)
		if (access(pin_path(directory, pin_names[i]), F_OK))
			return false;
	return true;
}

// The entry is removed first, so that no call has an entry and no exit.
static void remove_pins(const char *directory)
{
	for (size_t i = 0; i < PIN_COUNT; i++)
		unlink(pin_path(directory, pin_names[i]));
	rmdir(directory);
}

static void put_in_place(void)
{
	rename(PINS, OLD_PINS);
	rename(NEW_PINS, PINS);
	remove_pins(OLD_PINS);
}

void loader_clean_up(void)
{
	remove_pins(OLD_PINS);
	if (is_complete(NEW_PINS))
		put_in_place();
	remove_pins(NEW_PINS);
	if (!is_complete(PINS))
		remove_pins(PINS);
}

// ---- attached programs ----

// If the kernel cannot fill in an info, as for a descriptor of -1, the info stays zeroed.

static struct bpf_prog_info program_info(int fd)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	bpf_obj_get_info_by_fd(fd, &info, &size);
	return info;
}

// Closes the link.
static uint32_t program_of_link(int fd)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);

	bpf_obj_get_info_by_fd(fd, &info, &size);
	close(fd);
	return info.prog_id;
}

// Returns the id of the first attached program of this name, or 0.
static uint32_t attached_program(const char *wanted)
{
	uint32_t link = 0;

	while (!bpf_link_get_next_id(link, &link)) {
		uint32_t id = program_of_link(bpf_link_get_fd_by_id(link));
		int fd = bpf_prog_get_fd_by_id(id);
		struct bpf_prog_info info = program_info(fd);

		close(fd);
		if (!strcmp(info.name, wanted))
			return id;
	}
	return 0;
}

static void *map_memory(int fd, size_t size, int protection)
{
	void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void read_map(struct attachment *attachment, uint32_t id)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);
	struct host_settings *settings = NULL;

	bpf_obj_get_info_by_fd(fd, &info, &size);
	if (!strcmp(info.name, "events")) {
		attachment->events_map = fd;
		return;
	}
	if (!strcmp(info.name, "counts") && info.max_entries == HOST_COUNTS)
		attachment->counts = map_memory(fd, COUNTS_SIZE, PROT_READ);
	if (!strcmp(info.name, "settings") && info.value_size == sizeof(*settings))
		settings = map_memory(fd, sizeof(*settings), PROT_READ);
	if (settings) {
		attachment->settings = *settings;
		munmap(settings, sizeof(*settings));
	}
	close(fd);
}

static void read_maps(struct attachment *attachment)
{
	uint32_t ids[16];
	struct bpf_prog_info info = {.nr_map_ids = 16, .map_ids = (uintptr_t)ids};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(attachment->program);

	if (!bpf_obj_get_info_by_fd(fd, &info, &size))
		for (uint32_t i = 0; i < info.nr_map_ids; i++)
			read_map(attachment, ids[i]);
	close(fd);
}

bool loader_find(struct attachment *attachment)
{
	*attachment = (struct attachment){.events_map = -1};
	attachment->program = program_of_link(bpf_obj_get(PINS "/entry"));
	attachment->pinned = attachment->program;
	if (!attachment->program)
		attachment->program = attached_program(ENTRY_PROGRAM);
	if (attachment->program)
		read_maps(attachment);
	return attachment->program;
}

void loader_close(struct attachment *attachment)
{
	if (attachment->events_map >= 0)
		close(attachment->events_map);
	if (attachment->counts)
		munmap((void *)(uintptr_t)attachment->counts, COUNTS_SIZE);
}

bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS])
{
	if (!attachment->counts)
		return false;
	// Exits are read before entries, so that a running call has no exit without an entry.
	for (uint32_t i = HOST_COUNTS; i-- > 0;)
		counts[i] = __atomic_load_n(&attachment->counts[i], __ATOMIC_ACQUIRE);
	return true;
}

// ---- the check ----

__attribute__((format(printf, 3, 4))) static void
conclude(struct host_check *check, enum host_state state, const char *format, ...)
{
	va_list arguments;

	check->state = state;
	va_start(arguments, format);
	vsnprintf(check->reason, sizeof(check->reason), format, arguments);
	va_end(arguments);
}

static const char *tested_xfeature(const struct selftest *selftest)
{
	return xfeature_name((unsigned int)__builtin_ctzll(selftest->xfeature));
}

static const char *why_not_called(void)
{
	const char *requirement = missing_tracing();

	return requirement ? requirement : "KVM has been loaded again, perhaps: enable it again";
}

static void check_once(struct host_check *check, const struct attachment *attachment)
{
	uint64_t before[HOST_COUNTS] = {0}, after[HOST_COUNTS] = {0};
	enum trim trim = attachment->settings.trim;
	const struct selftest *selftest = &check->selftest;
	bool counted = loader_counts(attachment, before);

	if (!selftest_run(&check->selftest))
		conclude(check, HOST_UNKNOWN, "the probe of KVM failed: %s", selftest->problem);
	else if (!attachment->program && selftest->cleared)
		conclude(check, HOST_UNKNOWN,
			 "%s was cleared from a payload, but not by programs that are visible here",
			 tested_xfeature(selftest));
	else if (!attachment->program)
		conclude(check, HOST_INACTIVE, "it is not enabled");
	else if (!counted || !loader_counts(attachment, after))
		conclude(check, HOST_UNKNOWN,
			 "the programs are another version's: enable it with this one");
	else if (after[HOST_COUNT_PROBE_ENTRIES] - before[HOST_COUNT_PROBE_ENTRIES] <
		 SELFTEST_CALLS)
		conclude(check, HOST_INACTIVE,
			 "the programs are attached, but the kernel does not call them: %s",
			 why_not_called());
	else if (after[HOST_COUNT_PROBE_EXITS] - before[HOST_COUNT_PROBE_EXITS] < SELFTEST_CALLS)
		conclude(check, HOST_INACTIVE,
			 "the kernel calls no program at the calls' exits: %s", why_not_called());
	else if (policy_trims(trim, XSAVE_RESTORE) && !selftest->cleared)
		conclude(check, HOST_INACTIVE,
			 "%s stayed in a payload of a VM whose guest lacks it",
			 tested_xfeature(selftest));
	else if (policy_trims(trim, XSAVE_SAVE) && selftest->returned)
		conclude(check, HOST_INACTIVE, "a VM saved an xfeature that its guest lacks");
	else if (policy_trims(trim, XSAVE_RESTORE))
		conclude(check, HOST_ACTIVE,
			 "%s was cleared from a payload of a VM whose guest lacks it",
			 tested_xfeature(selftest));
	else
		conclude(check, HOST_ACTIVE, "the programs counted the calls of a VM");
}

struct host_check loader_check(const struct attachment *attachment)
{
	struct host_check check = {0};

	for (int i = 0; i < CHECK_TRIES; i++) {
		if (i)
			pause_briefly();
		check_once(&check, attachment);
		if (check.state == HOST_ACTIVE || !attachment->program)
			break;
	}
	return check;
}

// ---- disabling ----

static bool wait_until_gone(void)
{
	struct attachment left;

	for (int i = 0; i < GONE_TRIES && loader_find(&left); i++) {
		loader_close(&left);
		pause_briefly();
	}
	return !attached_program(ENTRY_PROGRAM);
}

// The kernel removes a link from its list before it detaches the program.
static struct host_check wait_until_detached(void)
{
	const struct attachment none = {.events_map = -1};
	struct host_check check = loader_check(&none);

	for (int i = 1; i < DETACHED_TRIES && check.selftest.cleared; i++) {
		pause_briefly();
		check = loader_check(&none);
	}
	return check;
}

const char *loader_disable(const struct attachment *attachment)
{
	static struct host_check check;

	if (!attachment->pinned)
		return "the programs are pinned in another bpffs instance, perhaps a container's: run this where they were enabled";
	remove_pins(PINS);
	if (!wait_until_gone())
		return "the programs are still attached: another process or bpffs instance holds them, too";
	check = wait_until_detached();
	return check.selftest.cleared ? check.reason : NULL;
}

// ---- enabling ----

// A program of type fexit needs BTF: the kernel's if KVM is built in, else the module's own.
static enum host_exit possible_exit(void)
{
	bool is_module = !access("/sys/module/kvm/initstate", F_OK);

	return is_module && access("/sys/kernel/btf/kvm", F_OK)
		       ? HOST_EXIT_KRETPROBE
		       : HOST_EXIT_FEXIT;
}

static int write_settings(int fd, struct host_settings settings)
{
	struct host_settings *memory = map_memory(fd, sizeof(settings), PROT_READ | PROT_WRITE);

	if (!memory)
		return -errno;
	*memory = settings;
	munmap(memory, sizeof(*memory));
	return 0;
}

static int load_and_attach(struct programs *programs, struct host_settings settings)
{
	bool kretprobe = settings.exit == HOST_EXIT_KRETPROBE;
	int error;

	programs->rodata->keeps_calls = kretprobe;
	bpf_program__set_autoload(programs->progs.xsaveshim_exit, !kretprobe);
	bpf_program__set_autoload(programs->progs.xsaveshim_ret, kretprobe);
	error = programs__load(programs);
	if (!error)
		error = write_settings(bpf_map__fd(programs->maps.settings), settings);
	return error ? error : programs__attach(programs);
}

static int pin_all(struct programs *programs)
{
	struct bpf_link *exit = programs->links.xsaveshim_exit ? programs->links.xsaveshim_exit
							       : programs->links.xsaveshim_ret;
	struct bpf_link *const links[PIN_COUNT] = {
		programs->links.xsaveshim_entry, exit, programs->links.xsaveshim_gone};
	int error = mkdir(NEW_PINS, S_IRWXU) ? -errno : 0;

	for (size_t i = 0; i < PIN_COUNT && !error; i++)
		error = bpf_link__pin(links[i], pin_path(NEW_PINS, pin_names[i]));
	return error;
}

static struct attachment attachment_of(const struct programs *programs,
				       struct host_settings settings)
{
	return (struct attachment){
		.program = program_info(bpf_program__fd(programs->progs.xsaveshim_entry)).id,
		.events_map = -1,
		.counts = map_memory(bpf_map__fd(programs->maps.counts), COUNTS_SIZE, PROT_READ),
		.settings = settings,
	};
}

static const char *check_and_pin(struct programs *programs, struct host_settings settings)
{
	static struct host_check check;
	struct attachment attachment = attachment_of(programs, settings);
	sigset_t all, before;
	int error;

	check = loader_check(&attachment);
	loader_close(&attachment);
	if (check.state != HOST_ACTIVE)
		return check.reason;
	// A signal ends this process before anything is pinned, or after the pins are in place.
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	error = pin_all(programs);
	if (error)
		remove_pins(NEW_PINS);
	else
		put_in_place();
	sigprocmask(SIG_SETMASK, &before, NULL);
	return error ? failure(NEW_PINS, error) : NULL;
}

const char *loader_enable(struct host_settings settings)
{
	struct programs *programs;
	const char *reason;
	int error;

	libbpf_set_print(keep_warning);
	settings.exit = possible_exit();
	programs = programs__open();
	if (!programs)
		return failure("libbpf", -errno);
	error = load_and_attach(programs, settings);
	reason = error ? failure(warning[0] ? warning : "the kernel refuses the programs", error)
		       : check_and_pin(programs, settings);
	programs__destroy(programs);
	return reason;
}
