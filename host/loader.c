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

#include "requirements.h"
#include "programs.skel.h"
#include "xsaveshim/xstate.h"

#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

#define ENTRY_PROGRAM "xsaveshim_entry"

#define COUNTS_SIZE (HOST_COUNTS * sizeof(uint64_t))

// Of a kernel that preempts, an exit may be missed now and then: one that is seen is proof enough.
#define TRIES 20
#define GONE_TRIES 100
#define DETACHED_TRIES 600
#define PAUSE_NS 50000000

static const char *const pin_names[] = {"entry", "exit", "gone"};

#define PIN_COUNT (sizeof(pin_names) / sizeof(pin_names[0]))

static int lock_fd = -1;

// libbpf's first complaint, for what nothing else explains.
static char complaint[200];

__attribute__((format(printf, 2, 0))) static int
keep_complaint(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN && !complaint[0]) {
		vsnprintf(complaint, sizeof(complaint), format, arguments);
		complaint[strcspn(complaint, "\n")] = '\0';
	}
	return 0;
}

static void pause_a_little(void)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

bool loader_lock(void)
{
	lock_fd = open(BPFFS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return lock_fd >= 0 && !flock(lock_fd, LOCK_EX);
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

// The entry first: what comes after it finds the exit still there.
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

void loader_unpin(void)
{
	remove_pins(PINS);
}

// ---- what is attached ----

static uint32_t pinned_program(void)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_obj_get(PINS "/entry");
	bool known = fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size);

	if (fd >= 0)
		close(fd);
	return known ? info.prog_id : 0;
}

// The id of an attached program of that name, the first after the given link; 0: there is none.
static uint32_t attached_program(const char *name)
{
	uint32_t link = 0, found = 0;

	while (!found && !bpf_link_get_next_id(link, &link)) {
		struct bpf_link_info link_info = {0};
		struct bpf_prog_info info = {0};
		uint32_t link_size = sizeof(link_info), size = sizeof(info);
		int link_fd = bpf_link_get_fd_by_id(link);
		int fd = -1;

		if (link_fd >= 0 && !bpf_obj_get_info_by_fd(link_fd, &link_info, &link_size))
			fd = bpf_prog_get_fd_by_id(link_info.prog_id);
		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size) &&
		    !strcmp(info.name, name))
			found = info.id;
		if (link_fd >= 0)
			close(link_fd);
		if (fd >= 0)
			close(fd);
	}
	return found;
}

// A map's memory; NULL: it cannot be mapped.
static void *map_memory(int fd, size_t size, int protection)
{
	void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void take_map(struct attachment *attachment, uint32_t id)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);
	struct host_settings *settings = NULL;

	if (fd < 0)
		return;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		info.name[0] = '\0';
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

static void take_maps(struct attachment *attachment)
{
	uint32_t ids[16];
	struct bpf_prog_info info = {.nr_map_ids = 16, .map_ids = (uintptr_t)ids};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(attachment->program);

	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size))
		for (uint32_t i = 0; i < info.nr_map_ids; i++)
			take_map(attachment, ids[i]);
	if (fd >= 0)
		close(fd);
}

bool loader_find(struct attachment *attachment)
{
	*attachment = (struct attachment){.events_map = -1};
	attachment->program = pinned_program();
	attachment->pinned = attachment->program;
	if (!attachment->program)
		attachment->program = attached_program(ENTRY_PROGRAM);
	if (attachment->program)
		take_maps(attachment);
	return attachment->program;
}

void loader_close(struct attachment *attachment)
{
	if (attachment->events_map >= 0)
		close(attachment->events_map);
	if (attachment->counts)
		munmap((void *)(uintptr_t)attachment->counts, COUNTS_SIZE);
}

bool loader_wait_gone(struct attachment *left)
{
	for (int i = 0; i < GONE_TRIES && loader_find(left); i++) {
		loader_close(left);
		pause_a_little();
	}
	return !left->program;
}

bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS])
{
	if (!attachment->counts)
		return false;
	// Exits before entries, so that no call seems to have an exit alone.
	for (uint32_t i = HOST_COUNTS; i-- > 0;)
		counts[i] = __atomic_load_n(&attachment->counts[i], __ATOMIC_ACQUIRE);
	return true;
}

// ---- the proof ----

__attribute__((format(printf, 3, 4))) static void
conclude(struct host_check *check, enum host_state state, const char *format, ...)
{
	va_list arguments;

	check->state = state;
	va_start(arguments, format);
	vsnprintf(check->reason, sizeof(check->reason), format, arguments);
	va_end(arguments);
}

static const char *lacked(const struct selftest *selftest)
{
	return xfeature_name((unsigned int)__builtin_ctzll(selftest->xfeature));
}

static const char *cause(void)
{
	const char *obstacle = obstacle_to_calling();

	return obstacle ? obstacle : "KVM has been loaded anew, say: enable it again";
}

static void check_without(struct host_check *check)
{
	if (check->selftest.cleared)
		conclude(
			check, HOST_UNKNOWN,
			"%s was cleared from what a VM loaded, but not by programs that this can see",
			lacked(&check->selftest));
	else
		conclude(check, HOST_INACTIVE, "it is not enabled");
}

static void check_once(struct host_check *check, const struct attachment *attachment)
{
	uint64_t before[HOST_COUNTS] = {0}, after[HOST_COUNTS] = {0};
	enum trim mode = attachment->settings.trim;
	const struct selftest *selftest = &check->selftest;
	bool counted = loader_counts(attachment, before);

	if (!selftest_run(&check->selftest)) {
		conclude(check, HOST_UNKNOWN, "KVM could not be asked: %s", selftest->problem);
	} else if (!attachment->program) {
		check_without(check);
	} else if (!counted || !loader_counts(attachment, after)) {
		conclude(check, HOST_UNKNOWN,
			 "the programs are another version's: enable it with this one");
	} else if (after[HOST_COUNT_PROBE_ENTRIES] - before[HOST_COUNT_PROBE_ENTRIES] <
		   SELFTEST_CALLS) {
		conclude(check, HOST_INACTIVE,
			 "the programs are attached, but the kernel does not call them: %s",
			 cause());
	} else if (after[HOST_COUNT_PROBE_EXITS] - before[HOST_COUNT_PROBE_EXITS] <
		   SELFTEST_CALLS) {
		conclude(check, HOST_INACTIVE,
			 "the kernel calls no program at the calls' exits: %s", cause());
	} else if (policy_trims(mode, XSAVE_RESTORE) && !selftest->cleared) {
		conclude(check, HOST_INACTIVE, "%s stayed in what a VM loaded whose guest has none",
			 lacked(selftest));
	} else if (policy_trims(mode, XSAVE_SAVE) && selftest->returned) {
		conclude(check, HOST_INACTIVE, "a VM saved what its guest does not have");
	} else if (policy_trims(mode, XSAVE_RESTORE)) {
		conclude(check, HOST_ACTIVE,
			 "%s was cleared from what a VM loaded whose guest has none",
			 lacked(selftest));
	} else {
		conclude(check, HOST_ACTIVE, "the programs saw what a VM loaded and saved");
	}
}

struct host_check loader_check(const struct attachment *attachment)
{
	struct host_check check = {0};

	for (int i = 0; i < TRIES; i++) {
		if (i)
			pause_a_little();
		check_once(&check, attachment);
		if (check.state == HOST_ACTIVE || !attachment->program)
			break;
	}
	return check;
}

// The kernel strikes a program off its list, and only then detaches it, which waits for every CPU.
struct host_check loader_wait_detached(const struct attachment *none)
{
	struct host_check check = loader_check(none);

	for (int i = 1; i < DETACHED_TRIES && check.selftest.cleared; i++) {
		pause_a_little();
		check = loader_check(none);
	}
	return check;
}

// ---- enabling ----

// KVM that is built in is described with the kernel; as a module, it needs a description of its
// own.
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

static bool refuse(const char *reason, int error)
{
	fprintf(stderr, "xsaveshim host: cannot be enabled: %s%s%s\n", reason, error ? ": " : "",
		error ? strerror(-error) : "");
	return false;
}

static bool prove_and_pin(struct programs *programs, struct host_settings settings)
{
	struct attachment attachment = {
		.program = 1,
		.events_map = -1,
		.counts = map_memory(bpf_map__fd(programs->maps.counts), COUNTS_SIZE, PROT_READ),
		.settings = settings,
	};
	struct host_check check = loader_check(&attachment);
	sigset_t all, before;
	int error;

	loader_close(&attachment);
	if (check.state != HOST_ACTIVE)
		return refuse(check.reason, 0);
	// A signal ends this before, when nothing is pinned, or afterwards.
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	error = pin_all(programs);
	if (error)
		remove_pins(NEW_PINS);
	else
		put_in_place();
	sigprocmask(SIG_SETMASK, &before, NULL);
	return error ? refuse(NEW_PINS, error) : true;
}

bool loader_enable(struct host_settings settings)
{
	struct programs *programs;
	bool enabled;
	int error;

	libbpf_set_print(keep_complaint);
	settings.exit = possible_exit();
	programs = programs__open();
	if (!programs)
		return refuse("libbpf", -errno);
	error = load_and_attach(programs, settings);
	enabled = error ? refuse(complaint[0] ? complaint : "the kernel does not take the programs",
				 error)
			: prove_and_pin(programs, settings);
	programs__destroy(programs);
	return enabled;
}
